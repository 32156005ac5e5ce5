//! Sends a question, and sends it once more over another connection where the first one is closed or mute: a firewall or
//! a balancer may have forgotten it, or the server has no room for it.
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Response;
use tokio::time::{sleep, timeout};

use super::connections::Progress;
use super::endpoint::Endpoint;
use super::lanes::Lane;
use super::request::Request;
use crate::ask::answer::{Body, MOST_BYTES};

/// The share of a question's time after which a connection without an answer is doubted.
const SHARE: u32 = 3;

/// A response, and the lane that its body comes over.
pub(in crate::ask) struct Answered {
    /// Where it comes from.
    pub(in crate::ask) endpoint: Arc<Endpoint>,
    pub(super) response: Response,
    pub(super) lane: Lane,
    /// Its body, where that is a part of the answer and was read.
    pub(super) body: Option<Body>,
}

impl Answered {
    /// The body, unless it is longer than [`MOST_BYTES`].
    pub(super) async fn read(&mut self) -> reqwest::Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.response.chunk().await? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }
}

/// A question over its first lane.
type First<'a> = Pin<Box<dyn Future<Output = reqwest::Result<Answered>> + Send + 'a>>;

impl Endpoint {
    /// Sends a question for which there is this much time. It goes over a connection that was kept, if there is one,
    /// else over a new one, and once more over one of the other kind
    /// - if a kept connection ends before a response has come: it may have been closed by then;
    /// - if no response comes within a third of the time. Then the first answer counts.
    ///
    /// Notes how its connection comes about.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: &Request,
        time: Duration,
        progress: &Progress,
    ) -> reqwest::Result<Answered> {
        let (sent, lane) = (Instant::now(), self.server.lane()?);
        let last_used = lane.last_used();
        let mut first: First<'_> = Box::pin(self.send_over(lane, request, progress));
        match timeout(time / SHARE, &mut first).await {
            Ok(Err(error)) if progress.used_kept_connection(&error) => {
                self.send_afresh(request, progress).await
            }
            Ok(answered) => {
                if !progress.uses_kept_connection() {
                    self.server.second_tries.has_room();
                }
                answered
            }
            Err(_) if progress.uses_kept_connection() => {
                self.doubt_kept(first, (sent, last_used), request, progress).await
            }
            Err(_) if self.server.keeps_connections() => self.doubt_new(first, request, time).await,
            Err(_) => first.await,
        }
    }

    /// Sends a question over a new connection, once.
    pub(super) async fn send_afresh(
        self: &Arc<Self>,
        request: &Request,
        progress: &Progress,
    ) -> reqwest::Result<Answered> {
        self.send_over(self.server.new_lane()?, request, progress).await
    }

    /// Sends a question over this lane.
    async fn send_over(
        self: &Arc<Self>,
        lane: Lane,
        request: &Request,
        progress: &Progress,
    ) -> reqwest::Result<Answered> {
        let (response, lane) = lane.carry(&self.api.url, request, progress).await?;
        Ok(Answered { endpoint: Arc::clone(self), response, lane, body: None })
    }

    /// The first try, sent at `sent` over a kept connection that was `last_used` then, takes long.
    async fn doubt_kept(
        self: &Arc<Self>,
        mut first: First<'_>,
        (sent, last_used): (Instant, Option<Instant>),
        request: &Request,
        progress: &Progress,
    ) -> reqwest::Result<Answered> {
        let second_try = tokio::select! {
            answered = &mut first => return match answered {
                Err(_) => self.send_afresh(request, progress).await,
                answered => answered,
            },
            second_try = self.server.second_tries.begin(last_used) => second_try,
        };
        if second_try.is_instead {
            drop(first);
            return self.send_afresh(request, progress).await;
        }
        let progress_of_second = Progress::default();
        let mut second = std::pin::pin!(self.send_afresh(request, &progress_of_second));
        tokio::select! {
            answered = &mut first => match answered {
                Err(_) => {
                    let answered = second.await;
                    progress.become_that_of(&progress_of_second);
                    answered
                }
                answered => answered,
            },
            answered = &mut second => match answered {
                Ok(answered) => {
                    progress.become_that_of(&progress_of_second);
                    second_try.end_with_proof(sent);
                    self.server.close_unused_since(sent);
                    Ok(answered)
                }
                Err(failure) => first.await.map_err(|_| failure),
            },
        }
    }

    /// The first try, over a new connection, takes long: kept ones may be served before it.
    async fn doubt_new(
        self: &Arc<Self>,
        mut first: First<'_>,
        request: &Request,
        time: Duration,
    ) -> reqwest::Result<Answered> {
        let tries = &self.server.second_tries;
        let over_kept_one = async {
            loop {
                let second_try = tries.begin(None).await;
                if let Some(kept) = self.server.kept_lane() {
                    let progress = Progress::default();
                    let answered = self.send_over(kept, request, &progress).await;
                    return (second_try, answered, progress.uses_kept_connection());
                }
                second_try.end_well();
                sleep(time / (4 * SHARE)).await;
            }
        };
        tokio::select! {
            answered = &mut first => {
                if answered.is_ok() {
                    tries.has_room();
                }
                answered
            }
            // If it fails, the first goes on.
            (second_try, Ok(answered), was_kept) = over_kept_one => {
                second_try.end_well();
                if was_kept {
                    tries.left_one_waiting();
                }
                Ok(answered)
            }
        }
    }
}
