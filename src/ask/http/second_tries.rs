//! Who may send a question to a server a second time, over another connection, and what is learnt from it.
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::util::{Lock, sleep_until};

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
pub(super) struct SecondTry<'a> {
    tries: &'a SecondTries,
    /// The first try is known to be lost: this one takes its place.
    pub(super) is_instead: bool,
    is_in_vain: bool,
}

impl SecondTries {
    /// How many are under way beside first tries.
    pub(super) fn count(&self) -> usize {
        usize::from(self.is_trying.load(Ordering::Relaxed))
    }

    /// Waits for leave to try a second time, for somebody whose lane was last used at `last_used`, if ever.
    pub(super) async fn begin(&self, last_used: Option<Instant>) -> SecondTry<'_> {
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
                    return SecondTry { tries: self, is_instead: is_mute, is_in_vain: true };
                }
                state.not_before.filter(|_| !is_trying)
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(wait) => {}
            }
        }
    }

    /// A new connection was answered.
    pub(super) fn has_room(&self) {
        self.left_waiting.store(0, Ordering::Relaxed);
    }

    /// A new connection had to wait while a kept one was answered.
    pub(super) fn left_one_waiting(&self) {
        self.left_waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Claims the right to tell that the server leaves new connections waiting while it answers kept ones: once, when it is
    /// time.
    pub(super) fn claim_no_room_line(&self) -> bool {
        self.left_waiting.load(Ordering::Relaxed) >= TOLD_AFTER
            && !self.was_told.swap(true, Ordering::Relaxed)
    }
}

impl SecondTry<'_> {
    /// It was not made in vain, or not at all.
    pub(super) fn end_well(mut self) {
        self.is_in_vain = false;
    }

    /// It was answered, and the first one, sent at `sent`, was not.
    pub(super) fn end_with_proof(self, sent: Instant) {
        {
            let mut state = self.tries.state.lock();
            state.mute_since = state.mute_since.max(Some(sent));
        }
        self.end_well();
    }
}

impl Drop for SecondTry<'_> {
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
