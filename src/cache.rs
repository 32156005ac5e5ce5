//! Verdicts that are remembered for a time: two LRU lists, one for allows and one for denies.
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::question::Verdict;

/// Ticks of the cache's clock per second. An entry counts time in 32 bits of these (eight years of
/// uptime; at the end of time nothing is remembered any more), which keeps it at 24 bytes.
const TICKS_PER_SECOND: u64 = 16;

/// Verdicts that were asked for ahead and not used yet may always take one part in so many of the bound.
const UNUSED_SHARE: usize = 4;

/// A remembered verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// What the API decided.
    pub verdict: Verdict,
    /// The HTTP status it decided with.
    pub status: u16,
    /// An allow in the last fifth of its time, seen there for the first time: ask again now, and the
    /// client never has to wait.
    pub refresh: bool,
    /// The verdict was asked for ahead, and this is its first use.
    pub is_first_use: bool,
}

/// A verdict to remember.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// What the API decided.
    pub verdict: Verdict,
    /// The HTTP status it decided with.
    pub status: u16,
    /// When the question was sent.
    pub since: Instant,
    /// How long it holds from then on.
    pub lifetime: Duration,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The tick at which the verdict ends.
    ends: u32,
    /// How many ticks before that it is asked again; 0 once it was. Saturates for lives over 5 hours.
    refresh_margin: u16,
    status: u16,
}

type Lru = LruCache<Fingerprint, Entry, AlreadyHashed>;

/// Verdicts by fingerprint, least recently used out first, each for its own time.
///
/// Allows and denies have separate lists of the same bound, so that a flood of refused logins cannot
/// push out what good clients rely on. A fingerprint is in one of them at most.
pub struct Cache {
    /// How many entries each of the two lists may hold.
    bound: usize,
    /// How many ticks past its end an allow may still serve where there is no answer.
    stale_ticks: u32,
    started: Instant,
    allows: Lru,
    denies: Lru,
    /// Verdicts that were asked for ahead and not used yet: a smaller list of their own, so that guesses push
    /// out nothing that is in use.
    unused: LruCache<Fingerprint, (Verdict, Entry), AlreadyHashed>,
}

impl Cache {
    /// An empty cache for at most `bound` allows and as many denies. Memory is taken as it fills. Allows are
    /// kept for `stale` longer than they hold.
    pub fn new(bound: usize, stale: Duration, now: Instant) -> Self {
        let list = || LruCache::unbounded_with_hasher(AlreadyHashed::default());
        Self {
            bound,
            stale_ticks: in_ticks(stale),
            started: now,
            allows: list(),
            denies: list(),
            unused: LruCache::unbounded_with_hasher(AlreadyHashed::default()),
        }
    }

    /// Changes the bound and how long allows are kept past their time.
    pub fn configure(&mut self, bound: usize, stale: Duration) {
        self.bound = bound;
        self.stale_ticks = in_ticks(stale);
        for list in [&mut self.allows, &mut self.denies] {
            while list.len() > bound {
                list.pop_lru();
            }
        }
        while self.unused.len() > self.unused_bound() {
            self.unused.pop_lru();
        }
    }

    /// Remembers a verdict, replacing whatever was remembered for that fingerprint. A lifetime of zero only
    /// forgets.
    pub fn insert(&mut self, key: Fingerprint, fresh: Fresh) {
        self.forget(key);
        if let Some(entry) = self.entry(fresh) {
            self.put(key, fresh.verdict, entry);
        }
    }

    /// The same for a verdict that was asked for ahead: it takes its place among the others when it is first
    /// used. Until then it has a share of its own, and what room is free: that of the verdict it renews, say.
    pub fn insert_unused(&mut self, key: Fingerprint, fresh: Fresh) {
        self.forget(key);
        let bound = self.unused_bound();
        if let Some(entry) = self.entry(fresh).filter(|_| bound > 0) {
            if self.unused.len() >= bound {
                self.unused.pop_lru();
            }
            self.unused.put(key, (fresh.verdict, entry));
        }
    }

    fn unused_bound(&self) -> usize {
        (self.bound / UNUSED_SHARE).max(self.bound.saturating_sub(self.allows.len()))
    }

    /// An entry, or `None` where nothing is to be remembered.
    fn entry(&self, fresh: Fresh) -> Option<Entry> {
        let Fresh { verdict, status, since, lifetime } = fresh;
        let ticks = in_ticks(lifetime);
        (ticks > 0 && self.bound > 0).then(|| Entry {
            // Rounded down at both ends: a verdict may end early by two ticks, never late.
            ends: self.tick(since).saturating_add(ticks),
            refresh_margin: match verdict {
                Verdict::Allow => u16::try_from(ticks / 5).unwrap_or(u16::MAX),
                Verdict::Deny => 0,
            },
            status,
        })
    }

    fn put(&mut self, key: Fingerprint, verdict: Verdict, entry: Entry) {
        let list = match verdict {
            Verdict::Allow => &mut self.allows,
            Verdict::Deny => &mut self.denies,
        };
        if list.len() >= self.bound {
            list.pop_lru();
        }
        list.put(key, entry);
        if self.unused.len() > self.unused_bound() {
            self.unused.pop_lru();
        }
    }

    /// The verdict for a fingerprint, if it still holds.
    pub fn get(&mut self, key: Fingerprint, now: Instant) -> Option<Hit> {
        let tick = self.tick(now);
        if let Some(entry) = self.allows.get_mut(&key) {
            if tick >= entry.ends {
                if tick >= entry.ends.saturating_add(self.stale_ticks) {
                    self.allows.pop(&key);
                }
                return None;
            }
            let refresh = entry.ends - tick <= u32::from(entry.refresh_margin);
            if refresh {
                entry.refresh_margin = 0;
            }
            let status = entry.status;
            return Some(Hit { verdict: Verdict::Allow, status, refresh, is_first_use: false });
        }
        let (verdict, entry, is_first_use) = match self.denies.get(&key) {
            Some(entry) => (Verdict::Deny, *entry, false),
            None => self.unused.pop(&key).map(|(verdict, entry)| (verdict, entry, true))?,
        };
        let is_stale = verdict == Verdict::Allow && tick < entry.ends.saturating_add(self.stale_ticks);
        if is_first_use && (tick < entry.ends || is_stale) {
            self.put(key, verdict, entry);
        }
        if tick >= entry.ends {
            self.denies.pop(&key);
            return None;
        }
        Some(Hit { verdict, status: entry.status, refresh: false, is_first_use })
    }

    /// The verdict for a fingerprint, if it still holds, without counting as a use.
    pub fn peek(&self, key: Fingerprint, now: Instant) -> Option<Verdict> {
        let holds = |entry: &&Entry| self.tick(now) < entry.ends;
        let allow = self.allows.peek(&key).filter(holds).map(|_| Verdict::Allow);
        let deny = || self.denies.peek(&key).filter(holds).map(|_| Verdict::Deny);
        let unused =
            || self.unused.peek(&key).filter(|(_, entry)| holds(&entry)).map(|(verdict, _)| *verdict);
        allow.or_else(deny).or_else(unused)
    }

    /// Whether there is an allow that may serve while there is no answer, past its time if need be.
    pub fn has_stale_allow(&self, key: Fingerprint, now: Instant) -> bool {
        let tick = self.tick(now);
        self.allows.peek(&key).is_some_and(|entry| tick < entry.ends.saturating_add(self.stale_ticks))
    }

    /// Forgets one verdict.
    pub fn forget(&mut self, key: Fingerprint) {
        self.allows.pop(&key);
        self.denies.pop(&key);
        self.unused.pop(&key);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.allows.clear();
        self.denies.clear();
        self.unused.clear();
    }

    /// How many verdicts are held, ended ones that nobody asked for since included.
    pub fn len(&self) -> usize {
        self.allows.len() + self.denies.len() + self.unused.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn tick(&self, at: Instant) -> u32 {
        in_ticks(at.saturating_duration_since(self.started))
    }
}

fn in_ticks(time: Duration) -> u32 {
    let fraction = u64::from(time.subsec_nanos()) * TICKS_PER_SECOND / 1_000_000_000;
    u32::try_from(time.as_secs().saturating_mul(TICKS_PER_SECOND).saturating_add(fraction))
        .unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::{Domain, Fingerprinter};
    use proptest::prelude::*;

    fn key(n: u8) -> Fingerprint {
        Fingerprinter::with_key(&[7; 16]).fields(Domain::Client, [&[n]])
    }

    fn fresh(verdict: Verdict, since: Instant, lifetime: Duration) -> Fresh {
        let status = if verdict == Verdict::Allow { 200 } else { 403 };
        Fresh { verdict, status, since, lifetime }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<(Fingerprint, Entry)>(), 24);
    }

    #[test]
    fn a_verdict_ends_with_its_time_counted_from_sending() {
        let start = Instant::now();
        let mut cache = Cache::new(10, Duration::ZERO, start);
        cache.insert(key(1), fresh(Verdict::Allow, start, seconds(10)));
        let hit = Hit { verdict: Verdict::Allow, status: 200, refresh: false, is_first_use: false };
        assert_eq!(cache.get(key(1), start + seconds(5)), Some(hit));
        assert_eq!(cache.get(key(1), start + seconds(10)), None);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn an_allow_asks_for_its_refresh_once_and_a_deny_never() {
        let start = Instant::now();
        let mut cache = Cache::new(10, Duration::ZERO, start);
        cache.insert(key(1), fresh(Verdict::Allow, start, seconds(10)));
        cache.insert(key(2), fresh(Verdict::Deny, start, seconds(10)));
        let mut refresh = |n, at| cache.get(key(n), start + seconds(at)).map(|hit| hit.refresh);
        assert_eq!(refresh(1, 7), Some(false));
        assert_eq!(refresh(1, 9), Some(true));
        assert_eq!(refresh(1, 9), Some(false));
        assert_eq!(refresh(2, 9), Some(false));
    }

    #[test]
    fn an_allow_may_serve_past_its_time_until_a_deny_ends_it() {
        let start = Instant::now();
        let mut cache = Cache::new(10, seconds(20), start);
        cache.insert(key(1), fresh(Verdict::Allow, start, seconds(10)));
        cache.insert(key(2), fresh(Verdict::Deny, start, seconds(10)));
        let later = start + seconds(15);
        assert_eq!(cache.get(key(1), later), None);
        assert_eq!(cache.get(key(2), later), None);
        assert!(cache.has_stale_allow(key(1), later));
        assert!(!cache.has_stale_allow(key(2), later));
        assert!(!cache.has_stale_allow(key(1), start + seconds(30)));
        cache.insert(key(1), fresh(Verdict::Deny, later, seconds(5)));
        assert!(!cache.has_stale_allow(key(1), later));
        cache.insert(key(1), fresh(Verdict::Deny, later, seconds(0)));
        assert!(!cache.has_stale_allow(key(1), later));
    }

    #[test]
    fn guesses_push_out_nothing_until_they_are_used() {
        let start = Instant::now();
        let mut cache = Cache::new(8, Duration::ZERO, start);
        for n in 0..8 {
            cache.insert(key(n), fresh(Verdict::Allow, start, seconds(10)));
        }
        for n in 100..200 {
            cache.insert_unused(key(n), fresh(Verdict::Allow, start, seconds(10)));
        }
        assert_eq!(cache.len(), 8 + 8 / UNUSED_SHARE);
        assert!((0..8).all(|n| cache.get(key(n), start).is_some()));
        assert_eq!(cache.get(key(199), start).map(|hit| hit.is_first_use), Some(true));
        assert_eq!(cache.get(key(199), start).map(|hit| hit.is_first_use), Some(false));
        assert_eq!(cache.get(key(0), start), None);
    }

    #[test]
    fn what_is_asked_ahead_takes_free_room_until_others_need_it() {
        let start = Instant::now();
        let mut cache = Cache::new(8, Duration::ZERO, start);
        for n in 100..200 {
            cache.insert_unused(key(n), fresh(Verdict::Allow, start, seconds(10)));
        }
        assert_eq!(cache.len(), 8);
        for n in 0..8 {
            cache.insert(key(n), fresh(Verdict::Allow, start, seconds(10)));
        }
        assert_eq!(cache.len(), 8 + 8 / UNUSED_SHARE);
        assert!((0..8).all(|n| cache.get(key(n), start).is_some()));
    }

    #[test]
    fn a_verdict_that_was_renewed_ahead_is_unused_until_it_is_used() {
        let start = Instant::now();
        let later = start + seconds(20);
        let mut cache = Cache::new(8, seconds(60), start);
        cache.insert(key(1), fresh(Verdict::Allow, start, seconds(10)));
        cache.insert_unused(key(1), fresh(Verdict::Allow, later, seconds(10)));
        assert_eq!(cache.get(key(1), later).map(|hit| hit.is_first_use), Some(true));
        assert_eq!(cache.get(key(1), later).map(|hit| hit.is_first_use), Some(false));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_flood_of_denies_leaves_the_allows_alone() {
        let start = Instant::now();
        let mut cache = Cache::new(2, Duration::ZERO, start);
        cache.insert(key(1), fresh(Verdict::Allow, start, seconds(10)));
        for n in 2..200 {
            cache.insert(key(n), fresh(Verdict::Deny, start, seconds(10)));
        }
        assert!(cache.get(key(1), start).is_some());
        assert_eq!(cache.len(), 3);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, bool, u64),
        Get(u8),
        Forget(u8),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..12u8, any::<bool>(), 0..8u64).prop_map(|(k, allow, life)| Step::Insert(k, allow, life)),
            (0..12u8).prop_map(Step::Get),
            (0..12u8).prop_map(Step::Forget),
            (0..3u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// The plain model: a list in order of use, newest last, cut at the bound.
        #[test]
        fn behaves_like_a_plain_list(steps in prop::collection::vec(step(), 0..200), bound in 0..6usize) {
            let start = Instant::now();
            let mut now = start;
            let mut cache = Cache::new(bound, Duration::ZERO, start);
            let mut model: Vec<(u8, Verdict, Instant)> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(k, allow, life) => {
                        let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
                        cache.insert(key(k), fresh(verdict, now, seconds(life)));
                        model.retain(|entry| entry.0 != k);
                        if life > 0 && bound > 0 {
                            if model.iter().filter(|entry| entry.1 == verdict).count() == bound
                                && let Some(oldest) = model.iter().position(|entry| entry.1 == verdict)
                            {
                                model.remove(oldest);
                            }
                            model.push((k, verdict, now + seconds(life)));
                        }
                    }
                    Step::Get(k) => {
                        let found = model.iter().position(|entry| entry.0 == k).map(|i| model.remove(i));
                        let expected = found.filter(|entry| now < entry.2);
                        model.extend(expected);
                        prop_assert_eq!(
                            cache.get(key(k), now).map(|hit| hit.verdict),
                            expected.map(|entry| entry.1)
                        );
                    }
                    Step::Forget(k) => {
                        cache.forget(key(k));
                        model.retain(|entry| entry.0 != k);
                    }
                    Step::Wait(n) => now += seconds(n),
                }
                prop_assert_eq!(cache.len(), model.len());
            }
        }
    }
}
