//! What a wrong answer to many questions leads to: the address is left alone for a while, and questions of those who may
//! have caused it do not go with others.
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::fingerprint::{Fingerprint, Source};
use crate::util::{Lock, bounded, random};

/// The first pause after a wrong answer. Each further one in a row doubles it.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause: what is tried then costs few questions a second request.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Whether an address is at rest after a wrong answer. When the pause is over, one request at a time finds out whether it
/// is well.
#[derive(Default)]
pub(super) struct Rest(Lock<State>);

#[derive(Default)]
struct State {
    /// Since when answers have been wrong, how many in a row, and until when it is at rest.
    fault: Option<Fault>,
    is_tried: bool,
}

struct Fault {
    since: Instant,
    times: u32,
    until: Instant,
}

/// A request to an address that may be at rest.
pub(super) struct Visit<'a> {
    rest: &'a Rest,
    is_trial: bool,
}

impl Rest {
    /// Whether the last answer was wrong, so that one request at a time may go there at most.
    pub(super) fn has_fault(&self) -> bool {
        self.0.lock().fault.is_some()
    }

    /// Whether a request may go there.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let state = self.0.lock();
        state.fault.as_ref().is_none_or(|fault| !state.is_tried && fault.until <= now)
    }

    /// Sends a request there, if one may go.
    pub(super) fn visit(&self, now: Instant) -> Option<Visit<'_>> {
        let state = &mut *self.0.lock();
        let is_trial = match &state.fault {
            Some(fault) if state.is_tried || now < fault.until => return None,
            fault => fault.is_some(),
        };
        state.is_tried |= is_trial;
        Some(Visit { rest: self, is_trial })
    }
}

impl Visit<'_> {
    /// The answer was right. If that ends the rest: how long it was.
    pub(super) fn went_well(self, now: Instant) -> Option<Duration> {
        // Otherwise it was sent before others went wrong, and says nothing about now.
        let fault = self.rest.0.lock().fault.take_if(|_| self.is_trial)?;
        Some(now.saturating_duration_since(fault.since))
    }

    /// The answer was wrong, or none, and maybe the API wants to be left alone for a certain time. If that is news: how long
    /// it will be at rest.
    pub(super) fn went_wrong(self, pause: Option<Duration>, now: Instant) -> Option<Duration> {
        let fault = &mut self.rest.0.lock().fault;
        if fault.is_some() && !self.is_trial {
            return None;
        }
        let (since, times) = fault.as_ref().map_or((now, 0), |fault| (fault.since, fault.times));
        let pause = pause.unwrap_or(PAUSE * 2_u32.pow(times.min(16))).min(LONGEST_PAUSE);
        *fault = Some(Fault { since, times: times + 1, until: now + pause });
        (times == 0).then_some(pause)
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.rest.0.lock().is_tried = false;
        }
    }
}

/// Somebody who can spoil an answer by what it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::ask) enum Party {
    /// The source that a question is asked for.
    Source(Source),
    /// The client that it is about.
    Client(Fingerprint),
}

/// Parties that are remembered for having been in a request without a right answer: those of fifty full requests, 80 bytes
/// each. The longest unused go first.
const PARTIES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// About how long the questions of such a party go alone: the first time, and each further time before it was in a request
/// that was answered. It is longer or shorter by up to half, so that those who were together come back one by one, and
/// whoever is innocent is cleared before the guilty one is back.
const APART: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(100), Duration::from_secs(10 * 60)];

/// Whose questions go alone for a while. Whoever spoils requests does so seldom then, and who was only with it is soon
/// cleared.
pub(super) struct Suspects(LruCache<Party, (usize, Instant)>);

impl Default for Suspects {
    fn default() -> Self {
        Self(bounded(PARTIES))
    }
}

impl Suspects {
    /// Whether questions of this party go alone now.
    pub(super) fn contains(&self, party: Party, now: Instant) -> bool {
        self.0.peek(&party).is_some_and(|(_, until)| now < *until)
    }

    /// A request with questions of this party was answered.
    pub(super) fn clear(&mut self, party: Party) {
        self.0.pop(&party);
    }

    /// A request with questions of this party had no right answer.
    pub(super) fn accuse(&mut self, party: Party, now: Instant) {
        let (times, until) = self.0.get_or_insert_mut(party, || (0, now));
        // What was on its way side by side counts once.
        if *times == 0 || *until <= now {
            *until = now + APART[(*times).min(APART.len() - 1)].mul_f64(0.5 + random::fraction());
            *times += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(network: u64, username: u64) -> Party {
        Party::Source(Source { network, username })
    }

    #[test]
    fn a_wrong_answer_is_news_once_and_pauses_grow_until_a_trial_goes_well() {
        let (rest, start) = (Rest::default(), Instant::now());
        let [first, second, early] = [(); 3].map(|()| rest.visit(start).expect("it is well"));
        assert_eq!(first.went_wrong(None, start), Some(PAUSE));
        assert_eq!(second.went_wrong(None, start), None, "both were on their way");
        assert!(!rest.is_over(start) && rest.visit(start).is_none());
        assert_eq!(early.went_well(start), None, "that was sent before");
        let mut now = start + PAUSE;
        for times in 1..12 {
            assert!(rest.is_over(now) && rest.has_fault());
            let trial = rest.visit(now).expect("the pause is over");
            assert!(!rest.is_over(now) && rest.visit(now).is_none(), "one at a time");
            assert_eq!(trial.went_wrong(None, now), None);
            let pause = (PAUSE * 2_u32.pow(times)).min(LONGEST_PAUSE);
            assert!(!rest.is_over(now + pause - Duration::from_millis(1)));
            now += pause;
        }
        drop(rest.visit(now).expect("the pause is over"));
        let trial = rest.visit(now).expect("nobody knows what became of the last one");
        assert_eq!(trial.went_well(now), Some(now - start));
        assert!(rest.visit(now).is_some() && rest.visit(now).is_some());
    }

    #[test]
    fn the_api_may_say_how_long_it_wants_to_be_left_alone() {
        let (rest, now) = (Rest::default(), Instant::now());
        let pause = Duration::from_secs(7);
        assert_eq!(rest.visit(now).unwrap().went_wrong(Some(pause), now), Some(pause));
        assert!(!rest.is_over(now + PAUSE) && rest.is_over(now + pause));
    }

    #[test]
    fn who_was_in_a_request_that_failed_goes_alone_until_his_time_or_another_request_clears_him() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        let (evil, innocent) = (party(1, 1), party(1, 2));
        let mut now = start;
        for apart in APART.into_iter().chain(APART.last().copied()) {
            assert!(!suspects.contains(evil, now));
            suspects.accuse(evil, now);
            suspects.accuse(evil, now);
            suspects.accuse(innocent, now);
            assert!(suspects.contains(evil, now) && suspects.contains(innocent, now));
            assert!(suspects.contains(evil, now + apart.mul_f64(0.49)));
            now += apart.mul_f64(1.5);
            suspects.clear(innocent);
            assert!(!suspects.contains(innocent, now));
        }
        (0..20_000).for_each(|n| suspects.accuse(party(2, n), now));
        assert_eq!(suspects.0.len(), PARTIES.get());
    }

    /// Readers who are always asked about together, one of whom spoils the request, for two hours.
    #[test]
    fn whoever_spoils_requests_does_so_ever_more_seldom_and_soon_goes_alone() {
        const READERS: u64 = 100;
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        let (mut spoilt, mut alone, mut late) = (0, 0, 0);
        for second in 0..7_200 {
            let now = start + Duration::from_secs(second);
            let (apart, together): (Vec<_>, Vec<_>) =
                (0..READERS).map(|name| party(1, name)).partition(|reader| suspects.contains(*reader, now));
            let spoiler = party(1, 0);
            alone += apart.iter().filter(|reader| **reader != spoiler).count();
            if together.contains(&spoiler) {
                spoilt += 1;
                late += usize::from(second > 600);
                together.iter().for_each(|reader| suspects.accuse(*reader, now));
            } else {
                together.iter().for_each(|reader| suspects.clear(*reader));
            }
        }
        assert!(spoilt <= 30 && late <= 24, "{spoilt} times, {late} of them after ten minutes");
        let share = alone as f64 / (7_200.0 * READERS as f64);
        assert!(share < 0.1, "the others were asked about alone {share} of the time");
    }
}
