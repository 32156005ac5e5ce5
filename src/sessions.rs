//! Which sessions this plugin let in: the broker gives a username to the plugin that a certificate or
//! another plugin may have given to the client, and asks about clients that are gone.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::cache::key::{AlreadyHashed, Fingerprint, Fingerprinter};
use crate::question::Access;

/// Sessions that are remembered; the ones that have not been used for longest go first. A broker holds
/// fewer (a process has about a million descriptors at most).
const BOUND: NonZeroUsize = NonZeroUsize::new(1_000_000).unwrap();

/// Names one connection of a client for as long as it lasts: the broker's own pointer to it, as a number.
/// It is compared and never followed; the broker may give the number to another client later.
pub type Connection = usize;

/// A client as the broker shows it in an event.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Which connection this is about.
    pub connection: Connection,
    /// The client id.
    pub id: &'a str,
    /// The peer's address; none for sessions that were restored from disk and have not connected since,
    /// and where the broker asks on behalf of a stored message or of its HTTP listener.
    pub address: Option<&'a str>,
}

struct Session {
    /// The connection that was let in last.
    current: Option<Connection>,
    /// The one before it, or the same after it was closed. Its will may still be written, and what it
    /// subscribed to may still be queued.
    ended: Option<Connection>,
    may_send_will: bool,
}

/// Sessions by client id and username.
pub struct Sessions {
    keys: Fingerprinter,
    known: Mutex<LruCache<Fingerprint, Session, AlreadyHashed>>,
}

impl Sessions {
    /// No session yet.
    pub fn new(keys: Fingerprinter) -> Self {
        // The table grows as it fills: its bound is for the worst case, not a reservation.
        let mut known = LruCache::with_hasher(NonZeroUsize::MIN, AlreadyHashed::default());
        known.resize(BOUND);
        Self { keys, known: Mutex::new(known) }
    }

    /// Notes that this plugin has checked this client's password and let it in.
    pub fn admit(&self, client: Client<'_>, username: &str) {
        let mut known = self.known();
        let session = known.get_or_insert_mut(self.key(client, username), || Session {
            current: None,
            ended: None,
            may_send_will: false,
        });
        if session.current != Some(client.connection) {
            session.ended = session.current.take();
            session.may_send_will = session.ended.is_some();
            session.current = Some(client.connection);
        }
    }

    /// Notes that a connection is closed. The event says no more than that somebody with this client id
    /// is gone (a refused login fires it too): only the connection tells whether it was the one let in.
    pub fn close(&self, client: Client<'_>, username: &str) {
        if let Some(session) = self.known().get_mut(&self.key(client, username))
            && session.current == Some(client.connection)
        {
            session.ended = session.current.take();
            session.may_send_will = true;
        }
    }

    /// Whether this client's rights are those of somebody whose password was checked here.
    ///
    /// After a connection was closed the broker still asks for its will (one write, in 2.0 and up to
    /// 2.1.2) and for what arrives for it while it sleeps (reads). Anything else with its number is
    /// somebody who got the number later, without a password that this plugin has seen.
    pub fn was_let_in(&self, client: Client<'_>, username: &str, access: Access) -> bool {
        if client.address.is_none() {
            return true;
        }
        let mut known = self.known();
        let Some(session) = known.get_mut(&self.key(client, username)) else { return false };
        if session.current == Some(client.connection) {
            return true;
        }
        if session.ended != Some(client.connection) {
            return false;
        }
        match access {
            Access::Read => true,
            Access::Write if session.may_send_will => {
                session.may_send_will = false;
                true
            }
            Access::Write | Access::Subscribe => {
                session.ended = None;
                false
            }
        }
    }

    fn key(&self, client: Client<'_>, username: &str) -> Fingerprint {
        self.keys.fields(b's', [client.id.as_bytes(), username.as_bytes()])
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Fingerprint, Session, AlreadyHashed>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn rights_belong_to_the_connection_that_was_let_in() {
        let sessions = sessions();
        sessions.admit(client(1), "alice");
        assert!(sessions.was_let_in(client(1), "alice", Access::Subscribe));
        assert!(!sessions.was_let_in(client(2), "alice", Access::Subscribe));
        assert!(!sessions.was_let_in(client(1), "bob", Access::Subscribe));
    }

    #[test]
    fn a_refused_login_under_the_same_id_takes_nothing_away() {
        let sessions = sessions();
        sessions.admit(client(1), "alice");
        sessions.close(client(2), "alice");
        assert!(sessions.was_let_in(client(1), "alice", Access::Write));
    }

    #[test]
    fn a_closed_connection_may_still_write_its_will_and_be_read_for() {
        let sessions = sessions();
        sessions.admit(client(1), "alice");
        sessions.close(client(1), "alice");
        assert!(sessions.was_let_in(client(1), "alice", Access::Read));
        assert!(sessions.was_let_in(client(1), "alice", Access::Write));
        assert!(!sessions.was_let_in(client(1), "alice", Access::Write));
        assert!(!sessions.was_let_in(client(1), "alice", Access::Read));
    }

    #[test]
    fn somebody_with_the_number_of_a_closed_connection_is_a_stranger() {
        let sessions = sessions();
        sessions.admit(client(1), "alice");
        sessions.close(client(1), "alice");
        assert!(!sessions.was_let_in(client(1), "alice", Access::Subscribe));
        assert!(!sessions.was_let_in(client(1), "alice", Access::Write));
    }

    #[test]
    fn on_a_take_over_the_old_will_is_still_written() {
        let sessions = sessions();
        sessions.admit(client(1), "alice");
        sessions.admit(client(2), "alice");
        sessions.close(client(1), "alice");
        assert!(sessions.was_let_in(client(1), "alice", Access::Write));
        assert!(sessions.was_let_in(client(2), "alice", Access::Write));
    }
}
