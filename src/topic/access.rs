//! What clients do with topics.

use std::fmt;

/// What a client wants to do with a topic. The API gets the number as `acc`.
///
/// The numbers are Mosquitto's `MOSQ_ACL_*` (`mosquitto_broker.h`). The API is not asked about `MOSQ_ACL_UNSUBSCRIBE`
/// (8), and no broker asks about 3 (read and write).
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
