//! How well guesses have done, by where they came from. Each wrong one costs the API a question, so where most are wrong
//! no more are made: what clients send there is not what the broker asks about (a mount point, for instance), or
//! somebody leads the plugin astray.
//!
//! A guess needs a point of its listener and a point of its peer at that listener. One peer that has used up its own has
//! taken a third of its listener's at most, so the others go on. Both regain points: by right guesses, and slowly with
//! time.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::fingerprint::Fingerprint;
use crate::question::Kind;
use crate::util::bounded;

/// Points that a right guess earns, so that one in so many must be right.
const EARNED: u32 = 10;

/// How the points of one kind of place go.
#[derive(Debug, PartialEq, Eq)]
struct Limits {
    /// Points to begin with, and the most that time gives back.
    start: u32,
    /// The most that there can be.
    most: u32,
    /// How long time takes for one point.
    regain: Duration,
}

/// Peers begin with a burst of what one look into the sockets finds of a fleet behind one address. Six of them that are
/// always wrong take all that a listener regains.
const PEER: Limits = Limits { start: 200, most: 5_000, regain: Duration::from_secs(60) };

/// Where all guesses are wrong, six questions a minute are asked in vain, which is less than one client's refreshes cost;
/// and a listener that did well before is back after two hours at most, or as soon as some are right.
const LISTENER: Limits = Limits { start: 600, most: 15_000, regain: Duration::from_secs(10) };

/// Peers that are remembered; the longest unused go first. Whoever has more addresses than that still has no more points
/// than the listener.
const PEERS: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// Where a guess comes from. Where logins are guessed right, topics need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Which listener, as an index.
    pub listener: u16,
    /// What was guessed.
    pub kind: Kind,
    /// The network of the peer.
    pub peer: Fingerprint,
}

#[derive(Debug, Clone, Copy)]
struct Score {
    points: u32,
    /// Until when time has been counted.
    counted: Instant,
}

impl Score {
    fn new(limits: &Limits, now: Instant) -> Self {
        Self { points: limits.start, counted: now }
    }

    /// Counts the time that has passed.
    fn at(mut self, limits: &Limits, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.counted).as_millis() / limits.regain.as_millis();
        let regained = u32::try_from(passed).unwrap_or(limits.start).min(limits.start);
        if self.points < limits.start {
            self.points = limits.start.min(self.points + regained);
        }
        self.counted = if regained < limits.start { self.counted + limits.regain * regained } else { now };
        self
    }

    fn earn(&mut self, limits: &Limits) {
        self.points = limits.most.min(self.points + EARNED);
    }
}

/// The points of all listeners and peers.
pub struct Scores {
    /// One for each listener and kind of guess.
    listeners: HashMap<(u16, Kind), Score>,
    peers: LruCache<Origin, Score>,
}

impl Scores {
    /// Everybody has the points to begin with.
    pub fn new() -> Self {
        Self { listeners: HashMap::new(), peers: bounded(PEERS) }
    }

    /// Whether one more guess may be made there.
    pub fn allow(&self, origin: Origin, now: Instant) -> bool {
        self.allow_beside(0, origin, now)
    }

    /// Whether one more guess may be made there, if so many points are left for others.
    pub fn allow_beside(&self, reserve: u32, origin: Origin, now: Instant) -> bool {
        let has = |score: Option<&Score>, limits: &Limits| {
            score.map_or(limits.start, |score| score.at(limits, now).points) > reserve
        };
        has(self.listeners.get(&(origin.listener, origin.kind)), &LISTENER)
            && has(self.peers.peek(&origin), &PEER)
    }

    /// A guess was made at this origin.
    pub fn guessed(&mut self, origin: Origin, now: Instant) {
        for (score, limits) in self.both(origin, now) {
            *score = score.at(limits, now);
            score.points = score.points.saturating_sub(1);
        }
    }

    /// A guess at this origin was right.
    pub fn confirmed(&mut self, origin: Origin) {
        if let Some(score) = self.listeners.get_mut(&(origin.listener, origin.kind)) {
            score.earn(&LISTENER);
        }
        if let Some(score) = self.peers.get_mut(&origin) {
            score.earn(&PEER);
        }
    }

    fn both(&mut self, origin: Origin, now: Instant) -> [(&mut Score, &'static Limits); 2] {
        let of_listener = self.listeners.entry((origin.listener, origin.kind));
        let of_peer = self.peers.get_or_insert_mut(origin, || Score::new(&PEER, now));
        [(of_listener.or_insert_with(|| Score::new(&LISTENER, now)), &LISTENER), (of_peer, &PEER)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::{Domain, Fingerprinter};

    fn origin(listener: u16, peer: u32) -> Origin {
        let peer = Fingerprinter::with_key(&[3; 16]).fields(Domain::Network, [&peer.to_be_bytes()]);
        Origin { listener, kind: Kind::Access, peer }
    }

    /// Guesses as long as it may, and says how often.
    fn use_up(scores: &mut Scores, origin: Origin, now: Instant) -> u32 {
        let mut count = 0;
        while scores.allow(origin, now) {
            scores.guessed(origin, now);
            count += 1;
        }
        count
    }

    #[test]
    fn one_peer_costs_the_others_nothing() {
        let (mut scores, now) = (Scores::new(), Instant::now());
        assert_eq!(use_up(&mut scores, origin(1883, 0), now), PEER.start);
        assert!(scores.allow(origin(1883, 1), now));
        // Not even if it goes on whenever it may, for a month.
        let mut later = now;
        for _ in 0..30 * 24 * 60 {
            later += Duration::from_secs(60);
            use_up(&mut scores, origin(1883, 0), later);
            assert!(scores.allow(origin(1883, 1), later));
        }
        let other = Origin { kind: Kind::Connect, ..origin(1883, 0) };
        assert!(
            scores.allow(other, now) && scores.allow(origin(8883, 0), now),
            "other kinds, other listeners"
        );
    }

    #[test]
    fn a_listener_whose_guesses_are_all_wrong_is_asked_about_at_a_trickle() {
        const HOURS: u32 = 10;
        let (mut scores, mut now) = (Scores::new(), Instant::now());
        let all = |scores: &mut Scores, now| -> u32 {
            (0..100).map(|peer| use_up(scores, origin(1, peer), now)).sum()
        };
        assert_eq!(all(&mut scores, now), LISTENER.start);
        let mut trickle = 0;
        for _ in 0..HOURS * 3600 {
            now += Duration::from_secs(1);
            trickle += all(&mut scores, now);
        }
        assert_eq!(trickle, HOURS * 360);
    }

    #[test]
    fn one_right_guess_in_ten_is_enough() {
        let (mut scores, now) = (Scores::new(), Instant::now());
        let mut guess = |count| {
            for _ in 0..count {
                assert!(scores.allow(origin(1, 1), now));
                (0..EARNED).for_each(|_| scores.guessed(origin(1, 1), now));
                scores.confirmed(origin(1, 1));
            }
        };
        guess(10_000);
    }

    #[test]
    fn who_did_well_for_long_is_stopped_all_the_same() {
        let (mut scores, now) = (Scores::new(), Instant::now());
        for _ in 0..10_000 {
            scores.guessed(origin(1, 1), now);
            scores.confirmed(origin(1, 1));
        }
        assert_eq!(use_up(&mut scores, origin(1, 1), now), PEER.most);
        assert!(scores.allow(origin(1, 2), now));
    }

    #[test]
    fn time_gives_back_no_more_than_there_was_to_begin_with() {
        let (mut scores, now) = (Scores::new(), Instant::now());
        use_up(&mut scores, origin(1, 1), now);
        assert!(!scores.allow(origin(1, 1), now + PEER.regain / 2));
        assert!(scores.allow(origin(1, 1), now + PEER.regain));
        assert_eq!(use_up(&mut scores, origin(1, 1), now + 5 * PEER.regain / 2), 2);
        assert_eq!(
            use_up(&mut scores, origin(1, 1), now + 3 * PEER.regain),
            1,
            "the rest of a point is kept"
        );
        assert_eq!(use_up(&mut scores, origin(1, 1), now + Duration::from_secs(365 * 24 * 3600)), PEER.start);
    }

    #[test]
    fn peers_that_come_and_go_fill_no_memory() {
        let (mut scores, now) = (Scores::new(), Instant::now());
        (0..30_000).for_each(|peer| scores.guessed(origin(1, peer), now));
        assert_eq!(scores.peers.len(), PEERS.get());
    }
}
