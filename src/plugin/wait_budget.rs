//! How long the broker's thread may wait, so that a turn of its loop stays bounded however many clients
//! wait in it and however sick the API is.
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::ask::Slot;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::question::Answer;

/// The share of the time-out that is left when the rest of it was waited in vain.
const GRACE: u32 = 10;

/// A broker that has not ticked for so long does not tick at all: those that do, do it every 100 ms.
const TICKLESS: Duration = Duration::from_secs(2);

/// Questions that are remembered for having been waited for in vain, and for how long.
const QUESTIONS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();
const REMEMBERED: Duration = Duration::from_secs(60);

/// How often in a row one question may be waited for in vain before nobody waits for it any more.
const TRIES: u32 = 3;

/// What is waited in vain is counted within a turn of the broker's loop: together the time-out, and a tenth
/// of it for one more try; after that nobody waits. The broker answers each client that is left with a
/// refusal and comes to its other work, a SIGTERM included. A new turn restores budget.
///
/// And a question that makes the API silent again and again is not waited for. It goes on in the background, and
/// the first answer makes up for it.
pub(super) struct WaitBudget {
    spent_in_vain: Duration,
    grace_taken: bool,
    turned: Instant,
    silent: LruCache<Fingerprint, SilentQuestion, AlreadyHashed>,
}

/// What there is against a question.
struct SilentQuestion {
    /// How often it was waited for in vain.
    tries: u32,
    last: Instant,
    /// Where its answer will appear, since it was asked in the background.
    beside: Option<Arc<Slot>>,
}

impl SilentQuestion {
    fn holds(&self, now: Instant) -> bool {
        let was_answered = |slot: &Arc<Slot>| matches!(slot.now(), Some(Answer::Verdict { .. }));
        self.tries >= TRIES
            && now.saturating_duration_since(self.last) < REMEMBERED
            && !self.beside.as_ref().is_some_and(was_answered)
    }
}

impl WaitBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            spent_in_vain: Duration::ZERO,
            grace_taken: false,
            turned: now,
            silent: LruCache::with_hasher(QUESTIONS, AlreadyHashed::default()),
        }
    }

    /// The broker's loop has come round. Mosquitto 2.0.11 says so to nobody under
    /// `per_listener_settings true`; there a pause counts instead.
    pub(super) fn new_turn(&mut self, now: Instant) {
        self.spent_in_vain = Duration::ZERO;
        self.grace_taken = false;
        self.turned = now;
    }

    /// Whether this broker seems not to tick.
    pub(super) fn is_tickless(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.turned) >= TICKLESS
    }

    /// The longest to wait for the answer to this question, where one question may take `timeout`.
    pub(super) fn limit(&mut self, question: Fingerprint, timeout: Duration, now: Instant) -> Duration {
        // Longer than a turn can take, the waiting included.
        if now.saturating_duration_since(self.turned) >= TICKLESS + 2 * timeout {
            self.new_turn(now);
        }
        match self.silent.get(&question) {
            Some(silent_question) if silent_question.holds(now) => return Duration::ZERO,
            Some(silent_question) if silent_question.tries >= TRIES => {
                self.silent.pop(&question);
            }
            _ => {}
        }
        let least = timeout / GRACE;
        match timeout.saturating_sub(self.spent_in_vain) {
            left if left >= least => left,
            _ if self.grace_taken => Duration::ZERO,
            _ => least,
        }
    }

    /// This question was not waited for; its answer will appear there.
    pub(super) fn asked_beside(&mut self, question: Fingerprint, slot: Arc<Slot>) {
        if let Some(silent_question) = self.silent.get_mut(&question) {
            silent_question.beside = Some(slot);
        }
    }

    /// A wait for the answer to this question is over.
    pub(super) fn waited(
        &mut self,
        question: Fingerprint,
        answered: bool,
        spent: Duration,
        timeout: Duration,
        now: Instant,
    ) {
        if answered {
            self.silent.pop(&question);
            return;
        }
        self.grace_taken |= timeout.saturating_sub(self.spent_in_vain) < timeout / GRACE;
        self.spent_in_vain += spent;
        // One that was short, because the API's machine refused the connection, says nothing of the question.
        if spent >= timeout / GRACE {
            let new = || SilentQuestion { tries: 0, last: now, beside: None };
            let silent_question = self.silent.get_or_insert_mut(question, new);
            silent_question.tries += 1;
            silent_question.last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::{Domain, Fingerprinter};

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn question(n: u8) -> Fingerprint {
        Fingerprinter::with_key(&[9; 16]).fields(Domain::Client, [&[n]])
    }

    #[test]
    fn a_turn_costs_little_more_than_one_timeout_whatever_is_answered_between() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        let mut spent = Duration::ZERO;
        for n in 0..100 {
            let limit = budget.limit(question(n), TIMEOUT, now);
            let answered = n % 3 == 0;
            budget.waited(question(n), answered, limit, TIMEOUT, now);
            spent += if answered { Duration::ZERO } else { limit };
        }
        assert_eq!(spent, TIMEOUT + TIMEOUT / GRACE);
        budget.new_turn(now);
        assert_eq!(budget.limit(question(200), TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn where_the_broker_never_ticks_a_pause_restores_budget() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        budget.waited(question(1), false, TIMEOUT, TIMEOUT, now);
        budget.waited(question(2), false, TIMEOUT / GRACE, TIMEOUT, now);
        assert_eq!(budget.limit(question(3), TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(3), TIMEOUT, now + TICKLESS + 2 * TIMEOUT), TIMEOUT);
    }

    #[test]
    fn refused_connections_cost_little_budget() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for _ in 0..10 {
            budget.waited(question(1), false, Duration::from_millis(1), TIMEOUT, now);
        }
        assert_eq!(budget.limit(question(1), TIMEOUT, now), TIMEOUT - Duration::from_millis(10));
    }

    #[test]
    fn a_question_that_makes_the_api_silent_again_and_again_is_not_waited_for() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for _ in 0..TRIES {
            budget.new_turn(now);
            assert_eq!(budget.limit(question(1), TIMEOUT, now), TIMEOUT);
            budget.waited(question(1), false, TIMEOUT, TIMEOUT, now);
        }
        budget.new_turn(now);
        assert_eq!(budget.limit(question(1), TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(2), TIMEOUT, now), TIMEOUT);
        assert_eq!(budget.limit(question(1), TIMEOUT, now + REMEMBERED), TIMEOUT);
    }
}
