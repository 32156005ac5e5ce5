//! The URLs that are asked, as figures tell of them.

use std::time::Duration;

use crate::question::Kind;

/// The name of a kind of question in labels.
pub(super) fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Connect => "login",
        Kind::Access => "topic",
    }
}

/// What a URL is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// One login.
    Logins,
    /// One topic.
    Topics,
    /// Many topics in one request.
    ManyTopics,
    /// Whether a user may do everything.
    Superusers,
}

impl About {
    /// The same for people.
    pub fn in_words(self) -> &'static str {
        match self {
            About::Logins => "logins",
            About::Topics => "topics",
            About::ManyTopics => "many topics at once",
            About::Superusers => "superusers",
        }
    }

    /// Its name in labels.
    pub(super) fn name(self) -> &'static str {
        match self {
            About::Logins => name_of(Kind::Connect),
            About::Topics => name_of(Kind::Access),
            About::ManyTopics => "topics",
            About::Superusers => "superuser",
        }
    }
}

/// One URL at this moment.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The URL without what may be a secret.
    pub url: String,
    /// What it is asked about.
    pub about: About,
    /// Whether it is left alone since it gave no answers.
    pub is_open: bool,
    /// Whether it is left alone since it asked for that (429), or gave no right answer to many questions.
    pub is_paused: bool,
    /// Whether it is asked first.
    pub is_first: bool,
    /// Requests on their way to it.
    pub in_flight: usize,
    /// How many requests may be on their way to it.
    pub at_a_time: usize,
    /// How long its answers take of late, once there was one.
    pub latency: Option<Duration>,
}
