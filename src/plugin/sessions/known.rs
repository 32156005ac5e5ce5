//! What is known of sessions, for those who decide about them.

use std::sync::Arc;

use super::Sessions;
use crate::broker::Client;
use crate::fingerprint::Fingerprint;
use crate::local::PasswordHash;

impl Sessions {
    /// Whether anybody of this id and name was let in here.
    pub fn has(&self, client: Client<'_>, username: &str) -> bool {
        self.is(client, username, |_| true)
    }

    /// Whether a connection is, or was, that of a session that was let in.
    pub fn is_known(&self, client: Client<'_>, username: &str) -> bool {
        let connection = client.connection;
        self.is(client, username, |session| {
            session.current == Some(connection) || session.ended.is_some_and(|it| it.connection == connection)
        })
    }

    /// Whether a session was let in with these credentials.
    pub fn has_credentials(&self, client: Client<'_>, username: &str, credentials: Fingerprint) -> bool {
        self.is(client, username, |session| session.credentials == credentials)
    }

    /// Whether a client of this id and name is connected that was let in with these credentials.
    pub fn is_connected_with(&self, client_id: &str, username: &str, credentials: Fingerprint) -> bool {
        let key = self.key_of(client_id, username);
        self.tables.lock().connected.peek(&key).is_some_and(|session| session.credentials == credentials)
    }

    /// Whether a connection that was let in is still the one of its session.
    pub fn is_connected(&self, client: Client<'_>, username: &str) -> bool {
        self.is(client, username, |session| session.current == Some(client.connection))
    }

    /// Whether a connection was let in by this very hash, with these credentials.
    pub fn is_let_in_by(
        &self,
        client: Client<'_>,
        username: &str,
        credentials: Fingerprint,
        hash: &Arc<PasswordHash>,
    ) -> bool {
        self.is(client, username, |session| {
            session.current == Some(client.connection)
                && session.credentials == credentials
                && session.is_by(hash)
        })
    }
}
