//! `acl_prefetch`: the topic questions that the operator expects of every client after its login.

use super::{Prefetch, Scope};
use crate::ask::Waiter;
use crate::question::Question;
use crate::topic;

impl Prefetch {
    /// Asks the questions that are expected of a client that may come in. `waiter` makes a waiter for one answer, or
    /// `None` if the client does not wait. Returns how many questions were sent or joined: as many answers are to come.
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
            // Even where `special_chars allow` lets wildcards pass, they must not get into a `%c` or `%u`.
            || topic::has_wildcard(username)
            || topic::has_wildcard(client_id)
        {
            return 0;
        }
        let rules = config.acl_prefetch.iter().filter(|rule| config.acl_checks.contains(&rule.access));
        rules
            .filter(|rule| {
                let topic = rule.topic_for(username, client_id);
                let question =
                    Question::Access { username, client_id, topic: &topic, access: rule.access, more: "" };
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
