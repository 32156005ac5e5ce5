//! Peeking: what other clients have sent and the broker has not yet read tells what it will ask next.
//! A wrong guess costs a request and nothing else: whoever is let in, is by a verdict on the exact question
//! that the broker asks.
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::packet::{self, Packet};
use super::scores::{Origin, Scores};
use crate::broker::{Connection, Details, Unread};
use crate::fingerprint::{Domain, Fingerprint, Fingerprinter, network};
use crate::question::{Access, Kind};
use crate::topic;
use crate::util::bounded;

/// Connections whose clients are known by the CONNECT that was seen; the longest unused go first. As many as clients that
/// came a moment ago are known of by the learner: some 5 MB with usual names, and 80 MB with as long ones as a look shows.
const BOUND: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// After an unprompted peek, pause so many times as long as it took, so that peeking uses at most a fifth of the
/// broker's time.
pub(super) const BREAK: u32 = 4;

/// Whose connection it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The protocol's level: 3, 4 or 5. It tells how the client's packets read.
    pub level: u8,
    /// The client id.
    pub client_id: String,
    /// The username.
    pub username: String,
    /// The username and password. By a CONNECT that was seen it is not known whether it is the right one.
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
        /// What else the CONNECT says.
        seen: Seen<'a>,
    },
    /// About a topic.
    Topic {
        /// Whose connection it is.
        identity: Arc<Identity>,
        /// Whether it subscribes or publishes.
        access: Access,
        /// The topic, or the filter that it subscribes to.
        topic: &'a str,
    },
}

/// What a CONNECT says beside the name and the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The client id, which the broker makes up where it is empty.
    pub client_id: &'a str,
    /// The protocol's level.
    pub level: u8,
    /// Whether it starts without the session that it had before.
    pub starts_clean: bool,
    /// The keep alive in seconds.
    pub keepalive: u16,
    /// The port of the listener, if it has one.
    pub listener_port: Option<u16>,
}

/// What is seen comes over plain TCP.
impl Details for Seen<'_> {
    fn uses_websockets(&self) -> bool {
        false
    }

    fn level(&self) -> u8 {
        self.level
    }

    fn starts_clean(&self) -> bool {
        self.starts_clean
    }

    fn keepalive(&self) -> Option<u16> {
        Some(self.keepalive)
    }

    fn listener_port(&self) -> Option<u16> {
        self.listener_port
    }
}

/// What is known of sockets, and of how good guesses are.
pub struct Peeked {
    keys: Fingerprinter,
    /// By the CONNECT that was seen in a socket.
    identities: LruCache<u64, Arc<Identity>>,
    scores: Scores,
    /// Points that this look leaves for later ones.
    reserve: u32,
    /// Whether it begins where the broker is.
    is_sure: bool,
    /// When it is time to look without anybody waiting.
    due: Option<Instant>,
    /// The last look was told of all sockets whose they are.
    is_told: bool,
    looks: Looks,
}

/// How looks do that bridge the wait for an answer. Where the API is faster than a look into all sockets, and nothing waits
/// in them, looking only makes the wait longer.
#[derive(Default)]
struct Looks {
    /// How many in a row had nothing asked before the answer came.
    overtaken: u32,
    /// How many waits are not to be bridged by one.
    pause: u32,
}

/// The most waits that are not bridged after a look that was in vain.
const LONGEST_PAUSE: u32 = 32;

impl Looks {
    /// Whether this wait is to be bridged by one.
    fn may_look(&mut self) -> bool {
        let may = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        may
    }

    fn has_looked(&mut self, is_of_use: bool, is_overtaken: bool) {
        if is_of_use || !is_overtaken {
            *self = Self::default();
            return;
        }
        self.pause = LONGEST_PAUSE.min(1 << self.overtaken.min(31)) - 1;
        self.overtaken += 1;
    }
}

impl Peeked {
    /// Knows nobody yet.
    pub fn new(keys: Fingerprinter) -> Self {
        Self {
            keys,
            identities: bounded(BOUND),
            scores: Scores::new(),
            reserve: 0,
            is_sure: true,
            due: None,
            is_told: false,
            looks: Looks::default(),
        }
    }

    /// Reads what waits in a socket: the questions that the broker will probably ask about it. `let_in` says who was let
    /// in on a connection.
    pub fn read<'a>(
        &mut self,
        unread: Unread<'a>,
        let_in: impl FnOnce(Connection) -> Option<Arc<Identity>>,
        now: Instant,
    ) -> Vec<Guess<'a>> {
        let mut guesses = Vec::new();
        let may_guess = |kind| self.scores.allow_beside(self.reserve, self.origin(unread, kind), now);
        let (logins, topics) = (may_guess(Kind::Connect), may_guess(Kind::Access));
        let let_in = unread.client.and_then(let_in);
        let mut known = let_in.clone();
        if known.is_none() {
            known = unread.socket.and_then(|socket| self.identities.get(&socket)).cloned();
        }
        let level = known.as_ref().map(|identity| identity.level);
        let mut packets = packet::packets(unread.bytes, level).into_iter().peekable();
        if let Some(Packet::Connect { level, starts_clean, keepalive, client_id, username, password }) =
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
            // The broker has let one in already, and ends the connection at this one.
            if let_in.is_some() || known.as_ref().is_some_and(|known| **known != identity) {
                return guesses;
            }
            known = known.or_else(|| self.identity_of_connect(identity, unread.socket));
            if logins {
                let seen = Seen { client_id, level, starts_clean, keepalive, listener_port: unread.port };
                guesses.push(Guess::Login { username, password, seen });
            }
        }
        let Some(identity) = known.filter(|_| topics) else { return guesses };
        let mut guess = |access, topic| {
            guesses.push(Guess::Topic { identity: Arc::clone(&identity), access, topic });
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

    /// Whose connection it is by the first CONNECT that is seen in it, which tells as long as the socket is remembered. Where
    /// there is no client id the broker makes one up, and nobody is known by that CONNECT.
    fn identity_of_connect(&mut self, connect: Identity, socket: Option<u64>) -> Option<Arc<Identity>> {
        let socket = socket.filter(|_| !connect.client_id.is_empty())?;
        let identity = Arc::new(connect);
        self.identities.put(socket, Arc::clone(&identity));
        Some(identity)
    }

    /// Where guesses of a kind come from that are made here.
    pub fn origin(&self, unread: Unread<'_>, kind: Kind) -> Origin {
        let address = unread.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let peer = self.keys.fields(Domain::Network, [network(&address).as_bytes()]);
        Origin { listener: unread.listener, kind, peer }
    }

    /// A look begins. `is_sure`: where the broker is. Of any other nobody knows when the broker comes to what it sees, so
    /// such a look makes a quarter of the guesses that may be made: the others are for one that knows better.
    pub fn begins(&mut self, is_sure: bool) {
        (self.is_sure, self.reserve) = (is_sure, 0);
    }

    /// A guess was made there.
    pub fn guessed(&mut self, origin: Origin, now: Instant) {
        self.scores.guessed(origin, now);
        // Four times as many as were made were there to begin with.
        self.reserve += if self.is_sure { 0 } else { 3 };
    }

    /// How well guesses do.
    pub fn scores(&mut self) -> &mut Scores {
        &mut self.scores
    }

    /// Whether the wait for an answer is to be bridged by a look.
    pub fn may_look(&mut self) -> bool {
        self.looks.may_look()
    }

    /// Records whether a look had anything asked, and whether the answer came before it was through.
    pub fn has_looked(&mut self, is_of_use: bool, is_overtaken: bool) {
        self.looks.has_looked(is_of_use, is_overtaken);
    }

    /// Whether it is time to look although nobody waits: there is something to learn only where the system does not tell
    /// whose sockets those are.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.is_told && self.due.is_none_or(|due| now >= due)
    }

    /// Records whether the look that is over was told of all sockets whose they are.
    pub fn note_told(&mut self, of_all: bool) {
        self.is_told = of_all;
    }

    /// Records how long an unprompted peek took.
    pub fn has_taken(&mut self, time: Duration, now: Instant) {
        self.due = Some(now + time * BREAK);
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
            descriptor: 9,
            listener: 0,
            port: Some(1883),
            client: None,
            socket: peer.rsplit(':').next().and_then(|n| n.parse().ok()),
            peer: None,
            bytes,
        }
    }

    fn shown(guess: Guess<'_>) -> String {
        match guess {
            Guess::Login { username, .. } => username.to_owned(),
            Guess::Topic { identity, topic, .. } => {
                format!("{} {} {topic}", identity.username, identity.client_id)
            }
        }
    }

    fn guesses(peeked: &mut Peeked, unread: Unread<'_>) -> Vec<String> {
        peeked.read(unread, |_| None, Instant::now()).into_iter().map(shown).collect()
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
    fn a_client_that_was_let_in_is_known_by_its_connection() {
        let mut peeked = peeked();
        let alice = Arc::new(Identity {
            level: 4,
            client_id: "id-a".to_owned(),
            username: "alice".to_owned(),
            credentials: peeked.keys.credentials("alice", b"x"),
        });
        let let_in = |connection| (connection == 7).then(|| Arc::clone(&alice));
        let mut guesses = |client, bytes| {
            let unread = Unread { client, ..unread("10.0.0.1:1", bytes) };
            let guesses = peeked.read(unread, let_in, Instant::now());
            guesses.into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(guesses(Some(7), SUBSCRIBE), ["alice id-a a/#"]);
        assert_eq!(guesses(Some(8), SUBSCRIBE), [""; 0], "it was not let in");
        assert_eq!(guesses(Some(7), CONNECT), [""; 0], "the broker ends the connection at it");
        // What was seen in a socket before counts less than whom it was let in as.
        assert_eq!(guesses(Some(8), CONNECT), ["joe"]);
        assert_eq!(guesses(Some(8), SUBSCRIBE), ["joe id a/#"]);
        assert_eq!(guesses(Some(7), SUBSCRIBE), ["alice id-a a/#"]);
    }

    /// What the next waits have, whose looks all go the same way: whether there is one, and how many in all.
    fn looks(looks: &mut Looks, waits: usize, is_of_use: bool, is_overtaken: bool) -> usize {
        let mut look = || {
            let may = looks.may_look();
            if may {
                looks.has_looked(is_of_use, is_overtaken);
            }
            may
        };
        (0..waits).filter(|_| look()).count()
    }

    #[test]
    fn what_the_api_is_faster_than_is_not_done_each_time() {
        let mut it = Looks::default();
        assert_eq!(looks(&mut it, 1_000, false, false), 1_000, "there is time for a look");
        assert_eq!(looks(&mut it, 1_000, true, true), 1_000, "it finds something");
        // 1 + 2 + 4 + 8 + 16 waits, and from then on one in 32.
        assert_eq!(looks(&mut it, 31 + 32 * 10 + 1, false, true), 5 + 11);
        assert_eq!(looks(&mut it, 33, true, true), 2, "one that finds something has them made again");
        assert_eq!(looks(&mut it, 100, true, true), 100);
    }

    #[test]
    fn where_no_more_guesses_are_made_none_are_made() {
        let mut peeked = peeked();
        let (now, bytes) = (Instant::now(), [CONNECT, SUBSCRIBE].concat().leak());
        for (kind, left) in [(Kind::Connect, vec!["joe id a/#"]), (Kind::Access, vec![])] {
            let origin = peeked.origin(unread("10.0.0.1:1", bytes), kind);
            while peeked.scores.allow(origin, now) {
                peeked.scores.guessed(origin, now);
            }
            assert_eq!(guesses(&mut peeked, unread("10.0.0.1:1", bytes)), left);
        }
    }

    #[test]
    fn a_look_from_anywhere_leaves_most_guesses_to_others() {
        let mut peeked = peeked();
        let (now, unread) = (Instant::now(), unread("10.0.0.1:1", CONNECT));
        let origin = peeked.origin(unread, Kind::Connect);
        let mut guesses = |is_sure| {
            peeked.begins(is_sure);
            let mut one = || {
                let is_made = !peeked.read(unread, |_| None, now).is_empty();
                is_made.then(|| peeked.guessed(origin, now))
            };
            std::iter::from_fn(&mut one).count()
        };
        // One peer has 200 guesses to begin with.
        assert_eq!([guesses(false), guesses(false), guesses(false)], [50, 38, 28]);
        assert_eq!([guesses(true), guesses(true), guesses(false)], [84, 0, 0]);
    }
}
