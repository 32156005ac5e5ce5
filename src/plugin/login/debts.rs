//! How long the broker of 2.1 waits for clients that it would have parked, had they not sent more, or come under another's
//! id. Others wait with them. So what is waited in vain is counted, for each network and for all together; who is let in
//! costs nothing, since 2.0 would have waited for it as well.
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::Logins;
use crate::plugin::attempt::Attempt;
use crate::plugin::event::Event;
use crate::util::bounded;

/// Networks whose waiting is counted; those that waited longest ago have all of their time again.
const NETWORKS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// One second waited in vain is paid off in so many: a network may so take a tenth of the broker's time, all together
/// ([`ALL_PAID_OFF_IN`]) half.
const PAID_OFF_IN: u32 = 9;
const ALL_PAID_OFF_IN: u32 = 1;

/// What the broker has waited in vain, as far as it is not paid off.
pub struct Debts {
    by_network: LruCache<u64, Debt>,
    of_all: Debt,
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
    /// Counts against its network how long the broker of 2.1 has waited for a client that it would have parked, had it not
    /// sent more, or come under another's id. Who is let in costs nothing: 2.0 would have waited for it as well.
    pub(super) fn charge_network(
        &self,
        attempt: &Attempt<'_>,
        began: Instant,
        is_allowed: bool,
        event: &Event<'_>,
    ) {
        if let Some(thread) = self.parking_thread(event).filter(|_| !is_allowed) {
            let (now, network) = (Instant::now(), attempt.source(&self.parts.keys).network);
            self.debts.with(thread, |debts| debts.waited_in_vain(network, now - began, now));
        }
    }
}

impl Debts {
    /// Nothing was waited.
    pub fn new(now: Instant) -> Self {
        Self { by_network: bounded(NETWORKS), of_all: Debt::none(now) }
    }

    /// Whether the broker may wait for a client of this network. `longest` is what all of them may have it wait for in
    /// vain at once; zero: any time.
    pub fn may_wait(&self, network: u64, longest: Duration, now: Instant) -> bool {
        let of_network =
            self.by_network.peek(&network).map_or(Duration::ZERO, |debt| debt.left(PAID_OFF_IN, now));
        let of_all = self.of_all.left(ALL_PAID_OFF_IN, now);
        longest.is_zero() || (of_network < longest && of_all < 2 * longest)
    }

    /// The broker has waited for a client of this network that was not let in.
    pub fn waited_in_vain(&mut self, network: u64, spent: Duration, now: Instant) {
        self.by_network.get_or_insert_mut(network, || Debt::none(now)).add(spent, PAID_OFF_IN, now);
        self.of_all.add(spent, ALL_PAID_OFF_IN, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_time_and_then_a_tenth_of_all_time() {
        let (now, longest) = (Instant::now(), Duration::from_millis(500));
        let mut debts = Debts::new(now);
        assert!(debts.may_wait(1, longest, now));
        debts.waited_in_vain(1, longest, now);
        assert!(!debts.may_wait(1, longest, now));
        assert!(debts.may_wait(2, longest, now), "others have theirs");
        assert!(debts.may_wait(1, Duration::ZERO, now), "no bound");
        let mut waited = Duration::ZERO;
        let mut later = now;
        while later < now + Duration::from_secs(60) {
            later += Duration::from_millis(10);
            if debts.may_wait(1, longest, later) {
                waited += Duration::from_millis(20);
                later += Duration::from_millis(20);
                debts.waited_in_vain(1, Duration::from_millis(20), later);
            }
        }
        assert!(waited > Duration::from_secs(5) && waited < Duration::from_secs(7), "{waited:?}");
    }

    #[test]
    fn all_networks_together_leave_the_broker_half_of_its_time() {
        let (now, longest) = (Instant::now(), Duration::from_millis(500));
        let mut debts = Debts::new(now);
        let (mut waited, mut later) = (Duration::ZERO, now);
        for network in 0..20_000 {
            if debts.may_wait(network, longest, later) {
                waited += Duration::from_millis(100);
                later += Duration::from_millis(100);
                debts.waited_in_vain(network, Duration::from_millis(100), later);
            } else {
                later += Duration::from_millis(10);
            }
        }
        let all = later - now;
        assert!(waited < all * 6 / 10, "{waited:?} of {all:?}");
        assert_eq!(debts.by_network.len(), NETWORKS.get());
    }
}
