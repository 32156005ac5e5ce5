//! Questions that are on their way. Identical ones share one request, and all who wait for its answer are told.

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

    /// The answer, if it has come. Does not wait.
    pub fn answer(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the answer has come.
    pub fn is_answered(&self) -> bool {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn file(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.filed.notify_all();
    }
}

/// A function to call with the answer, for a client that waits without blocking a thread.
pub struct Waiter {
    /// Whether it waits beyond the question's time-out, for whatever answer comes in the end.
    hears_late: bool,
    /// By which number it may say that it waits no more.
    number: Option<u64>,
    has_left: bool,
    tell: Box<dyn FnOnce(&Answer) + Send>,
}

impl Waiter {
    /// A waiter that is told when the answer comes or the question's time is up. `tell` runs on the worker's thread,
    /// with nothing locked.
    pub fn in_time(tell: impl FnOnce(&Answer) + Send + 'static) -> Self {
        Self { hears_late: false, number: None, has_left: false, tell: Box::new(tell) }
    }

    /// A waiter that is told when the question has ended, however late. `tell` runs on the worker's thread, with
    /// nothing locked.
    pub fn however_late(tell: impl FnOnce(&Answer) + Send + 'static) -> Self {
        Self { hears_late: true, number: None, has_left: false, tell: Box::new(tell) }
    }

    /// Tells it at once.
    pub(super) fn hears(self, answer: &Answer) {
        (self.tell)(answer);
    }

    /// May leave by this number.
    pub fn who_may_leave(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }
}

/// Why a question is asked before the broker asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// The broker may ask it.
    Guess,
    /// A message is on its way to a reader: the broker asks it next, or after the other readers.
    Reader,
}

impl Early {
    pub(super) fn priority(self) -> Priority {
        match self {
            Early::Guess => Priority::Speculative,
            Early::Reader => Priority::Reader,
        }
    }
}

/// Counts the questions that were asked early and are on their way: each holds one more of its own.
#[derive(Default)]
pub(super) struct EarlyOnes {
    guesses: Counted,
    readers: Counted,
}

type Counted = Arc<()>;

impl EarlyOnes {
    /// How many were asked for this reason.
    pub(super) fn under_way(&self, early: Early) -> usize {
        Arc::strong_count(self.counted(early)) - 1
    }

    fn counted(&self, early: Early) -> &Counted {
        match early {
            Early::Guess => &self.guesses,
            Early::Reader => &self.readers,
        }
    }
}

/// A question on its way, and all who wait for its answer.
pub(super) struct InFlight {
    /// The highest priority that it was asked with.
    pub(super) priority: Priority,
    /// Somebody waits for what the API says now, and not for what it has said to others.
    pub(super) is_anew: bool,
    /// Why it was asked early, if it was. The count is held as long as it is on its way.
    early: Option<(Early, Counted)>,
    /// Made when the first thread comes to wait.
    slot: Option<Arc<Slot>>,
    waiters: Vec<Waiter>,
}

impl InFlight {
    pub(super) fn new(priority: Priority) -> Self {
        Self { priority, is_anew: false, early: None, slot: None, waiters: Vec::new() }
    }

    /// A question that nobody waits for yet.
    pub(super) fn early(early: Early, ones: &EarlyOnes) -> Self {
        let counted = Arc::clone(ones.counted(early));
        Self { early: Some((early, counted)), ..Self::new(early.priority()) }
    }

    /// Why it was asked early, if nobody has come for the answer yet.
    pub(super) fn unused(&self) -> Option<Early> {
        let early = self.early.as_ref().map_or(Early::Guess, |(early, _)| *early);
        let is_unused = matches!(self.priority, Priority::Speculative | Priority::Warmup | Priority::Reader)
            && !self.waiters.iter().any(|waiter| waiter.hears_late);
        is_unused.then_some(early)
    }

    /// The slot where its answer will appear, for a thread that waits.
    pub(super) fn slot(&mut self) -> Arc<Slot> {
        Arc::clone(self.slot.get_or_insert_default())
    }

    pub(super) fn add(&mut self, waiter: Option<Waiter>) {
        self.waiters.extend(waiter);
    }

    /// A waiter waits no more.
    pub(super) fn leave(&mut self, number: u64) {
        for waiter in &mut self.waiters {
            waiter.has_left |= waiter.number == Some(number);
        }
    }

    /// Whether all who waited have left.
    pub(super) fn is_left_alone(&self) -> bool {
        let has_left = |slot: &Arc<Slot>| Arc::strong_count(slot) == 1;
        !self.waiters.is_empty()
            && self.waiters.iter().all(|waiter| waiter.has_left)
            && self.slot.as_ref().is_none_or(has_left)
    }

    /// Whoever waited in the slot has gone.
    pub(super) fn nobody_waits(&mut self) {
        if self.waiters.iter().all(|waiter| waiter.has_left) {
            self.priority = Priority::Speculative;
        }
    }

    /// Takes out all who wait no longer than the question's time-out. The question goes on without them.
    pub(super) fn take_in_time(&mut self) -> Self {
        let (late, in_time) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| waiter.hears_late);
        self.waiters = late;
        Self { early: None, slot: self.slot.take(), waiters: in_time, ..Self::new(self.priority) }
    }

    /// Tells all who wait. Must not be called under a lock, since waiters take locks.
    pub(super) fn deliver(self, answer: &Answer) {
        if let Some(slot) = self.slot {
            slot.file(answer.clone());
        }
        for waiter in self.waiters {
            waiter.hears(answer);
        }
    }
}

/// All questions on their way, by fingerprint.
pub(super) type Questions = HashMap<Fingerprint, InFlight, AlreadyHashed>;

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(number: u64) -> Waiter {
        Waiter::in_time(|_| ()).who_may_leave(number)
    }

    #[test]
    fn a_question_is_left_alone_when_all_who_waited_have_left() {
        let mut in_flight = InFlight::new(Priority::Login);
        assert!(!in_flight.is_left_alone(), "nobody ever waited");
        [1, 2].into_iter().for_each(|number| in_flight.add(Some(waiter(number))));
        in_flight.leave(1);
        in_flight.leave(3);
        assert!(!in_flight.is_left_alone());
        in_flight.leave(2);
        assert!(in_flight.is_left_alone());
        let slot = in_flight.slot();
        assert!(!in_flight.is_left_alone(), "a thread waits at the slot");
        drop(slot);
        assert!(in_flight.is_left_alone());
        in_flight.add(Some(Waiter::however_late(|_| ())));
        assert!(!in_flight.is_left_alone(), "somebody has come since");
    }
}
