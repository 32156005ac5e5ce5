//! One endpoint is asked once: the request is sent, what came of it is noted, and the answer is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::connections::Progress;
use super::endpoint::Endpoint;
use super::limiter::Underway;
use super::notes::{is_gateway_failure, says_more};
use super::request::Request;
use super::send::Answered;
use super::target::Target;
use crate::ask::answer::Body;
use crate::ask::dialect;
use crate::question::{Answer, NoAnswer};

/// A request that is sent to one endpoint.
struct SentRequest<'a> {
    endpoint: &'a Arc<Endpoint>,
    request: &'a Request,
    sent: Instant,
    progress: Progress,
    underway: Underway<'a>,
}

/// What came of that.
struct Sent {
    /// The response, or why there is none. `None`: the time is up, with all that came on top of it.
    result: Option<reqwest::Result<Answered>>,
    /// Whether that came before the time was up.
    in_time: bool,
}

impl Target {
    /// Asks one endpoint for at most `limit`, and tells its breaker what came of it. If `overtime` is not zero,
    /// `overdue` is called after `limit`, and the endpoint gets that much longer; an answer that comes by then is used,
    /// but counts as silence.
    pub(super) async fn ask_endpoint(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        request: &Request,
        limit: Duration,
        overtime: Duration,
        overdue: impl FnOnce(),
    ) -> (Answer, Option<Answered>) {
        let sent = Instant::now();
        let (progress, underway) = (Progress::default(), endpoint.limiter.sent(sent));
        let mut asking = SentRequest { endpoint, request, sent, progress, underway };
        let Sent { result, in_time } = self.send_within(&mut asking, limit, overtime, overdue).await;
        match result {
            None => (Answer::None(NoAnswer::TimedOut(limit)), None),
            Some(Err(error)) => {
                let reason = endpoint.failed(&error, sent, &asking.progress);
                if in_time {
                    self.note_no_answer(&asking, &reason);
                }
                (Answer::None(reason), None)
            }
            Some(Ok(mut answered)) => {
                let answer = self.read(&mut answered);
                self.note_response(&mut asking, &answered, &answer, in_time);
                (answer, Some(answered))
            }
        }
    }

    /// Sends the request and reads the body of the response as far as it is a part of the answer, and notes where that takes
    /// longer than `limit`.
    async fn send_within(
        self: &Arc<Self>,
        asking: &mut SentRequest<'_>,
        limit: Duration,
        overtime: Duration,
        overdue: impl FnOnce(),
    ) -> Sent {
        let SentRequest { endpoint, request, sent, .. } = *asking;
        let (progress, underway) = (&asking.progress, &mut asking.underway);
        let mut sending = std::pin::pin!(async {
            let mut answered = endpoint.send(request, limit, progress).await?;
            let is_part_of_answer = self.config.answer_rules && says_more(&answered.response)
                || dialect::reads_body(&self.config.dialect, answered.response.status().as_u16());
            if is_part_of_answer {
                answered.body = Some(answered.read().await?.map_or(Body::TooLong, Body::Whole));
            }
            reqwest::Result::Ok(answered)
        });
        if let Ok(result) = timeout(limit, &mut sending).await {
            return Sent { result: Some(result), in_time: true };
        }
        // An API that was asked too much at once is asked less, and not left alone.
        let is_overloaded = progress.is_connected() && underway.timed_out();
        if !is_overloaded {
            self.note_no_answer(asking, &NoAnswer::TimedOut(limit));
            endpoint.server.close_unused_since(sent);
        }
        if overtime.is_zero() {
            return Sent { result: None, in_time: false };
        }
        overdue();
        Sent { result: timeout(overtime, sending).await.ok(), in_time: false }
    }

    /// Tells the breaker that there was no answer.
    fn note_no_answer(self: &Arc<Self>, asking: &SentRequest<'_>, reason: &NoAnswer) {
        let SentRequest { endpoint, request, progress, .. } = asking;
        // Until there is a connection, nothing that a client says can be the cause.
        let asked_for = progress.is_connected().then_some(request.asked_for);
        self.note_silence(endpoint, request, asked_for, reason);
    }

    /// Notes how fast a response came and, unless it is too late, that it came.
    fn note_response(
        self: &Arc<Self>,
        asking: &mut SentRequest<'_>,
        answered: &Answered,
        answer: &Answer,
        in_time: bool,
    ) {
        let (response, now) = (&answered.response, Instant::now());
        let SentRequest { endpoint, request, sent, .. } = *asking;
        let took = now.saturating_duration_since(asking.progress.sent(sent));
        // Also of one that comes too late: the API is there, and slow.
        self.note_pace(endpoint.set, Some(took), now);
        if in_time {
            // How fast it fails says nothing about how fast it decides.
            let has_decided = matches!(answer, Answer::Verdict { .. });
            if let Some(limit) = asking.underway.answered(has_decided.then_some(took), now) {
                self.tell_limit(endpoint, limit);
            }
            match answer {
                Answer::None(reason) if is_gateway_failure(answer) => self.note_no_answer(asking, reason),
                _ => self.note_answer(endpoint, request.asked_for, sent, response),
            }
        }
        self.note_status(endpoint, response.status());
    }

    /// What a response answers, as far as `answer_rules` has no part in it.
    fn read(&self, answered: &mut Answered) -> Answer {
        let (dialect, status) = (&self.config.dialect, answered.response.status().as_u16());
        let body = if dialect::reads_body(dialect, status) { answered.body.take() } else { None };
        dialect::answer(dialect, status, body.as_ref())
    }
}
