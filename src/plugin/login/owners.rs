//! Whose client ids are. While a client is parked under an id, Mosquitto 2.1 turns away everybody else who comes with it.
//! So who comes under somebody else's id is not parked for long, unless the username and password were let in before.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::broker::Client;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter, network};
use crate::util::{Lock, bounded};

/// Ids that are remembered, some 10 MB of them; whose owner has not come for longest goes first.
const IDS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Who was let in last under each client id.
pub struct Owners {
    keys: Fingerprinter,
    owners: Lock<LruCache<Fingerprint, Owner, AlreadyHashed>>,
}

/// Somebody who was let in.
#[derive(Clone, Copy)]
struct Owner {
    /// Its username, and the network that it came from.
    account: Fingerprint,
    /// Its username and password.
    credentials: Fingerprint,
}

impl Owners {
    /// No id is anybody's.
    pub fn new(keys: Fingerprinter) -> Self {
        Self { keys, owners: Lock::new(bounded(IDS)) }
    }

    /// A client is let in under its id, with these credentials.
    pub fn note(&self, client: Client<'_>, username: &str, credentials: Fingerprint) {
        if let Some(id) = self.id(client) {
            let account = self.account(client, username);
            self.owners.lock().put(id, Owner { account, credentials });
        }
    }

    /// Whether a client comes under an id under which somebody else was let in last, or the same username from elsewhere with
    /// another password. An empty id is nobody's.
    pub fn is_anothers(&self, client: Client<'_>, username: &str, credentials: Fingerprint) -> bool {
        let owner = self.id(client).and_then(|id| self.owners.lock().peek(&id).copied());
        let is_it = |owner: Owner| {
            owner.credentials == credentials || owner.account == self.account(client, username)
        };
        owner.is_some_and(|owner| !is_it(owner))
    }

    fn id(&self, client: Client<'_>) -> Option<Fingerprint> {
        (!client.id.is_empty()).then(|| self.keys.fields(Domain::ClientName, [client.id.as_bytes()]))
    }

    fn account(&self, client: Client<'_>, username: &str) -> Fingerprint {
        let network = network(client.address.unwrap_or_default());
        self.keys.fields(Domain::Account, [network.as_bytes(), username.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_that_of_whom_it_let_in_last() {
        let keys = Fingerprinter::with_key(&[1; 16]);
        let owners = Owners::new(keys);
        let under = |id| Client { connection: 1, id, address: Some("192.0.2.1") };
        let elsewhere = Client { address: Some("192.0.2.2"), ..under("id") };
        let is_anothers = |client, username: &str, password: &str| {
            owners.is_anothers(client, username, keys.credentials(username, password.as_bytes()))
        };
        let note =
            |client, username: &str| owners.note(client, username, keys.credentials(username, b"right"));
        assert!(!is_anothers(under("id"), "alice", "a"), "nobody's yet");
        note(under("id"), "alice");
        assert!(!is_anothers(under("id"), "alice", "a"));
        assert!(is_anothers(under("id"), "bob", "a"));
        assert!(is_anothers(elsewhere, "alice", "a") && !is_anothers(elsewhere, "alice", "right"));
        assert!(!is_anothers(under("other"), "bob", "a"));
        note(under("id"), "bob");
        assert!(is_anothers(under("id"), "alice", "right") && !is_anothers(under("id"), "bob", "a"));
        note(under(""), "alice");
        assert!(!is_anothers(under(""), "bob", "a"), "without an id");
    }
}
