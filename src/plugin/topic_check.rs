//! MOSQ_EVT_ACL_CHECK: who may touch which topic.

use std::sync::Arc;
use std::time::Instant;

use super::api::Api;
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
        if settings.users.get(username).is_some()
            && self.sessions.was_let_in(client, username, access, event.now)
        {
            let allows =
                settings.acl.as_ref().is_none_or(|acl| acl.allows(access, username, client.id, topic));
            return if allows { Decision::allow(By::LocalRules) } else { Decision::deny(By::LocalRules) };
        }
        if config.acl_urls.is_empty() {
            return Decision::defer(By::NotOurs);
        }
        // A READ that is not asked about is implied by a subscription. One of the broker's HTTP listener has none.
        if !config.acl_checks.contains(&access) && (access != Access::Read || event.broker_thread().is_some())
        {
            return Decision::allow(By::Option("acl_checks"));
        }
        let question = Question::Access { username, client_id: client.id, topic, access };
        let decision = self.by_api(&question, event);
        if decision.is_allow() && access == Access::Subscribe && config.acl_checks.contains(&Access::Read) {
            self.api.prefetch.subscribed(client.id, username, topic, event.now);
        }
        decision
    }

    /// The remembered verdict, or the API's.
    fn by_api(&self, question: &Question<'_>, event: &Event<'_>) -> Decision {
        let key = self.api.asker.key(question);
        let hit = self.api.remembered(key, question, event.now);
        if hit.is_none_or(|hit| hit.is_first_use) {
            self.api.prefetch.note_reader(question, event.now);
        }
        match hit {
            Some(hit) => Decision::by_memory(&hit),
            // By the exact time, since this is about milliseconds.
            None => self.api.wait_for(key, question, &event.at(Instant::now())),
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
