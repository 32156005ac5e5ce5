//! The URLs that are asked, as figures tell of them.

use std::time::Duration;

use crate::config::UrlSet;

/// The name in labels of what is asked about.
pub(super) fn name_of(asked: impl Into<UrlSet>) -> &'static str {
    match asked.into() {
        UrlSet::Login => "login",
        UrlSet::Topic => "topic",
        UrlSet::Batch => "topics",
        UrlSet::Superuser => "superuser",
    }
}

/// One URL at this moment.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The URL without what may be a secret.
    pub url: String,
    /// The URLs that it is one of.
    pub set: UrlSet,
    /// Whether it is left alone since it gave no answers.
    pub is_open: bool,
    /// Whether it is left alone since it asked for that (429), or gave no right answer to many questions.
    pub is_paused: bool,
    /// Whether it is asked first now; not while it is left alone.
    pub is_first: bool,
    /// Requests on their way to it.
    pub in_flight: usize,
    /// How many requests may be on their way to it.
    pub at_a_time: usize,
    /// How long its answers take of late, once there was one.
    pub latency: Option<Duration>,
}
