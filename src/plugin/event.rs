//! What every decision needs to know of the event that it is about.

use std::time::Instant;

use super::settings::Settings;
use crate::broker::{BrokerThread, Caller, Client, Retain};
use crate::question::Access;

/// One event of the broker: when it came, on which thread, and the settings that it is decided under. Those are taken
/// once, so that a reload on another thread changes no decision half way.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// When it came. For topic checks this may be some milliseconds ahead.
    pub now: Instant,
    /// Who raised it.
    pub caller: &'a Caller,
    /// Options and files.
    pub settings: &'a Settings,
}

impl<'a> Event<'a> {
    /// The same event at a later time, after somebody has waited.
    pub fn at(self, now: Instant) -> Self {
        Self { now, ..self }
    }

    /// The broker's thread, if that is where this runs.
    pub fn broker_thread(&self) -> Option<&'a BrokerThread> {
        self.caller.broker_thread()
    }
}

/// A CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// Who.
    pub client: Client<'a>,
    /// Its username, never empty.
    pub username: Option<&'a str>,
    /// Its password: any bytes.
    pub password: Option<&'a [u8]>,
    /// Whether it starts without the session it had before.
    pub starts_clean: bool,
    /// The protocol's level that it speaks: 3, 4 or 5, or 0 where that is not known.
    pub level: u8,
}

/// A topic check.
#[derive(Debug, Clone, Copy)]
pub struct TopicCheck<'a> {
    /// Who.
    pub client: Client<'a>,
    /// Never empty. Not proof that this plugin checked its password: see `Sessions::was_let_in`.
    pub username: Option<&'a str>,
    /// The topic or filter.
    pub topic: &'a str,
    /// What the client wants to do with it.
    pub access: Access,
    /// Whether the message is a retained one.
    pub retain: Retain,
}
