//! What comes of a question: what its endpoint is noted for, what the log is told of it, and what is left of its response.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::breaker::{AskedFor, PausedBy};
use super::cause::cause;
use super::connections::Progress;
use super::endpoint::Endpoint;
use super::headers::{lifetime, retry_after};
use super::hints::{LOOKED_AT, meaning, says_otherwise};
use super::send::Answered;
use super::target::Target;
use crate::ask::answer::{MOST_BYTES, is_read};
use crate::log::Level;
use crate::question::{Answer, NoAnswer};

/// How long a connection may take to deliver the rest of an answer that nobody waits for.
pub(in crate::ask) const DRAIN_LIMIT: Duration = Duration::from_millis(500);

impl Target {
    /// The lifetime that a response sets itself, if it does and may.
    pub(super) fn lifetime_of(&self, response: &Response) -> Option<Duration> {
        lifetime(response).filter(|_| self.config.api_cache_control)
    }

    /// Tells the breaker that an endpoint has answered, and how long it wants to be left alone if the answer was 429.
    pub(super) fn note_answer(
        &self,
        endpoint: &Endpoint,
        asked_for: AskedFor,
        sent: Instant,
        response: &Response,
    ) {
        let now = Instant::now();
        if let Some(after) = endpoint.breaker.answered(asked_for, sent, now) {
            self.note_recovery(endpoint, after);
        }
        if endpoint.server.second_tries.claim_no_room_line() {
            let line = format!(
                "The API at {} leaves new connections waiting while it answers over kept ones, as servers do that \
                 serve few connections at once: questions wait there for a third of their time. Let it serve as many \
                 as plugin_opt_max_requests says ({}), or lower that, or set plugin_opt_keep_alive to false.",
                endpoint.shown, self.config.max_requests,
            );
            self.log.write(Level::Warning, line);
        }
        if response.status() == StatusCode::TOO_MANY_REQUESTS
            && let Some(paused) = endpoint.breaker.back_off(asked_for, retry_after(response), now)
            && (paused.by != PausedBy::OneParty || endpoint.pause_hint.claim(now))
        {
            self.log.write(Level::Warning, paused.line(&endpoint.shown));
        }
    }

    /// Says in the log how many questions are on their way to an endpoint at a time from now on.
    pub(super) fn tell_limit(&self, endpoint: &Endpoint, limit: usize) {
        let (url, most) = (&endpoint.shown, self.config.max_requests);
        let line = if limit < most {
            format!(
                "The API at {url} takes longer for each answer the more it is asked at once: no more than {limit} \
                 questions are on their way to it at a time now (max_requests is {most}), and the others wait here."
            )
        } else {
            format!("The API at {url} takes {most} questions at a time again (max_requests).")
        };
        self.log.write(Level::Notice, line);
    }

    /// Says in the log, once a minute, what a status usually means that is about the URL and not about the client.
    pub(super) fn note_status(&self, endpoint: &Endpoint, status: StatusCode) {
        // To others every status below 300 was a yes, and every one from 400 on a plain no.
        let is_usual = !self.config.dialect.is_contract() && !status.is_redirection();
        let status = status.as_u16();
        let Some(meaning) = meaning(status).filter(|_| !is_usual) else { return };
        if !self.config.defer_status.contains(&status) && endpoint.status_hint.claim(Instant::now()) {
            let url = &endpoint.shown;
            self.log.warn(&format!("The API at {url} answered {status}, {meaning}. See docs/contract.md."));
        }
    }

    /// Says in the log, once a minute, what is wrong with an answer that came from there.
    pub(in crate::ask) fn note_bad_answer(&self, endpoint: &Endpoint, what: &str) {
        if endpoint.body_hint.claim(Instant::now()) {
            let line = format!(
                "The API at {} answered 200 with a body that cannot be used, which refuses ({what}). Correct it by \
                 docs/answers.md; without plugin_opt_answer_rules no body is read.",
                endpoint.shown
            );
            self.log.warn(&line);
        }
    }

    /// Reads the body of a response and drops it, so that its connection can carry the next question. A body that is too
    /// long or too slow costs the connection, and nothing else. If it says no although the status said yes, the log says
    /// so, once a minute.
    pub(in crate::ask) async fn drain(&self, answered: Answered, limit: Duration) {
        let Answered { endpoint, mut response, lane, .. } = answered;
        let says_yes = response.status() == StatusCode::OK;
        let (mut length, mut beginning) = (0, Vec::new());
        let read_all = async {
            while let Some(chunk) = response.chunk().await? {
                if says_yes && beginning.len() < LOOKED_AT {
                    beginning.extend_from_slice(&chunk[..chunk.len().min(LOOKED_AT - beginning.len())]);
                }
                length += chunk.len();
                if length > MOST_BYTES {
                    return Ok(false);
                }
            }
            reqwest::Result::Ok(true)
        };
        // A failure is fine, too: the verdict was in the status.
        if let Ok(Ok(true)) = timeout(limit, read_all).await {
            endpoint.server.give_back(lane).await;
        }
        if let Some(otherwise) = says_otherwise(&beginning)
            && endpoint.body_hint.claim(Instant::now())
        {
            let line = format!(
                "The API at {} answered 200, which lets everybody in, but {otherwise}: the status alone is its answer, \
                 and 403 says no.",
                endpoint.shown
            );
            self.log.warn(&line);
        }
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

/// Whether the body of a response is a part of the answer (`answer_rules`).
pub(super) fn says_more(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    is_read(response.status().as_u16(), content_type)
}

/// Whether the answer is that of a proxy in front of an API that cannot be reached. Any other failure may be one that a
/// client's input has caused.
pub(super) fn is_gateway_failure(answer: &Answer) -> bool {
    matches!(answer, Answer::None(NoAnswer::Status(502..=504)))
}

impl Endpoint {
    /// Why a request that was `sent` then had no response, in words for the operator. If there was no connection, the server's name is looked up
    /// again.
    pub(super) fn failed(&self, error: &reqwest::Error, sent: Instant, progress: &Progress) -> NoAnswer {
        if error.is_connect() {
            self.server.distrust(sent);
        }
        NoAnswer::Transport(match (self.api.name(), &self.api.socket) {
            (Some(name), _) if error.is_timeout() && progress.is_looking_up() => {
                format!("the name {name} was not looked up in time")
            }
            (_, Some(socket)) if error.is_connect() => {
                format!("the socket {}: {}", socket.display(), cause(error))
            }
            _ => cause(error),
        })
    }
}
