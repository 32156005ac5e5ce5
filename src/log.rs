//! Lines for the broker's log, queued. The broker's log function belongs to one thread and may call back into the
//! plugin, so lines are only queued here: the broker's thread writes them when it holds no lock any more.
use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::fmt::{self, Display};
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;

use crate::util::{Lock, bounded};

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

/// Refusals beyond those that may be logged in one burst if each is the first of its client within [`A_LINE_EACH`]. With
/// the others they have room in the queue.
const BURST_OF_FIRSTS: u32 = 500;

/// The time after which another of those may be logged: 300 clients a minute, at most 100 MB a day.
const PAUSE_AFTER_FIRSTS: Duration = Duration::from_millis(200);

/// How long a client's line stands for all of its refusals where lines are short.
const A_LINE_EACH: Duration = Duration::from_secs(60);

/// Clients whose last line is known, some 100 bytes each: more than can have had one within that time.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How often the number of suppressed refusals is logged.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// Lines about refusals that are kept to be shown, some 50 KiB at most.
const SHOWN_REFUSALS: usize = 50;

/// The queue of lines, and the limit on refusals.
pub struct Log {
    waiting: AtomicBool,
    state: Lock<State>,
}

struct State {
    lines: VecDeque<(Level, String)>,
    /// Refusals that may be logged now, whosever they are.
    any: Allowance,
    /// Clients' first refusals of a minute that may be logged beyond that.
    firsts: Allowance,
    /// When a client last had a line, by its fingerprint.
    lines_of_clients: LruCache<u64, Instant>,
    hasher: RandomState,
    /// What was not logged since `suppressed_since`, by its reason.
    suppressed: Vec<(&'static str, u64)>,
    suppressed_since: Instant,
    /// The latest lines about refusals, and when they were queued.
    refusals: VecDeque<(SystemTime, String)>,
}

/// Whom a line about a refusal is about.
pub struct Refused<'a> {
    /// The client's id and address, whatever it calls itself; `None` if it is not about a client.
    pub client: Option<(&'a str, &'a str)>,
    /// The kind of reason, one of few: refusals are counted by it.
    pub reason: &'static str,
}

/// Lines that may be written now: some at once, and then one after each pause.
struct Allowance {
    left: u32,
    most: u32,
    pause: Duration,
    /// When `left` last grew.
    counted: Instant,
}

impl Allowance {
    fn new(most: u32, pause: Duration, now: Instant) -> Self {
        Self { left: most, most, pause, counted: now }
    }

    /// Takes one line, if there is one left.
    fn take(&mut self, now: Instant) -> bool {
        let regained = now.saturating_duration_since(self.counted).as_millis() / self.pause.as_millis();
        if regained > 0 {
            let regained = u32::try_from(regained).unwrap_or(self.most);
            self.left = self.left.saturating_add(regained).min(self.most);
            self.counted = now;
        }
        let has_one = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_one
    }
}

impl State {
    fn fingerprint(&self, refused: &Refused<'_>) -> Option<u64> {
        Some(self.hasher.hash_one(refused.client?))
    }

    fn is_first_of_minute(&self, refused: &Refused<'_>, now: Instant) -> bool {
        let Some(client) = self.fingerprint(refused) else { return false };
        let last = self.lines_of_clients.peek(&client);
        last.is_none_or(|last| now.saturating_duration_since(*last) >= A_LINE_EACH)
    }

    fn note_line(&mut self, refused: &Refused<'_>, now: Instant) {
        if let Some(client) = self.fingerprint(refused) {
            self.lines_of_clients.put(client, now);
        }
    }
}

impl Log {
    /// An empty queue.
    pub fn new(now: Instant) -> Self {
        Self {
            waiting: AtomicBool::new(false),
            state: Lock::new(State {
                lines: VecDeque::new(),
                any: Allowance::new(BURST, PAUSE_AFTER_BURST, now),
                firsts: Allowance::new(BURST_OF_FIRSTS, PAUSE_AFTER_FIRSTS, now),
                lines_of_clients: bounded(CLIENTS),
                hasher: RandomState::new(),
                suppressed: Vec::new(),
                suppressed_since: now,
                refusals: VecDeque::new(),
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

    /// Queues the line about a refused client, or only counts it by its reason while there are too many: clients cause
    /// these lines, and a flood of them must not fill the disk. Each client has a line a minute, though, as long as there
    /// are not too many clients. `line` is called only if the line is queued.
    pub fn refusal(&self, now: Instant, refused: &Refused<'_>, line: impl FnOnce() -> String) {
        let mut state = self.state.lock();
        if state.any.take(now) || (state.is_first_of_minute(refused, now) && state.firsts.take(now)) {
            state.note_line(refused, now);
            let line = line();
            if state.refusals.len() >= SHOWN_REFUSALS {
                state.refusals.pop_front();
            }
            state.refusals.push_back((SystemTime::now(), line.clone()));
            self.push(&mut state, Level::Notice, line);
        } else {
            if state.suppressed.is_empty() {
                state.suppressed_since = now;
            }
            match state.suppressed.iter_mut().find(|(reason, _)| *reason == refused.reason) {
                Some((_, count)) => *count += 1,
                None => state.suppressed.push((refused.reason, 1)),
            }
        }
        self.summarise(&mut state, now);
    }

    /// The latest lines about refusals, the newest last. They name clients.
    pub fn latest_refusals(&self) -> Vec<(SystemTime, String)> {
        self.state.lock().refusals.iter().cloned().collect()
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
        let is_due = now.saturating_duration_since(state.suppressed_since) >= SUMMARY_EVERY;
        if is_due && !state.suppressed.is_empty() {
            let reasons = std::mem::take(&mut state.suppressed);
            let all: u64 = reasons.iter().map(|(_, count)| count).sum();
            let reasons: Vec<_> =
                reasons.iter().map(|(reason, count)| format!("{count} x {reason}")).collect();
            let line = format!("{all} further refusals were not logged one by one: {}.", reasons.join("; "));
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
/// that it cannot forge a line, and cut after [`SHOWN`] bytes.
pub fn quoted(text: &str) -> impl Display + '_ {
    Quoted(text)
}

/// A text with a full stop, unless it ends with a question.
pub fn sentence(text: impl Display) -> String {
    let text = text.to_string();
    if text.ends_with('?') { text } else { text + "." }
}

struct Quoted<'a>(&'a str);

/// Bytes that [`quoted`] shows of a text, as they are written. A line of the broker's log has 1,000: three names, an address and
/// the reason find room there, whatever the names are.
const SHOWN: usize = 160;

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        let is_too_long = |(_, c): &(usize, char)| {
            written += c.escape_debug().map(char::len_utf8).sum::<usize>();
            written > SHOWN
        };
        let end = self.0.char_indices().find(is_too_long).map_or(self.0.len(), |(end, _)| end);
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

    const NOBODY: Refused<'_> = Refused { client: None, reason: "a reason" };

    #[test]
    fn a_flood_of_refusals_is_counted_instead_of_written() {
        let start = Instant::now();
        let log = Log::new(start);
        for _ in 0..1_000 {
            log.refusal(start, &NOBODY, || "refused".to_owned());
        }
        assert_eq!(lines(&log).len(), BURST as usize);
        log.refusal(start, &Refused { client: None, reason: "another" }, || "refused".to_owned());
        log.tick(start + SUMMARY_EVERY);
        assert_eq!(
            lines(&log),
            ["901 further refusals were not logged one by one: 900 x a reason; 1 x another."]
        );
        log.refusal(start + SUMMARY_EVERY, &NOBODY, || "refused".to_owned());
        assert_eq!(lines(&log), ["refused"]);
    }

    #[test]
    fn each_client_has_a_line_a_minute_until_there_are_too_many() {
        let start = Instant::now();
        let log = Log::new(start);
        let refuse = |name: &str, at: Instant| {
            let refused = Refused { client: Some((name, "address")), reason: "a reason" };
            log.refusal(at, &refused, || name.to_owned());
        };
        // One that comes again and again uses up what is for all.
        for _ in 0..1_000 {
            refuse("busy", start);
        }
        assert_eq!(lines(&log).len(), BURST as usize);
        for round in 0..3 {
            for device in 0..50 {
                refuse(&format!("device-{device}"), start + Duration::from_millis(round));
            }
        }
        assert_eq!(lines(&log).len(), 50, "one each");
        refuse("device-7", start + A_LINE_EACH + Duration::from_secs(1));
        assert!(lines(&log).contains(&"device-7".to_owned()), "a minute later");
        // Names that are made up.
        let log = Log::new(start);
        for device in 0..10_000 {
            let (name, reason) = (format!("made-up-{device}"), "a reason");
            log.refusal(start, &Refused { client: Some((&name, "address")), reason }, || name.clone());
        }
        assert_eq!(lines(&log).len(), (BURST + BURST_OF_FIRSTS) as usize);
    }

    #[test]
    fn a_question_needs_no_full_stop() {
        assert_eq!(sentence("Is it running?"), "Is it running?");
        assert_eq!(sentence("It runs"), "It runs.");
    }

    #[test]
    fn clients_cannot_forge_lines() {
        assert_eq!(quoted("a\n1234: fake\u{1b}[2J\"").to_string(), r#""a\n1234: fake\u{1b}[2J\"""#);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = "ü".repeat(SHOWN / 2);
        assert_eq!(quoted(&text).to_string(), format!("\"{text}\""));
        assert_eq!(quoted(&format!("{text}x")).to_string(), format!("\"{text}\"... (161 bytes)"));
        // What is escaped counts as it is written.
        let written = quoted(&"\u{200b}".repeat(200)).to_string();
        assert_eq!(written, format!("\"{}\"... (600 bytes)", "\\u{200b}".repeat(SHOWN / 8)));
    }
}
