//! A small MQTT client that lets a test send anything and see every answer.
//!
//! It acknowledges QoS 1 messages, and does nothing else by itself: no thread, no keep-alive, no reconnecting.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::{PATIENCE, read_some};

mod connect;
mod wire;

pub use connect::{Connect, Protocol, Refusal, Will, reason};
pub use wire::frame;
use wire::*;

/// The request that makes a connection a WebSocket, but for its last line end.
pub const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Reads the head of an HTTP answer.
pub fn read_head(stream: &mut impl Read) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("answer to the upgrade");
        head.extend(byte);
    }
    head
}

/// A message as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

/// A connection to a broker. Dropping it ends the connection without DISCONNECT, so that the will is sent.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    protocol: Protocol,
    received: Vec<u8>,
    inbox: VecDeque<Message>,
    next_packet_id: u16,
    closed: bool,
    /// The start of a WebSocket frame of which the rest has not come yet.
    frames: Option<Vec<u8>>,
}

impl Client {
    /// A bare connection, on which nothing has been sent.
    pub fn open(port: u16, protocol: Protocol) -> Self {
        Self::on(TcpStream::connect(("127.0.0.1", port)).expect("connection to the broker"), protocol)
    }

    /// A bare connection from another address of the loopback network.
    pub fn open_from(source: Ipv4Addr, port: u16, protocol: Protocol) -> Self {
        if source == Ipv4Addr::LOCALHOST {
            return Self::open(port, protocol);
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of the loopback network");
        let broker = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        socket.connect(&broker.into()).expect("connection to the broker");
        Self::on(socket.into(), protocol)
    }

    fn on(stream: TcpStream, protocol: Protocol) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            protocol,
            received: Vec::new(),
            inbox: VecDeque::new(),
            next_packet_id: 1,
            closed: false,
            frames: None,
        }
    }

    /// A bare WebSocket connection, opened with these further header lines.
    pub fn open_websocket(port: u16, protocol: Protocol, headers: &[u8]) -> Self {
        let mut client = Self::open(port, protocol);
        client.send(&[UPGRADE.as_bytes(), headers, b"\r\n"].concat());
        let head = read_head(&mut client.stream);
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        client.frames = Some(Vec::new());
        client
    }

    /// Sends any bytes. A closed connection is noticed only when an answer is awaited.
    pub fn send(&mut self, bytes: &[u8]) {
        let framed = self.frames.as_ref().map(|_| frame(bytes));
        let _ = self.stream.write_all(framed.as_deref().unwrap_or(bytes));
    }

    /// Sends several packets at once, each in a WebSocket frame of its own.
    pub fn send_in_frames(&mut self, packets: &[Vec<u8>]) {
        assert!(self.frames.is_some(), "a WebSocket");
        let frames: Vec<u8> = packets.iter().flat_map(|packet| frame(packet)).collect();
        let _ = self.stream.write_all(&frames);
    }

    /// The code of the CONNACK, or `None` if none comes in time or the connection ends.
    pub fn connack(&mut self, timeout: Duration) -> Option<u8> {
        self.await_packet(CONNACK, timeout).map(|packet| packet.body[1])
    }

    /// Whether the broker turns the client away for want of an answer: without a CONNACK, or with one that says so.
    pub fn is_turned_away(&mut self) -> bool {
        match self.connack(PATIENCE) {
            Some(code) => matches!(code, reason::SERVER_UNAVAILABLE | reason::SERVER_BUSY),
            None => self.is_closed(),
        }
    }

    /// Subscribes, and returns the reason codes of the SUBACK, one for each filter.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.try_subscribe(filters).expect("SUBACK")
    }

    /// Like [`Self::subscribe`], but returns `None` if the connection ends.
    pub fn try_subscribe(&mut self, filters: &[(&str, u8)]) -> Option<Vec<u8>> {
        let packet = self.subscribe_packet(filters);
        self.send(&packet);
        self.try_suback()
    }

    /// Subscribes to one filter with QoS 1, and returns whether the broker granted it.
    pub fn may_subscribe(&mut self, filter: &str) -> bool {
        self.subscribe(&[(filter, 1)])[0] < 0x80
    }

    pub fn subscribe_packet(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let mut body = self.packet_id().to_be_bytes().to_vec();
        put_no_properties(&mut body, self.protocol);
        for (filter, qos) in filters {
            put_bytes(&mut body, filter.as_bytes());
            body.push(*qos);
        }
        packet(SUBSCRIBE << 4 | 2, &body)
    }

    pub fn suback(&mut self) -> Vec<u8> {
        self.try_suback().expect("SUBACK")
    }

    fn try_suback(&mut self) -> Option<Vec<u8>> {
        let packet = self.await_packet(SUBACK, PATIENCE)?;
        Some(packet.body[2 + self.properties_length(&packet.body[2..])..].to_vec())
    }

    /// Unsubscribes, and waits for the UNSUBACK.
    pub fn unsubscribe(&mut self, filter: &str) {
        let mut body = self.packet_id().to_be_bytes().to_vec();
        put_no_properties(&mut body, self.protocol);
        put_bytes(&mut body, filter.as_bytes());
        self.send(&packet(UNSUBSCRIBE << 4 | 2, &body));
        self.await_packet(UNSUBACK, PATIENCE).expect("UNSUBACK");
    }

    /// Publishes with QoS 0.
    pub fn publish(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) {
        let packet = self.publish_packet(topic.as_ref(), payload.as_ref(), 0, false);
        self.send(&packet);
    }

    /// Publishes a retained message with QoS 0.
    pub fn publish_retained(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) {
        let packet = self.publish_packet(topic.as_ref(), payload.as_ref(), 0, true);
        self.send(&packet);
    }

    /// Publishes with QoS 1, and returns the reason code of the PUBACK, which is always 0 in MQTT 3.1.1.
    pub fn publish_acknowledged(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> u8 {
        self.try_publish(topic, payload).expect("PUBACK")
    }

    /// Like [`Self::publish_acknowledged`], but returns `None` if the connection ends.
    pub fn try_publish(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Option<u8> {
        let packet = self.publish_packet(topic.as_ref(), payload.as_ref(), 1, false);
        self.send(&packet);
        let acknowledgement = self.await_packet(PUBACK, PATIENCE)?;
        Some(acknowledgement.body.get(2).copied().unwrap_or(reason::SUCCESS))
    }

    pub fn publish_packet(&mut self, topic: &[u8], payload: &[u8], qos: u8, retain: bool) -> Vec<u8> {
        let mut body = Vec::new();
        put_bytes(&mut body, topic);
        if qos > 0 {
            body.extend(self.packet_id().to_be_bytes());
        }
        put_no_properties(&mut body, self.protocol);
        body.extend(payload);
        packet(PUBLISH << 4 | qos << 1 | u8::from(retain), &body)
    }

    /// The next message, or `None` if none comes in time.
    pub fn receive(&mut self, timeout: Duration) -> Option<Message> {
        let deadline = Instant::now() + timeout;
        while self.inbox.is_empty() {
            let packet = self.next_packet(deadline)?;
            self.handle(packet);
        }
        self.inbox.pop_front()
    }

    /// The time that the broker takes to answer a PINGREQ.
    pub fn ping(&mut self) -> Duration {
        self.try_ping(PATIENCE).expect("PINGRESP")
    }

    /// Like [`Self::ping`], but returns `None` if no answer comes in time or the connection ends.
    pub fn try_ping(&mut self, timeout: Duration) -> Option<Duration> {
        let start = Instant::now();
        self.send(&[PINGREQ << 4, 0]);
        self.await_packet(PINGRESP, timeout).map(|_| start.elapsed())
    }

    /// Runs `action` and pings meanwhile, and returns its result and the longest time that an answer took.
    pub fn longest_ping_during<T>(&mut self, action: impl FnOnce() -> T) -> (T, Duration) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let pinging = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !over.load(Ordering::Relaxed) {
                    longest = longest.max(self.ping());
                    thread::sleep(Duration::from_millis(1));
                }
                longest
            });
            let result = panic::catch_unwind(AssertUnwindSafe(action));
            over.store(true, Ordering::Relaxed);
            let longest = pinging.join().expect("pings are answered");
            (result.unwrap_or_else(|cause| panic::resume_unwind(cause)), longest)
        })
    }

    /// Sends DISCONNECT, so that the broker does not send the will.
    pub fn disconnect(mut self) {
        self.send(&[DISCONNECT << 4, 0]);
        self.wait_until_closed(PATIENCE);
    }

    /// Ends the connection with a TCP reset, so that this side keeps no trace of it.
    pub fn hang_up(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether the broker has closed the connection by now.
    pub fn is_closed(&mut self) -> bool {
        self.wait_until_closed(Duration::ZERO)
    }

    /// Waits until the broker closes the connection, and returns whether it did in time. Messages that come meanwhile
    /// are kept.
    pub fn wait_until_closed(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while let Some(packet) = self.next_packet(deadline) {
            self.handle(packet);
        }
        self.closed
    }

    /// The next packet of a kind. Messages that come before it are kept.
    fn await_packet(&mut self, kind: u8, timeout: Duration) -> Option<Packet> {
        let deadline = Instant::now() + timeout;
        loop {
            let packet = self.next_packet(deadline)?;
            if packet.kind() == kind {
                return Some(packet);
            }
            self.handle(packet);
        }
    }

    fn handle(&mut self, packet: Packet) {
        if packet.kind() == PUBLISH {
            let message = self.read_message(&packet);
            self.inbox.push_back(message);
        }
    }

    fn read_message(&mut self, packet: &Packet) -> Message {
        let (topic, mut rest) = take_bytes(&packet.body);
        let qos = packet.first_byte >> 1 & 3;
        if qos > 0 {
            let (packet_id, after) = rest.split_at(2);
            self.send(&[PUBACK << 4, 2, packet_id[0], packet_id[1]]);
            rest = after;
        }
        Message {
            topic: String::from_utf8_lossy(topic).into_owned(),
            payload: rest[self.properties_length(rest)..].to_vec(),
            qos,
            retain: packet.first_byte & 1 == 1,
        }
    }

    /// The next packet, or `None` when the time is up or the connection has ended.
    fn next_packet(&mut self, deadline: Instant) -> Option<Packet> {
        loop {
            if let Some((packet, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(packet);
            }
            if self.closed {
                return None;
            }
            // A time-out of zero would mean none.
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 16 << 10];
            match read_some(&mut self.stream, &mut chunk) {
                Ok(0) => self.closed = true,
                Ok(n) => match &mut self.frames {
                    None => self.received.extend_from_slice(&chunk[..n]),
                    Some(frames) => {
                        frames.extend_from_slice(&chunk[..n]);
                        while let Some((payload, length)) = parse_frame(frames) {
                            self.received.extend(payload);
                            frames.drain(..length);
                        }
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => self.closed = true,
            }
        }
    }

    fn packet_id(&mut self) -> u16 {
        let id = self.next_packet_id;
        self.next_packet_id = id.checked_add(1).unwrap_or(1);
        id
    }

    /// The bytes that the properties at the start of `bytes` take, with their length field.
    fn properties_length(&self, bytes: &[u8]) -> usize {
        match self.protocol {
            Protocol::V3_1_1 => 0,
            Protocol::V5 => {
                let (length, size) = take_length(bytes).expect("length of the properties");
                size + length
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both); // fails if the broker was first
    }
}
