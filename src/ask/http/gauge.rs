//! The limit of one URL, as those who ask there see it: each question counts for as long as it is on its way.
use std::time::{Duration, Instant};

use super::limit::{Flight, Limit};
use crate::util::{Held, Lock};

/// The limit of one URL, as those who ask there see it.
pub struct Gauge(Lock<Limit>);

/// A question that is on its way to a URL for as long as this lives.
pub struct Underway<'a> {
    gauge: &'a Gauge,
    flight: Option<Flight>,
}

impl Gauge {
    /// The gauge of an API that nothing is known of.
    pub fn new(ceiling: usize, timeout: Duration) -> Self {
        Self(Lock::new(Limit::new(ceiling, timeout)))
    }

    /// How many may be on their way at a time.
    pub fn at_a_time(&self) -> usize {
        self.limit().at_a_time()
    }

    /// How many are on their way.
    pub fn in_flight(&self) -> usize {
        self.limit().in_flight
    }

    /// How long a question that is on its way takes up room at least, see [`Limit::hangs_after`].
    pub fn hangs_after(&self) -> Duration {
        self.limit().hangs_after()
    }

    /// Whether it takes up none any more after that, see [`Limit::hangs`].
    pub fn hangs(&self, sent: Instant, passed_over: usize) -> bool {
        self.limit().hangs(sent, passed_over)
    }

    /// How long answers take of late, once there was one.
    pub fn usual(&self) -> Option<Duration> {
        self.limit().usual()
    }

    /// A question is sent.
    pub fn sent(&self, now: Instant) -> Underway<'_> {
        Underway { gauge: self, flight: Some(self.limit().sent(now)) }
    }

    /// The limit, if the log should say it.
    pub fn news(&self, now: Instant) -> Option<usize> {
        self.limit().news(now)
    }

    fn limit(&self) -> Held<'_, Limit> {
        self.0.lock()
    }
}

impl Underway<'_> {
    /// It was answered, see [`Limit::answered`].
    pub fn answered(&mut self, took: Option<Duration>, now: Instant) {
        if let Some(flight) = self.flight.take() {
            self.gauge.limit().answered(flight, took, now);
        }
    }

    /// It had no answer in time, see [`Limit::timed_out`].
    pub fn timed_out(&mut self) -> bool {
        self.flight.take().is_some_and(|flight| self.gauge.limit().timed_out(flight))
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.flight.take().is_some() {
            self.gauge.limit().ended();
        }
    }
}
