//! The readers of one message: the broker asks about them one after the other, so they are asked about side by side
//! while it waits for the first.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::subscriptions::{Expected, Reader};
use super::{Prefetch, Scope, keeps_topics};
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint};
use crate::question::{Access, Question};

/// The longest that asking about the readers of one message takes in one go.
const FAN_OUT: Duration = Duration::from_millis(10);

/// All readers of a topic.
const ALL: usize = usize::MAX;

/// Topics whose readers were asked about in this turn of the broker's loop, and how many of them.
#[derive(Default)]
pub(super) struct FanOuts(HashMap<Fingerprint, usize, AlreadyHashed>);

impl FanOuts {
    pub(super) fn new_turn(&mut self) {
        self.0.clear();
    }

    /// How many readers of this message were asked about; from now on all of them were.
    fn begin(&mut self, message: Fingerprint) -> usize {
        self.0.insert(message, ALL).unwrap_or(0)
    }

    fn stopped_at(&mut self, message: Fingerprint, count: usize) {
        self.0.insert(message, count);
    }
}

impl Prefetch {
    /// Has it asked for everybody who subscribed to a topic whether they may read it. Returns about whom.
    ///
    /// Once for each message: an API that gives no answers would be asked about all of them for each. A broker that
    /// does not tick (`is_tickless`) has no turns by which to tell messages apart.
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
            is_cut_short = now.elapsed() > FAN_OUT;
            if is_cut_short {
                return ControlFlow::Break(());
            }
            count += 1;
            let Reader { client_id, username, .. } = reader;
            if gate.asks_topics(username, client_id) {
                let question = Question::Access { username, client_id, topic, access: Access::Read };
                let key = self.asker.key(&question);
                let own = || question.to_owned_about(&shared_topic);
                if self.speculate(&mut state, key, &question, own, scope) {
                    expected.push(reader.expected);
                }
            }
            ControlFlow::Continue(())
        });
        if is_cut_short {
            // The rest when the broker waits next.
            state.fan_outs.stopped_at(message, count);
        }
        expected
    }

    /// Whether readers of this message are asked about before it is known that it may go out: only if the publisher's
    /// last one on this topic might, or a refused message would cost the API a question for each reader.
    pub fn will_be_read(&self, question: &Question<'_>, key: Fingerprint) -> bool {
        match question {
            Question::Access { access: Access::Write, .. } => self.state.lock().written.contains(&key),
            Question::Access { access: Access::Read, .. } => true,
            Question::Access { access: Access::Subscribe, .. } | Question::Connect { .. } => false,
        }
    }

    /// Remembers whether a message was let through, for the next one of this publisher on this topic.
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

    /// What the broker was waiting for is allowed, so it is going to ask about these readers. After a READ
    /// that is less sure: retained messages and those of a session's queue go to one client alone.
    pub fn expect(&self, question: &Question<'_>, readers: &[Expected], now: Instant) {
        let Question::Access { access, client_id, .. } = *question else { return };
        let mut subscriptions = self.subscriptions.lock();
        // Who publishes is there, but may not want to hear itself (MQTT 5).
        subscriptions.is_there(client_id, now);
        for &reader in readers {
            subscriptions.expect(reader, access == Access::Write, now);
        }
    }
}
