//! Which sessions this plugin let in: the broker gives a username to the plugin that a certificate or
//! another plugin may have given to the client, and asks about clients that are gone.
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::broker::{Client, Connection};
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter};
use crate::question::Access;
use crate::util::{Lock, bounded};

/// Sessions that are remembered; the ones that have not been used for longest go first. A broker holds
/// fewer (a process has about a million descriptors at most).
const BOUND: NonZeroUsize = NonZeroUsize::new(1_000_000).unwrap();

/// Whether a session is kept when its client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStays {
    /// It sleeps until the client comes again, or its time is over.
    Yes,
    /// It is gone.
    No,
    /// Mosquitto 2.0 does not tell.
    Unknown,
}

/// A session, for longer than an event lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionName {
    /// The connection that is meant, and no later one.
    pub connection: Connection,
    /// Its client id.
    pub client_id: String,
    /// Its username.
    pub username: String,
    /// The username and password it was let in with: the broker may give its number to the next client, and
    /// that may be the same one with a new password.
    pub credentials: Fingerprint,
}

/// What is known of a session.
#[derive(Clone, Copy)]
pub struct Session {
    /// The username and password it was let in with.
    credentials: Fingerprint,
    /// The connection that was let in last.
    current: Option<Connection>,
    /// The one before it, or the same after it was closed. Its will may still be written, and what it
    /// subscribed to may still be queued.
    ended: Option<Connection>,
    /// When it ended: the turn of the broker's loop, and the time.
    ended_at: (u64, Instant),
    /// Whether the session stayed when `ended` ended.
    stays: SessionStays,
    /// The round of rechecks in which it was last recognised.
    last_round: Option<u32>,
}

/// Sessions by client id and username.
pub struct Sessions {
    keys: Fingerprinter,
    known: Lock<LruCache<Fingerprint, Session, AlreadyHashed>>,
    /// Counts the turns of the broker's loop.
    turn: AtomicU64,
}

/// How long after a connection has ended its will may be written, at most: the broker does both in one go.
const WILL_WITHIN: Duration = Duration::from_millis(100);

impl Sessions {
    /// No session yet.
    pub fn new(keys: Fingerprinter) -> Self {
        Self { keys, known: Lock::new(bounded(BOUND)), turn: AtomicU64::new(0) }
    }

    /// Notes that this plugin has checked this client's password and let it in. Returns what was known of the
    /// session before.
    pub fn admit(
        &self,
        client: Client<'_>,
        username: &str,
        credentials: Fingerprint,
        now: Instant,
    ) -> Option<Session> {
        let key = self.key(client, username);
        let ended_at = (self.turn.load(Ordering::Relaxed), now);
        let mut known = self.known.lock();
        let before = known.peek(&key).copied();
        let session = known.get_or_insert_mut(key, || Session {
            credentials,
            current: None,
            ended: None,
            ended_at,
            stays: SessionStays::No,
            last_round: None,
        });
        session.credentials = credentials;
        if session.current != Some(client.connection) {
            session.ended = session.current.take();
            session.ended_at = ended_at;
            session.stays = SessionStays::No;
            session.current = Some(client.connection);
        }
        before
    }

    /// Notes that a connection is closed. The event says no more than that somebody with this client id
    /// is gone (a refused login fires it too): only the connection tells whether it was the one let in.
    /// Returns whether it does.
    pub fn close(&self, client: Client<'_>, username: &str, stays: SessionStays, now: Instant) -> bool {
        let key = self.key(client, username);
        let mut known = self.known.lock();
        let Some(session) = known.get_mut(&key).filter(|it| it.current == Some(client.connection)) else {
            return false;
        };
        session.ended = session.current.take();
        session.ended_at = (self.turn.load(Ordering::Relaxed), now);
        session.stays = stays;
        true
    }

    /// Takes an admission back that came to nothing, because the client had gone by then: the session is what
    /// it was `before`.
    pub fn withdraw(&self, client: Client<'_>, username: &str, before: Option<Session>) {
        let key = self.key(client, username);
        let mut known = self.known.lock();
        if known.peek(&key).is_none_or(|session| session.current != Some(client.connection)) {
            return;
        }
        match before {
            Some(before) => known.put(key, before),
            None => known.pop(&key),
        };
    }

    /// The broker's loop has come round: connections that were closed may be gone.
    pub fn new_turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a login in this round of rechecks is about a session that was let in here, and which was not yet
    /// recognised in it. `is_quick` says that the round has not paused.
    ///
    /// A connection that is open cannot be anybody else's. The number of one that was closed may be by now,
    /// unless the session stays; where the broker does not say that, the time tells.
    pub fn recheck(
        &self,
        client: Client<'_>,
        username: &str,
        credentials: Fingerprint,
        round: u32,
        is_quick: bool,
    ) -> bool {
        let mut known = self.known.lock();
        let Some(session) = known.get_mut(&self.key(client, username)) else { return false };
        let is_asleep =
            session.ended == Some(client.connection) && session.stays != SessionStays::No && is_quick;
        let is_it = (session.current == Some(client.connection) || is_asleep)
            && session.credentials == credentials
            && session.last_round != Some(round);
        if is_it {
            session.last_round = Some(round);
        }
        is_it
    }

    /// Whether anybody of this id and name was let in here.
    pub fn has(&self, client: Client<'_>, username: &str) -> bool {
        let key = self.key(client, username);
        self.known.lock().contains(&key)
    }

    /// Whether a connection is, or was, that of a session that was let in.
    pub fn is_known(&self, client: Client<'_>, username: &str) -> bool {
        let key = self.key(client, username);
        let is_it = |session: &Session| [session.current, session.ended].contains(&Some(client.connection));
        self.known.lock().get(&key).is_some_and(is_it)
    }

    /// Whether a session was let in with these credentials.
    pub fn has_credentials(&self, client: Client<'_>, username: &str, credentials: Fingerprint) -> bool {
        let key = self.key(client, username);
        self.known.lock().get(&key).is_some_and(|session| session.credentials == credentials)
    }

    /// Whether a client of this id and name is connected that was let in with these credentials.
    pub fn is_connected_with(&self, client_id: &str, username: &str, credentials: Fingerprint) -> bool {
        let key = self.keys.fields(Domain::Session, [client_id.as_bytes(), username.as_bytes()]);
        let is_it = |session: &Session| session.current.is_some() && session.credentials == credentials;
        self.known.lock().get(&key).is_some_and(is_it)
    }

    /// Whether a connection that was let in is still the one of its session.
    pub fn is_connected(&self, client: Client<'_>, username: &str) -> bool {
        let key = self.key(client, username);
        self.known.lock().get(&key).is_some_and(|session| session.current == Some(client.connection))
    }

    /// Whether this client's rights are those of somebody whose password was checked here.
    ///
    /// After a connection was closed the broker still asks for what arrives for it while its session sleeps
    /// (reads) and for its will (a write; in 2.0 and up to 2.1.2): before its loop comes round or, if the will
    /// is held back, while the session sleeps. Anything else with its number is somebody who got the number
    /// later, without a password that this plugin has seen.
    pub fn was_let_in(&self, client: Client<'_>, username: &str, access: Access, now: Instant) -> bool {
        if client.address.is_none() {
            return true;
        }
        let mut known = self.known.lock();
        let Some(session) = known.get_mut(&self.key(client, username)) else { return false };
        if session.current == Some(client.connection) {
            return true;
        }
        if session.ended != Some(client.connection) {
            return false;
        }
        let (turn, time) = session.ended_at;
        let just_now =
            turn == self.turn.load(Ordering::Relaxed) && now.saturating_duration_since(time) < WILL_WITHIN;
        let goes_with_it = match access {
            Access::Read => true,
            Access::Write => just_now || session.stays == SessionStays::Yes,
            Access::Subscribe => false,
        };
        let may_be_a_will = access == Access::Write && session.stays == SessionStays::Unknown;
        if !goes_with_it && !may_be_a_will {
            session.ended = None;
        }
        goes_with_it
    }

    fn key(&self, client: Client<'_>, username: &str) -> Fingerprint {
        self.keys.fields(Domain::Session, [client.id.as_bytes(), username.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions::new(Fingerprinter::with_key(&[1; 16]))
    }

    fn client(connection: Connection) -> Client<'static> {
        Client { connection, id: "id", address: Some("127.0.0.1") }
    }

    fn credentials() -> Fingerprint {
        Fingerprinter::with_key(&[1; 16]).fields(Domain::Credentials, [b"secret"])
    }

    #[test]
    fn a_round_recognises_each_session_once_and_no_stranger() {
        let (sessions, now) = (sessions(), Instant::now());
        sessions.admit(client(1), "alice", credentials(), now);
        let other_password = Fingerprinter::with_key(&[1; 16]).fields(Domain::Credentials, [b"guess"]);
        assert!(!sessions.recheck(client(1), "alice", other_password, 1, true));
        assert!(!sessions.recheck(client(2), "alice", credentials(), 1, true));
        assert!(sessions.recheck(client(1), "alice", credentials(), 1, true));
        assert!(!sessions.recheck(client(1), "alice", credentials(), 1, true));
        assert!(sessions.recheck(client(1), "alice", credentials(), 2, true));
    }

    #[test]
    fn a_session_that_sleeps_is_rechecked_but_not_connected() {
        let (sessions, now) = (sessions(), Instant::now());
        sessions.admit(client(1), "alice", credentials(), now);
        assert!(sessions.is_connected(client(1), "alice"));
        sessions.close(client(1), "alice", SessionStays::Unknown, now);
        assert!(!sessions.is_connected(client(1), "alice"));
        assert!(!sessions.recheck(client(1), "alice", credentials(), 1, false), "the round is over");
        assert!(sessions.recheck(client(1), "alice", credentials(), 1, true));
    }

    #[test]
    fn rights_belong_to_the_connection_that_was_let_in() {
        let (sessions, now) = (sessions(), Instant::now());
        sessions.admit(client(1), "alice", credentials(), now);
        assert!(sessions.was_let_in(client(1), "alice", Access::Subscribe, now));
        assert!(!sessions.was_let_in(client(2), "alice", Access::Subscribe, now));
        assert!(!sessions.was_let_in(client(1), "bob", Access::Subscribe, now));
    }

    #[test]
    fn a_refused_login_under_the_same_id_takes_nothing_away() {
        let (sessions, now) = (sessions(), Instant::now());
        sessions.admit(client(1), "alice", credentials(), now);
        sessions.close(client(2), "alice", SessionStays::No, now);
        assert!(sessions.was_let_in(client(1), "alice", Access::Write, now));
    }

    #[test]
    fn a_closed_connection_may_still_write_its_will_and_be_read_for() {
        let (sessions, now) = (sessions(), Instant::now());
        sessions.admit(client(1), "alice", credentials(), now);
        sessions.close(client(1), "alice", SessionStays::No, now);
        assert!(sessions.was_let_in(client(1), "alice", Access::Read, now));
        assert!(sessions.was_let_in(client(1), "alice", Access::Write, now));
        sessions.new_turn();
        assert!(sessions.was_let_in(client(1), "alice", Access::Read, now));
        assert!(!sessions.was_let_in(client(1), "alice", Access::Write, now));
        assert!(!sessions.was_let_in(client(1), "alice", Access::Read, now));
    }

    #[test]
    fn somebody_with_the_number_of_a_closed_connection_is_a_stranger() {
        let (sessions, now) = (sessions(), Instant::now());
        sessions.admit(client(1), "alice", credentials(), now);
        sessions.close(client(1), "alice", SessionStays::No, now);
        assert!(!sessions.was_let_in(client(1), "alice", Access::Subscribe, now));
        assert!(!sessions.was_let_in(client(1), "alice", Access::Write, now));
        // Also where the broker never ticks.
        sessions.admit(client(1), "alice", credentials(), now);
        sessions.close(client(1), "alice", SessionStays::No, now);
        assert!(!sessions.was_let_in(client(1), "alice", Access::Write, now + WILL_WITHIN));
    }

    #[test]
    fn an_admission_that_came_to_nothing_changes_nothing() {
        let (sessions, now) = (sessions(), Instant::now());
        let before = sessions.admit(client(1), "alice", credentials(), now);
        assert!(before.is_none());
        let before = sessions.admit(client(2), "alice", credentials(), now);
        sessions.withdraw(client(2), "alice", before);
        assert!(sessions.is_connected(client(1), "alice"));
        assert!(!sessions.was_let_in(client(2), "alice", Access::Write, now));
    }

    #[test]
    fn on_a_take_over_the_old_will_is_still_written() {
        let (sessions, now) = (sessions(), Instant::now());
        sessions.admit(client(1), "alice", credentials(), now);
        sessions.admit(client(2), "alice", credentials(), now);
        sessions.close(client(1), "alice", SessionStays::No, now);
        assert!(sessions.was_let_in(client(1), "alice", Access::Write, now));
        assert!(sessions.was_let_in(client(2), "alice", Access::Write, now));
    }
}
