//! Servers that misbehave: they talk without listening, refuse long requests, or accept no connection.

use std::any::Any;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::dns::{Lookup, NameServer};
use super::scene::friendly_api;
use super::{MockApi, Reply, Setup, api, free_port, read_some};

/// A server with a thread for each connection. It accepts no further connection once it is dropped.
pub struct Server {
    pub address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        let (address, stopping) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&stopping);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, serve) = (stream.unwrap(), serve.clone());
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, stopping, acceptor: Some(acceptor) }
    }

    /// An API that answers 200, and serves one connection until it ends before it takes the next.
    pub fn one_at_a_time() -> Self {
        let at_work = Arc::new(Mutex::new(()));
        Self::start(move |stream| {
            let _at_work = at_work.lock();
            serve_what_is_short(stream, usize::MAX, None);
        })
    }

    /// A server that sends `start` on each connection, then `again` and `again`, and reads nothing meanwhile.
    pub fn talker(start: &[u8], again: &[u8]) -> Self {
        let (start, again) = (start.to_vec(), again.to_vec());
        Self::start(move |mut stream| {
            let mut told = stream.write_all(&start);
            while !again.is_empty() && told.is_ok() {
                thread::sleep(Duration::from_millis(50));
                told = stream.write_all(&again);
            }
            // The connection stays open until the other side ends it.
            let _ = io::copy(&mut stream, &mut io::sink());
        })
    }

    /// An API that answers 200, but refuses requests whose body is longer than `limit` as soon as it has read their
    /// head, and hangs up.
    pub fn picky_api(limit: usize) -> Self {
        Self::start(move |stream| serve_what_is_short(stream, limit, None))
    }

    /// An API that answers 200, and closes connections over which nothing more has come for this long.
    pub fn impatient_api(patience: Duration) -> Self {
        Self::start(move |stream| serve_what_is_short(stream, usize::MAX, Some(patience)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes `accept`
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// A Unix socket through which an API is reached. It is closed when this is dropped; the file stays.
pub struct UnixFront {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl UnixFront {
    /// Listens there, with room for so many connections that wait to be accepted.
    pub fn start(path: &Path, api: &MockApi, queue: i32) -> Self {
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
        listener.listen(queue).unwrap();
        let (stopping, address) = (Arc::new(AtomicBool::new(false)), api.address());
        let stop = Arc::clone(&stopping);
        let acceptor = thread::spawn(move || {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let stream = UnixStream::from(OwnedFd::from(stream));
                let Ok(api) = TcpStream::connect(address) else { continue };
                let (mut there, mut back) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
                let (mut to_api, mut from_api) = (api.try_clone().unwrap(), api);
                thread::spawn(move || {
                    let _ = io::copy(&mut there, &mut to_api);
                    let _ = to_api.shutdown(Shutdown::Write);
                });
                thread::spawn(move || {
                    let _ = io::copy(&mut from_api, &mut back);
                    let _ = back.shutdown(Shutdown::Both);
                });
                open.push(stream);
            }
            open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        });
        Self { path: path.to_owned(), stopping, acceptor: Some(acceptor) }
    }
}

impl Drop for UnixFront {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.path); // wakes `accept`
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve_what_is_short(mut stream: TcpStream, limit: usize, patience: Option<Duration>) {
    let mut received = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&received).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
            if length > limit {
                let answer = "HTTP/1.1 413 Too Long\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes());
                return; // with unread bytes, so that the connection is reset
            }
            if body.len() >= length {
                received.clear();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                stream.set_read_timeout(patience).unwrap();
            }
        }
        match read_some(&mut stream, &mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(length) => received.extend_from_slice(&chunk[..length]),
        }
    }
}

/// A listener that never accepts, with a full queue, so that the system drops further attempts to connect.
pub struct DeafListener {
    pub address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl DeafListener {
    pub fn open() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        listener.bind(&SockAddr::from(address)).unwrap();
        listener.listen(0).unwrap();
        let queued = (0..4).map(|_| {
            let knocking = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            knocking.set_nonblocking(true).unwrap();
            let _ = knocking.connect(&SockAddr::from(address)); // in progress, for ever
            knocking
        });
        let queued = queued.collect();
        let refused = TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err();
        assert!(refused, "the listener still takes connections");
        Self { address, _listener: listener, _queued: queued }
    }
}

/// A URL with a fault, which lasts as long as this value.
pub struct Fault {
    pub url: String,
    name_server: Option<NameServer>,
    _server: Box<dyn Any + Sync>,
}

impl Fault {
    pub fn at(url: impl Into<String>, server: impl Any + Sync) -> Option<Self> {
        Some(Self { url: url.into(), name_server: None, _server: Box::new(server) })
    }

    pub fn of_api(reply: Reply) -> Option<Self> {
        let api = api("");
        api.answer(reply);
        Self::at(api.auth_url(), api)
    }

    /// A server that sends `start` on each connection, then `again` and `again`.
    pub fn of_talker(scheme: &str, start: &[u8], again: &[u8]) -> Option<Self> {
        let talker = Server::talker(start, again);
        Self::at(format!("{scheme}://{}/", talker.address), talker)
    }

    /// A URL whose name is looked up at a name server that answers like this; `None` where no name server can be
    /// started. At the name's address, if it gets one, is an API that allows everything.
    pub fn of_name(lookup: Lookup) -> Option<Self> {
        let (name_server, api) = (NameServer::start(lookup)?, friendly_api());
        let url = format!("http://api.example:{}/auth", api.address().port());
        Some(Self { url, name_server: Some(name_server), _server: Box::new(api) })
    }

    /// Has a broker look names up at the name server of this fault, if it has one.
    pub fn serves(&self, setup: Setup) -> Setup {
        match &self.name_server {
            Some(server) => server.serves(setup),
            None => setup,
        }
    }
}
