//! How long the broker's thread may wait, so that a turn of its loop stays bounded however many clients
//! wait in it and however dead the API is.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// The share of the time-out that a second wait gets after a first one was in vain.
const SECOND_CHANCE: u32 = 10;

/// Waits in vain are counted within a turn of the broker's loop: the first may take the whole time-out, the
/// second a tenth of it, after that nobody waits. The broker answers each client that is left with a
/// refusal and comes to its other work, a SIGTERM included. An answer or a new turn restores patience.
pub(super) struct Patience {
    in_vain: u32,
    last: Option<Instant>,
    turned: Instant,
}

/// A broker that has not ticked for so long does not tick at all: those that do, do it every 100 ms.
const TICKLESS: Duration = Duration::from_secs(2);

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { in_vain: 0, last: None, turned: now }
    }

    /// The broker's loop has come round. Mosquitto 2.0.11 says so to nobody under
    /// `per_listener_settings true`; there a pause as long as the time-out counts instead.
    pub(super) fn new_turn(&mut self, now: Instant) {
        self.in_vain = 0;
        self.turned = now;
    }

    /// Whether this broker seems not to tick.
    pub(super) fn is_tickless(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.turned) >= TICKLESS
    }

    /// The longest to wait for the next answer, where one question may take `timeout`.
    pub(super) fn limit(&mut self, timeout: Duration, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= timeout) {
            self.in_vain = 0;
        }
        match self.in_vain {
            0 => timeout,
            1 => timeout / SECOND_CHANCE,
            _ => Duration::ZERO,
        }
    }

    /// A wait is over. One that was in vain but short, because the API's machine refused the connection,
    /// costs no patience.
    pub(super) fn waited(&mut self, answered: bool, spent: Duration, timeout: Duration, now: Instant) {
        if answered {
            self.in_vain = 0;
        } else if spent >= timeout / SECOND_CHANCE {
            self.in_vain += 1;
            self.last = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    #[test]
    fn a_turn_costs_little_more_than_one_timeout() {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        let mut spent = Duration::ZERO;
        for _ in 0..100 {
            let limit = patience.limit(TIMEOUT, now);
            patience.waited(false, limit, TIMEOUT, now);
            spent += limit;
        }
        assert_eq!(spent, TIMEOUT + TIMEOUT / SECOND_CHANCE);
        patience.new_turn(now);
        assert_eq!(patience.limit(TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn refused_connections_cost_no_patience() {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        for _ in 0..100 {
            patience.waited(false, Duration::from_millis(1), TIMEOUT, now);
        }
        assert_eq!(patience.limit(TIMEOUT, now), TIMEOUT);
    }

    #[test]
    fn an_answer_or_a_pause_restores_patience() {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        patience.waited(false, TIMEOUT, TIMEOUT, now);
        patience.waited(true, TIMEOUT, TIMEOUT, now);
        assert_eq!(patience.limit(TIMEOUT, now), TIMEOUT);
        patience.waited(false, TIMEOUT, TIMEOUT, now);
        patience.waited(false, TIMEOUT, TIMEOUT, now);
        assert_eq!(patience.limit(TIMEOUT, now + TIMEOUT / 2), Duration::ZERO);
        assert_eq!(patience.limit(TIMEOUT, now + TIMEOUT), TIMEOUT);
    }
}
