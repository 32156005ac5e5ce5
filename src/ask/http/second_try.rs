//! Sends a question, and sends it once more over another connection where the first one is closed or mute: a firewall or
//! a balancer may have forgotten it, or the server has no room for it.
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::client::Request;
use super::connections::Progress;
use super::endpoint::Endpoint;
use super::lanes::Answered;
use crate::util::{Lock, sleep_until};

/// The share of a question's time after which a connection without an answer is doubted.
const SHARE: u32 = 3;

/// How long nobody tries a second time after somebody has in vain: the API is slow, and must not be asked everything
/// twice.
const AFTER_VAIN: Duration = Duration::from_secs(10);

/// How often in a row a new connection has to wait while a kept one is answered before that is told.
const TOLD_AFTER: usize = 3;

/// Who may try a second time at one server. One at a time does, until it turns out that it is the connections that are
/// mute: then all whose connections have been silent for as long.
#[derive(Default)]
pub(super) struct SecondTries {
    state: Lock<State>,
    /// Somebody tries, and it is not yet known whether in vain. Changed under the lock, and read without.
    is_trying: AtomicBool,
    changed: Notify,
    /// How many new connections in a row had to wait while a kept one was answered, and whether that was told.
    left_waiting: AtomicUsize,
    was_told: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Nobody may before.
    not_before: Option<Instant>,
    /// Lanes that were used last before are mute.
    mute_since: Option<Instant>,
}

/// A second try. In vain, unless it turns out otherwise.
struct Permit<'a> {
    tries: &'a SecondTries,
    /// The first try is known to be lost: this one takes its place.
    is_instead: bool,
    is_in_vain: bool,
}

impl SecondTries {
    /// How many are under way beside first tries.
    pub(super) fn count(&self) -> usize {
        usize::from(self.is_trying.load(Ordering::Relaxed))
    }

    /// Waits for leave to try a second time, for somebody whose lane was last used at `last_used`, if ever.
    async fn permit(&self, last_used: Option<Instant>) -> Permit<'_> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let wait = {
                let state = self.state.lock();
                let (now, is_trying) = (Instant::now(), self.is_trying.load(Ordering::Relaxed));
                let is_mute = last_used.is_some() && last_used <= state.mute_since;
                let may_try = !is_trying && state.not_before.is_none_or(|at| at <= now);
                if is_mute || may_try {
                    self.is_trying.fetch_or(!is_mute, Ordering::Relaxed);
                    return Permit { tries: self, is_instead: is_mute, is_in_vain: true };
                }
                state.not_before.filter(|_| !is_trying)
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(wait) => {}
            }
        }
    }

    /// Claims the right to tell that the server leaves new connections waiting while it answers kept ones: once, when it is
    /// time.
    pub(super) fn claim_no_room_line(&self) -> bool {
        self.left_waiting.load(Ordering::Relaxed) >= TOLD_AFTER
            && !self.was_told.swap(true, Ordering::Relaxed)
    }
}

impl Permit<'_> {
    /// It was not made in vain, or not at all.
    fn end_well(mut self) {
        self.is_in_vain = false;
    }

    /// It was answered, and the first one, sent at `sent`, was not.
    fn end_with_proof(self, sent: Instant) {
        {
            let mut state = self.tries.state.lock();
            state.mute_since = state.mute_since.max(Some(sent));
        }
        self.end_well();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_instead {
            return;
        }
        let mut state = self.tries.state.lock();
        self.tries.is_trying.store(false, Ordering::Relaxed);
        state.not_before = self.is_in_vain.then(|| Instant::now() + AFTER_VAIN);
        drop(state);
        self.tries.changed.notify_waiters();
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
        let mut first: First<'_> = Box::pin(lane.carry(self, request, progress));
        match timeout(time / SHARE, &mut first).await {
            Ok(Err(error)) if progress.used_kept_connection(&error) => {
                self.send_afresh(request, progress).await
            }
            Ok(answered) => {
                if !progress.uses_kept_connection() {
                    self.server.second_tries.left_waiting.store(0, Ordering::Relaxed);
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
        self.server.new_lane()?.carry(self, request, progress).await
    }

    /// The first try, sent at `sent` over a kept connection that was `last_used` then, takes long.
    async fn doubt_kept(
        self: &Arc<Self>,
        mut first: First<'_>,
        (sent, last_used): (Instant, Option<Instant>),
        request: &Request,
        progress: &Progress,
    ) -> reqwest::Result<Answered> {
        let permit = tokio::select! {
            answered = &mut first => return match answered {
                Err(_) => self.send_afresh(request, progress).await,
                answered => answered,
            },
            permit = self.server.second_tries.permit(last_used) => permit,
        };
        if permit.is_instead {
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
                    permit.end_with_proof(sent);
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
                let permit = tries.permit(None).await;
                if let Some(kept) = self.server.kept_lane() {
                    let progress = Progress::default();
                    let answered = kept.carry(self, request, &progress).await;
                    return (permit, answered, progress.uses_kept_connection());
                }
                permit.end_well();
                sleep(time / (4 * SHARE)).await;
            }
        };
        tokio::select! {
            answered = &mut first => {
                if answered.is_ok() {
                    tries.left_waiting.store(0, Ordering::Relaxed);
                }
                answered
            }
            // If it fails, the first goes on.
            (permit, Ok(answered), was_kept) = over_kept_one => {
                permit.end_well();
                tries.left_waiting.fetch_add(usize::from(was_kept), Ordering::Relaxed);
                Ok(answered)
            }
        }
    }
}
