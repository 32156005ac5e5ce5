//! Asks one question: a POST, fail-over to further URLs within the time-out, and the answer by the HTTP status.
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::Admission;
use super::request::{Reply, Request};
use super::send::Answered;
use super::target::Target;
use crate::ask::answer::Body;
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
        let mut admitted = Vec::with_capacity(endpoints.len());
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
            asked.reply.lifetime =
                response.as_ref().and_then(|answered| self.lifetime_of(&answered.response));
            asked.body = response.as_mut().and_then(|answered| answered.body.take());
            asked.response = response;
            if matches!(asked.reply.answer, Answer::Verdict { .. }) {
                endpoints.prefer(endpoint);
                break;
            }
        }
        asked
    }
}
