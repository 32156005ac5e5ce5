//! The API's part in a decision: what it has said, what it says now, and what serves while it says nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::decision::{By, Decision};
use super::event::Event;
use super::sessions::Sessions;
use super::settings::Settings;
use super::throttle::{Throttle, Try};
use super::wait_budget::{Wait, WaitBudget};
use crate::ask::{Asker, Priority};
use crate::broker::{Client, Connection};
use crate::cache::Hit;
use crate::fingerprint::{Fingerprint, Source};
use crate::prefetch::peek::Identity;
use crate::prefetch::subscriptions::Expected;
use crate::prefetch::{Gate, Prefetch, Scope};
use crate::question::{Answer, NoAnswer, Question};
use crate::util::Lock;

/// A question of the broker, and the client that it is about.
#[derive(Clone, Copy)]
pub struct Inquiry<'a> {
    pub key: Fingerprint,
    pub question: Question<'a>,
    pub client: Client<'a>,
}

/// Who makes the broker wait: what one client can make it wait for in one turn of its loop is bounded.
#[derive(Clone, Copy)]
pub enum Account {
    /// Nobody who could be named: of a login nothing is known yet.
    Nobody,
    /// This client, by what it does itself.
    Client(Fingerprint),
    /// This client, by a subscription for which the broker goes through the retained messages.
    Replay(Fingerprint),
}

impl Account {
    fn client(self) -> Option<Fingerprint> {
        match self {
            Account::Nobody => None,
            Account::Client(client) | Account::Replay(client) => Some(client),
        }
    }
}

/// Decisions by the API for callers that wait for it.
pub struct Api {
    pub asker: Arc<Asker>,
    pub prefetch: Arc<Prefetch>,
    sessions: Arc<Sessions>,
    throttle: Arc<Throttle>,
    /// Whether clients wait beside the broker's loop for their logins.
    delays_logins: bool,
    budget: Lock<WaitBudget>,
    /// That of the broker's HTTP listener. Its thread has no turns, and the broker stops only when all the
    /// requests that wait there are answered.
    http_budget: Lock<WaitBudget>,
}

impl Api {
    pub fn new(
        asker: Arc<Asker>,
        prefetch: Arc<Prefetch>,
        sessions: Arc<Sessions>,
        throttle: Arc<Throttle>,
        delays_logins: bool,
        now: Instant,
    ) -> Self {
        Self {
            asker,
            prefetch,
            sessions,
            throttle,
            delays_logins,
            budget: Lock::new(WaitBudget::new(now)),
            http_budget: Lock::new(WaitBudget::new(now)),
        }
    }

    /// The broker's loop has come round.
    pub fn new_turn(&self, now: Instant) {
        self.budget.lock().new_turn(now);
        self.prefetch.new_turn();
    }

    /// Whether this broker seems not to tick.
    pub fn is_tickless(&self, now: Instant) -> bool {
        self.budget.lock().is_tickless(now)
    }

    /// The remembered verdict, if there is one. An allow near its end is asked again beside.
    pub fn remembered(&self, inquiry: &Inquiry<'_>, now: Instant) -> Option<Hit> {
        let Inquiry { key, question, .. } = *inquiry;
        let hit = self.asker.known(key, now)?;
        if hit.is_first_use {
            self.prefetch.confirm(key);
        }
        if hit.refresh && !self.asker.is_open(question.kind(), self.source(inquiry), now) {
            // Where there is no thread to ask with, the next question will say so.
            let _ = self.asker.ask(key, &question, self.source(inquiry), Priority::Refresh, None);
        }
        Some(hit)
    }

    /// The API's verdict. The caller waits, and on the broker's thread so does every client.
    pub fn wait_for(&self, inquiry: &Inquiry<'_>, account: Account, event: &Event<'_>) -> Decision {
        let (Inquiry { key, question, .. }, now) = (*inquiry, event.now);
        let source = self.source(inquiry);
        if self.asker.is_open(question.kind(), source, now) {
            return self.or_stale(key, no_answer(NoAnswer::Open), now);
        }
        let timeout = event.settings.config.timeout;
        // The broker's HTTP listener has a thread of its own: only requests to it wait there.
        let (budget, client) = match event.broker_thread() {
            Some(_) => (&self.budget, account.client()),
            None => (&self.http_budget, None),
        };
        let limit = budget.lock().limit(key, client, timeout, now);
        if limit.is_zero() {
            // Nobody waits, but the answer will be there when the client comes again.
            let decision = match self.asker.ask(key, &question, source, Priority::Refresh, None) {
                Ok(asked) => {
                    budget.lock().asked_beside(key, asked.slot);
                    no_answer(NoAnswer::BudgetSpent)
                }
                Err(reason) => no_answer(reason),
            };
            return self.or_stale(key, decision, now);
        }
        let asked = match self.asker.ask(key, &question, source, Priority::Broker, None) {
            Ok(asked) => asked,
            Err(reason) => return self.or_stale(key, no_answer(reason), now),
        };
        if asked.was_under_way {
            self.prefetch.confirm(key);
        }
        // While this one is on its way: what the broker will ask next.
        let is_replay = matches!(account, Account::Replay(_));
        let mut readers = None;
        if let Some(thread) = event.broker_thread() {
            let (gate, config) = (self.gate(event), &*event.settings.config);
            let scope = Scope { config, gate: &gate, source, now };
            if is_replay {
                self.prefetch.replay_goes_on(&scope);
            } else if self.prefetch.will_be_read(&question, key) {
                readers = Some(self.fan_out(&question, source, event));
            }
            self.prefetch.peek(thread, &scope);
        }
        let answer = asked.slot.wait(limit.saturating_sub(now.elapsed()));
        let answered = matches!(answer, Some(Answer::Verdict { .. }));
        let answered_at = Instant::now();
        let wait = Wait { question: key, client, spent: answered_at.duration_since(now), answered };
        budget.lock().waited(wait, timeout, answered_at);
        let decision = Decision::by_answer(&answer.unwrap_or(Answer::None(NoAnswer::TimedOut(limit))));
        let decision = self.or_stale(key, decision, answered_at);
        self.prefetch.note_outcome(&question, key, decision.is_allow());
        if decision.is_allow() && event.broker_thread().is_some() && !is_replay {
            // A message that may be refused is none of its readers' business before it is allowed.
            let readers = readers.unwrap_or_else(|| self.fan_out(&question, source, &event.at(answered_at)));
            self.prefetch.expect(&question, &readers, answered_at);
        }
        decision
    }

    fn fan_out(&self, question: &Question<'_>, source: Source, event: &Event<'_>) -> Vec<Expected> {
        let (config, gate, now) = (&event.settings.config, self.gate(event), event.now);
        self.prefetch.fan_out(question, || self.is_tickless(now), &Scope { config, gate: &gate, source, now })
    }

    /// Whom a question is asked for.
    pub fn source(&self, inquiry: &Inquiry<'_>) -> Source {
        self.asker.source(inquiry.client.address, inquiry.question.username())
    }

    /// Where there is no answer, an allow may serve past its time (`stale_ttl`).
    pub fn or_stale(&self, key: Fingerprint, decision: Decision, now: Instant) -> Decision {
        if decision.is_no_answer() && self.asker.has_stale_allow(key, now) {
            return Decision::allow(By::Stale);
        }
        decision
    }

    /// What prefetching must ask before it asks.
    pub fn gate<'a>(&'a self, event: &Event<'a>) -> SettingsGate<'a> {
        SettingsGate { api: self, settings: event.settings, now: event.now }
    }
}

/// A decision for want of an answer.
pub fn no_answer(reason: NoAnswer) -> Decision {
    Decision::deny(By::NoAnswer(reason))
}

/// Lets nothing be asked early that would not be asked if the broker came to it now.
pub struct SettingsGate<'a> {
    api: &'a Api,
    settings: &'a Settings,
    now: Instant,
}

impl Gate for SettingsGate<'_> {
    /// Where logins are delayed they are asked side by side anyway.
    fn guesses_logins(&self) -> bool {
        !self.api.delays_logins
    }

    /// The address may be a proxy's here, so a guess also goes by the strictest count there is for the name.
    fn asks_login(&self, peer: Option<IpAddr>, username: &str, credentials: Fingerprint) -> bool {
        let address = peer.map(|peer| peer.to_string());
        let attempt = Try { address: address.as_deref(), username, client_id: "", credentials };
        let (throttle, limits) = (&self.api.throttle, &self.settings.config.throttle);
        self.settings.users.get(username).is_none() && throttle.admit_ahead(&attempt, limits, self.now)
    }

    fn asks_topics(&self, username: &str, client_id: &str) -> bool {
        self.settings.users.get(username).is_none()
            && !self.settings.is_wildcard_in_disguise(username, client_id)
    }

    fn client_of(&self, connection: Connection) -> Option<Arc<Identity>> {
        self.api.sessions.client_of(connection)
    }

    fn is_connected(&self, identity: &Identity) -> bool {
        let Identity { client_id, username, credentials, .. } = identity;
        self.api.sessions.is_connected_with(client_id, username, *credentials)
    }
}
