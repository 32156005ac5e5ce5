//! Everything that says where and how to ask: URLs, headers, TLS, time-outs. Built and checked as a
//! whole, then swapped in as a whole.
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::breaker::Breaker;
use super::cause::cause;
use super::gauge::Gauge;
use super::hints::Hint;
use super::lanes::{Server, Way};
use super::names::Names;
use super::pace::{News, Pace};
use super::probing::Samples;
use super::tls::{self, TlsFiles};
use crate::config::{ApiUrl, Config, header_conflict, header_lines};
use crate::fingerprint::Source;
use crate::log::{Level, Log};
use crate::metrics;
use crate::question::Kind;
use crate::util::location::{Location, file_name};
use crate::util::{Lock, files};

/// The hash of no network: a breaker that is open for it is open for all.
const NO_NETWORK: u64 = 0;

/// An API and the way to it.
pub struct Target {
    /// The options that it was made from.
    pub config: Arc<Config>,
    pub(in crate::ask) log: Arc<Log>,
    way: Arc<Way>,
    servers: Vec<Arc<Server>>,
    connect: Endpoints,
    access: Endpoints,
    tls_files: TlsFiles,
}

/// The URLs for one kind of question.
pub(in crate::ask) struct Endpoints {
    /// In the order of the option.
    pub(in crate::ask) endpoints: Vec<Endpoint>,
    /// The number of the one that gave the last verdict: it is asked first.
    pub(in crate::ask) preferred: AtomicUsize,
    /// Whether answers take long.
    pub(super) pace: Lock<Pace>,
}

/// One URL.
pub(in crate::ask) struct Endpoint {
    pub(super) api: ApiUrl,
    /// Its name in the log: the URL without credentials, and what it is asked about.
    pub(in crate::ask) shown: String,
    pub(in crate::ask) breaker: Breaker,
    pub(super) server: Arc<Server>,
    /// What it is probed with while the breaker is open.
    pub(in crate::ask) samples: Samples,
    /// About statuses that say nothing about a client.
    pub(super) status_hint: Hint,
    /// About bodies that say no although the status says yes.
    pub(super) body_hint: Hint,
    /// How many questions may be on their way to it.
    pub(in crate::ask) gauge: Gauge,
}

impl Endpoints {
    fn new(
        urls: &[ApiUrl],
        about: &str,
        way: &Arc<Way>,
        servers: &mut Vec<Arc<Server>>,
    ) -> Result<Self, TargetError> {
        let endpoint = |api: &ApiUrl| {
            Ok(Endpoint {
                api: api.clone(),
                shown: format!("{} ({about})", api.shown()),
                breaker: Breaker::new(way.config.breaker),
                server: Server::of(api, way, servers).map_err(|error| TargetError::Tls(cause(&error)))?,
                samples: Samples::default(),
                status_hint: Hint::default(),
                body_hint: Hint::default(),
                gauge: Gauge::new(way.config.max_requests, way.config.timeout),
            })
        };
        let endpoints = urls.iter().map(endpoint).collect::<Result<_, _>>()?;
        Ok(Self { endpoints, preferred: AtomicUsize::new(0), pace: Lock::new(Pace::new(way.config.timeout)) })
    }
}

/// Why an API cannot be asked as the options say.
#[derive(Debug)]
pub enum TargetError {
    /// A file cannot be read: the option that names it, its path, the system's error.
    Unreadable(String, PathBuf, std::io::Error),
    /// A line of the header file is no header: the option that names the file, its path, the line's number from 1, what
    /// is wrong with it if it can be said.
    NotAHeader(String, PathBuf, usize, Option<String>),
    /// The headers do not go together: the option that names their file, and why.
    NoHeaders(String, &'static str),
    /// A file does not hold what it should: the option that names it, its path, what is wrong.
    File(String, PathBuf, String),
    /// Certificate and key do not go together: the option that names the certificate, and the cause.
    NoPair(String, String),
    /// TLS cannot be set up, for example because no system roots could be loaded: the cause.
    Tls(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetError::Unreadable(option, path, cause) => {
                write!(f, "{option}: {} cannot be read ({cause})", path.display())
            }
            TargetError::NoHeaders(option, what) => write!(f, "{option}: {what}"),
            TargetError::NotAHeader(option, path, line, Some(what)) => {
                write!(f, "{option}: {}: {what}", Location::line(&file_name(path), *line))
            }
            TargetError::NotAHeader(option, path, line, None) => {
                let location = Location::line(&file_name(path), *line);
                write!(
                    f,
                    "{option}: {location}: expected \"Name: value\"; \
                     what was found is not shown, it may be a secret"
                )
            }
            TargetError::File(option, path, what) => {
                write!(f, "{option}: {} {what}", path.display())
            }
            TargetError::NoPair(option, cause) => {
                write!(
                    f,
                    "{option}: the certificate and the key in tls_key_file do not go together ({cause})"
                )
            }
            TargetError::Tls(cause) => write!(f, "TLS towards the API cannot be set up ({cause})"),
        }
    }
}

impl std::error::Error for TargetError {}

impl Target {
    /// Reads the files that the options name and prepares the clients. Nothing is sent yet.
    ///
    /// # Errors
    /// The first file that cannot be used, or the reason why TLS cannot be set up.
    pub fn new(config: &Arc<Config>, names: &Names, log: &Arc<Log>) -> Result<Self, TargetError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut configured = config.headers.clone();
        if let Some(path) = &config.header_file {
            let called = config.called("header_file");
            let text = read(called.clone(), path)?;
            let text = String::from_utf8(text)
                .map_err(|_| TargetError::File(called, path.clone(), "is no UTF-8 text".to_owned()))?;
            configured.extend(header_lines(&text).map_err(|(line, why)| {
                TargetError::NotAHeader(config.called("header_file"), path.clone(), line, why)
            })?);
            if let Some(what) = header_conflict(&configured, config.urls()) {
                return Err(TargetError::NoHeaders(config.called("header_file"), what));
            }
        }
        for (name, value) in configured {
            headers.append(name, value);
        }
        if !config.keep_alive {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let tls_files = [
            read_if_set(config.called("tls_ca_file"), config.tls_ca_file.as_deref())?,
            read_if_set(config.called("tls_cert_file"), config.tls_cert_file.as_deref())?,
            read_if_set(config.called("tls_key_file"), config.tls_key_file.as_deref())?,
        ];
        let tls = tls::client_config(config, &tls_files)?;
        let way = Arc::new(Way { config: Arc::clone(config), headers, tls, names: names.clone() });
        let mut servers = Vec::new();
        Ok(Self {
            connect: Endpoints::new(&config.auth_urls, "logins", &way, &mut servers)?,
            access: Endpoints::new(&config.acl_urls, "topics", &way, &mut servers)?,
            config: Arc::clone(config),
            log: Arc::clone(log),
            way,
            servers,
            tls_files,
        })
    }

    /// Whether both ask the same API in the same way, so that the verdicts of one hold for the other.
    pub fn asks_like(&self, other: &Self) -> bool {
        self.way.headers == other.way.headers
            && self.tls_files == other.tls_files
            && self.config.auth_urls == other.config.auth_urls
            && self.config.acl_urls == other.config.acl_urls
            && self.config.tls_insecure == other.config.tls_insecure
    }

    /// Whether asking such a question is in vain: every URL is left alone, and is not even probed with it.
    pub fn is_open(&self, kind: Kind, source: Source, now: Instant) -> bool {
        self.endpoints(kind).endpoints.iter().all(|endpoint| endpoint.breaker.has_no_use_for(source[0], now))
    }

    /// Whether such a question would get no answer now, since every URL is left alone.
    pub fn refuses(&self, kind: Kind, source: Source, now: Instant) -> bool {
        self.endpoints(kind).endpoints.iter().all(|endpoint| endpoint.breaker.refuses(source[0], now))
    }

    /// How many questions about logins and about topics may be on their way at a time: as many as the URL can take that
    /// is asked first.
    pub(in crate::ask) fn at_a_time(&self, now: Instant) -> [usize; 2] {
        // Where all are left alone, nothing is sent: questions end at once, and need not wait for that.
        let most = self.config.max_requests;
        Kind::BOTH.map(|kind| self.asked_first(kind, now).map_or(most, |first| first.gauge.at_a_time()))
    }

    /// All URLs as they are now, in the order of the options.
    pub fn figures(&self, now: Instant) -> Vec<metrics::Endpoint> {
        let of = |kind: Kind| {
            let first = self.asked_first(kind, now).map(|endpoint| &raw const *endpoint);
            self.endpoints(kind).endpoints.iter().map(move |endpoint| metrics::Endpoint {
                url: endpoint.api.shown(),
                kind,
                is_open: endpoint.breaker.is_open(),
                is_paused: endpoint.breaker.is_paused(now),
                is_first: first == Some(&raw const *endpoint),
                in_flight: endpoint.gauge.in_flight(),
                at_a_time: endpoint.gauge.at_a_time(),
            })
        };
        Kind::BOTH.into_iter().flat_map(of).collect()
    }

    /// How long a question of this kind that is on its way keeps others waiting: one that hangs does not.
    pub(in crate::ask) fn hangs_after(&self, kind: Kind, now: Instant) -> Duration {
        self.asked_first(kind, now).map_or(self.config.timeout, |first| first.gauge.hangs_after())
    }

    /// The URL that is asked first now, unless all are left alone.
    fn asked_first(&self, kind: Kind, now: Instant) -> Option<&Endpoint> {
        let Endpoints { endpoints, preferred, .. } = self.endpoints(kind);
        let preferred = preferred.load(Ordering::Relaxed).min(endpoints.len());
        let mut in_order = endpoints[preferred..].iter().chain(endpoints);
        in_order.find(|endpoint| !endpoint.breaker.refuses(NO_NETWORK, now))
    }

    /// The broker has waited so long for a question of this kind.
    pub fn held_up(&self, kind: Kind, spent: Duration) {
        self.endpoints(kind).pace.lock().held_up(spent);
    }

    /// Says in the log if the API has become slow, or is so no longer.
    pub fn note_pace(&self, kind: Kind, now: Instant) {
        let endpoints = self.endpoints(kind);
        let Some(news) = endpoints.pace.lock().turn(now) else { return };
        let preferred = endpoints.endpoints.get(endpoints.preferred.load(Ordering::Relaxed));
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

    /// The URLs for a kind of question.
    pub(in crate::ask) fn endpoints(&self, kind: Kind) -> &Endpoints {
        match kind {
            Kind::Connect => &self.connect,
            Kind::Access => &self.access,
        }
    }
}

fn read_if_set(option: String, path: Option<&Path>) -> Result<Vec<u8>, TargetError> {
    path.map_or(Ok(Vec::new()), |path| read(option, path))
}

/// The largest file of headers, certificates or a key, in bytes: the bundle of all authorities of a system has a
/// quarter of a million.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;

fn read(option: String, path: &Path) -> Result<Vec<u8>, TargetError> {
    files::read(path, FILE_LIMIT).map_err(|cause| TargetError::Unreadable(option, path.to_owned(), cause))
}
