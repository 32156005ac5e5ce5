//! A circuit breaker: an API that does not answer is left alone, and whoever asks is told so at once.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cache::key::Fingerprint;
use crate::random;

/// When to open, and how to find out when to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Questions without an answer among the recent ones that it takes at least; 0: never opens.
    pub after: usize,
    /// And the share of the recent ones that they must make up, in percent.
    pub percent: usize,
    /// The pause before the first probe; each probe in vain doubles it.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

/// What counts as recent: so many questions, and no older than so.
const RECENT: usize = 20;
const RECENTLY: Duration = Duration::from_secs(60);

/// The longest that `Retry-After` is heeded: one careless answer must not close the door for an hour.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// How long to leave an API alone that says 429 and not for how long.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The breaker of one endpoint.
pub struct Breaker {
    settings: Settings,
    /// The longest that one question takes.
    timeout: Duration,
    state: Mutex<State>,
}

struct State {
    /// Which questions were asked of late, when, and whether they were answered.
    recent: VecDeque<(Fingerprint, Instant, bool)>,
    open: Option<Open>,
    /// The API has asked to be left alone until then.
    back_off: Option<Instant>,
}

struct Open {
    since: Instant,
    /// When it is asked next, and the pause that led there.
    next_probe: Instant,
    pause: Duration,
}

/// What to do with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Ask.
    Ask,
    /// Do not ask.
    Refuse,
    /// Do not ask, but ask the same in the background to find out whether the API is back.
    RefuseAndProbe,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Questions are refused from now on: so many of the recent ones had no answer.
    Opened {
        /// Questions without an answer.
        unanswered: usize,
        /// Questions that were looked at.
        of: usize,
    },
    /// Questions are asked again, after it was open for so long.
    Closed(Duration),
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: Settings, timeout: Duration) -> Self {
        let state = State { recent: VecDeque::new(), open: None, back_off: None };
        Self { settings, timeout, state: Mutex::new(state) }
    }

    /// Whether a question may be asked now.
    pub fn admit(&self, now: Instant) -> Admission {
        let mut state = self.state();
        if let Some(open) = &mut state.open {
            if now < open.next_probe {
                return Admission::Refuse;
            }
            // The next one, if this one is in vain: not before it has ended, so that there is one at a time.
            open.pause = (open.pause * 2).min(self.settings.longest);
            open.next_probe = now + self.timeout + jitter(open.pause);
            return Admission::RefuseAndProbe;
        }
        if state.back_off.is_some_and(|until| now < until) {
            return Admission::Refuse;
        }
        Admission::Ask
    }

    /// Whether every question would be refused now, without a probe that were due.
    pub fn refuses(&self, now: Instant) -> bool {
        let state = self.state();
        match &state.open {
            Some(open) => now < open.next_probe,
            None => state.back_off.is_some_and(|until| now < until),
        }
    }

    /// A question was answered, with whatever status: the API is there.
    pub fn answered(&self, question: Fingerprint, now: Instant) -> Option<Change> {
        let mut state = self.state();
        if let Some(open) = state.open.take() {
            state.recent.clear();
            return Some(Change::Closed(now.saturating_duration_since(open.since)));
        }
        state.note(question, now, true);
        None
    }

    /// A question had no answer: time-out or transport error.
    pub fn unanswered(&self, question: Fingerprint, now: Instant) -> Option<Change> {
        let Settings { after, percent, pause, .. } = self.settings;
        let mut state = self.state();
        if state.open.is_some() {
            return None;
        }
        state.note(question, now, false);
        let (unanswered, of) = state.count();
        if after == 0 || unanswered < after || unanswered * 100 < of * percent {
            return None;
        }
        state.open = Some(Open { since: now, next_probe: now + jitter(pause), pause });
        Some(Change::Opened { unanswered, of })
    }

    /// The API wants to be left alone (429), maybe for a certain time.
    pub fn back_off(&self, retry_after: Option<Duration>, now: Instant) {
        self.state().back_off = Some(now + retry_after.unwrap_or(BACK_OFF).min(LONGEST_BACK_OFF));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, question: Fingerprint, now: Instant, answered: bool) {
        self.recent.push_back((question, now, answered));
        while self.recent.len() > RECENT
            || self.recent.front().is_some_and(|(_, at, _)| now.saturating_duration_since(*at) > RECENTLY)
        {
            self.recent.pop_front();
        }
    }

    /// How many questions of how many had no answer. While others are answered, the same question counts
    /// once: a client whose name makes the API hang must not take the API from the others.
    fn count(&self) -> (usize, usize) {
        let unanswered = self.recent.iter().filter(|(_, _, answered)| !answered).map(|(key, _, _)| *key);
        let answered = self.recent.iter().filter(|(_, _, answered)| *answered).count();
        let mut distinct = Vec::with_capacity(RECENT);
        for key in unanswered {
            if answered == 0 || !distinct.contains(&key) {
                distinct.push(key);
            }
        }
        (distinct.len(), distinct.len() + answered)
    }
}

/// A pause, longer or shorter by up to a quarter, so that brokers that lost the same API do not all probe
/// at once.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + 0.5 * random::fraction())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::Fingerprinter;

    const SETTINGS: Settings =
        Settings { after: 5, percent: 25, pause: Duration::from_secs(1), longest: Duration::from_secs(8) };

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn question(n: u64) -> Fingerprint {
        Fingerprinter::with_key(&[5; 16]).fields(b't', [&n.to_ne_bytes()])
    }

    fn open(now: Instant) -> Breaker {
        let breaker = Breaker::new(SETTINGS, TIMEOUT);
        for n in 0..5 {
            breaker.unanswered(question(n), now);
        }
        breaker
    }

    #[test]
    fn a_dead_api_opens_it_also_when_one_client_asks_again_and_again() {
        let now = Instant::now();
        let breaker = Breaker::new(SETTINGS, TIMEOUT);
        let changes: Vec<_> = (0..5).map(|_| breaker.unanswered(question(1), now)).collect();
        assert_eq!(changes[..4], [None; 4]);
        assert_eq!(changes[4], Some(Change::Opened { unanswered: 5, of: 5 }));
        assert_eq!(breaker.admit(now), Admission::Refuse);
    }

    #[test]
    fn an_api_that_hangs_on_every_third_question_opens_it() {
        let now = Instant::now();
        let breaker = Breaker::new(SETTINGS, TIMEOUT);
        let opened = (0..20).any(|n| match n % 3 {
            0 => breaker.unanswered(question(n), now).is_some(),
            _ => breaker.answered(question(n), now).is_some(),
        });
        assert!(opened);
    }

    #[test]
    fn one_question_that_makes_the_api_hang_does_not() {
        let now = Instant::now();
        let breaker = Breaker::new(SETTINGS, TIMEOUT);
        for n in 0..1_000 {
            breaker.answered(question(n), now);
            assert_eq!(breaker.unanswered(question(5_000), now), None);
        }
        assert_eq!(breaker.admit(now), Admission::Ask);
    }

    #[test]
    fn trouble_of_long_ago_is_forgotten() {
        let mut now = Instant::now();
        let breaker = Breaker::new(SETTINGS, TIMEOUT);
        for n in 0..100 {
            assert_eq!(breaker.unanswered(question(n), now), None);
            now += RECENTLY / 2;
        }
    }

    #[test]
    fn one_probe_at_a_time_with_growing_pauses_until_it_is_back() {
        let start = Instant::now();
        let mut now = start;
        let breaker = open(now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let before = now;
            while breaker.admit(now) == Admission::Refuse {
                now += Duration::from_millis(10);
            }
            pauses.push((now - before).as_secs_f64());
            for _ in 0..3 {
                assert_eq!(breaker.admit(now), Admission::Refuse, "a second probe at once");
            }
            now += TIMEOUT;
        }
        for (pause, expected) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]) {
            assert!((0.7 * expected..1.3 * expected).contains(pause), "{pauses:?}");
        }
        assert_eq!(breaker.answered(question(9), now), Some(Change::Closed(now - start)));
        assert_eq!(breaker.admit(now), Admission::Ask);
    }

    #[test]
    fn an_api_that_wants_to_be_left_alone_is_but_not_for_ever() {
        let now = Instant::now();
        let breaker = Breaker::new(SETTINGS, TIMEOUT);
        breaker.back_off(Some(Duration::from_secs(100_000)), now);
        assert!(breaker.refuses(now + LONGEST_BACK_OFF / 2));
        assert_eq!(breaker.admit(now + LONGEST_BACK_OFF), Admission::Ask);
    }

    #[test]
    fn after_0_never_opens() {
        let now = Instant::now();
        let breaker = Breaker::new(Settings { after: 0, ..SETTINGS }, TIMEOUT);
        for n in 0..100 {
            assert_eq!(breaker.unanswered(question(n), now), None);
        }
    }
}
