//! One connection to the server: reads requests and sends the reply that was ordered for each.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

use super::{Reply, Request, Shared};

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: TcpStream,
    pub(super) number: usize,
    pub(super) received: Vec<u8>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.number);
        self.shared.connection_ended.notify_all();
    }
}

/// Reads what has come, and once more if a signal ended the wait: a machine that was frozen and goes on ends every wait
/// that has a time-out.
pub fn read_some(from: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Counts a request as in progress for as long as this lives.
struct InProgress<'a>(&'a Shared);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.lock().in_progress -= 1;
    }
}

/// Counts a request as unanswered until its answer has been sent.
struct Unanswered<'a>(&'a Shared);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.lock().unanswered -= 1;
        self.0.answered.notify_all();
    }
}

/// Whether the connection can carry a further request.
#[derive(PartialEq)]
enum Next {
    KeepAlive,
    End,
}

impl Connection {
    pub(super) fn serve(mut self) {
        let _ = self.stream.set_nodelay(true);
        while let Ok(Some(request)) = self.read_request() {
            let shared = Arc::clone(&self.shared);
            let mut state = shared.lock();
            state.in_progress += 1;
            state.unanswered += 1;
            state.most_in_progress = state.most_in_progress.max(state.in_progress);
            if state.recording {
                state.requests.push(request.clone());
            }
            let (answer, rules) = (Arc::clone(&state.answer), Arc::clone(&state.rules));
            drop(state);
            shared.arrived.notify_all();

            let in_progress = InProgress(&shared);
            let unanswered = Unanswered(&shared);
            let next = self.send(answer(&request), in_progress, unanswered, || rules.reply(&request));
            let asked_to_end =
                request.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if asked_to_end || !matches!(next, Ok(Next::KeepAlive)) {
                break;
            }
        }
    }

    /// The next request, or `None` when the other side has closed the connection.
    fn read_request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some((request, length)) = parse(&self.received, self.number)? {
                self.received.drain(..length);
                return Ok(Some(request));
            }
            let mut chunk = [0; 16 << 10];
            match read_some(&mut self.stream, &mut chunk)? {
                0 => return Ok(None),
                n => self.received.extend_from_slice(&chunk[..n]),
            }
        }
    }

    fn send(
        &mut self,
        reply: Reply,
        in_progress: InProgress<'_>,
        unanswered: Unanswered<'_>,
        by_rules: impl Fn() -> (u16, Vec<u8>),
    ) -> io::Result<Next> {
        match reply {
            Reply::Http { status, headers, body } => {
                let (status, body) = status.map_or_else(by_rules, |status| (status, body));
                drop(in_progress); // before the answer goes out: the other side may ask again at once
                self.stream.write_all(&http(status, &headers, &body))?;
                let ends = headers.iter().any(|(name, value)| {
                    name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close")
                });
                return Ok(if ends { Next::End } else { Next::KeepAlive });
            }
            Reply::After(delay, reply) => {
                if self.shared.pause(delay) {
                    return self.send(*reply, in_progress, unanswered, by_rules);
                }
            }
            Reply::Hang => {
                drop(unanswered);
                io::copy(&mut self.stream, &mut io::sink())?;
            }
            Reply::Reset => SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?,
            Reply::Close => {}
            Reply::Raw(bytes) => self.stream.write_all(&bytes)?,
            Reply::ByteByByte { bytes, every } => {
                drop(unanswered);
                for byte in bytes {
                    self.stream.write_all(&[byte])?;
                    if !self.shared.pause(every) {
                        break;
                    }
                }
            }
            Reply::Endless { start, again, every } => {
                drop(unanswered);
                self.stream.write_all(&start)?;
                while self.shared.pause(every) {
                    self.stream.write_all(&again)?;
                }
            }
        }
        Ok(Next::End)
    }
}

/// The request at the start of `received` and its length, once all of it has come.
fn parse(received: &[u8], connection: usize) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Request::new(&mut headers);
    let head_length = match head.parse(received) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let header = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let body_length =
        match header("Content-Length").map(|header| std::str::from_utf8(header.value).ok()?.parse().ok()) {
            None => 0,
            Some(Some(length)) => length,
            Some(None) => return Err(io::ErrorKind::InvalidData.into()),
        };
    let Some(body) = received[head_length..].get(..body_length) else { return Ok(None) };
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        headers: (head.headers.iter())
            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
            .collect(),
        body: body.to_vec(),
        json: serde_json::from_slice(body).unwrap_or(Value::Null),
        connection,
        at: Instant::now(),
    };
    Ok(Some((request, head_length + body_length)))
}

fn http(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} {}\r\n", reason(status)).into_bytes();
    for (name, value) in headers {
        answer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if status != 204 && status != 304 {
        answer.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(body);
    answer
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "As Told",
    }
}
