//! An HTTP API to try the plugin with: it answers by rules, misbehaves on demand and remembers what it was asked.
//!
//! It talks plain HTTP/1.1 over blocking sockets, a thread per connection: an HTTP library would keep a test
//! from sending what no library sends. `examples/mock_api.rs` is the same server as a program.
#![allow(dead_code)] // every test file, and the example, uses its own part of this

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

/// What the server was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names and values as they were sent, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body, or null if it is no JSON.
    pub json: Value,
    /// Which connection it came on, counted from 0: equal numbers show keep-alive.
    pub connection: usize,
    pub at: Instant,
}

impl Request {
    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(n, value)| n.eq_ignore_ascii_case(name).then_some(value.as_str()))
    }

    /// A text field of the JSON body, or "".
    pub fn field(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    /// The access that a question for `/acl` is about.
    pub fn acc(&self) -> u64 {
        self.json["acc"].as_u64().unwrap_or_default()
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A well-formed answer; without a status, the rules decide between 200 and 403.
    Http { status: Option<u16>, headers: Vec<(String, String)>, body: Vec<u8> },
    /// The same, later.
    After(Duration, Box<Reply>),
    /// Says nothing until the other side goes away.
    Hang,
    /// Ends the connection with a TCP reset.
    Reset,
    /// Ends the connection without an answer.
    Close,
    /// Sends these bytes and ends the connection.
    Raw(Vec<u8>),
    /// Sends these bytes one at a time and ends the connection.
    ByteByByte { bytes: Vec<u8>, every: Duration },
    /// Sends `start`, then `again` and `again` until the other side goes away.
    Endless { start: Vec<u8>, again: Vec<u8>, every: Duration },
}

impl Reply {
    /// What the rules say: 200 or 403.
    pub fn rules() -> Self {
        Self::Http { status: None, headers: Vec::new(), body: Vec::new() }
    }

    pub fn status(status: u16) -> Self {
        Self::Http { status: Some(status), headers: Vec::new(), body: Vec::new() }
    }

    pub fn redirect(to: &str) -> Self {
        Self::status(302).header("Location", to)
    }

    pub fn garbage() -> Self {
        Self::Raw(b"\x00\xff\x13SSH-2.0-this is no HTTP\r\n\r\n".to_vec())
    }

    pub fn huge_headers() -> Self {
        Self::status(200).header("X-Filler", &"x".repeat(1 << 20))
    }

    pub fn huge_body() -> Self {
        Self::status(200).body(&vec![b'x'; 4 << 20])
    }

    pub fn byte_a_second() -> Self {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
        Self::ByteByByte { bytes, every: Duration::from_secs(1) }
    }

    /// Slow enough that no limit on the size of headers ends it.
    pub fn endless_headers() -> Self {
        let start = b"HTTP/1.1 200 OK\r\n".to_vec();
        Self::Endless { start, again: b"X-Filler: x\r\n".to_vec(), every: Duration::from_millis(200) }
    }

    /// A 200 whose body never ends, as fast as the other side reads it.
    pub fn endless_body() -> Self {
        let start = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        Self::Endless { start, again: vec![b'x'; 64 << 10], every: Duration::ZERO }
    }

    /// Adds a header to a well-formed answer.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Http { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Sets the body of a well-formed answer.
    pub fn body(mut self, content: &[u8]) -> Self {
        if let Self::Http { body, .. } = &mut self {
            *body = content.to_vec();
        }
        self
    }

    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }
}

/// The names of replies on a command line: a status, or what goes wrong.
impl FromStr for Reply {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "rules" => Self::rules(),
            "hang" => Self::Hang,
            "reset" => Self::Reset,
            "close" => Self::Close,
            "garbage" => Self::garbage(),
            "huge-headers" => Self::huge_headers(),
            "huge-body" => Self::huge_body(),
            "byte-a-second" => Self::byte_a_second(),
            "endless-headers" => Self::endless_headers(),
            "endless-body" => Self::endless_body(),
            status => match status.parse() {
                Ok(status @ 200..=599) => Self::status(status),
                _ => {
                    return Err(format!(
                        "unknown behaviour {name:?}, expected a status from 200 to 599 or one of rules, hang, reset, close, garbage, \
                         huge-headers, huge-body, byte-a-second, endless-headers, endless-body"
                    ));
                }
            },
        })
    }
}

/// Who may log in, and who may do what with which topics.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    users: HashMap<String, User>,
}

#[derive(Debug, Clone)]
struct User {
    password: String,
    allowed: Vec<TopicRule>,
}

#[derive(Debug, Clone)]
struct TopicRule {
    /// The sum of the `acc` values that it allows.
    access: u64,
    filter: String,
}

/// A line of a rules file that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct RulesError {
    pub line: usize,
    pub problem: String,
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl FromStr for Rules {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        let mut rules = Self::default();
        let mut current = None;
        for (number, line) in text.lines().enumerate() {
            rules
                .read_line(line.trim(), &mut current)
                .map_err(|problem| RulesError { line: number + 1, problem })?;
        }
        Ok(rules)
    }
}

impl Rules {
    fn read_line(&mut self, line: &str, current: &mut Option<String>) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (keyword, rest) = split_word(line);
        let (first, second) = split_word(rest);
        match keyword {
            "user" if first.is_empty() || second.is_empty() => {
                Err("expected `user NAME PASSWORD`".to_owned())
            }
            "user" if self.users.contains_key(first) => Err(format!("user {first:?} is there already")),
            "user" => {
                self.users
                    .insert(first.to_owned(), User { password: second.to_owned(), allowed: Vec::new() });
                *current = Some(first.to_owned());
                Ok(())
            }
            "allow" if second.is_empty() => {
                Err("expected `allow read|write|readwrite|subscribe|all FILTER`".to_owned())
            }
            "allow" => {
                let access = match first {
                    "read" => 1,
                    "write" => 2,
                    "readwrite" => 3,
                    "subscribe" => 4,
                    "all" => 7,
                    _ => {
                        return Err(format!(
                            "unknown access {first:?}, expected read, write, readwrite, subscribe or all"
                        ));
                    }
                };
                let user = current.as_ref().and_then(|name| self.users.get_mut(name));
                let user = user.ok_or("an `allow` line belongs below a `user` line")?;
                user.allowed.push(TopicRule { access, filter: second.to_owned() });
                Ok(())
            }
            _ => Err(format!("unknown keyword {keyword:?}, expected `user` or `allow`")),
        }
    }

    /// The status of the answer to a request.
    pub fn status(&self, request: &Request) -> u16 {
        let allowed = match request.path.as_str() {
            "/auth" | "/acl" if request.method != "POST" => return 405,
            "/auth" | "/acl" if !request.json.is_object() => return 400,
            "/auth" => self.may_connect(request.field("username"), request.field("password")),
            "/acl" => self.may_touch(
                request.field("username"),
                request.field("clientid"),
                request.field("topic"),
                request.acc(),
            ),
            _ => return 404,
        };
        if allowed { 200 } else { 403 }
    }

    fn may_connect(&self, username: &str, password: &str) -> bool {
        self.users.get(username).is_some_and(|user| user.password == password)
    }

    fn may_touch(&self, username: &str, clientid: &str, topic: &str, acc: u64) -> bool {
        let topic = without_share(topic);
        self.users.get(username).is_some_and(|user| {
            let mut rules = user.allowed.iter().filter(|rule| acc != 0 && rule.access & acc == acc);
            rules.any(|rule| covers(&rule.filter, topic, username, clientid))
        })
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// The filter within `$share/group/filter`.
fn without_share(topic: &str) -> &str {
    let shared = topic.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(topic, |(_group, filter)| filter)
}

/// Whether a rule's filter covers all that a topic, or the filter of a subscription, stands for.
///
/// Names are put in level by level, and after wildcards were recognised: a client called `#` gains nothing.
fn covers(rule: &str, topic: &str, username: &str, clientid: &str) -> bool {
    if topic.starts_with('$') != rule.starts_with('$') {
        return false;
    }
    let mut levels = topic.split('/');
    for pattern in rule.split('/') {
        match (pattern, levels.next()) {
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (_, Some(level)) if level == pattern.replace("%u", username).replace("%c", clientid) => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server. It stops, with all its threads, when it is dropped.
pub struct MockApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Mutex<Option<Server>>,
}

struct Server {
    listener: TcpListener,
    acceptor: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    connection_ended: Condvar,
    /// Apart from `arrived`, or every request would wake every delayed answer.
    stopped: Condvar,
}

struct State {
    rules: Arc<Rules>,
    answer: Arc<Answer>,
    recording: bool,
    requests: Vec<Request>,
    connections: usize,
    open: HashMap<usize, TcpStream>,
    in_progress: usize,
    most_in_progress: usize,
    stopping: bool,
}

impl MockApi {
    pub fn listen(address: impl ToSocketAddrs, rules: Rules) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let api = Self {
            address: listener.local_addr()?,
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    rules: Arc::new(rules),
                    answer: Arc::new(|_| Reply::rules()),
                    recording: true,
                    requests: Vec::new(),
                    connections: 0,
                    open: HashMap::new(),
                    in_progress: 0,
                    most_in_progress: 0,
                    stopping: false,
                }),
                arrived: Condvar::new(),
                connection_ended: Condvar::new(),
                stopped: Condvar::new(),
            }),
            server: Mutex::new(None),
        };
        api.serve(listener)?;
        Ok(api)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn auth_url(&self) -> String {
        format!("http://{}/auth", self.address)
    }

    pub fn acl_url(&self) -> String {
        format!("http://{}/acl", self.address)
    }

    /// Gives every request that comes from now on this reply.
    pub fn answer(&self, reply: Reply) {
        self.answer_with(move |_| reply.clone());
    }

    /// Lets a closure choose the reply for every request that comes from now on.
    pub fn answer_with(&self, choose: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.shared.lock().answer = Arc::new(choose);
    }

    pub fn set_rules(&self, rules: Rules) {
        self.shared.lock().rules = Arc::new(rules);
    }

    /// What was asked until now, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// The questions for `/auth` among [`requests`](Self::requests).
    pub fn logins(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path == "/auth").collect()
    }

    /// The questions for `/acl` among [`requests`](Self::requests).
    pub fn topic_checks(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path == "/acl").collect()
    }

    /// Waits until there were `n` requests, or until the time is up, and gives what was asked until then.
    pub fn wait_for_requests(&self, n: usize, timeout: Duration) -> Vec<Request> {
        let state = self.shared.lock();
        let waited = self.shared.arrived.wait_timeout_while(state, timeout, |state| state.requests.len() < n);
        waited.unwrap_or_else(PoisonError::into_inner).0.requests.clone()
    }

    pub fn forget_requests(&self) {
        self.shared.lock().requests.clear();
    }

    /// A long run that remembered every request would fill the memory.
    pub fn stop_recording(&self) {
        self.shared.lock().recording = false;
    }

    /// How many connections were accepted until now.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// How many requests were being answered at the same time, at most.
    pub fn most_concurrent(&self) -> usize {
        self.shared.lock().most_in_progress
    }

    /// Closes the listening socket and every connection: the port refuses until [`restart`](Self::restart).
    pub fn stop(&self) {
        let Some(server) = self.server().take() else { return };
        let mut state = self.shared.lock();
        state.stopping = true;
        for stream in state.open.values() {
            let _ = stream.shutdown(Shutdown::Both); // fails where the other side was first
        }
        drop(state);
        self.shared.stopped.notify_all();
        let _ = SockRef::from(&server.listener).shutdown(Shutdown::Both); // wakes `accept`
        let _ = server.acceptor.join();
        drop(server.listener);
        let state = self.shared.lock();
        let ended = self.shared.connection_ended.wait_while(state, |state| !state.open.is_empty());
        drop(ended);
    }

    /// Listens again on the same port.
    pub fn restart(&self) -> io::Result<()> {
        self.stop();
        self.serve(TcpListener::bind(self.address)?)
    }

    fn serve(&self, listener: TcpListener) -> io::Result<()> {
        self.shared.lock().stopping = false;
        let accepting = listener.try_clone()?;
        let shared = Arc::clone(&self.shared);
        let acceptor =
            thread::Builder::new().name("mock-api".into()).spawn(move || shared.accept_all(&accepting))?;
        *self.server() = Some(Server { listener, acceptor });
        Ok(())
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MockApi {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept_all(self: Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept().and_then(|(stream, _)| Ok((stream.try_clone()?, stream)));
            let mut state = self.lock();
            if state.stopping {
                return;
            }
            let Ok((handle, stream)) = accepted else {
                drop(state);
                self.pause(Duration::from_millis(10)); // out of file descriptors: some will be closed
                continue;
            };
            let number = state.connections;
            state.connections += 1;
            state.open.insert(number, handle);
            drop(state);
            let connection = Connection { shared: Arc::clone(&self), stream, number, received: Vec::new() };
            // If there is no thread for it, the connection drops, and with it its entry.
            let _ = thread::Builder::new()
                .name("mock-api".into())
                .stack_size(256 << 10)
                .spawn(|| connection.serve());
        }
    }

    /// Waits, and says whether the server still runs.
    fn pause(&self, duration: Duration) -> bool {
        let waited = self.stopped.wait_timeout_while(self.lock(), duration, |state| !state.stopping);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }
}

struct Connection {
    shared: Arc<Shared>,
    stream: TcpStream,
    number: usize,
    received: Vec<u8>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.number);
        self.shared.connection_ended.notify_all();
    }
}

/// A request that has no answer yet.
struct InProgress<'a>(&'a Shared);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.lock().in_progress -= 1;
    }
}

/// Whether the connection can carry a further request.
#[derive(PartialEq)]
enum Next {
    KeepAlive,
    End,
}

impl Connection {
    fn serve(mut self) {
        let _ = self.stream.set_nodelay(true);
        while let Ok(Some(request)) = self.read_request() {
            let shared = Arc::clone(&self.shared);
            let mut state = shared.lock();
            state.in_progress += 1;
            state.most_in_progress = state.most_in_progress.max(state.in_progress);
            if state.recording {
                state.requests.push(request.clone());
            }
            let (answer, rules) = (Arc::clone(&state.answer), Arc::clone(&state.rules));
            drop(state);
            shared.arrived.notify_all();

            let in_progress = InProgress(&shared);
            let next = self.send(answer(&request), in_progress, || rules.status(&request));
            let asked_to_end =
                request.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if asked_to_end || !matches!(next, Ok(Next::KeepAlive)) {
                break;
            }
        }
    }

    /// The next request, or nothing when the other side has closed the connection.
    fn read_request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some((request, length)) = parse(&self.received, self.number)? {
                self.received.drain(..length);
                return Ok(Some(request));
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn send(
        &mut self,
        reply: Reply,
        in_progress: InProgress<'_>,
        status_by_rules: impl Fn() -> u16,
    ) -> io::Result<Next> {
        match reply {
            Reply::Http { status, headers, body } => {
                let status = status.unwrap_or_else(status_by_rules);
                drop(in_progress); // who has the answer may ask again at once
                self.stream.write_all(&http(status, &headers, &body))?;
                let ends = headers.iter().any(|(name, value)| {
                    name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close")
                });
                return Ok(if ends { Next::End } else { Next::KeepAlive });
            }
            Reply::After(delay, reply) => {
                if self.shared.pause(delay) {
                    return self.send(*reply, in_progress, status_by_rules);
                }
            }
            Reply::Hang => {
                io::copy(&mut self.stream, &mut io::sink())?;
            }
            Reply::Reset => SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?,
            Reply::Close => {}
            Reply::Raw(bytes) => self.stream.write_all(&bytes)?,
            Reply::ByteByByte { bytes, every } => {
                for byte in bytes {
                    self.stream.write_all(&[byte])?;
                    if !self.shared.pause(every) {
                        break;
                    }
                }
            }
            Reply::Endless { start, again, every } => {
                self.stream.write_all(&start)?;
                while self.shared.pause(every) {
                    self.stream.write_all(&again)?;
                }
            }
        }
        Ok(Next::End)
    }
}

/// The request at the start of `received` and its length, once it is there as a whole.
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
