//! Finds out when an API that is left alone is back: questions that had no answer are asked again in the background,
//! one at a time, whether anybody comes meanwhile or not.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout};

use super::client::{DRAIN_LIMIT, is_gateway_failure};
use super::connections::Progress;
use super::endpoint::Endpoint;
use super::target::Target;
use crate::log::Level;
use crate::question::Answer;

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

    /// Says in the log that an endpoint was silent for this long, and is asked again.
    pub(super) fn note_recovery(&self, endpoint: &Endpoint, after: Duration) {
        endpoint.samples.clear();
        let line = format!(
            "The API at {} answers again, after {} s: it is asked as before.",
            endpoint.shown,
            after.as_secs()
        );
        self.log.write(Level::Notice, line);
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
