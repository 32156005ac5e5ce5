//! Clients that do not wait for their CONNACK before they send more.
//!
//! MQTT allows that, and Mosquitto 2.0 takes it. 2.1 ends the connection of a parked client that sends anything, so such a
//! client is not parked: the broker waits for its login, as 2.0 does. Who has sent more already shows it. Who sends it a
//! little later is known by the outcome, and remembered: its login was allowed, and it was not there any more.
//!
//! Others wait with it. So what is waited in vain is counted, for each network and for all together; and only who has come
//! with a right password is remembered.
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::Logins;
use crate::broker::BrokerThread;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Source, network};
use crate::plugin::attempt::Attempt;
use crate::plugin::delayed::Parked;
use crate::util::bounded;
use crate::util::fair::{FairQueue, Handle};

/// Clients that are remembered, some 16 MB of them if each has an address of its own. Where there is no room, the network
/// that has most gives up its newest, unless somebody has not come for [`LONG`].
const CLIENTS: usize = 10_000;

/// Who has not come for so long makes room for others.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Networks whose waiting is counted; those that waited longest ago have all of their time again.
const NETWORKS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// One second waited in vain is paid off in so many: a network may so take a tenth of the broker's time, all together
/// ([`ALL_PAID_OFF_IN`]) half.
const PAID_OFF_IN: u32 = 9;
const ALL_PAID_OFF_IN: u32 = 1;

/// Who sends early, and how long the broker has waited in vain for clients of each network.
pub struct EarlySenders {
    known: HashMap<Fingerprint, Handle, AlreadyHashed>,
    order: FairQueue<(Fingerprint, Source)>,
    waited: LruCache<u64, Debt>,
    waited_for_all: Debt,
}

/// Time that was waited, as far as it is not paid off yet.
#[derive(Debug, Clone, Copy)]
struct Debt {
    owed: Duration,
    at: Instant,
}

impl Debt {
    fn none(now: Instant) -> Self {
        Self { owed: Duration::ZERO, at: now }
    }

    fn left(self, paid_off_in: u32, now: Instant) -> Duration {
        self.owed.saturating_sub(now.saturating_duration_since(self.at) / paid_off_in)
    }

    /// Nothing is paid off while the broker waits.
    fn add(&mut self, spent: Duration, paid_off_in: u32, now: Instant) {
        let began = now.checked_sub(spent).unwrap_or(now);
        *self = Self { owed: self.left(paid_off_in, began) + spent, at: now };
    }
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
    pub fn new(now: Instant) -> Self {
        Self {
            known: HashMap::default(),
            order: FairQueue::new(CLIENTS),
            waited: bounded(NETWORKS),
            waited_for_all: Debt::none(now),
        }
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

    /// Whether a client was noted before, whenever that was.
    pub fn knows(&mut self, client: Fingerprint, now: Instant) -> bool {
        let Some((client, source)) = self.remove(client) else { return false };
        let (handle, _) = self.order.push(source.into(), 1, (client, source), now);
        self.known.insert(client, handle);
        true
    }

    /// Whether the broker may wait for a client of this network. `longest` is what all of them may have it wait for in
    /// vain at once; zero: any time.
    pub fn may_wait(&self, network: u64, longest: Duration, now: Instant) -> bool {
        let of_network =
            self.waited.peek(&network).map_or(Duration::ZERO, |debt| debt.left(PAID_OFF_IN, now));
        let of_all = self.waited_for_all.left(ALL_PAID_OFF_IN, now);
        longest.is_zero() || (of_network < longest && of_all < 2 * longest)
    }

    /// The broker has waited for a client of this network that was not let in.
    pub fn waited_in_vain(&mut self, network: u64, spent: Duration, now: Instant) {
        self.waited.get_or_insert_mut(network, || Debt::none(now)).add(spent, PAID_OFF_IN, now);
        self.waited_for_all.add(spent, ALL_PAID_OFF_IN, now);
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
        let mut early = EarlySenders::new(now);
        early.note(client(0), source(1, 1), now);
        for n in 1..2 * CLIENTS {
            early.note(client(n), source(2, n as u64), now);
        }
        assert!(early.knows(client(0), now) && early.knows(client(1), now));
        assert!(!early.knows(client(2 * CLIENTS - 1), now));
        assert_eq!(early.known.len(), CLIENTS);
        assert_eq!(early.order.bytes(), CLIENTS);
        // Who has not come for long makes room.
        early.knows(client(0), now + LONG);
        early.note(client(3 * CLIENTS), source(2, 0), now + LONG);
        assert!(early.knows(client(3 * CLIENTS), now + LONG) && early.knows(client(0), now + LONG));
        assert!(!early.knows(client(2), now + LONG) && early.knows(client(1), now + LONG));
    }

    #[test]
    fn a_client_is_remembered_once() {
        let now = Instant::now();
        let mut early = EarlySenders::new(now);
        for _ in 0..3 {
            early.note(client(1), source(1, 1), now);
            assert!(early.knows(client(1), now));
        }
        assert!(!early.knows(client(2), now));
        assert_eq!(early.order.bytes(), 1);
    }

    #[test]
    fn a_network_has_its_time_and_then_a_tenth_of_all_time() {
        let (now, longest) = (Instant::now(), Duration::from_millis(500));
        let mut early = EarlySenders::new(now);
        assert!(early.may_wait(1, longest, now));
        early.waited_in_vain(1, longest, now);
        assert!(!early.may_wait(1, longest, now));
        assert!(early.may_wait(2, longest, now), "others have theirs");
        assert!(early.may_wait(1, Duration::ZERO, now), "no bound");
        let mut waited = Duration::ZERO;
        let mut later = now;
        while later < now + Duration::from_secs(60) {
            later += Duration::from_millis(10);
            if early.may_wait(1, longest, later) {
                waited += Duration::from_millis(20);
                later += Duration::from_millis(20);
                early.waited_in_vain(1, Duration::from_millis(20), later);
            }
        }
        assert!(waited > Duration::from_secs(5) && waited < Duration::from_secs(7), "{waited:?}");
    }

    #[test]
    fn all_networks_together_leave_the_broker_half_of_its_time() {
        let (now, longest) = (Instant::now(), Duration::from_millis(500));
        let mut early = EarlySenders::new(now);
        let (mut waited, mut later) = (Duration::ZERO, now);
        for network in 0..20_000 {
            if early.may_wait(network, longest, later) {
                waited += Duration::from_millis(100);
                later += Duration::from_millis(100);
                early.waited_in_vain(network, Duration::from_millis(100), later);
            } else {
                later += Duration::from_millis(10);
            }
        }
        let all = later - now;
        assert!(waited < all * 6 / 10, "{waited:?} of {all:?}");
        assert_eq!(early.waited.len(), NETWORKS.get());
    }
}
