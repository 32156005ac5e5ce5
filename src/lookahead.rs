//! Looking ahead: what other clients have sent and the broker has not yet read tells what it will ask next.
//! A wrong guess costs a request and nothing else: whoever is let in, is by a verdict on the exact question
//! that the broker asks.
#![forbid(unsafe_code)]

pub mod packet;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use lru::LruCache;

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
    /// The other end, where that is an address: for as long as the connection lasts, its name.
    pub peer: Option<SocketAddr>,
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
    /// The password. Whether it was the right one is not known here.
    pub password: Vec<u8>,
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

#[derive(Default)]
struct Record {
    guesses: u32,
    hits: u32,
}

/// What is known of connections and listeners.
pub struct Lookahead {
    identities: LruCache<SocketAddr, Identity>,
    listeners: HashMap<u16, Record>,
}

impl Default for Lookahead {
    fn default() -> Self {
        let mut identities = LruCache::new(NonZeroUsize::MIN);
        identities.resize(BOUND);
        Self { identities, listeners: HashMap::new() }
    }
}

impl Lookahead {
    /// Reads what waits in a socket and calls `guess` for each question that the broker will probably ask.
    pub fn read(&mut self, unread: Unread<'_>, mut guess: impl FnMut(Guess<'_>)) {
        if self
            .listeners
            .get(&unread.listener)
            .is_some_and(|record| record.hits == 0 && record.guesses >= IN_VAIN)
        {
            return;
        }
        let level = unread.peer.and_then(|peer| self.identities.get(&peer)).map(|identity| identity.level);
        for packet in packet::packets(unread.bytes, level) {
            match packet {
                Packet::Connect { level, client_id, username: Some(username), password } => {
                    let password = password.unwrap_or_default();
                    if let Some(peer) = unread.peer.filter(|_| !client_id.is_empty()) {
                        self.identities.put(
                            peer,
                            Identity {
                                level,
                                client_id: client_id.to_owned(),
                                username: username.to_owned(),
                                password: password.to_owned(),
                            },
                        );
                    }
                    guess(Guess::Login { username, password });
                }
                // Anonymous clients are not the API's business.
                Packet::Connect { .. } => {
                    unread.peer.and_then(|peer| self.identities.pop(&peer));
                    return;
                }
                Packet::Subscribe(filters) => {
                    if let Some(identity) = unread.peer.and_then(|peer| self.identities.get(&peer)) {
                        for filter in filters {
                            guess(Guess::Subscribe(identity, filter));
                        }
                    }
                }
                Packet::Publish(topic) => {
                    if let Some(identity) = unread.peer.and_then(|peer| self.identities.get(&peer)) {
                        guess(Guess::Publish(identity, topic));
                    }
                }
            }
        }
    }

    /// A question that was guessed at this listener has been sent.
    pub fn guessed(&mut self, listener: u16) {
        self.listeners.entry(listener).or_default().guesses += 1;
    }

    /// The broker has asked a question that was guessed at this listener.
    pub fn hit(&mut self, listener: u16) {
        self.listeners.entry(listener).or_default().hits += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: &[u8] = b"\x10\x18\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x03joe\x00\x03\xff\x00p";
    const SUBSCRIBE: &[u8] = b"\x82\x08\x00\x01\x00\x03a/#\x00";

    fn unread(peer: &str, bytes: &'static [u8]) -> Unread<'static> {
        Unread { listener: 1883, peer: peer.parse().ok(), bytes }
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
        let mut lookahead = Lookahead::default();
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
        let mut lookahead = Lookahead::default();
        for _ in 0..IN_VAIN {
            lookahead.guessed(1883);
        }
        assert_eq!(guesses(&mut lookahead, unread("10.0.0.1:1", CONNECT)), [""; 0]);
        lookahead.hit(1883);
        assert_eq!(guesses(&mut lookahead, unread("10.0.0.1:1", CONNECT)), ["joe"]);
    }
}
