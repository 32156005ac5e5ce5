//! What may be asked ahead about a topic, whatever lets one expect it, and asking it.

use super::{Prefetch, Scope, State};
use crate::ask::Early;
use crate::fingerprint::Fingerprint;
use crate::question::{OwnedQuestion, Question};

impl Scope<'_> {
    /// Whether anything may be asked ahead about topics of this client.
    pub(super) fn may_ask_about(&self, username: &str, client_id: &str) -> bool {
        !self.config.acl_urls.is_empty() && self.gate.asks_topics(username, client_id)
    }

    /// Whether a question about a topic is one that the API would be asked if the broker came to it now. Otherwise somebody
    /// could have it asked in another's name what that one never asks.
    pub(super) fn may_ask(&self, question: &Question<'_>) -> bool {
        let Question::Access { username, client_id, topic, access, .. } = *question else { return false };
        self.config.acl_checks.contains(&access)
            && self.may_ask_about(username, client_id)
            && !self.gate.is_decided(username, client_id, access, topic)
    }
}

impl Prefetch {
    /// Has a question about a topic asked that nobody waits for, if it may be asked and that makes sense. Returns its
    /// fingerprint if it was sent.
    pub(super) fn ask_topic(
        &self,
        state: &mut State,
        question: &Question<'_>,
        own: impl FnOnce() -> OwnedQuestion,
        early: Early,
        scope: &Scope<'_>,
    ) -> Option<Fingerprint> {
        if !scope.may_ask(question) {
            return None;
        }
        let key = self.asker.key(question);
        self.send_early(state, key, question, own, early, scope).then_some(key)
    }
}
