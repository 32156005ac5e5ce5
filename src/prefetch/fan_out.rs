//! Asks about all readers of a message at once. The broker asks about them one after the other, so while it waits for
//! the first answer, the others are on their way.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::subscriptions::{Expected, Reader};
use super::{Prefetch, Scope, keeps_topics};
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint};
use crate::question::{Access, Question};

/// The longest time to ask about the readers of one message in one go, since the broker waits meanwhile.
const LONGEST: Duration = Duration::from_millis(10);

/// Stands for all readers of a topic, where they are counted.
const ALL: usize = usize::MAX;

/// Topics whose readers were asked about in this turn of the broker's loop, and about how many of them: [`ALL`], or
/// fewer if there was no time for all.
#[derive(Default)]
pub(super) struct FanOuts(HashMap<Fingerprint, usize, AlreadyHashed>);

impl FanOuts {
    /// Begins a turn of the broker's loop.
    pub(super) fn new_turn(&mut self) {
        self.0.clear();
    }

    /// Returns how many readers of a message were asked about so far, and notes that now all are.
    fn begin(&mut self, message: Fingerprint) -> usize {
        self.0.insert(message, ALL).unwrap_or(0)
    }

    /// Notes that the readers behind the first `count` were not asked about.
    fn stopped_at(&mut self, message: Fingerprint, count: usize) {
        self.0.insert(message, count);
    }
}

impl Prefetch {
    /// Asks for each subscriber of a topic whether it may read the message that `question` is about. Returns the
    /// subscribers that were asked about.
    ///
    /// Readers of one topic are asked about once in a turn of the broker's loop: otherwise an API that gives no answers
    /// would be asked about all of them while the broker waits for each. A broker that does not tick (`is_tickless`)
    /// has no turns, so there they are asked about each time.
    pub fn fan_out(
        &self,
        question: &Question<'_>,
        is_tickless: impl FnOnce() -> bool,
        scope: &Scope<'_>,
    ) -> Vec<Expected> {
        let Scope { config, gate, now, .. } = *scope;
        let mut expected = Vec::new();
        let Question::Access { topic, access: Access::Read | Access::Write, .. } = *question else {
            return expected;
        };
        if !config.acl_checks.contains(&Access::Read) || !keeps_topics(config) {
            return expected;
        }
        let message = self.keys.fields(Domain::Message, [topic.as_bytes()]);
        let is_tickless = is_tickless();
        let mut state = self.state.lock();
        if is_tickless {
            state.fan_outs.new_turn();
        }
        let done = state.fan_outs.begin(message);
        if done == ALL {
            return expected;
        }
        let shared_topic: Arc<str> = topic.into();
        let (mut count, mut is_cut_short) = (0, false);
        self.subscriptions.lock().readers(topic, |reader| {
            if count < done {
                count += 1;
                return ControlFlow::Continue(());
            }
            is_cut_short = now.elapsed() > LONGEST;
            if is_cut_short {
                return ControlFlow::Break(());
            }
            count += 1;
            let Reader { client_id, username, .. } = reader;
            if gate.asks_topics(username, client_id) {
                let question =
                    Question::Access { username, client_id, topic, access: Access::Read, more: "" };
                let key = self.asker.key(&question);
                let own = || question.to_owned_about(&shared_topic);
                if self.speculate(&mut state, key, &question, own, scope) {
                    expected.push(reader.expected);
                }
            }
            ControlFlow::Continue(())
        });
        if is_cut_short {
            // The others are asked about when the broker waits next.
            state.fan_outs.stopped_at(message, count);
        }
        expected
    }

    /// Whether to ask about the readers of a message before it is known to be allowed: only if the publisher's last
    /// message on this topic was. Otherwise a refused message would cost the API a question for each reader.
    pub fn will_be_read(&self, question: &Question<'_>, key: Fingerprint) -> bool {
        match question {
            Question::Access { access: Access::Write, .. } => self.state.lock().written.contains(&key),
            Question::Access { access: Access::Read, .. } => true,
            Question::Access { access: Access::Subscribe, .. } | Question::Connect { .. } => false,
        }
    }

    /// Remembers whether a message was allowed, for the next one of this publisher on this topic.
    pub fn note_outcome(&self, question: &Question<'_>, key: Fingerprint, is_allowed: bool) {
        if let Question::Access { access: Access::Write, .. } = question {
            let written = &mut self.state.lock().written;
            if is_allowed {
                written.put(key, ());
            } else {
                written.pop(&key);
            }
        }
    }

    /// Notes that the broker is expected to ask about these readers, since the message of this question is allowed.
    /// After a READ that is less sure: a retained message, or one from a session's queue, goes to one client alone.
    pub fn expect(&self, question: &Question<'_>, readers: &[Expected], now: Instant) {
        let Question::Access { access, client_id, .. } = *question else { return };
        let mut subscriptions = self.subscriptions.lock();
        // The publisher is connected, but may have asked not to get its own messages (MQTT 5, no local).
        subscriptions.is_there(client_id, now);
        for &reader in readers {
            subscriptions.expect(reader, access == Access::Write, now);
        }
    }
}
