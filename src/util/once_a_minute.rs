//! Keeps what would be said again and again to once in a minute.
use std::time::{Duration, Instant};

use super::Lock;

const MINUTE: Duration = Duration::from_secs(60);

/// When something was last said.
#[derive(Debug, Default)]
pub struct OnceAMinute(Lock<Option<Instant>>);

impl OnceAMinute {
    /// Claims the right to say it now: `true` once in a minute.
    pub fn claim(&self, now: Instant) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= MINUTE);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute() {
        let (hint, start) = (OnceAMinute::default(), Instant::now());
        assert!(hint.claim(start));
        assert!(!hint.claim(start + MINUTE / 2));
        assert!(hint.claim(start + MINUTE));
    }
}
