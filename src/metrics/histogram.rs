//! Times by how long they were. The library's own histogram has a lock, which the broker's thread must not wait for.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::util::nanos;

/// The longest time of each bucket but the last, which has no end, in seconds: from what nobody notices to the longest
/// time-out that anybody sets.
const UP_TO: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// Times, counted.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; UP_TO.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = UP_TO.partition_point(|up_to| *up_to < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanos(time), Ordering::Relaxed);
    }

    /// Each bucket's longest time in seconds, and how many are in it alone.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        UP_TO.into_iter().chain([f64::INFINITY]).zip(counts).collect()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// All together, in seconds.
    pub fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_that_it_just_fits() {
        let histogram = Histogram::default();
        for microseconds in [0, 50, 51, 1_000_000, 30_000_000, 30_000_001, 3_600_000_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let filled: Vec<_> = histogram.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_05, 2), (0.000_1, 1), (1.0, 1), (30.0, 1), (f64::INFINITY, 2)]);
        assert_eq!(histogram.count(), 7);
        assert_eq!(histogram.seconds(), 3_661.000_102);
    }
}
