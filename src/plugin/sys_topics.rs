//! Figures as retained messages under `$SYS`, for monitoring that reads the broker's own figures there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::steering::Steering;
use crate::broker::{Broker, BrokerCell, BrokerThread};
use crate::metrics::{DecidedBy, Matter, Outcome};
use crate::question::Kind;

/// In front of each topic.
const PREFIX: &str = "$SYS/broker/plugin/http-auth/";

/// How often at most: as the broker does with its own (`sys_interval`).
const EVERY: Duration = Duration::from_secs(10);

/// What was published last, and when.
#[derive(Default)]
pub struct SysTopics(BrokerCell<Published>);

#[derive(Default)]
struct Published {
    at: Option<Instant>,
    values: HashMap<&'static str, u64>,
}

impl SysTopics {
    /// Publishes what has changed, if it is time. Each value is a plain decimal number.
    pub fn turn(&self, steering: &Steering, broker: &dyn Broker, thread: &BrokerThread, now: Instant) {
        let news = self.0.with(thread, |published| {
            if published.at.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
                return Vec::new();
            }
            published.at = Some(now);
            let mut news = figures(steering, now);
            news.retain(|(name, value)| published.values.insert(name, *value) != Some(*value));
            news
        });
        // The broker only queues it, and asks later who may read it.
        for (name, value) in news {
            broker.publish(thread, None, &format!("{PREFIX}{name}"), value.to_string().as_bytes());
        }
    }
}

fn figures(steering: &Steering, now: Instant) -> Vec<(&'static str, u64)> {
    let (metrics, gauges) = (steering.metrics(), steering.gauges(now));
    let count = |is_login: bool, outcome: Outcome| -> u64 {
        let is_it = |question: Matter| (question == Matter::Login) == is_login;
        metrics.decisions().filter(|it| is_it(it.question) && it.outcome == outcome).map(|it| it.count).sum()
    };
    let throttled = metrics.decisions().filter(|it| it.by == DecidedBy::Throttle).map(|it| it.count).sum();
    let answers = Kind::BOTH.map(|kind| metrics.answers_to(kind));
    let held_up = Kind::BOTH.map(|kind| metrics.held_up_by(kind).seconds()).iter().sum::<f64>();
    let left_alone =
        gauges.endpoints.iter().filter(|endpoint| endpoint.is_open || endpoint.is_paused).count();
    vec![
        ("ready", u64::from(gauges.is_ready)),
        ("logins/allowed", count(true, Outcome::Allow)),
        ("logins/refused", count(true, Outcome::Deny)),
        ("logins/unanswered", count(true, Outcome::NoAnswer)),
        ("logins/throttled", throttled),
        ("topics/allowed", count(false, Outcome::Allow)),
        ("topics/refused", count(false, Outcome::Deny)),
        ("topics/unanswered", count(false, Outcome::NoAnswer)),
        ("api/answers", answers.iter().map(|[allows, denies, _]| allows + denies).sum()),
        ("api/unanswered", answers.iter().map(|[_, _, unanswered]| unanswered).sum()),
        ("api/left_alone", left_alone as u64),
        ("held_up/milliseconds", (held_up * 1000.0) as u64),
        ("waiting/clients", gauges.parked as u64),
        ("waiting/questions", gauges.queued as u64),
        ("cache/allows", gauges.cache.allows as u64),
        ("cache/denies", gauges.cache.denies as u64),
        ("cache/evictions", gauges.cache.evicted),
        ("kicks", metrics.kicks()),
    ]
}
