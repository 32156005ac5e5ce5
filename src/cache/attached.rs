//! What came with allows beside the verdict (`answer_rules`). Slots have no room for it and are copied, so they hold its
//! number.
use std::sync::Arc;
use std::time::Instant;

use super::{Allow, Cache, TICKS_PER_SECOND};
use crate::fingerprint::Fingerprint;
use crate::question::Verdict;
use crate::topic::Terms;

/// The number of nothing.
pub const NONE: u32 = u32::MAX;

/// Terms by number. There are never more than slots.
#[derive(Default)]
pub struct Attached {
    terms: Vec<Option<Arc<Terms>>>,
    free: Vec<u32>,
}

impl Attached {
    /// Keeps terms under a number.
    pub fn add(&mut self, terms: Arc<Terms>) -> u32 {
        if let Some(number) = self.free.pop() {
            self.terms[number as usize] = Some(terms);
            return number;
        }
        self.terms.push(Some(terms));
        (self.terms.len() - 1) as u32
    }

    /// The terms with a number; none for [`NONE`].
    #[inline]
    pub fn get(&self, number: u32) -> Option<Arc<Terms>> {
        if number == NONE { None } else { self.peek(number).cloned() }
    }

    /// The terms with a number, borrowed.
    pub fn peek(&self, number: u32) -> Option<&Arc<Terms>> {
        self.terms.get(number as usize)?.as_ref()
    }

    /// Gives a number up.
    pub fn remove(&mut self, number: u32) {
        if let Some(terms) = self.terms.get_mut(number as usize)
            && terms.take().is_some()
        {
            self.free.push(number);
        }
    }

    /// Drops some of them, after a store was cleared. Returns whether any are left.
    pub fn give_back(&mut self) -> bool {
        const AT_ONCE: usize = 256;
        self.terms.truncate(self.terms.len().saturating_sub(AT_ONCE));
        !self.terms.is_empty()
    }
}

impl Cache {
    /// Keeps what came with the allow that was just put in, if it was kept.
    pub fn attach(&mut self, key: Fingerprint, terms: &Arc<Terms>) {
        let Some(id) = self.store.find(key) else { return };
        if self.store.at(id).verdict == Verdict::Allow {
            let number = self.store.attached.add(Arc::clone(terms));
            let before = std::mem::replace(&mut self.store.at_mut(id).terms, number);
            self.store.attached.remove(before);
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
        let ends =
            self.started + std::time::Duration::from_secs_f64(f64::from(slot.ends) / TICKS_PER_SECOND as f64);
        Some(Allow { terms, ends })
    }
}
