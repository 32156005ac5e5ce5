//! Finds out when an API that is left alone is back: questions that had no answer are asked again in the background,
//! one at a time, whether anybody comes meanwhile or not.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout};

use super::client::{DRAIN_LIMIT, Request, is_gateway_failure};
use super::connections::Progress;
use super::endpoint::Endpoint;
use super::target::Target;
use crate::log::Level;
use crate::question::Answer;
use crate::util::Lock;

/// Answers in a row that an API has to give before its breaker closes. With one, an API that is silent to every third
/// question would often pass.
const PROBES: usize = 2;

/// Questions that are kept to probe with. One of them may be the reason why the API hangs; that one goes when it fails.
const KEPT: usize = 4;

/// Questions without an answer, while their endpoint is left alone.
#[derive(Default)]
pub(in crate::ask) struct Samples(Lock<VecDeque<Request>>);

impl Samples {
    /// Keeps a question, if it is not kept already.
    pub(super) fn keep(&self, request: &Request) {
        let mut kept = self.0.lock();
        if kept.iter().all(|one| one.asked_for != request.asked_for) {
            kept.push_back(request.clone());
        }
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    /// The next question to probe with. They take turns.
    fn next(&self) -> Option<Request> {
        let mut kept = self.0.lock();
        let next = kept.pop_front()?;
        kept.push_back(next.clone());
        Some(next)
    }

    /// The question that came last had no answer: unless it is the only one, others are asked instead.
    fn drop_last(&self) {
        let mut kept = self.0.lock();
        if kept.len() > 1 {
            kept.pop_back();
        }
    }

    /// Forgets all: they hold passwords.
    pub(super) fn clear(&self) {
        *self.0.lock() = VecDeque::new();
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::http::AskedFor;
    use crate::config::UrlSet;

    fn request(n: u64) -> Request {
        let asked_for = AskedFor { client: n, ..AskedFor::default() };
        Request { asked_for, urls: UrlSet::Login, body: Vec::new().into(), credentials: None }
    }

    fn next(samples: &Samples) -> Option<u64> {
        samples.next().map(|request| request.asked_for.client)
    }

    #[test]
    fn questions_take_turns_and_one_that_fails_goes_unless_it_is_the_only_one() {
        let samples = Samples::default();
        assert_eq!(next(&samples), None);
        samples.keep(&request(1));
        samples.keep(&request(1));
        assert_eq!([next(&samples), next(&samples)], [Some(1); 2]);
        samples.keep(&request(2));
        assert_eq!([next(&samples), next(&samples), next(&samples)], [Some(1), Some(2), Some(1)]);
        samples.drop_last();
        assert_eq!([next(&samples), next(&samples)], [Some(2); 2]);
        samples.drop_last();
        assert_eq!(next(&samples), Some(2));
        (3..100).for_each(|n| samples.keep(&request(n)));
        assert_eq!(samples.0.lock().len(), KEPT);
        samples.clear();
        assert_eq!(next(&samples), None);
    }
}
