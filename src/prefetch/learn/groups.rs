//! All groups, within a bound.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::group::{Group, GroupKind};
use super::pattern;
use super::shape::Alike;
use crate::fingerprint::{AlreadyHashed, Fingerprint, Source};
use crate::question::Access;
use crate::util::fair::{self, FairQueue, Handle};

/// What all groups may cost, in bytes: some 15,000 with a few templates each. Most are those of single clients, which
/// take turns when there is no room; a fleet of any size is one group. Where there is no room, the network that has most
/// gives up its newest, unless somebody's was not used for [`LONG`].
const BOUND: usize = 32 << 20;

/// Groups that were not used for so long make room for others.
const LONG: Duration = Duration::from_secs(60 * 60);

/// How often it is noted that a group is in use.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

struct Entry {
    group: Group,
    /// Who was the first in it.
    source: Source,
    handle: Handle,
    /// When it was last noted that it is in use.
    touched: Instant,
}

/// The groups, by their keys.
pub struct Groups {
    by_key: HashMap<Fingerprint, Entry, AlreadyHashed>,
    /// The keys of those of clients whose names look alike, by their numbers.
    alike: BTreeMap<u64, Fingerprint>,
    order: FairQueue<Fingerprint>,
    bound: usize,
}

impl Default for Groups {
    fn default() -> Self {
        Self::bounded(BOUND)
    }
}

impl Groups {
    /// None yet, for so many bytes.
    pub fn bounded(bound: usize) -> Self {
        Self { by_key: HashMap::default(), alike: BTreeMap::new(), order: FairQueue::new(bound), bound }
    }

    /// A group.
    pub fn get(&mut self, key: Fingerprint) -> Option<&mut Group> {
        self.by_key.get_mut(&key).map(|entry| &mut entry.group)
    }

    /// A group, if it is still the one of this number.
    pub fn get_numbered(&mut self, key: Fingerprint, number: u64) -> Option<&mut Group> {
        self.get(key).filter(|group| group.number == number)
    }

    /// Whether there is such a group.
    pub fn has(&self, key: Fingerprint) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Adds a group that somebody of this source is the first in. There may be no room for it.
    pub fn add(&mut self, key: Fingerprint, group: Group, source: Source, now: Instant) {
        if group.alike().is_some() {
            self.alike.insert(group.number, key);
        }
        let handle = self.order.push(source.into(), 0, key, now).0;
        self.by_key.insert(key, Entry { group, source, handle, touched: now });
        self.has_grown(key, now);
    }

    /// Notes that a group is in use.
    pub fn touch(&mut self, key: Fingerprint, now: Instant) {
        let is_due = |entry: &Entry| now.saturating_duration_since(entry.touched) > TOUCH_EVERY;
        if self.by_key.get(&key).is_some_and(is_due) {
            self.has_grown(key, now);
        }
    }

    /// Notes what a group takes now. Others make room, or it does itself.
    pub fn has_grown(&mut self, key: Fingerprint, now: Instant) {
        let Some(entry) = self.by_key.get(&key) else { return };
        self.order.remove(entry.handle);
        let bytes = entry.group.bytes() + fair::OVERHEAD;
        while self.order.bytes() + bytes > self.bound
            && let Some((oldest, since)) = self.order.oldest()
            && now.saturating_duration_since(since) > LONG
            && let Some(gone) = self.order.remove(oldest)
        {
            self.remove(gone);
        }
        let Some(entry) = self.by_key.get_mut(&key) else { return };
        entry.touched = now;
        let (handle, gone) = self.order.push(entry.source.into(), bytes, key, now);
        entry.handle = handle;
        gone.into_iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: Fingerprint) {
        if let Some(Entry { group, .. }) = self.by_key.remove(&key) {
            self.alike.remove(&group.number);
        }
    }

    /// The groups of clients whose names look alike, behind that of a number.
    pub fn alike_behind(&self, number: u64) -> impl Iterator<Item = (&Alike, &Group)> {
        self.alike.range(number + 1..).filter_map(|(_, key)| {
            let group = &self.by_key.get(key)?.group;
            Some((group.alike()?, group))
        })
    }

    /// How many numbers of clients the group with most of them keeps.
    #[cfg(test)]
    pub fn longest(&self) -> usize {
        self.by_key.values().map(|entry| entry.group.present()).max().unwrap_or_default()
    }

    /// Fails if more is kept than there is room for.
    #[cfg(test)]
    pub fn assert_bounded(&self) {
        let taken: usize = self.by_key.values().map(|entry| entry.group.bytes() + fair::OVERHEAD).sum();
        assert_eq!(self.alike_behind(0).count(), self.alike.len());
        assert!(taken <= self.bound && taken == self.order.bytes(), "{taken} and {}", self.order.bytes());
    }

    /// What was learnt of clients whose names look alike.
    pub fn learnt(&self) -> Learnt {
        let kinds =
            self.by_key.values().map(|entry| &entry.group).filter(|group| group.kind() == GroupKind::Many);
        let good = kinds.flat_map(|group| {
            let templates = group.templates().iter().enumerate();
            templates.filter(|(slot, _)| group.is_good(*slot)).map(|(_, template)| template)
        });
        Learnt(good.map(|it| (it.times, it.access, it.pattern.clone())).collect())
    }
}

/// A copy of what was learnt: how often it was asked, and what. It is made into text while nobody waits for the learner.
pub struct Learnt(Vec<(u32, Access, Box<str>)>);

impl Learnt {
    /// Values of `acl_prefetch`, what is asked most first.
    pub fn lines(self) -> Vec<String> {
        let mut lines: HashMap<String, u32> = HashMap::new();
        for (times, access, pattern) in self.0 {
            if let Some(line) = pattern::line(access, &pattern) {
                let most = lines.entry(line).or_default();
                *most = times.max(*most);
            }
        }
        let mut lines: Vec<_> = lines.into_iter().map(|(line, times)| (Reverse(times), line)).collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }
}
