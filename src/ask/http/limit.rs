//! How many questions may be on their way to one URL at a time. It is found out from how long answers take: more at once
//! make an API that computes no faster, and those who wait had better wait here.
//!
//! What an answer takes is compared with what it takes *by itself*, while nothing else is going on. While it takes little
//! longer, the limit grows with each answer that made use of it, up to `max_requests`, which is the ceiling. When answers
//! take more than twice as long, half as many are asked on *trial*. If they take less then, load was the reason, and it
//! stays at that; if not, the API has become slow anyway, or these questions always are, and the limit is as before.
//! So an API that works on so many at a time gets one to two times as many, and one that takes any number gets
//! `max_requests`.

use std::time::{Duration, Instant};

use crate::ask::queue;

/// So many questions are asked at a time until the first answer has come, and however slow answers get, unless they take so long
/// that an API which does one after the other could not answer as many in time.
const FEW: f64 = queue::FEW as f64;

/// A time that hardly anybody notices, in seconds: what takes no longer is never slow.
const UNNOTICED: f64 = 0.100;

/// No answer takes less, in seconds: it would be divided by that.
const SHORTEST: f64 = 1e-6;

/// The part of the time-out within which an API that does one after the other should have answered all that it is asked
/// before it is known what it can do.
const SAFE_PART: f64 = 2.0 / 3.0;

/// How much faster the limit grows until it was too high for the first time.
const OPENING: f64 = 4.0;

/// Fewer questions at a time may cost this part of what load would explain before it is not the reason: asking half as many
/// costs a sixth of the answers then.
const TOLERANCE: f64 = 0.2;

/// [`TOLERANCE`] where answers are late.
const TOLERANCE_WHEN_LATE: f64 = 0.8;

/// A question that takes so many times as long as others do of late, and at least this part of the time-out, may hang:
/// then it keeps nobody else from being asked.
const HANGS: f64 = 4.0;
const HANGS_PART: f64 = 0.25;

/// A trial is given up when it takes so many times as long as an answer: there is no crowd any more.
const TRIAL: f64 = 10.0;

/// A limit that has changed by half for so long is worth a line in the log.
const LASTING: Duration = Duration::from_secs(2);

/// How often such a line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// The number of questions that may be on their way to one URL.
pub struct Limit {
    ceiling: f64,
    /// The time-out, in seconds.
    timeout: f64,
    limit: f64,
    /// What an answer takes by itself, in seconds, once there has been one.
    by_itself: Option<f64>,
    /// Whether it is known only by answers that came in a crowd.
    is_guess: bool,
    /// What it was when the limit was found.
    found_with: f64,
    /// What answers took of late, in seconds.
    recent: f64,
    /// Whether the limit was never too high yet.
    is_opening: bool,
    pub(super) in_flight: usize,
    /// About how many were on their way at most of late.
    peak: f64,
    /// How many questions were sent, and how many have ended.
    events: u64,
    /// The events until the limit was lowered last.
    lowered: u64,
    last_answer: Option<Instant>,
    /// When the newest of the questions that were answered was sent.
    newest_answered: Option<Instant>,
    round: Round,
    trial: Option<Trial>,
    /// The limit that the log has named last, and when.
    said: (f64, Option<Instant>),
    /// Since when it is another one by half.
    differs: Option<Instant>,
}

/// Some questions of a crowd, whose answers show what the limit of now does.
struct Round {
    number: u64,
    /// How many there are to be, and how many were sent.
    size: usize,
    sent: usize,
    /// How many were answered, and what the answers took together, in seconds.
    answers: usize,
    took: f64,
    /// How many were on their way with each of these, added up.
    load: usize,
}

/// Fewer are asked at a time, to see whether that makes a difference.
struct Trial {
    since: Instant,
    /// The limit before.
    limit: f64,
    /// How many were asked at a time then.
    used: f64,
    /// What answers took then, in seconds.
    took: f64,
}

/// A question on its way.
#[derive(Debug, Clone, Copy)]
pub struct Flight {
    sent: Instant,
    /// How many were on their way when it was sent, this one included.
    load: usize,
    /// The events until then, this one included.
    events: u64,
    /// The round that it belongs to, if it does.
    round: Option<u64>,
}

impl Limit {
    /// The limit for an API that nothing is known of.
    pub fn new(ceiling: usize, timeout: Duration) -> Self {
        let ceiling = ceiling as f64;
        Self {
            ceiling,
            timeout: timeout.as_secs_f64(),
            limit: FEW.min(ceiling),
            by_itself: None,
            is_guess: true,
            found_with: f64::MAX,
            recent: 0.0,
            is_opening: true,
            in_flight: 0,
            peak: 0.0,
            events: 0,
            lowered: 0,
            last_answer: None,
            newest_answered: None,
            round: Round { number: 0, size: FEW as usize, sent: 0, answers: 0, took: 0.0, load: 0 },
            trial: None,
            said: (ceiling, None),
            differs: None,
        }
    }

    /// How many may be on their way at a time now: at least one, and no more than the ceiling.
    pub fn at_a_time(&self) -> usize {
        self.limit as usize
    }

    /// How long a question that is on its way counts as one that the API works on, at least; see [`Limit::hangs`].
    pub fn hangs_after(&self) -> Duration {
        let usual = self.usual().map_or(0.0, |usual| usual.as_secs_f64());
        let hangs = (HANGS * usual).max(HANGS_PART * self.timeout).min(self.timeout);
        Duration::from_secs_f64(hangs)
    }

    /// Whether a question that was sent then, and has been on its way for [`Limit::hangs_after`], hangs, so that another
    /// may take its place. If so many of them as `passed_over` did so before and are still on their way, it is only if
    /// one that was sent later has been answered: else the API is slow, and more at once would make it slower.
    pub fn hangs(&self, sent: Instant, passed_over: usize) -> bool {
        self.newest_answered > Some(sent) || passed_over < FEW as usize
    }

    /// How long answers take of late, and at least what one takes by itself, once there was one.
    pub fn usual(&self) -> Option<Duration> {
        self.by_itself.map(|by_itself| Duration::from_secs_f64(by_itself.max(self.recent)))
    }

    /// A question is sent.
    pub fn sent(&mut self, now: Instant) -> Flight {
        self.in_flight += 1;
        self.events += 1;
        let load = self.in_flight as f64;
        self.peak = load.max(self.peak - 0.1);
        if self.in_flight == 1 {
            // What comes now is another crowd: what the last one has shown counts.
            self.end_round(now);
            self.begin_round();
        }
        // Those that see about as many others as there ever are.
        let is_member = self.round.sent < self.round.size && load >= 0.75 * self.used();
        self.round.sent += usize::from(is_member);
        let round = is_member.then_some(self.round.number);
        Flight { sent: now, load: self.in_flight, events: self.events, round }
    }

    /// A question was answered. `took` is how long that took, without what it took to get a connection, or `None` if the
    /// answer tells nothing about how long the API works.
    pub fn answered(&mut self, flight: Flight, took: Option<Duration>, now: Instant) {
        let load = flight.load.max(self.in_flight);
        // Others may have hung all the while.
        let was_by_itself = self.events == flight.events;
        self.ended();
        self.last_answer = Some(now);
        self.newest_answered = self.newest_answered.max(Some(flight.sent));
        let Some(took) = took.map(|took| took.as_secs_f64().max(SHORTEST)) else { return };
        self.learn(took, was_by_itself);
        self.grow(took, load);
        self.count(flight, took, now);
    }

    /// A question had no answer in time; it counts no more. Returns whether that is because too many were asked: others
    /// are answered, and slowly.
    pub fn timed_out(&mut self, flight: Flight) -> bool {
        self.ended();
        let others_are_answered = self.last_answer.is_some_and(|at| at > flight.sent);
        let others_are_slow = self.recent > self.allowed();
        // Where others are answered as fast as ever, the question is to blame, and asking less would not help.
        if others_are_answered && !others_are_slow {
            return false;
        }
        let too_many = flight.load as f64 > self.floor();
        // Those that were sent before the limit was lowered say nothing new, and a question that was nearly by itself says
        // nothing of load.
        if flight.events > self.lowered && too_many {
            self.trial = None;
            self.set_limit(self.limit / 2.0);
        }
        others_are_answered && too_many
    }

    /// A question has ended otherwise, or was given up.
    pub fn ended(&mut self) {
        self.in_flight -= 1;
        self.events += 1;
    }

    /// The limit, if it has changed so much and for so long that the log should say it.
    pub fn news(&mut self, now: Instant) -> Option<usize> {
        let (said, last) = self.said;
        let is_lower = !self.is_opening && 2.0 * self.limit <= said;
        let is_higher = said < self.ceiling && (self.limit >= 2.0 * said || self.limit >= self.ceiling);
        if !is_lower && !is_higher {
            self.differs = None;
            return None;
        }
        let since = *self.differs.get_or_insert(now);
        let is_due = |last| now.saturating_duration_since(last) >= LINE_EVERY;
        if now.saturating_duration_since(since) < LASTING || !last.is_none_or(is_due) {
            return None;
        }
        self.said = (self.limit.floor(), Some(now));
        self.differs = None;
        Some(self.limit as usize)
    }

    /// Learns what an answer takes by itself.
    fn learn(&mut self, took: f64, was_by_itself: bool) {
        let Some(by_itself) = self.by_itself else {
            (self.by_itself, self.recent) = (Some(took), took);
            self.is_guess = !was_by_itself;
            self.found_with = took;
            self.limit = self.safe().min(self.ceiling);
            return;
        };
        self.recent += (took - self.recent) / 8.0;
        if !was_by_itself {
            return;
        }
        let by_itself = if self.is_guess { took } else { by_itself + (took - by_itself) / 4.0 };
        self.by_itself = Some(by_itself);
        self.is_guess = false;
        if by_itself > 2.0 * self.found_with {
            // What was found was about an API that was twice as fast.
            self.found_with = by_itself;
            self.trial = None;
            self.set_limit(self.limit.min(self.safe()));
        }
    }

    /// Lets the limit grow by an answer that came soon.
    fn grow(&mut self, took: f64, load: usize) {
        let allowed = self.allowed();
        // Only what is made use of can show that there is room for more.
        if took > allowed || self.trial.is_some() || 2 * load < self.limit as usize {
            return;
        }
        let gain = if self.is_opening { OPENING } else { 1.0 };
        let grown = self.limit + gain * (1.0 - took / allowed);
        // Even if the API can do no more than now, all answers should come in time.
        let safe = (load as f64 * self.safe_part() / took).max(load as f64 + 1.0);
        self.limit = grown.min(self.limit.max(safe)).min(self.ceiling);
        self.found_with = self.by_itself.unwrap_or(took);
    }

    /// Counts an answer for the round, and ends the round if it was the last.
    fn count(&mut self, flight: Flight, took: f64, now: Instant) {
        let expired =
            |trial: &mut Trial| now.saturating_duration_since(trial.since).as_secs_f64() > trial.took * TRIAL;
        if let Some(Trial { limit, .. }) = self.trial.take_if(expired) {
            self.set_limit(limit);
        }
        let round = &mut self.round;
        if flight.round != Some(round.number) {
            return;
        }
        round.answers += 1;
        round.took += took;
        round.load += flight.load;
        if round.sent == round.size {
            self.end_round(now);
        }
    }

    /// Ends the round and judges by it, if enough of its questions have been answered. The slowest quarter may hang.
    fn end_round(&mut self, now: Instant) {
        let Round { sent, answers, took, load, .. } = self.round;
        if answers < FEW as usize || 4 * answers < 3 * sent {
            return;
        }
        self.begin_round();
        // The first of a crowd say little about what came behind them.
        if load as f64 >= 0.6 * self.used() * answers as f64 {
            self.judge(took / answers as f64, now);
        }
    }

    /// Judges the limit by what answers take on average while many are on their way.
    fn judge(&mut self, took: f64, now: Instant) {
        // It cannot take longer by itself: it did for once, as when the API had just been started.
        if let Some(by_itself) = self.by_itself.as_mut().filter(|by_itself| took < **by_itself) {
            self.is_guess |= took < *by_itself / 2.0;
            *by_itself = took;
        }
        let mut is_saturated = false;
        if let Some(Trial { limit, used, took: before, .. }) = self.trial.take() {
            // Were it for the load, they would take as much less as fewer are asked. Where answers are late, several
            // brokers may share the API, and each but adds to what the others cause.
            let expected = (self.limit / used).min(1.0);
            let tolerance = if took > self.timeout / 4.0 { TOLERANCE_WHEN_LATE } else { TOLERANCE };
            let least = before * (expected + (1.0 - expected) * tolerance);
            // If they take much longer than before, something else has happened.
            if (least..1.5 * before).contains(&took) {
                self.by_itself = Some(took);
                self.set_limit(limit);
                return;
            }
            is_saturated = self.is_guess;
        }
        // Of few it would be hard to tell whether fewer make a difference.
        let used = self.used();
        let can_be_less = used >= 1.5 * self.floor();
        if can_be_less && (took > self.allowed() || is_saturated) {
            self.trial = Some(Trial { since: now, limit: self.limit, used, took });
            self.set_limit(used / 2.0);
        }
    }

    /// How many are asked at a time.
    fn used(&self) -> f64 {
        self.limit.min(self.peak)
    }

    /// Sets the limit within its bounds, and begins a round.
    fn set_limit(&mut self, limit: f64) {
        if limit < self.limit {
            self.is_opening = false;
            self.lowered = self.events;
        }
        self.limit = limit.max(self.floor()).min(self.ceiling);
        self.begin_round();
    }

    fn begin_round(&mut self) {
        let size = (self.used() as usize / 2).max(FEW as usize);
        self.round = Round { number: self.round.number + 1, size, sent: 0, answers: 0, took: 0.0, load: 0 };
    }

    /// The longest that an answer may take, in seconds, before it counts as slow.
    fn allowed(&self) -> f64 {
        let Some(by_itself) = self.by_itself else { return f64::MAX };
        // Twice as long means that there waits as much as is worked on. Where that would be close to the time-out, less
        // has to do.
        let twice = (2.0 * by_itself).min((self.timeout / 4.0).max(1.25 * by_itself));
        twice.max(UNNOTICED.min(self.timeout / 8.0))
    }

    /// How many an API that does one after the other would answer in time.
    fn safe(&self) -> f64 {
        (self.safe_part() / self.by_itself.unwrap_or(SHORTEST)).max(1.0)
    }

    fn safe_part(&self) -> f64 {
        SAFE_PART * self.timeout
    }

    fn floor(&self) -> f64 {
        FEW.min(self.safe()).min(self.ceiling)
    }
}

#[cfg(test)]
mod tests;
