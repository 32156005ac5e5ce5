//! Whose client ids are. While a client is parked under an id, Mosquitto 2.1 turns away everybody else who comes with it.
//! So who comes under somebody else's id is not parked for long, unless the username and password were let in before.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::broker::Client;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter, network};
use crate::util::{Lock, bounded};

/// Ids that are remembered, some 10 MB of them; whose owner has not come for longest goes first.
const IDS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Who was let in last under each client id: a username, and the network that it came from.
pub struct Owners {
    keys: Fingerprinter,
    accounts: Lock<LruCache<Fingerprint, Fingerprint, AlreadyHashed>>,
}

impl Owners {
    /// No id is anybody's.
    pub fn new(keys: Fingerprinter) -> Self {
        Self { keys, accounts: Lock::new(bounded(IDS)) }
    }

    /// This username is let in under a client's id, from its network.
    pub fn note(&self, client: Client<'_>, username: &str) {
        if let Some(id) = self.id(client) {
            self.accounts.lock().put(id, self.account(client, username));
        }
    }

    /// Whether somebody else was let in last under a client's id, or from elsewhere. An empty id is nobody's.
    pub fn is_anothers(&self, client: Client<'_>, username: &str) -> bool {
        let owner = self.id(client).and_then(|id| self.accounts.lock().peek(&id).copied());
        owner.is_some_and(|owner| owner != self.account(client, username))
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
        let owners = Owners::new(Fingerprinter::with_key(&[1; 16]));
        let under = |id| Client { connection: 1, id, address: Some("192.0.2.1") };
        assert!(!owners.is_anothers(under("id"), "alice"), "nobody's yet");
        owners.note(under("id"), "alice");
        assert!(!owners.is_anothers(under("id"), "alice"));
        assert!(owners.is_anothers(under("id"), "bob"));
        assert!(owners.is_anothers(Client { address: Some("192.0.2.2"), ..under("id") }, "alice"));
        assert!(!owners.is_anothers(under("other"), "bob"));
        owners.note(under("id"), "bob");
        assert!(owners.is_anothers(under("id"), "alice") && !owners.is_anothers(under("id"), "bob"));
        owners.note(under(""), "alice");
        assert!(!owners.is_anothers(under(""), "bob"), "without an id");
    }
}
