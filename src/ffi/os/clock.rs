//! A cheap clock, for topic checks: there may be a hundred thousand a second.

use std::time::{Duration, Instant};

/// How far the clock runs ahead, so that a remembered verdict ends a little early and never late. The kernel's coarse
/// clock makes steps of 1 to 10 ms, and on a virtual machine a step sometimes comes late.
const AHEAD: Duration = Duration::from_millis(25);

/// A clock that takes a quarter of the time of [`Instant::now`], and runs up to [`AHEAD`] ahead of it.
pub(in crate::ffi) struct Clock {
    started: Instant,
    /// The kernel's number for the moment `started`.
    started_at: Duration,
}

impl Clock {
    pub(in crate::ffi) fn start() -> Self {
        let started = Instant::now();
        Self { started, started_at: time_of(libc::CLOCK_MONOTONIC) }
    }

    pub(in crate::ffi) fn now(&self) -> Instant {
        let coarse = time_of(libc::CLOCK_MONOTONIC_COARSE);
        self.started + (coarse + AHEAD).saturating_sub(self.started_at)
    }
}

/// How long this thread has worked so far. What else runs on the machine does not count.
pub(super) fn worked() -> Duration {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The time of one of the kernel's clocks.
fn time_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a struct on this stack. The clocks exist since Linux 2.6.32, so this does not fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_little_ahead() {
        let clock = Clock::start();
        let mut behind = 0;
        for _ in 0..1000 {
            let before = Instant::now();
            let now = clock.now();
            assert!(now <= Instant::now() + AHEAD);
            behind += usize::from(now < before);
        }
        assert!(behind < 500, "{behind} of 1000, unless this machine stands still");
    }
}
