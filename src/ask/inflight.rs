//! Questions that are on their way: identical ones share a request, and everybody who waits for it is told.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::queue::Priority;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::question::Answer;

/// A place where the answer to one question appears, for any number of threads that wait for it.
#[derive(Default)]
pub struct Slot {
    answer: Mutex<Option<Answer>>,
    filed: Condvar,
}

impl Slot {
    /// A place where the answer is already.
    pub(super) fn answered(answer: Answer) -> Self {
        Self { answer: Mutex::new(Some(answer)), filed: Condvar::new() }
    }

    /// Waits for the answer, at most so long.
    pub fn wait(&self, limit: Duration) -> Option<Answer> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.filed.wait_timeout_while(answer, limit, |answer| answer.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The answer, if it is there.
    pub fn now(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn file(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.filed.notify_all();
    }
}

/// Somebody who wants to hear of an answer and blocks no thread for it.
pub struct Waiter {
    hears_late: bool,
    tell: Box<dyn FnOnce(&Answer) + Send>,
}

impl Waiter {
    /// Is told when the answer comes or the time is up. `tell` runs on the worker's thread, with nothing locked.
    pub fn in_time(tell: impl FnOnce(&Answer) + Send + 'static) -> Self {
        Self { hears_late: false, tell: Box::new(tell) }
    }

    /// Is told when the question has ended, however late.
    pub fn however_late(tell: impl FnOnce(&Answer) + Send + 'static) -> Self {
        Self { hears_late: true, tell: Box::new(tell) }
    }
}

/// A question on its way, and who waits for it.
pub(super) struct InFlight {
    pub(super) priority: Priority,
    slot: Option<Arc<Slot>>,
    waiters: Vec<Waiter>,
}

impl InFlight {
    pub(super) fn new(priority: Priority) -> Self {
        Self { priority, slot: None, waiters: Vec::new() }
    }

    /// Where its answer will appear.
    pub(super) fn slot(&mut self) -> Arc<Slot> {
        Arc::clone(self.slot.get_or_insert_default())
    }

    pub(super) fn add(&mut self, waiter: Option<Waiter>) {
        self.waiters.extend(waiter);
    }

    /// Whether nobody has come for the answer yet.
    pub(super) fn is_unused(&self) -> bool {
        matches!(self.priority, Priority::Speculative | Priority::Warmup)
    }

    /// Those who do not wait beyond the question's time; the question goes on without them.
    pub(super) fn take_impatient(&mut self) -> Self {
        let (late, in_time) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| waiter.hears_late);
        self.waiters = late;
        Self { priority: self.priority, slot: self.slot.take(), waiters: in_time }
    }

    /// Tells everybody. Not to be called under a lock.
    pub(super) fn deliver(self, answer: &Answer) {
        if let Some(slot) = self.slot {
            slot.file(answer.clone());
        }
        for waiter in self.waiters {
            (waiter.tell)(answer);
        }
    }
}

/// All questions on their way.
pub(super) type Questions = HashMap<Fingerprint, InFlight, AlreadyHashed>;
