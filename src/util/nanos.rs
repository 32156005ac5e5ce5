//! Times as numbers, for atomics.

use std::time::Duration;

/// A time in nanoseconds. One that is too long for that, after 584 years, is cut.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
