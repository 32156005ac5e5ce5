//! Tries that are counted together: how many of them have been refused, and which are open.
use std::time::{Duration, Instant};

use super::{BOUND, Group, Known, Open, Table};
use crate::config::ThrottleLimits;
use crate::fingerprint::Fingerprint;
use crate::util::bounded;

/// All groups of one kind.
pub struct Groups {
    pub(super) counts: Table<Count>,
    /// Of each group, those with distinct credentials.
    pub(super) open: Table<Vec<OpenTry>>,
}

/// What is known of one group.
#[derive(Clone, Copy)]
pub struct Count {
    /// How many there were, of those that count.
    pub(super) refusals: usize,
    /// In a pause: when somebody is looked at again whose credentials are not known to be wrong.
    next_look: Instant,
    /// The end of the pause, or the last refusal before the first one.
    until: Instant,
}

/// Those that have the same credentials open in one group.
pub struct OpenTry {
    credentials: Fingerprint,
    /// Of the first who opened it.
    number: u64,
    /// How many have it open; nobody: it was asked about ahead.
    holders: usize,
    until: Instant,
}

/// What a group has for a try; the greater, the less.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// It may be opened.
    Free,
    /// Others are open.
    Taken,
    /// Nobody like it is looked at for so long.
    Paused(Duration),
}

impl Groups {
    /// Nobody is counted yet.
    pub fn new() -> Self {
        Self { counts: bounded(BOUND), open: bounded(BOUND) }
    }

    /// The count of a group. One whose last pause was twice the longest pause ago starts anew.
    fn count(&self, group: Group, limits: &ThrottleLimits, now: Instant) -> Count {
        let count = self.counts.peek(&group).copied();
        let is_recent = |count: &Count| now.saturating_duration_since(count.until) <= 2 * limits.longest;
        count.filter(is_recent).unwrap_or(Count { refusals: 0, next_look: now, until: now })
    }

    fn open_tries(&self, group: Group, now: Instant) -> impl Iterator<Item = &OpenTry> {
        self.open.peek(&group).into_iter().flatten().filter(move |open| now < open.until)
    }

    /// The room for a try.
    pub fn room(&mut self, group: Group, new: &Open, limits: &ThrottleLimits, now: Instant) -> Room {
        self.counts.promote(&group);
        let count = self.count(group, limits, now);
        if new.known == Known::Wrong && now < count.until {
            return Room::Paused(count.until - now);
        }
        let mut taken = 0;
        for open in self.open_tries(group, now).filter(|open| open.holders > 0) {
            if open.credentials == new.credentials {
                return Room::Free;
            }
            taken += 1;
        }
        if now < count.next_look {
            Room::Paused(count.next_look - now)
        } else if taken < limits.after.saturating_sub(count.refusals).max(1) {
            Room::Free
        } else {
            Room::Taken
        }
    }

    /// Whether it may be asked about ahead.
    pub fn has_room_ahead(&self, group: Group, new: &Open, limits: &ThrottleLimits, now: Instant) -> bool {
        let others = self.open_tries(group, now).filter(|open| open.credentials != new.credentials).count();
        self.count(group, limits, now).refusals + others < limits.after
    }

    /// Opens a try for so many.
    pub fn open(&mut self, group: Group, open: &Open, holders: usize, at_most: Duration) {
        let tries = self.open.get_or_insert_mut(group, Vec::new);
        tries.retain(|other| open.since < other.until);
        let until = open.since + at_most;
        match tries.iter_mut().find(|other| other.credentials == open.credentials) {
            Some(same) => {
                same.holders += holders;
                same.until = same.until.max(until);
            }
            None => {
                tries.push(OpenTry { credentials: open.credentials, number: open.number, holders, until });
            }
        }
    }

    /// Closes a try, for all that share it if it is answered; `true` if it was open and is for nobody any more.
    pub fn close(&mut self, group: Group, open: &Open, is_answered: bool) -> bool {
        let Some(tries) = self.open.peek_mut(&group) else { return false };
        // What was opened later is another question.
        let is_this = |other: &OpenTry| other.credentials == open.credentials && other.number <= open.number;
        let Some(at) = tries.iter().position(is_this) else { return false };
        tries[at].holders = tries[at].holders.saturating_sub(1);
        let has_ended = is_answered || tries[at].holders == 0;
        if has_ended {
            tries.swap_remove(at);
        }
        if tries.is_empty() {
            self.open.pop(&group);
        }
        has_ended
    }

    /// Counts a refusal, and returns the end of the pause. In a pause only that counts which was looked at as its one.
    pub fn refused(&mut self, group: Group, known: Known, limits: &ThrottleLimits, now: Instant) -> Instant {
        let mut count = self.count(group, limits, now);
        if now < count.next_look || (now < count.until && known != Known::Nothing) {
            return count.until;
        }
        count.refusals += 1;
        count.next_look = count.until.max(now);
        count.until = count.next_look;
        if let Some(doublings) = count.refusals.checked_sub(limits.after) {
            let factor = 1u32.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
            count.until += limits.pause.saturating_mul(factor).min(limits.longest);
        }
        self.counts.put(group, count);
        count.until
    }
}
