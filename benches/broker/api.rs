//! An API that allows everything, also many topics at once, exactly after a given time, and takes next to nothing of the
//! machine.
//!
//! One thread reads and another one answers, whatever the number of connections. The mock API of the tests has a thread
//! for each connection, which together would take more of the machine than the broker.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::SockRef;

use crate::support::PATIENCE;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

const LISTENER: Token = Token(0);
const STOP: Token = Token(1);
const FIRST_CONNECTION: usize = 2;

/// The latency of an API that does not answer.
const NEVER: u64 = u64::MAX;

/// The running server. Dropping it stops it, and its port refuses connections then.
pub struct Api {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Waker,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    latency_us: AtomicU64,
    /// The answer to everything.
    answer: Vec<u8>,
    /// How many questions it works on at a time; 0: any number.
    workers: AtomicUsize,
    asked: AtomicUsize,
    /// Requests about topics, and the questions in them.
    topic_requests: AtomicUsize,
    topic_questions: AtomicUsize,
}

/// An answer that is due: when, over which connection, and to how many questions if it is one to many.
type Due = (Instant, Arc<TcpStream>, Option<usize>);

impl Api {
    pub fn start() -> Self {
        Self::answering(ANSWER.to_vec())
    }

    /// One whose answers say more, by this JSON.
    pub fn saying(body: &str) -> Self {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        Self::answering(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }

    fn answering(single: Vec<u8>) -> Self {
        let poll = Poll::new().unwrap();
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        // A longer backlog than that of `TcpListener::bind`: hundreds of connections may come at once, and none may
        // have to send a second SYN.
        SockRef::from(&listener).listen(1024).unwrap();
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
        let stop = Waker::new(poll.registry(), STOP).unwrap();
        let (address, shared) =
            (listener.local_addr().unwrap(), Arc::new(Shared { answer: single, ..Shared::default() }));
        let (later, due) = channel::<Due>();
        let reader = Reader { poll, listener, shared: Arc::clone(&shared), later, busy_until: Vec::new() };
        let answering = Arc::clone(&shared);
        let answerer = move || {
            for (at, connection, many) in due {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                answer(&connection, many, &answering.answer);
            }
        };
        let threads = vec![thread::spawn(move || reader.run()), thread::spawn(answerer)];
        Self { address, shared, stop, threads }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Sets the time after which questions are answered from now on.
    pub fn answer_after(&self, latency: Duration) {
        self.shared.latency_us.store(latency.as_micros().try_into().unwrap(), Ordering::Relaxed);
    }

    /// Has it work on so many questions at a time from now on, each for the time after which it answers. The others
    /// queue.
    pub fn work_on(&self, at_a_time: usize) {
        self.shared.workers.store(at_a_time, Ordering::Relaxed);
    }

    /// Stops answering from now on.
    pub fn hang(&self) {
        self.shared.latency_us.store(NEVER, Ordering::Relaxed);
    }

    /// How many questions have come until now.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// How many questions about topics have come until now, and in how many requests.
    pub fn asked_about_topics(&self) -> (usize, usize) {
        let Shared { topic_questions, topic_requests, .. } = &*self.shared;
        (topic_questions.load(Ordering::Relaxed), topic_requests.load(Ordering::Relaxed))
    }

    /// A connection to this server.
    pub fn connect(&self) -> Direct {
        let stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Direct(stream)
    }

    /// The time that `questions` take over `connections` new connections, without a broker and a plugin.
    pub fn storm(&self, questions: usize, connections: usize) -> Duration {
        storm(self.address, questions, connections)
    }
}

/// The time that so many questions take over so many new connections to an API, without a broker and a plugin.
pub fn storm(address: SocketAddr, questions: usize, connections: usize) -> Duration {
    let mut poll = Poll::new().unwrap();
    let begun = Instant::now();
    let connect = |number| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let interests = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(number), interests).unwrap();
        (stream, false)
    };
    let mut connections: Vec<_> = (0..connections.min(questions)).map(connect).collect();
    let mut events = Events::with_capacity(1024);
    let (question, mut asked, mut answered) = (question(), 0, 0);
    while answered < questions {
        poll.poll(&mut events, Some(PATIENCE)).unwrap();
        for event in &events {
            let (stream, waits) = &mut connections[event.token().0];
            if *waits && matches!(stream.read(&mut [0; 2 * ANSWER.len()]), Ok(length) if length > 0) {
                *waits = false;
                answered += 1;
            }
            if !*waits && asked < questions {
                stream.write_all(&question).unwrap();
                *waits = true;
                asked += 1;
            }
        }
    }
    begun.elapsed()
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.wake().unwrap();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic has been printed already
        }
    }
}

/// The API's own cost, without a broker and a plugin.
pub struct Direct(std::net::TcpStream);

impl Direct {
    /// Asks a question as the plugin does, and waits for the answer.
    pub fn ask(&mut self) -> Duration {
        let question = question();
        let begun = Instant::now();
        self.0.write_all(&question).unwrap();
        self.0.read_exact(&mut [0; ANSWER.len()]).unwrap();
        begun.elapsed()
    }
}

fn question() -> Vec<u8> {
    let body = r#"{"username":"user-1","password":"password-1"}"#;
    let head = "POST /auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

struct Reader {
    poll: Poll,
    listener: TcpListener,
    shared: Arc<Shared>,
    /// Answers with the times at which they are due, in that order, since all take equally long.
    later: Sender<Due>,
    /// When each worker will have done what it was given.
    busy_until: Vec<Instant>,
}

#[derive(Default)]
struct Connections {
    open: HashMap<Token, Connection>,
    count: usize,
}

struct Connection {
    stream: Arc<TcpStream>,
    received: Vec<u8>,
}

impl Reader {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut connections = Connections::default();
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.unwrap(),
            }
            for event in &events {
                match event.token() {
                    STOP => return,
                    LISTENER => self.accept(&mut connections),
                    token => {
                        let ended = connections.open.get_mut(&token).is_some_and(|it| !self.read(it));
                        if ended {
                            connections.open.remove(&token);
                        }
                    }
                }
            }
        }
    }

    fn accept(&self, connections: &mut Connections) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let token = Token(FIRST_CONNECTION + connections.count);
            connections.count += 1;
            stream.set_nodelay(true).unwrap();
            self.poll.registry().register(&mut stream, token, Interest::READABLE).unwrap();
            connections.open.insert(token, Connection { stream: Arc::new(stream), received: Vec::new() });
        }
    }

    /// Reads the bytes that have come. `false` if the other side has gone.
    fn read(&mut self, connection: &mut Connection) -> bool {
        let mut chunk = [0; 16 << 10];
        loop {
            match (&*connection.stream).read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => connection.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
            while let Some(length) = request_length(&connection.received) {
                let many = self.count(&connection.received[..length]);
                connection.received.drain(..length);
                self.take(&connection.stream, many);
            }
        }
    }

    /// Counts what a request asks. Returns how many questions are in it if it may hold many.
    fn count(&self, request: &[u8]) -> Option<usize> {
        const EACH: &[u8] = b"\"acc\":";
        let many = request.starts_with(b"POST /acl-batch ");
        if !many && !request.starts_with(b"POST /acl ") {
            return None;
        }
        let questions = request.windows(EACH.len()).filter(|found| *found == EACH).count();
        self.shared.topic_requests.fetch_add(1, Ordering::Relaxed);
        self.shared.topic_questions.fetch_add(questions, Ordering::Relaxed);
        many.then_some(questions)
    }

    fn take(&mut self, stream: &Arc<TcpStream>, many: Option<usize>) {
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
        match self.shared.latency_us.load(Ordering::Relaxed) {
            NEVER => {}
            0 => answer(stream, many, &self.shared.answer),
            latency => {
                let due = self.begin() + Duration::from_micros(latency);
                if let Some(worker) = self.busy_until.iter_mut().min() {
                    *worker = due;
                }
                self.later.send((due, Arc::clone(stream), many)).unwrap();
            }
        }
    }
}

impl Reader {
    /// When work on a question that has just come begins: now, or when the first worker is free.
    fn begin(&mut self) -> Instant {
        let now = Instant::now();
        self.busy_until.resize(self.shared.workers.load(Ordering::Relaxed), now);
        self.busy_until.iter().min().map_or(now, |free| now.max(*free))
    }
}

/// The length of the request at the start of `received`, once all of it has come.
fn request_length(received: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_length) = head.parse(received).ok()? else { return None };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Content-Length"))?;
    let body_length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    (received.len() >= head_length + body_length).then_some(head_length + body_length)
}

fn answer(mut stream: &TcpStream, many: Option<usize>, single: &[u8]) {
    let results;
    let answer = match many {
        None => single,
        Some(questions) => {
            let body = format!("{{\"results\":[{}]}}", vec!["true"; questions].join(","));
            results = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            results.as_bytes()
        }
    };
    // This fails only if the other side has gone: so few bytes always fit.
    let _ = stream.write_all(answer);
}
