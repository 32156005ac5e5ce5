//! The clients: many connections on one thread, and one client that measures the broker's stalls.

use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token};
use rustls::{ClientConnection, StreamOwned};

use crate::api::Api;
use crate::support::tls::{Authority, connect_tls};
use crate::support::{Broker, Connect, PATIENCE};

/// The password of all clients.
pub const PASSWORD: &str = "secret";

pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

const PINGREQ: [u8; 2] = [0xc0, 0];

/// The clients besides those whose number is a parameter.
pub const COMPANIONS: [&str; 2] = ["witness", "pinger"];

/// The username of the client with this number.
pub fn username(number: usize) -> String {
    format!("user-{number}")
}

/// The CONNECT packet of the client with this number.
pub fn login(number: usize) -> Vec<u8> {
    Connect::v3(format!("client-{number}")).login(username(number), PASSWORD).packet()
}

/// A SUBSCRIBE packet.
pub fn subscribe(filter: &str, qos: u8, packet_id: u8) -> Vec<u8> {
    let length = u8::try_from(filter.len()).unwrap();
    [&[0x82, length + 5, 0, packet_id, 0, length], filter.as_bytes(), &[qos]].concat()
}

/// The SUBACK that grants one filter.
pub fn suback(qos: u8, packet_id: u8) -> [u8; 5] {
    [0x90, 3, 0, packet_id, qos]
}

/// A PUBLISH packet, with a packet id for QoS 1.
pub fn publish(topic: &str, payload: &[u8], packet_id: Option<u16>) -> Vec<u8> {
    let id = packet_id.map(u16::to_be_bytes);
    let id = id.as_ref().map_or(&[][..], |id| id);
    let length = u8::try_from(2 + topic.len() + id.len() + payload.len()).unwrap();
    assert!(length < 128, "the length is one byte");
    let first_byte = 0x30 | u8::from(packet_id.is_some()) << 1;
    [&[first_byte, length, 0, topic.len() as u8], topic.as_bytes(), id, payload].concat()
}

/// A client with a blocking socket that has logged in.
pub fn client(port: u16, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&Connect::v3(name).login(name, PASSWORD).packet()).unwrap();
    expect(&mut stream, &CONNACK);
    stream
}

/// Reads, and asserts that these bytes come.
pub fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    stream.read_exact(&mut received).expect("an answer of the broker");
    assert_eq!(received, bytes);
}

/// Sends a PINGREQ, and returns the time until the answer.
fn ping(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    stream.write_all(&PINGREQ).unwrap();
    stream.read_exact(&mut [0; 2]).expect("an answer of the broker");
    begun.elapsed()
}

/// Connections that are opened at a time. Mosquitto has a backlog of 100: a further connection would exist only for the
/// client, for a second.
const ACCEPTED_IN_ONE_GO: usize = 50;

/// Connections that one thread serves.
pub struct Fleet {
    poll: Poll,
    events: Events,
    clients: Vec<Member>,
    /// The number of the first client: those of another fleet have other names.
    first: usize,
}

/// A connection that never blocks.
enum Stream {
    Plain(mio::net::TcpStream),
    Tls(Box<StreamOwned<ClientConnection, mio::net::TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

struct Member {
    stream: Stream,
    /// Packets that the client sends as soon as it has its CONNACK.
    then: Vec<u8>,
    received: Vec<u8>,
    closed: bool,
}

/// The result of an exchange with every client.
pub struct Exchange {
    pub begun: Instant,
    /// When the last client was answered.
    pub ended: Instant,
    /// How many clients got a wrong answer, or none.
    pub failed: usize,
}

impl Exchange {
    pub fn took(&self) -> Duration {
        self.ended - self.begun
    }

    /// Asserts that all answers were right, and returns the result.
    pub fn succeeded(self) -> Self {
        assert_eq!(self.failed, 0, "clients that were not answered as they should");
        self
    }
}

impl Fleet {
    /// Opens TCP connections to the broker, and makes sure that it has accepted all.
    pub fn connect(broker: &Broker, count: usize) -> Self {
        let port = broker.port();
        Self::open(broker, 0..count, |registry, token| {
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            let mut stream = mio::net::TcpStream::from_std(stream);
            registry.register(&mut stream, token, Interest::READABLE).unwrap();
            Stream::Plain(stream)
        })
    }

    /// The same for clients with these numbers, over TLS if there is an authority, on the port of the broker's second
    /// listener. Handshakes are done.
    pub fn connect_by(broker: &Broker, numbers: Range<usize>, authority: Option<&Authority>) -> Self {
        let Some(authority) = authority else {
            return Self { first: numbers.start, ..Self::connect(broker, numbers.len()) };
        };
        let (port, config) = (broker.ports()[1], authority.client_config());
        Self::open(broker, numbers, |registry, token| {
            let (tls, socket) = connect_tls(config.clone(), port).unwrap().into_parts();
            socket.set_nonblocking(true).unwrap();
            let mut socket = mio::net::TcpStream::from_std(socket);
            registry.register(&mut socket, token, Interest::READABLE).unwrap();
            Stream::Tls(Box::new(StreamOwned::new(tls, socket)))
        })
    }

    fn open(
        broker: &Broker,
        numbers: Range<usize>,
        mut open: impl FnMut(&Registry, Token) -> Stream,
    ) -> Self {
        let [witness, _] = COMPANIONS;
        let mut witness = client(broker.port(), witness);
        let poll = Poll::new().unwrap();
        let (first, count) = (numbers.start, numbers.len());
        let connect = |number| {
            let stream = open(poll.registry(), Token(number));
            if number % ACCEPTED_IN_ONE_GO == 0 || number + 1 == count {
                // The broker accepts all waiting connections in one turn of its loop. It may answer the first
                // PINGREQ earlier in that turn, but not the second.
                ping(&mut witness);
                ping(&mut witness);
            }
            Member { stream, then: Vec::new(), received: Vec::new(), closed: false }
        };
        let clients = (0..count).map(connect).collect();
        Self { poll, events: Events::with_capacity(1024), clients, first }
    }

    fn numbers(&self) -> Range<usize> {
        self.first..self.first + self.clients.len()
    }

    /// Logs in all clients that can, at most `at_once` at a time.
    pub fn log_in(&mut self, at_once: usize, limit: Duration) -> Exchange {
        let packets = self.numbers().map(login).collect();
        self.exchange(packets, at_once, &CONNACK, limit)
    }

    /// Logs in all clients at once. Each sends its own packets as soon as it has its CONNACK, and the answers to all of
    /// them are awaited.
    pub fn log_in_and_send(&mut self, packets: Vec<Vec<u8>>, wanted: &[u8], limit: Duration) -> Exchange {
        for (client, packets) in self.clients.iter_mut().zip(packets) {
            client.then = packets;
        }
        let logins: Vec<_> = self.numbers().map(login).collect();
        let at_once = logins.len();
        self.exchange(logins, at_once, wanted, limit)
    }

    /// Has each client send its packet, at most `at_once` at a time, and waits until each has got as many bytes as the
    /// right answer has, or is closed. Clients without a packet only wait.
    pub fn exchange(
        &mut self,
        packets: Vec<Vec<u8>>,
        at_once: usize,
        wanted: &[u8],
        limit: Duration,
    ) -> Exchange {
        for client in &mut self.clients {
            client.received.clear();
        }
        let begun = Instant::now();
        let mut ended = begun;
        let (mut sent, mut answered) = (0, 0);
        while answered < self.clients.len() && begun.elapsed() < limit {
            while sent < packets.len() && sent - answered < at_once {
                // So few bytes always fit. A closed connection is noticed when it is read.
                let _ = self.clients[sent].stream.write_all(&packets[sent]);
                sent += 1;
            }
            let left = limit.saturating_sub(begun.elapsed());
            answered += self.receive(left, wanted.len());
            ended = Instant::now();
        }
        let failed = self.clients.iter().filter(|client| client.received != wanted).count();
        Exchange { begun, ended, failed }
    }

    /// How many clients lose their connection within this time.
    pub fn lost_within(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.receive(end.saturating_duration_since(Instant::now()), usize::MAX);
        }
        self.clients.iter().filter(|client| client.closed).count()
    }

    /// Waits until something comes, and returns how many clients have now got `wanted` bytes, or were closed before.
    fn receive(&mut self, limit: Duration, wanted: usize) -> usize {
        match self.poll.poll(&mut self.events, Some(limit)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return 0,
            result => result.unwrap(),
        }
        let ready = self.events.iter().map(|event| event.token().0);
        ready.filter(|number| self.clients[*number].receive(wanted)).count()
    }
}

impl Member {
    /// Reads, and returns whether `wanted` bytes have now come, or the connection has ended before.
    fn receive(&mut self, wanted: usize) -> bool {
        let was_done = self.closed || self.received.len() >= wanted;
        let mut chunk = [0; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(length) => {
                    self.received.extend_from_slice(&chunk[..length]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.closed = true,
            }
            if !self.then.is_empty() && self.received.len() >= CONNACK.len() {
                let _ = self.stream.write_all(&mem::take(&mut self.then)); // so few bytes always fit
            }
            return !was_done && (self.closed || self.received.len() >= wanted);
        }
    }
}

/// The result when many clients come at once.
pub struct Rush {
    /// The time until the last client had its answers.
    pub took: Duration,
    /// The delays that another client noticed meanwhile.
    pub stalls: Stalls,
    /// How many questions the API was asked.
    pub questions: usize,
}

impl Rush {
    /// Opens the TCP connections of all clients, then has them `act`, and measures that.
    pub fn of(broker: &Broker, api: &Api, clients: usize, act: impl FnOnce(&mut Fleet) -> Exchange) -> Self {
        Self::of_fleet(broker, api, || Fleet::connect(broker, clients), act)
    }

    /// The same with connections that `connect` opens.
    pub fn of_fleet(
        broker: &Broker,
        api: &Api,
        connect: impl FnOnce() -> Fleet,
        act: impl FnOnce(&mut Fleet) -> Exchange,
    ) -> Self {
        let pinger = Pinger::start(broker);
        let mut fleet = connect();
        let asked_before = api.asked();
        let exchange = act(&mut fleet).succeeded();
        let stalls = pinger.finish(exchange.begun, exchange.ended);
        Self { took: exchange.took(), stalls, questions: api.asked() - asked_before }
    }
}

/// How often the client that measures stalls sends a PINGREQ, unless it still waits for an answer.
const PING_EVERY: Duration = Duration::from_micros(500);

/// A client that measures stalls: it is logged in and sends one PINGREQ after the other.
pub struct Pinger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Ping>>,
}

struct Ping {
    sent: Instant,
    took: Duration,
}

/// The round trips within a period.
pub struct Stalls {
    /// All round trips in ascending order, as a client would see them that sends PINGREQs without waiting for answers.
    /// During a stall of a second a client that waits sends one PINGREQ, and this one two thousand.
    delays: Vec<Duration>,
    /// The sum of the round trips that took more than 5 ms.
    total: Duration,
}

impl Pinger {
    pub fn start(broker: &Broker) -> Self {
        let [_, pinger] = COMPANIONS;
        let mut stream = client(broker.port(), pinger);
        stream.set_read_timeout(None).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut pings = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let sent = Instant::now();
                let took = ping(&mut stream);
                pings.push(Ping { sent, took });
                thread::sleep(PING_EVERY.saturating_sub(took));
            }
            pings
        });
        Self { stop, thread }
    }

    /// The delays that it noticed between two moments.
    pub fn finish(self, from: Instant, to: Instant) -> Stalls {
        self.stop.store(true, Ordering::Relaxed);
        let mut pings = self.thread.join().unwrap();
        pings.retain(|ping| ping.sent <= to && ping.sent + ping.took >= from);
        let mut delays = Vec::new();
        for ping in &pings {
            let mut delay = ping.took;
            loop {
                delays.push(delay);
                match delay.checked_sub(PING_EVERY) {
                    Some(shorter) if !shorter.is_zero() => delay = shorter,
                    _ => break,
                }
            }
        }
        delays.sort();
        let total = pings.iter().map(|ping| ping.took).filter(|took| *took > Duration::from_millis(5)).sum();
        Stalls { delays, total }
    }
}

impl Stalls {
    pub fn longest_ms(&self) -> f64 {
        ms(self.delays.last().copied().unwrap_or_default())
    }

    pub fn p99_ms(&self) -> f64 {
        let index = self.delays.len() * 99 / 100;
        ms(self.delays.get(index).copied().unwrap_or_default())
    }

    pub fn total_ms(&self) -> f64 {
        ms(self.total)
    }
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
