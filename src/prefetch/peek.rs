//! Peeking: what other clients have sent and the broker has not yet read tells what it will ask next.
//! A wrong guess costs a request and nothing else: whoever is let in, is by a verdict on the exact question
//! that the broker asks.
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::packet::{self, Packet};
use crate::broker::Unread;
use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::question::{Access, Kind};
use crate::topic;
use crate::util::bounded;

/// Connections whose clients are known; the longest unused go first.
const BOUND: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Guesses that a source has to begin with. Where they are used up it is not guessed from any more: what its clients
/// send is not what the broker asks about (a mount point, for instance).
const GUESSES: u32 = 400;

/// Guesses that a right one earns, so that one in so many must be right.
const EARNED: u32 = 10;

/// After an unprompted peek, pause so many times as long as it took, so that peeking uses at most a fifth of the
/// broker's time.
const BREAK: u32 = 4;

/// The most guesses that a source can have.
const MOST_GUESSES: u32 = 10_000;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guess<'a> {
    /// About a login.
    Login {
        /// The username.
        username: &'a str,
        /// The password; none is an empty one.
        password: &'a [u8],
    },
    /// About a topic.
    Topic {
        /// Whose connection it is.
        identity: Arc<Identity>,
        /// Whether it subscribes or publishes.
        access: Access,
        /// To what.
        topic: &'a str,
    },
}

/// Where guesses come from: a listener's port, and what was guessed there. Where logins are guessed right, topics need
/// not be.
pub type GuessSource = (u16, Kind);

/// What is known of connections and sources of guesses.
pub struct Peeked {
    keys: Fingerprinter,
    identities: LruCache<u64, Arc<Identity>>,
    /// How many guesses are left, where it is not the number to begin with.
    left: HashMap<GuessSource, u32>,
    /// When it is time to look without anybody waiting.
    due: Option<Instant>,
}

impl Peeked {
    /// Knows nobody yet.
    pub fn new(keys: Fingerprinter) -> Self {
        Self { keys, identities: bounded(BOUND), left: HashMap::new(), due: None }
    }

    /// Reads what waits in a socket: the questions that the broker will probably ask about it.
    pub fn read<'a>(&mut self, unread: Unread<'a>) -> Vec<Guess<'a>> {
        let mut guesses = Vec::new();
        let has_stopped = |kind| self.left.get(&(unread.listener, kind)) == Some(&0);
        let (no_logins, no_topics) = (has_stopped(Kind::Connect), has_stopped(Kind::Access));
        let known = unread.connection.and_then(|connection| self.identities.get(&connection));
        let mut packets =
            packet::packets(unread.bytes, known.map(|identity| identity.level)).into_iter().peekable();
        if let Some(Packet::Connect { level, client_id, username, password }) =
            packets.next_if(|packet| matches!(packet, Packet::Connect { .. }))
        {
            // Anonymous clients are not the API's business. The broker takes an empty name for none.
            let Some(username) = username.filter(|name| !name.is_empty()) else { return guesses };
            let password = password.unwrap_or_default();
            let credentials = self.keys.credentials(username, password);
            let identity = Identity {
                level,
                client_id: client_id.to_owned(),
                username: username.to_owned(),
                credentials,
            };
            match known {
                // The broker has let one in already, and ends the connection at this one.
                Some(known) if **known != identity => return guesses,
                Some(_) => {}
                None => {
                    if let Some(connection) = unread.connection.filter(|_| !client_id.is_empty()) {
                        self.identities.put(connection, Arc::new(identity));
                    }
                }
            }
            if !no_logins {
                guesses.push(Guess::Login { username, password });
            }
        }
        if no_topics {
            return guesses;
        }
        let Some(identity) = unread.connection.and_then(|connection| self.identities.get(&connection)) else {
            return guesses;
        };
        let mut guess = |access, topic| {
            guesses.push(Guess::Topic { identity: Arc::clone(identity), access, topic });
        };
        for packet in packets {
            match packet {
                Packet::Subscribe(filters) => {
                    filters.into_iter().for_each(|filter| guess(Access::Subscribe, filter));
                }
                Packet::Publish(topic) if !is_settled(topic) => guess(Access::Write, topic),
                Packet::Publish(_) | Packet::Connect { .. } => {}
            }
        }
        guesses
    }

    /// Whether it is time to look although nobody waits.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Records how long an unprompted peek took.
    pub fn has_taken(&mut self, time: Duration, now: Instant) {
        self.due = Some(now + time * BREAK);
    }

    /// A question that was guessed from this source has been sent.
    pub fn guessed(&mut self, source: GuessSource) {
        let left = self.left.entry(source).or_insert(GUESSES);
        *left = left.saturating_sub(1);
    }

    /// The broker has asked a question that was guessed from this source.
    pub fn confirmed(&mut self, source: GuessSource) {
        let left = self.left.entry(source).or_insert(GUESSES);
        *left = (*left + EARNED).min(MOST_GUESSES);
    }
}

/// Whether the broker refuses messages to a topic without asking: all below `$SYS` but the state of bridges, and
/// to shared subscriptions.
fn is_settled(topic: &str) -> bool {
    let is_state = || topic::matches("$SYS/broker/connection/+/state", topic);
    topic.starts_with("$share") || (topic.starts_with("$SYS") && !is_state())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: &[u8] = b"\x10\x18\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x03joe\x00\x03\xff\x00p";
    const SUBSCRIBE: &[u8] = b"\x82\x08\x00\x01\x00\x03a/#\x00";

    fn peeked() -> Peeked {
        Peeked::new(Fingerprinter::with_key(&[2; 16]))
    }

    fn unread(peer: &str, bytes: &'static [u8]) -> Unread<'static> {
        Unread {
            listener: 1883,
            connection: peer.rsplit(':').next().and_then(|n| n.parse().ok()),
            peer: None,
            bytes,
        }
    }

    fn guesses(peeked: &mut Peeked, unread: Unread<'_>) -> Vec<String> {
        let shown = |guess| match guess {
            Guess::Login { username, .. } => username.to_owned(),
            Guess::Topic { identity, topic, .. } => {
                format!("{} {} {topic}", identity.username, identity.client_id)
            }
        };
        peeked.read(unread).into_iter().map(shown).collect()
    }

    #[test]
    fn a_client_is_known_by_the_connect_that_was_seen_in_its_connection() {
        let mut peeked = peeked();
        assert_eq!(guesses(&mut peeked, unread("10.0.0.1:1", SUBSCRIBE)), [""; 0]);
        assert_eq!(guesses(&mut peeked, unread("10.0.0.1:1", CONNECT)), ["joe"]);
        assert_eq!(guesses(&mut peeked, unread("10.0.0.1:1", SUBSCRIBE)), ["joe id a/#"]);
        assert_eq!(guesses(&mut peeked, unread("10.0.0.1:2", SUBSCRIBE)), [""; 0]);
        // A Unix socket has no name by which to know it again.
        assert_eq!(guesses(&mut peeked, unread("/run/socket", CONNECT)), ["joe"]);
        assert_eq!(guesses(&mut peeked, unread("/run/socket", SUBSCRIBE)), [""; 0]);
    }

    #[test]
    fn a_second_connect_makes_nobody_else_of_a_client() {
        const OTHER: &[u8] = b"\x10\x18\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02ID\x00\x03Joe\x00\x03\xff\x00p";
        const ANONYMOUS: &[u8] = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02id";
        let mut peeked = peeked();
        assert_eq!(guesses(&mut peeked, unread("10.0.0.1:1", CONNECT)), ["joe"]);
        // The broker has not taken it yet.
        assert_eq!(guesses(&mut peeked, unread("10.0.0.1:1", CONNECT)), ["joe"]);
        for second in [OTHER, ANONYMOUS] {
            let bytes = [second, SUBSCRIBE].concat().leak();
            assert_eq!(guesses(&mut peeked, unread("10.0.0.1:1", bytes)), [""; 0]);
            assert_eq!(guesses(&mut peeked, unread("10.0.0.1:1", SUBSCRIBE)), ["joe id a/#"]);
        }
    }

    #[test]
    fn what_the_broker_refuses_by_itself_is_not_guessed() {
        let settled = ["$SYS/broker/uptime", "$SYS", "$share/g/x"];
        assert!(settled.into_iter().all(is_settled));
        let asked = ["$SYS/broker/connection/bridge/state", "$CONTROL/x", "$s", "sys"];
        assert!(!asked.into_iter().any(is_settled));
    }

    #[test]
    fn a_source_whose_guesses_are_mostly_wrong_is_stopped() {
        const SOURCE: GuessSource = (1883, Kind::Connect);
        let mut peeked = peeked();
        let mut is_stopped = |guessed, hits| {
            (0..guessed).for_each(|_| peeked.guessed(SOURCE));
            (0..hits).for_each(|_| peeked.confirmed(SOURCE));
            guesses(&mut peeked, unread("10.0.0.1:1", CONNECT)).is_empty()
        };
        assert!(!is_stopped(GUESSES - 1, 0));
        assert!(is_stopped(1, 0));
        // One that was right by chance keeps nothing going for long.
        assert!(!is_stopped(0, 1));
        assert!(is_stopped(EARNED, 0));
        // Half of many, and then none.
        assert!(!is_stopped(MOST_GUESSES, MOST_GUESSES / 2));
        assert!(is_stopped(MOST_GUESSES, 0));
    }
}
