//! How long the broker's thread may wait, so that a turn of its loop stays bounded however many clients
//! wait in it and however sick the API is.
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::ask::Slot;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::question::Answer;
use crate::util::bounded;

/// The share of the time-out that is left when the rest of it was waited in vain.
const GRACE: u32 = 10;

/// A broker that has not ticked for so long after its start does not tick at all: those that do, do it every 100 ms.
const TICKLESS: Duration = Duration::from_secs(2);

/// Clients that made the broker wait in one turn. Beyond, the longest silent one has all its time again.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// Questions that are remembered for having been waited for in vain, and for how long.
const QUESTIONS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();
const REMEMBERED: Duration = Duration::from_secs(60);

/// How often in a row one question may be waited for in vain before nobody waits for it any more.
const TRIES: u32 = 3;

/// What is waited in vain is counted within a turn of the broker's loop: together the time-out, and a tenth
/// of it for one more try; after that nobody waits. The broker answers each client that is left with a
/// refusal and comes to its other work, a SIGTERM included. A new turn restores budget.
///
/// What is answered in time adds up, too: one client has the broker wait for the time-out in one turn, all its waits
/// together. That is no business of others.
///
/// And a question that makes the API silent again and again is not waited for. It goes on in the background, and
/// the first answer makes up for it.
pub(super) struct WaitBudget {
    spent_in_vain: Duration,
    grace_taken: bool,
    turned: Instant,
    started: Instant,
    /// Whether the broker has ticked.
    ticks: bool,
    /// How long the broker waited in this turn because of whom.
    waited_for: LruCache<Fingerprint, Duration, AlreadyHashed>,
    silent: LruCache<Fingerprint, SilentQuestion, AlreadyHashed>,
}

/// One time that the broker waited.
pub(super) struct Wait {
    /// For the answer to what.
    pub question: Fingerprint,
    /// Because of whom, if that is known.
    pub client: Option<Fingerprint>,
    /// How long.
    pub spent: Duration,
    /// Whether the answer came.
    pub answered: bool,
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
            started: now,
            ticks: false,
            waited_for: bounded(CLIENTS),
            silent: LruCache::with_hasher(QUESTIONS, AlreadyHashed::default()),
        }
    }

    /// The broker's loop has come round. Mosquitto 2.0.11 says so to nobody under
    /// `per_listener_settings true`; there a pause counts instead.
    pub(super) fn new_turn(&mut self, now: Instant) {
        self.ticks = true;
        self.renew(now);
    }

    fn renew(&mut self, now: Instant) {
        self.spent_in_vain = Duration::ZERO;
        self.grace_taken = false;
        self.turned = now;
        self.waited_for.clear();
    }

    /// Whether this broker seems not to tick: it never has, for so long.
    pub(super) fn is_tickless(&self, now: Instant) -> bool {
        !self.ticks && now.saturating_duration_since(self.started) >= TICKLESS
    }

    /// The longest to wait for the answer to this question because of this client, where one question may take `timeout`.
    pub(super) fn limit(
        &mut self,
        question: Fingerprint,
        client: Option<Fingerprint>,
        timeout: Duration,
        now: Instant,
    ) -> Duration {
        // Longer than a turn can take, the waiting included.
        if now.saturating_duration_since(self.turned) >= TICKLESS + 2 * timeout {
            self.renew(now);
        }
        match self.silent.get(&question) {
            Some(silent_question) if silent_question.holds(now) => return Duration::ZERO,
            Some(silent_question) if silent_question.tries >= TRIES => {
                self.silent.pop(&question);
            }
            _ => {}
        }
        let least = timeout / GRACE;
        let own = self.left_to(client, timeout);
        // A shorter wait would say nothing of the API.
        if own < least {
            return Duration::ZERO;
        }
        let left = match timeout.saturating_sub(self.spent_in_vain) {
            left if left >= least => left,
            _ if self.grace_taken => Duration::ZERO,
            _ => least,
        };
        left.min(own)
    }

    /// How long the broker may still wait because of this client.
    fn left_to(&self, client: Option<Fingerprint>, timeout: Duration) -> Duration {
        let waited = client.and_then(|client| self.waited_for.peek(&client));
        timeout.saturating_sub(waited.copied().unwrap_or_default())
    }

    /// This question was not waited for; its answer will appear there.
    pub(super) fn asked_beside(&mut self, question: Fingerprint, slot: Arc<Slot>) {
        if let Some(silent_question) = self.silent.get_mut(&question) {
            silent_question.beside = Some(slot);
        }
    }

    /// A wait is over.
    pub(super) fn waited(&mut self, wait: Wait, timeout: Duration, now: Instant) {
        let Wait { question, client, spent, answered } = wait;
        let own = self.left_to(client, timeout);
        if let Some(client) = client {
            *self.waited_for.get_or_insert_mut(client, || Duration::ZERO) += spent;
        }
        if answered {
            self.silent.pop(&question);
            return;
        }
        // It was cut short by what the client had left, which says nothing of the API.
        if spent >= own && own < timeout.saturating_sub(self.spent_in_vain) {
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

    fn wait(n: u8, client: Option<u8>, answered: bool, spent: Duration) -> Wait {
        Wait { question: question(n), client: client.map(question), spent, answered }
    }

    #[test]
    fn one_client_has_the_time_out_in_a_turn_for_all_that_is_answered() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        let mut spent = Duration::ZERO;
        for n in 0..100 {
            let limit = budget.limit(question(n), Some(question(200)), TIMEOUT, now);
            let took = limit.min(TIMEOUT / 15);
            budget.waited(wait(n, Some(200), true, took), TIMEOUT, now);
            spent += took;
        }
        assert!(spent <= TIMEOUT && spent > TIMEOUT - TIMEOUT / GRACE, "{spent:?}");
        // Neither others nor those who are not known pay for it.
        for client in [Some(question(201)), None] {
            assert_eq!(budget.limit(question(1), client, TIMEOUT, now), TIMEOUT);
        }
        budget.new_turn(now);
        assert_eq!(budget.limit(question(1), Some(question(200)), TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn what_a_client_uses_up_is_not_taken_for_silence() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for _ in 0..TRIES {
            budget.new_turn(now);
            budget.waited(wait(1, Some(200), true, TIMEOUT / 2), TIMEOUT, now);
            let limit = budget.limit(question(2), Some(question(200)), TIMEOUT, now);
            assert_eq!(limit, TIMEOUT / 2);
            budget.waited(wait(2, Some(200), false, limit), TIMEOUT, now);
        }
        assert_eq!(budget.limit(question(2), Some(question(200)), TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(2), Some(question(201)), TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn clients_that_made_the_broker_wait_are_bounded() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for n in 0..3 * CLIENTS.get() {
            let client = Fingerprinter::with_key(&[9; 16]).fields(Domain::Client, [&n.to_le_bytes()]);
            budget.waited(
                Wait { question: client, client: Some(client), spent: TIMEOUT, answered: true },
                TIMEOUT,
                now,
            );
        }
        assert_eq!(budget.waited_for.len(), CLIENTS.get());
    }

    #[test]
    fn a_turn_costs_little_more_than_one_timeout_whatever_is_answered_between() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        let mut spent = Duration::ZERO;
        for n in 0..100 {
            let limit = budget.limit(question(n), None, TIMEOUT, now);
            let answered = n % 3 == 0;
            budget.waited(wait(n, None, answered, limit), TIMEOUT, now);
            spent += if answered { Duration::ZERO } else { limit };
        }
        assert_eq!(spent, TIMEOUT + TIMEOUT / GRACE);
        budget.new_turn(now);
        assert_eq!(budget.limit(question(200), None, TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn where_the_broker_never_ticks_a_pause_restores_budget() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        budget.waited(wait(1, None, false, TIMEOUT), TIMEOUT, now);
        budget.waited(wait(2, None, false, TIMEOUT / GRACE), TIMEOUT, now);
        assert_eq!(budget.limit(question(3), None, TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(3), None, TIMEOUT, now + TICKLESS + 2 * TIMEOUT), TIMEOUT);
    }

    #[test]
    fn refused_connections_cost_little_budget() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for _ in 0..10 {
            budget.waited(wait(1, None, false, Duration::from_millis(1)), TIMEOUT, now);
        }
        assert_eq!(budget.limit(question(1), None, TIMEOUT, now), TIMEOUT - Duration::from_millis(10));
    }

    #[test]
    fn a_question_that_makes_the_api_silent_again_and_again_is_not_waited_for() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for _ in 0..TRIES {
            budget.new_turn(now);
            assert_eq!(budget.limit(question(1), None, TIMEOUT, now), TIMEOUT);
            budget.waited(wait(1, None, false, TIMEOUT), TIMEOUT, now);
        }
        budget.new_turn(now);
        assert_eq!(budget.limit(question(1), None, TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(2), None, TIMEOUT, now), TIMEOUT);
        assert_eq!(budget.limit(question(1), None, TIMEOUT, now + REMEMBERED), TIMEOUT);
    }
}
