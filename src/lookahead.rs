//! Looking ahead: what other clients have sent and the broker has not yet read tells what it will ask next.
//! A wrong guess costs a request and nothing else: whoever is let in, is by a verdict on the exact question
//! that the broker asks.
#![forbid(unsafe_code)]

pub mod packet;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use lru::LruCache;

use crate::cache::key::{Fingerprint, Fingerprinter};
use crate::question::Kind;
use packet::Packet;

/// Connections whose clients are known; the longest unused go first.
const BOUND: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Guesses in vain after which a listener is left alone: what its clients send is not what the broker asks
/// about (a mount point, for instance).
const IN_VAIN: u32 = 200;

/// Bytes that are looked at in each socket: enough for a CONNECT with what usually follows.
pub const PEEKED_BYTES: usize = 4096;

/// What waits unread in a socket of the broker.
#[derive(Debug, Clone, Copy)]
pub struct Unread<'a> {
    /// The port of the broker's listener; 0 for a Unix socket.
    pub listener: u16,
    /// The system's own number for this connection, which no other gets. An address and port would be
    /// somebody else's later.
    pub connection: Option<u64>,
    /// The address at the other end, where there is one.
    pub peer: Option<IpAddr>,
    /// The first of the bytes.
    pub bytes: &'a [u8],
}

/// Whose connection it is, by the CONNECT that was seen in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    level: u8,
    /// The client id.
    pub client_id: String,
    /// The username.
    pub username: String,
    /// The username and password. Whether it was the right one is not known here.
    pub credentials: Fingerprint,
}

/// What the broker will probably ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess<'a> {
    /// About a login.
    Login {
        /// The username.
        username: &'a str,
        /// The password; none is an empty one.
        password: &'a [u8],
    },
    /// About a subscription.
    Subscribe(&'a Identity, &'a str),
    /// About a message to a topic.
    Publish(&'a Identity, &'a str),
}

/// A listener, and what was guessed there: where logins are guessed right, topics need not be.
pub type Place = (u16, Kind);

#[derive(Default)]
struct Record {
    guesses: u32,
    hits: u32,
}

/// What is known of connections and listeners.
pub struct Lookahead {
    keys: Fingerprinter,
    identities: LruCache<u64, Identity>,
    records: HashMap<Place, Record>,
}

impl Lookahead {
    /// Knows nobody yet.
    pub fn new(keys: Fingerprinter) -> Self {
        let mut identities = LruCache::new(NonZeroUsize::MIN);
        identities.resize(BOUND);
        Self { keys, identities, records: HashMap::new() }
    }

    /// Reads what waits in a socket and calls `guess` for each question that the broker will probably ask.
    pub fn read(&mut self, unread: Unread<'_>, mut guess: impl FnMut(Guess<'_>)) {
        let records = &self.records;
        let is_in_vain = |kind| {
            let record = records.get(&(unread.listener, kind));
            record.is_some_and(|record| record.hits == 0 && record.guesses >= IN_VAIN)
        };
        let (no_logins, no_topics) = (is_in_vain(Kind::Connect), is_in_vain(Kind::Access));
        let level = unread
            .connection
            .and_then(|connection| self.identities.get(&connection))
            .map(|identity| identity.level);
        for packet in packet::packets(unread.bytes, level) {
            match packet {
                Packet::Connect { level, client_id, username: Some(username), password }
                    // The broker takes an empty name for none.
                    if !username.is_empty() =>
                {
                    let password = password.unwrap_or_default();
                    if let Some(connection) = unread.connection.filter(|_| !client_id.is_empty()) {
                        self.identities.put(
                            connection,
                            Identity {
                                level,
                                client_id: client_id.to_owned(),
                                username: username.to_owned(),
                                credentials: self.keys.credentials(username, password),
                            },
                        );
                    }
                    if !no_logins {
                        guess(Guess::Login { username, password });
                    }
                }
                // Anonymous clients are not the API's business.
                Packet::Connect { .. } => {
                    unread.connection.and_then(|connection| self.identities.pop(&connection));
                    return;
                }
                Packet::Subscribe(_) | Packet::Publish(_) if no_topics => {}
                Packet::Subscribe(filters) => {
                    if let Some(identity) = unread.connection.and_then(|connection| self.identities.get(&connection)) {
                        for filter in filters {
                            guess(Guess::Subscribe(identity, filter));
                        }
                    }
                }
                Packet::Publish(topic) => {
                    if let Some(identity) = unread.connection.and_then(|connection| self.identities.get(&connection)) {
                        guess(Guess::Publish(identity, topic));
                    }
                }
            }
        }
    }

    /// A question that was guessed at this listener has been sent.
    pub fn guessed(&mut self, place: Place) {
        self.records.entry(place).or_default().guesses += 1;
    }

    /// The broker has asked a question that was guessed at this listener.
    pub fn hit(&mut self, place: Place) {
        self.records.entry(place).or_default().hits += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: &[u8] = b"\x10\x18\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x03joe\x00\x03\xff\x00p";
    const SUBSCRIBE: &[u8] = b"\x82\x08\x00\x01\x00\x03a/#\x00";

    fn lookahead() -> Lookahead {
        Lookahead::new(Fingerprinter::with_key(&[2; 16]))
    }

    fn unread(peer: &str, bytes: &'static [u8]) -> Unread<'static> {
        Unread {
            listener: 1883,
            connection: peer.rsplit(':').next().and_then(|n| n.parse().ok()),
            peer: None,
            bytes,
        }
    }

    fn guesses(lookahead: &mut Lookahead, unread: Unread<'_>) -> Vec<String> {
        let mut guesses = Vec::new();
        lookahead.read(unread, |guess| {
            guesses.push(match guess {
                Guess::Login { username, .. } => username.to_owned(),
                Guess::Subscribe(identity, topic) | Guess::Publish(identity, topic) => {
                    format!("{} {} {topic}", identity.username, identity.client_id)
                }
            });
        });
        guesses
    }

    #[test]
    fn a_client_is_known_by_the_connect_that_was_seen_in_its_connection() {
        let mut lookahead = lookahead();
        assert_eq!(guesses(&mut lookahead, unread("10.0.0.1:1", SUBSCRIBE)), [""; 0]);
        assert_eq!(guesses(&mut lookahead, unread("10.0.0.1:1", CONNECT)), ["joe"]);
        assert_eq!(guesses(&mut lookahead, unread("10.0.0.1:1", SUBSCRIBE)), ["joe id a/#"]);
        assert_eq!(guesses(&mut lookahead, unread("10.0.0.1:2", SUBSCRIBE)), [""; 0]);
        // A Unix socket has no name by which to know it again.
        assert_eq!(guesses(&mut lookahead, unread("/run/socket", CONNECT)), ["joe"]);
        assert_eq!(guesses(&mut lookahead, unread("/run/socket", SUBSCRIBE)), [""; 0]);
    }

    #[test]
    fn a_listener_whose_guesses_never_hit_is_left_alone() {
        let mut lookahead = lookahead();
        for _ in 0..IN_VAIN {
            lookahead.guessed((1883, Kind::Connect));
        }
        assert_eq!(guesses(&mut lookahead, unread("10.0.0.1:1", CONNECT)), [""; 0]);
        lookahead.hit((1883, Kind::Connect));
        assert_eq!(guesses(&mut lookahead, unread("10.0.0.1:1", CONNECT)), ["joe"]);
    }
}
