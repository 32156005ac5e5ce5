//! Asks about all readers of a message at once. The broker asks about them one after the other, so while it waits for
//! the first answer, the others are on their way.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::subscriptions::{Expected, Reader, Walk};
use super::{Prefetch, Scope, keeps_topics};
use crate::ask::Early;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint};
use crate::question::{Access, Question};

/// The longest time to ask about the readers of one message in one go, since the broker waits meanwhile.
const LONGEST: Duration = Duration::from_millis(10);

/// Questions about readers that are on their way at once: a quarter of what has room where they wait (`ask::queue`), and
/// hundreds of milliseconds' work for an API. The others follow whenever the broker waits.
const AT_ONCE: usize = 4_000;

/// Where no ticks tell turns of the broker's loop apart, one is over after so long.
const TICKLESS_TURN: Duration = Duration::from_secs(2);

/// Fan-outs that may go on beyond such a turn. With more, all begin anew.
const GOING_ON: usize = 100;

/// Topics whose readers were asked about in this turn of the broker's loop. `None`: all were; else the others are asked
/// about when the broker waits next.
pub(super) struct FanOuts {
    topics: HashMap<Fingerprint, Option<Walk>, AlreadyHashed>,
    turn_began: Instant,
}

impl FanOuts {
    pub(super) fn new(now: Instant) -> Self {
        Self { topics: HashMap::default(), turn_began: now }
    }

    /// Begins a turn of the broker's loop.
    pub(super) fn new_turn(&mut self) {
        self.topics.clear();
    }

    /// Notes the time, on a broker whose turns nothing tells apart.
    fn without_ticks(&mut self, now: Instant) {
        if now.saturating_duration_since(self.turn_began) < TICKLESS_TURN {
            return;
        }
        self.turn_began = now;
        self.topics.retain(|_, walk| walk.is_some());
        if self.topics.len() > GOING_ON {
            self.topics.clear();
        }
    }
}

impl Prefetch {
    /// Asks for each subscriber of a topic whether it may read the message that `question` is about. Returns the
    /// subscribers that were asked about.
    ///
    /// Readers of one topic are asked about once in a turn of the broker's loop: otherwise an API that gives no answers
    /// would be asked about all of them while the broker waits for each. Where there are too many for one go, the next call
    /// goes on with those that were not asked about. On a broker that does not tick (`is_tickless`) a turn is over after
    /// [`TICKLESS_TURN`].
    pub fn fan_out(
        &self,
        question: &Question<'_>,
        is_tickless: impl FnOnce() -> bool,
        scope: &Scope<'_>,
    ) -> Vec<Expected> {
        let Scope { config, now, .. } = *scope;
        let mut expected = Vec::new();
        let Question::Access { topic, access: Access::Read | Access::Write, .. } = *question else {
            return expected;
        };
        if !config.acl_checks.contains(&Access::Read) || !keeps_topics(config) {
            return expected;
        }
        let message = self.keys.fields(Domain::Message, [topic.as_bytes()]);
        let is_tickless = is_tickless();
        let state = &mut *self.state.lock();
        if is_tickless {
            state.fan_outs.without_ticks(now);
        }
        let begun = state.fan_outs.topics.insert(message, None);
        if matches!(begun, Some(None)) {
            return expected;
        }
        let subscriptions = self.subscriptions.lock();
        let mut walk = begun.flatten().unwrap_or_else(|| subscriptions.walk(topic));
        let mut left = AT_ONCE.saturating_sub(self.asker.under_way(Early::Reader));
        if left > 0 {
            let _many = self.asker.sends_many();
            let shared_topic: Arc<str> = topic.into();
            subscriptions.go_on(&mut walk, |Reader { client_id, username, expected: reader }| {
                let question =
                    Question::Access { username, client_id, topic, access: Access::Read, more: "" };
                let own = || question.to_owned_about(&shared_topic);
                if self.ask_topic(state, &question, own, Early::Reader, scope).is_some() {
                    expected.push(reader);
                    left -= 1;
                }
                if left == 0 || now.elapsed() > LONGEST {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        }
        if !walk.is_over() {
            state.fan_outs.topics.insert(message, Some(walk));
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
        subscriptions.note_there(client_id, now);
        for &reader in readers {
            subscriptions.expect(reader, access == Access::Write, now);
        }
    }
}
