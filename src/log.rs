//! Lines for the broker's log, queued. The broker's log function belongs to one thread and may call back into the
//! plugin, so lines are only queued here: the broker's thread writes them when it holds no lock any more.
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::util::Lock;

/// The level of a log line, in the broker's terms.
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

/// Lines that the queue holds. Further ones are lost if the broker gives no chance to write.
const QUEUE_BOUND: usize = 1_000;

/// Refusals that may be logged in one burst.
const BURST: u32 = 100;

/// The time after which another refusal may be logged: two a second, at most 40 MB a day.
const PAUSE_AFTER_BURST: Duration = Duration::from_millis(500);

/// How often the number of suppressed refusals is logged.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// The queue of lines, and the limit on refusals.
pub struct Log {
    waiting: AtomicBool,
    state: Lock<State>,
}

struct State {
    lines: VecDeque<(Level, String)>,
    /// Refusals that may be logged now.
    allowance: u32,
    /// When `allowance` last grew.
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

    /// Queues the line about a refused client, or only counts it while there are too many: clients cause these lines,
    /// and a flood of them must not fill the disk. `line` is called only if the line is queued.
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

    /// Queues a line with the number of suppressed refusals when one is due.
    pub fn tick(&self, now: Instant) {
        self.summarise(&mut self.state.lock(), now);
    }

    /// Whether lines wait to be written. Costs one atomic load.
    pub fn any(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes the next line to write.
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

/// Makes a text of a client or of a file's author fit for a log line: in quotes, with control characters escaped so
/// that it cannot forge a line, and cut after [`SHOWN`] characters.
pub fn quoted(text: &str) -> impl Display + '_ {
    Quoted(text)
}

struct Quoted<'a>(&'a str);

/// Characters that [`quoted`] shows of a text.
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
