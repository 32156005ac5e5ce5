//! Whose client ids are. While a client is parked under an id, Mosquitto 2.1 turns away everybody else who comes with it.
//! So who comes under somebody else's id is not parked for long, unless the username and password were let in before.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::Logins;
use crate::broker::Client;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter, network};
use crate::plugin::attempt::Attempt;
use crate::plugin::event::Event;
use crate::util::bounded;

/// Ids that are remembered, some 10 MB of them; whose owner has not come for longest goes first.
const IDS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Who was let in last under each client id.
pub struct Owners {
    keys: Fingerprinter,
    owners: LruCache<Fingerprint, Owner, AlreadyHashed>,
}

/// Somebody who was let in.
#[derive(Clone, Copy)]
struct Owner {
    /// Its username, and the network that it came from.
    account: Fingerprint,
    /// Its username and password.
    credentials: Fingerprint,
}

impl Logins {
    /// Notes whose a client id is, once its client was let in.
    pub(super) fn note_owner(&self, attempt: &Attempt<'_>, event: &Event<'_>) {
        if let Some(thread) = self.parking_thread(event) {
            let Attempt { client, username, credentials, .. } = *attempt;
            self.owners.with(thread, |owners| owners.note(client, username, credentials));
        }
    }

    /// Whether a client comes under somebody else's id.
    pub(super) fn is_under_anothers_id(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> bool {
        let Attempt { client, username, credentials, .. } = *attempt;
        self.parking_thread(event).is_some_and(|thread| {
            self.owners.with(thread, |owners| owners.is_anothers(client, username, credentials))
        })
    }
}

impl Owners {
    /// No id is anybody's.
    pub fn new(keys: Fingerprinter) -> Self {
        Self { keys, owners: bounded(IDS) }
    }

    /// A client is let in under its id, with these credentials.
    pub fn note(&mut self, client: Client<'_>, username: &str, credentials: Fingerprint) {
        if let Some(id) = self.id(client) {
            let account = self.account(client, username);
            self.owners.put(id, Owner { account, credentials });
        }
    }

    /// Whether a client comes under an id under which somebody else was let in last, or the same username from elsewhere with
    /// another password. An empty id is nobody's.
    pub fn is_anothers(&self, client: Client<'_>, username: &str, credentials: Fingerprint) -> bool {
        let owner = self.id(client).and_then(|id| self.owners.peek(&id).copied());
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
        let mut owners = Owners::new(keys);
        let under = |id| Client { connection: 1, id, address: Some("192.0.2.1") };
        let elsewhere = Client { address: Some("192.0.2.2"), ..under("id") };
        let is_anothers = |owners: &Owners, client, username: &str, password: &str| {
            owners.is_anothers(client, username, keys.credentials(username, password.as_bytes()))
        };
        let note = |owners: &mut Owners, client, username: &str| {
            owners.note(client, username, keys.credentials(username, b"right"));
        };
        assert!(!is_anothers(&owners, under("id"), "alice", "a"), "nobody's yet");
        note(&mut owners, under("id"), "alice");
        assert!(!is_anothers(&owners, under("id"), "alice", "a"));
        assert!(is_anothers(&owners, under("id"), "bob", "a"));
        assert!(
            is_anothers(&owners, elsewhere, "alice", "a")
                && !is_anothers(&owners, elsewhere, "alice", "right")
        );
        assert!(!is_anothers(&owners, under("other"), "bob", "a"));
        note(&mut owners, under("id"), "bob");
        assert!(
            is_anothers(&owners, under("id"), "alice", "right")
                && !is_anothers(&owners, under("id"), "bob", "a")
        );
        note(&mut owners, under(""), "alice");
        assert!(!is_anothers(&owners, under(""), "bob", "a"), "without an id");
    }
}
