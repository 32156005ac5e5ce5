//! A question as it goes to the API, and what comes back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::HeaderValue;

use super::breaker::AskedFor;
use crate::config::{LIFETIMES_APART, UrlSet};
use crate::question::Answer;
use crate::util::random;

/// A question as it is sent.
#[derive(Clone)]
pub(in crate::ask) struct Request {
    /// The source and the client that it is asked for.
    pub(in crate::ask) asked_for: AskedFor,
    /// Where it goes.
    pub(in crate::ask) urls: UrlSet,
    /// Shared by all who send it: it may be long.
    pub(in crate::ask) body: Bytes,
    /// What goes as `Authorization`, unless a header of that name goes with every request.
    pub(in crate::ask) credentials: Option<HeaderValue>,
}

/// An answer and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The verdict, or why there is none.
    pub answer: Answer,
    /// When the question was sent: a verdict's lifetime counts from here.
    pub sent: Instant,
    /// The lifetime that the response sets itself, if it does and may; zero: not to be remembered.
    pub lifetime: Option<Duration>,
}

impl Reply {
    /// For how long its verdict may be remembered: as the response says, or else as configured.
    pub(in crate::ask) fn lifetime_or(&self, configured: impl FnOnce() -> Duration) -> Duration {
        spread(self.lifetime.unwrap_or_else(configured))
    }
}

/// Shortens a lifetime at random, see [`LIFETIMES_APART`].
pub(in crate::ask) fn spread(lifetime: Duration) -> Duration {
    lifetime.mul_f64(1.0 - LIFETIMES_APART * random::fraction())
}
