//! Looks into the cache that change nothing in it.
use std::time::{Duration, Instant};

use super::{Allow, Cache, PartName, TICKS_PER_SECOND};
use crate::fingerprint::Fingerprint;
use crate::question::{Grounds, Verdict};

/// How exactly the times of a [`Remembered`] are told: less than this is cut off.
pub const PRECISION: Duration = Duration::from_micros(1_000_000 / TICKS_PER_SECOND);

/// A remembered verdict as it is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// What the API decided.
    pub verdict: Verdict,
    /// What it said.
    pub grounds: Grounds,
    /// How long ago it was asked.
    pub age: Duration,
    /// How long the verdict holds. Zero if it has ended and serves only while the API gives no answer.
    pub holds: Duration,
    /// How long an allow may serve while the API gives no answer.
    pub serves_stale: Duration,
    /// Whether it was asked for early and not used yet.
    pub is_unused: bool,
}

/// How much is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Allows.
    pub allows: usize,
    /// Denies.
    pub denies: usize,
    /// Verdicts that were asked for early and not used yet.
    pub early: usize,
    /// How many allows may be held, and as many denies.
    pub bound: usize,
    /// How many verdicts were removed to make room, since the start.
    pub evicted: u64,
}

impl Cache {
    /// The verdict for a fingerprint, if it still holds. Does not count as a use of it.
    pub fn peek(&self, key: Fingerprint, now: Instant) -> Option<Verdict> {
        let slot = self.store.at(self.store.find(key)?);
        (self.tick(now) < slot.ends && !self.is_forgotten(slot)).then_some(slot.verdict)
    }

    /// Whether there is an allow that may serve while the API gives no answer, even if it has ended.
    #[cfg(test)]
    pub fn has_stale_allow(&self, key: Fingerprint, now: Instant) -> bool {
        self.stale_allow(key, now).is_some()
    }

    /// How many verdicts are held, including those that have ended and were not removed yet.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether no verdict is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The verdict for a fingerprint, if it may still serve. No use of it, and nothing else changes.
    pub fn look(&self, key: Fingerprint, now: Instant) -> Option<Remembered> {
        let slot = self.store.at(self.store.find(key)?);
        let expires = self.store.attached.peek(slot.terms).and_then(|terms| terms.expires);
        let (tick, end) = (self.tick(now), self.useless_from(slot));
        let end = expires.map_or(end, |expires| end.min(self.tick(expires)));
        if tick >= end || self.is_forgotten(slot) {
            return None;
        }
        let time = |ticks: u32| Duration::from_millis(u64::from(ticks) * 1000 / TICKS_PER_SECOND);
        Some(Remembered {
            verdict: slot.verdict,
            grounds: Grounds::of_number(slot.grounds),
            age: time(tick.saturating_sub(slot.since)),
            holds: time(slot.ends.saturating_sub(tick)),
            serves_stale: if slot.place == PartName::Allows { time(end - tick) } else { Duration::ZERO },
            is_unused: slot.is_unused,
        })
    }

    /// How much is held, what has ended and was not removed yet included.
    pub fn counts(&self) -> Counts {
        let Self { bound, evicted, .. } = *self;
        Counts {
            allows: self.allows.len(),
            denies: self.denies.len(),
            early: self.unused.len() + self.awaited.len(),
            bound,
            evicted,
        }
    }

    /// The allow for a fingerprint, if it still holds. Does not count as a use of it.
    pub fn allow(&self, key: Fingerprint, now: Instant) -> Option<Allow> {
        self.allow_until(key, now, false)
    }

    /// The allow for a fingerprint, also past its end, as long as it may serve while the API gives no answer. Terms that
    /// have an end end it.
    pub fn stale_allow(&self, key: Fingerprint, now: Instant) -> Option<Allow> {
        self.allow_until(key, now, true)
    }

    fn allow_until(&self, key: Fingerprint, now: Instant, is_stale: bool) -> Option<Allow> {
        let slot = self.store.at(self.store.find(key)?);
        let end = if is_stale { self.useless_from(slot) } else { slot.ends };
        let is_in_use = !is_stale || !slot.place.is_early();
        if slot.verdict != Verdict::Allow || !is_in_use || self.tick(now) >= end || self.is_forgotten(slot) {
            return None;
        }
        let terms = self.store.attached.get(slot.terms);
        if terms.as_ref().and_then(|terms| terms.expires).is_some_and(|expires| expires <= now) {
            return None;
        }
        let ends = self.started + Duration::from_secs_f64(f64::from(slot.ends) / TICKS_PER_SECOND as f64);
        Some(Allow { terms, ends })
    }
}
