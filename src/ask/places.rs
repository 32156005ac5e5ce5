//! Places among the requests that are on their way, by road.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::http::Target;
use super::queue::{FEW, Road};

/// Topic questions gather while a request about topics is on its way, for at most this many times its usual latency.
const WAITED_FOR: u32 = 2;

/// How often a request that takes long is looked at, once it has taken long enough to hang.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How many requests by each road hold a place among those that are on their way.
#[derive(Default)]
pub(super) struct Places {
    taken: [AtomicUsize; 3],
    /// How many have left theirs and are still on their way.
    left: [AtomicUsize; 3],
    /// Requests about topics that further questions wait for, to go together.
    waited_for: AtomicUsize,
    /// Somebody has left, or is not waited for any more.
    pub(super) changed: Notify,
}

/// A request's place among those by its road. It is left when the request hangs, and at the latest when its time is over:
/// one that hangs holds up nobody else.
pub(super) struct RequestPlace {
    of: Arc<Places>,
    road: Road,
    is_waited_for: AtomicBool,
    has_left: AtomicBool,
}

impl Places {
    pub(super) fn take(self: &Arc<Self>, road: Road) -> RequestPlace {
        self.taken[road as usize].fetch_add(1, Ordering::Relaxed);
        let is_about_topics = road != Road::Login;
        self.waited_for.fetch_add(usize::from(is_about_topics), Ordering::Relaxed);
        RequestPlace {
            of: Arc::clone(self),
            road,
            is_waited_for: is_about_topics.into(),
            has_left: false.into(),
        }
    }

    /// How many are taken by each road.
    pub(super) fn taken(&self) -> [usize; 3] {
        self.taken.each_ref().map(|taken| taken.load(Ordering::Relaxed))
    }

    /// Whether further questions about topics should gather until one of those on their way has ended.
    pub(super) fn is_crowded(&self) -> bool {
        self.waited_for.load(Ordering::Relaxed) >= FEW
    }
}

impl RequestPlace {
    /// Waits for an answer, and lets others pass meanwhile if it takes long.
    pub(super) async fn wait_for<T>(&self, asking: impl Future<Output = T>, target: &Target) -> T {
        let mut asking = std::pin::pin!(asking);
        let sent = Instant::now();
        let hangs_after = target.hangs_after(self.road, sent);
        let waited_for = target.usual(self.road, sent).map_or(hangs_after, |usual| WAITED_FOR * usual);
        if waited_for < hangs_after {
            if let Ok(answer) = timeout(waited_for, &mut asking).await {
                return answer;
            }
            self.let_others_pass();
            self.of.changed.notify_one();
        }
        let mut look_after = if waited_for < hangs_after { hangs_after - waited_for } else { hangs_after };
        while !self.has_left.load(Ordering::Relaxed) {
            if let Ok(answer) = timeout(look_after, &mut asking).await {
                return answer;
            }
            look_after = LOOK_AGAIN;
            let others = self.of.left[self.road as usize].load(Ordering::Relaxed);
            if target.hangs(self.road, sent, others, Instant::now()) {
                self.free();
            }
        }
        asking.await
    }

    /// Makes room for another request while this one goes on.
    pub(super) fn free(&self) {
        self.let_others_pass();
        if !self.has_left.swap(true, Ordering::Relaxed) {
            self.of.left[self.road as usize].fetch_add(1, Ordering::Relaxed);
            self.of.taken[self.road as usize].fetch_sub(1, Ordering::Relaxed);
            self.of.changed.notify_one();
        }
    }

    fn let_others_pass(&self) {
        if self.is_waited_for.swap(false, Ordering::Relaxed) {
            self.of.waited_for.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        self.let_others_pass();
        let counter = if *self.has_left.get_mut() { &self.of.left } else { &self.of.taken };
        counter[self.road as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
