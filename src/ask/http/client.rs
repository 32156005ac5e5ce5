//! Asks one question: a POST, fail-over to further URLs within the time-out, and the answer by the HTTP status.
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::breaker::{Admission, AskedFor, Opened, PausedBy};
use super::cause::cause;
use super::connections::Progress;
use super::endpoint::Endpoint;
use super::headers::{lifetime, retry_after};
use super::hints::{LOOKED_AT, meaning, says_otherwise};
use super::request::{BODY_LIMIT, Reply, Request};
use super::send::Answered;
use super::target::Target;
use crate::ask::answer::{Body, is_read};
use crate::config::UrlSet;
use crate::log::Level;
use crate::question::{Answer, NoAnswer};

/// A reply, and what is left to do once it has been filed.
pub(in crate::ask) struct Exchange {
    /// The answer.
    pub(in crate::ask) reply: Reply,
    /// The response that the answer was in, to be read to its end.
    pub(in crate::ask) response: Option<Answered>,
    /// Its body, where that is a part of the answer.
    pub(in crate::ask) body: Option<Body>,
}

impl Target {
    /// Asks the endpoints in order until one gives a verdict, beginning with the one that gave the last verdict.
    /// Endpoints with an open breaker are passed over.
    ///
    /// Each endpoint gets an equal share of what is left of the time-out, so that one that hangs leaves time for the
    /// next. When the time is up, `overdue` is called, and the last endpoint gets the time-out once more: its answer is
    /// remembered for the next try.
    ///
    /// The time-out counts from `began`, but a quarter of it is always left: it may have been asked with others first.
    pub(in crate::ask) async fn ask(
        self: &Arc<Self>,
        request: &Request,
        began: Instant,
        overdue: impl FnOnce(),
    ) -> Exchange {
        let timeout = self.config.timeout;
        let time = timeout.saturating_sub(began.elapsed()).max(timeout / 4);
        self.ask_within(request, time, timeout, overdue).await
    }

    /// Asks the endpoints in turn within this time, with `overtime` more for the last of them.
    pub(in crate::ask) async fn ask_within(
        self: &Arc<Self>,
        request: &Request,
        time: Duration,
        overtime: Duration,
        overdue: impl FnOnce(),
    ) -> Exchange {
        let endpoints = self.endpoints(request.urls);
        let sent = Instant::now();
        let mut asked = Exchange {
            reply: Reply { answer: Answer::None(NoAnswer::BreakerOpen), sent, lifetime: None },
            response: None,
            body: None,
        };
        let mut admitted = Vec::with_capacity(endpoints.endpoints.len());
        for endpoint in endpoints.in_order() {
            match endpoint.breaker.admit(request.asked_for, sent) {
                Admission::Ask => admitted.push(endpoint),
                Admission::Refuse => {}
                Admission::RefuseAndKeep => endpoint.samples.keep(request),
            }
        }
        let mut overdue = Some(overdue);
        for (attempt, endpoint) in admitted.iter().enumerate() {
            let left = time.saturating_sub(sent.elapsed());
            let others = u32::try_from(admitted.len() - attempt).unwrap_or(u32::MAX);
            let overtime = if others == 1 { overtime } else { Duration::ZERO };
            let overdue = || overdue.take().into_iter().for_each(|overdue| overdue());
            let (answer, mut response) =
                self.ask_endpoint(endpoint, request, left / others, overtime, overdue).await;
            asked.reply.answer = answer;
            asked.reply.lifetime = response
                .as_ref()
                .filter(|_| self.config.api_cache_control)
                .and_then(|answered| lifetime(&answered.response));
            asked.body = response.as_mut().and_then(|answered| answered.body.take());
            asked.response = response;
            if matches!(asked.reply.answer, Answer::Verdict { .. }) {
                endpoints.prefer(endpoint);
                break;
            }
        }
        asked
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
                if length > BODY_LIMIT {
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
        let meanwhile = match self.endpoints(endpoint.set).endpoints.len() {
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

/// How long a connection may take to deliver the rest of an answer that nobody waits for.
pub(in crate::ask) const DRAIN_LIMIT: Duration = Duration::from_millis(500);

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
    /// Why a request had no response, in words for the operator. If there was no connection, the server's name is looked up
    /// again.
    pub(super) fn failed(&self, error: &reqwest::Error, progress: &Progress) -> NoAnswer {
        if error.is_connect() {
            self.server.distrust();
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
