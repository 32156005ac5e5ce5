//! Whether the API is believed when it is asked again, after a SIGHUP, about all who are connected, and refuses some.
//!
//! If the API refuses everybody, it probably refuses the broker, for example because the token has expired that the broker
//! shows. So refusals take effect only once the API has allowed somebody, or has answered about all and refused few. Until that
//! is known only few are asked about at a time, drawn at random, and all of their answers are waited for: neither who came
//! first nor who is refused fastest decides whom to believe. After [`TOO_MANY`] refusals and no allow, the API is not believed,
//! and not asked any further. If this SIGHUP has changed how the API is asked, even one refusal without an allow is not
//! believed, since the file may have lost the token; the next SIGHUP without a change settles it.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::plugin::leaving::Leaving;
use crate::plugin::sessions::SessionName;
use crate::question::{Answer, Grounds, Verdict};
use crate::util::Lock;

/// Credentials that are refused in a round, before anybody was allowed, from which on it is not believed. Those that many
/// sessions share count once: they have one answer.
const TOO_MANY: usize = 20;

/// Answers after which the others that are on their way are not waited for, where the broker never ticks and all are asked
/// about at once.
const ENOUGH: usize = 10 * TOO_MANY;

/// The longest time between two sessions of one round: the broker goes through them without waiting for anything.
pub const PAUSE: Duration = Duration::from_secs(1);

/// The first number of a question. Below are those of the tickets of parked clients, who may wait for the same answer.
const FIRST_NUMBER: u64 = 1 << 63;

/// What an answer changes.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing yet.
    None,
    /// Somebody has to go by now.
    SomebodyGoes,
    /// The API is not believed any more.
    Disbelieved,
}

/// The round of questions after a SIGHUP, and who has to leave if it is believed.
pub struct Belief {
    leaving: Arc<Leaving>,
    /// Whether anybody was refused without being told to leave yet. Spares the lock as long as that is not so.
    holds: AtomicBool,
    state: Lock<State>,
}

struct State {
    /// Those who have to leave if the API is believed, each with what it said.
    held: Vec<(SessionName, Grounds)>,
    round: Round,
}

/// The questions after one SIGHUP.
struct Round {
    number: u32,
    /// Whether the API is believed, if that is known.
    is_believed: Option<bool>,
    /// Whether the broker may still go through its sessions, and when it came to one last.
    walk_goes_on: bool,
    last: Instant,
    /// Whether the API is asked in another way than before, with other headers for example. So what it refuses may be that.
    asks_otherwise: bool,
    /// Whether it is asked about everybody.
    is_about_all: bool,
    /// Questions that have no answer yet.
    awaited: usize,
    /// Whether others are still to be asked about, and whether that waits for these answers.
    more: bool,
    waits: bool,
    /// All questions.
    asked: Vec<(Fingerprint, u64)>,
    /// The credentials that were refused while it was not known whether to believe that.
    refused: HashSet<Fingerprint, AlreadyHashed>,
}

impl Round {
    fn new(number: u32, now: Instant) -> Self {
        Self {
            number,
            is_believed: None,
            walk_goes_on: true,
            last: now,
            asks_otherwise: false,
            is_about_all: true,
            awaited: 0,
            more: false,
            waits: false,
            asked: Vec::new(),
            refused: HashSet::default(),
        }
    }

    /// Whether everybody was asked about, and nobody was allowed.
    fn has_allowed_nobody(&self, now: Instant) -> bool {
        let was_asked_about_all = !self.walk_goes_on || now.saturating_duration_since(self.last) >= PAUSE;
        self.is_believed.is_none() && self.awaited == 0 && !self.more && was_asked_about_all
    }

    /// Whether so many were refused, and nobody was allowed, that it is more likely the broker that is refused. One user may
    /// have any number of passwords, all of them taken back.
    fn has_refused_too_many(&self) -> bool {
        // The questions are kept as long as nobody was allowed.
        let has_answers = self.awaited == 0 || self.asked.len().saturating_sub(self.awaited) >= ENOUGH;
        self.is_about_all && self.is_believed.is_none() && self.refused.len() >= TOO_MANY && has_answers
    }
}

impl State {
    /// Those who were refused have to go, if everybody was asked about and it was not known whom to believe. But if the API
    /// is asked in another way, it is not believed. (Who says no in a body, to a broker that may ask, is.)
    fn settle(&mut self, leaving: &Leaving, now: Instant) -> Change {
        if self.round.has_refused_too_many() {
            return self.disbelieve();
        }
        if self.round.has_allowed_nobody(now) {
            let is_plain =
                |(_, grounds): &(SessionName, Grounds)| matches!(grounds, Grounds::Status(401 | 403));
            let Round { asks_otherwise, is_about_all, .. } = self.round;
            if asks_otherwise && is_about_all && !self.held.is_empty() && self.held.iter().all(is_plain) {
                return self.disbelieve();
            }
            leaving.add(self.held.drain(..));
        }
        if leaving.any() { Change::SomebodyGoes } else { Change::None }
    }

    fn disbelieve(&mut self) -> Change {
        self.round.is_believed = Some(false);
        self.held.clear();
        Change::Disbelieved
    }
}

impl Belief {
    /// Nobody was refused.
    pub fn new(leaving: Arc<Leaving>, now: Instant) -> Self {
        let state = State { held: Vec::new(), round: Round::new(0, now) };
        Self { leaving, holds: AtomicBool::new(false), state: Lock::new(state) }
    }

    /// Begins a round. If it asks about everybody, that includes whoever was refused in the one before. If not, what is
    /// still to come of that one counts in this, too. `asks_otherwise`: since this reload the API is asked in another way.
    pub fn begin(&self, number: u32, asks_about_all: bool, asks_otherwise: bool, now: Instant) {
        let state = &mut *self.state.lock();
        let is_open = state.round.awaited > 0 || !state.held.is_empty();
        // A broker may reload twice before it comes to its sessions, and an API may have answered nothing.
        let is_unsettled = state.round.is_believed.is_none()
            && (!state.round.has_allowed_nobody(now) || !state.round.asked.is_empty());
        let asks_otherwise = asks_otherwise || (state.round.asks_otherwise && is_unsettled);
        if !asks_about_all && is_open && state.round.is_believed != Some(false) {
            (state.round.walk_goes_on, state.round.last) = (true, now);
            state.round.asks_otherwise = asks_otherwise;
            return;
        }
        state.round = Round { asks_otherwise, is_about_all: asks_about_all, ..Round::new(number, now) };
        state.held.clear();
        self.note(state);
    }

    /// Counts a question of the round: `None` if the API is not believed, so that asking is in vain. Otherwise the
    /// round, and the number by which the question may be given up.
    pub fn ask(&self, key: Fingerprint, now: Instant) -> Option<(u32, u64)> {
        let round = &mut self.state.lock().round;
        if round.is_believed == Some(false) {
            return None;
        }
        let number = FIRST_NUMBER + round.asked.len() as u64;
        round.asked.push((key, number));
        round.awaited += 1;
        round.last = now;
        Some((round.number, number))
    }

    /// A question of a round could not be asked.
    pub fn not_asked(&self, round: u32) {
        let state = &mut *self.state.lock();
        if state.round.number == round {
            state.round.awaited = state.round.awaited.saturating_sub(1);
        }
    }

    /// How many are to be asked about next, drawn at random, as long as it is not known whom to believe: as many as were so
    /// far, since many may have the same credentials, or no answer.
    pub fn few(&self) -> Option<usize> {
        let round = &self.state.lock().round;
        round.is_believed.is_none().then_some(round.asked.len().max(TOO_MANY))
    }

    /// Others are still to be asked about. Returns whether that waits until [`Self::take_resume`] says so.
    pub fn pause_asking(&self) -> bool {
        let round = &mut self.state.lock().round;
        round.more = true;
        round.waits = round.is_believed.is_none() && round.awaited > 0;
        round.waits
    }

    /// Whether others, who waited for it, are to be asked about now. Says so once.
    pub fn take_resume(&self) -> bool {
        let round = &mut self.state.lock().round;
        let goes_on = round.waits && (round.is_believed.is_some() || round.awaited == 0);
        round.waits &= !goes_on;
        goes_on
    }

    /// Takes the answer to a question of a round.
    pub fn answered(&self, round: u32, session: SessionName, answer: &Answer, now: Instant) -> Change {
        let state = &mut *self.state.lock();
        // In a new round it is asked about once more.
        if state.round.number != round {
            return Change::None;
        }
        state.round.awaited = state.round.awaited.saturating_sub(1);
        if state.round.is_believed == Some(false) {
            return Change::None;
        }
        match *answer {
            Answer::Verdict { verdict: Verdict::Allow, .. } => {
                state.round.is_believed = Some(true);
                state.round.asked = Vec::new();
                self.leaving.add(state.held.drain(..));
            }
            Answer::Verdict { grounds, .. } if !grounds.is_about_the_client() => {}
            Answer::Verdict { grounds, .. } if state.round.is_believed.is_some() => {
                self.leaving.add([(session, grounds)]);
            }
            Answer::Verdict { grounds, .. } => {
                state.round.refused.insert(session.credentials);
                state.held.push((session, grounds));
            }
            Answer::None(_) => {}
        }
        self.settled(state, now)
    }

    /// Whether those who were refused have to go by now, although nobody was allowed.
    pub fn settle(&self, now: Instant) -> Change {
        self.settled(&mut self.state.lock(), now)
    }

    fn settled(&self, state: &mut State, now: Instant) -> Change {
        let change = state.settle(&self.leaving, now);
        self.note(state);
        change
    }

    /// The broker has gone through all sessions.
    pub fn all_were_asked(&self, now: Instant) -> Change {
        let state = &mut *self.state.lock();
        (state.round.walk_goes_on, state.round.more) = (false, false);
        self.settled(state, now)
    }

    /// The questions of a round in which the API is not believed.
    pub fn in_vain(&self) -> Vec<(Fingerprint, u64)> {
        let round = &mut self.state.lock().round;
        if round.is_believed == Some(false) { mem::take(&mut round.asked) } else { Vec::new() }
    }

    /// Whether anybody has to leave, or will if the API is believed. Costs two loads.
    pub fn any(&self) -> bool {
        self.holds.load(Ordering::Acquire) || self.leaving.any()
    }

    fn note(&self, state: &State) {
        self.holds.store(!state.held.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprinter;
    use crate::question::NoAnswer;

    const REFUSED: Answer = Answer::verdict(Verdict::Deny, Grounds::Status(403));
    const ALLOWED: Answer = Answer::verdict(Verdict::Allow, Grounds::Status(200));

    fn key_of(username: &str) -> Fingerprint {
        Fingerprinter::with_key(&[0; 16]).credentials(username, b"p")
    }

    fn key() -> Fingerprint {
        key_of("u")
    }

    fn session(n: usize) -> SessionName {
        let (client_id, username) = (n.to_string(), n.to_string());
        SessionName { connection: n, client_id, credentials: key_of(&username), username, address: None }
    }

    fn nobody(now: Instant) -> Belief {
        Belief::new(Arc::default(), now)
    }

    /// Asks about so many sessions, and then gives these answers about the first ones.
    fn round(asked: usize, answers: &[Answer]) -> (Belief, Vec<Change>) {
        let now = Instant::now();
        let belief = nobody(now);
        belief.begin(1, true, false, now);
        for _ in 0..asked {
            assert!(belief.ask(key(), now).is_some());
        }
        let _ = belief.all_were_asked(now);
        let answered = |(n, answer)| belief.answered(1, session(n), answer, now);
        let changes = answers.iter().enumerate().map(answered).collect();
        (belief, changes)
    }

    fn gone(belief: &Belief) -> usize {
        belief.leaving.take(|_| true).len()
    }

    #[test]
    fn few_who_are_all_refused_go_once_all_were_asked_about() {
        let (belief, changes) = round(3, &[REFUSED, REFUSED]);
        assert_eq!((changes.last(), gone(&belief)), (Some(&Change::None), 0));
        let (belief, changes) = round(3, &[REFUSED, REFUSED, REFUSED]);
        assert_eq!((changes.last(), gone(&belief)), (Some(&Change::SomebodyGoes), 3));
        assert!(!belief.any());
    }

    #[test]
    fn who_is_refused_goes_as_soon_as_somebody_is_allowed() {
        let (belief, _) = round(100, &[REFUSED, ALLOWED]);
        assert_eq!(gone(&belief), 1);
        let many = [&[ALLOWED][..], &[const { REFUSED }; 50]].concat();
        assert_eq!(gone(&round(100, &many).0), 50);
    }

    #[test]
    fn nobody_goes_if_everybody_is_refused() {
        let (belief, changes) = round(TOO_MANY, &[const { REFUSED }; TOO_MANY]);
        assert_eq!(changes.iter().filter(|change| **change == Change::Disbelieved).count(), 1);
        assert_eq!(changes[TOO_MANY - 1], Change::Disbelieved);
        assert_eq!((gone(&belief), belief.in_vain().len()), (0, TOO_MANY));
        assert!(belief.ask(key(), Instant::now()).is_none());
        // Where more were asked about at once, their answers are waited for, but not without end.
        let (belief, changes) = round(2 * ENOUGH, &[const { REFUSED }; 2 * ENOUGH]);
        let at = changes.iter().position(|change| *change == Change::Disbelieved);
        assert_eq!((at, gone(&belief), belief.in_vain().len()), (Some(ENOUGH - 1), 0, 2 * ENOUGH));
    }

    /// Refusals may come faster than allows.
    #[test]
    fn who_is_refused_first_does_not_decide_whom_to_believe() {
        let answers = [&[const { REFUSED }; 2 * TOO_MANY][..], &[ALLOWED]].concat();
        let (belief, changes) = round(answers.len(), &answers);
        assert!(!changes.contains(&Change::Disbelieved));
        assert_eq!(gone(&belief), 2 * TOO_MANY);
    }

    #[test]
    fn others_are_asked_about_when_the_first_were_answered() {
        let now = Instant::now();
        let belief = nobody(now);
        belief.begin(1, true, false, now);
        (0..3).for_each(|_| assert!(belief.ask(key(), now).is_some()));
        assert!(belief.pause_asking() && !belief.take_resume() && belief.few() == Some(TOO_MANY));
        for n in 0..3 {
            // Nobody goes before the others were asked about, however long that takes.
            assert_eq!(belief.answered(1, session(n), &REFUSED, now + 2 * PAUSE), Change::None);
            assert_eq!((belief.take_resume(), belief.take_resume()), (n == 2, false));
        }
        assert!(belief.ask(key(), now).is_some());
        assert_eq!(belief.all_were_asked(now), Change::None);
        assert_eq!(belief.answered(1, session(3), &REFUSED, now), Change::SomebodyGoes);
        assert_eq!(gone(&belief), 4);
        // Once somebody was allowed nobody waits.
        let (belief, _) = round(2, &[ALLOWED]);
        assert!(belief.few().is_none() && !belief.pause_asking());
    }

    /// A reload has changed how the API is asked, and then these answers come, to a question for each.
    fn asked_otherwise(answers: &[Answer]) -> (Belief, Vec<Change>) {
        let now = Instant::now();
        let belief = nobody(now);
        belief.begin(1, true, true, now);
        // The broker may reload once more before it comes to its sessions.
        belief.begin(2, true, false, now);
        answers.iter().for_each(|_| assert!(belief.ask(key(), now).is_some()));
        let _ = belief.all_were_asked(now);
        let answered = |(n, answer)| belief.answered(2, session(n), answer, now);
        let changes = answers.iter().enumerate().map(answered).collect();
        (belief, changes)
    }

    #[test]
    fn nobody_goes_if_the_api_is_asked_otherwise_and_allows_nobody() {
        for few in 1..=3 {
            let (belief, mut changes) = asked_otherwise(&[const { REFUSED }; 3][..few]);
            assert_eq!((changes.pop(), gone(&belief)), (Some(Change::Disbelieved), 0));
            assert!(changes.iter().all(|change| *change == Change::None));
            // Without a change the next reload settles it.
            assert_eq!(about_one(&belief, (3, true, false), &REFUSED), Change::SomebodyGoes);
            assert_eq!(gone(&belief), 1);
        }
    }

    #[test]
    fn who_is_refused_goes_if_the_api_that_is_asked_otherwise_knows_somebody() {
        assert_eq!(gone(&asked_otherwise(&[REFUSED, ALLOWED, REFUSED]).0), 2);
        // It says so in a body, which it would not do to a broker that may not ask.
        let in_body = Answer::verdict(Verdict::Deny, Grounds::BodyDenies);
        assert_eq!(gone(&asked_otherwise(&[REFUSED, in_body]).0), 2);
    }

    /// A whole round about one session.
    fn about_one(
        belief: &Belief,
        (number, is_about_all, asks_otherwise): (u32, bool, bool),
        answer: &Answer,
    ) -> Change {
        let now = Instant::now();
        belief.begin(number, is_about_all, asks_otherwise, now);
        assert!(belief.ask(key(), now).is_some());
        assert_eq!(belief.answered(number, session(0), answer, now), Change::None);
        belief.all_were_asked(now)
    }

    /// A command that asks about one user says whom to believe: the API lets others in meanwhile, or not.
    #[test]
    fn who_alone_is_asked_about_and_refused_goes() {
        let belief = nobody(Instant::now());
        assert_eq!(about_one(&belief, (1, false, true), &REFUSED), Change::SomebodyGoes);
        assert_eq!(gone(&belief), 1);
    }

    /// Whose passwords are tokens can have any number of them.
    #[test]
    fn who_alone_is_asked_about_goes_however_many_passwords_it_has() {
        let now = Instant::now();
        let belief = nobody(now);
        belief.begin(1, false, false, now);
        let many = 2 * TOO_MANY as u64;
        for _ in 0..many {
            assert!(belief.ask(key(), now).is_some());
        }
        for number in 0..many {
            assert_eq!(belief.answered(1, session(number as _), &REFUSED, now), Change::None);
        }
        assert_eq!(belief.all_were_asked(now), Change::SomebodyGoes);
        assert_eq!(gone(&belief), many as usize);
    }

    #[test]
    fn where_nothing_was_answered_the_next_reload_still_asks_otherwise() {
        let belief = nobody(Instant::now());
        assert_eq!(about_one(&belief, (1, true, true), &Answer::None(NoAnswer::Busy)), Change::None);
        assert_eq!(about_one(&belief, (2, true, false), &REFUSED), Change::Disbelieved);
        assert_eq!(gone(&belief), 0);
    }

    /// A broker without ticks says nothing of having come to the end.
    #[test]
    fn time_settles_it_where_the_broker_never_ticks() {
        for asks_otherwise in [false, true] {
            let now = Instant::now();
            let belief = nobody(now);
            belief.begin(1, true, asks_otherwise, now);
            assert!(belief.ask(key(), now).is_some());
            assert_eq!(belief.answered(1, session(0), &REFUSED, now), Change::None);
            assert_eq!(belief.settle(now + PAUSE / 2), Change::None);
            let expected = if asks_otherwise { Change::Disbelieved } else { Change::SomebodyGoes };
            assert_eq!(belief.settle(now + PAUSE), expected);
            assert_eq!(gone(&belief), usize::from(!asks_otherwise));
        }
    }

    #[test]
    fn sessions_that_share_credentials_are_one_refusal() {
        let now = Instant::now();
        let (belief, _) = round(2 * TOO_MANY, &[]);
        for n in 0..2 * TOO_MANY {
            let session = SessionName { credentials: key(), ..session(n) };
            assert_ne!(belief.answered(1, session, &REFUSED, now), Change::Disbelieved);
        }
        assert_eq!(gone(&belief), 2 * TOO_MANY);
    }

    #[test]
    fn an_answer_of_the_round_before_counts_no_more() {
        let now = Instant::now();
        let (belief, _) = round(2, &[REFUSED]);
        belief.begin(2, true, false, now);
        assert_eq!(belief.answered(1, session(1), &ALLOWED, now), Change::None);
        assert_eq!(gone(&belief), 0);
    }

    #[test]
    fn an_answer_of_the_round_before_counts_if_it_was_not_about_all() {
        let now = Instant::now();
        let (belief, _) = round(2, &[REFUSED]);
        belief.begin(2, false, false, now);
        assert!(belief.ask(key(), now).is_some());
        let _ = belief.all_were_asked(now);
        assert_eq!(belief.answered(1, session(2), &REFUSED, now), Change::None, "one is still to come");
        assert_eq!(belief.answered(1, session(3), &REFUSED, now), Change::SomebodyGoes);
        assert_eq!(gone(&belief), 3);
        // Of a round that is over nothing counts.
        belief.begin(3, false, false, now);
        assert_eq!(belief.ask(key(), now).map(|(round, _)| round), Some(3));
        // Who was not believed is asked anew.
        let (belief, _) = round(TOO_MANY, &[const { REFUSED }; TOO_MANY]);
        belief.begin(2, false, false, now);
        assert_eq!(belief.ask(key(), now).map(|(round, _)| round), Some(2));
    }
}
