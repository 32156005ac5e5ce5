//! How long a thread of the broker may wait for answers. It keeps a turn of the loop short, however many clients there
//! are and however slow the API is.
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::ticks::TICKLESS;
use crate::ask::Slot;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::question::Answer;
use crate::util::bounded;

/// The grace, as a part of the time-out: one tenth. It is granted once more in a turn when the time-out was spent
/// without an answer, and a wait that would be shorter is not begun.
const GRACE: u32 = 10;

/// Retained messages that are asked about side by side may take so many times as long for one client as everything else:
/// 10,000 of them take 3.1 s where 64 requests of 20 ms are on their way at a time, and what is cut off is lost.
const REPLAY: u32 = 2;

/// Where nothing tells turns apart, a second without a login gives back nine of [`WaitBudget::logins`]: logins take nine
/// tenths of the time at most.
const PAID_BACK_FASTER: u32 = 9;

/// The longest that the broker waits for a client under another's id before it parks it. An API in the same network answers
/// in less, and a message that comes meanwhile is late by what nobody notices.
const MOMENT: Duration = Duration::from_millis(20);

/// Clients that are counted in one turn: as many sockets as the broker comes to in one, and 0.1 MB. If there are more, the one
/// that made the broker wait longest ago has all of its time again.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// Questions that are remembered for having had no answer in time; the least recently used go first. Each has had the broker
/// wait for a tenth of the time-out at least, so with the default of 2 s there are 300 in [`REMEMBERED`] at most; 0.1 MB.
const QUESTIONS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// How long a question without an answer is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How often in a row one question may have no answer in time before the broker no longer waits for it.
const TRIES: u32 = 3;

/// Four bounds on waiting, of which the first three count within one turn of the broker's loop:
///
/// - All waits for logins together, answered or not, and the computing of slow hashes for them: `login_wait`, besides the
///   first question of a turn. That one is waited for to its end, so that a slow API does not shut out those who come once an
///   hour. What was asked ahead with it comes in right behind it. Who comes later, and would take longer than there is time, is
///   asked about in the background.
/// - All waits without an answer together: the time-out, and the grace for one more try. After that the broker does not
///   wait, refuses the clients that are left, and comes to its other work, a SIGTERM included.
/// - All waits for one client together, answered or not: the time-out, or twice that while its retained messages come whose
///   questions are on their way. Other clients are not concerned.
/// - A question that had no answer several times in a row is not waited for. It is asked in the background, and
///   the first verdict lifts this.
pub(super) struct WaitBudget {
    /// How long the broker has waited in this turn without getting an answer.
    unanswered: Duration,
    /// Whether the grace was used in this turn.
    grace_taken: bool,
    turn_began: Instant,
    /// Whether anything tells turns apart on this thread.
    has_turns: bool,
    /// How long logins have held up the broker in this turn.
    logins: Duration,
    /// How much of that was the first question that the broker waited for; zero until then.
    first_question: Duration,
    /// When logins held it up last.
    last_login: Instant,
    /// How long the broker waited in this turn, by the client that made it wait.
    waited_for: LruCache<Fingerprint, Duration, AlreadyHashed>,
    /// Questions that had no answer in time.
    silent: LruCache<Fingerprint, SilentQuestion, AlreadyHashed>,
}

/// On whose account the broker waits, as far as that is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// On nobody's: a reader is not to blame for the message that it gets.
    Nobody,
    /// On that of all who log in: the client is not known yet.
    Logins,
    /// The same, for [`MOMENT`] at most: it comes under another's id, and is parked then.
    LoginsBriefly,
    /// On that of this client, by a message or a subscription of its own.
    Client(Fingerprint),
    /// On that of this client, by a subscription whose retained messages the broker goes through.
    Replay(Fingerprint),
}

impl Account {
    /// Whether it waits for a login.
    pub fn is_login(self) -> bool {
        matches!(self, Account::Logins | Account::LoginsBriefly)
    }

    /// Whether it waits for a retained message.
    pub fn is_replay(self) -> bool {
        matches!(self, Account::Replay(_))
    }
}

/// What a wait is paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Payer {
    /// Who pays.
    account: Account,
    /// The question is on its way already. Found out only where [`WaitBudget::asks_what_is_under_way`].
    is_under_way: bool,
    /// For so long all who log in may have the broker wait in one turn; zero: for any time.
    login_wait: Duration,
}

/// How long the broker may wait for the answer to one question.
#[derive(Clone, Copy)]
pub(super) struct Allotment {
    question: Fingerprint,
    payer: Payer,
    /// Zero: not at all.
    pub limit: Duration,
    /// The time that the API has for one question.
    pub timeout: Duration,
    /// When the wait began.
    pub began: Instant,
}

/// One wait that is over.
struct Wait {
    /// The question that was waited for.
    question: Fingerprint,
    /// On whose account the broker waited.
    payer: Payer,
    /// How long the wait took.
    spent: Duration,
    /// Whether a verdict came.
    answered: bool,
}

/// A question that had no answer in time.
struct SilentQuestion {
    /// How many waits for it in a row ended without an answer.
    tries: u32,
    /// When the last of them ended.
    last: Instant,
    /// The slot of the answer, once it was asked in the background.
    in_background: Option<Arc<Slot>>,
}

impl SilentQuestion {
    /// Whether the broker should not wait for it now.
    fn holds(&self, now: Instant) -> bool {
        let was_answered = |slot: &Arc<Slot>| matches!(slot.answer(), Some(Answer::Verdict { .. }));
        self.tries >= TRIES
            && now.saturating_duration_since(self.last) < REMEMBERED
            && !self.in_background.as_ref().is_some_and(was_answered)
    }
}

impl WaitBudget {
    /// A budget of which nothing was spent.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            unanswered: Duration::ZERO,
            grace_taken: false,
            turn_began: now,
            has_turns: false,
            logins: Duration::ZERO,
            first_question: Duration::ZERO,
            last_login: now,
            waited_for: bounded(CLIENTS),
            silent: bounded(QUESTIONS),
        }
    }

    /// Begins a turn of the broker's loop, which restores the budget. On a thread without ticks (the HTTP listener's, and
    /// that of 2.0.11 with `per_listener_settings true`), [`Self::limit`] begins one whenever the last one is old enough.
    pub(super) fn new_turn(&mut self, now: Instant) {
        self.has_turns = true;
        self.renew(now);
    }

    fn renew(&mut self, now: Instant) {
        self.unanswered = Duration::ZERO;
        self.grace_taken = false;
        self.turn_began = now;
        (self.logins, self.first_question) = (Duration::ZERO, Duration::ZERO);
        self.waited_for.clear();
    }

    /// How long the broker may wait for the answer to a question on this account, from now on. Nothing is set aside: what was
    /// waited counts ([`Self::settle`]). `timeout` is the time that the API has
    /// for one question, `login_wait` that for logins in one turn. `is_under_way` finds out whether the question is on its
    /// way already, where that matters.
    pub(super) fn allot(
        &mut self,
        question: Fingerprint,
        account: Account,
        (timeout, login_wait): (Duration, Duration),
        is_under_way: impl FnOnce() -> bool,
        began: Instant,
    ) -> Allotment {
        let is_under_way = self.asks_what_is_under_way(account) && is_under_way();
        let payer = Payer { account, is_under_way, login_wait };
        let limit = self.limit(question, payer, timeout, began);
        Allotment { question, payer, limit, timeout, began }
    }

    /// Counts a wait that is over. `answered`: a verdict has come.
    pub(super) fn settle(&mut self, allotted: &Allotment, answered: bool, over: Instant) {
        let Allotment { question, payer, timeout, began, .. } = *allotted;
        let spent = over.saturating_duration_since(began);
        self.waited(Wait { question, payer, spent, answered }, timeout, over);
    }

    /// Whether [`Self::limit`] goes by what is on its way already: for retained messages, and for logins behind the first
    /// question of a turn.
    fn asks_what_is_under_way(&self, account: Account) -> bool {
        account.is_replay() || account == Account::Logins && !self.first_question.is_zero()
    }

    /// The longest time to wait for the answer to this question on this account; zero: not at all. `timeout` is the time
    /// that the API has for one question.
    fn limit(&mut self, question: Fingerprint, payer: Payer, timeout: Duration, now: Instant) -> Duration {
        self.look_at_clock(timeout, now);
        match self.silent.get(&question) {
            Some(silent_question) if silent_question.holds(now) => return Duration::ZERO,
            Some(silent_question) if silent_question.tries >= TRIES => {
                self.silent.pop(&question);
            }
            _ => {}
        }
        let least = timeout / GRACE;
        let own = self.left_to(payer, timeout);
        // A shorter wait would not tell whether the API answers. (Where it has answered as many, it is told already.)
        let Payer { account, is_under_way, .. } = payer;
        let is_one_of_many = account.is_login() || account.is_replay() && is_under_way;
        if own < least && !(is_one_of_many && self.unanswered.is_zero()) {
            return Duration::ZERO;
        }
        let left = match timeout.saturating_sub(self.unanswered) {
            left if left >= least => left,
            _ if self.grace_taken => Duration::ZERO,
            _ => least,
        };
        left.min(own)
    }

    /// Whether there is time left in this turn to compute a slow hash for a login.
    pub(super) fn may_compute(&mut self, login_wait: Duration, timeout: Duration, now: Instant) -> bool {
        self.look_at_clock(timeout, now);
        login_wait.is_zero() || !self.left_to_logins(login_wait).is_zero()
    }

    /// A login has held up the broker for so long.
    pub(super) fn login_took(&mut self, spent: Duration, now: Instant) {
        self.logins += spent;
        self.last_login = now;
    }

    /// For how long logins may still hold up the broker in this turn. The first question is free.
    fn left_to_logins(&self, login_wait: Duration) -> Duration {
        login_wait.saturating_sub(self.logins.saturating_sub(self.first_question))
    }

    /// Gives back what time gives back where nothing tells turns apart.
    fn look_at_clock(&mut self, timeout: Duration, now: Instant) {
        // Longer than a turn can take, the waiting included.
        if now.saturating_duration_since(self.turn_began) >= TICKLESS + 2 * timeout {
            self.renew(now);
        }
        if !self.has_turns {
            // In between two logins of one turn there is next to no time.
            let rest = now.saturating_duration_since(self.last_login);
            self.logins = self.logins.saturating_sub(rest * PAID_BACK_FASTER);
            if self.logins.is_zero() {
                self.first_question = Duration::ZERO;
            }
            self.last_login = self.last_login.max(now);
        }
    }

    /// How long the broker may still wait on this account in this turn.
    fn left_to(&self, payer: Payer, timeout: Duration) -> Duration {
        let Payer { account, is_under_way, login_wait } = payer;
        match account {
            Account::Client(client) => timeout.saturating_sub(self.has_waited_for(client)),
            Account::Replay(client) => {
                let longest = if is_under_way { REPLAY * timeout } else { timeout };
                longest.saturating_sub(self.has_waited_for(client))
            }
            Account::LoginsBriefly if login_wait.is_zero() => MOMENT,
            Account::LoginsBriefly => self.left_to_logins(login_wait).min(MOMENT),
            Account::Logins if !login_wait.is_zero() && !self.first_question.is_zero() => {
                let left = self.left_to_logins(login_wait);
                // It will take as long as the first one did.
                let fits = is_under_way || left >= self.first_question;
                if fits { timeout.min(left) } else { Duration::ZERO }
            }
            Account::Logins | Account::Nobody => timeout,
        }
    }

    fn has_waited_for(&self, client: Fingerprint) -> Duration {
        self.waited_for.peek(&client).copied().unwrap_or_default()
    }

    /// Notes that this question is asked in the background; its answer will arrive in `slot`.
    pub(super) fn asked_in_background(&mut self, question: Fingerprint, slot: Arc<Slot>) {
        if let Some(silent_question) = self.silent.get_mut(&question) {
            silent_question.in_background = Some(slot);
        }
    }

    /// Counts a wait that is over.
    fn waited(&mut self, wait: Wait, timeout: Duration, now: Instant) {
        let Wait { question, payer, spent, answered } = wait;
        let own = self.left_to(payer, timeout);
        match payer.account {
            Account::Nobody => {}
            Account::Client(client) | Account::Replay(client) => {
                *self.waited_for.get_or_insert_mut(client, || Duration::ZERO) += spent;
            }
            Account::Logins => {
                if self.first_question.is_zero() {
                    self.first_question = spent;
                }
                self.login_took(spent, now);
            }
            Account::LoginsBriefly => self.login_took(spent, now),
        }
        if answered {
            self.silent.pop(&question);
            return;
        }
        // The wait was cut short because there was no more time left on that account. That does not tell whether the API
        // answers.
        if spent >= own && own < timeout.saturating_sub(self.unanswered) {
            return;
        }
        self.grace_taken |= timeout.saturating_sub(self.unanswered) < timeout / GRACE;
        self.unanswered += spent;
        // A shorter wait, such as for a connection that was refused at once, says nothing about the question.
        if spent >= timeout / GRACE {
            let new = || SilentQuestion { tries: 0, last: now, in_background: None };
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

    fn payer(account: Account) -> Payer {
        Payer { account, is_under_way: false, login_wait: Duration::ZERO }
    }

    fn of(client: Option<u8>) -> Payer {
        payer(client.map_or(Account::Nobody, |client| Account::Client(question(client))))
    }

    fn wait(n: u8, client: Option<u8>, answered: bool, spent: Duration) -> Wait {
        Wait { question: question(n), payer: of(client), spent, answered }
    }

    fn logins(login_wait: Duration, is_under_way: bool) -> Payer {
        Payer { account: Account::Logins, is_under_way, login_wait }
    }

    /// Logs in 100 clients in one turn, one after the other, at an API that takes `latency`. Returns how many were
    /// waited for to their end, and how long the broker waited for all.
    fn log_in(budget: &mut WaitBudget, latency: Duration, longest: Duration) -> (usize, Duration) {
        let (payer, mut now) = (logins(longest, false), Instant::now());
        let (mut answered, mut stalled) = (0, Duration::ZERO);
        for n in 0..100 {
            let limit = budget.limit(question(n), payer, TIMEOUT, now);
            if limit.is_zero() {
                continue;
            }
            let spent = limit.min(latency);
            now += spent;
            stalled += spent;
            answered += usize::from(limit >= latency);
            let wait = Wait { question: question(n), payer, spent, answered: limit >= latency };
            budget.waited(wait, TIMEOUT, now);
        }
        (answered, stalled)
    }

    #[test]
    fn logins_hold_up_a_turn_for_one_question_and_their_time() {
        let milliseconds = Duration::from_millis;
        let longest = milliseconds(500);
        for (latency, let_in, stalled) in [
            (milliseconds(20), 26, milliseconds(520)),
            (milliseconds(300), 2, milliseconds(600)),
            (milliseconds(1000), 1, milliseconds(1000)),
            (TIMEOUT * 2, 0, TIMEOUT),
        ] {
            let mut budget = WaitBudget::new(Instant::now());
            for _ in 0..3 {
                budget.new_turn(Instant::now());
                assert_eq!(log_in(&mut budget, latency, longest), (let_in, stalled), "{latency:?}");
            }
        }
        let mut budget = WaitBudget::new(Instant::now());
        let all = log_in(&mut budget, milliseconds(20), Duration::ZERO);
        assert_eq!(all, (100, milliseconds(2000)), "no bound");
        // Topics have what logins have used up.
        let mut budget = WaitBudget::new(Instant::now());
        log_in(&mut budget, milliseconds(20), longest);
        assert_eq!(budget.limit(question(200), of(None), TIMEOUT, Instant::now()), TIMEOUT);
    }

    #[test]
    fn what_was_asked_with_the_first_login_is_waited_for() {
        let (now, longest) = (Instant::now(), Duration::from_millis(500));
        let mut budget = WaitBudget::new(now);
        let second = Duration::from_secs(1);
        let first =
            Wait { question: question(0), payer: logins(longest, false), spent: second, answered: true };
        budget.waited(first, TIMEOUT, now);
        assert_eq!(budget.limit(question(1), logins(longest, false), TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(2), logins(longest, true), TIMEOUT, now), longest);
        let short = Duration::from_millis(3);
        let next = Wait { question: question(2), payer: logins(longest, true), spent: short, answered: true };
        budget.waited(next, TIMEOUT, now);
        assert_eq!(budget.limit(question(3), logins(longest, true), TIMEOUT, now), longest - short);
    }

    #[test]
    fn slow_hashes_and_questions_about_logins_share_their_time() {
        let (now, longest) = (Instant::now(), Duration::from_millis(500));
        let mut budget = WaitBudget::new(now);
        budget.new_turn(now);
        assert!(budget.may_compute(longest, TIMEOUT, now));
        budget.login_took(2 * longest, now);
        assert!(!budget.may_compute(longest, TIMEOUT, now));
        assert!(budget.may_compute(Duration::ZERO, TIMEOUT, now), "no bound");
        // The first question is waited for all the same, and leaves no time for a second one.
        assert_eq!(budget.limit(question(1), logins(longest, false), TIMEOUT, now), TIMEOUT);
        let payer = logins(longest, false);
        budget.waited(Wait { question: question(1), payer, spent: longest, answered: true }, TIMEOUT, now);
        assert_eq!(budget.limit(question(2), logins(longest, true), TIMEOUT, now), Duration::ZERO);
        budget.new_turn(now);
        assert!(budget.may_compute(longest, TIMEOUT, now));
    }

    #[test]
    fn who_can_be_parked_is_waited_for_no_longer_than_a_moment() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        let longest = Duration::from_millis(500);
        let briefly = Payer { account: Account::LoginsBriefly, ..logins(longest, false) };
        for n in 0..3 {
            assert_eq!(budget.limit(question(n), briefly, TIMEOUT, now), MOMENT);
            let wait = Wait { question: question(n), payer: briefly, spent: MOMENT, answered: false };
            budget.waited(wait, TIMEOUT, now);
        }
        // That says nothing about the API, nor about how long the first question may take.
        let payer = logins(longest, false);
        assert_eq!(budget.limit(question(9), payer, TIMEOUT, now), TIMEOUT);
        budget.waited(Wait { question: question(9), payer, spent: TIMEOUT, answered: true }, TIMEOUT, now);
        let left = longest - 3 * MOMENT;
        assert_eq!(budget.limit(question(10), logins(longest, true), TIMEOUT, now), left);
    }

    #[test]
    fn where_the_broker_never_ticks_logins_have_nine_tenths_of_the_time() {
        let (start, longest) = (Instant::now(), Duration::from_millis(500));
        let mut budget = WaitBudget::new(start);
        let (payer, mut now) = (logins(longest, false), start + TICKLESS);
        let mut stalled = Duration::ZERO;
        for n in 0..200 {
            let spent = budget.limit(question(n), payer, TIMEOUT, now).min(Duration::from_millis(20));
            if spent.is_zero() {
                now += Duration::from_millis(1);
                continue;
            }
            now += spent;
            stalled += spent;
            budget.waited(Wait { question: question(n), payer, spent, answered: true }, TIMEOUT, now);
        }
        let rest = now - (start + TICKLESS) - stalled;
        assert!(
            stalled <= longest + rest * PAID_BACK_FASTER + Duration::from_millis(20),
            "{stalled:?} and {rest:?}"
        );
        assert!(stalled > longest);
    }

    #[test]
    fn one_client_has_the_time_out_in_a_turn_for_all_that_is_answered() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        let mut spent = Duration::ZERO;
        for n in 0..100 {
            let limit = budget.limit(question(n), of(Some(200)), TIMEOUT, now);
            let took = limit.min(TIMEOUT / 15);
            budget.waited(wait(n, Some(200), true, took), TIMEOUT, now);
            spent += took;
        }
        assert!(spent <= TIMEOUT && spent > TIMEOUT - TIMEOUT / GRACE, "{spent:?}");
        // Neither others nor those who are not known pay for it.
        for client in [Some(201), None] {
            assert_eq!(budget.limit(question(1), of(client), TIMEOUT, now), TIMEOUT);
        }
        budget.new_turn(now);
        assert_eq!(budget.limit(question(1), of(Some(200)), TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn what_a_client_uses_up_is_not_taken_for_silence() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for _ in 0..TRIES {
            budget.new_turn(now);
            budget.waited(wait(1, Some(200), true, TIMEOUT / 2), TIMEOUT, now);
            let limit = budget.limit(question(2), of(Some(200)), TIMEOUT, now);
            assert_eq!(limit, TIMEOUT / 2);
            budget.waited(wait(2, Some(200), false, limit), TIMEOUT, now);
        }
        assert_eq!(budget.limit(question(2), of(Some(200)), TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(2), of(Some(201)), TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn retained_messages_that_are_asked_about_side_by_side_have_twice_the_time() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        let client = question(200);
        let replay = |is_under_way| Payer { is_under_way, ..payer(Account::Replay(client)) };
        let mut spent = Duration::ZERO;
        for n in 0..250 {
            let limit = budget.limit(question(n), replay(true), TIMEOUT, now);
            let took = limit.min(Duration::from_millis(20));
            budget.waited(
                Wait { question: question(n), payer: replay(true), spent: took, answered: true },
                TIMEOUT,
                now,
            );
            spent += took;
        }
        assert_eq!(spent, 2 * TIMEOUT);
        for payer in [replay(false), of(Some(200))] {
            assert_eq!(budget.limit(question(251), payer, TIMEOUT, now), Duration::ZERO, "{payer:?}");
        }
    }

    #[test]
    fn clients_that_made_the_broker_wait_are_bounded() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for n in 0..3 * CLIENTS.get() {
            let client = Fingerprinter::with_key(&[9; 16]).fields(Domain::Client, [&n.to_le_bytes()]);
            budget.waited(
                Wait {
                    question: client,
                    payer: payer(Account::Client(client)),
                    spent: TIMEOUT,
                    answered: true,
                },
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
            let limit = budget.limit(question(n), of(None), TIMEOUT, now);
            let answered = n % 3 == 0;
            budget.waited(wait(n, None, answered, limit), TIMEOUT, now);
            spent += if answered { Duration::ZERO } else { limit };
        }
        assert_eq!(spent, TIMEOUT + TIMEOUT / GRACE);
        budget.new_turn(now);
        assert_eq!(budget.limit(question(200), of(None), TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn where_the_broker_never_ticks_a_pause_restores_budget() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        budget.waited(wait(1, None, false, TIMEOUT), TIMEOUT, now);
        budget.waited(wait(2, None, false, TIMEOUT / GRACE), TIMEOUT, now);
        assert_eq!(budget.limit(question(3), of(None), TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(3), of(None), TIMEOUT, now + TICKLESS + 2 * TIMEOUT), TIMEOUT);
    }

    #[test]
    fn refused_connections_cost_little_budget() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for _ in 0..10 {
            budget.waited(wait(1, None, false, Duration::from_millis(1)), TIMEOUT, now);
        }
        assert_eq!(budget.limit(question(1), of(None), TIMEOUT, now), TIMEOUT - Duration::from_millis(10));
    }

    #[test]
    fn a_question_that_makes_the_api_silent_again_and_again_is_not_waited_for() {
        let now = Instant::now();
        let mut budget = WaitBudget::new(now);
        for _ in 0..TRIES {
            budget.new_turn(now);
            assert_eq!(budget.limit(question(1), of(None), TIMEOUT, now), TIMEOUT);
            budget.waited(wait(1, None, false, TIMEOUT), TIMEOUT, now);
        }
        budget.new_turn(now);
        assert_eq!(budget.limit(question(1), of(None), TIMEOUT, now), Duration::ZERO);
        assert_eq!(budget.limit(question(2), of(None), TIMEOUT, now), TIMEOUT);
        assert_eq!(budget.limit(question(1), of(None), TIMEOUT, now + REMEMBERED), TIMEOUT);
    }
}
