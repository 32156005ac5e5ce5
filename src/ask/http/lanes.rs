//! The connections to one server. The HTTP client says neither which connection a request goes over nor whether that one
//! has carried others, so each connection has a client of its own, which carries one question at a time: a lane.
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Client, RequestBuilder, Response, Url};
use rustls::ClientConfig;
use tokio::time::sleep;

use super::connections::{Progress, Watch};
use super::prepare::client;
use super::request::Request;
use super::second_tries::SecondTries;
use crate::ask::resolver::Resolver;
use crate::config::{ApiUrl, Config};
use crate::util::Lock;

/// How long an unused connection is kept. Many servers close theirs after a minute or more; a connection that was
/// closed meanwhile is noticed and replaced.
const LONGEST_IDLE: Duration = Duration::from_secs(60);

/// How long a Unix socket whose queue is full is left alone.
const FULL_QUEUE: Duration = Duration::from_millis(5);

/// How every request is sent.
pub(super) struct SendOptions {
    pub(super) config: Arc<Config>,
    pub(super) headers: HeaderMap,
    pub(super) tls: ClientConfig,
    pub(super) resolver: Resolver,
}

/// What carries one question at a time, over at most one connection.
pub(super) struct Lane {
    client: Client,
    options: Arc<SendOptions>,
    /// When the last answer over it had been read; never if it is new.
    last_used: Option<Instant>,
}

impl Lane {
    pub(super) fn last_used(&self) -> Option<Instant> {
        self.last_used
    }

    /// Sends a question, and notes how its connection comes about. The lane comes back with the response, whose body comes
    /// over it. If it fails or is dropped, so is the lane.
    pub(super) async fn carry(
        self,
        url: &Url,
        request: &Request,
        progress: &Progress,
    ) -> reqwest::Result<(Response, Self)> {
        let began = Instant::now();
        loop {
            match progress.watch(self.request(url, request).send()).await {
                Ok(response) => return Ok((response, self)),
                Err(error)
                    if has_full_queue(&error) && began.elapsed() < self.options.config.connect_timeout =>
                {
                    sleep(FULL_QUEUE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn request(&self, url: &Url, request: &Request) -> RequestBuilder {
        let SendOptions { config, headers, .. } = &*self.options;
        let sent = self.client.request(config.dialect.method.clone(), url.clone());
        let sent = sent.body(request.body.clone());
        match &request.credentials {
            Some(credentials) if !headers.contains_key(AUTHORIZATION) => {
                sent.header(AUTHORIZATION, credentials.clone())
            }
            _ => sent,
        }
    }
}

/// A server, and the lanes to it that wait for a question.
pub(super) struct Server {
    api: ApiUrl,
    options: Arc<SendOptions>,
    /// The last has been used last, and is used first.
    idle: Lock<Vec<Lane>>,
    pub(super) second_tries: SecondTries,
}

impl Server {
    /// The server that this leads to: one that is `known` already, or a new one, if a lane to it can be made.
    pub(super) fn of(
        api: &ApiUrl,
        options: &Arc<SendOptions>,
        known: &mut Vec<Arc<Self>>,
    ) -> reqwest::Result<Arc<Self>> {
        if let Some(server) = known.iter().find(|server| server.api.shown() == api.shown()) {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(Self {
            api: api.clone(),
            options: Arc::clone(options),
            idle: Lock::default(),
            second_tries: SecondTries::default(),
        });
        server.new_lane()?;
        known.push(Arc::clone(&server));
        Ok(server)
    }

    /// Whether a lane has a connection while it waits.
    pub(super) fn keeps_connections(&self) -> bool {
        self.options.config.keep_alive
    }

    /// The lane that was used last, or a new one.
    pub(super) fn lane(&self) -> reqwest::Result<Lane> {
        self.kept_lane().map_or_else(|| self.new_lane(), Ok)
    }

    /// The lane that was used last, if there is one.
    pub(super) fn kept_lane(&self) -> Option<Lane> {
        let mut idle = self.idle.lock();
        let newest = idle.pop()?;
        if newest.last_used.is_some_and(|at| at.elapsed() < LONGEST_IDLE) {
            return Some(newest);
        }
        idle.clear();
        None
    }

    /// A lane without a connection.
    pub(super) fn new_lane(&self) -> reqwest::Result<Lane> {
        let SendOptions { config, headers, tls, resolver } = &*self.options;
        let builder = client(config, headers, tls, &self.api)
            .pool_idle_timeout(LONGEST_IDLE)
            .pool_max_idle_per_host(usize::from(config.keep_alive))
            .dns_resolver(resolver.clone())
            .connector_layer(Watch);
        Ok(Lane { client: builder.build()?, options: Arc::clone(&self.options), last_used: None })
    }

    /// Takes a lane back whose answer has been read to its end.
    pub(super) async fn give_back(&self, mut lane: Lane) {
        // The client has its connection back when its own tasks have noticed that, too.
        tokio::task::yield_now().await;
        let now = Instant::now();
        lane.last_used = Some(now);
        let mut idle = self.idle.lock();
        let young = |lane: &Lane| lane.last_used.is_some_and(|at| now.duration_since(at) < LONGEST_IDLE);
        let old = idle.partition_point(|lane| !young(lane));
        idle.drain(..old);
        if idle.len() < self.options.config.max_requests {
            idle.push(lane);
        }
    }

    /// Closes the lanes that wait and have not been used since then.
    pub(super) fn close_unused_since(&self, then: Instant) {
        self.idle.lock().retain(|lane| lane.last_used > Some(then));
    }

    /// Closes the lanes that wait, and has the server's name looked up again: what is silent there may be well
    /// elsewhere.
    pub(super) fn start_anew(&self) {
        self.idle.lock().clear();
        self.distrust(Instant::now());
    }

    /// The server may have moved to another address: no connection that `began` then came about.
    pub(super) fn distrust(&self, began: Instant) {
        self.api.name().into_iter().for_each(|name| self.options.resolver.distrust(name, began));
    }
}

/// Whether a connection failed since the queue of a Unix socket is full. With TCP the system waits for room.
fn has_full_queue(error: &reqwest::Error) -> bool {
    let mut cause = error.source().filter(|_| error.is_connect());
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::WouldBlock) {
            return true;
        }
        cause = error.source();
    }
    false
}
