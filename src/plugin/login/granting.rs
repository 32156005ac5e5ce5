//! What a client is granted that logs in (`answer_rules`).

use std::time::Instant;

use super::Logins;
use crate::plugin::attempt::Attempt;
use crate::plugin::decision::Decision;
use crate::plugin::event::Event;
use crate::plugin::sessions::Granted;
use crate::topic::Terms;

impl Logins {
    /// The last word about a client that is about to be let in, and what it is granted: a refusal, if it would lose its
    /// messages, or cannot be granted what came with the answer.
    pub(super) fn last_word(
        &self,
        attempt: &Attempt<'_>,
        decision: Decision,
        event: &Event<'_>,
    ) -> (Decision, Option<Box<Granted>>) {
        let decision = self.unless_it_loses(attempt, decision, event);
        self.with_grants(attempt, decision, event)
    }

    /// A decision, and what a client is granted by it, or the refusal because that cannot be. Nothing where no body is read,
    /// for local users, and for requests to the broker's HTTP listener, which have no session.
    fn with_grants(
        &self,
        attempt: &Attempt<'_>,
        decision: Decision,
        event: &Event<'_>,
    ) -> (Decision, Option<Box<Granted>>) {
        if !is_read(attempt, event) || !decision.is_allow() || event.broker_thread().is_none() {
            return (decision, None);
        }
        let now = Instant::now();
        // While it waited for something else, the API may have been asked again. Or what it had said was forgotten.
        let (terms, since) = match self.parts.asker.allow(attempt.key, event.now) {
            Some(latest) => (latest.terms, now),
            None => {
                let asked = decision.terms.as_ref().and_then(|terms| terms.asked);
                (decision.terms.clone(), asked.unwrap_or(now))
            }
        };
        match self.parts.granting.granted(attempt.username, attempt.client.id, terms.as_deref(), since) {
            Ok(granted) => (decision, Some(granted)),
            Err(by) => (Decision::deny(by), None),
        }
    }

    /// What a client will be granted that may come in, as far as its topics are asked ahead by that.
    pub(super) fn newcomer(
        &self,
        attempt: &Attempt<'_>,
        terms: Option<&Terms>,
        event: &Event<'_>,
    ) -> Option<Box<Granted>> {
        let granted =
            || self.parts.granting.granted(attempt.username, attempt.client.id, terms, event.now).ok();
        is_read(attempt, event).then(granted).flatten()
    }

    /// Gives a client that was just let in what it is granted.
    pub(super) fn grant(&self, attempt: &Attempt<'_>, granted: Option<Box<Granted>>) {
        let Some(granted) = granted else { return };
        let Attempt { client, username, credentials, .. } = *attempt;
        self.parts.granting.give(client, username, credentials, granted, || attempt.session_name());
    }
}

/// Whether what the API says of a login besides yes is read.
fn is_read(attempt: &Attempt<'_>, event: &Event<'_>) -> bool {
    event.settings.config.answer_rules && attempt.hash.is_none()
}
