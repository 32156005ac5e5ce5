//! What is asked, and what can come back: the words that every other module shares.
#![forbid(unsafe_code)]

use std::fmt;

/// What a client wants to do with a topic, numbered as the API sees it in `acc`.
///
/// The numbers are Mosquitto's `MOSQ_ACL_*` (`mosquitto_broker.h`). Its `MOSQ_ACL_UNSUBSCRIBE` (8) is
/// no question for the API, and 3 (read and write) is never asked by a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Access {
    /// A message is about to be delivered to the client.
    Read = 1,
    /// The client publishes, or its will is sent.
    Write = 2,
    /// The client subscribes; the topic is the filter as it was sent.
    Subscribe = 4,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Subscribe => "subscribe",
        })
    }
}

/// A decision. There is no third value: what is not known is an [`Answer`] without a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client may.
    Allow,
    /// The client may not.
    Deny,
}
