//! The events of the broker that need a decision, and what every decision needs to know of its event.

use std::time::Instant;

use super::settings::Settings;
use crate::broker::{BrokerThread, Caller, Client, Details, Retain};
use crate::question::Access;

/// One event of the broker: when it came, on which thread, and the settings that it is decided under. Those are taken
/// once, so that a reload on another thread changes no decision half way.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// When it came. For topic checks it may be some milliseconds in the future.
    pub now: Instant,
    /// The thread that raised it.
    pub caller: &'a Caller,
    /// The options and files that count for it.
    pub settings: &'a Settings,
}

impl<'a> Event<'a> {
    /// This event at a later time, after waiting for an answer.
    pub fn at(self, now: Instant) -> Self {
        Self { now, ..self }
    }

    /// The proof of running on the broker's thread, if that is so.
    pub fn broker_thread(&self) -> Option<&'a BrokerThread> {
        self.caller.broker_thread()
    }
}

/// A CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The client.
    pub client: Client<'a>,
    /// Its username, never empty.
    pub username: Option<&'a str>,
    /// Its password: any bytes.
    pub password: Option<&'a [u8]>,
    /// Whether it starts without the session that it had before (clean session, clean start).
    pub starts_clean: bool,
    /// The protocol's level that it speaks: 3, 4 or 5, or 0 where that is not known.
    pub level: u8,
    /// What else the broker tells of it.
    pub details: &'a dyn Details,
}

/// Commands that a client has sent to `$CONTROL/http-auth/v1`.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a> {
    /// The client.
    pub client: Client<'a>,
    /// Its username, never empty.
    pub username: Option<&'a str>,
    /// Whatever it has sent.
    pub payload: &'a [u8],
    /// The quality of service of the message.
    pub qos: u8,
    /// What the message says of the topic's retained message.
    pub retain: Retain,
    /// What else the broker tells of the client.
    pub details: &'a dyn Details,
}

/// A topic check.
#[derive(Debug, Clone, Copy)]
pub struct TopicCheck<'a> {
    /// The client.
    pub client: Client<'a>,
    /// Never empty. Not proof that this plugin checked its password: see `Sessions::has_local_rights`.
    pub username: Option<&'a str>,
    /// The topic or filter.
    pub topic: &'a str,
    /// What the client wants to do with it.
    pub access: Access,
    /// The quality of service of the message.
    pub qos: u8,
    /// What the check says of the topic's retained message.
    pub retain: Retain,
    /// What else the broker tells of the client.
    pub details: &'a dyn Details,
}
