//! Pauses that the API asks for (429). Many APIs count logins by account, and say it to whoever tries that one too often: it
//! must not take the API from all others. So it is about whom it is said to, until it is said to others as well.
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::{AskedFor, Extent, Level, RECENTLY};
use crate::ask::http::known_names::KnownNames;

/// The longest that `Retry-After` is heeded: one careless answer must not close the door for an hour.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause after a 429 that asks for no certain time, and the shortest pause after any: each is a line in the log.
const SHORTEST: Duration = Duration::from_secs(1);

/// How many parties are known that it was said to. The oldest go first, and are asked for again.
const PARTIES: usize = 64;

/// Whose questions are not asked for a while, since the API wants it so.
#[derive(Default)]
pub(super) struct Pauses {
    /// The parties that it was said to of late, each once.
    told: VecDeque<PausedParty>,
    /// Until when questions of more than these are not asked, and of whom.
    common: Option<(Instant, Extent)>,
}

struct PausedParty {
    at: Instant,
    party: AskedFor,
    until: Instant,
}

/// The API is left alone from now on, as it wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paused {
    /// For how long.
    pub pause: Duration,
    /// By whom.
    pub by: PausedBy,
}

/// Whose questions are not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PausedBy {
    /// Those of the party that it was said to.
    OneParty,
    /// Those of usernames that the API has allowed nothing.
    Strangers,
    /// All of one network.
    Network,
    /// All.
    Everybody,
}

impl Paused {
    /// What the log says of it.
    pub fn line(&self, url: &str) -> String {
        let pause = self.pause;
        match self.by {
            PausedBy::OneParty => format!(
                "The API at {url} answered 429 (too many requests) to one client: it is not asked for that one for \
                 {pause:?}."
            ),
            PausedBy::Strangers => format!(
                "The API at {url} answered 429 (too many requests) to several clients: it is left alone for {pause:?}, but \
                 usernames that it has allowed something before are still asked about."
            ),
            PausedBy::Network => format!(
                "The API at {url} answered 429 (too many requests) to several clients: it is left alone for {pause:?} by \
                 clients of their address."
            ),
            PausedBy::Everybody => format!(
                "The API at {url} answered 429 (too many requests) to several clients: it is left alone for {pause:?}."
            ),
        }
    }
}

impl Pauses {
    /// Whether nobody's questions are held back.
    pub(super) fn are_over(&self, now: Instant) -> bool {
        self.common(now).is_none() && self.told.iter().all(|told| told.until <= now)
    }

    /// Whether questions of this party are held back.
    pub(super) fn are_for(&self, party: AskedFor, known: &KnownNames, now: Instant) -> bool {
        self.common(now).is_some_and(|extent| extent.includes(party.source, known))
            || self.told.iter().any(|told| told.party == party && now < told.until)
    }

    /// Whose questions are held back besides those of the parties that it was said to.
    pub(super) fn common(&self, now: Instant) -> Option<&Extent> {
        self.common.as_ref().filter(|(until, _)| now < *until).map(|(_, extent)| extent)
    }

    pub(super) fn was_told(&self, party: AskedFor) -> bool {
        self.told.iter().any(|told| told.party == party)
    }

    /// The API says to a party that it wants to be left alone, maybe for a certain time. Returns for how long it will be.
    pub(super) fn tell(&mut self, party: AskedFor, retry_after: Option<Duration>, now: Instant) -> Duration {
        let pause = retry_after.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST);
        let is_recent = |told: &PausedParty| now.saturating_duration_since(told.at) <= RECENTLY;
        // One that was under way does not shorten a longer pause.
        let mut until = now + pause;
        self.told.retain(|told| {
            if told.party == party {
                until = until.max(told.until);
            }
            told.party != party && is_recent(told)
        });
        if self.told.len() >= PARTIES {
            self.told.pop_front();
        }
        self.told.push_back(PausedParty { at: now, party, until });
        pause
    }

    /// Finds out whether what was said to some is about more than these, as silence is: others of the last questions were
    /// `answered`, and of them all this percentage was not. Returns by whom it is left alone from now on, if that is news.
    pub(super) fn spread(
        &mut self,
        (party, pause): (AskedFor, Duration),
        (answered, percent): (usize, usize),
        has_several_networks: bool,
        known: &KnownNames,
        now: Instant,
    ) -> Option<PausedBy> {
        let is_elsewhere = |told: &PausedParty| told.party.source.network != party.source.network;
        let has_several_networks = has_several_networks || self.told.iter().any(is_elsewhere);
        // Where all come from one network, as through a proxy, names are counted.
        let level = if has_several_networks { Level::Network } else { Level::Username };
        let is_common = |is_meant: &dyn Fn(u64) -> bool| {
            let meant =
                self.told.iter().map(|told| told.party).filter(|party| is_meant(party.source.username));
            let count = meant.map(|party| party.on(level)).collect::<HashSet<_>>().len();
            count >= 2 && count * 100 >= (count + answered) * percent
        };
        let is_to_known = is_common(&|name| known.contains(name));
        let before = self.common.filter(|(until, _)| now < *until);
        if !is_to_known && !is_common(&|_| true) {
            let is_included = before.is_some_and(|(_, extent)| extent.includes(party.source, known));
            return (!is_included).then_some(PausedBy::OneParty);
        }
        let only_network = (!has_several_networks).then_some(party.source.network);
        let mut extent = Extent { only_network, only_strangers: !is_to_known };
        if let Some((_, before)) = before {
            extent.only_network = extent.only_network.filter(|_| before.only_network == only_network);
            extent.only_strangers &= before.only_strangers;
        }
        let until = before.map_or(now, |(until, _)| until).max(now + pause);
        self.common = Some((until, extent));
        let by = match extent.only_network {
            _ if extent.spares_known(known) => PausedBy::Strangers,
            Some(_) => PausedBy::Network,
            None => PausedBy::Everybody,
        };
        before.is_none_or(|(_, before)| before != extent).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::http::breaker::{Admission, Breaker};
    use crate::config::BreakerLimits;
    use crate::fingerprint::Source;

    /// A breaker of an API that has allowed the names from 1 to 10 something just now, each from a network of its own.
    fn with_known(now: Instant) -> Breaker {
        let second = Duration::from_secs(1);
        let settings = BreakerLimits { after: 5, percent: 25, pause: second, longest: second };
        let breaker = Breaker::new(settings, std::sync::Arc::default());
        for n in 1..=10 {
            breaker.known.note(n);
            breaker.answered(party(n), now, now);
        }
        breaker
    }

    /// A client with a network, a name and a client id of its own.
    fn party(n: u64) -> AskedFor {
        from(n, n, n)
    }

    /// A client of its own, of this username from this network.
    fn from(network: u64, username: u64, client: u64) -> AskedFor {
        AskedFor { source: Source { network, username }, client }
    }

    fn told(breaker: &Breaker, party: AskedFor, now: Instant) -> Option<PausedBy> {
        breaker.answered(party, now, now);
        breaker.back_off(party, Some(Duration::from_secs(20)), now).map(|paused| paused.by)
    }

    fn is_asked(breaker: &Breaker, party: AskedFor, now: Instant) -> bool {
        breaker.admit(party, now) == Admission::Ask
    }

    #[test]
    fn what_is_said_to_one_is_about_that_one() {
        let now = Instant::now();
        let breaker = with_known(now);
        // Also as often as it likes, and under any number of client ids and other names of its network: in the end the
        // network is left out.
        let by: Vec<_> = (0..100).filter_map(|n| told(&breaker, from(1, 1 + n % 9, n), now)).collect();
        assert_eq!((by[0], by.last()), (PausedBy::OneParty, Some(&PausedBy::Network)));
        assert!(!by.contains(&PausedBy::Everybody) && !is_asked(&breaker, from(1, 1, 99), now));
        assert!((2..10).all(|n| is_asked(&breaker, party(n), now)));
        assert!(!breaker.refuses_all(now));
        let over = now + Duration::from_secs(20);
        assert!(is_asked(&breaker, from(1, 1, 99), over));
    }

    #[test]
    fn what_is_said_to_many_is_about_everybody() {
        let now = Instant::now();
        let breaker = with_known(now);
        let by: Vec<_> = (1..=10).filter_map(|n| told(&breaker, party(n), now)).collect();
        let alone = by.iter().filter(|by| **by == PausedBy::OneParty).count();
        assert_eq!((by.len() - alone, by.last()), (1, Some(&PausedBy::Everybody)), "{by:?}");
        assert!(alone < 5 && breaker.is_paused(now) && breaker.refuses_all(now));
        assert!(!is_asked(&breaker, party(77), now));
        let over = now + Duration::from_secs(20);
        assert!(is_asked(&breaker, party(77), over) && !breaker.is_paused(over));
    }

    #[test]
    fn names_and_addresses_that_are_made_up_have_it_left_alone_for_such_names_only() {
        let now = Instant::now();
        for has_own_address in [false, true] {
            let breaker = with_known(now);
            let made_up = |n| from(if has_own_address { n } else { 1 }, n, n);
            let by: Vec<_> = (200..230).filter_map(|n| told(&breaker, made_up(n), now)).collect();
            assert!(!by.contains(&PausedBy::Everybody), "{by:?}");
            assert!(by.contains(&PausedBy::Strangers), "{by:?}");
            assert!(
                (1..10).all(|n| is_asked(&breaker, from(1, n, n), now) && is_asked(&breaker, party(n), now))
            );
            assert!(!is_asked(&breaker, made_up(999), now));
        }
    }

    #[test]
    fn behind_one_address_names_are_counted() {
        let now = Instant::now();
        let breaker = Breaker::new(with_known(now).settings, std::sync::Arc::default());
        assert_eq!(told(&breaker, from(1, 1, 1), now), Some(PausedBy::OneParty));
        assert_eq!(told(&breaker, from(1, 1, 2), now), Some(PausedBy::OneParty), "the same name");
        assert!(is_asked(&breaker, from(1, 2, 3), now));
        assert_eq!(told(&breaker, from(1, 2, 3), now), Some(PausedBy::Network));
        assert_eq!(told(&breaker, from(1, 3, 4), now), None, "it is told once");
        assert!(!is_asked(&breaker, from(1, 5, 5), now) && is_asked(&breaker, from(2, 5, 5), now));
        assert_eq!(told(&breaker, from(2, 5, 5), now), Some(PausedBy::Everybody));
        assert!(!is_asked(&breaker, from(3, 5, 5), now));
    }

    #[test]
    fn it_is_not_left_alone_for_ever() {
        let now = Instant::now();
        let breaker = with_known(now);
        let paused = breaker.back_off(party(1), Some(Duration::from_secs(100_000)), now);
        assert_eq!(paused, Some(Paused { pause: LONGEST, by: PausedBy::OneParty }));
        breaker.back_off(party(1), None, now);
        assert!(!is_asked(&breaker, party(1), now + LONGEST / 2), "a longer pause is not shortened");
        assert!(is_asked(&breaker, party(1), now + LONGEST));
        for n in 1..=10 {
            breaker.back_off(party(n), Some(Duration::MAX), now);
        }
        assert!(
            breaker.refuses(party(77).source, now + LONGEST / 2)
                && is_asked(&breaker, party(77), now + LONGEST)
        );
    }

    #[test]
    fn what_was_said_long_ago_is_forgotten() {
        let mut now = Instant::now();
        let breaker = Breaker::new(with_known(now).settings, std::sync::Arc::default());
        for n in 0..100 {
            assert_eq!(told(&breaker, party(n), now), Some(PausedBy::OneParty));
            now += RECENTLY + SHORTEST;
        }
    }
}
