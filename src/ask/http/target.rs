//! Everything that says where and how to ask: URLs, headers, TLS, time-outs. Built and checked as a
//! whole, then swapped in as a whole.
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use ring::digest::{Digest, SHA256, digest};

use super::batches::Batches;
use super::endpoint::{Endpoint, Endpoints};
use super::identity::told_apart_by;
use super::known_names::KnownNames;
use super::lanes::{SendOptions, Server};
use super::pace::News;
use super::prepare::Prepared;
use super::shared_cache::store_options;
use super::single_flight::SingleFlight;
use super::target_error::TargetError;
use super::tls::TlsFiles;
use crate::ask::queue::Road;
use crate::ask::resolver::Resolver;
use crate::ask::store::StoreOptions;
use crate::config::{Config, UrlSet};
use crate::fingerprint::Source;
use crate::log::{Level, Log};
use crate::metrics::Endpoint as EndpointFigures;
use crate::question::Kind;

/// An API and the way to it.
pub struct Target {
    /// The options that it was made from.
    pub config: Arc<Config>,
    pub(super) log: Arc<Log>,
    /// What the options say of a cache that is shared with other brokers.
    pub(in crate::ask) store: Option<StoreOptions>,
    /// What tells this API from others.
    told_apart_by: Vec<u8>,
    /// See [`Self::identity`].
    identity: OnceCell<Digest>,
    servers: Vec<Arc<Server>>,
    /// The names that it has allowed something.
    pub(in crate::ask) known: Arc<KnownNames>,
    logins: Endpoints,
    topics: Endpoints,
    superusers: Endpoints,
    /// The questions about users that are on their way.
    pub(in crate::ask) superuser_flights: SingleFlight,
    pub(super) batches: Batches,
    tls_files: TlsFiles,
}

impl Target {
    /// Reads the files that the options name and prepares the clients. Nothing is sent yet.
    ///
    /// # Errors
    /// The first file that cannot be used, or the reason why TLS cannot be set up.
    pub fn new(config: &Arc<Config>, resolver: &Resolver, log: &Arc<Log>) -> Result<Self, TargetError> {
        let Prepared { headers, tls, tls_files } = Prepared::read(config)?;
        let store = store_options(config, &tls, resolver)?;
        let told_apart_by = told_apart_by(config, &headers);
        let options =
            Arc::new(SendOptions { config: Arc::clone(config), headers, tls, resolver: resolver.clone() });
        let (mut servers, known) = (Vec::new(), Arc::default());
        let mut endpoints = |set| Endpoints::new(set, &options, &mut servers, &known);
        Ok(Self {
            logins: endpoints(UrlSet::Login)?,
            topics: endpoints(UrlSet::Topic)?,
            superusers: endpoints(UrlSet::Superuser)?,
            superuser_flights: SingleFlight::default(),
            batches: Batches::new(endpoints(UrlSet::Batch)?),
            known,
            config: Arc::clone(config),
            log: Arc::clone(log),
            store,
            told_apart_by,
            identity: OnceCell::new(),
            servers,
            tls_files,
        })
    }

    /// Whether both ask the same API in the same way, so that the verdicts of one hold for the other. Brokers that share a
    /// cache may each trust and show files of their own; one whose files have changed may be somebody else to the API.
    pub fn asks_like(&self, other: &Self) -> bool {
        // Nearly always it is the same one, and there may be megabytes to compare.
        ptr::eq(self, other)
            || (self.told_apart_by == other.told_apart_by && self.tls_files == other.tls_files)
    }

    /// Tells this API from others, for brokers that share a cache: a digest of its URLs and of the headers that it gets.
    pub(in crate::ask) fn identity(&self) -> &[u8] {
        self.identity.get_or_init(|| digest(&SHA256, &self.told_apart_by)).as_ref()
    }

    /// Whether asking such a question is in vain: every URL is left alone, and is not even probed with it.
    pub fn has_no_use_for(&self, kind: Kind, source: Source, now: Instant) -> bool {
        self.endpoints(kind).iter().all(|endpoint| endpoint.breaker.has_no_use_for(source, now))
    }

    /// Whether such a question would get no answer now, since every URL is left alone.
    pub(in crate::ask) fn refuses(&self, urls: impl Into<UrlSet>, source: Source, now: Instant) -> bool {
        self.endpoints(urls).iter().all(|endpoint| endpoint.breaker.refuses(source, now))
    }

    /// Whether no question of this kind would get an answer now, whoever it is asked for.
    pub fn refuses_all(&self, kind: Kind, now: Instant) -> bool {
        self.endpoints(kind).iter().all(|endpoint| endpoint.breaker.refuses_all(now))
    }

    /// How many requests may be on their way at a time by each road: as many as the URL can take that is asked first.
    pub(in crate::ask) fn at_a_time(&self, now: Instant) -> [usize; 3] {
        // Where all are left alone, nothing is sent: questions end at once, and need not wait for that.
        let most = self.config.max_requests;
        let at_a_time = |road| self.asked_first(road, now).map_or(most, |first| first.limiter.at_a_time());
        let [login, topic, together] = Road::ALL.map(at_a_time);
        let all_at_fault = self.batches.endpoints.iter().all(|endpoint| endpoint.rest.has_fault());
        [login, topic, if all_at_fault { 1 } else { together }]
    }

    /// All URLs as they are now, in the order of the options.
    pub fn figures(&self, now: Instant) -> Vec<EndpointFigures> {
        let of = |set| {
            let first = self.asked_first(set, now);
            self.endpoints(set).iter().map(move |endpoint| EndpointFigures {
                url: endpoint.api.shown(),
                set,
                is_open: endpoint.breaker.is_open(),
                is_paused: endpoint.is_paused(now),
                is_first: first.is_some_and(|first| Arc::ptr_eq(first, endpoint)),
                in_flight: endpoint.limiter.in_flight(),
                at_a_time: endpoint.limiter.at_a_time(),
                latency: endpoint.limiter.usual(),
            })
        };
        UrlSet::ALL.into_iter().flat_map(of).collect()
    }

    /// How many questions are on their way to the API.
    pub fn questions_under_way(&self) -> usize {
        let alone = [&self.logins, &self.topics, &self.superusers].into_iter().flat_map(Endpoints::iter);
        let alone: usize = alone.map(|endpoint| endpoint.limiter.in_flight()).sum();
        alone + self.batches.questions()
    }

    /// How long a request by this road holds its place before it may count as hanging.
    pub(in crate::ask) fn hangs_after(&self, road: Road, now: Instant) -> Duration {
        self.asked_first(road, now).map_or(self.config.timeout, |first| first.limiter.hangs_after())
    }

    /// How long an answer by this road takes of late, where questions may go together and it is known.
    pub(in crate::ask) fn usual(&self, road: Road, now: Instant) -> Option<Duration> {
        let together = !self.config.acl_batch_urls.is_empty() && road != Road::Login;
        self.asked_first(road, now).filter(|_| together)?.limiter.usual()
    }

    /// Whether a request sent at `sent` hangs by now, while `passed_over` others that hang are still on their way.
    pub(in crate::ask) fn hangs(&self, road: Road, sent: Instant, passed_over: usize, now: Instant) -> bool {
        self.asked_first(road, now).is_some_and(|first| first.limiter.hangs(sent, passed_over))
    }

    /// The URL that is asked first now, unless all are left alone.
    fn asked_first(&self, urls: impl Into<UrlSet>, now: Instant) -> Option<&Arc<Endpoint>> {
        self.endpoints(urls).in_order().find(|endpoint| !endpoint.is_left_alone(now))
    }

    /// The broker has waited so long for a question of this kind.
    pub fn held_up(&self, kind: Kind, spent: Duration) {
        self.endpoints(kind).pace.held_up(spent);
    }

    /// Counts how long an answer `took`, if one has come. Says in the log if the API has become slow, or is so no longer.
    pub(in crate::ask) fn note_pace(&self, urls: impl Into<UrlSet>, took: Option<Duration>, now: Instant) {
        let endpoints = self.endpoints(urls);
        took.into_iter().for_each(|took| endpoints.pace.answered(took, now));
        let Some(news) = endpoints.pace.turn(now) else { return };
        let preferred = endpoints.in_order().next();
        let level = if matches!(news, News::Slow { .. }) { Level::Warning } else { Level::Notice };
        self.log.write(level, news.line(preferred.map_or("", |endpoint| &endpoint.shown)));
    }

    /// Drops kept connections and has names looked up again: an API that is silent on them may be back on others.
    pub(in crate::ask) fn renew_connections(&self) {
        self.servers.iter().for_each(|server| server.start_anew());
    }

    /// How many requests are under way beside those that questions began with.
    pub(in crate::ask) fn second_tries(&self) -> usize {
        self.servers.iter().map(|server| server.second_tries.count()).sum()
    }

    /// The URLs for a kind of question, for those of a road, or of a set.
    pub(super) fn endpoints(&self, urls: impl Into<UrlSet>) -> &Endpoints {
        match urls.into() {
            UrlSet::Login => &self.logins,
            UrlSet::Topic => &self.topics,
            UrlSet::Batch => &self.batches.endpoints,
            UrlSet::Superuser => &self.superusers,
        }
    }
}
