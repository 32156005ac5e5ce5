//! A question to ask ahead of a client.

use super::{Prefetch, Scope};
use crate::ask::{Early, Waiter};
use crate::fingerprint::{Fingerprint, Source};
use crate::question::OwnedQuestion;

/// A question to ask ahead, and for whom.
#[derive(Debug, PartialEq, Eq)]
pub struct Wish {
    pub key: Fingerprint,
    pub question: OwnedQuestion,
    pub source: Source,
}

impl Prefetch {
    /// Has a question asked that a client is expected to raise. `waiter` is told of the answer. Returns whether it was
    /// sent or joined: whether there will be an answer to tell of.
    pub fn ask_wish(&self, wish: &Wish, waiter: Option<Waiter>, scope: &Scope<'_>) -> bool {
        let Wish { key, ref question, source } = *wish;
        let scope = Scope { source: &|| source, ..*scope };
        match waiter {
            Some(waiter) => self.asker.warm_up(&question.as_question(), source, waiter, scope.now),
            None => {
                let own = || question.clone();
                let state = &mut self.state.lock();
                self.send_early(state, key, &question.as_question(), own, Early::Guess, &scope)
            }
        }
    }
}
