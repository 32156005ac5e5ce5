//! What is counted. Counting costs the broker's thread a load and a store, and takes no lock.
mod endpoint;
mod families;
mod histogram;
mod shared;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::question::{Access, Answer, Kind, Verdict};
use crate::util::Lock;
pub use endpoint::Endpoint;
pub use families::{Gauges, metrics_as_markdown, unix};
pub use histogram::Histogram;
pub use shared::{SharedCache, SharedLookup};

/// What was to be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matter {
    /// A login.
    Login,
    /// A topic check.
    Topic(Access),
}

impl Matter {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::Login, Self::Topic(Access::Read), Self::Topic(Access::Write), Self::Topic(Access::Subscribe)];

    fn number(self) -> usize {
        match self {
            Matter::Login => 0,
            Matter::Topic(Access::Read) => 1,
            Matter::Topic(Access::Write) => 2,
            Matter::Topic(Access::Subscribe) => 3,
        }
    }

    /// Its name in labels.
    pub fn name(self) -> &'static str {
        ["login", "read", "write", "subscribe"][self.number()]
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// It was left to others.
    Defer,
    /// Nobody could say: refused.
    NoAnswer,
}

impl Outcome {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Deny, Self::Defer, Self::NoAnswer];

    /// Its name in labels.
    pub fn name(self) -> &'static str {
        ["allow", "deny", "defer", "no_answer"][self as usize]
    }
}

/// By what it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// A local user's password or rules.
    Local,
    /// The API's answer.
    Api,
    /// An answer that was remembered.
    Cache,
    /// One that has ended, while there is no other.
    Stale,
    /// The throttle: too many wrong passwords.
    Throttle,
    /// Rules that came with an answer.
    Rules,
    /// The lack of an answer: the API gave none, or is left alone since it gave none.
    NoAnswer,
    /// None of these: an option, a command, or want of room or time.
    Unasked,
}

impl DecidedBy {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Local,
        Self::Api,
        Self::Cache,
        Self::Stale,
        Self::Throttle,
        Self::Rules,
        Self::NoAnswer,
        Self::Unasked,
    ];

    /// Its name in labels.
    pub fn name(self) -> &'static str {
        ["local", "api", "cache", "stale", "throttle", "rules", "no_answer", "unasked"][self as usize]
    }
}

/// A count that two threads make: the broker's own, which pays no locked instruction for it, and any others.
#[derive(Debug, Default)]
struct Tally {
    own: AtomicU64,
    others: AtomicU64,
}

impl Tally {
    #[inline]
    fn count(&self, on_broker_thread: bool) {
        if on_broker_thread {
            // Nobody else writes to it.
            self.own.store(self.own.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else {
            self.others.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed).wrapping_add(self.others.load(Ordering::Relaxed))
    }
}

/// All counts of one plugin since its start.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    decisions: [[[Tally; DecidedBy::ALL.len()]; Outcome::ALL.len()]; Matter::ALL.len()],
    answers: [[AtomicU64; 3]; Kind::BOTH.len()],
    /// Requests with many questions that were answered, those that were not, and the questions in all of them.
    together: [AtomicU64; 3],
    latency: [Histogram; Kind::BOTH.len()],
    held_up: [Histogram; Kind::BOTH.len()],
    kicks: AtomicU64,
    reloads: [AtomicU64; 2],
    last_reload: Lock<LastReload>,
    /// What is counted of the cache that several brokers share.
    pub shared: SharedCache,
}

/// When files were read again.
#[derive(Debug, Clone, Copy, Default)]
pub struct LastReload {
    /// The last time, and whether they were taken over.
    pub last: Option<(SystemTime, bool)>,
    /// The last time that they were taken over.
    pub success: Option<SystemTime>,
}

/// One count of decisions.
#[derive(Debug, Clone, Copy)]
pub struct Decisions {
    /// What was to be decided.
    pub question: Matter,
    /// What was decided.
    pub outcome: Outcome,
    /// By what it was decided.
    pub by: DecidedBy,
    /// How often it was decided so.
    pub count: u64,
}

impl Metrics {
    /// Nothing was counted yet.
    pub fn new() -> Self {
        Self {
            started: SystemTime::now(),
            decisions: Default::default(),
            answers: Default::default(),
            together: Default::default(),
            latency: Default::default(),
            held_up: Default::default(),
            kicks: AtomicU64::new(0),
            reloads: Default::default(),
            last_reload: Lock::default(),
            shared: SharedCache::default(),
        }
    }

    /// Something was decided.
    #[inline]
    pub fn decided(&self, question: Matter, outcome: Outcome, by: DecidedBy, on_broker_thread: bool) {
        self.decisions[question.number()][outcome as usize][by as usize].count(on_broker_thread);
    }

    /// The API has answered a question, or has not, after this time.
    pub fn answered(&self, kind: Kind, answer: &Answer, took: Duration) {
        let index = match answer {
            Answer::Verdict { verdict: Verdict::Allow, .. } => 0,
            Answer::Verdict { verdict: Verdict::Deny, .. } => 1,
            Answer::None(_) => 2,
        };
        self.answers[kind as usize][index].fetch_add(1, Ordering::Relaxed);
        if index < 2 {
            self.latency[kind as usize].observe(took);
        }
    }

    /// So many questions went in one request, which was answered or not.
    pub fn went_together(&self, questions: usize, is_answered: bool) {
        self.together[usize::from(!is_answered)].fetch_add(1, Ordering::Relaxed);
        self.together[2].fetch_add(questions as u64, Ordering::Relaxed);
    }

    /// The broker, and with it every client, has waited so long.
    pub fn held_up(&self, kind: Kind, spent: Duration) {
        self.held_up[kind as usize].observe(spent);
    }

    /// So many clients were disconnected by a command or a recheck.
    pub fn kicked(&self, clients: usize) {
        self.kicks.fetch_add(clients as u64, Ordering::Relaxed);
    }

    /// Files were read again, and taken over or not.
    pub fn reloaded(&self, is_taken_over: bool) {
        self.reloads[usize::from(!is_taken_over)].fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now();
        let mut last = self.last_reload.lock();
        last.last = Some((now, is_taken_over));
        if is_taken_over {
            last.success = Some(now);
        }
    }

    /// When counting began.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// All counts of decisions, zeroes included.
    pub fn decisions(&self) -> impl Iterator<Item = Decisions> {
        Matter::ALL.into_iter().flat_map(move |question| {
            Outcome::ALL.into_iter().flat_map(move |outcome| {
                DecidedBy::ALL.into_iter().map(move |by| {
                    let count = self.decisions[question.number()][outcome as usize][by as usize].get();
                    Decisions { question, outcome, by, count }
                })
            })
        })
    }

    /// How long the API took for the answers to a kind of question.
    pub fn latency_of(&self, kind: Kind) -> &Histogram {
        &self.latency[kind as usize]
    }

    /// How long the broker waited for a kind of question.
    pub fn held_up_by(&self, kind: Kind) -> &Histogram {
        &self.held_up[kind as usize]
    }

    /// Allows, denies, and questions without a verdict of the API.
    pub fn answers_to(&self, kind: Kind) -> [u64; 3] {
        self.answers[kind as usize].each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Requests with many questions that were answered, those that were not, and the questions in all of them.
    pub fn together(&self) -> [u64; 3] {
        self.together.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// How many clients were disconnected.
    pub fn kicks(&self) -> u64 {
        self.kicks.load(Ordering::Relaxed)
    }

    /// How often files were read again and taken over, and how often not.
    pub fn reloads(&self) -> [u64; 2] {
        self.reloads.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// When files were last read again, and last taken over.
    pub fn last_reload(&self) -> LastReload {
        *self.last_reload.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        for (number, question) in Matter::ALL.into_iter().enumerate() {
            assert_eq!(question.number(), number);
        }
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
        }
        for (number, by) in DecidedBy::ALL.into_iter().enumerate() {
            assert_eq!(by as usize, number);
        }
    }

    #[test]
    fn what_two_threads_count_is_added_up() {
        let metrics = Metrics::new();
        let count = |own| metrics.decided(Matter::Login, Outcome::Deny, DecidedBy::Throttle, own);
        [true, true, false].into_iter().for_each(count);
        let counted: Vec<_> = metrics.decisions().filter(|decisions| decisions.count > 0).collect();
        assert_eq!(counted.len(), 1);
        assert_eq!((counted[0].outcome, counted[0].by), (Outcome::Deny, DecidedBy::Throttle));
        assert_eq!(counted[0].count, 3);
    }
}
