//! The clock of the store. All brokers count by it, so that it does no harm if theirs differ.

use std::time::Instant;

/// The clock of the store, by which all brokers count.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreClock {
    /// Its Unix time in milliseconds at the moment `at`.
    pub(super) milliseconds: u64,
    pub(super) at: Instant,
}

impl StoreClock {
    /// Its time at a moment.
    pub(super) fn at(&self, moment: Instant) -> u64 {
        let after = moment.saturating_duration_since(self.at).as_millis() as u64;
        let before = self.at.saturating_duration_since(moment).as_millis() as u64;
        (self.milliseconds + after).saturating_sub(before)
    }
}
