//! The last hour, minute by minute, for the charts of the status page.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::time::unix_time;
use crate::metrics::{DecidedBy, Matter, Metrics, Outcome};
use crate::plugin::Steering;
use crate::question::Kind;
use crate::util::Lock;

/// Minutes that are kept.
const MINUTES: usize = 60;

/// Sums since the start, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    /// Allows, denies and those without an answer.
    logins: [u64; 3],
    topics: [u64; 3],
    throttled: u64,
    answers: u64,
    answer_seconds: f64,
    held_up_seconds: f64,
}

impl Sums {
    fn of(metrics: &Metrics) -> Self {
        let mut sums = Self::default();
        for decisions in metrics.decisions() {
            let counts = match decisions.question {
                Matter::Login => &mut sums.logins,
                Matter::Topic(_) => &mut sums.topics,
            };
            match decisions.outcome {
                Outcome::Allow => counts[0] += decisions.count,
                Outcome::Deny => counts[1] += decisions.count,
                Outcome::NoAnswer => counts[2] += decisions.count,
                Outcome::Defer => {}
            }
            if decisions.by == DecidedBy::Throttle {
                sums.throttled += decisions.count;
            }
        }
        for kind in Kind::BOTH {
            sums.answers += metrics.latency_of(kind).count();
            sums.answer_seconds += metrics.latency_of(kind).seconds();
            sums.held_up_seconds += metrics.held_up_by(kind).seconds();
        }
        sums
    }

    fn since(&self, before: &Self, at: SystemTime) -> Value {
        let minus = |now: [u64; 3], before: [u64; 3]| [0, 1, 2].map(|n| now[n].saturating_sub(before[n]));
        let answers = self.answers.saturating_sub(before.answers);
        let seconds = (self.answer_seconds - before.answer_seconds).max(0.0);
        json!({
            "at": unix_time(at),
            "logins": minus(self.logins, before.logins),
            "topics": minus(self.topics, before.topics),
            "throttled": self.throttled.saturating_sub(before.throttled),
            "answers": answers,
            "latency": if answers > 0 { seconds / answers as f64 } else { 0.0 },
            "held_up": (self.held_up_seconds - before.held_up_seconds).max(0.0),
        })
    }
}

/// What was counted in each minute.
#[derive(Default)]
pub struct History(Lock<State>);

#[derive(Default)]
struct State {
    /// Minutes that are over, the oldest first.
    minutes: VecDeque<Value>,
    /// The sums when the last of them was over.
    before: Sums,
}

impl History {
    /// A minute is over.
    fn turn(&self, metrics: &Metrics) {
        let now = Sums::of(metrics);
        let mut state = self.0.lock();
        let minute = now.since(&state.before, SystemTime::now());
        state.before = now;
        if state.minutes.len() >= MINUTES {
            state.minutes.pop_front();
        }
        state.minutes.push_back(minute);
    }

    /// All minutes, the oldest first; the last one is going on.
    pub fn minutes(&self, metrics: &Metrics) -> Vec<Value> {
        let now = Sums::of(metrics);
        let state = self.0.lock();
        let going_on = now.since(&state.before, SystemTime::now());
        state.minutes.iter().cloned().chain([going_on]).collect()
    }
}

/// Notes each minute.
pub async fn keep(history: Arc<History>, steering: Arc<Steering>) {
    let mut minutes = interval(Duration::from_secs(60));
    minutes.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first tick comes at once.
    minutes.tick().await;
    loop {
        minutes.tick().await;
        history.turn(steering.metrics());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_minute_has_what_was_counted_in_it() {
        let (metrics, history) = (Metrics::new(), History::default());
        let log_in = || metrics.decided(Matter::Login, Outcome::Allow, DecidedBy::Api, true);
        log_in();
        history.turn(&metrics);
        log_in();
        log_in();
        let logins: Vec<_> =
            history.minutes(&metrics).iter().map(|minute| minute["logins"][0].as_u64()).collect();
        assert_eq!(logins, [Some(1), Some(2)]);
        for _ in 0..2 * MINUTES {
            history.turn(&metrics);
        }
        assert_eq!(history.minutes(&metrics).len(), MINUTES + 1);
    }
}
