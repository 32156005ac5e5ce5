//! The clock of the store. All brokers count by it, so that it does no harm if theirs differ.

use std::time::Instant;

use redis::Value;

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

/// The Unix time in milliseconds in an answer to TIME. `None` if it is no such answer.
pub(super) fn milliseconds(reply: &Value) -> Option<u64> {
    let number = |reply: &Value| match reply {
        Value::BulkString(digits) => str::from_utf8(digits).ok()?.parse::<u64>().ok(),
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let Value::Array(parts) = reply else { return None };
    let [seconds, microseconds] = parts.as_slice() else { return None };
    number(seconds)?.checked_mul(1000)?.checked_add(number(microseconds)? / 1000)
}
