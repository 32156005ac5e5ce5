//! Questions that are on their way. Identical ones share one request, and all who wait for its answer are told.

use std::collections::{BTreeMap, HashMap};
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
    tell: Box<Tell>,
}

/// Hears the answer, and the number of the API that has given it.
type Tell = dyn FnOnce(&Answer, u32) + Send;

impl Waiter {
    /// A waiter that is told when the answer comes or the question's time is up, and by which API (`Asker::api_number`).
    /// `tell` runs on the worker's thread, with nothing locked.
    pub fn in_time(tell: impl FnOnce(&Answer, u32) + Send + 'static) -> Self {
        Self { hears_late: false, number: None, has_left: false, tell: Box::new(tell) }
    }

    /// A waiter that is told when the question has ended, however late. `tell` runs on the worker's thread, with
    /// nothing locked.
    pub fn however_late(tell: impl FnOnce(&Answer) + Send + 'static) -> Self {
        let tell = Box::new(move |answer: &Answer, _| tell(answer));
        Self { hears_late: true, number: None, has_left: false, tell }
    }

    /// Tells it at once.
    pub(super) fn hears(self, answer: &Answer, api: u32) {
        (self.tell)(answer, api);
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
    waiters: Waiters,
}

/// All who wait, in the order of the numbers by which they may leave, and of their coming.
#[derive(Default)]
struct Waiters {
    all: BTreeMap<(Option<u64>, u64), Waiter>,
    /// How many have come.
    came: u64,
    /// How many have not left: as many may leave at once as may wait, so nobody is looked for among the others.
    stay: usize,
}

impl Waiters {
    fn add(&mut self, waiter: Waiter) {
        self.stay += usize::from(!waiter.has_left);
        self.all.insert((waiter.number, self.came), waiter);
        self.came += 1;
    }

    fn leave(&mut self, number: u64) {
        for (_, waiter) in self.all.range_mut((Some(number), 0)..=(Some(number), u64::MAX)) {
            self.stay -= usize::from(!std::mem::replace(&mut waiter.has_left, true));
        }
    }

    /// Takes out those of whom this is true.
    fn take(&mut self, is_it: impl Fn(&Waiter) -> bool) -> Self {
        let mut taken = Self::default();
        for waiter in std::mem::take(self).all.into_values() {
            (if is_it(&waiter) { &mut taken } else { &mut *self }).add(waiter);
        }
        taken
    }
}

impl InFlight {
    pub(super) fn new(priority: Priority) -> Self {
        Self { priority, is_anew: false, early: None, slot: None, waiters: Waiters::default() }
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
            && !self.waiters.all.values().any(|waiter| waiter.hears_late);
        is_unused.then_some(early)
    }

    /// The slot where its answer will appear, for a thread that waits.
    pub(super) fn slot(&mut self) -> Arc<Slot> {
        Arc::clone(self.slot.get_or_insert_default())
    }

    pub(super) fn add(&mut self, waiter: Option<Waiter>) {
        waiter.into_iter().for_each(|waiter| self.waiters.add(waiter));
    }

    /// A waiter waits no more.
    pub(super) fn leave(&mut self, number: u64) {
        self.waiters.leave(number);
    }

    /// Whether all who waited have left.
    pub(super) fn is_left_alone(&self) -> bool {
        let has_left = |slot: &Arc<Slot>| Arc::strong_count(slot) == 1;
        !self.waiters.all.is_empty() && self.waiters.stay == 0 && self.slot.as_ref().is_none_or(has_left)
    }

    /// Whoever waited in the slot has gone.
    pub(super) fn nobody_waits(&mut self) {
        if self.waiters.stay == 0 {
            self.priority = Priority::Speculative;
        }
    }

    /// Takes out all who wait no longer than the question's time-out. The question goes on without them.
    pub(super) fn take_in_time(&mut self) -> Self {
        let waiters = self.waiters.take(|waiter| !waiter.hears_late);
        Self { early: None, slot: self.slot.take(), waiters, ..Self::new(self.priority) }
    }

    /// Takes out all who have left. The question goes on without them.
    pub(super) fn take_those_who_left(&mut self) -> Self {
        Self { waiters: self.waiters.take(|waiter| waiter.has_left), ..Self::new(self.priority) }
    }

    /// Tells all who wait the answer of the API of this number. Must not be called under a lock, since waiters take locks.
    pub(super) fn deliver(self, answer: &Answer, api: u32) {
        if let Some(slot) = self.slot {
            slot.file(answer.clone());
        }
        for waiter in self.waiters.all.into_values() {
            waiter.hears(answer, api);
        }
    }
}

/// All questions on their way, by fingerprint.
pub(super) type Questions = HashMap<Fingerprint, InFlight, AlreadyHashed>;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn waiter(number: u64) -> Waiter {
        Waiter::in_time(|_, _| ()).who_may_leave(number)
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

    /// All whom one broker has room for may wait for one answer, and hang up together.
    #[test]
    fn whoever_leaves_costs_the_same_however_many_wait() {
        let mut in_flight = InFlight::new(Priority::Login);
        let numbers = 0..30_000;
        numbers.clone().for_each(|number| in_flight.add(Some(waiter(number))));
        let begun = Instant::now();
        for number in numbers.rev() {
            assert!(!in_flight.is_left_alone());
            in_flight.leave(number);
        }
        assert!(in_flight.is_left_alone());
        // Some 20 ms without optimisation. If each looked at all others it would be many seconds.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[test]
    fn who_waits_for_several_answers_hears_each_and_leaves_at_once() {
        let heard = Arc::<Mutex<usize>>::default();
        let mut in_flight = InFlight::new(Priority::Warmup);
        for _ in 0..2 {
            let heard = Arc::clone(&heard);
            let waiter = Waiter::in_time(move |_, _| *heard.lock().unwrap() += 1).who_may_leave(1);
            in_flight.add(Some(waiter));
        }
        in_flight.leave(1);
        in_flight.leave(1);
        assert!(in_flight.is_left_alone());
        in_flight.add(Some(waiter(2)));
        assert!(!in_flight.is_left_alone());
        in_flight.take_in_time().deliver(&Answer::None(crate::question::NoAnswer::Busy), 0);
        assert_eq!(*heard.lock().unwrap(), 2);
        in_flight.add(Some(waiter(3)));
        assert!(!in_flight.is_left_alone());
    }
}
