//! MOSQ_EVT_ACL_CHECK: who may touch which topic.

use std::sync::Arc;
use std::time::Instant;

use super::api::{Api, Inquiry};
use super::decision::{By, Decision, LoggedClient, Ruling};
use super::event::{Event, TopicCheck};
use super::sessions::Sessions;
use crate::broker::Client;
use crate::log::{Log, quoted};
use crate::question::{Access, Question};

/// Decides about topics.
pub struct Topics {
    api: Arc<Api>,
    sessions: Arc<Sessions>,
    log: Arc<Log>,
}

impl Topics {
    pub fn new(api: Arc<Api>, sessions: Arc<Sessions>, log: Arc<Log>) -> Self {
        Self { api, sessions, log }
    }

    /// Decides a topic check, and logs a refusal.
    pub fn authorise(&self, check: &TopicCheck<'_>, event: &Event<'_>) -> Decision {
        let decision = self.decide(check, event);
        if decision.ruling == Ruling::Deny {
            self.log_refusal(check, &decision, event.now);
        }
        decision
    }

    /// The README's list, in the README's order.
    fn decide(&self, check: &TopicCheck<'_>, event: &Event<'_>) -> Decision {
        let TopicCheck { client, username, topic, access } = *check;
        let settings = event.settings;
        let config = &*settings.config;
        let Some(username) = username else {
            return Decision::of(config.anonymous, By::Option("anonymous"));
        };
        if settings.is_wildcard_in_disguise(username, client.id) {
            return Decision::deny(By::SpecialCharacters);
        }
        if let Some(hash) = settings.users.get(username)
            && self.sessions.has_local_rights(client, username, hash, access, event.now)
        {
            let allows =
                settings.acl.as_ref().is_none_or(|acl| acl.allows(access, username, client.id, topic));
            return if allows { Decision::allow(By::LocalRules) } else { Decision::deny(By::LocalRules) };
        }
        if config.acl_urls.is_empty() {
            return Decision::defer(By::NotOurs);
        }
        // A READ that is not asked about is implied by a subscription of this very username. Nobody else's is: a client
        // that comes under another's id finds its subscriptions, and what is queued for them.
        let is_implied = || access != Access::Read || self.api.prefetch.covers(client.id, username, topic);
        let decision = if !config.acl_checks.contains(&access) && is_implied() {
            Decision::allow(By::Option("acl_checks"))
        } else {
            let question = Question::Access { username, client_id: client.id, topic, access };
            self.by_api(&Inquiry { key: self.api.asker.key(&question), question, client }, event)
        };
        if decision.is_allow() && access == Access::Subscribe {
            self.api.prefetch.subscribed(client.id, username, topic, event.now);
        }
        decision
    }

    /// The remembered verdict, or the API's.
    fn by_api(&self, inquiry: &Inquiry<'_>, event: &Event<'_>) -> Decision {
        let hit = self.api.remembered(inquiry, event.now);
        if hit.is_none_or(|hit| hit.is_first_use) {
            self.api.prefetch.note_reader(&inquiry.question, event.now);
        }
        match hit {
            Some(hit) => Decision::by_memory(&hit),
            // By the exact time, since this is about milliseconds.
            None => self.api.wait_for(inquiry, &event.at(Instant::now())),
        }
    }

    /// An UNSUBSCRIBE, which needs no question.
    pub fn unsubscribed(&self, client: Client<'_>, filter: &str) {
        self.api.prefetch.unsubscribed(client.id, filter);
    }

    fn log_refusal(&self, check: &TopicCheck<'_>, decision: &Decision, now: Instant) {
        // Under `log_dest topic` each line is a message, and each message a READ check of everybody who
        // reads the log: a line about a refusal there would cause the next.
        if !check.topic.starts_with("$SYS/broker/log") {
            self.log.refusal(now, || {
                let who = LoggedClient(check.client, check.username);
                format!("Refused {} of {} to {who}: {}.", check.access, quoted(check.topic), decision.by)
            });
        }
    }
}
