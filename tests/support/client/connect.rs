//! A client's login: its CONNECT, and the broker's CONNACK.

use std::net::Ipv4Addr;

use super::wire::{CONNECT, packet, put_bytes, put_no_properties};
use super::{Client, PATIENCE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    V3_1_1 = 4,
    V5 = 5,
}

/// CONNACK codes that tests look for, with their names in MQTT 5; 3.1.1 has its own number for the last.
pub mod reason {
    pub const SUCCESS: u8 = 0;
    pub const NOT_AUTHORIZED: u8 = 0x87;
    pub const SERVER_UNAVAILABLE: u8 = 0x88;
    pub const SERVER_BUSY: u8 = 0x89;
    pub const NOT_AUTHORIZED_V3: u8 = 5;
    /// The code for a refused filter in a SUBACK of MQTT 3.1.1.
    pub const SUBSCRIBE_FAILED_V3: u8 = 0x80;
}

#[derive(Debug, Clone)]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

/// A CONNECT packet that is about to be sent. Names and passwords are bytes, and nothing is checked.
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
    /// The header lines of the upgrade, for a client that speaks MQTT in WebSocket frames.
    upgrade: Option<Vec<u8>>,
    /// The client's own address.
    source: Ipv4Addr,
}

/// Why a client could not log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The broker refused it with this reason code in the CONNACK.
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
            source: Ipv4Addr::LOCALHOST,
        }
    }

    /// Connects from another address of the loopback network (127.0.0.0/8), so that the broker takes the client for one
    /// on another machine.
    pub fn coming_from(mut self, source: Ipv4Addr) -> Self {
        self.source = source;
        self
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

    /// Continues the session of this client id, and leaves it behind at the end.
    pub fn durable(mut self) -> Self {
        self.clean_start = false;
        if self.protocol == Protocol::V5 {
            self.session_expiry.get_or_insert(u32::MAX);
        }
        self
    }

    /// Sets for how many seconds the broker keeps the session (MQTT 5).
    pub fn session_expiry(mut self, seconds: u32) -> Self {
        self.session_expiry = Some(seconds);
        self
    }

    pub fn keepalive(mut self, seconds: u16) -> Self {
        self.keepalive = seconds;
        self
    }

    /// Sets for how many seconds the broker holds the will back (MQTT 5).
    pub fn will_delay(mut self, seconds: u32) -> Self {
        self.will_delay = Some(seconds);
        self
    }

    /// Connects to a listener with `protocol websockets`.
    pub fn over_websocket(self) -> Self {
        self.over_websocket_with("")
    }

    /// Connects to a listener with `protocol websockets`, with further header lines, each with its line end.
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
            None => Client::open_from(self.source, port, self.protocol),
            Some(headers) => Client::open_websocket(port, self.protocol, headers),
        };
        client.send(&self.packet());
        client
    }

    /// Logs in. The error says why that failed.
    pub fn attempt(&self, port: u16) -> Result<Client, Refusal> {
        let mut client = self.send(port);
        match client.connack(PATIENCE) {
            Some(reason::SUCCESS) => Ok(client),
            Some(code) => Err(Refusal::Code(code)),
            None if client.is_closed() => Err(Refusal::Closed),
            None => panic!("no CONNACK in {PATIENCE:?}"),
        }
    }

    /// Logs in, which must succeed.
    pub fn accepted(&self, port: u16) -> Client {
        self.attempt(port)
            .unwrap_or_else(|refusal| panic!("{:?} is refused: {refusal:?}", self.readable_id()))
    }

    /// Tries to log in, which must fail, and returns the code of the CONNACK.
    pub fn refused(&self, port: u16) -> u8 {
        match self.attempt(port) {
            Ok(_) => panic!("{:?} is let in", self.readable_id()),
            Err(Refusal::Code(code)) => code,
            Err(Refusal::Closed) => panic!("{:?} gets no CONNACK", self.readable_id()),
        }
    }

    /// Tries to log in, which must fail for want of an answer: nobody is told then that it is not authorised.
    pub fn unanswered(&self, port: u16) -> Refusal {
        match self.attempt(port) {
            Ok(_) => panic!("{:?} is let in", self.readable_id()),
            Err(
                refusal @ (Refusal::Closed | Refusal::Code(reason::SERVER_UNAVAILABLE | reason::SERVER_BUSY)),
            ) => refusal,
            Err(refusal) => panic!("{:?} hears {refusal:x?}", self.readable_id()),
        }
    }

    fn readable_id(&self) -> String {
        String::from_utf8_lossy(&self.client_id).into_owned()
    }
}
