//! What a session has left behind: messages that wait for its client, and those that it had begun to send.
//!
//! When the client comes back, the broker asks about each of them before it sends any, and drops whatever it gets no yes
//! for (`handle_connect.c`, in 2.1 `database.c`). It has no answer that keeps a message and the client. So a client
//! whose messages cannot be asked about is not let in yet, and they stay.

use std::time::Instant;

use super::Logins;
use crate::plugin::api::no_answer;
use crate::plugin::attempt::Attempt;
use crate::plugin::decision::{Decision, Ruling};
use crate::plugin::event::Event;
use crate::plugin::settings::Settings;
use crate::prefetch::asks_reads;
use crate::question::{Kind, NoAnswer};

impl Logins {
    /// The decision about a login, or that there is no answer if the client would lose what it has left behind once it is let
    /// in, here or by others.
    pub(super) fn unless_it_loses(
        &self,
        attempt: &Attempt<'_>,
        decision: Decision,
        event: &Event<'_>,
    ) -> Decision {
        if self.would_lose_messages(attempt, &decision, event) {
            return no_answer(NoAnswer::WouldLose);
        }
        decision
    }

    fn would_lose_messages(&self, attempt: &Attempt<'_>, decision: &Decision, event: &Event<'_>) -> bool {
        let Attempt { client, starts_clean, .. } = *attempt;
        let Some(thread) = event.broker_thread() else { return false };
        // A session that this plugin has not let in was restored from disk, belongs to another name, or was let in by others;
        // or there is none, which Mosquitto 2.0 does not tell. There, those of others would wait whether they have one or not.
        let has_session = || self.parts.broker.has_session(thread, client.id);
        let may_come_in = matches!(decision.ruling, Ruling::Allow | Ruling::Defer);
        !starts_clean
            && may_come_in
            && self.loses_what_it_left(attempt, event.settings, event.now)
            && if decision.is_allow() { has_session() != Some(false) } else { has_session() == Some(true) }
    }

    /// Whether a client that goes on with a session, if it has one, would lose what it has left behind. Changes nothing.
    pub fn loses_what_it_left(&self, attempt: &Attempt<'_>, settings: &Settings, now: Instant) -> bool {
        let Attempt { client, username, .. } = *attempt;
        let config = &*settings.config;
        if attempt.hash.is_some() || config.acl_urls.is_empty() {
            return false;
        }
        if !self.parts.asker.refuses(Kind::Access, attempt.source(&self.parts.keys), now) {
            return false;
        }
        let asleep = self.parts.sessions.asleep(client, username, now);
        // If each message was allowed when it came, that allow still serves. And where reads are not asked about, the
        // session's own subscriptions decide.
        let serves = if config.acl_cache_ttl.is_zero() { config.acl_cache_ttl } else { config.stale_ttl };
        !asleep.is_some_and(|asleep| asleep < serves || !asks_reads(config))
    }
}
