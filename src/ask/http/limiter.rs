//! The limit of one URL, as those who ask there see it: each question counts for as long as it is on its way.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::limit::{Flight, Limit};
use crate::util::{Lock, nanos};

/// The limit of one URL, as those who ask there see it.
pub struct Limiter {
    limit: Lock<Limit>,
    /// What the limit comes to, for those who only read it: they ask far more often than it changes.
    shown: Shown,
}

/// What a limit came to when it changed last.
#[derive(Default)]
struct Shown {
    at_a_time: AtomicUsize,
    in_flight: AtomicUsize,
    /// In nanoseconds.
    hangs_after: AtomicU64,
    /// The same; 0 until there was an answer.
    usual: AtomicU64,
}

/// A question that is on its way to a URL for as long as this lives.
pub struct Underway<'a> {
    limiter: &'a Limiter,
    flight: Option<Flight>,
}

impl Limiter {
    /// The limiter of an API that nothing is known of.
    pub fn new(ceiling: usize, timeout: Duration) -> Self {
        let limiter = Self { limit: Lock::new(Limit::new(ceiling, timeout)), shown: Shown::default() };
        limiter.change(|_| ());
        limiter
    }

    /// How many may be on their way at a time.
    pub fn at_a_time(&self) -> usize {
        self.shown.at_a_time.load(Ordering::Relaxed)
    }

    /// How many are on their way.
    pub fn in_flight(&self) -> usize {
        self.shown.in_flight.load(Ordering::Relaxed)
    }

    /// How long answers take of late, once there was one.
    pub fn usual(&self) -> Option<Duration> {
        let usual = self.shown.usual.load(Ordering::Relaxed);
        (usual > 0).then(|| Duration::from_nanos(usual))
    }

    /// How long a question that is on its way takes up room at least, see [`Limit::hangs_after`].
    pub fn hangs_after(&self) -> Duration {
        Duration::from_nanos(self.shown.hangs_after.load(Ordering::Relaxed))
    }

    /// Whether it takes up none any more after that, see [`Limit::hangs`].
    pub fn hangs(&self, sent: Instant, passed_over: usize) -> bool {
        self.limit.lock().hangs(sent, passed_over)
    }

    /// A question is sent.
    pub fn sent(&self, now: Instant) -> Underway<'_> {
        Underway { limiter: self, flight: Some(self.change(|limit| limit.sent(now))) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Limit) -> T) -> T {
        let mut limit = self.limit.lock();
        let changed = change(&mut limit);
        self.shown.at_a_time.store(limit.at_a_time(), Ordering::Relaxed);
        self.shown.in_flight.store(limit.in_flight, Ordering::Relaxed);
        self.shown.hangs_after.store(nanos(limit.hangs_after()), Ordering::Relaxed);
        self.shown.usual.store(limit.usual().map_or(0, nanos), Ordering::Relaxed);
        changed
    }
}

impl Underway<'_> {
    /// It was answered, see [`Limit::answered`]. Returns the limit, if the log should say it.
    pub fn answered(&mut self, took: Option<Duration>, now: Instant) -> Option<usize> {
        let flight = self.flight.take()?;
        self.limiter.change(|limit| {
            limit.answered(flight, took, now);
            limit.news(now)
        })
    }

    /// It had no answer in time, see [`Limit::timed_out`].
    pub fn timed_out(&mut self) -> bool {
        self.flight.take().is_some_and(|flight| self.limiter.change(|limit| limit.timed_out(flight)))
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.flight.take().is_some() {
            self.limiter.change(Limit::ended);
        }
    }
}
