//! Whether an API answers slowly, minute by minute, and how much the broker was held up by it meanwhile.
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::util::{Lock, nanos};

/// How long answers have to take long, or no longer, before the log says so.
const MINUTE: Duration = Duration::from_secs(60);

/// A minute with fewer answers says nothing.
const FEWEST: u32 = 3;

/// Answers and hold-ups of one kind of question. They are counted without a lock; only the end of a minute takes it.
pub struct Pace {
    /// What takes longer is slow.
    slow_from: Duration,
    made: Instant,
    /// When the minute ends that is being counted, in nanoseconds since this was made; 0 before its first answer.
    ends: AtomicU64,
    answers: AtomicU32,
    slow: AtomicU32,
    held_up: HoldUpCount,
    /// Since when the API has been slow, if it is, and how the broker was held up since.
    slow_since: Lock<Option<(Instant, HoldUps)>>,
}

/// How the broker is held up in the minute that is being counted.
#[derive(Default)]
struct HoldUpCount {
    times: AtomicU32,
    /// In nanoseconds.
    total: AtomicU64,
    /// The same.
    longest: AtomicU64,
}

/// How often and how long the broker was held up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct HoldUps {
    times: u32,
    total: Duration,
    longest: Duration,
}

/// What the log should say.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Most answers of the last minute were slow.
    Slow {
        /// How many of how many.
        slow: (u32, u32),
        /// What they took longer than.
        slow_from: Duration,
        /// How the broker was held up in that minute.
        held_up: HoldUps,
    },
    /// Answers come in time again.
    InTime {
        /// How long they came late.
        after: Duration,
        /// How the broker was held up in all that time.
        held_up: HoldUps,
    },
}

impl Pace {
    /// Nothing was counted yet. An answer is slow that takes more than a quarter of the time-out.
    pub fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            slow_from: timeout / 4,
            made: now,
            ends: AtomicU64::new(0),
            answers: AtomicU32::new(0),
            slow: AtomicU32::new(0),
            held_up: HoldUpCount::default(),
            slow_since: Lock::default(),
        }
    }

    /// An answer has come.
    pub fn answered(&self, took: Duration, now: Instant) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        // Behind it: so a minute that ends just now has not more slow ones than answers.
        self.slow.fetch_add(u32::from(took > self.slow_from), Ordering::Release);
        if self.ends.load(Ordering::Relaxed) == 0 {
            let ends = nanos(now.saturating_duration_since(self.made) + MINUTE);
            // Or else another thread has begun it.
            let _ = self.ends.compare_exchange(0, ends, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The broker has waited for a question.
    pub fn held_up(&self, spent: Duration) {
        self.held_up.add(spent);
    }

    /// Ends the minute if it is over: what the log should say about it.
    pub fn turn(&self, now: Instant) -> Option<News> {
        let ends = self.ends.load(Ordering::Relaxed);
        if ends == 0 || nanos(now.saturating_duration_since(self.made)) < ends {
            return None;
        }
        // Or else another thread has ended it.
        self.ends.compare_exchange(ends, 0, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        let began = self.made + Duration::from_nanos(ends).saturating_sub(MINUTE);
        let slow = self.slow.swap(0, Ordering::Acquire);
        let answers = self.answers.swap(0, Ordering::Relaxed);
        let held_up = self.held_up.take();
        let is_slow = 2 * slow > answers;
        let slow_since = &mut *self.slow_since.lock();
        match slow_since {
            None if is_slow && answers >= FEWEST => {
                *slow_since = Some((began, held_up));
                Some(News::Slow { slow: (slow, answers), slow_from: self.slow_from, held_up })
            }
            None => None,
            Some((since, before)) => {
                if is_slow || answers < FEWEST {
                    before.add(held_up);
                    return None;
                }
                let news = News::InTime { after: began.saturating_duration_since(*since), held_up: *before };
                *slow_since = None;
                Some(news)
            }
        }
    }
}

impl HoldUpCount {
    fn add(&self, spent: Duration) {
        self.times.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(nanos(spent), Ordering::Relaxed);
        self.longest.fetch_max(nanos(spent), Ordering::Relaxed);
    }

    fn take(&self) -> HoldUps {
        let take = |nanos: &AtomicU64| Duration::from_nanos(nanos.swap(0, Ordering::Relaxed));
        HoldUps {
            times: self.times.swap(0, Ordering::Relaxed),
            total: take(&self.total),
            longest: take(&self.longest),
        }
    }
}

impl HoldUps {
    fn add(&mut self, other: Self) {
        self.times = self.times.saturating_add(other.times);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }
}

impl fmt::Display for HoldUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, total, longest } = *self;
        let shown = |time: Duration| Duration::from_millis(time.as_millis() as u64);
        match times {
            0 => f.write_str("The broker had to wait for none of them"),
            1 => write!(f, "The broker, and with it every client, waited once, for {:?}", shown(longest)),
            _ => write!(
                f,
                "The broker, and with it every client, waited {times} times, {:?} in sum and {:?} at the longest",
                shown(total),
                shown(longest)
            ),
        }
    }
}

impl News {
    /// The line about an API with this name.
    pub fn line(&self, url: &str) -> String {
        match self {
            News::Slow { slow: (slow, of), slow_from, held_up } => format!(
                "The API at {url} is slow: {slow} of its last {of} answers, in a minute, took longer than {slow_from:?}, a \
                 quarter of timeout. {held_up}."
            ),
            News::InTime { after, held_up } => format!(
                "The API at {url} is no longer slow, after {} s. {held_up} in that time.",
                after.as_secs()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);
    const FAST: Duration = Duration::from_millis(20);
    const SLOW: Duration = Duration::from_millis(600);

    /// A minute in which each second an answer takes so long; the broker waits for every second one.
    fn minute(pace: &Pace, took: Duration, now: &mut Instant) -> Vec<News> {
        let mut news = Vec::new();
        for second in 0..60 {
            pace.answered(took, *now);
            if second % 2 == 0 {
                pace.held_up(took);
            }
            *now += Duration::from_secs(1);
            news.extend(pace.turn(*now));
        }
        news
    }

    #[test]
    fn a_slow_api_is_named_once_and_once_more_when_it_is_well() {
        let mut now = Instant::now();
        let pace = Pace::new(TIMEOUT, now);
        assert_eq!(minute(&pace, FAST, &mut now), []);
        let held_up = |times: u32| HoldUps { times, total: SLOW * times, longest: SLOW };
        let slow = News::Slow { slow: (60, 60), slow_from: TIMEOUT / 4, held_up: held_up(30) };
        assert_eq!(minute(&pace, SLOW, &mut now), [slow]);
        assert_eq!(minute(&pace, SLOW, &mut now), []);
        let in_time = News::InTime { after: 2 * MINUTE, held_up: held_up(60) };
        assert_eq!(minute(&pace, FAST, &mut now), [in_time]);
        assert_eq!(minute(&pace, FAST, &mut now), []);
    }

    #[test]
    fn few_answers_and_few_slow_ones_say_nothing() {
        let mut now = Instant::now();
        let pace = Pace::new(TIMEOUT, now);
        for _ in 0..10 {
            for took in [SLOW, SLOW, FAST, FAST] {
                pace.answered(took, now);
            }
            now += MINUTE;
            assert_eq!(pace.turn(now), None);
            pace.answered(SLOW, now);
            now += MINUTE;
            assert_eq!(pace.turn(now), None);
        }
    }

    #[test]
    fn the_lines_say_how_the_broker_was_held_up() {
        let mut held_up = HoldUps::default();
        let line = |held_up| News::Slow { slow: (5, 9), slow_from: TIMEOUT / 4, held_up }.line("http://api");
        assert!(line(held_up).ends_with("The broker had to wait for none of them."), "{}", line(held_up));
        held_up.add(HoldUps { times: 1, total: SLOW, longest: SLOW });
        assert!(line(held_up).ends_with("every client, waited once, for 600ms."), "{}", line(held_up));
        held_up.add(HoldUps { times: 1, total: FAST, longest: FAST });
        let end = "waited 2 times, 620ms in sum and 600ms at the longest.";
        assert!(line(held_up).ends_with(end), "{}", line(held_up));
    }
}
