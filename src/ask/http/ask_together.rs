//! Asks many questions about topics in one request (`acl_batch_url`). It answers all of them or none: whatever goes wrong,
//! each question is asked alone then.
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::time::timeout;

use super::breaker::AskedFor;
use super::connections::Progress;
use super::endpoint::Endpoint;
use super::headers::retry_after;
use super::hints::meaning;
use super::request::{Reply, Request};
use super::rest::Party;
use super::send::Answered;
use super::target::Target;
use crate::ask::answer::MOST_BYTES;
use crate::ask::json::Object;
use crate::ask::wire::{self, BatchResult};
use crate::config::UrlSet;
use crate::log::Level;
use crate::question::{Answer, Grounds};

/// Requests with several questions may take one part in this many of a question's time; the rest is left to ask it alone.
const SHARE: u32 = 2;

/// Many questions as they are sent.
pub(in crate::ask) struct Crowd {
    /// For each question, whom it is asked for and whom it is about.
    pub(in crate::ask) parties: Vec<[Party; 2]>,
    pub(in crate::ask) body: Bytes,
}

/// The answers to many questions, in their order.
pub(in crate::ask) struct BatchReplies {
    /// Each with the object that it was in, if that says more than yes or no.
    pub(in crate::ask) replies: Vec<(Reply, Option<Object>)>,
    /// The address that they came from.
    pub(in crate::ask) from: Arc<Endpoint>,
}

impl Target {
    /// Whether a question of these may go with others.
    pub(in crate::ask) fn lets_go_together(&self, parties: [Party; 2], now: Instant) -> bool {
        let is_suspect = || {
            let suspects = self.batches.suspects.lock();
            parties.into_iter().any(|party| suspects.contains(party, now))
        };
        !self.config.acl_batch_urls.is_empty() && !is_suspect()
    }

    /// Whether questions go together anywhere now.
    pub(in crate::ask) fn takes_many(&self, now: Instant) -> bool {
        self.batches.endpoints.iter().any(|endpoint| endpoint.rest.is_over(now))
    }

    /// Asks the addresses for many questions in order until one gives a right answer: a verdict for each question.
    pub(in crate::ask) async fn ask_together(&self, crowd: &Crowd) -> Option<BatchReplies> {
        let (endpoints, suspects) = (&self.batches.endpoints, &self.batches.suspects);
        let _counted = self.batches.count(crowd.parties.len());
        let begun = Instant::now();
        let visits: Vec<_> = endpoints
            .in_order()
            .filter_map(|endpoint| Some((endpoint, endpoint.rest.visit(begun)?)))
            .collect();
        let count = visits.len();
        if count == 0 {
            return None;
        }
        for (attempt, (endpoint, visit)) in visits.into_iter().enumerate() {
            let sent = Instant::now();
            let left = (self.config.timeout / SHARE).saturating_sub(begun.elapsed());
            let limit = left / u32::try_from(count - attempt).unwrap_or(u32::MAX);
            match self.attempt_together(endpoint, crowd, limit).await {
                Ok((said, lifetime)) => {
                    if let Some(after) = visit.went_well(Instant::now()) {
                        self.log.write(Level::Notice, recovered(endpoint, after));
                    }
                    endpoints.prefer(endpoint);
                    let mut suspects = suspects.lock();
                    crowd.parties.iter().flatten().for_each(|party| suspects.clear(*party));
                    let reply = |BatchResult { verdict, more }: BatchResult| {
                        let answer = Answer::verdict(verdict, Grounds::InBatch(verdict));
                        (Reply { answer, sent, lifetime }, more)
                    };
                    return Some(BatchReplies {
                        replies: said.into_iter().map(reply).collect(),
                        from: Arc::clone(endpoint),
                    });
                }
                Err(Wrong { found, pause }) => {
                    if let Some(pause) = visit.went_wrong(pause, Instant::now()) {
                        self.log.warn(&at_rest(endpoint, crowd.parties.len(), &found, pause));
                    }
                }
            }
        }
        let (mut suspects, now) = (suspects.lock(), Instant::now());
        crowd.parties.iter().flatten().for_each(|party| suspects.accuse(*party, now));
        None
    }

    /// Asks one address for at most `limit`. What it says, and the lifetime that the answer sets itself.
    async fn attempt_together(
        &self,
        endpoint: &Arc<Endpoint>,
        crowd: &Crowd,
        limit: Duration,
    ) -> Result<(Vec<BatchResult>, Option<Duration>), Wrong> {
        let (sent, progress) = (Instant::now(), Progress::default());
        let mut underway = endpoint.limiter.sent(sent);
        let request = Request {
            asked_for: AskedFor::default(),
            urls: UrlSet::Batch,
            body: crowd.body.clone(),
            credentials: None,
        };
        let asking = async {
            let mut answered = endpoint.send(&request, limit, &progress).await?;
            let took = progress.sent(sent).elapsed();
            let body = match answered.response.status() {
                StatusCode::OK => answered.read().await?,
                _ => None,
            };
            reqwest::Result::Ok((answered, body, took))
        };
        let (answered, body, took) = match timeout(limit, asking).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(endpoint.failed(&error, sent, &progress).to_string().into()),
            Err(_) => {
                underway.timed_out();
                endpoint.server.close_unused_since(sent);
                let limit = Duration::from_millis((limit + Duration::from_micros(999)).as_millis() as u64);
                return Err(format!("nothing within {limit:?}").into());
            }
        };
        let Answered { response, lane, .. } = answered;
        let status = response.status();
        let lifetime = self.lifetime_of(&response);
        let said = match (status, body) {
            (StatusCode::OK, Some(body)) => {
                endpoint.server.give_back(lane).await;
                wire::results(&body, crowd.parties.len())
                    .map_err(|found| format!("status 200 with {found}").into())
            }
            (StatusCode::OK, None) => {
                Err(format!("status 200 with more than {} KiB", MOST_BYTES / 1024).into())
            }
            _ => Err(Wrong::status(status.as_u16(), retry_after(&response))),
        };
        // How fast it fails says nothing about how fast it decides.
        if let Some(limit) = underway.answered(said.is_ok().then_some(took), Instant::now()) {
            self.tell_limit(endpoint, limit);
        }
        Ok((said?, lifetime))
    }
}

/// What came in place of a right answer.
struct Wrong {
    found: String,
    /// How long the API wants to be left alone, if it says so.
    pause: Option<Duration>,
}

impl From<String> for Wrong {
    fn from(found: String) -> Self {
        Self { found, pause: None }
    }
}

impl Wrong {
    fn status(status: u16, pause: Option<Duration>) -> Self {
        let means =
            meaning(status).filter(|_| status >= 300).map_or_else(String::new, |it| format!(", {it}"));
        Self { found: format!("status {status}{means}"), pause: pause.filter(|_| status == 429) }
    }
}

fn at_rest(endpoint: &Endpoint, questions: usize, found: &str, pause: Duration) -> String {
    format!(
        "The API at {} was asked {questions} questions in one request. Expected status 200 with \
         {{\"results\":[true,false, ...]}}, one for each, found {found}. They are asked one by one now, and for {pause:?} all \
         others, too; then one request at a time finds out whether it is right again, after longer pauses each time. See \
         docs/batches.md.",
        endpoint.shown
    )
}

fn recovered(endpoint: &Endpoint, after: Duration) -> String {
    format!(
        "The API at {} answers many questions in one request again, after {} s.",
        endpoint.shown,
        after.as_secs()
    )
}
