//! Questions that are asked before anybody waits for them.

use std::time::Instant;

use super::worker::{Sending, Waiting, Worker};
use super::{Asker, Early, InFlight, Priority, Waiter};
use crate::fingerprint::{Fingerprint, Source};
use crate::question::{OwnedQuestion, Question};

impl Asker {
    /// Has a question asked that nobody waits for yet, unless its verdict is known, it is on its way, or asking is in
    /// vain. Returns whether it was sent.
    pub fn speculate(
        &self,
        key: Fingerprint,
        question: &Question<'_>,
        own: impl FnOnce() -> OwnedQuestion,
        early: Early,
        source: Source,
        now: Instant,
    ) -> bool {
        if self.is_in_vain(question.kind(), source, now) {
            return false;
        }
        let Ok(worker) = self.worker() else { return false };
        let mut state = self.inbox.state();
        let is_known = state.cache.peek(key, now).is_some() || state.in_flight.contains_key(&key);
        if is_known {
            return false;
        }
        let in_flight = InFlight::early(early, &state.early);
        state.in_flight.insert(key, in_flight);
        let lost = worker.ask(self.job(key, source, own()), early.priority());
        drop(state);
        lost.is_none()
    }

    /// Has the API asked a question that a parked client is expected to raise once it is let in. Nothing is sent if the
    /// verdict is remembered or the breakers are open. Returns whether `waiter` will be told of an answer.
    pub fn warm_up(&self, question: &Question<'_>, source: Source, waiter: Waiter, now: Instant) -> bool {
        let key = self.key(question);
        let is_in_vain = self.is_in_vain(question.kind(), source, now) || self.peek(key, now).is_some();
        !is_in_vain && self.ask(key, question, source, Priority::Warmup, Some(waiter), now).is_ok()
    }

    /// Says that the broker waits for the answer about a topic, until this is dropped.
    pub fn broker_waits(&self) -> Option<Waiting<'_>> {
        self.worker().ok().map(Worker::broker_waits)
    }

    /// Says that many questions about topics are about to be asked early, so that they go together. To be dropped before
    /// anybody waits for an answer.
    pub fn sends_many(&self) -> Option<Sending<'_>> {
        let goes_together = !self.inbox.target.load().config.acl_batch_urls.is_empty();
        self.worker().ok().filter(|_| goes_together).map(Worker::sends_many)
    }
}
