//! A small MQTT client that lets a test send anything and see every answer.
//!
//! It does nothing by itself but acknowledge QoS 1 messages: no thread, no keep-alive, no reconnecting.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    V3_1_1 = 4,
    V5 = 5,
}

/// CONNACK codes that tests look for, named as MQTT 5 does; 3.1.1 has its own number for the last.
pub mod reason {
    pub const SUCCESS: u8 = 0;
    pub const NOT_AUTHORIZED: u8 = 0x87;
    pub const SERVER_UNAVAILABLE: u8 = 0x88;
    pub const SERVER_BUSY: u8 = 0x89;
    pub const NOT_AUTHORIZED_V3: u8 = 5;
    /// What a SUBACK of MQTT 3.1.1 says of a refused filter.
    pub const SUBSCRIBE_FAILED_V3: u8 = 0x80;
}

#[derive(Debug, Clone)]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

/// A CONNECT packet to be. Names and passwords are bytes: nothing is checked before it is sent.
#[derive(Debug, Clone)]
pub struct Connect {
    protocol: Protocol,
    client_id: Vec<u8>,
    username: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
    will: Option<Will>,
    will_delay: Option<u32>,
    clean_start: bool,
    session_expiry: Option<u32>,
    keepalive: u16,
    /// Speaks MQTT in WebSocket frames, after an upgrade with these header lines.
    upgrade: Option<Vec<u8>>,
}

/// Why a client could not log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// With this reason code in the CONNACK.
    Code(u8),
    /// The broker closed the connection without a CONNACK.
    Closed,
}

impl Connect {
    pub fn v3(client_id: impl AsRef<[u8]>) -> Self {
        Self::new(Protocol::V3_1_1, client_id.as_ref())
    }

    pub fn v5(client_id: impl AsRef<[u8]>) -> Self {
        Self::new(Protocol::V5, client_id.as_ref())
    }

    fn new(protocol: Protocol, client_id: &[u8]) -> Self {
        Self {
            protocol,
            client_id: client_id.to_vec(),
            username: None,
            password: None,
            will: None,
            will_delay: None,
            clean_start: true,
            session_expiry: None,
            keepalive: 0,
            upgrade: None,
        }
    }

    pub fn login(self, username: impl AsRef<[u8]>, password: impl AsRef<[u8]>) -> Self {
        self.username(username).password(password)
    }

    pub fn username(mut self, username: impl AsRef<[u8]>) -> Self {
        self.username = Some(username.as_ref().to_vec());
        self
    }

    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.password = Some(password.as_ref().to_vec());
        self
    }

    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// Takes up the session that the client id has left, and leaves one.
    pub fn durable(mut self) -> Self {
        self.clean_start = false;
        if self.protocol == Protocol::V5 {
            self.session_expiry.get_or_insert(u32::MAX);
        }
        self
    }

    /// Seconds for which the broker keeps the session (MQTT 5).
    pub fn session_expiry(mut self, seconds: u32) -> Self {
        self.session_expiry = Some(seconds);
        self
    }

    pub fn keepalive(mut self, seconds: u16) -> Self {
        self.keepalive = seconds;
        self
    }

    /// Seconds for which the broker holds the will back (MQTT 5).
    pub fn will_delay(mut self, seconds: u32) -> Self {
        self.will_delay = Some(seconds);
        self
    }

    /// Goes to a listener with `protocol websockets`.
    pub fn over_websocket(self) -> Self {
        self.over_websocket_with("")
    }

    /// The same, with these further header lines, each with its end.
    pub fn over_websocket_with(mut self, headers: impl AsRef<[u8]>) -> Self {
        self.upgrade = Some(headers.as_ref().to_vec());
        self
    }

    pub fn packet(&self) -> Vec<u8> {
        let (username, password, will) = (self.username.as_ref(), self.password.as_ref(), self.will.as_ref());
        let mut flags = u8::from(username.is_some()) << 7 | u8::from(password.is_some()) << 6;
        flags |= u8::from(self.clean_start) << 1;
        if let Some(will) = will {
            flags |= u8::from(will.retain) << 5 | will.qos << 3 | 1 << 2;
        }
        let mut body = Vec::new();
        put_bytes(&mut body, b"MQTT");
        body.extend([self.protocol as u8, flags]);
        body.extend(self.keepalive.to_be_bytes());
        if self.protocol == Protocol::V5 {
            match self.session_expiry {
                Some(seconds) => {
                    body.extend([5, 0x11]);
                    body.extend(seconds.to_be_bytes());
                }
                None => body.push(0),
            }
        }
        put_bytes(&mut body, &self.client_id);
        if let Some(will) = will {
            match self.will_delay {
                Some(seconds) => {
                    body.extend([5, 0x18]);
                    body.extend(seconds.to_be_bytes());
                }
                None => put_no_properties(&mut body, self.protocol),
            }
            put_bytes(&mut body, &will.topic);
            put_bytes(&mut body, &will.payload);
        }
        for field in [username, password].into_iter().flatten() {
            put_bytes(&mut body, field);
        }
        packet(CONNECT << 4, &body)
    }

    /// Connects and sends CONNECT, without waiting for the answer.
    pub fn send(&self, port: u16) -> Client {
        let mut client = match &self.upgrade {
            None => Client::open(port, self.protocol),
            Some(headers) => Client::open_websocket(port, self.protocol, headers),
        };
        client.send(&self.packet());
        client
    }

    /// Logs in, or says why it could not.
    pub fn attempt(&self, port: u16) -> Result<Client, Refusal> {
        let mut client = self.send(port);
        match client.connack(PATIENCE) {
            Some(reason::SUCCESS) => Ok(client),
            Some(code) => Err(Refusal::Code(code)),
            None if client.is_closed() => Err(Refusal::Closed),
            None => panic!("no CONNACK in {PATIENCE:?}"),
        }
    }

    /// Logs in, which must work.
    pub fn accepted(&self, port: u16) -> Client {
        self.attempt(port)
            .unwrap_or_else(|refusal| panic!("{:?} is refused: {refusal:?}", self.readable_id()))
    }

    /// Tries to log in, which must not work, and gives the code of the CONNACK.
    pub fn refused(&self, port: u16) -> u8 {
        match self.attempt(port) {
            Ok(_) => panic!("{:?} is let in", self.readable_id()),
            Err(Refusal::Code(code)) => code,
            Err(Refusal::Closed) => panic!("{:?} gets no CONNACK", self.readable_id()),
        }
    }

    fn readable_id(&self) -> String {
        String::from_utf8_lossy(&self.client_id).into_owned()
    }
}

/// A message as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

#[derive(Debug)]
struct Packet {
    first_byte: u8,
    body: Vec<u8>,
}

impl Packet {
    fn kind(&self) -> u8 {
        self.first_byte >> 4
    }
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
    /// On a WebSocket: the start of a frame that is not yet there as a whole.
    frames: Option<Vec<u8>>,
}

impl Client {
    /// A bare connection, on which nothing was sent yet.
    pub fn open(port: u16, protocol: Protocol) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connection to the broker");
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

    /// The same on a WebSocket, opened with these further header lines.
    pub fn open_websocket(port: u16, protocol: Protocol, headers: &[u8]) -> Self {
        let mut client = Self::open(port, protocol);
        let request = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        client.send(&[request.as_bytes(), headers, b"\r\n"].concat());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.stream.read_exact(&mut byte).expect("answer to the upgrade");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        client.frames = Some(Vec::new());
        client
    }

    /// Sends any bytes. A broker that has closed the connection is noticed when something is awaited from it.
    pub fn send(&mut self, bytes: &[u8]) {
        let framed = self.frames.as_ref().map(|_| frame(bytes));
        let _ = self.stream.write_all(framed.as_deref().unwrap_or(bytes));
    }

    /// The code of the CONNACK, or nothing if none comes in time or the connection ends.
    pub fn connack(&mut self, timeout: Duration) -> Option<u8> {
        self.await_packet(CONNACK, timeout).map(|packet| packet.body[1])
    }

    /// Subscribes, and gives the reason codes of the SUBACK, one for each filter.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.try_subscribe(filters).expect("SUBACK")
    }

    /// The same, or nothing if the connection ends.
    pub fn try_subscribe(&mut self, filters: &[(&str, u8)]) -> Option<Vec<u8>> {
        let packet = self.subscribe_packet(filters);
        self.send(&packet);
        self.try_suback()
    }

    /// Subscribes to one filter with QoS 1, and says whether the broker granted it.
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

    /// Publishes with QoS 1, and gives the reason code of the PUBACK, which in MQTT 3.1.1 is always 0.
    pub fn publish_acknowledged(&mut self, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> u8 {
        self.try_publish(topic, payload).expect("PUBACK")
    }

    /// The same, or nothing if the connection ends.
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

    /// The next message, or nothing if none comes in time.
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

    /// The same, or nothing if no answer comes in time or the connection ends.
    pub fn try_ping(&mut self, timeout: Duration) -> Option<Duration> {
        let start = Instant::now();
        self.send(&[PINGREQ << 4, 0]);
        self.await_packet(PINGRESP, timeout).map(|_| start.elapsed())
    }

    /// Pings all the while that something else is going on; gives its result and the longest answer time.
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

    /// Says goodbye, so that no will is sent.
    pub fn disconnect(mut self) {
        self.send(&[DISCONNECT << 4, 0]);
        self.wait_until_closed(PATIENCE);
    }

    /// Whether the broker has closed the connection by now.
    pub fn is_closed(&mut self) -> bool {
        self.wait_until_closed(Duration::ZERO)
    }

    /// Waits until the broker closes the connection; says whether it did. Messages are kept meanwhile.
    pub fn wait_until_closed(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while let Some(packet) = self.next_packet(deadline) {
            self.handle(packet);
        }
        self.closed
    }

    /// The next packet of a kind; messages that come before it are kept.
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

    /// The next packet, or nothing when the time is up or the connection has ended.
    fn next_packet(&mut self, deadline: Instant) -> Option<Packet> {
        loop {
            if let Some((packet, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(packet);
            }
            if self.closed {
                return None;
            }
            // A time-out of zero would mean for ever.
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
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
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.closed = true,
            }
        }
    }

    fn packet_id(&mut self) -> u16 {
        let id = self.next_packet_id;
        self.next_packet_id = id.checked_add(1).unwrap_or(1);
        id
    }

    /// How many bytes the properties at the start of `bytes` take, their length included.
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
        let _ = self.stream.shutdown(Shutdown::Both); // fails where the broker was first
    }
}

fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first_byte];
    let mut length = body.len();
    loop {
        let more = length > 0x7f;
        packet.push((length & 0x7f) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// Bytes in a WebSocket frame as a client sends it; a mask of zeroes leaves them as they are.
fn frame(payload: &[u8]) -> Vec<u8> {
    const BINARY: u8 = 0x82;
    const MASKED: u8 = 0x80;
    let mut frame = vec![BINARY];
    match u16::try_from(payload.len()).expect("a packet of up to 65535 bytes") {
        length @ 0..126 => frame.push(MASKED | length as u8),
        length => {
            frame.push(MASKED | 126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// What the WebSocket frame at the start of `received` carries and the frame's length, once it is there as
/// a whole. Control frames carry nothing for MQTT.
fn parse_frame(received: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (first_byte, length) = (*received.first()?, *received.get(1)?);
    let (start, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes([*received.get(2)?, *received.get(3)?]))),
        127 => panic!("a frame of more than 65535 bytes"),
        length => (2, usize::from(length)),
    };
    let payload = received.get(start..start + length)?;
    let is_control = first_byte & 8 != 0;
    Some((if is_control { Vec::new() } else { payload.to_vec() }, start + length))
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(u16::try_from(bytes.len()).expect("a field of up to 65535 bytes").to_be_bytes());
    body.extend_from_slice(bytes);
}

fn put_no_properties(body: &mut Vec<u8>, protocol: Protocol) {
    if protocol == Protocol::V5 {
        body.push(0);
    }
}

fn take_bytes(body: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    body[2..].split_at(length)
}

/// A variable byte integer, and how many bytes it takes.
fn take_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, index + 1));
        }
    }
    None
}

/// The packet at the start of `received` and its length, once it is there as a whole.
fn parse(received: &[u8]) -> Option<(Packet, usize)> {
    let (first_byte, rest) = received.split_first()?;
    let (length, size) = take_length(rest)?;
    let body = rest.get(size..size + length)?;
    Some((Packet { first_byte: *first_byte, body: body.to_vec() }, 1 + size + length))
}
