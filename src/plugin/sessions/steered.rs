//! What commands ask of the sessions.

use std::collections::HashMap;

use super::{BOUND, LetInBy, Sessions, Tables};
use crate::broker::{Client, Connection};
use crate::fingerprint::{Domain, Fingerprint, Fingerprinter};

/// A client that is connected.
pub(super) struct Connected {
    connection: Connection,
    /// Its username, as [`About`](crate::fingerprint::About) has it.
    username: u32,
}

impl Tables {
    /// A client was let in.
    pub(super) fn note_client_id(&mut self, keys: &Fingerprinter, client: Client<'_>, username: &str) {
        if let Some(by_client_id) = &mut self.by_client_id
            && by_client_id.len() < BOUND.get()
        {
            let connected = Connected { connection: client.connection, username: keys.username(username) };
            by_client_id.insert(name(keys, client.id), connected);
        }
    }

    /// A connection is closed.
    pub(super) fn forget_client_id(&mut self, keys: &Fingerprinter, client: Client<'_>) {
        if let Some(by_client_id) = &mut self.by_client_id {
            let name = name(keys, client.id);
            if by_client_id.get(&name).is_some_and(|it| it.connection == client.connection) {
                by_client_id.remove(&name);
            }
        }
    }
}

fn name(keys: &Fingerprinter, client_id: &str) -> Fingerprint {
    keys.fields(Domain::ClientName, [client_id.as_bytes()])
}

impl Sessions {
    /// From now on connections are known by their client ids, too: for a broker that has no function for that.
    pub fn know_client_ids(&self) {
        self.tables.lock().by_client_id.get_or_insert_default();
    }

    /// The connection of a client that is connected and was let in here, if client ids are known.
    pub fn connection_of(&self, client_id: &str) -> Option<Connection> {
        let key = name(&self.keys, client_id);
        Some(self.tables.lock().by_client_id.as_ref()?.get(&key)?.connection)
    }

    /// The connections of all who are connected under a username and were let in here, if client ids are known. For commands
    /// only: it looks at everybody.
    pub fn connections_of(&self, username: &str) -> Vec<Connection> {
        let (tables, username) = (self.tables.lock(), self.keys.username(username));
        let connected = tables.by_client_id.iter().flat_map(HashMap::values);
        connected.filter(|it| it.username == username).map(|it| it.connection).collect()
    }

    /// The connection of a session that is connected, and what it was let in by. Changes nothing.
    pub fn inspect(&self, client_id: &str, username: &str) -> Option<(Connection, LetInBy)> {
        let key = self.key_of(client_id, username);
        let tables = self.tables.lock();
        let session = tables.connected.peek(&key)?;
        Some((session.current?, session.by.clone()))
    }
}
