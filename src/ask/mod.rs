//! What is known and what is being asked: the cache, the questions in flight and who waits for them,
//! behind one short lock that nobody holds while waiting or while calling anybody.
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::ask::worker::{Class, Inbox, Job, Worker};
pub mod http;
pub mod wire;
pub mod worker;

use crate::cache::{Cache, Fresh, Hit};
use crate::fingerprint::{AlreadyHashed, Fingerprint, Fingerprinter};
use crate::log::{Level, Log};
use crate::main_queue::{Errand, Errands};
use crate::plugin::parked::Ticket;
use crate::plugin::sessions::SessionName;
use crate::prefetch::peek::Place;
use crate::question::{Answer, Kind, NoAnswer, Question, Verdict};
use crate::util::random;
use http::{Reply, Target};
use wire::body;

/// A place where the answer to one question appears, for any number of threads that wait for it.
#[derive(Default)]
pub struct Slot {
    answer: Mutex<Option<Answer>>,
    filed: Condvar,
}

impl Slot {
    /// Waits for the answer, at most so long.
    pub fn wait(&self, limit: Duration) -> Option<Answer> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.filed.wait_timeout_while(answer, limit, |answer| answer.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The answer, if it is there.
    pub fn now(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn file(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.filed.notify_all();
    }
}

struct InFlight {
    kind: Kind,
    class: Class,
    slot: Arc<Slot>,
    /// Clients that are parked until the answer comes.
    parked: Vec<Ticket>,
    /// Clients that are connected already and leave when the API refuses them.
    rechecked: Vec<SessionName>,
}

impl InFlight {
    /// Everybody who waits, apart from the question itself.
    fn take_waiting(&mut self) -> Self {
        Self {
            kind: self.kind,
            class: self.class,
            slot: std::mem::take(&mut self.slot),
            parked: std::mem::take(&mut self.parked),
            rechecked: Vec::new(),
        }
    }
}

/// Who else wants to hear of an answer, besides the threads that wait at its [`Slot`].
pub enum Listener {
    /// Nobody.
    None,
    /// A parked client.
    Parked(Ticket),
    /// A client that was let in before.
    Rechecked(SessionName),
}

struct State {
    target: Arc<Target>,
    cache: Cache,
    in_flight: HashMap<Fingerprint, InFlight, AlreadyHashed>,
    /// Questions that were guessed, and at which listener, until the broker asks them.
    guesses: LruCache<Fingerprint, Place, AlreadyHashed>,
    /// Listeners at which a guess was right since somebody asked.
    hits: Vec<Place>,
    /// Questions that were asked ahead, and when: if the answer could not be kept, asking ahead is in vain.
    ahead: LruCache<Fingerprint, Instant, AlreadyHashed>,
}

/// How long a question is not asked ahead once more; shorter where verdicts are.
const AHEAD_AGAIN: Duration = Duration::from_secs(10);

/// Questions asked ahead that are remembered.
const AHEAD: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Guesses that are remembered: those that the broker has not come to by then were wrong.
const GUESSES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

impl State {
    /// The broker has come to a question. If it was guessed, the guess was right.
    fn note_hit(&mut self, key: Fingerprint) {
        if let Some(listener) = self.guesses.pop(&key) {
            self.hits.push(listener);
        }
    }

    /// Whether asking this ahead makes sense: its answer can be kept, and it was not tried a moment ago.
    fn is_new_ahead(&mut self, key: Fingerprint, kind: Kind, now: Instant) -> bool {
        let again = AHEAD_AGAIN.min(self.target.config.lifetime(kind, Verdict::Allow).mul_f64(0.8));
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < again;
        if again.is_zero() || self.in_flight.contains_key(&key) || self.ahead.peek(&key).is_some_and(is_fresh)
        {
            return false;
        }
        self.ahead.put(key, now);
        true
    }

    fn remember(&mut self, key: Fingerprint, kind: Kind, reply: &Reply, is_unused: bool) {
        let Answer::Verdict { verdict, status } = reply.answer else { return };
        // Only a refusal that is about the client ends an allow that is still good. A 404 of a deployment
        // gone wrong denies no more than the question asked.
        let about_the_client = matches!(status, 200 | 401 | 403);
        if about_the_client || self.cache.peek(key, reply.sent) != Some(Verdict::Allow) {
            let lifetime = reply.lifetime.unwrap_or_else(|| self.target.config.lifetime(kind, verdict));
            let fresh = Fresh { verdict, status, since: reply.sent, lifetime: spread(lifetime) };
            if is_unused {
                self.cache.insert_unused(key, fresh);
            } else {
                self.cache.insert(key, fresh);
            }
        }
    }
}

/// The cache and the questions in flight. Answers arrive on the worker's thread.
pub struct Verdicts {
    log: Arc<Log>,
    errands: Arc<Errands>,
    keys: Fingerprinter,
    state: Mutex<State>,
}

impl Verdicts {
    /// Knows nothing yet and will ask `target`.
    pub fn new(
        log: Arc<Log>,
        errands: Arc<Errands>,
        keys: Fingerprinter,
        target: Target,
        now: Instant,
    ) -> Self {
        let cache = Cache::new(target.config.cache_size, target.config.stale_ttl, now);
        let mut ahead = LruCache::with_hasher(NonZeroUsize::MIN, AlreadyHashed::default());
        ahead.resize(AHEAD);
        let state = State {
            target: Arc::new(target),
            cache,
            in_flight: HashMap::default(),
            guesses: LruCache::with_hasher(GUESSES, AlreadyHashed::default()),
            hits: Vec::new(),
            ahead,
        };
        Self { log, errands, keys, state: Mutex::new(state) }
    }

    /// What a question is known by here.
    pub fn key(&self, question: &Question<'_>) -> Fingerprint {
        self.keys.question(question)
    }

    /// The verdict that is remembered for a question.
    pub fn known(&self, key: Fingerprint, now: Instant) -> Option<Hit> {
        let mut state = self.state();
        let hit = state.cache.get(key, now);
        if hit.is_some_and(|hit| hit.is_first_use) {
            state.note_hit(key);
        }
        hit
    }

    /// The same, without counting as a use.
    pub fn peek(&self, key: Fingerprint, now: Instant) -> Option<Verdict> {
        self.state().cache.peek(key, now)
    }

    /// Whether there is an allow that may serve while there is no answer.
    pub fn has_stale_allow(&self, key: Fingerprint, now: Instant) -> bool {
        self.state().cache.has_stale_allow(key, now)
    }

    /// Whether the API is being left alone at present, so that asking is in vain.
    pub fn is_left_alone(&self, kind: Kind, now: Instant) -> bool {
        self.target().is_left_alone(kind, now)
    }

    /// Has a question asked, unless it is on its way: then this one shares its answer.
    pub fn ask(
        self: &Arc<Self>,
        key: Fingerprint,
        question: &Question<'_>,
        class: Class,
        listener: Listener,
        worker: &Worker,
    ) -> Arc<Slot> {
        let kind = question.kind();
        let mut state = self.state();
        let mut is_new = false;
        let in_flight = state.in_flight.entry(key).or_insert_with(|| {
            is_new = true;
            InFlight { kind, class, slot: Arc::default(), parked: Vec::new(), rechecked: Vec::new() }
        });
        match listener {
            Listener::None => {}
            Listener::Parked(ticket) => in_flight.parked.push(ticket),
            Listener::Rechecked(session) => in_flight.rechecked.push(session),
        }
        let slot = Arc::clone(&in_flight.slot);
        let is_urgent = class > in_flight.class;
        in_flight.class = in_flight.class.max(class);
        if class >= Class::Parked {
            state.note_hit(key);
        }
        drop(state);
        if is_new {
            // From here on the job is answerable: if it is lost, dropping it takes the entry away again.
            let inbox: Arc<dyn Inbox> = Arc::clone(self) as Arc<dyn Inbox>;
            worker.ask(Job::new(key, self.keys.client(question), kind, body(question), inbox), class);
        } else if is_urgent {
            worker.hurry(key, class);
        }
        slot
    }

    /// Has a question asked that nobody waits for yet, unless its verdict is known or the API is silent.
    /// Returns whether an answer is to come.
    pub fn ask_ahead(
        self: &Arc<Self>,
        question: &Question<'_>,
        listener: Listener,
        now: Instant,
        worker: &Worker,
    ) -> bool {
        let key = self.key(question);
        if self.peek(key, now).is_some() || self.is_left_alone(question.kind(), now) {
            return false;
        }
        if matches!(listener, Listener::None) && !self.state().is_new_ahead(key, question.kind(), now) {
            return false;
        }
        let class = if matches!(listener, Listener::None) { Class::Ahead } else { Class::Prepared };
        self.ask(key, question, class, listener, worker);
        true
    }

    /// The same for a question that was guessed at a listener. Returns whether it was news.
    pub fn ask_guess(
        self: &Arc<Self>,
        question: &Question<'_>,
        at: u16,
        now: Instant,
        worker: &Worker,
    ) -> bool {
        let key = self.key(question);
        if self.state().in_flight.contains_key(&key) || !self.ask_ahead(question, Listener::None, now, worker)
        {
            return false;
        }
        self.state().guesses.put(key, (at, question.kind()));
        true
    }

    /// The listeners at which guesses were right since this was asked last.
    pub fn take_hits(&self) -> Vec<Place> {
        std::mem::take(&mut self.state().hits)
    }

    /// Asks another API from now on, or the same in another way. If it is not the same API, what the old one
    /// said is forgotten, and what it still says is not listened to. If nothing has changed, connections
    /// and what is known of the API's health stay.
    pub fn set_target(&self, target: Target) {
        let mut state = self.state();
        if !state.target.asks_like(&target) {
            state.cache.clear();
        } else if state.target.config == target.config {
            return;
        }
        state.cache.configure(target.config.cache_size, target.config.stale_ttl);
        state.target = Arc::new(target);
    }

    /// Tells everybody who waits for a question.
    fn deliver(&self, in_flight: InFlight, answer: &Answer) {
        in_flight.slot.file(answer.clone());
        for ticket in in_flight.parked {
            self.errands.leave(Errand::Answered(ticket, answer.clone()));
        }
        if let Answer::Verdict { status: status @ (401 | 403), .. } = *answer {
            for session in in_flight.rechecked {
                self.errands.leave(Errand::Revoked(session, status));
            }
        }
    }

    /// How many verdicts are remembered.
    pub fn len(&self) -> usize {
        self.state().cache.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A thread that panicked under the lock leaves a cache that nobody can vouch for: empty it and go on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            self.state.clear_poison();
            let mut state = poisoned.into_inner();
            state.cache.clear();
            state
        })
    }
}

impl Inbox for Verdicts {
    fn target(&self) -> Arc<Target> {
        Arc::clone(&self.state().target)
    }

    fn file(&self, key: Fingerprint, reply: Reply, from: &Arc<Target>) -> bool {
        let mut state = self.state();
        if !state.target.asks_like(from) {
            return false;
        }
        let Some(in_flight) = state.in_flight.remove(&key) else { return true };
        // Nobody has come for it yet.
        let is_unused = matches!(in_flight.class, Class::Ahead | Class::Prepared);
        state.remember(key, in_flight.kind, &reply, is_unused);
        drop(state);
        self.deliver(in_flight, &reply.answer);
        true
    }

    fn learn(&self, key: Fingerprint, kind: Kind, reply: Reply, from: &Arc<Target>) {
        let mut state = self.state();
        // It may have taken longer than a question that was asked after it: what that refused stays so.
        let is_outdated = state.cache.peek(key, reply.sent) == Some(Verdict::Deny);
        if state.target.asks_like(from) && !is_outdated {
            state.remember(key, kind, &reply, false);
        }
    }

    fn overdue(&self, key: Fingerprint, limit: Duration) {
        let waiting = self.state().in_flight.get_mut(&key).map(InFlight::take_waiting);
        let Some(late) = waiting else { return };
        self.deliver(late, &Answer::None(NoAnswer::TimedOut(limit)));
    }

    fn abandon(&self, key: Fingerprint, reason: NoAnswer) {
        let ended = self.state().in_flight.remove(&key);
        if let Some(in_flight) = ended {
            self.deliver(in_flight, &Answer::None(reason));
        }
    }

    fn worker_panicked(&self, place: &str) {
        let line = format!("A bug in the plugin was stopped in its worker, at {place}; please report it.");
        self.log.write(Level::Error, line);
    }
}

/// Shortens a life by 0 to 20 % at random, so that verdicts given together do not end together.
fn spread(lifetime: Duration) -> Duration {
    lifetime.mul_f64(1.0 - 0.2 * random::fraction())
}
