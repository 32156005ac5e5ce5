//! Groups of tries that are counted together: how many were refused, and which are open.
use std::time::{Duration, Instant};

use super::{BOUND, Group, OpenTry, Standing, Table};
use crate::config::ThrottleLimits;
use crate::fingerprint::Fingerprint;
use crate::util::bounded;

/// All groups of one kind.
pub struct Groups {
    /// The refusals of each group.
    pub(super) counts: Table<Count>,
    /// The open tries of each group, one for each credentials.
    pub(super) open: Table<Vec<OpenTries>>,
}

/// The refusals and the pause of one group.
#[derive(Clone, Copy)]
pub struct Count {
    /// How many refusals have counted.
    pub(super) refusals: usize,
    /// In a pause: from when on one try is examined again, if its credentials are not known to be wrong.
    next_try: Instant,
    /// The end of the pause. Before the first pause, the time of the last refusal.
    until: Instant,
}

/// The tries of one group that are open with the same credentials.
pub struct OpenTries {
    credentials: Fingerprint,
    /// Whether they share one answer.
    is_shared: bool,
    /// The number of the first of them.
    number: u64,
    /// How many logins have it open; 0 if it was only asked about early.
    holders: usize,
    /// When it counts as ended, if it was not closed.
    until: Instant,
    /// Whether it ends with its question, for which nobody waits any more.
    is_left: bool,
}

/// The room that a group has for a try. A greater value is less room.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// It may be opened.
    Free,
    /// Not now: other tries are open.
    Taken,
    /// None for this long: the group is in a pause.
    Paused(Duration),
}

impl Groups {
    /// No group yet.
    pub fn new() -> Self {
        Self { counts: bounded(BOUND), open: bounded(BOUND) }
    }

    /// The count of a group. It starts anew once its last pause ended more than twice the longest pause ago.
    fn count(&self, group: Group, limits: &ThrottleLimits, now: Instant) -> Count {
        let count = self.counts.peek(&group).copied();
        let is_recent = |count: &Count| now.saturating_duration_since(count.until) <= 2 * limits.longest;
        count.filter(is_recent).unwrap_or(Count { refusals: 0, next_try: now, until: now })
    }

    /// The tries of a group that are open now.
    fn open_tries(&self, group: Group, now: Instant) -> impl Iterator<Item = &OpenTries> {
        self.open.peek(&group).into_iter().flatten().filter(move |open| now < open.until)
    }

    /// The room that a group has for a new try. `share_in_pause`: one that shares an open question is let pass in a pause, too.
    pub fn room(
        &mut self,
        group: Group,
        new: &OpenTry,
        share_in_pause: bool,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> Room {
        self.counts.promote(&group);
        let count = self.count(group, limits, now);
        if new.standing == Standing::Wrong && now < count.until {
            return Room::Paused(count.until - now);
        }
        let is_paused = now < count.next_try;
        let mut taken = 0;
        for open in self.open_tries(group, now).filter(|open| open.holders > 0) {
            if new.is_shared && open.credentials == new.credentials && (share_in_pause || !is_paused) {
                return Room::Free;
            }
            taken += if open.is_shared { 1 } else { open.holders };
        }
        if is_paused {
            Room::Paused(count.next_try - now)
        } else if taken < limits.after.saturating_sub(count.refusals).max(1) {
            Room::Free
        } else {
            Room::Taken
        }
    }

    /// For how long a new try would be refused unseen if it were the only one, if it would.
    pub fn pause(
        &self,
        group: Group,
        new: &OpenTry,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> Option<Duration> {
        let count = self.count(group, limits, now);
        let until = if new.standing == Standing::Wrong { count.until } else { count.next_try };
        (now < until).then(|| until - now)
    }

    /// Whether a group has room for a login that is asked about early: if all of them were refused, no pause would
    /// begin.
    pub fn has_speculative_room(
        &self,
        group: Group,
        new: &OpenTry,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> bool {
        let others = self.open_tries(group, now).filter(|open| open.credentials != new.credentials).count();
        self.count(group, limits, now).refusals + others < limits.after
    }

    /// Opens a try for this many logins, for `at_most` this long.
    pub fn open(&mut self, group: Group, open: &OpenTry, holders: usize, at_most: Duration) {
        let tries = self.open.get_or_insert_mut(group, Vec::new);
        tries.retain(|other| open.since < other.until);
        let until = open.since + at_most;
        match tries.iter_mut().find(|other| other.credentials == open.credentials) {
            Some(same) => {
                same.holders += holders;
                same.until = same.until.max(until);
            }
            None => {
                let OpenTry { credentials, is_shared, number, .. } = *open;
                tries.push(OpenTries { credentials, is_shared, number, holders, until, is_left: false });
            }
        }
    }

    /// Closes a try, for all that share its answer if it `ends_all`; `true` if a question that was open has ended.
    pub fn close(&mut self, group: Group, open: &OpenTry, ends_all: bool) -> bool {
        let Some(tries) = self.open.peek_mut(&group) else { return false };
        // A try that was opened later is another question.
        let is_this =
            |other: &OpenTries| other.credentials == open.credentials && other.number <= open.number;
        let Some(at) = tries.iter().position(is_this) else { return false };
        tries[at].holders = tries[at].holders.saturating_sub(1);
        let is_for_nobody = tries[at].holders == 0 || (ends_all && open.is_shared);
        if is_for_nobody {
            tries.swap_remove(at);
        }
        if tries.is_empty() {
            self.open.pop(&group);
        }
        is_for_nobody || ends_all
    }

    /// Nobody waits for a try any more, and its question ends by this time. Returns whether it is the first time that this
    /// is said of it.
    pub fn leave(&mut self, group: Group, open: &OpenTry, until: Instant) -> bool {
        let tries = self.open.peek_mut(&group).into_iter().flatten();
        let mut is_first = false;
        for its in tries.filter(|other| other.credentials == open.credentials) {
            its.until = its.until.min(until);
            is_first |= !std::mem::replace(&mut its.is_left, true);
        }
        is_first
    }

    /// Counts a refusal, and returns the end of the pause. In a pause, only the refusal of its one try counts.
    pub fn refused(
        &mut self,
        group: Group,
        standing: Standing,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> Instant {
        let mut count = self.count(group, limits, now);
        if now < count.next_try || (now < count.until && standing != Standing::Nothing) {
            return count.until;
        }
        count.refusals += 1;
        count.next_try = count.until.max(now);
        count.until = count.next_try;
        if let Some(doublings) = count.refusals.checked_sub(limits.after) {
            let factor = 1u32.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
            count.until += limits.pause.saturating_mul(factor).min(limits.longest);
        }
        self.counts.put(group, count);
        count.until
    }
}
