//! An HTTP API to try the plugin with. It answers by rules, misbehaves on demand, and records its requests.
//!
//! It speaks plain HTTP/1.1 over blocking sockets, with a thread for each connection: an HTTP library would keep tests
//! from sending invalid HTTP. `mock-api` is this server as a program.
#![allow(dead_code, reason = "every test file, and the example, uses its own part of this")]

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

pub mod connection;
mod reply;
mod rules;

use connection::Connection;
pub use reply::Reply;
pub use rules::Rules;

/// A request that the server has received.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// The headers' names and values as they were sent, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body, or null if it is not JSON.
    pub json: Value,
    /// The number of the connection, from 0: equal numbers show keep-alive.
    pub connection: usize,
    pub at: Instant,
}

impl Request {
    /// The value of the first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(n, value)| n.eq_ignore_ascii_case(name).then_some(value.as_str()))
    }

    /// A text field of the JSON body, or "" if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    /// The access that a request to `/acl` asks about.
    pub fn acc(&self) -> u64 {
        self.json["acc"].as_u64().unwrap_or_default()
    }

    /// The questions in a request with many, each as if it had come alone.
    pub fn checks(&self) -> Vec<Self> {
        let checks = self.json["checks"].as_array().into_iter().flatten();
        let alone = |check: &Value| Self {
            path: "/acl".to_owned(),
            body: check.to_string().into_bytes(),
            json: check.clone(),
            ..self.clone()
        };
        checks.map(alone).collect()
    }
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
    answered: Condvar,
    connection_ended: Condvar,
    /// Separate from `arrived`, since every request would wake every delayed answer.
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
    unanswered: usize,
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
                    unanswered: 0,
                    stopping: false,
                }),
                arrived: Condvar::new(),
                answered: Condvar::new(),
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

    /// Where many topics are asked about in one request.
    pub fn batch_url(&self) -> String {
        format!("http://{}/acl-batch", self.address)
    }

    /// Sets the reply to every request from now on.
    pub fn answer(&self, reply: Reply) {
        self.answer_with(move |_| reply.clone());
    }

    /// Has a closure choose the reply to every request from now on.
    pub fn answer_with(&self, choose: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.shared.lock().answer = Arc::new(choose);
    }

    pub fn set_rules(&self, rules: Rules) {
        self.shared.lock().rules = Arc::new(rules);
    }

    /// The requests until now, in the order of their arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// The [`requests`](Self::requests) to `/auth`.
    pub fn logins(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path == "/auth").collect()
    }

    /// The [`requests`](Self::requests) to `/acl`.
    pub fn topic_checks(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path == "/acl").collect()
    }

    /// The requests with many questions about topics.
    pub fn batches(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path == "/acl-batch").collect()
    }

    /// All questions about topics, alone or with others.
    pub fn questions(&self) -> Vec<Request> {
        let each = |request: Request| match request.path.as_str() {
            "/acl" => vec![request],
            "/acl-batch" => request.checks(),
            _ => Vec::new(),
        };
        self.requests().into_iter().flat_map(each).collect()
    }

    /// Has a closure say for each question from now on whether the answer is yes, and another one when, by request.
    pub fn answer_each(
        &self,
        allows: impl Fn(&Request) -> bool + Send + Sync + 'static,
        delay: impl Fn(&Request) -> Duration + Send + Sync + 'static,
    ) {
        self.answer_with(move |request| {
            let reply = match request.path.as_str() {
                "/acl-batch" => Reply::results(request.checks().iter().map(&allows)),
                _ => Reply::status(if allows(request) { 200 } else { 403 }),
            };
            reply.after(delay(request))
        });
    }

    /// Waits until `n` requests have come, or until the time is up, and returns the requests until then.
    pub fn wait_for_requests(&self, n: usize, timeout: Duration) -> Vec<Request> {
        let state = self.shared.lock();
        let waited = self.shared.arrived.wait_timeout_while(state, timeout, |state| state.requests.len() < n);
        waited.unwrap_or_else(PoisonError::into_inner).0.requests.clone()
    }

    /// Waits until every request until now has its answer, or until the time is up. A request whose reply is to stay
    /// silent does not count.
    pub fn wait_until_answered(&self, timeout: Duration) {
        let state = self.shared.lock();
        drop(self.shared.answered.wait_timeout_while(state, timeout, |state| state.unanswered > 0));
    }

    pub fn forget_requests(&self) {
        self.shared.lock().requests.clear();
    }

    /// Forgets the requests for which `is_forgotten` returns true.
    pub fn forget(&self, is_forgotten: impl Fn(&Request) -> bool) {
        self.shared.lock().requests.retain(|request| !is_forgotten(request));
    }

    /// Stops recording requests, since those of a long run would fill the memory.
    pub fn stop_recording(&self) {
        self.shared.lock().recording = false;
    }

    /// How many connections the server has accepted until now.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// The highest number of requests that waited for their answers at the same time.
    pub fn most_concurrent(&self) -> usize {
        self.shared.lock().most_in_progress
    }

    /// Runs `action`, and returns its result and the highest number of requests that waited at the same time meanwhile.
    pub fn most_concurrent_during<T>(&self, action: impl FnOnce() -> T) -> (T, usize) {
        {
            let mut state = self.shared.lock();
            state.most_in_progress = state.in_progress;
        }
        let result = action();
        (result, self.most_concurrent())
    }

    /// Closes the listening socket and every connection. The port refuses connections until [`restart`](Self::restart).
    pub fn stop(&self) {
        let Some(server) = self.server().take() else { return };
        let mut state = self.shared.lock();
        state.stopping = true;
        for stream in state.open.values() {
            let _ = stream.shutdown(Shutdown::Both); // fails if the other side was first
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
            // If no thread can be started, the connection is dropped, and its entry with it.
            let _ = thread::Builder::new()
                .name("mock-api".into())
                .stack_size(256 << 10)
                .spawn(|| connection.serve());
        }
    }

    /// Waits, and returns whether the server still runs.
    fn pause(&self, duration: Duration) -> bool {
        let waited = self.stopped.wait_timeout_while(self.lock(), duration, |state| !state.stopping);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }
}
