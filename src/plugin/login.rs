//! Decides logins (`MOSQ_EVT_BASIC_AUTH`). Clients that wait beside the broker's loop are let in or refused in
//! `completion`.

mod completion;
mod debts;
mod early;
mod granting;
mod kick;
mod left_behind;
mod open_tries;
mod owners;
mod parking;
mod placement;
mod warm_up;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use super::api::{Account, Inquiry, no_answer};
use super::attempt::{Attempt, LoginSteps, decide};
use super::decision::{By, Decision, LoggedClient, Ruling};
use super::delayed::{Delayed, Ticket};
use super::event::{Event, Login};
use super::hasher::{Check, Hasher};
use super::parts::Parts;
use super::recheck::Recheck;
use super::sessions::{LetInBy, Session};
use super::tasks::Task;
use super::throttle::{Admission, OpenTry};
use crate::ask::Priority;
use crate::broker::{BrokerCell, BrokerThread, Client};
use crate::config::ThrottleLimits;
use crate::local::PasswordHash;
use crate::log::sentence;
use crate::question::NoAnswer;
use debts::Debts;
use early::EarlySenders;
use owners::Owners;
use placement::{LONGEST_FOR_HASH, LONGEST_UNDER_ANOTHERS_ID, Placement};

/// Decides about logins.
pub struct Logins {
    /// Answers the broker's checks of sessions after a SIGHUP.
    recheck: Arc<Recheck>,
    /// The parked clients.
    delayed: BrokerCell<Delayed>,
    /// How many they are.
    parked: Arc<AtomicUsize>,
    /// Those who are not to be parked.
    early: BrokerCell<EarlySenders>,
    /// What the broker has waited in vain.
    debts: BrokerCell<Debts>,
    /// Whose client ids are.
    owners: BrokerCell<Owners>,
    /// Started with the first slow password hash.
    hasher: OnceCell<Hasher<Ticket>>,
    /// What all parts of the plugin have in common.
    parts: Parts,
}

/// A login that is decided about for real.
struct Live<'a> {
    logins: &'a Logins,
    event: &'a Event<'a>,
}

impl LoginSteps for Live<'_> {
    type Outcome = Decision;
    type Try = OpenTry;

    fn unasked(&self, decision: Decision) -> Decision {
        decision
    }

    fn remembered(&self, attempt: &Attempt<'_>) -> Option<Decision> {
        self.logins.remembered(attempt, self.event)
    }

    fn admit(&self, attempt: &Attempt<'_>) -> ControlFlow<Decision, OpenTry> {
        let Self { logins, event } = *self;
        let limits = &event.settings.config.throttle;
        match logins.parts.throttle.admit(&attempt.as_try(), limits, event.now) {
            Admission::Now(open) => ControlFlow::Continue(open),
            Admission::WaitForTurn(group) => ControlFlow::Break(logins.park_for_turn(attempt, group, event)),
            Admission::Throttled(pause) => ControlFlow::Break(Decision::deny(By::Throttle(pause))),
        }
    }

    fn examine(&self, attempt: &Attempt<'_>, open: OpenTry) -> Decision {
        self.logins.examine(attempt, open, None, self.event)
    }
}

impl Logins {
    /// Nobody has logged in.
    pub fn new(parts: Parts, recheck: Arc<Recheck>, now: Instant) -> Self {
        let delayed = Delayed::default();
        Self {
            recheck,
            parked: delayed.count(),
            delayed: BrokerCell::new(delayed),
            early: BrokerCell::new(EarlySenders::new()),
            debts: BrokerCell::new(Debts::new(now)),
            owners: BrokerCell::new(Owners::new(parts.keys)),
            hasher: OnceCell::new(),
            parts,
        }
    }

    /// Decides a login, logs a refusal, and notes a client that is let in.
    pub fn authenticate(&self, login: &Login<'_>, event: &Event<'_>) -> Decision {
        let more = |fields: &[_]| self.parts.api.more(fields, login.client, login.details, None);
        let Some(attempt) = Attempt::new(login, event.settings, &self.parts.keys, more) else {
            return Decision::defer(By::NotOurs);
        };
        let Attempt { client, username, .. } = attempt;
        if let Some(decision) = self.recheck.check_again(&attempt, login.details, event) {
            self.log_refusal(client, Some(username), &decision, event.now);
            return decision;
        }
        self.recheck.revoke_without_ticks(&attempt, event);
        let decision = decide(&attempt, event.settings, &Live { logins: self, event });
        let decision = decision.or_deferred(&event.settings.config.defer_status);
        let (decision, granted) = self.last_word(&attempt, decision, event);
        match decision.ruling {
            Ruling::Allow => {
                self.admit(&attempt, event);
                self.grant(&attempt, granted);
                self.note_owner(&attempt, event);
            }
            Ruling::Defer if !self.parts.broker.is_2_1() => {
                self.parts.sessions.note_deferred(client.connection, attempt.credentials);
            }
            _ => {}
        }
        let username = (decision.by != By::NoUsername).then_some(username);
        self.log_refusal(client, username, &decision, event.now);
        decision
    }

    /// The decision by a remembered verdict, if there is one. The first use of a verdict that was asked for early
    /// counts as asking now, so it has to pass the throttle.
    fn remembered(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> Option<Decision> {
        let reads_bodies = event.settings.config.answer_rules;
        let renewer = || reads_bodies.then(|| self.parts.granting.renewer(attempt.session_name()));
        let inquiry = attempt.inquiry()?;
        let hit = self.parts.api.remembered(&inquiry, renewer, event.now)?;
        let is_first_use = hit.is_first_use;
        let decision = Decision::by_memory(hit);
        if is_first_use {
            self.parts.api.look_on(&inquiry, event);
            let limits = &event.settings.config.throttle;
            let refused_by = match self.parts.throttle.admit(&attempt.as_try(), limits, event.now) {
                Admission::Now(open) => {
                    self.close(open, &decision, event);
                    None
                }
                Admission::WaitForTurn(_) => Some(By::Turn),
                Admission::Throttled(pause) => Some(By::Throttle(pause)),
            };
            if let Some(by) = refused_by {
                // It counts as used by now: the next try with this password would pass by the throttle.
                self.parts.asker.drop_verdict(inquiry.key);
                return Some(Decision::deny(by));
            }
        }
        Some(if decision.is_allow() { self.warm_up(attempt, decision, event) } else { decision })
    }

    /// For how long a login would be refused and its password not examined, if it would. Changes nothing.
    pub fn throttle_pause(
        &self,
        attempt: &Attempt<'_>,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> Option<Duration> {
        self.parts.throttle.inspect(&attempt.as_try(), limits, now)
    }

    /// Compares a password with the hash of a local user, or has the API asked. If that takes long, the client waits
    /// beside the broker's loop: on its ticket if it is `parked` already, or else it is parked now.
    fn examine(
        &self,
        attempt: &Attempt<'_>,
        open: OpenTry,
        parked: Option<Ticket>,
        event: &Event<'_>,
    ) -> Decision {
        let decision = match &attempt.hash {
            Some(hash) => self.compare(attempt, hash, open, parked, event),
            None => self.ask(attempt, open, parked, event),
        };
        if decision.ruling != Ruling::Later {
            self.close(open, &decision, event);
        }
        decision
    }

    /// Compares the password of a local user: here, or on the hasher's thread if the hash is slow.
    fn compare(
        &self,
        attempt: &Attempt<'_>,
        hash: &Arc<PasswordHash>,
        open: OpenTry,
        parked: Option<Ticket>,
        event: &Event<'_>,
    ) -> Decision {
        // A client that sends no password is refused even if the hash is that of an empty one, as the broker does.
        let Some(password) = attempt.password else { return Decision::deny(By::LocalPassword) };
        if !hash.is_slow() {
            return Decision::of(hash.verify(password).into(), By::LocalPassword);
        }
        let arrival = self.arrival(attempt, Some(&open), parked, event);
        match self.choose_placement(&arrival, event) {
            Placement::Nowhere => return Decision::deny(By::NoTimeForHash),
            Placement::InLoop { account: Account::Logins, .. } if self.parts.api.may_compute(event) => {
                let began = Instant::now();
                let matches = hash.verify(password);
                self.parts.api.charge_hash(began, event);
                self.charge_network(attempt, began, matches, event);
                return Decision::of(matches.into(), By::LocalPassword);
            }
            Placement::InLoop { then_parked: false, .. } => return Decision::deny(By::NoTimeForHash),
            Placement::InLoop { .. } | Placement::Parked => {}
        }
        let hasher = match self.hasher.get_or_try_init(|| self.start_hasher()) {
            Ok(hasher) => hasher,
            Err(_) => return Decision::deny(By::NoThreadForHash),
        };
        let Some((thread, ticket)) = self.parked_on(&arrival, event) else {
            return Decision::deny(By::TooManyWait);
        };
        let until = arrival.until(LONGEST_FOR_HASH, event);
        self.delayed.with(thread, |delayed| delayed.await_outcome(ticket, open, Some(until)));
        let source = attempt.source(&self.parts.keys);
        let check = Check { ticket, source, hash: Arc::clone(hash), password: password.to_owned() };
        for check in hasher.check(check, event.now) {
            self.parts.tasks.push(Task::PasswordChecked(check.ticket, None));
        }
        PARKED
    }

    fn start_hasher(&self) -> io::Result<Hasher<Ticket>> {
        let tasks = Arc::clone(&self.parts.tasks);
        Hasher::start(&|body| self.parts.broker.spawn(body), move |ticket, matches| {
            tasks.push(Task::PasswordChecked(ticket, Some(matches)))
        })
    }

    /// Has the API decide. The client waits beside the broker's loop, or the broker waits.
    fn ask(
        &self,
        attempt: &Attempt<'_>,
        open: OpenTry,
        parked: Option<Ticket>,
        event: &Event<'_>,
    ) -> Decision {
        let Some(inquiry) = attempt.inquiry() else { return Decision::deny(By::PasswordIsNoText) };
        let Inquiry { key, question, .. } = inquiry;
        let arrival = self.arrival(attempt, Some(&open), parked, event);
        let cut = match self.choose_placement(&arrival, event) {
            Placement::Parked => None,
            Placement::Nowhere => return self.parts.api.login_in_background(&inquiry, event),
            Placement::InLoop { account, then_parked } => {
                match self.ask_here(attempt, &inquiry, account, then_parked, event) {
                    ControlFlow::Break(decision) => return decision,
                    ControlFlow::Continue(decision) => Some(decision),
                }
            }
        };
        let source = attempt.source(&self.parts.keys);
        if let Some(decision) = self.parts.api.without_waiting(&inquiry, event.now) {
            return cut.filter(|_| !decision.is_allow()).unwrap_or(decision);
        }
        let Some((thread, ticket)) = self.parked_on(&arrival, event) else {
            return cut.unwrap_or_else(|| Decision::deny(By::TooManyWait));
        };
        if let Err(reason) = self.parts.asker.ask(
            key,
            &question,
            source,
            Priority::Login,
            Some(self.waiter(ticket)),
            event.now,
        ) {
            self.delayed.with(thread, |delayed| delayed.end(ticket));
            return self.parts.api.or_stale(key, no_answer(reason), event.now);
        }
        // The answer is heard at the tick, which is later also where it has come already.
        let until = arrival.is_under_anothers_id.then(|| arrival.until(LONGEST_UNDER_ANOTHERS_ID, event));
        self.delayed.with(thread, |delayed| delayed.await_outcome(ticket, open, until));
        let gate = self.parts.api.gate(event);
        self.parts.prefetch.peek_at_logins(thread, &gate.scope(&|| source, Instant::now()));
        PARKED
    }

    /// Has the API decide while the broker waits. That is the last word, or else (`Continue`) what is said if the client
    /// cannot wait beside the loop either: its question may go on.
    fn ask_here(
        &self,
        attempt: &Attempt<'_>,
        inquiry: &Inquiry<'_>,
        account: Account,
        then_parked: bool,
        event: &Event<'_>,
    ) -> ControlFlow<Decision, Decision> {
        let began = Instant::now();
        let decision = self.parts.api.wait_for(inquiry, account, event);
        self.charge_network(attempt, began, decision.is_allow(), event);
        if then_parked && decision.by == By::NoAnswer(NoAnswer::LoginWaitSpent) {
            return ControlFlow::Continue(decision);
        }
        if decision.is_allow() {
            self.prefetch(attempt, decision.terms.as_deref(), None, event);
        }
        ControlFlow::Break(decision)
    }

    /// The broker's thread, where a client can wait beside its loop. Requests to the broker's HTTP listener cannot: they come
    /// on a thread of their own.
    fn parking_thread<'a>(&self, event: &Event<'a>) -> Option<&'a BrokerThread> {
        event.broker_thread().filter(|_| self.parts.delays)
    }

    /// Notes that a client is let in. Returns its session as it was known before, if it was.
    fn admit(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> Option<Session> {
        // A request to the broker's HTTP listener has no session, and its id may be that of a client.
        let thread = event.broker_thread()?;
        let Attempt { client, username, starts_clean, level, credentials, key, .. } = *attempt;
        let by = attempt.hash.clone().map_or(LetInBy::Api(key), LetInBy::Local);
        // Its names are kept where that helps to look ahead.
        let config = &event.settings.config;
        let is_looked_at = config.lookahead && !config.acl_urls.is_empty() && attempt.hash.is_none();
        let level = is_looked_at.then_some(level);
        let before = self.parts.sessions.admit(client, username, credentials, by.clone(), level, event.now);
        // Rules go by the answer: what others of the same name were allowed to subscribe to implies nothing.
        let is_another = before.as_ref().is_some_and(|before| !before.was_let_in(credentials, &by));
        let starts_anew = starts_clean || config.answer_rules && is_another;
        self.parts.prefetch.note_let_in(client.id, username, starts_anew, thread);
        before
    }

    /// Logs a decision if it is a refusal.
    fn log_refusal(&self, client: Client<'_>, username: Option<&str>, decision: &Decision, now: Instant) {
        if decision.ruling == Ruling::Deny {
            let who = || LoggedClient(client, username);
            let refused = decision.by.as_refusal(client);
            self.parts
                .log
                .refusal(now, &refused, || sentence(format!("Refused to let {} in: {}", who(), decision.by)));
        }
    }
}

/// The client waits beside the broker's loop.
const PARKED: Decision = Decision::new(Ruling::Later, By::Parked);
