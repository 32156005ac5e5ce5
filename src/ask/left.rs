//! Questions that go on although whoever waited for them has gone.

use std::time::Instant;

use super::Asker;
use super::inflight::Waiter;
use crate::cache::Hit;
use crate::fingerprint::Fingerprint;
use crate::question::{Answer, NoAnswer};

impl Asker {
    /// Has a waiter told how a question ends that goes on although nobody waits for it any more: at once, if it has ended.
    pub fn hear_late(&self, key: Fingerprint, waiter: Waiter, now: Instant) {
        let mut state = self.inbox.state();
        if let Some(in_flight) = state.in_flight.get_mut(&key) {
            return in_flight.add(Some(waiter));
        }
        let answer = match state.cache.get(key, now) {
            Some(Hit { verdict, grounds, terms, .. }) => Answer::Verdict { verdict, grounds, terms },
            None => Answer::None(NoAnswer::Unheard),
        };
        let api = self.inbox.api_number();
        drop(state);
        waiter.hears(&answer, api);
    }

    /// A waiter waits no more. If it was the last, and the question has not been sent, it is not asked; the waiter hears
    /// of that all the same.
    pub fn leave(&self, key: Fingerprint, number: u64) {
        let mut state = self.inbox.state();
        let Some(in_flight) = state.in_flight.get_mut(&key) else { return };
        in_flight.leave(number);
        let is_left_alone = in_flight.is_left_alone();
        drop(state);
        if is_left_alone && let Some(worker) = self.worker.get() {
            worker.dequeue(key);
        }
    }

    /// A waiter waits no longer than in the queue: if the question has not been sent, it hears that it was not asked. The
    /// question stays in the queue, and its answer is remembered.
    pub fn leave_queue(&self, key: Fingerprint, number: u64) {
        let mut state = self.inbox.state();
        let Some(in_flight) = state.in_flight.get_mut(&key) else { return };
        in_flight.leave(number);
        drop(state);
        if let Some(worker) = self.worker.get() {
            worker.let_go(key);
        }
    }

    /// Whoever waited for a question that is on its way has gone: its verdict counts as one that was asked for early.
    pub fn nobody_waits(&self, key: Fingerprint) {
        if let Some(in_flight) = self.inbox.state().in_flight.get_mut(&key) {
            in_flight.nobody_waits();
        }
    }
}
