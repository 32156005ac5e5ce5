//! The URLs that are asked, and what is known of each.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::breaker::Breaker;
use super::cause::cause;
use super::known_names::KnownNames;
use super::lanes::{SendOptions, Server};
use super::limiter::Limiter;
use super::pace::Pace;
use super::rest::Rest;
use super::samples::Samples;
use super::target_error::TargetError;
use crate::config::{ApiUrl, UrlSet};
use crate::util::OnceAMinute;

/// The URLs of one set.
pub(super) struct Endpoints {
    /// In the order of the option.
    all: Vec<Arc<Endpoint>>,
    /// The number of the one that gave the last verdict: it is asked first.
    preferred: AtomicUsize,
    /// Whether answers take long.
    pub(super) pace: Pace,
}

/// One URL.
pub(in crate::ask) struct Endpoint {
    /// The set that it is in.
    pub(super) set: UrlSet,
    pub(super) api: ApiUrl,
    /// Its name in the log: the URL without credentials, and what it is asked about.
    pub(super) shown: String,
    pub(super) breaker: Breaker,
    /// Whether it is left alone after a wrong answer to many questions: it takes the place of the breaker there.
    pub(super) rest: Rest,
    pub(super) server: Arc<Server>,
    /// What it is probed with while the breaker is open.
    pub(super) samples: Samples,
    /// About statuses that say nothing about a client.
    pub(super) status_hint: OnceAMinute,
    /// About bodies that say no although the status says yes.
    pub(super) body_hint: OnceAMinute,
    /// When the log last told of a pause for one client.
    pub(super) pause_hint: OnceAMinute,
    /// How many questions may be on their way to it.
    pub(super) limiter: Limiter,
}

impl Endpoints {
    /// Those of this set, each with its server among these.
    pub(super) fn new(
        set: UrlSet,
        options: &Arc<SendOptions>,
        servers: &mut Vec<Arc<Server>>,
        known: &Arc<KnownNames>,
    ) -> Result<Self, TargetError> {
        let endpoint = |api: &ApiUrl| {
            Ok(Arc::new(Endpoint {
                set,
                api: api.clone(),
                shown: format!("{} ({})", api.shown(), set.in_words()),
                breaker: Breaker::new(options.config.breaker, Arc::clone(known)),
                rest: Rest::default(),
                server: Server::of(api, options, servers).map_err(|error| TargetError::Tls(cause(&error)))?,
                samples: Samples::default(),
                status_hint: OnceAMinute::default(),
                body_hint: OnceAMinute::default(),
                pause_hint: OnceAMinute::default(),
                limiter: Limiter::new(options.config.max_requests, options.config.timeout),
            }))
        };
        let all = options.config.urls_of(set).iter().map(endpoint).collect::<Result<_, _>>()?;
        let pace = Pace::new(options.config.timeout, Instant::now());
        Ok(Self { all, preferred: AtomicUsize::new(0), pace })
    }

    /// All, in the order of the option.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.all.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// All, beginning with the one that gave the last verdict.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let (before, from_preferred) = self.all.split_at(self.preferred.load(Ordering::Relaxed));
        from_preferred.iter().chain(before)
    }

    /// Notes that this one has given a verdict.
    pub(super) fn prefer(&self, endpoint: &Arc<Endpoint>) {
        if let Some(number) = self.all.iter().position(|one| Arc::ptr_eq(one, endpoint)) {
            self.preferred.store(number, Ordering::Relaxed);
        }
    }
}

impl Endpoint {
    /// Whether it is left alone for a while, as it has asked for or since its answer to many questions was wrong.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        match self.set {
            UrlSet::Batch => !self.rest.is_over(now),
            UrlSet::Login | UrlSet::Topic | UrlSet::Superuser => self.breaker.is_paused(now),
        }
    }

    /// Whether nothing is sent there now, whoever it is asked for.
    pub(super) fn is_left_alone(&self, now: Instant) -> bool {
        match self.set {
            UrlSet::Batch => !self.rest.is_over(now),
            UrlSet::Login | UrlSet::Topic | UrlSet::Superuser => self.breaker.refuses_all(now),
        }
    }
}
