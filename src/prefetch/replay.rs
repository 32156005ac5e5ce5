//! Replays: when a client has subscribed, the broker goes through the retained messages that its filter matches, one
//! after the other, before it does anything else. So their READ questions are asked side by side, and with them the
//! WRITE questions that the broker asks under `check_retain_source`: whether whoever published each may still do so.
//!
//! That the broker comes is not certain (MQTT 5 clients may want no retained messages). So few questions go out before
//! it does, and none for a client that has let them be asked in vain.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::retained::{Found, Position, Whose};
use super::{Prefetch, Scope, State, keeps_topics};
use crate::ask::Early;
use crate::broker::Retain;
use crate::config::Config;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::question::{Access, Question};
use crate::topic;
use crate::util::bounded;

/// Questions that go out before the broker has come for the first: some rounds of as many as are asked at once.
const FIRST: usize = 256;

/// Names that are looked at before the broker has come for the first, in one turn of its loop: some milliseconds, shared
/// by all the filters of a packet.
const FIRST_STEPS: usize = 5_000;

/// Not every broker says when its loop comes round. After so long it has.
const HAS_COME_ROUND: Duration = Duration::from_secs(1);

/// Questions that go out in one go while the broker waits.
const QUESTIONS: usize = 2_000;

/// Names that are looked at in one go while the broker waits.
const STEPS: usize = 10_000;

/// How long one go takes at most: the answer that the broker waits for may have come meanwhile.
const TIME: Duration = Duration::from_millis(5);

/// Questions that the broker has not come for yet take one part in so many of what is remembered at most: the room that
/// verdicts have before they are used.
const CACHE_SHARE: usize = 4;

/// Replays in a row for which the broker did not come, until nothing goes out before it does.
const IN_VAIN: u8 = 2;

/// Clients for which something was asked in vain.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Topics that are taken for ended after one replay: what the broker did not come for. It says nothing when a message
/// expires.
const ENDED: usize = 1_000;

/// A replay that goes on, or whose end was not noticed yet.
struct Replay {
    client: Fingerprint,
    client_id: Box<str>,
    username: Box<str>,
    filter: Box<str>,
    position: Position,
    /// READ questions that went out and that the broker has not come for, and their topics.
    awaited: HashMap<Fingerprint, Arc<str>, AlreadyHashed>,
    is_anything_sent: bool,
    has_begun: bool,
    asks_about_publishers: bool,
    has_come_for_publisher: bool,
}

/// What is known of replays.
pub(super) struct Replays {
    open: Option<Replay>,
    /// Names that may still be looked at in this turn before the broker has come.
    steps: usize,
    /// When there were [`FIRST_STEPS`] of them.
    restored: Option<Instant>,
    /// How often in a row the broker did not come, for whom.
    in_vain: LruCache<Fingerprint, u8, AlreadyHashed>,
    /// Whether the broker asks about publishers, too: its option `check_retain_source`, which is on by default.
    checks_publishers: bool,
}

impl Default for Replays {
    fn default() -> Self {
        Self {
            open: None,
            steps: FIRST_STEPS,
            restored: None,
            in_vain: bounded(CLIENTS),
            checks_publishers: false,
        }
    }
}

impl Replay {
    /// Whether a question belongs to the replay. A stored message has no connection, and so no address.
    fn includes(&self, question: &Question<'_>, retain: Retain, has_address: bool) -> bool {
        match *question {
            Question::Access { client_id, username, access: Access::Read, .. } => {
                retain != Retain::No && client_id == &*self.client_id && username == &*self.username
            }
            Question::Access { access: Access::Write, .. } => retain == Retain::Kept && !has_address,
            Question::Access { .. } | Question::Connect { .. } => false,
        }
    }
}

impl Prefetch {
    /// A message was published that the broker keeps for its topic, or an empty one that ends this.
    pub fn note_retained(&self, topic: &str, whose: Whose<'_>, retain: Retain, now: Instant) {
        match retain {
            Retain::No => {}
            Retain::Kept => self.retained.lock().keep(topic, whose, now),
            Retain::Ended => self.retained.lock().end(topic),
        }
    }

    /// A subscription is about to be allowed, so the broker will go through the retained messages that it matches. For a
    /// shared one it should not (MQTT 5.0, section 4.8.2), and only Mosquitto 2.0.11 does.
    pub fn replay_begins(&self, client_id: &str, username: &str, filter: &str, scope: &Scope<'_>) {
        if !asks_reads(scope.config) {
            return;
        }
        let behind_group = topic::behind_group(filter);
        let mut replay = Replay {
            client: self.client_key(username, client_id),
            client_id: client_id.into(),
            username: username.into(),
            filter: behind_group.unwrap_or(filter).into(),
            position: Position::Start,
            awaited: HashMap::default(),
            is_anything_sent: false,
            has_begun: false,
            asks_about_publishers: false,
            has_come_for_publisher: false,
        };
        let state = &mut *self.state.lock();
        self.close_replay(state);
        let is_likely = behind_group.is_none()
            && state.replays.in_vain.peek(&replay.client).is_none_or(|times| *times < IN_VAIN);
        if is_likely {
            let is_long_ago = |at| scope.now.saturating_duration_since(at) > HAS_COME_ROUND;
            if state.replays.restored.is_none_or(is_long_ago) {
                (state.replays.steps, state.replays.restored) = (FIRST_STEPS, Some(scope.now));
            }
            let mut steps = state.replays.steps;
            self.ask_on(state, &mut replay, FIRST, &mut steps, scope);
            state.replays.steps = steps;
        }
        state.replays.open = Some(replay);
    }

    /// The broker asks something that is not remembered, or was asked ahead. If that belongs to a replay, returns for
    /// which client.
    pub fn comes_in_replay(
        &self,
        key: Fingerprint,
        question: &Question<'_>,
        retain: Retain,
        has_address: bool,
    ) -> Option<Fingerprint> {
        let state = &mut *self.state.lock();
        let replay = state.replays.open.as_mut()?;
        if !replay.includes(question, retain, has_address) {
            self.close_replay(state);
            return None;
        }
        replay.has_begun = true;
        replay.awaited.remove(&key);
        if let Question::Access { access: Access::Write, .. } = question {
            replay.has_come_for_publisher = true;
            if !state.replays.checks_publishers {
                state.replays.checks_publishers = true;
                // Also about the publishers of those that were passed. Nothing is asked twice.
                replay.position = Position::Start;
            }
        }
        Some(replay.client)
    }

    /// The broker waits for an answer that belongs to a replay: time to ask on.
    pub fn replay_goes_on(&self, scope: &Scope<'_>) {
        let state = &mut *self.state.lock();
        if let Some(mut replay) = state.replays.open.take() {
            self.ask_on(state, &mut replay, QUESTIONS, &mut STEPS.clone(), scope);
            state.replays.open = Some(replay);
        }
    }

    /// The broker's loop has come round, so that no replay goes on.
    pub(super) fn new_turn_of_replays(&self, state: &mut State) {
        self.close_replay(state);
        state.replays.steps = FIRST_STEPS;
    }

    fn ask_on(
        &self,
        state: &mut State,
        replay: &mut Replay,
        most: usize,
        steps: &mut usize,
        scope: &Scope<'_>,
    ) {
        let config = scope.config;
        let room = (config.cache_size / CACHE_SHARE).saturating_sub(replay.awaited.len());
        let (username, client_id) = (&*replay.username, &*replay.client_id);
        if room == 0 || !keeps_topics(config) || !scope.may_ask_about(username, client_id) {
            return;
        }
        let (mut left, start) = (most.min(room), Instant::now());
        let _many = self.asker.sends_many();
        let about_publishers = state.replays.checks_publishers && config.acl_checks.contains(&Access::Write);
        let (awaited, mut are_publishers_asked_about) = (&mut replay.awaited, false);
        self.retained.lock().search(
            &replay.filter,
            &mut replay.position,
            steps,
            |Found { topic, publisher }| {
                let shared = OnceCell::new();
                let share = || Arc::clone(shared.get_or_init(|| topic.into()));
                let question =
                    Question::Access { username, client_id, topic, access: Access::Read, more: "" };
                let own = || question.to_owned_about(&share());
                if let Some(key) = self.ask_topic(state, &question, own, Early::Guess, scope) {
                    awaited.insert(key, share());
                    left -= 1;
                }
                if let Some((client_id, username)) = publisher.filter(|_| about_publishers)
                    && !username.is_empty()
                {
                    let question =
                        Question::Access { username, client_id, topic, access: Access::Write, more: "" };
                    let own = || question.to_owned_about(&share());
                    are_publishers_asked_about |=
                        self.ask_topic(state, &question, own, Early::Guess, scope).is_some();
                }
                if left == 0 || start.elapsed() > TIME {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        replay.is_anything_sent |= !awaited.is_empty();
        replay.asks_about_publishers |= are_publishers_asked_about;
    }

    /// Draws the lesson from a replay that is over.
    fn close_replay(&self, state: &mut State) {
        let Some(replay) = state.replays.open.take() else { return };
        if !replay.has_begun {
            if replay.is_anything_sent {
                let times = state.replays.in_vain.get_or_insert_mut(replay.client, || 0);
                *times = times.saturating_add(1);
            }
            return;
        }
        state.replays.in_vain.pop(&replay.client);
        if replay.asks_about_publishers && !replay.has_come_for_publisher {
            state.replays.checks_publishers = false;
        }
        if !replay.awaited.is_empty() {
            let mut retained = self.retained.lock();
            replay.awaited.values().take(ENDED).for_each(|topic| retained.end(topic));
        }
    }
}

/// Whether the API is asked about messages that are to be delivered.
pub fn asks_reads(config: &Config) -> bool {
    config.acl_checks.contains(&Access::Read) && !config.acl_urls.is_empty()
}
