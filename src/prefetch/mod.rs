//! Asking before the broker asks: what waits in other sockets, who else will read a message, what a client that comes
//! in is expected to want. Nothing here decides anything; it only has answers on their way.

mod fan_out;
mod in_hand;
mod learn;
mod look;
mod may_ask;
pub mod packet;
pub mod peek;
pub mod queues;
mod replay;
pub mod retained;
mod scores;
pub mod subscriptions;
mod wish;
mod wishes;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::ask::{Asker, Early};
use crate::broker::{Broker, BrokerCell, BrokerThread, Connection};
use crate::config::Config;
use crate::fingerprint::{AlreadyHashed, Fingerprint, Fingerprinter, Source};
use crate::question::{Access, Kind, OwnedQuestion, Question, Verdict};
use crate::util::{Lock, bounded};
use fan_out::FanOuts;
use learn::Learner;
use peek::{Identity, Peeked};
use queues::Queues;
use replay::Replays;
pub use replay::asks_reads;
use retained::Retained;
use scores::Origin;
use subscriptions::Subscriptions;
pub use wish::Wish;

/// How long a question is not asked ahead once more; shorter where verdicts are.
const AGAIN: Duration = Duration::from_secs(10);

/// Questions asked ahead that are remembered: as many as verdicts by default (`cache_size`), and some 9 MB.
const RECENT: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Guesses that are remembered: ten times as many as sockets that the broker comes to in one turn, and some 1 MB. Those that it
/// has not come to by then were wrong.
const GUESSES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Publishers and topics that are remembered for having been allowed: 64 bytes each.
const WRITTEN: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// What the plugin has to say before a question is asked early, so that nobody has the API asked in another's name.
pub trait Gate {
    /// Whether logins are asked one after the other, so that guessing the next ones helps.
    fn guesses_logins(&self) -> bool;

    /// Whether this login would be asked about if the broker came to it now.
    fn asks_login(&self, peer: Option<IpAddr>, username: &str, question: Fingerprint) -> bool;

    /// Whether topics of this client are asked about.
    fn asks_topics(&self, username: &str, client_id: &str) -> bool;

    /// Whether rules that came with an answer decide about this, so that it is not asked.
    fn is_decided(&self, username: &str, client_id: &str, access: Access, topic: &str) -> bool;

    /// Who was let in on a connection and is still there.
    fn client_of(&self, connection: Connection) -> Option<Arc<Identity>>;

    /// Whether such a client is connected and was let in with these credentials.
    fn is_connected(&self, identity: &Identity) -> bool;
}

/// What one step of asking early works with: the options, the gate, the source and the time. The source is a function, since it
/// costs two hashes and most logins ask nothing.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The options.
    pub config: &'a Config,
    /// The plugin's say.
    pub gate: &'a dyn Gate,
    /// Whom it is asked for.
    pub source: &'a dyn Fn() -> Source,
    /// When.
    pub now: Instant,
}

/// Sends questions early.
pub struct Prefetch {
    asker: Arc<Asker>,
    broker: Arc<dyn Broker>,
    keys: Fingerprinter,
    learner: Lock<Learner>,
    state: Lock<State>,
    subscriptions: Lock<Subscriptions>,
    retained: Lock<Retained>,
    queues: BrokerCell<Queues>,
}

struct State {
    peeked: Peeked,
    fan_outs: FanOuts,
    replays: Replays,
    /// Questions that were asked early, and when: if the answer could not be kept, asking early is in vain.
    recent: LruCache<Fingerprint, Instant, AlreadyHashed>,
    /// Questions that were guessed, and where, until the broker asks them.
    guesses: LruCache<Fingerprint, (Origin, i32), AlreadyHashed>,
    /// The socket in which a guess was seen that the broker has come to since the last look.
    came_to: Option<i32>,
    /// When the broker may look on without waiting for anything.
    look_on: Option<Instant>,
    /// Sockets all of whose questions are asked, and when that was seen: no more than the broker has. They count until the
    /// broker comes to them, or for [`look::SEEN`].
    seen: HashMap<i32, Instant>,
    /// WRITE questions that were allowed when the broker last waited for them.
    written: LruCache<Fingerprint, (), AlreadyHashed>,
}

impl Prefetch {
    /// Knows nobody yet.
    pub fn new(asker: Arc<Asker>, broker: Arc<dyn Broker>, keys: Fingerprinter, now: Instant) -> Self {
        let state = State {
            peeked: Peeked::new(keys),
            fan_outs: FanOuts::new(now),
            replays: Replays::default(),
            recent: bounded(RECENT),
            guesses: bounded(GUESSES),
            came_to: None,
            look_on: None,
            seen: HashMap::new(),
            written: bounded(WRITTEN),
        };
        Self {
            asker,
            broker,
            keys,
            learner: Lock::new(Learner::new(keys)),
            state: Lock::new(state),
            subscriptions: Lock::default(),
            retained: Lock::default(),
            queues: BrokerCell::default(),
        }
    }

    /// The broker's loop has come round.
    pub fn new_turn(&self) {
        let state = &mut *self.state.lock();
        state.fan_outs.new_turn();
        self.new_turn_of_replays(state);
        self.subscriptions.lock().clean_up(subscriptions::REMOVED_AT_ONCE);
    }

    /// The broker has come to a question that was asked early: if it was a guess, that was right.
    pub fn confirm(&self, key: Fingerprint) {
        let state = &mut *self.state.lock();
        if let Some((origin, descriptor)) = state.guesses.pop(&key) {
            state.peeked.scores().confirmed(origin);
            state.came_to = Some(descriptor);
            state.seen.remove(&descriptor);
        }
    }

    /// Has a question asked that nobody waits for, if that makes sense: its answer can be kept, and it was not tried a
    /// moment ago. `early`: why it is asked. Returns whether it was sent.
    fn send_early(
        &self,
        state: &mut State,
        key: Fingerprint,
        question: &Question<'_>,
        own: impl FnOnce() -> OwnedQuestion,
        early: Early,
        scope: &Scope<'_>,
    ) -> bool {
        let Scope { source, now, .. } = *scope;
        let again = again(question, scope);
        if again.is_zero() || state.was_asked_lately(key, again, now) {
            return false;
        }
        let is_sent = self.asker.speculate(key, question, own, early, source(), now);
        if is_sent {
            state.recent.put(key, now);
        }
        is_sent
    }

    /// The API has allowed a subscription.
    pub fn subscribed(&self, client_id: &str, username: &str, filter: &str, now: Instant) {
        self.subscriptions.lock().add(client_id, username, filter, now);
    }

    /// Whether a client has subscribed under this username to a filter that matches a topic.
    pub fn covers(&self, client_id: &str, username: &str, topic: &str) -> bool {
        self.subscriptions.lock().covers(client_id, username, topic)
    }

    /// A client has unsubscribed.
    pub fn unsubscribed(&self, client_id: &str, filter: &str) {
        self.subscriptions.lock().remove(client_id, filter);
    }

    /// Notes that a client is let in. If it starts anew, nobody's subscriptions are left under its id.
    pub fn note_let_in(&self, client_id: &str, username: &str, starts_anew: bool, thread: &BrokerThread) {
        if starts_anew {
            self.subscriptions.lock().remove_client(client_id);
        }
        self.forget_queue(client_id, username, thread);
    }

    /// Notes that a client is gone with all that it subscribed to. Somebody else of this id, whose login was refused, is not.
    pub fn note_gone(&self, client_id: &str, username: &str) {
        self.subscriptions.lock().remove_client_of(client_id, username);
    }

    /// The fingerprint of a client, by which it is known whatever it is asked about.
    fn client_key(&self, username: &str, client_id: &str) -> Fingerprint {
        self.keys.client(&Question::Access { username, client_id, topic: "", access: Access::Read, more: "" })
    }

    /// The broker asks about a READ: its client is there, so no doubt is left about its subscriptions.
    pub fn note_reader(&self, question: &Question<'_>, now: Instant) {
        if let Question::Access { client_id, access: Access::Read, .. } = *question {
            self.subscriptions.lock().note_there(client_id, now);
        }
    }
}

impl State {
    /// Whether a question was asked early no longer ago than `again`.
    fn was_asked_lately(&self, key: Fingerprint, again: Duration, now: Instant) -> bool {
        self.recent.peek(&key).is_some_and(|at| now.saturating_duration_since(*at) < again)
    }
}

/// How long a question is not asked early once more.
fn again(question: &Question<'_>, scope: &Scope<'_>) -> Duration {
    AGAIN.min(scope.config.least_lifetime(question.kind(), Verdict::Allow))
}

/// Whether verdicts about topics are kept long enough that asking early can help.
fn keeps_topics(config: &Config) -> bool {
    config.cache_size > 0 && !config.lifetime(Kind::Access, Verdict::Allow).is_zero()
}
