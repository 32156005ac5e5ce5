//! Who was left to others (`defer_status`). Mosquitto 2.0 does not tell a check of their sessions from a new login.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::Sessions;
use crate::broker::Connection;
use crate::fingerprint::Fingerprint;
use crate::util::bounded;

/// Clients that are remembered, some 8 MB of them; whoever logged in first goes first, and is asked about like a new client
/// then.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// The username and password of each, by its connection.
pub struct Deferred(LruCache<Connection, Fingerprint>);

impl Deferred {
    /// Nobody was.
    pub fn new() -> Self {
        Self(bounded(CLIENTS))
    }

    /// A connection is closed, or its client was let in here.
    pub fn remove(&mut self, connection: Connection) {
        if !self.0.is_empty() {
            self.0.pop(&connection);
        }
    }
}

impl Sessions {
    /// A login was left to others.
    pub fn note_deferred(&self, connection: Connection, credentials: Fingerprint) {
        self.tables.lock().deferred.0.put(connection, credentials);
    }

    /// A connection without a name is closed: 2.0.11 takes the client id away before it tells of the end of one that was refused.
    pub fn closed_nameless(&self, connection: Connection) {
        self.tables.lock().deferred.remove(connection);
    }

    /// Whether the login with this username and password was left to others, on a connection that has not ended since.
    pub fn was_deferred(&self, connection: Connection, credentials: Fingerprint) -> bool {
        self.tables.lock().deferred.0.peek(&connection) == Some(&credentials)
    }
}
