//! What a client will be asked about as soon as it is in: what the operator says (`acl_prefetch`), what was learnt of
//! clients like it (`learn`), and what waits for it in its queue (`queues`).

use super::wish::Wish;
use super::{Prefetch, Scope, asks_reads, keeps_topics};
use crate::broker::BrokerThread;
use crate::question::{Access, Question};
use crate::topic;

impl Prefetch {
    /// The questions that are expected of a client that may come in, without those whose verdicts are remembered.
    pub fn wishes(
        &self,
        username: &str,
        client_id: &str,
        starts_clean: bool,
        thread: &BrokerThread,
        scope: &Scope<'_>,
    ) -> Vec<Wish> {
        let config = scope.config;
        let mut wishes = Vec::new();
        if !scope.may_ask_about(username, client_id) {
            return wishes;
        }
        wishes.extend(self.expected(username, client_id, scope));
        let mut wish = |access, topic: &str| {
            let question = Question::Access { username, client_id, topic, access, more: "" };
            let key = self.asker.key(&question);
            if self.asker.peek(key, scope.now).is_none() && scope.may_ask(&question) {
                wishes.push(Wish { key, question: question.to_owned(), source: (scope.source)() });
            }
        };
        // Even where `special_chars allow` lets wildcards pass, they must not get into a `%c` or `%u`.
        if !topic::has_wildcard(username) && !topic::has_wildcard(client_id) {
            for rule in &config.acl_prefetch {
                wish(rule.access, &rule.topic_for(username, client_id));
            }
        }
        if !starts_clean && asks_reads(config) && keeps_topics(config) {
            let client = self.client_key(username, client_id);
            self.queues.with(thread, |queues| {
                queues.topics(client).for_each(|topic| wish(Access::Read, topic));
            });
        }
        wishes
    }

    /// A message waits for a client whose session sleeps: it will be asked about again when the client comes back.
    pub fn note_queued(&self, question: &Question<'_>, thread: &BrokerThread) {
        if let Question::Access { topic, access: Access::Read, username, .. } = *question {
            let name = self.keys.source(None, username).username;
            self.queues.with(thread, |queues| queues.note(self.keys.client(question), name, topic));
        }
    }

    /// A client is let in: what waited for it is delivered, or gone.
    pub(super) fn forget_queue(&self, client_id: &str, username: &str, thread: &BrokerThread) {
        self.queues.with(thread, |queues| {
            if !queues.is_empty() {
                queues.remove(self.client_key(username, client_id));
            }
        });
    }
}
