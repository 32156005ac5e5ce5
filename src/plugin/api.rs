//! The API's part in a decision: its remembered verdict, its answer now, and the stale allow that serves without one.

mod gate;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

use super::decision::{By, Decision};
use super::event::Event;
use super::sessions::Sessions;
use super::throttle::Throttle;
use super::ticks::Ticks;
pub use super::wait_budget::Account;
use super::wait_budget::{Allotment, WaitBudget};
use crate::ask::more_fields::{self, Certificates, FieldSource};
use crate::ask::{Asker, Pending, Priority, Waiter};
use crate::broker::{BrokerCell, BrokerThread, Client, Details};
use crate::cache::Hit;
use crate::config::Field;
use crate::fingerprint::{Fingerprint, Source};
use crate::prefetch::Prefetch;
use crate::prefetch::subscriptions::Expected;
use crate::question::{Answer, NoAnswer, Question};
use crate::util::Lock;
pub use gate::SettingsGate;

/// A question of the broker, and the client that it is about.
#[derive(Clone, Copy)]
pub struct Inquiry<'a> {
    /// The fingerprint of the question.
    pub key: Fingerprint,
    /// The question.
    pub question: Question<'a>,
    /// The client.
    pub client: Client<'a>,
    /// The network and username that it is asked for, once they are known: see [`Api::source`].
    pub source: &'a OnceCell<Source>,
}

/// Decides by the API, on the thread that calls.
pub struct Api {
    /// The door to the API's verdicts.
    asker: Arc<Asker>,
    /// Asks early while the broker waits.
    prefetch: Arc<Prefetch>,
    /// The turns of the broker's loop.
    ticks: Arc<Ticks>,
    sessions: Arc<Sessions>,
    throttle: Arc<Throttle>,
    certificates: Certificates,
    /// Whether clients wait beside the broker's loop for their logins.
    delays: bool,
    /// How long the broker's thread may wait.
    budget: BrokerCell<WaitBudget>,
    /// How long the thread of the broker's HTTP listener may wait. It has no turns, and the broker does not stop before
    /// all requests there are answered.
    http_budget: Lock<WaitBudget>,
}

impl Api {
    /// An API that was not asked yet.
    pub fn new(
        asker: Arc<Asker>,
        prefetch: Arc<Prefetch>,
        ticks: Arc<Ticks>,
        sessions: Arc<Sessions>,
        throttle: Arc<Throttle>,
        delays: bool,
        now: Instant,
    ) -> Self {
        Self {
            asker,
            prefetch,
            ticks,
            sessions,
            throttle,
            certificates: Certificates::default(),
            delays,
            budget: BrokerCell::new(WaitBudget::new(now)),
            http_budget: Lock::new(WaitBudget::new(now)),
        }
    }

    /// What an option adds to a question about a client, and about a message of which quality of service and retain flag:
    /// see [`more_fields::json`].
    #[inline]
    pub fn more(
        &self,
        fields: &[Field],
        client: Client<'_>,
        details: &dyn Details,
        message: Option<(u8, bool)>,
    ) -> String {
        if fields.is_empty() {
            return String::new();
        }
        let known = FieldSource { client_id: client.id, address: client.address, details, message };
        more_fields::json(fields, &known, Some(&self.certificates))
    }

    /// Begins a turn of the broker's loop.
    pub fn new_turn(&self, thread: &BrokerThread, now: Instant) {
        self.ticks.tick();
        self.budget.with(thread, |budget| budget.new_turn(now));
        self.prefetch.new_turn();
        self.asker.new_turn(now);
    }

    /// The remembered verdict, if there is one. An allow near its end is asked about again, and nothing waits for that.
    /// `waiter` hears of the answer to that.
    pub fn remembered(
        &self,
        inquiry: &Inquiry<'_>,
        waiter: impl FnOnce() -> Option<Waiter>,
        now: Instant,
    ) -> Option<Hit> {
        let Inquiry { key, question, .. } = *inquiry;
        let hit = self.asker.known(key, now)?;
        if hit.is_first_use {
            self.prefetch.confirm(key);
        }
        if hit.refresh && !self.asker.is_in_vain(question.kind(), self.source(inquiry), now) {
            self.refresh(inquiry, waiter(), now);
        }
        Some(hit)
    }

    /// Has the API asked once more in the background.
    fn refresh(&self, inquiry: &Inquiry<'_>, waiter: Option<Waiter>, now: Instant) {
        let Inquiry { key, question, .. } = *inquiry;
        // Where there is no thread to ask with, the next question will say so.
        let _ = self.asker.ask(key, &question, self.source(inquiry), Priority::Refresh, waiter, now);
    }

    /// Asks the API and waits for its verdict, at most as long as the budget allows. On the broker's thread every
    /// client waits with it.
    pub fn wait_for(&self, inquiry: &Inquiry<'_>, account: Account, event: &Event<'_>) -> Decision {
        let Inquiry { key, question, .. } = *inquiry;
        let source = self.source(inquiry);
        if let Some(decision) = self.without_waiting(inquiry, event.now) {
            return decision;
        }
        let allotted = self.allot(key, account, event);
        if allotted.limit.is_zero() {
            return if account.is_login() {
                self.ask_in_background(inquiry, Priority::Speculative, NoAnswer::LoginWaitSpent, event)
            } else {
                self.ask_in_background(inquiry, Priority::Refresh, NoAnswer::BudgetSpent, event)
            };
        }
        let asked = match self.asker.ask(key, &question, source, Priority::Broker, None, event.now) {
            Ok(asked) => asked,
            Err(reason) => return self.or_stale(key, no_answer(reason), event.now),
        };
        if asked.was_under_way {
            self.prefetch.confirm(key);
        }
        let is_about_topic = !account.is_login() && event.broker_thread().is_some();
        let waiting = is_about_topic.then(|| self.asker.broker_waits());
        let readers = self.ask_ahead_of(inquiry, account, &asked, &event.at(allotted.began));
        let (answer, answered_at) = self.wait(inquiry, account, &asked, &allotted, event);
        drop(waiting);
        let decision = self.or_stale(key, Decision::by_answer(&answer), answered_at);
        self.prefetch.note_outcome(&question, key, decision.is_allow());
        if decision.is_allow() && event.broker_thread().is_some() && !account.is_replay() {
            // The API is asked about readers only now that the message is allowed.
            let readers = readers.unwrap_or_else(|| self.fan_out(&question, source, &event.at(answered_at)));
            self.prefetch.expect(&question, &readers, answered_at);
        }
        decision
    }

    /// Has the API asked about a login for which the broker is not to wait, and decides without its answer.
    pub fn login_in_background(&self, inquiry: &Inquiry<'_>, event: &Event<'_>) -> Decision {
        let decided = self.without_waiting(inquiry, event.now);
        decided.unwrap_or_else(|| {
            self.ask_in_background(inquiry, Priority::Speculative, NoAnswer::LoginWaitSpent, event)
        })
    }

    /// Uses what counts how long the thread of an event may wait: the broker's HTTP listener has a thread of its own.
    fn with_budget<R>(&self, event: &Event<'_>, body: impl FnOnce(&mut WaitBudget) -> R) -> R {
        match event.broker_thread() {
            Some(thread) => self.budget.with(thread, body),
            None => body(&mut self.http_budget.lock()),
        }
    }

    /// Finds out how long the broker may wait for the answer to this question.
    fn allot(&self, question: Fingerprint, account: Account, event: &Event<'_>) -> Allotment {
        let config = &event.settings.config;
        let times = (config.timeout, config.login_wait);
        // Only requests to the broker's HTTP listener wait on its thread.
        let account = if event.broker_thread().is_some() { account } else { Account::Nobody };
        let is_under_way = || self.asker.is_under_way(question);
        self.with_budget(event, |budget| {
            // The time of the event may be some milliseconds in the future, which is as long as a wait takes.
            budget.allot(question, account, times, is_under_way, Instant::now())
        })
    }

    /// Whether the broker may stand still now for a login whose hash takes long to compute.
    pub fn may_compute(&self, event: &Event<'_>) -> bool {
        let config = &event.settings.config;
        let (login_wait, timeout) = (config.login_wait, config.timeout);
        event.broker_thread().is_none_or(|thread| {
            self.budget.with(thread, |budget| budget.may_compute(login_wait, timeout, Instant::now()))
        })
    }

    /// Counts that the broker has stood still for a slow hash since `began`.
    pub fn charge_hash(&self, began: Instant, event: &Event<'_>) {
        if let Some(thread) = event.broker_thread() {
            let now = Instant::now();
            self.asker.held_up_by_hash(now - began);
            self.budget.with(thread, |budget| budget.login_took(now - began, now));
        }
    }

    /// Waits for an answer as long as is allotted for it, and counts that. Returns it, and when the wait was over.
    fn wait(
        &self,
        inquiry: &Inquiry<'_>,
        account: Account,
        asked: &Pending,
        allotted: &Allotment,
        event: &Event<'_>,
    ) -> (Answer, Instant) {
        let (Inquiry { key, question, .. }, Allotment { limit, timeout, began, .. }) = (inquiry, *allotted);
        let answer = asked.slot.wait(limit.saturating_sub(began.elapsed()));
        let answered = matches!(answer, Some(Answer::Verdict { .. }));
        let over = Instant::now();
        if event.broker_thread().is_some() {
            self.asker.held_up(question.kind(), over.saturating_duration_since(began));
        }
        self.with_budget(event, |budget| budget.settle(allotted, answered, over));
        let answer = answer.unwrap_or_else(|| {
            if account.is_login() {
                // The client leaves before it is known whether it has guessed right.
                self.asker.nobody_waits(*key);
            }
            let is_cut = account.is_login() && (limit < timeout || account == Account::LoginsBriefly);
            Answer::None(if is_cut { NoAnswer::LoginWaitSpent } else { NoAnswer::TimedOut(limit) })
        });
        (answer, over)
    }

    /// The decision where asking would bring no answer. If the API is silent to unknown usernames, it may be silent to all: a
    /// client with a stale allow is then let in at once, and the API is asked in the background.
    pub fn without_waiting(&self, inquiry: &Inquiry<'_>, now: Instant) -> Option<Decision> {
        let Inquiry { key, question, .. } = *inquiry;
        let (kind, source) = (question.kind(), self.source(inquiry));
        if self.asker.is_in_vain(kind, source, now) {
            return Some(self.or_stale(key, no_answer(NoAnswer::BreakerOpen), now));
        }
        if !self.asker.refuses(kind, source.of_stranger(), now) {
            return None;
        }
        let allow = self.asker.stale_allow(key, now)?;
        self.refresh(inquiry, None, now);
        Some(Decision::allow(By::Stale).with(allow.terms))
    }

    /// Decides without waiting: by what was asked ahead, if that has come since the caller looked, or else by a refusal.
    /// Then the API is asked all the same: its answer will be there when the client comes again.
    fn ask_in_background(
        &self,
        inquiry: &Inquiry<'_>,
        priority: Priority,
        why: NoAnswer,
        event: &Event<'_>,
    ) -> Decision {
        let (Inquiry { key, question, .. }, now) = (*inquiry, event.now);
        if let Some(hit) = self.remembered(inquiry, || None, now) {
            return Decision::by_memory(hit);
        }
        let why = match self.asker.ask(key, &question, self.source(inquiry), priority, None, now) {
            Ok(asked) => {
                self.with_budget(event, |budget| budget.asked_in_background(key, asked.slot));
                why
            }
            Err(reason) => reason,
        };
        self.or_stale(key, no_answer(why), now)
    }

    /// While a question is on its way that the broker waits for, sends those that it will come to next. Returns the readers
    /// of its message that were asked about, if it was time for that.
    fn ask_ahead_of(
        &self,
        inquiry: &Inquiry<'_>,
        account: Account,
        asked: &Pending,
        event: &Event<'_>,
    ) -> Option<Vec<Expected>> {
        let thread = event.broker_thread()?;
        let Inquiry { key, ref question, client, .. } = *inquiry;
        // While it waits for a login, no other login is parked.
        let guesses_logins = account.is_login() || !self.delays;
        let gate = SettingsGate { guesses_logins, ..self.gate(event) };
        let source = self.source(inquiry);
        let asked_for = || source;
        let scope = gate.scope(&asked_for, event.now);
        let mut readers = None;
        if account.is_replay() {
            self.prefetch.replay_goes_on(&scope);
        } else if self.prefetch.will_be_read(question, key) {
            readers = Some(self.fan_out(question, source, event));
        }
        if !asked.was_under_way {
            self.prefetch.ask_rest(question, client.connection, thread, &scope);
        }
        self.prefetch.peek(thread, client.connection, &|| asked.slot.is_answered(), &scope);
        readers
    }

    /// The broker goes on without waiting, by a verdict that was asked for early. Keeps what it comes to next on its way.
    pub fn look_on(&self, inquiry: &Inquiry<'_>, event: &Event<'_>) {
        let Some(thread) = event.broker_thread() else { return };
        let (gate, source) = (self.gate(event), || self.source(inquiry));
        self.prefetch.look_on(thread, inquiry.client.connection, &gate.scope(&source, event.now));
    }

    /// Asks about all readers of the message that a question is about. Returns those that were asked about.
    fn fan_out(&self, question: &Question<'_>, source: Source, event: &Event<'_>) -> Vec<Expected> {
        let is_tickless = || self.ticks.is_tickless(event.now);
        self.prefetch.fan_out(question, is_tickless, &self.gate(event).scope(&|| source, event.now))
    }

    /// The network and username that a question is asked for. Kept, since several steps go by it and it takes two hashes.
    pub fn source(&self, inquiry: &Inquiry<'_>) -> Source {
        let found = || self.asker.source(inquiry.client.address, inquiry.question.username());
        *inquiry.source.get_or_init(found)
    }

    /// The decision itself, or an allow if it says that the API gave no answer and an allow is remembered that may
    /// still serve (`stale_ttl`).
    pub fn or_stale(&self, key: Fingerprint, decision: Decision, now: Instant) -> Decision {
        if decision.is_no_answer_of_the_api()
            && let Some(allow) = self.asker.stale_allow(key, now)
        {
            return Decision::allow(By::Stale).with(allow.terms);
        }
        decision
    }

    /// What prefetching has to check before it asks the API.
    pub fn gate<'a>(&'a self, event: &Event<'a>) -> SettingsGate<'a> {
        SettingsGate {
            api: self,
            settings: event.settings,
            now: event.now,
            // Delayed logins are asked side by side anyway.
            guesses_logins: !self.delays,
            newcomer: None,
        }
    }
}

/// The refusal for want of an answer.
pub fn no_answer(reason: NoAnswer) -> Decision {
    Decision::deny(By::NoAnswer(reason))
}
