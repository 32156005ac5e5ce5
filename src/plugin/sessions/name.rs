//! What a session is called, for longer than an event lasts.

use crate::broker::{Client, Connection};
use crate::fingerprint::Fingerprint;

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
    /// The client as events show it.
    pub fn client(&self) -> Client<'_> {
        Client { connection: self.connection, id: &self.client_id, address: self.address.as_deref() }
    }
}
