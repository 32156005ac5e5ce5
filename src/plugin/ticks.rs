//! Whether this broker's ticks tell the turns of its loop apart. 2.0.11 with `per_listener_settings true` has none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A broker that has not ticked for so long after its start does not tick at all: those that do, do it every 100 ms.
pub const TICKLESS: Duration = Duration::from_secs(2);

/// Whether the broker ticks.
pub struct Ticks {
    started: Instant,
    has_ticked: AtomicBool,
}

impl Ticks {
    /// No tick yet.
    pub fn new(now: Instant) -> Self {
        Self { started: now, has_ticked: AtomicBool::new(false) }
    }

    /// A tick.
    pub fn tick(&self) {
        self.has_ticked.store(true, Ordering::Relaxed);
    }

    /// Whether this broker has ever ticked.
    pub fn has_ticked(&self) -> bool {
        self.has_ticked.load(Ordering::Relaxed)
    }

    /// Whether this broker seems not to tick: it never has, for so long.
    pub fn is_tickless(&self, now: Instant) -> bool {
        !self.has_ticked() && now.saturating_duration_since(self.started) >= TICKLESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_has_not_ticked_for_a_while_does_not_tick() {
        let now = Instant::now();
        let ticks = Ticks::new(now);
        assert!(!ticks.is_tickless(now) && ticks.is_tickless(now + TICKLESS));
        ticks.tick();
        assert!(ticks.has_ticked() && !ticks.is_tickless(now + TICKLESS));
    }
}
