//! A circuit breaker: an API that does not answer is not asked for a while, and questions to it are refused at once.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

mod asked_for;
mod pauses;

use super::known_names::KnownNames;
use crate::config::BreakerLimits;
use crate::fingerprint::Source;
use crate::util::{Lock, random};
pub use asked_for::AskedFor;
use asked_for::Level;
use pauses::Pauses;
pub use pauses::{Paused, PausedBy};

/// How many of the last questions count.
const RECENT: usize = 20;

/// How long a question counts.
const RECENTLY: Duration = Duration::from_secs(60);

/// The breaker of one endpoint.
pub struct Breaker {
    settings: BreakerLimits,
    /// The names that the API has allowed something.
    known: Arc<KnownNames>,
    /// Whether the breaker is closed and no pause was asked for. Spares the lock as long as that is so.
    is_clear: AtomicBool,
    state: Lock<State>,
}

struct State {
    /// The outcomes of the last questions, and when they ended.
    recent: VecDeque<(Instant, Outcome)>,
    /// Set while the breaker is open.
    open: Option<Open>,
    /// When the breaker closed last, and the pause that it begins with if it opens again soon.
    closed: Option<(Instant, Duration)>,
    /// What the API has asked for (429).
    pauses: Pauses,
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was answered, with whatever status.
    Answered(AskedFor),
    /// No connection came about: nothing that a client says can cause that.
    Unreachable,
    /// The request was sent, and nothing came back.
    Silent(AskedFor),
}

/// An open breaker's times.
struct Open {
    /// When it opened.
    since: Instant,
    /// When the API is probed next.
    next_probe: Instant,
    /// The pause before that probe, without its random part.
    pause: Duration,
    /// Whether the probes should not go on with the questions that they have.
    wants_question: bool,
    /// Whom the API was silent to: questions of others are asked nevertheless.
    extent: Extent,
}

/// Whom an open breaker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// The network that alone the API was silent to.
    only_network: Option<u64>,
    /// Only for names that the API has allowed nothing: it was silent to those, and not to others. Anybody can make up such
    /// names, and addresses, too.
    only_strangers: bool,
}

impl Extent {
    fn includes(&self, source: Source, known: &KnownNames) -> bool {
        self.only_network.is_none_or(|only| only == source.network)
            && !(self.only_strangers && known.contains(source.username))
    }

    /// Whether it is for everybody. As long as the API has allowed nobody anything, all are strangers.
    fn is_everybody(&self, known: &KnownNames) -> bool {
        self.only_network.is_none() && !self.spares_known(known)
    }

    fn spares_known(&self, known: &KnownNames) -> bool {
        self.only_strangers && known.is_anybody()
    }
}

/// What to do with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Ask it.
    Ask,
    /// Do not ask it.
    Refuse,
    /// Do not ask it, but keep it to probe the API with.
    RefuseAndKeep,
}

/// The breaker has opened: questions are refused from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Recent questions without an answer, as they are counted.
    pub unanswered: usize,
    /// All recent questions that were counted.
    pub of: usize,
    /// Whether it is for names only that the API has allowed nothing, and there are others.
    pub only_strangers: bool,
    /// The pause before the first probe, without its random part.
    pub pause: Duration,
    /// When that was: the probes are for this opening.
    pub since: Instant,
}

impl Breaker {
    /// A closed breaker of an API that has allowed these names something.
    pub fn new(settings: BreakerLimits, known: Arc<KnownNames>) -> Self {
        let recent = VecDeque::with_capacity(RECENT);
        let state = State { recent, open: None, closed: None, pauses: Pauses::default() };
        Self { settings, known, is_clear: AtomicBool::new(true), state: Lock::new(state) }
    }

    /// Whether a question may be asked now.
    pub fn admit(&self, asked_for: AskedFor, now: Instant) -> Admission {
        if self.is_clear.load(Ordering::Acquire) {
            return Admission::Ask;
        }
        let mut state = self.state.lock();
        if let Some(open) = state.open.as_mut().filter(|open| self.is_for(open, asked_for.source)) {
            let is_kept = std::mem::take(&mut open.wants_question);
            return if is_kept { Admission::RefuseAndKeep } else { Admission::Refuse };
        }
        if state.pauses.are_for(asked_for, &self.known, now) {
            return Admission::Refuse;
        }
        self.is_clear.store(state.open.is_none() && state.pauses.are_over(now), Ordering::Release);
        Admission::Ask
    }

    fn is_for(&self, open: &Open, source: Source) -> bool {
        open.extent.includes(source, &self.known)
    }

    /// Whether a question from there would be refused now.
    pub fn refuses(&self, source: Source, now: Instant) -> bool {
        self.would_refuse(|extent| extent.includes(source, &self.known), now).is_some()
    }

    /// Whether a question from there would be refused now, and is not even wanted to probe with.
    pub fn has_no_use_for(&self, source: Source, now: Instant) -> bool {
        self.would_refuse(|extent| extent.includes(source, &self.known), now) == Some(Admission::Refuse)
    }

    /// Whether any question would be refused now, wherever it comes from.
    pub fn refuses_all(&self, now: Instant) -> bool {
        self.would_refuse(|extent| extent.is_everybody(&self.known), now).is_some()
    }

    fn would_refuse(&self, is_meant: impl Fn(&Extent) -> bool, now: Instant) -> Option<Admission> {
        if self.is_clear.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock();
        match &state.open {
            Some(open) if is_meant(&open.extent) && open.wants_question => Some(Admission::RefuseAndKeep),
            Some(open) if is_meant(&open.extent) => Some(Admission::Refuse),
            _ => state.pauses.common(now).filter(|extent| is_meant(extent)).map(|_| Admission::Refuse),
        }
    }

    /// A question that was sent at `sent` was answered, with whatever status: the API was there by then. If the breaker is
    /// open for one network alone, an answer to another one closes it. If it is open for strangers everywhere, an answer
    /// about a known name closes it, but not before the pause is over, so that these do not open and close it all the time.
    /// Returns how long it was open, if this has closed it.
    pub fn answered(&self, asked_for: AskedFor, sent: Instant, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock();
        // Otherwise closing is for probes: an answer to a question from before says nothing about now.
        let since = state.open.as_ref().map(|open| open.since);
        if since.is_some_and(|since| sent < since) {
            return None;
        }
        state.note(Outcome::Answered(asked_for), now);
        let open = state.open.take_if(|open| {
            let is_elsewhere = open.extent.only_network.is_some_and(|only| only != asked_for.source.network);
            let is_due = is_elsewhere || now.saturating_duration_since(open.since) >= open.pause;
            is_due && !self.is_for(open, asked_for.source)
        })?;
        self.is_clear.store(state.pauses.are_over(now), Ordering::Release);
        state.closed = Some((now, open.pause));
        Some(now.saturating_duration_since(open.since))
    }

    /// When the next probe is due, unless the breaker that opened at `since` has closed.
    pub fn next_probe(&self, since: Instant) -> Option<Instant> {
        let state = self.state.lock();
        state.open.as_ref().filter(|open| open.since == since).map(|open| open.next_probe)
    }

    /// A probe had no answer: the next one comes after a longer pause, and with another question if one comes.
    pub fn probe_failed(&self, since: Instant, now: Instant) {
        if let Some(open) = self.state.lock().open.as_mut().filter(|open| open.since == since) {
            open.pause = (open.pause * 2).min(self.longest());
            open.next_probe = now + jitter(open.pause, self.longest());
            open.wants_question = true;
        }
    }

    /// No pause is longer, its random part included. The first one is never cut.
    fn longest(&self) -> Duration {
        self.settings.longest.max(self.settings.pause)
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        !self.is_clear.load(Ordering::Acquire) && self.state.lock().open.is_some()
    }

    /// Whether the API has asked to be left alone, not only by single clients, for a while that is not over.
    pub fn is_paused(&self, now: Instant) -> bool {
        !self.is_clear.load(Ordering::Acquire) && self.state.lock().pauses.common(now).is_some()
    }

    /// Closes the breaker that opened at `since`, since its probes were answered. Returns how long it was open, or `None`
    /// if it was not.
    pub fn recovered(&self, since: Instant, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock();
        let open = state.open.take_if(|open| open.since == since)?;
        self.is_clear.store(state.pauses.are_over(now), Ordering::Release);
        state.recent.clear();
        // Longer each time, so that an API that answers now and then is not waited for most of the time.
        state.closed = Some((now, (open.pause * 2).min(self.longest())));
        Some(now.saturating_duration_since(open.since))
    }

    /// Notes that a question had no answer: no connection came about (`None`), or the request was sent, and for whom it was
    /// asked. Returns how it was counted if that opens the breaker.
    pub fn unanswered(&self, asked_for: Option<AskedFor>, now: Instant) -> Option<Opened> {
        let BreakerLimits { after, percent, pause, .. } = self.settings;
        let mut state = self.state.lock();
        let is_for_it = |open: &Open| match asked_for {
            Some(asked_for) => self.is_for(open, asked_for.source),
            None => open.extent.is_everybody(&self.known),
        };
        if state.open.as_ref().is_some_and(is_for_it) {
            return None;
        }
        state.note(asked_for.map_or(Outcome::Unreachable, Outcome::Silent), now);
        let (unanswered, of) = state.count();
        if after == 0 || unanswered < after || unanswered * 100 < of * percent {
            return None;
        }
        let only_strangers = state.only_strangers(&self.known, percent);
        let extent = Extent { only_network: state.only_network(), only_strangers };
        if state.open.as_ref().is_some_and(|open| open.extent == extent) {
            return None;
        }
        // If it opens again soon after it closed, the pauses go on from where they were.
        let pause = match state.closed {
            Some((closed, next)) if now.saturating_duration_since(closed) < RECENTLY => next,
            _ => pause,
        };
        self.is_clear.store(false, Ordering::Release);
        let next_probe = now + jitter(pause, self.longest());
        state.open = Some(Open { since: now, next_probe, pause, wants_question: true, extent });
        Some(Opened { unanswered, of, only_strangers: extent.spares_known(&self.known), pause, since: now })
    }

    /// Notes that the API wants to be left alone (429), maybe for a certain time, as it has said to this party. Returns for
    /// how long it will be and by whom, if that is news.
    pub fn back_off(
        &self,
        asked_for: AskedFor,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<Paused> {
        let state = &mut *self.state.lock();
        self.is_clear.store(false, Ordering::Release);
        let pause = state.pauses.tell(asked_for, retry_after, now);
        let is_other = |(_, outcome): &&(Instant, Outcome)| matches!(outcome, Outcome::Answered(party) if !state.pauses.was_told(*party));
        let answered = state.recent.iter().filter(is_other).count();
        let (share, several) = ((answered, self.settings.percent), state.has_several(Level::Network));
        let by = state.pauses.spread((asked_for, pause), share, several, &self.known, now)?;
        Some(Paused { pause, by })
    }
}

impl State {
    /// Adds an outcome, and drops those that are too many or too old.
    fn note(&mut self, outcome: Outcome, now: Instant) {
        self.recent.push_back((now, outcome));
        while self.recent.len() > RECENT
            || self.recent.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > RECENTLY)
        {
            self.recent.pop_front();
        }
    }

    /// How many questions of how many had no answer. Those that were sent count once for each network while others are
    /// answered, or while nobody else asks: one that makes the API hang, by names or topics that it makes up, must not
    /// take it from the others. Where all come from one network, as through a proxy, names are counted instead; and
    /// where all have one name, clients.
    fn count(&self) -> (usize, usize) {
        let wider = [Level::Network, Level::Username];
        let level = wider.into_iter().find(|level| self.has_several(*level)).unwrap_or(Level::Client);
        let mut silent_to = Vec::with_capacity(RECENT);
        let (mut answered, mut unreachable, mut silent) = (0, 0, 0);
        for (_, outcome) in &self.recent {
            match outcome {
                Outcome::Answered(_) => answered += 1,
                Outcome::Unreachable => unreachable += 1,
                Outcome::Silent(asked_for) => {
                    silent += 1;
                    let one = asked_for.on(level);
                    if !silent_to.contains(&one) {
                        silent_to.push(one);
                    }
                }
            }
        }
        let is_silent_to_all = answered == 0 && silent_to.len() >= 2;
        let unanswered = unreachable + if is_silent_to_all { silent } else { silent_to.len() };
        (unanswered, unanswered + answered)
    }

    /// The network that all recent questions came from, if there is but one.
    fn only_network(&self) -> Option<u64> {
        let is_unreachable = |(_, outcome): &(Instant, Outcome)| *outcome == Outcome::Unreachable;
        if self.has_several(Level::Network) || self.recent.iter().any(is_unreachable) {
            return None;
        }
        self.recent.iter().find_map(|(_, outcome)| match outcome {
            Outcome::Answered(asked_for) | Outcome::Silent(asked_for) => Some(asked_for.source.network),
            Outcome::Unreachable => None,
        })
    }

    /// Whether the API was silent to names only that it has allowed nothing. Of the others, one may have had no answer: two
    /// in a row, or this percentage of them, tell that it is silent to all.
    fn only_strangers(&self, known: &KnownNames, percent: usize) -> bool {
        let is_known = |asked_for: &AskedFor| known.contains(asked_for.source.username);
        let is_silent = self.recent.iter().rev().filter_map(|(_, outcome)| match outcome {
            Outcome::Unreachable => Some(true),
            Outcome::Silent(asked_for) => is_known(asked_for).then_some(true),
            Outcome::Answered(asked_for) => is_known(asked_for).then_some(false),
        });
        let (mut in_a_row, mut silent, mut all) = (0, 0, 0);
        for is_silent in is_silent {
            in_a_row += usize::from(is_silent && in_a_row == all);
            silent += usize::from(is_silent);
            all += 1;
        }
        in_a_row < 2 && (silent < 2 || silent * 100 < all * percent)
    }

    /// Whether the recent questions were asked for several on a level.
    fn has_several(&self, level: Level) -> bool {
        let mut ones = self.recent.iter().filter_map(|(_, outcome)| match outcome {
            Outcome::Answered(asked_for) | Outcome::Silent(asked_for) => Some(asked_for.on(level)),
            Outcome::Unreachable => None,
        });
        let first = ones.next();
        ones.any(|one| Some(one) != first)
    }
}

/// Makes a pause longer or shorter by up to a quarter, but not longer than the longest, so that brokers that lost the same API
/// do not all probe at once.
fn jitter(pause: Duration, longest: Duration) -> Duration {
    let (least, most) = (pause * 3 / 4, (pause * 5 / 4).min(longest));
    least + most.saturating_sub(least).mul_f64(random::fraction())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerLimits = BreakerLimits {
        after: 5,
        percent: 25,
        pause: Duration::from_secs(1),
        longest: Duration::from_secs(8),
    };

    const TIMEOUT: Duration = Duration::from_secs(2);

    /// A client of its own, of this username from this network.
    fn from(network: u64, username: u64, client: u64) -> AskedFor {
        AskedFor { source: Source { network, username }, client }
    }

    /// A client with a network, a username and a client id of its own.
    fn client(n: u64) -> Option<AskedFor> {
        Some(from(n, n, n))
    }

    /// One who was not asked for before.
    fn another() -> AskedFor {
        from(9, 9, 9)
    }

    /// It has allowed nobody anything.
    fn closed() -> Breaker {
        Breaker::new(SETTINGS, Arc::default())
    }

    fn open(now: Instant) -> Breaker {
        let breaker = closed();
        for n in 0..5 {
            breaker.unanswered(client(n), now);
        }
        breaker
    }

    #[test]
    fn an_api_that_is_silent_to_several_clients_opens_it() {
        let now = Instant::now();
        let breaker = closed();
        let opened: Vec<_> = (0..5).map(|n| breaker.unanswered(client(n), now).is_some()).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        assert_ne!(breaker.admit(another(), now), Admission::Ask);
    }

    #[test]
    fn an_api_that_is_silent_to_all_of_few_clients_opens_it() {
        let now = Instant::now();
        let breaker = closed();
        assert_eq!((0..5).filter(|n| breaker.unanswered(client(n % 2), now).is_some()).count(), 1);
    }

    #[test]
    fn an_api_that_cannot_be_reached_opens_it_also_for_one_client() {
        let now = Instant::now();
        let breaker = closed();
        assert_eq!((0..5).filter(|_| breaker.unanswered(None, now).is_some()).count(), 1);
    }

    #[test]
    fn an_api_that_hangs_on_every_third_question_opens_it() {
        let now = Instant::now();
        let breaker = closed();
        let opened = (0..20).any(|n| {
            if n % 3 == 0 {
                return breaker.unanswered(client(n), now).is_some();
            }
            breaker.answered(from(0, 0, 0), now, now);
            false
        });
        assert!(opened);
    }

    #[test]
    fn one_client_that_makes_the_api_hang_does_not() {
        let now = Instant::now();
        let breaker = closed();
        for _ in 0..1_000 {
            assert_eq!(breaker.unanswered(client(1), now), None);
        }
        assert_eq!(breaker.admit(another(), now), Admission::Ask);
    }

    #[test]
    fn names_that_one_network_makes_up_do_not_open_it_for_others() {
        let now = Instant::now();
        let breaker = closed();
        for n in 0..1_000 {
            assert_eq!(breaker.unanswered(Some(from(1, n, n)), now), None);
            breaker.answered(from(2, 0, 0), now, now);
        }
        // Nor while nobody else asks: others are asked for, and the first answer closes it.
        let breaker = closed();
        assert!((0..5).any(|n| breaker.unanswered(Some(from(1, n, n)), now).is_some()));
        assert_ne!(breaker.admit(from(1, 9, 9), now), Admission::Ask);
        assert_eq!(breaker.admit(from(2, 9, 9), now), Admission::Ask);
        assert!(breaker.answered(from(2, 9, 9), now, now).is_some());
        assert_eq!(breaker.admit(from(1, 9, 9), now), Admission::Ask);
        (0..100).for_each(|n| {
            let _ = breaker.unanswered(Some(from(1, n, n)), now);
        });
        assert_eq!(breaker.admit(from(2, 9, 9), now), Admission::Ask);
    }

    #[test]
    fn behind_one_proxy_names_are_counted_and_clients_of_one_name() {
        let now = Instant::now();
        let breaker = closed();
        assert!((0..5).any(|n| breaker.unanswered(Some(from(1, n, n)), now).is_some()));
        let breaker = closed();
        assert!((0..5).any(|n| breaker.unanswered(Some(from(1, 1, n)), now).is_some()));
    }

    #[test]
    fn an_api_that_is_silent_to_others_too_is_silent_to_all() {
        let now = Instant::now();
        let breaker = closed();
        (0..5).for_each(|n| {
            let _ = breaker.unanswered(Some(from(1, n, n)), now);
        });
        assert!((2..9).any(|n| breaker.unanswered(Some(from(n, n, n)), now).is_some()));
        assert_ne!(breaker.admit(from(77, 0, 0), now), Admission::Ask);
        assert!(breaker.refuses_all(now), "nobody is known, so all are strangers");
    }

    /// It has allowed ten names something, from these networks, and answered them just now.
    fn with_known(network: impl Fn(u64) -> u64, now: Instant) -> (Breaker, impl Fn(u64) -> AskedFor) {
        let breaker = closed();
        let device = move |n| from(network(n), n, n);
        for n in 1..=10 {
            breaker.known.note(n);
            breaker.answered(device(n), now, now);
        }
        (breaker, device)
    }

    #[test]
    fn names_and_addresses_that_are_made_up_open_it_for_such_names_only() {
        let start = Instant::now();
        // Whether honest clients and hostile ones have an address for each name, or all have the same.
        for (has_own, has_made_up) in [(false, false), (false, true), (true, true)] {
            let (breaker, device) = with_known(|n| if has_own { n } else { 1 }, start);
            let stranger = |n| Some(from(if has_made_up { n } else { 1 }, n, n));
            let opened: Vec<_> = (200..300).filter_map(|n| breaker.unanswered(stranger(n), start)).collect();
            assert!(matches!(opened[..], [Opened { only_strangers: true, .. }]), "{opened:?}");
            // Nor does it close and open all the time.
            for (now, is_open) in [(start, true), (start + SETTINGS.pause, false)] {
                for n in 1..=10 {
                    assert_eq!(breaker.admit(device(n), now), Admission::Ask);
                    assert!(!breaker.refuses_all(now));
                }
                breaker.answered(device(1), now, now);
                assert_eq!(breaker.is_open(), is_open);
                assert_eq!(breaker.admit(from(1, 999, 999), now) == Admission::Ask, !is_open);
            }
        }
    }

    #[test]
    fn an_api_that_is_silent_to_a_known_name_after_strangers_is_silent_to_all() {
        let now = Instant::now();
        let (breaker, device) = with_known(|_| 1, now);
        assert!((200..205).any(|n| breaker.unanswered(Some(from(1, n, n)), now).is_some()));
        assert_eq!(breaker.unanswered(Some(device(3)), now), None, "one may have had no answer by chance");
        let opened = breaker.unanswered(Some(device(3)), now).expect("it opens for all");
        assert!(!opened.only_strangers);
        for n in 1..=10 {
            assert_ne!(breaker.admit(device(n), now), Admission::Ask);
        }
        // As it does where no connection comes about, also from then on.
        let (breaker, device) = with_known(|_| 1, now);
        assert!((200..205).any(|n| breaker.unanswered(Some(from(1, n, n)), now).is_some()));
        assert_eq!(breaker.admit(device(1), now), Admission::Ask);
        assert!((0..5).any(|_| breaker.unanswered(None, now).is_some_and(|opened| !opened.only_strangers)));
        assert!(breaker.refuses_all(now));
        let (breaker, device) = with_known(|_| 1, now);
        assert!((0..5).any(|_| breaker.unanswered(None, now).is_some_and(|opened| !opened.only_strangers)));
        assert!(breaker.refuses_all(now) && breaker.admit(device(1), now) != Admission::Ask);
    }

    #[test]
    fn an_api_that_hangs_on_every_third_question_of_known_names_opens_it_for_them() {
        let now = Instant::now();
        let (breaker, device) = with_known(|_| 1, now);
        let opened = (0..30).find_map(|n| match n % 3 {
            0 => breaker.unanswered(Some(device(1 + n % 10)), now),
            _ => {
                breaker.answered(device(1 + n % 10), now, now);
                None
            }
        });
        assert_eq!(opened.map(|opened| opened.only_strangers), Some(false));
    }

    #[test]
    fn silence_of_long_ago_is_forgotten() {
        let mut now = Instant::now();
        let breaker = closed();
        for n in 0..100 {
            assert_eq!(breaker.unanswered(client(n), now), None);
            now += RECENTLY / 2;
        }
    }

    #[test]
    fn probes_come_after_growing_pauses_until_it_is_back() {
        let start = Instant::now();
        let mut now = start;
        let breaker = open(now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let due = breaker.next_probe(start).expect("it is open");
            pauses.push((due - now).as_secs_f64());
            now = due + TIMEOUT;
            breaker.probe_failed(start, now);
        }
        for (pause, expected) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]) {
            assert!((0.7 * expected..1.3 * expected).contains(pause), "{pauses:?}");
            assert!(*pause <= SETTINGS.longest.as_secs_f64(), "{pauses:?}");
        }
        // An answer to a question from before it opened changes nothing.
        breaker.answered(from(0, 0, 0), start - TIMEOUT, now);
        assert_eq!(breaker.admit(another(), now), Admission::RefuseAndKeep);
        assert_eq!(breaker.recovered(start, now), Some(now - start));
        assert_eq!(breaker.admit(another(), now), Admission::Ask);
        assert_eq!(breaker.next_probe(start), None);
        // And if it goes again at once, the pauses go on from where they were, and the probes of before do not.
        let opened = (0..5).find_map(|n| breaker.unanswered(client(n), now));
        assert_eq!(opened.map(|opened| opened.pause), Some(SETTINGS.longest));
        assert_eq!(breaker.next_probe(start), None);
    }

    #[test]
    fn one_question_is_kept_for_each_probe_and_the_others_are_refused_at_once() {
        let now = Instant::now();
        let breaker = open(now);
        for _ in 0..3 {
            assert!(
                breaker.refuses(another().source, now) && !breaker.has_no_use_for(another().source, now),
                "a question is wanted"
            );
            assert_eq!(breaker.admit(another(), now), Admission::RefuseAndKeep);
            assert!(breaker.has_no_use_for(another().source, now));
            assert_eq!(breaker.admit(another(), now), Admission::Refuse);
            breaker.probe_failed(now, now);
        }
    }

    #[test]
    fn after_0_never_opens() {
        let now = Instant::now();
        let breaker = Breaker::new(BreakerLimits { after: 0, ..SETTINGS }, Arc::default());
        for n in 0..100 {
            assert_eq!(breaker.unanswered(client(n), now), None);
        }
    }
}
