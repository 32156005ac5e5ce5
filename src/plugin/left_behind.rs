//! What a session has left behind: messages that wait for its client, and those that it had begun to send.
//!
//! When the client comes back, the broker asks about each of them before it sends any, and drops whatever it gets no yes
//! for (`handle_connect.c`, in 2.1 `database.c`). It has no answer that keeps a message and the client. So a client
//! whose messages cannot be asked about is not let in yet, and they stay.

use super::api::no_answer;
use super::attempt::Attempt;
use super::decision::Decision;
use super::event::Event;
use super::login::Logins;
use crate::prefetch::asks_reads;
use crate::question::{Kind, NoAnswer};

impl Logins {
    /// The decision about a login, or that there is no answer if an allow would cost the client what it has left
    /// behind.
    pub fn unless_it_loses(&self, attempt: &Attempt<'_>, decision: Decision, event: &Event<'_>) -> Decision {
        if decision.is_allow() && self.would_lose_messages(attempt, event) {
            return no_answer(NoAnswer::WouldLose);
        }
        decision
    }

    fn would_lose_messages(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> bool {
        let Attempt { client, username, starts_clean, .. } = *attempt;
        let config = &*event.settings.config;
        let Some(thread) = event.broker_thread() else { return false };
        if starts_clean || attempt.hash.is_some() || config.acl_urls.is_empty() {
            return false;
        }
        if !self.api.asker.refuses(Kind::Access, attempt.source(&self.keys), event.now) {
            return false;
        }
        let asleep = self.sessions.asleep(client, username, event.now);
        // If each message was allowed when it came, that allow still serves. And where reads are not asked about, the
        // session's own subscriptions decide.
        let serves = if config.acl_cache_ttl.is_zero() { config.acl_cache_ttl } else { config.stale_ttl };
        let may_read = asleep.is_some_and(|asleep| asleep < serves || !asks_reads(config));
        // A session that this plugin has not let in was restored from disk, or belongs to another name, or there is none.
        !may_read && self.broker.has_session(thread, client.id) != Some(false)
    }
}
