//! Forgetting: one verdict, all of them, or those about somebody. The latter only notes when that was: verdicts that are
//! older are as good as gone, and are removed as they are met.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::part::Part;
use super::{Cache, Slot, TICKS_PER_SECOND};
use crate::fingerprint::{About, Fingerprint, Whose};

/// Usernames and client ids that are kept, some 3 MiB. When there are more, all who were forgotten longer ago than a
/// verdict can last are dropped; if too few were, everything is forgotten once.
const BOUND: usize = 65_536;

/// No question is on its way for longer, the options' longest time-outs and queueing included.
pub const LONGEST_QUESTION: Duration = Duration::from_secs(600);

/// Steps in which the memory of a cleared cache is given back by one call of [`Cache::tend`]: some hundred microseconds,
/// and 4 MiB.
const GIVEN_BACK_AT_ONCE: usize = 64;

/// Whose verdicts were forgotten.
#[derive(Default)]
pub struct Forgotten {
    usernames: HashMap<u32, Instant>,
    client_ids: HashMap<u32, Instant>,
    everybody: Option<Instant>,
}

impl Forgotten {
    /// Notes that somebody's verdicts are forgotten now. `longest`: how long a verdict can last. Returns whether
    /// everybody's are.
    pub fn note(&mut self, whose: Whose, now: Instant, longest: Duration) -> bool {
        let mut has_room = true;
        if self.is_full() {
            let lasts = |_: &u32, at: &mut Instant| now.saturating_duration_since(*at) <= longest;
            self.usernames.retain(lasts);
            self.client_ids.retain(lasts);
            // Looking through all of them for a handful is not worth it.
            has_room = self.len() < BOUND / 4 * 3;
        }
        match whose {
            Whose::Username(username) if has_room => drop(self.usernames.insert(username, now)),
            Whose::ClientId(client_id) if has_room => drop(self.client_ids.insert(client_id, now)),
            _ => {
                *self = Self { everybody: Some(now), ..Self::default() };
                return true;
            }
        }
        false
    }

    /// Whether names may be dropped when the next one is noted.
    pub fn is_full(&self) -> bool {
        self.len() >= BOUND
    }

    /// Drops the half of the names that were forgotten longer ago. Returns when the last of these was.
    pub fn drop_older_half(&mut self) -> Option<Instant> {
        let mut times: Vec<_> = self.usernames.values().chain(self.client_ids.values()).copied().collect();
        let middle = times.len().checked_sub(1)? / 2;
        let until = *times.select_nth_unstable(middle).1;
        self.usernames.retain(|_, at| *at > until);
        self.client_ids.retain(|_, at| *at > until);
        Some(until)
    }

    fn len(&self) -> usize {
        self.usernames.len() + self.client_ids.len()
    }

    /// Whether nobody was ever forgotten, as far as is known.
    pub fn is_empty(&self) -> bool {
        !self.any() && self.everybody.is_none()
    }

    /// Whether anybody was forgotten of late by name. All that it costs while nobody was.
    pub fn any(&self) -> bool {
        !self.usernames.is_empty() || !self.client_ids.is_empty()
    }

    /// When somebody was forgotten last by name.
    pub fn named(&self, about: About) -> Option<Instant> {
        self.usernames.get(&about.username).max(self.client_ids.get(&about.client_id)).copied()
    }

    /// When somebody was forgotten last, by name or with everybody.
    pub fn latest(&self, about: About) -> Option<Instant> {
        self.named(about).max(self.everybody)
    }
}

impl Cache {
    /// Forgets the verdict for a fingerprint.
    pub fn forget(&mut self, key: Fingerprint) {
        if let Some(id) = self.store.find(key) {
            self.remove(id);
        }
    }

    /// Forgets all verdicts, however many there are, at once. Their memory is given back in steps: some with each verdict
    /// that is put in, and some with each call of [`Self::tend`].
    pub fn clear(&mut self) {
        self.remains.push(self.store.clear());
        (self.allows, self.denies) = (Part::new(), Part::new());
        (self.unused, self.awaited) = (Part::new(), Part::new());
        (self.hand, self.swept, self.longest) = (0, None, 0);
    }

    /// Gives some of the memory back that was cleared.
    pub fn tend(&mut self) {
        for _ in 0..GIVEN_BACK_AT_ONCE {
            self.give_back();
        }
    }

    pub(super) fn give_back(&mut self) {
        if self.remains.last_mut().is_some_and(|remains| !remains.give_back()) {
            self.remains.pop();
        }
    }

    /// Forgets whatever the API was asked about somebody until now, in constant time: it is removed when it is met. Where
    /// too many were forgotten in too short a time, everything is forgotten.
    pub fn forget_whatever(&mut self, whose: Whose, now: Instant) {
        let longest = Duration::from_secs(u64::from(self.longest) / TICKS_PER_SECOND) + LONGEST_QUESTION;
        if self.forgotten.note(whose, now, longest) {
            self.clear();
        }
    }

    /// Whether what the API was asked at `sent` about somebody has been forgotten since.
    pub fn has_forgotten(&self, about: About, sent: Instant) -> bool {
        self.forgotten.latest(about).is_some_and(|at| sent <= at)
    }

    /// Whether the verdict in a slot has been forgotten. The tick in which it was counts as before: what is asked just then
    /// is asked again. Of what was there when everybody was forgotten there are no slots any more.
    pub(super) fn is_forgotten(&self, slot: &Slot) -> bool {
        self.forgotten.any() && self.forgotten.named(slot.about).is_some_and(|at| slot.since <= self.tick(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn about(username: u32, client_id: u32) -> About {
        About { username, client_id }
    }

    #[test]
    fn who_is_forgotten_is_known_by_either_name() {
        let (mut forgotten, now) = (Forgotten::default(), Instant::now());
        assert!(!forgotten.any());
        assert!(!forgotten.note(Whose::Username(1), now, LONGEST));
        let later = now + Duration::from_secs(1);
        assert!(!forgotten.note(Whose::ClientId(2), later, LONGEST));
        assert_eq!(forgotten.latest(about(1, 9)), Some(now));
        assert_eq!(forgotten.latest(about(1, 2)), Some(later));
        assert_eq!(forgotten.latest(about(2, 1)), None);
        assert!(forgotten.note(Whose::Everybody, later, LONGEST));
        assert_eq!((forgotten.any(), forgotten.latest(about(7, 7))), (false, Some(later)));
    }

    #[test]
    fn names_are_bounded_and_those_that_matter_no_more_go_first() {
        let (mut forgotten, mut now) = (Forgotten::default(), Instant::now());
        for name in 0..4 * BOUND as u32 {
            assert!(!forgotten.note(Whose::Username(name), now, LONGEST), "{name}");
            now += LONGEST / (BOUND as u32 / 2);
        }
        assert!(forgotten.usernames.len() <= BOUND);
        // So many in no time: everything is forgotten, once.
        let times = (0..2 * BOUND as u32).filter(|name| forgotten.note(Whose::ClientId(*name), now, LONGEST));
        assert!((1..=3).contains(&times.count()));
    }
}
