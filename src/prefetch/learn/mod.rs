//! Learning: what clients ask after their login is what clients like them will ask.
//!
//! A topic that holds the client's id or username becomes a template at first sight, another topic once several clients
//! have asked about it (`pattern`). Templates belong to groups (`group`), and a client is in three of them: that of all
//! whose names look alike (`shape`); among these, that of all who ask the same first; and one of its own, for what only
//! it asks. Every guess is counted as right or wrong where it was made (`credit`), and what is mostly wrong is only
//! watched from then on. Besides, whoever teaches what turns out wrong is soon not believed any more: the guesses are
//! counted by the network of the client that a template was learnt from (`scores`).
//!
//! Nothing here decides anything: a verdict counts for the exact question that the broker asks.

mod credit;
mod forgotten;
mod group;
mod groups;
mod learner;
mod membership;
mod pattern;
mod shape;
mod visit;

use std::slice;
use std::time::{Duration, Instant};

use super::wish::Wish;
use super::{Prefetch, Scope, keeps_topics};
use crate::config::Config;
use crate::fingerprint::Whose;
use crate::question::{Kind, Question, Verdict};
use crate::topic;
pub use learner::Learner;
use pattern::Who;
use visit::{Ask, Visitor};

impl Prefetch {
    /// What a client that may come in is expected to ask, and is not remembered.
    pub(super) fn expected(&self, username: &str, client_id: &str, scope: &Scope<'_>) -> Vec<Wish> {
        let Scope { config, now, .. } = *scope;
        if !learns(config) {
            self.unlearn();
            return Vec::new();
        }
        let client = self.client(username, client_id, scope);
        self.with_ask(scope, |ask| {
            let mut learner = self.learner.lock();
            let comes_again = learner.comes_again(client.key, client.who, of_use(config), now);
            if comes_again || self.asker.is_in_vain(Kind::Access, client.source, now) {
                return Vec::new();
            }
            learner.arrives(client, of_use(config), now, ask)
        })
    }

    /// The broker asks about a topic that was not remembered, or was asked ahead. Others are expected to ask the same,
    /// each about its own.
    pub fn learn(&self, question: &Question<'_>, scope: &Scope<'_>) {
        let Scope { config, now, .. } = *scope;
        let Question::Access { username, client_id, topic, access, .. } = *question else { return };
        if !learns(config) {
            return;
        }
        let client = self.client(username, client_id, scope);
        let asked = (access, topic);
        let wishes =
            self.with_ask(scope, |ask| self.learner.lock().asked(client, asked, of_use(config), now, ask));
        let _many = self.asker.sends_many();
        for wish in &wishes {
            self.ask_wish(wish, None, scope);
        }
    }

    /// What was learnt of clients whose names look alike, as values of `acl_prefetch`.
    pub fn learnt(&self) -> Vec<String> {
        // The lock is let go of before the text is made: the broker may wait for it.
        let learnt = self.learner.lock().learnt();
        learnt.lines()
    }

    /// What was learnt, as another broker reads it, in this many bytes at most. `None` if there is nothing, or more than is gone through at
    /// once: further calls go on.
    pub fn habits(&self, most: usize) -> Option<String> {
        let habits = self.learner.lock().habits(most)?;
        if habits.is_empty() { None } else { serde_json::to_string(&habits).ok() }
    }

    /// Takes over what another broker has learnt.
    pub fn adopt(&self, habits: &str, now: Instant) {
        // One after the other, since the broker may wait for the lock meanwhile.
        for habit in serde_json::from_str::<Vec<_>>(habits).unwrap_or_default() {
            self.learner.lock().adopt(slice::from_ref(&habit), now);
        }
    }

    /// Forgets what somebody alone was seen to ask. What is known of clients whose names look alike holds no name.
    pub fn forget(&self, whose: Whose) {
        self.learner.lock().forget(whose);
    }

    /// Forgets all.
    pub fn unlearn(&self) {
        let mut learner = self.learner.lock();
        if !learner.is_empty() {
            learner.clear();
        }
    }

    fn client<'a>(&self, username: &'a str, client_id: &'a str, scope: &Scope<'_>) -> Visitor<'a> {
        let (key, who) = (self.client_key(username, client_id), Who { client_id, username });
        Visitor { key, witness: key.words()[0], who, source: (scope.source)() }
    }

    fn with_ask<R>(&self, scope: &Scope<'_>, body: impl FnOnce(&Ask<'_>) -> R) -> R {
        let now = scope.now;
        body(&Ask {
            key: &|question| self.asker.key(question),
            is_news: &|key| self.asker.peek(key, now).is_none() && !self.asker.is_under_way(key),
            may_ask: &|access, topic, who| {
                let Who { username, client_id } = who;
                scope.may_ask(&Question::Access { username, client_id, topic, access, more: "" })
                    // Even where `special_chars allow` lets wildcards pass, nothing is asked ahead for such names.
                    && !topic::has_wildcard(username)
                    && !topic::has_wildcard(client_id)
            },
        })
    }
}

/// Whether anything is learnt: it is of use only where answers are remembered, and where questions have no further fields,
/// which nobody can know.
fn learns(config: &Config) -> bool {
    config.acl_learn && !config.acl_urls.is_empty() && config.acl_fields.is_empty() && keeps_topics(config)
}

/// For how long an answer that was asked ahead is of use, at least.
fn of_use(config: &Config) -> Duration {
    config.least_lifetime(Kind::Access, Verdict::Allow)
}

#[cfg(test)]
mod tests;
