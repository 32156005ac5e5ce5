//! Slows down who keeps trying wrong passwords: each try parks a client id or costs the API a question, and
//! while an id is parked its owner cannot connect.
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::config::{CountBy, ThrottleLimits};
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter};
use crate::util::{Lock, bounded};

/// Who is counted and how many credentials are known to be good, each; the longest unused go first.
const BOUND: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// How long tries that were asked about ahead count as open.
const AHEAD: Duration = Duration::from_secs(2);

/// How long credentials that were let in are exempt: long enough for a device that connects once a day.
const EXEMPT: Duration = Duration::from_secs(24 * 3600);

/// Somebody who tries to log in.
#[derive(Debug, Clone, Copy)]
pub struct Try<'a> {
    /// From where, where that is known.
    pub address: Option<&'a str>,
    /// Under which name.
    pub username: &'a str,
    /// With which username and password.
    pub credentials: Fingerprint,
}

/// Counts refusals and remembers who need not be counted.
pub struct Throttle {
    keys: Fingerprinter,
    state: Lock<State>,
}

struct State {
    counts: LruCache<Fingerprint, Count, AlreadyHashed>,
    /// Names under which somebody is being throttled, and until when.
    held_names: LruCache<Fingerprint, Instant, AlreadyHashed>,
    /// Tries that were asked about ahead of late, and since when.
    ahead: LruCache<Fingerprint, (usize, Instant), AlreadyHashed>,
    /// Credentials that were let in, and when.
    good: LruCache<Fingerprint, Instant, AlreadyHashed>,
}

struct Count {
    refusals: usize,
    until: Instant,
}

impl Throttle {
    /// A throttle that nobody has touched yet.
    pub fn new(keys: Fingerprinter) -> Self {
        let state = State {
            counts: bounded(BOUND),
            held_names: bounded(BOUND),
            ahead: bounded(BOUND),
            good: bounded(BOUND),
        };
        Self { keys, state: Lock::new(state) }
    }

    /// How long this client has to wait before it may try again; zero: it may now. Credentials that were
    /// good within a day may always: whoever attacks an account must not keep its owner out.
    pub fn pause(&self, attempt: &Try<'_>, settings: &ThrottleLimits, now: Instant) -> Duration {
        if settings.after == 0 {
            return Duration::ZERO;
        }
        let mut state = self.state.lock();
        let Some(count) = state.counts.get(&self.key(attempt, settings)) else { return Duration::ZERO };
        let left = count.until.saturating_duration_since(now);
        let exempt = |since: &Instant| now.saturating_duration_since(*since) < EXEMPT;
        let is_good = state.good.get(&attempt.credentials).is_some_and(exempt);
        if is_good { Duration::ZERO } else { left }
    }

    /// Whether somebody is being throttled under this name, from wherever; for questions that are asked ahead,
    /// when it is not known from where.
    pub fn holds_name(&self, attempt: &Try<'_>, settings: &ThrottleLimits, now: Instant) -> bool {
        let state = self.state.lock();
        let held =
            state.held_names.peek(&self.keys.fields(Domain::AccountName, [attempt.username.as_bytes()]));
        settings.after > 0
            && held.is_some_and(|until| now < *until)
            && !state.good.contains(&attempt.credentials)
    }

    /// Whether one more try may be asked about ahead: no more at a time than would be tried one by one before
    /// the first pause, since how they end is only counted when the broker comes to them.
    pub fn takes_one_ahead(&self, attempt: &Try<'_>, settings: &ThrottleLimits, now: Instant) -> bool {
        if settings.after == 0 {
            return true;
        }
        let key = self.key(attempt, settings);
        let mut state = self.state.lock();
        if state.good.contains(&attempt.credentials) {
            return true;
        }
        let refusals = state.counts.peek(&key).map_or(0, |count| count.refusals);
        let (tries, since) = state.ahead.get_or_insert_mut(key, || (0, now));
        if now.saturating_duration_since(*since) >= AHEAD {
            (*tries, *since) = (0, now);
        }
        let takes = *tries + refusals < settings.after;
        *tries += usize::from(takes);
        takes
    }

    /// Counts a wrong password.
    pub fn refused(&self, attempt: &Try<'_>, settings: &ThrottleLimits, now: Instant) {
        let mut state = self.state.lock();
        state.good.pop(&attempt.credentials);
        if settings.after == 0 {
            return;
        }
        let key = self.key(attempt, settings);
        let count = state.counts.get_or_insert_mut(key, || Count { refusals: 0, until: now });
        // Who has been quiet for twice the longest pause starts anew.
        if now.saturating_duration_since(count.until) > 2 * settings.longest {
            count.refusals = 0;
        }
        count.refusals += 1;
        count.until = now;
        if let Some(doublings) = count.refusals.checked_sub(settings.after) {
            let factor = 1u32.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
            count.until += settings.pause.saturating_mul(factor).min(settings.longest);
            let until = count.until;
            state.held_names.put(self.keys.fields(Domain::AccountName, [attempt.username.as_bytes()]), until);
        }
    }

    /// Notes credentials that were good. What was counted stays: whoever attacks the account has not become
    /// better by its owner's coming.
    pub fn let_in(&self, attempt: &Try<'_>, now: Instant) {
        self.state.lock().good.put(attempt.credentials, now);
    }

    fn key(&self, attempt: &Try<'_>, settings: &ThrottleLimits) -> Fingerprint {
        let network = network(attempt.address.unwrap_or_default());
        let username = attempt.username.as_bytes();
        match settings.count_by {
            CountBy::AddressAndUsername => self.keys.fields(Domain::Account, [network.as_bytes(), username]),
            CountBy::Address => self.keys.fields(Domain::Network, [network.as_bytes()]),
        }
    }
}

/// An address as it is counted: of IPv6 the first 64 bits, since a single customer has all the rest.
fn network(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
            Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).to_string()
        }
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ThrottleLimits = ThrottleLimits {
        after: 3,
        pause: Duration::from_secs(1),
        longest: Duration::from_secs(8),
        count_by: CountBy::AddressAndUsername,
    };
    const KEYS: [u8; 16] = [3; 16];
    const HOME: Option<&str> = Some("10.0.0.1");

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn throttle() -> Throttle {
        Throttle::new(Fingerprinter::with_key(&KEYS))
    }

    fn attempt<'a>(address: Option<&'a str>, username: &'a str, password: &str) -> Try<'a> {
        let credentials = Fingerprinter::with_key(&KEYS).fields(Domain::Credentials, [password.as_bytes()]);
        Try { address, username, credentials }
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let throttle = throttle();
        let mut now = Instant::now();
        let wrong = attempt(HOME, "u", "wrong");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            throttle.refused(&wrong, &SETTINGS, now);
            let pause = throttle.pause(&wrong, &SETTINGS, now);
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 8, 8]);
        for other in [attempt(Some("10.0.0.2"), "u", "wrong"), attempt(HOME, "v", "wrong")] {
            assert_eq!(throttle.pause(&other, &SETTINGS, now), Duration::ZERO);
        }
        now += seconds(100);
        throttle.refused(&wrong, &SETTINGS, now);
        assert_eq!(throttle.pause(&wrong, &SETTINGS, now), Duration::ZERO);
    }

    #[test]
    fn the_owner_is_never_kept_out() {
        let throttle = throttle();
        let now = Instant::now();
        let (right, wrong) = (attempt(HOME, "u", "right"), attempt(HOME, "u", "wrong"));
        throttle.let_in(&right, now);
        for _ in 0..10 {
            throttle.refused(&wrong, &SETTINGS, now);
        }
        assert_eq!(throttle.pause(&right, &SETTINGS, now), Duration::ZERO);
        assert_eq!(throttle.pause(&wrong, &SETTINGS, now), seconds(8));
        // Until the API no longer wants these credentials.
        throttle.refused(&right, &SETTINGS, now);
        assert_eq!(throttle.pause(&right, &SETTINGS, now), seconds(8));
    }

    #[test]
    fn an_address_alone_counts_all_its_names_and_ipv6_by_its_network() {
        let throttle = throttle();
        let settings = ThrottleLimits { count_by: CountBy::Address, ..SETTINGS };
        let now = Instant::now();
        for (name, address) in [("a", "2001:db8::1"), ("b", "2001:db8::2"), ("c", "2001:db8::3")] {
            throttle.refused(&attempt(Some(address), name, "wrong"), &settings, now);
        }
        let pause = |address| throttle.pause(&attempt(Some(address), "d", "x"), &settings, now);
        assert_eq!(pause("2001:db8::4"), seconds(1));
        assert_eq!(pause("2001:db8:0:1::4"), Duration::ZERO);
    }

    #[test]
    fn no_brake_no_pause() {
        let throttle = throttle();
        let settings = ThrottleLimits { after: 0, ..SETTINGS };
        let now = Instant::now();
        let wrong = attempt(HOME, "u", "wrong");
        for _ in 0..100 {
            throttle.refused(&wrong, &settings, now);
        }
        assert_eq!(throttle.pause(&wrong, &settings, now), Duration::ZERO);
    }
}
