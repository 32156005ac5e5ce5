//! Lines for the broker's log, queued. The broker's log function may call back into the plugin and
//! belongs to one thread, so nobody calls it in the middle of anything: the broker's thread empties this
//! queue when it has let go of everything.
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::util::Lock;

/// How loud a line is, in the broker's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// `MOSQ_LOG_ERR`
    Error,
    /// `MOSQ_LOG_WARNING`
    Warning,
    /// `MOSQ_LOG_NOTICE`
    Notice,
    /// `MOSQ_LOG_INFO`
    Info,
}

/// Lines that may wait; a broker that gives no chance to write loses what is beyond.
const QUEUE_BOUND: usize = 1_000;

/// Refusals that may be logged in one burst; after it two a second. That is at most 40 MB a day.
const BURST: u32 = 100;
const PAUSE_AFTER_BURST: Duration = Duration::from_millis(500);

/// How often the number of suppressed refusals is told.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// The queue, and the limit on refusals.
pub struct Log {
    waiting: AtomicBool,
    state: Lock<State>,
}

struct State {
    lines: VecDeque<(Level, String)>,
    /// Refusals that may still be logged, and since when they were last counted up.
    allowance: u32,
    counted: Instant,
    suppressed: u64,
    suppressed_since: Instant,
}

impl Log {
    /// An empty queue.
    pub fn new(now: Instant) -> Self {
        Self {
            waiting: AtomicBool::new(false),
            state: Lock::new(State {
                lines: VecDeque::new(),
                allowance: BURST,
                counted: now,
                suppressed: 0,
                suppressed_since: now,
            }),
        }
    }

    /// Queues a line.
    pub fn write(&self, level: Level, line: impl Into<String>) {
        self.push(&mut self.state.lock(), level, line.into());
    }

    /// Queues a warning.
    pub fn warn(&self, line: &str) {
        self.write(Level::Warning, line);
    }

    /// Queues the line of a refused client, unless there are too many of them: clients can cause these,
    /// and a flood of them must not fill the disk. The line is made only if it is written.
    pub fn refusal(&self, now: Instant, line: impl FnOnce() -> String) {
        let mut state = self.state.lock();
        let regained =
            now.saturating_duration_since(state.counted).as_millis() / PAUSE_AFTER_BURST.as_millis();
        if regained > 0 {
            state.allowance =
                state.allowance.saturating_add(u32::try_from(regained).unwrap_or(BURST)).min(BURST);
            state.counted = now;
        }
        if state.allowance > 0 {
            state.allowance -= 1;
            self.push(&mut state, Level::Notice, line());
        } else {
            if state.suppressed == 0 {
                state.suppressed_since = now;
            }
            state.suppressed += 1;
        }
        self.summarise(&mut state, now);
    }

    /// Tells the number of suppressed refusals when it is time.
    pub fn tick(&self, now: Instant) {
        self.summarise(&mut self.state.lock(), now);
    }

    /// Whether there are lines to write. Costs one load.
    pub fn any(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// The next line to write.
    pub fn next(&self) -> Option<(Level, String)> {
        if !self.any() {
            return None;
        }
        let mut state = self.state.lock();
        let line = state.lines.pop_front();
        self.waiting.store(!state.lines.is_empty(), Ordering::Release);
        line
    }

    fn summarise(&self, state: &mut State, now: Instant) {
        if state.suppressed > 0 && now.saturating_duration_since(state.suppressed_since) >= SUMMARY_EVERY {
            let line = format!("{} further refusals were not logged one by one.", state.suppressed);
            state.suppressed = 0;
            self.push(state, Level::Notice, line);
        }
    }

    fn push(&self, state: &mut State, level: Level, line: String) {
        if state.lines.len() < QUEUE_BOUND {
            state.lines.push_back((level, line));
            self.waiting.store(true, Ordering::Release);
        }
    }
}

/// Text that somebody else wrote, a client or the author of a file, as it may stand in a log line: in quotes, with
/// control characters escaped so that nobody can forge a line, and cut where it gets long.
pub fn quoted(text: &str) -> impl Display + '_ {
    Quoted(text)
}

struct Quoted<'a>(&'a str);

/// Characters of such a text that are shown.
const SHOWN: usize = 200;

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(SHOWN).map_or(self.0.len(), |(end, _)| end);
        write!(f, "{:?}", &self.0[..end])?;
        if end < self.0.len() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &Log) -> Vec<String> {
        std::iter::from_fn(|| log.next()).map(|(_, line)| line).collect()
    }

    #[test]
    fn a_flood_of_refusals_is_counted_instead_of_written() {
        let start = Instant::now();
        let log = Log::new(start);
        for _ in 0..1_000 {
            log.refusal(start, || "refused".to_owned());
        }
        assert_eq!(lines(&log).len(), BURST as usize);
        log.tick(start + SUMMARY_EVERY);
        assert_eq!(lines(&log), ["900 further refusals were not logged one by one."]);
        log.refusal(start + SUMMARY_EVERY, || "refused".to_owned());
        assert_eq!(lines(&log), ["refused"]);
    }

    #[test]
    fn clients_cannot_forge_lines() {
        assert_eq!(quoted("a\n1234: fake\u{1b}[2J\"").to_string(), r#""a\n1234: fake\u{1b}[2J\"""#);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "ü".repeat(SHOWN);
        assert_eq!(quoted(&text).to_string(), format!("\"{text}\""));
        assert_eq!(quoted(&format!("{text}x")).to_string(), format!("\"{text}\"... (401 bytes)"));
    }
}
