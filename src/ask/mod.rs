//! The one door to the API's verdicts: remembered, on their way, or asked for.

mod ahead;
pub mod answer;
pub mod dialect;
pub mod http;
mod inbox;
mod inflight;
mod job;
pub mod json;
mod left;
pub mod more_fields;
mod places;
mod queue;
pub mod resolver;
mod shared;
mod steered;
mod store;
mod subject;
mod superuser;
pub mod wire;
pub mod worker;

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use once_cell::sync::OnceCell;

use crate::broker::Broker;
use crate::cache::{Allow, Cache, Hit};
use crate::fingerprint::{Fingerprint, Fingerprinter, Source};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::question::{Answer, Kind, NoAnswer, OwnedQuestion, Question, Verdict};
use crate::topic::GrantsPool;
use crate::util::Lock;
use http::Target;
use inbox::{Inbox, State};
pub use inflight::{Early, Slot, Waiter};
use inflight::{EarlyOnes, InFlight, Questions};
use job::Job;
pub use queue::Priority;
pub use store::Peer;
use store::Sharing;
use subject::Subject;
pub use superuser::Beforehand;
use worker::Worker;

/// Bytes that the rules of all answers may take which are remembered or that sessions hold; equal ones are held once. Room
/// for those of 100,000 sessions with 50 rules each that are all different.
const RULES: usize = 512 << 20;

/// Gives out verdicts: those that are remembered, and those that it has the API asked for.
pub struct Asker {
    broker: Arc<dyn Broker>,
    keys: Fingerprinter,
    /// Started with the first question, so that there is no network traffic before the broker is ready for it. Declared
    /// before `inbox`, since dropping it ends the thread that files answers there.
    worker: OnceCell<Worker>,
    inbox: Arc<Inbox>,
}

/// A question on its way.
pub struct Pending {
    /// The slot where its answer will appear.
    pub slot: Arc<Slot>,
    /// It was on its way already, or its answer has just come.
    pub was_under_way: bool,
}

impl Asker {
    /// An asker that remembers nothing yet and will ask `target`.
    pub fn new(
        log: Arc<Log>,
        broker: Arc<dyn Broker>,
        keys: Fingerprinter,
        target: Arc<Target>,
        metrics: Arc<Metrics>,
        now: Instant,
    ) -> Self {
        let cache = Cache::new(target.config.cache_size, target.config.stale_ttl, now);
        let state = Lock::new(State { cache, in_flight: Questions::default(), early: EarlyOnes::default() });
        let pool = GrantsPool::new(RULES);
        let sharing = Sharing::new(keys);
        sharing.use_store(target.store.as_ref(), &log, &metrics);
        let (target, api_number) = (ArcSwap::new(target), AtomicU32::new(0));
        let inbox = Arc::new(Inbox { log, metrics, keys, pool, target, api_number, sharing, state });
        Self { broker, keys, worker: OnceCell::new(), inbox }
    }

    /// The fingerprint of a question, by which it is asked for and remembered.
    pub fn key(&self, question: &Question<'_>) -> Fingerprint {
        self.keys.question(question)
    }

    /// The fingerprint of the client that a question is about.
    pub fn client(&self, question: &Question<'_>) -> Fingerprint {
        self.keys.client(question)
    }

    /// The source of a question: the sender's network, and its username there. Sources share the API fairly.
    pub fn source(&self, address: Option<&str>, username: &str) -> Source {
        self.keys.source(address, username)
    }

    /// The remembered verdict for a question, if it still holds. Counts as a use of it.
    pub fn known(&self, key: Fingerprint, now: Instant) -> Option<Hit> {
        self.inbox.state().cache.get(key, now)
    }

    /// The remembered verdict for a question, if it still holds. Does not count as a use of it.
    pub fn peek(&self, key: Fingerprint, now: Instant) -> Option<Verdict> {
        self.inbox.state().cache.peek(key, now)
    }

    /// Forgets the verdict of one question, if there is one.
    pub fn drop_verdict(&self, key: Fingerprint) {
        self.inbox.state().cache.forget(key);
    }

    /// The allow that is remembered and may serve while the API gives no answer, up to `stale_ttl` past its end.
    pub fn stale_allow(&self, key: Fingerprint, now: Instant) -> Option<Allow> {
        self.inbox.state().cache.stale_allow(key, now)
    }

    /// The allow that is remembered, if it still holds. Does not count as a use of it.
    pub fn allow(&self, key: Fingerprint, now: Instant) -> Option<Allow> {
        self.inbox.state().cache.allow(key, now)
    }

    /// The rules that came with answers.
    pub fn pool(&self) -> &GrantsPool {
        &self.inbox.pool
    }

    /// Whether asking such a question is in vain: all URLs for it are left alone and are not even probed with it, and no other
    /// broker's answer may be found either.
    pub fn is_in_vain(&self, kind: Kind, source: Source, now: Instant) -> bool {
        self.inbox.target.load().has_no_use_for(kind, source, now) && !self.inbox.sharing.is_up()
    }

    /// Whether such a question would get no answer now, since all URLs for it are left alone.
    pub fn refuses(&self, kind: Kind, source: Source, now: Instant) -> bool {
        self.inbox.target.load().refuses(kind, source, now)
    }

    /// Whether no question of this kind would get an answer now, whoever it is asked for.
    pub fn refuses_all(&self, kind: Kind, now: Instant) -> bool {
        self.inbox.target.load().refuses_all(kind, now)
    }

    /// Whether a question is on its way.
    pub fn is_under_way(&self, key: Fingerprint) -> bool {
        self.inbox.state().in_flight.contains_key(&key)
    }

    /// The broker, and with it every client, has waited so long for a question of this kind.
    pub fn held_up(&self, kind: Kind, spent: Duration) {
        self.inbox.metrics.held_up(kind, spent);
        self.inbox.target.load().held_up(kind, spent);
    }

    /// The broker, and with it every client, has waited so long for the hash of a local user's password.
    pub fn held_up_by_hash(&self, spent: Duration) {
        self.inbox.metrics.held_up(Kind::Connect, spent);
    }

    /// Begins a turn of the broker's loop: what the log should say of the last minute is said now.
    pub fn new_turn(&self, now: Instant) {
        self.hold_store();
        self.inbox.state().cache.tend();
        let target = self.inbox.target.load();
        Kind::BOTH.into_iter().for_each(|kind| target.note_pace(kind, None, now));
    }

    /// Has the API asked. A question that is on its way already is not sent again: its answer is shared, and it moves
    /// up to `priority` if that is higher. `waiter` is told of the answer.
    ///
    /// # Errors
    /// [`NoAnswer::NotAsked`] if the system gives no thread to ask with.
    pub fn ask(
        &self,
        key: Fingerprint,
        question: &Question<'_>,
        source: Source,
        priority: Priority,
        waiter: Option<Waiter>,
        now: Instant,
    ) -> Result<Pending, NoAnswer> {
        let worker = self.worker()?;
        self.hold_store();
        let mut state = self.inbox.state();
        if priority == Priority::Broker
            && let Some(Hit { verdict, grounds, terms, .. }) = state.cache.get(key, now)
        {
            // It has come since the caller looked.
            let slot = Arc::new(Slot::answered(Answer::Verdict { verdict, grounds, terms }));
            return Ok(Pending { slot, was_under_way: true });
        }
        let (in_flight, was_under_way) = match state.in_flight.entry(key) {
            Entry::Occupied(entry) => (entry.into_mut(), true),
            Entry::Vacant(entry) => (entry.insert(InFlight::new(priority)), false),
        };
        in_flight.add(waiter);
        // What is asked for news is not to be told what others have heard, also if somebody else has asked it first.
        let is_anew = matches!(priority, Priority::Revoke | Priority::Refresh);
        in_flight.is_anew |= is_anew;
        let slot = in_flight.slot();
        let may_move = priority >= in_flight.priority;
        in_flight.priority = in_flight.priority.max(priority);
        // Sent before anybody else can join the question, or raising it might overtake asking it.
        let mut lost = None;
        if !was_under_way {
            let mut job = self.job(key, source, question.to_owned());
            job.asks_anew = is_anew;
            lost = worker.ask(job, priority);
        } else if may_move {
            worker.join(key, priority, source);
        }
        drop(state);
        // A job that is dropped takes its question out again, for which it needs the state.
        drop(lost);
        Ok(Pending { slot, was_under_way })
    }

    /// The API that is asked.
    pub fn target(&self) -> Arc<Target> {
        self.inbox.target.load_full()
    }

    /// The number of the API that is asked now. It changes where [`Self::set_target`] forgets all verdicts.
    pub fn api_number(&self) -> u32 {
        self.inbox.api_number()
    }

    /// Replaces the API to ask. If it is another API, or the same with other headers or TLS files
    /// ([`Target::asks_like`]), all verdicts are forgotten, and answers that are still to come from the old one are not
    /// used. If no option has changed, connections and circuit breakers stay as they are. Returns whether all were forgotten.
    pub fn set_target(&self, target: Arc<Target>) -> bool {
        let mut state = self.inbox.state();
        let before = self.inbox.target.load();
        let is_another = !before.asks_like(&target);
        if is_another {
            self.inbox.api_number.fetch_add(1, Ordering::Relaxed);
            state.cache.clear();
        } else if before.config == target.config && before.store == target.store {
            return false;
        }
        if is_another || before.store != target.store {
            self.inbox.sharing.use_store(target.store.as_ref(), &self.inbox.log, &self.inbox.metrics);
        }
        state.cache.configure(target.config.cache_size, target.config.stale_ttl);
        self.inbox.target.store(Arc::clone(&target));
        drop(state);
        if !is_another {
            target.known.take_over(&before.known);
        }
        is_another
    }

    /// How many questions are on their way that were asked early for this reason.
    pub fn under_way(&self, early: Early) -> usize {
        self.inbox.state().early.under_way(early)
    }

    /// A question for the worker. From now on it ends for all who wait, since dropping it tells them, too.
    fn job(&self, key: Fingerprint, source: Source, question: OwnedQuestion) -> Job {
        let shown = question.as_question();
        let (client, about) = (self.keys.client(&shown), self.keys.about(&shown));
        let subject = Subject { key, client, about, kind: shown.kind() };
        Job::new(subject, source, question, Arc::clone(&self.inbox))
    }

    fn worker(&self) -> Result<&Worker, NoAnswer> {
        let start = || Worker::start(Arc::clone(&self.inbox), &|body| self.broker.spawn(body));
        let worker = self.worker.get_or_try_init(start);
        worker.map_err(|error| NoAnswer::NotAsked(format!("no thread to ask with: {error}")))
    }
}
