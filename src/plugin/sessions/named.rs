//! Connections by number, with the names that were let in on them: what the sockets of the broker are known by.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::Sessions;
use crate::broker::{Client, Connection};
use crate::fingerprint::Fingerprint;
use crate::prefetch::peek::Identity;
use crate::util::bounded;

/// Connections whose names are kept, those that came last. With [`LONGEST`] they take some 100 MiB at most, and a tenth
/// of that with usual names.
const BOUND: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Bytes of a client id and a username together, beyond which they are not kept: nothing is asked ahead for that client.
const LONGEST: usize = 1024;

/// The table. A number may be somebody else's by now: whoever finds a name here asks whether its session still has it.
pub struct Named(LruCache<Connection, Arc<Identity>>);

impl Named {
    /// Knows nobody.
    pub fn new() -> Self {
        Self(bounded(BOUND))
    }

    /// Somebody was let in. `level`: that of the protocol that it speaks (0 where that is not known), if its names are to be
    /// kept.
    pub fn put(&mut self, client: Client<'_>, username: &str, credentials: Fingerprint, level: Option<u8>) {
        let is_short = client.id.len() + username.len() <= LONGEST;
        let Some(level) = level.filter(|level| *level > 0 && is_short) else {
            self.0.pop(&client.connection);
            return;
        };
        let is_it = |known: &Arc<Identity>| {
            known.client_id == client.id
                && known.username == username
                && known.credentials == credentials
                && known.level == level
        };
        if !self.0.get(&client.connection).is_some_and(is_it) {
            let (client_id, username) = (client.id.to_owned(), username.to_owned());
            let identity = Identity { level, client_id, username, credentials };
            self.0.put(client.connection, Arc::new(identity));
        }
    }

    /// A connection is closed.
    pub fn remove(&mut self, connection: Connection) {
        self.0.pop(&connection);
    }

    /// Who was let in last with this number.
    pub fn get(&mut self, connection: Connection) -> Option<&Arc<Identity>> {
        self.0.get(&connection)
    }
}

impl Sessions {
    /// Who was let in on a connection that is still the one of its session, if its names are kept.
    pub fn client_of(&self, connection: Connection) -> Option<Arc<Identity>> {
        let tables = &mut *self.tables.lock();
        let identity = tables.named.get(connection)?;
        let session = tables.connected.peek(&self.key_of(&identity.client_id, &identity.username))?;
        let is_it = session.current == Some(connection) && session.credentials == identity.credentials;
        is_it.then(|| Arc::clone(identity))
    }
}
