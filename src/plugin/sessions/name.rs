//! What a session is called, for longer than an event lasts.

use crate::broker::{Client, Connection};
use crate::fingerprint::Fingerprint;
use crate::plugin::attempt::Attempt;

/// A session, for longer than an event lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionName {
    /// The connection that is meant, and no later one.
    pub connection: Connection,
    /// Its client id.
    pub client_id: String,
    /// Its username.
    pub username: String,
    /// Where it is connected from.
    pub address: Option<String>,
    /// The username and password it was let in with: the broker may give its number to the next client, and
    /// that may be the same one with a new password.
    pub credentials: Fingerprint,
}

impl SessionName {
    /// The session of a client that is let in.
    pub fn of(attempt: &Attempt<'_>) -> Self {
        let Attempt { client, username, credentials, .. } = *attempt;
        Self {
            connection: client.connection,
            client_id: client.id.to_owned(),
            username: username.to_owned(),
            address: client.address.map(str::to_owned),
            credentials,
        }
    }

    /// The client as events show it.
    pub fn client(&self) -> Client<'_> {
        Client { connection: self.connection, id: &self.client_id, address: self.address.as_deref() }
    }
}
