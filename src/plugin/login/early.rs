//! Clients that do not wait for their CONNACK before they send more.
//!
//! MQTT allows that, and Mosquitto 2.0 takes it. 2.1 ends the connection of a parked client that sends anything, so such a
//! client is not parked: the broker waits for its login, as 2.0 does. Who has sent more already shows it. Who sends it a
//! little later is known by the outcome, and remembered: its login was allowed, and it was not there any more. Others wait
//! with it, which is bounded (`debts`).
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Logins;
use crate::broker::BrokerThread;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Source, network};
use crate::plugin::attempt::Attempt;
use crate::plugin::delayed::Parked;
use crate::util::fair::{FairQueue, Handle};

/// Clients that are remembered, some 16 MB of them if each has an address of its own. Where there is no room, the network
/// that has most gives up its newest, unless somebody has not come for [`LONG`].
const CLIENTS: usize = 10_000;

/// Who has not come for so long makes room for others.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Who sends early.
pub struct EarlySenders {
    known: HashMap<Fingerprint, Handle, AlreadyHashed>,
    order: FairQueue<(Fingerprint, Source)>,
}

impl Logins {
    /// A parked client was allowed in and is not there any more.
    pub(super) fn note_early(&self, parked: &Parked, thread: &BrokerThread, now: Instant) {
        let source = self.parts.keys.source(parked.address.as_deref(), &parked.username);
        self.early.with(thread, |early| early.note(parked.sender, source, now));
    }

    /// By what a client is known again: its client id, its username and its network.
    pub(super) fn sender(&self, attempt: &Attempt<'_>) -> Fingerprint {
        let network = network(attempt.client.address.unwrap_or_default());
        let fields = [attempt.client.id.as_bytes(), attempt.username.as_bytes(), network.as_bytes()];
        self.parts.keys.fields(Domain::EarlySender, fields)
    }
}

impl EarlySenders {
    /// Nobody yet.
    pub fn new() -> Self {
        Self { known: HashMap::default(), order: FairQueue::new(CLIENTS) }
    }

    /// A client that was allowed in was not there any more: it may have sent something.
    pub fn note(&mut self, client: Fingerprint, source: Source, now: Instant) {
        self.remove(client);
        let is_full = self.known.len() >= CLIENTS;
        if is_full
            && let Some((oldest, since)) = self.order.oldest()
            && now.saturating_duration_since(since) >= LONG
            && let Some((client, _)) = self.order.remove(oldest)
        {
            self.known.remove(&client);
        }
        let (handle, gone) = self.order.push(source.into(), 1, (client, source), now);
        self.known.insert(client, handle);
        for (client, _) in gone {
            self.known.remove(&client);
        }
    }

    /// Whether a client was noted before, whenever that was. It counts as having come again now.
    pub fn recognise(&mut self, client: Fingerprint, now: Instant) -> bool {
        let Some((client, source)) = self.remove(client) else { return false };
        let (handle, _) = self.order.push(source.into(), 1, (client, source), now);
        self.known.insert(client, handle);
        true
    }

    fn remove(&mut self, client: Fingerprint) -> Option<(Fingerprint, Source)> {
        let handle = self.known.remove(&client)?;
        self.order.remove(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::{Domain, Fingerprinter};

    fn client(n: usize) -> Fingerprint {
        Fingerprinter::with_key(&[3; 16]).fields(Domain::Session, [&n.to_le_bytes()])
    }

    fn source(network: u64, username: u64) -> Source {
        Source { network, username }
    }

    #[test]
    fn one_network_pushes_nobody_else_out() {
        let now = Instant::now();
        let mut early = EarlySenders::new();
        early.note(client(0), source(1, 1), now);
        for n in 1..2 * CLIENTS {
            early.note(client(n), source(2, n as u64), now);
        }
        assert!(early.recognise(client(0), now) && early.recognise(client(1), now));
        assert!(!early.recognise(client(2 * CLIENTS - 1), now));
        assert_eq!(early.known.len(), CLIENTS);
        assert_eq!(early.order.bytes(), CLIENTS);
        // Who has not come for long makes room.
        early.recognise(client(0), now + LONG);
        early.note(client(3 * CLIENTS), source(2, 0), now + LONG);
        assert!(early.recognise(client(3 * CLIENTS), now + LONG) && early.recognise(client(0), now + LONG));
        assert!(!early.recognise(client(2), now + LONG) && early.recognise(client(1), now + LONG));
    }

    #[test]
    fn a_client_is_remembered_once() {
        let now = Instant::now();
        let mut early = EarlySenders::new();
        for _ in 0..3 {
            early.note(client(1), source(1, 1), now);
            assert!(early.recognise(client(1), now));
        }
        assert!(!early.recognise(client(2), now));
        assert_eq!(early.order.bytes(), 1);
    }
}
