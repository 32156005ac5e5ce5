//! The one door to the API's verdicts: remembered, on their way, or asked for.

mod ahead;
pub mod answer;
pub mod dialect;
pub mod http;
mod inflight;
mod job;
pub mod json;
mod left;
pub mod more_fields;
mod places;
mod queue;
mod shared;
mod steered;
mod store;
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
use crate::cache::{Allow, Cache, Fresh, Hit};
use crate::config::LIFETIMES_APART;
use crate::fingerprint::{Fingerprint, Fingerprinter, Source};
use crate::log::{Level, Log};
use crate::metrics::Metrics;
use crate::question::{Answer, Kind, NoAnswer, OwnedQuestion, Question, Verdict};
use crate::topic::GrantsPool;
use crate::util::{Held, Lock, panics, random};
use http::{Reply, Target};
pub use inflight::{Early, Slot, Waiter};
use inflight::{EarlyOnes, InFlight, Questions};
use job::{Inbox, Job, Subject};
pub use queue::Priority;
use shared::Sharing;
pub use store::Peer;
use store::{Found, Store};
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
    /// before `inner`, since dropping it ends the thread that files answers there.
    worker: OnceCell<Worker>,
    inner: Arc<Inner>,
}

/// What the worker's thread shares with the threads that ask.
struct Inner {
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    /// The rules that came with answers.
    pool: GrantsPool,
    /// The API to ask. Swapped under the lock of `state`, so that no verdict of the old API is remembered after the
    /// swap.
    target: ArcSwap<Target>,
    /// Which API that is: counts those that have taken another's place.
    api_number: AtomicU32,
    /// The cache that is shared with other brokers, if there is one.
    sharing: Sharing,
    state: Lock<State>,
}

/// Verdicts and the questions that are on their way to one, under one lock: whatever is not in one of the two is asked.
struct State {
    cache: Cache,
    in_flight: Questions,
    early: EarlyOnes,
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
        let inner = Arc::new(Inner { log, metrics, pool, target, api_number, sharing, state });
        Self { broker, keys, worker: OnceCell::new(), inner }
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
        self.inner.state().cache.get(key, now)
    }

    /// The remembered verdict for a question, if it still holds. Does not count as a use of it.
    pub fn peek(&self, key: Fingerprint, now: Instant) -> Option<Verdict> {
        self.inner.state().cache.peek(key, now)
    }

    /// The allow that is remembered and may serve while the API gives no answer, up to `stale_ttl` past its end.
    pub fn stale_allow(&self, key: Fingerprint, now: Instant) -> Option<Allow> {
        self.inner.state().cache.stale_allow(key, now)
    }

    /// The allow that is remembered, if it still holds. Does not count as a use of it.
    pub fn allow(&self, key: Fingerprint, now: Instant) -> Option<Allow> {
        self.inner.state().cache.allow(key, now)
    }

    /// The rules that came with answers.
    pub fn pool(&self) -> &GrantsPool {
        &self.inner.pool
    }

    /// Whether asking such a question is in vain: all URLs for it are left alone and are not even probed with it, and no other
    /// broker's answer may be found either.
    pub fn is_in_vain(&self, kind: Kind, source: Source, now: Instant) -> bool {
        self.inner.target.load().has_no_use_for(kind, source, now) && !self.inner.sharing.is_up()
    }

    /// Whether such a question would get no answer now, since all URLs for it are left alone.
    pub fn refuses(&self, kind: Kind, source: Source, now: Instant) -> bool {
        self.inner.target.load().refuses(kind, source, now)
    }

    /// Whether no question of this kind would get an answer now, whoever it is asked for.
    pub fn refuses_all(&self, kind: Kind, now: Instant) -> bool {
        self.inner.target.load().refuses_all(kind, now)
    }

    /// Whether a question is on its way.
    pub fn is_under_way(&self, key: Fingerprint) -> bool {
        self.inner.state().in_flight.contains_key(&key)
    }

    /// The broker, and with it every client, has waited so long for a question of this kind.
    pub fn held_up(&self, kind: Kind, spent: Duration) {
        self.inner.metrics.held_up(kind, spent);
        self.inner.target.load().held_up(kind, spent);
    }

    /// The broker, and with it every client, has waited so long for the hash of a local user's password.
    pub fn has_computed(&self, spent: Duration) {
        self.inner.metrics.held_up(Kind::Connect, spent);
    }

    /// Begins a turn of the broker's loop: what the log should say of the last minute is said now.
    pub fn new_turn(&self, now: Instant) {
        self.hold_store();
        self.inner.state().cache.tend();
        let target = self.inner.target.load();
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
        let mut state = self.inner.state();
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

    /// How many questions are on their way that were asked early for this reason.
    pub fn under_way(&self, early: Early) -> usize {
        self.inner.state().early.under_way(early)
    }

    /// A question for the worker. From now on it ends for all who wait, since dropping it tells them, too.
    fn job(&self, key: Fingerprint, source: Source, question: OwnedQuestion) -> Job {
        let shown = question.as_question();
        let (client, about) = (self.keys.client(&shown), self.keys.about(&shown));
        let subject = Subject { key, client, about, kind: shown.kind() };
        Job::new(subject, source, question, self.inbox())
    }

    fn inbox(&self) -> Arc<dyn Inbox> {
        Arc::clone(&self.inner) as Arc<dyn Inbox>
    }

    fn worker(&self) -> Result<&Worker, NoAnswer> {
        let start = || Worker::start(self.inbox(), &|body| self.broker.spawn(body));
        let worker = self.worker.get_or_try_init(start);
        worker.map_err(|error| NoAnswer::NotAsked(format!("no thread to ask with: {error}")))
    }
}

impl State {
    /// Puts a verdict into the cache. `unused`: it was asked early, for this reason, and the broker has not come for it.
    fn put(&mut self, key: Fingerprint, fresh: Fresh, unused: Option<Early>) {
        let client = fresh.about.sharer();
        match unused {
            Some(Early::Reader) => drop(self.cache.insert_awaited(key, client, fresh)),
            Some(Early::Guess) => drop(self.cache.insert_unused(key, client, fresh)),
            None => self.cache.insert(key, client, fresh),
        }
    }
}

impl Inner {
    fn api_number(&self) -> u32 {
        self.api_number.load(Ordering::Relaxed)
    }

    /// Locks the state. If a thread has panicked under the lock, the cache may be inconsistent, so it is emptied.
    fn state(&self) -> Held<'_, State> {
        self.state.lock_or_mend(|state| state.cache.clear())
    }

    /// Puts the verdict of a reply into the cache, if it is one. `unused`: it was asked early, for this reason, and the
    /// broker has not come for it yet.
    fn remember(&self, state: &mut State, subject: Subject, reply: &Reply, unused: Option<Early>) {
        let Subject { key, about, kind, .. } = subject;
        let Answer::Verdict { verdict, grounds, ref terms } = reply.answer else { return };
        // Only a refusal that is about the client ends an allow that is still good. A 404 of a deployment
        // gone wrong denies no more than the question asked.
        let about_the_client = verdict == Verdict::Allow || grounds.is_about_the_client();
        if about_the_client || state.cache.peek(key, reply.sent) != Some(Verdict::Allow) {
            let configured = || self.target.load().config.lifetime(kind, verdict);
            let lifetime = spread(reply.lifetime.unwrap_or_else(configured));
            let ends = terms.as_ref().and_then(|terms| terms.expires);
            let lifetime =
                ends.map_or(lifetime, |ends| lifetime.min(ends.saturating_duration_since(reply.sent)));
            let fresh = Fresh { verdict, grounds, since: reply.sent, lifetime, about };
            state.put(key, fresh, unused);
            if let Some(terms) = terms {
                state.cache.attach(key, terms);
            }
        }
    }
}

impl Inbox for Inner {
    fn target(&self) -> Arc<Target> {
        self.target.load_full()
    }

    fn pool(&self) -> &GrantsPool {
        &self.pool
    }

    fn file(&self, subject: Subject, reply: Reply, from: &Arc<Target>) -> bool {
        let mut state = self.state();
        let is_verdict = matches!(reply.answer, Answer::Verdict { .. });
        if !self.target.load().asks_like(from)
            || is_verdict && state.cache.has_forgotten(subject.about, reply.sent)
        {
            return false;
        }
        self.metrics.answered(subject.kind, &reply.answer, reply.sent.elapsed());
        let Some(in_flight) = state.in_flight.remove(&subject.key) else { return true };
        self.remember(&mut state, subject, &reply, in_flight.unused());
        // Read while the API cannot be swapped.
        let api = self.api_number();
        drop(state);
        in_flight.deliver(&reply.answer, api);
        true
    }

    fn store(&self) -> Option<Arc<Store>> {
        self.sharing.store()
    }

    fn file_found(&self, subject: Subject, found: &Found, from: &Arc<Target>) -> bool {
        self.take_over(subject, found, from)
    }

    fn overdue(&self, key: Fingerprint, limit: Duration) {
        let waiting = self.state().in_flight.get_mut(&key).map(InFlight::take_in_time);
        if let Some(waiting) = waiting {
            waiting.deliver(&Answer::None(NoAnswer::TimedOut(limit)), self.api_number());
        }
    }

    fn abandon(&self, key: Fingerprint, reason: NoAnswer) {
        let ended = self.state().in_flight.remove(&key);
        if let Some(in_flight) = ended {
            in_flight.deliver(&Answer::None(reason), self.api_number());
        }
    }

    fn give_up(&self, key: Fingerprint) -> bool {
        let mut state = self.state();
        // Somebody else may have come for it meanwhile.
        if !state.in_flight.get(&key).is_some_and(InFlight::is_left_alone) {
            return false;
        }
        let given_up = state.in_flight.remove(&key);
        drop(state);
        if let Some(in_flight) = given_up {
            in_flight.deliver(&Answer::None(NoAnswer::Unheard), self.api_number());
        }
        true
    }

    fn let_go(&self, key: Fingerprint) {
        let left = self.state().in_flight.get_mut(&key).map(InFlight::take_those_who_left);
        if let Some(left) = left {
            left.deliver(&Answer::None(NoAnswer::Unheard), self.api_number());
        }
    }

    fn priority(&self, key: Fingerprint) -> Option<Priority> {
        self.state().in_flight.get(&key).map(|in_flight| in_flight.priority)
    }

    fn went_together(&self, questions: usize, is_answered: bool) {
        self.metrics.went_together(questions, is_answered);
    }

    fn worker_panicked(&self, place: &str) {
        self.log.write(Level::Error, panics::message(place, "The question at hand gets no answer."));
    }
}

/// Shortens a lifetime at random, see [`LIFETIMES_APART`].
fn spread(lifetime: Duration) -> Duration {
    lifetime.mul_f64(1.0 - LIFETIMES_APART * random::fraction())
}
