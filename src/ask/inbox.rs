//! Where answers go: into the cache, and to all who wait for them. The worker's thread files them here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::http::{Reply, Target};
use super::inflight::{Early, EarlyOnes, InFlight, Questions};
use super::queue::Priority;
use super::store::Sharing;
use super::subject::Subject;
use crate::cache::{Cache, Fresh};
use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::log::{Level, Log};
use crate::metrics::Metrics;
use crate::question::{Answer, NoAnswer, Verdict};
use crate::topic::GrantsPool;
use crate::util::{Held, Lock, panics};

/// What the worker's thread shares with the threads that ask.
pub struct Inbox {
    pub(super) log: Arc<Log>,
    pub(super) metrics: Arc<Metrics>,
    /// Makes fingerprints.
    pub(super) keys: Fingerprinter,
    /// The rules that came with answers.
    pub(super) pool: GrantsPool,
    /// The API to ask. Swapped under the lock of `state`, so that no verdict of the old API is remembered after the
    /// swap.
    pub(super) target: ArcSwap<Target>,
    /// Which API that is: counts those that have taken another's place.
    pub(super) api_number: AtomicU32,
    /// The cache that is shared with other brokers, if there is one.
    pub(super) sharing: Sharing,
    pub(super) state: Lock<State>,
}

/// Verdicts and the questions that are on their way to one, under one lock: whatever is not in one of the two is asked.
pub(super) struct State {
    pub(super) cache: Cache,
    pub(super) in_flight: Questions,
    pub(super) early: EarlyOnes,
}

impl State {
    /// Puts a verdict into the cache. `unused`: it was asked early, for this reason, and the broker has not come for it.
    pub(super) fn put(&mut self, key: Fingerprint, fresh: Fresh, unused: Option<Early>) {
        let client = fresh.about.sharer();
        match unused {
            Some(Early::Reader) => drop(self.cache.insert_awaited(key, client, fresh)),
            Some(Early::Guess) => drop(self.cache.insert_unused(key, client, fresh)),
            None => self.cache.insert(key, client, fresh),
        }
    }
}

impl Inbox {
    /// The number of the API that is asked now.
    pub(super) fn api_number(&self) -> u32 {
        self.api_number.load(Ordering::Relaxed)
    }

    /// Locks the state. If a thread has panicked under the lock, the cache may be inconsistent, so it is emptied.
    pub(super) fn state(&self) -> Held<'_, State> {
        self.state.lock_or_mend(|state| state.cache.clear())
    }

    /// Puts the verdict of a reply into the cache, if it is one. `unused`: it was asked early, for this reason, and the
    /// broker has not come for it yet.
    pub(super) fn remember(&self, state: &mut State, subject: Subject, reply: &Reply, unused: Option<Early>) {
        let Subject { key, about, kind, .. } = subject;
        let Answer::Verdict { verdict, grounds, ref terms } = reply.answer else { return };
        // Only a refusal that is about the client ends an allow that is still good. A 404 of a deployment
        // gone wrong denies no more than the question asked.
        let about_the_client = verdict == Verdict::Allow || grounds.is_about_the_client();
        if about_the_client || state.cache.peek(key, reply.sent) != Some(Verdict::Allow) {
            let configured = || self.target.load().config.lifetime(kind, verdict);
            let lifetime = reply.lifetime_or(configured);
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

    /// The API to ask now.
    pub(super) fn target(&self) -> Arc<Target> {
        self.target.load_full()
    }

    /// Takes a reply, remembers its verdict and tells all who wait. Returns `false` if the API that it came `from` is
    /// no longer the one to ask, or if whatever it has said of that client was forgotten since the question was sent: then
    /// nothing was taken, and the question has to be asked again.
    pub(super) fn file(&self, subject: Subject, reply: Reply, from: &Arc<Target>) -> bool {
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

    /// Tells all who wait that the question's time, `limit`, is up. The question goes on, so that a late answer is
    /// remembered for the next try.
    pub(super) fn overdue(&self, key: Fingerprint, limit: Duration) {
        let waiting = self.state().in_flight.get_mut(&key).map(InFlight::take_in_time);
        if let Some(waiting) = waiting {
            waiting.deliver(&Answer::None(NoAnswer::TimedOut(limit)), self.api_number());
        }
    }

    /// Tells all who wait that the question has ended without a reply.
    pub(super) fn abandon(&self, key: Fingerprint, reason: NoAnswer) {
        let ended = self.state().in_flight.remove(&key);
        if let Some(in_flight) = ended {
            in_flight.deliver(&Answer::None(reason), self.api_number());
        }
    }

    /// The question is not on its way to the API, and all who waited for it have left. `false` if somebody has come for it
    /// since; else it is over.
    pub(super) fn give_up(&self, key: Fingerprint) -> bool {
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

    /// Tells those who have left a question that it was not asked. It goes on.
    pub(super) fn let_go(&self, key: Fingerprint) {
        let left = self.state().in_flight.get_mut(&key).map(InFlight::take_those_who_left);
        if let Some(left) = left {
            left.deliver(&Answer::None(NoAnswer::Unheard), self.api_number());
        }
    }

    /// With which priority a question is asked by now, if it is on its way.
    pub(super) fn priority(&self, key: Fingerprint) -> Option<Priority> {
        self.state().in_flight.get(&key).map(|in_flight| in_flight.priority)
    }

    /// There is a bug at this place in the source. The worker goes on.
    pub(super) fn worker_panicked(&self, place: &str) {
        self.log.write(Level::Error, panics::message(place, "The question at hand gets no answer."));
    }
}
