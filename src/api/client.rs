//! One question, asked: POST, fail-over within the budget, status to answer.
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::header::CACHE_CONTROL;
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::target::Target;
use crate::question::{Answer, Kind, NoAnswer, Verdict};

/// What is read of a body at most, so that its connection can be used again.
const BODY_LIMIT: usize = 64 * 1024;

/// How long an answer may override the configured times: a day.
const LONGEST_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// An answer and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The verdict, or why there is none.
    pub answer: Answer,
    /// When the question was sent: a verdict's time counts from here.
    pub sent: Instant,
    /// How long the answer itself says that it holds; zero: not to be remembered.
    pub lifetime: Option<Duration>,
}

impl Target {
    /// Asks the endpoints in order until one answers, the one that answered last first.
    ///
    /// Each gets an equal share of what is left of the time-out, so that one that hangs leaves time for
    /// the next. The last may take as long again: nobody waits for it any more by then, but its answer is
    /// good for the next try. The response comes along so that the caller can finish with it once the
    /// answer is filed.
    pub(super) async fn ask(&self, kind: Kind, body: Vec<u8>) -> (Reply, Option<Response>) {
        let budget = self.timeout;
        let endpoints = self.endpoints(kind);
        let count = endpoints.urls.len();
        let preferred = endpoints.preferred.load(Ordering::Relaxed);
        let sent = Instant::now();
        let mut reply = Reply { answer: Answer::None(NoAnswer::TimedOut(budget)), sent, lifetime: None };
        let mut last_response = None;
        for attempt in 0..count {
            let index = (preferred + attempt) % count;
            let left = budget.saturating_sub(sent.elapsed());
            let share = match count - attempt {
                1 => left + budget,
                others => left / u32::try_from(others).unwrap_or(u32::MAX),
            };
            let request = self.client.post(endpoints.urls[index].clone()).body(body.clone());
            match timeout(share, request.send()).await {
                Ok(Ok(response)) => {
                    reply.answer = answer(response.status());
                    if self.heed_cache_control {
                        reply.lifetime = lifetime(&response);
                    }
                    last_response = Some(response);
                }
                Ok(Err(error)) if error.is_timeout() => {
                    reply.answer =
                        Answer::None(NoAnswer::Transport("no connection came about in time".into()));
                }
                Ok(Err(error)) => {
                    reply.answer = Answer::None(NoAnswer::Transport(innermost_cause(&error)));
                }
                Err(_) => reply.answer = Answer::None(NoAnswer::TimedOut(budget)),
            }
            if matches!(reply.answer, Answer::Verdict { .. }) {
                endpoints.preferred.store(index, Ordering::Relaxed);
                break;
            }
        }
        (reply, last_response)
    }
}

/// What a status means (the contract): 200 allows; 408, 429 and 5xx are no answer; all others deny.
fn answer(status: StatusCode) -> Answer {
    match status.as_u16() {
        200 => Answer::Verdict { verdict: Verdict::Allow, status: 200 },
        no_answer @ (408 | 429 | 500..=599) => Answer::None(NoAnswer::Status(no_answer)),
        status => Answer::Verdict { verdict: Verdict::Deny, status },
    }
}

/// `max-age` and `no-store` of an answer.
fn lifetime(response: &Response) -> Option<Duration> {
    let mut lifetime = None;
    for value in response.headers().get_all(CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or("no-store").split(',') {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => return Some(Duration::ZERO),
                "max-age" => {
                    // Nonsense is read as "do not remember", as RFC 9111, section 4.2.1 recommends.
                    let seconds = argument.trim().trim_matches('"').parse().unwrap_or(0);
                    lifetime = Some(Duration::from_secs(seconds).min(LONGEST_MAX_AGE));
                }
                _ => {}
            }
        }
    }
    lifetime
}

/// Reads and drops a body, so that its connection can carry the next question. One that is too long or
/// too slow costs its connection, nothing else.
pub(super) async fn drain(mut response: Response, limit: Duration) {
    let mut length = 0;
    let read_all = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            length += chunk.len();
            if length > BODY_LIMIT {
                return;
            }
        }
    };
    // Either outcome is fine: the verdict was in the status.
    let _ = timeout(limit, read_all).await;
}

/// The cause at the bottom of a chain, the one that says what happened. It never names the URL, which
/// may hold credentials.
pub(super) fn innermost_cause(error: &reqwest::Error) -> String {
    let Some(mut cause) = error.source() else { return "the request failed".to_owned() };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_allows_and_trouble_is_no_answer() {
        for status in 100..1000 {
            let expected = match status {
                200 => Answer::Verdict { verdict: Verdict::Allow, status },
                408 | 429 | 500..=599 => Answer::None(NoAnswer::Status(status)),
                _ => Answer::Verdict { verdict: Verdict::Deny, status },
            };
            assert_eq!(answer(StatusCode::from_u16(status).unwrap()), expected);
        }
    }
}
