//! `acl_prefetch`: what the operator expects every client to ask after its login.

use super::{Prefetch, Scope};
use crate::ask::Waiter;
use crate::question::Question;
use crate::topic;

impl Prefetch {
    /// Asks what a client that may come in is expected to want. `waiter` makes whoever waits for an answer, if somebody
    /// does. Returns how many answers are to come.
    pub fn warm_up(
        &self,
        username: &str,
        client_id: &str,
        waiter: impl Fn() -> Option<Waiter>,
        scope: &Scope<'_>,
    ) -> usize {
        let Scope { config, gate, source, now } = *scope;
        if config.acl_prefetch.is_empty()
            || config.acl_urls.is_empty()
            || !gate.asks_topics(username, client_id)
            // Also where `special_chars allow` lets them pass: never into a `%c` or `%u`.
            || topic::has_wildcard(username)
            || topic::has_wildcard(client_id)
        {
            return 0;
        }
        let rules = config.acl_prefetch.iter().filter(|rule| config.acl_checks.contains(&rule.access));
        rules
            .filter(|rule| {
                let topic = rule.topic_for(username, client_id);
                let question = Question::Access { username, client_id, topic: &topic, access: rule.access };
                match waiter() {
                    Some(waiter) => self.asker.warm_up(&question, source, waiter, now),
                    None => {
                        let key = self.asker.key(&question);
                        let own = || question.to_owned();
                        self.speculate(&mut self.state.lock(), key, &question, own, scope)
                    }
                }
            })
            .count()
    }
}
