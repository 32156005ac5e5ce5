//! Finds out when an API that is left alone is back: questions that had no answer are asked again in the background,
//! one at a time, whether anybody comes meanwhile or not.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::time::{sleep_until, timeout};

use super::breaker::{AskedFor, Opened};
use super::connections::Progress;
use super::endpoint::Endpoint;
use super::notes::{DRAIN_LIMIT, is_gateway_failure};
use super::request::Request;
use super::target::Target;
use crate::config::UrlSet;
use crate::log::Level;
use crate::question::{Answer, NoAnswer};

/// Answers in a row that an API has to give before its breaker closes. With one, an API that is silent to every third
/// question would often pass.
const PROBES: usize = 2;

impl Target {
    /// Probes an endpoint until the breaker that opened at `since` closes, or until nobody asks this target any more.
    pub(super) fn start_probing(self: &Arc<Self>, endpoint: &Arc<Endpoint>, since: Instant) {
        tokio::spawn(probe_until_it_is_back(Arc::downgrade(self), Arc::downgrade(endpoint), since));
    }

    /// Whether an endpoint answers [`PROBES`] times in a row, on new connections.
    async fn is_back(&self, endpoint: &Arc<Endpoint>) -> bool {
        for _ in 0..PROBES {
            let Some(request) = endpoint.samples.next() else { return false };
            let progress = Progress::default();
            let sending = endpoint.send_afresh(&request, &progress);
            let Ok(Ok(answered)) = timeout(self.config.timeout, sending).await else {
                endpoint.samples.drop_last();
                return false;
            };
            let status = answered.response.status();
            let is_failure = is_gateway_failure(&Answer::of_status(status.as_u16()));
            self.note_status(endpoint, status);
            self.drain(answered, DRAIN_LIMIT).await;
            if is_failure {
                endpoint.samples.drop_last();
                return false;
            }
        }
        true
    }

    /// Tells the breaker that an endpoint has not answered. If that opens it, says so in the log, and finds out in the
    /// background when it is back.
    pub(super) fn note_silence(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        request: &Request,
        asked_for: Option<AskedFor>,
        reason: &NoAnswer,
    ) {
        let opened = endpoint.breaker.unanswered(asked_for, Instant::now());
        if endpoint.breaker.is_open() {
            endpoint.samples.keep(request);
        }
        let Some(Opened { unanswered, of, only_strangers, pause, since }) = opened else { return };
        self.start_probing(endpoint, since);
        // Kept connections may be dead without a sign of it, for example if a firewall has forgotten them.
        self.renew_connections();
        let stale = self.config.stale_ttl;
        let meanwhile = match self.endpoints(endpoint.set).len() {
            1 if endpoint.set == UrlSet::Superuser => {
                "topics go by acl_url alone, and a no of that is no answer".to_owned()
            }
            1 if only_strangers => {
                "usernames that it has allowed something before are still asked about, and all others are refused at \
                 once"
                    .to_owned()
            }
            1 if stale.is_zero() => "questions to it are refused at once".to_owned(),
            1 => {
                format!("what it allowed before goes on for up to {stale:?}, and all else is refused at once")
            }
            _ => "questions go to the other URLs".to_owned(),
        };
        let line = format!(
            "The API at {} gave no answer to {unanswered} of the last {of} questions ({reason}). It is left alone now: \
             {meanwhile}. It is asked in the background, after {pause:?} at first and every {:?} later, until it \
             answers. Is it running, and can this machine reach it?",
            endpoint.shown, self.config.breaker.longest,
        );
        self.log.write(Level::Warning, line);
    }
}

/// Keeps neither of them alive while it sleeps: after a reload another target is asked.
async fn probe_until_it_is_back(target: Weak<Target>, endpoint: Weak<Endpoint>, since: Instant) {
    loop {
        let next = |endpoint: Arc<Endpoint>| endpoint.breaker.next_probe(since);
        let Some(due) = endpoint.upgrade().and_then(next) else { return };
        sleep_until(due.into()).await;
        let (Some(target), Some(endpoint)) = (target.upgrade(), endpoint.upgrade()) else { return };
        if endpoint.breaker.next_probe(since).is_none() {
            return;
        }
        if !target.is_back(&endpoint).await {
            endpoint.breaker.probe_failed(since, Instant::now());
        } else if let Some(after) = endpoint.breaker.recovered(since, Instant::now()) {
            target.note_recovery(&endpoint, after);
            return;
        }
    }
}
