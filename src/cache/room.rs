//! What goes where room is short: how many verdicts each place may hold, and which ones have to leave.

use super::part::share;
use super::store::{Id, PartName, Slot};
use super::{Cache, TICKS_PER_SECOND};
use crate::question::Verdict;

/// The part of the bound that unused verdicts may always take: one in this many. They were asked for early, and the
/// broker has not come for them yet.
pub(super) const UNUSED_SHARE: usize = 4;

/// Unused verdicts about the readers of messages that are held besides all others. The broker comes for each of them, in
/// an order that nobody knows, so that the room of one message must not depend on what else is remembered. A message to
/// more readers than that has the rest asked about one by one. They take 18 MiB.
pub(super) const AWAITED: usize = 1 << 18;

/// Ended verdicts that make room as one about a reader is put in.
const ENDED_AS_ONE_COMES: usize = 2;

/// Ticks for which an unused verdict is kept as far as there is room: 30 s. Within this time the broker comes for the
/// verdicts about all readers of a message, however many they are. After that the guess counts as wrong.
const WAITS_FOR_BROKER: u32 = 30 * TICKS_PER_SECOND as u32;

/// The most verdicts that are removed as one is put in. More than one has to go only after the bound was lowered: the
/// others follow with the next verdicts, so that no question waits for all of them.
const REMOVED_AT_ONCE: usize = 8;

/// Verdicts of each kind that are removed when the bound is lowered, which takes some hundred microseconds.
const REMOVED_AT_A_RELOAD: usize = 1_000;

/// Ticks between two sweeps of all slots for verdicts that have ended: one second. A sweep begins where room is needed.
const SWEPT_EVERY: u32 = TICKS_PER_SECOND as u32;

/// The most slots that a sweep looks at in one step, which takes some hundred microseconds.
pub(super) const SWEPT_AT_ONCE: usize = 65_536;

/// The most ended verdicts that a sweep removes in one step: removing one takes longer than looking at it.
const ENDED_AT_ONCE: usize = 4_096;

impl Cache {
    /// How many verdicts one client may hold in a place where room is short.
    pub(super) fn share_of(&self, place: PartName) -> usize {
        if place == PartName::Awaited { share(self.awaited_bound) } else { self.share }
    }

    /// How many verdicts may be held in a place where they are until their first use.
    pub(super) fn early_bound(&self, place: PartName) -> usize {
        if place == PartName::Awaited { self.awaited_bound } else { self.unused_bound() }
    }

    /// How many unused verdicts may be held: their part of the bound, or the room that allows leave if that is more.
    pub(super) fn unused_bound(&self) -> usize {
        (self.bound / UNUSED_SHARE).max(self.bound.saturating_sub(self.allows.len()))
    }

    /// Removes allows or denies that are above their bound. `newcomer` is the client that has just added one, if any.
    pub(super) fn make_room(&mut self, place: PartName, newcomer: Option<u16>) {
        let (bound, share) = (self.bound, self.share);
        for _ in 0..REMOVED_AT_ONCE {
            let (part, _) = self.part(place);
            if part.len() <= bound {
                return;
            }
            let Some(id) = part.first_to_go(newcomer, bound, share) else { return };
            self.remove(id);
            self.evicted += 1;
        }
    }

    /// Removes unused verdicts that are above their bound: first those that have ended or have waited for
    /// [`WAITS_FOR_BROKER`], then the newest, since the broker comes for the oldest first.
    pub(super) fn make_room_early(&mut self, place: PartName, newcomer: Option<u16>, tick: u32) {
        let is_useless = |slot: &Slot| tick >= slot.ends.min(slot.since.saturating_add(WAITS_FOR_BROKER));
        for _ in 0..REMOVED_AT_ONCE {
            let (bound, share) = (self.early_bound(place), self.share_of(place));
            let (part, store) = self.part(place);
            if part.len() <= bound {
                return;
            }
            let oldest = part.oldest().filter(|id| is_useless(store.at(*id)));
            let Some(id) = oldest.or_else(|| part.last_to_come(newcomer, share)) else { return };
            self.evicted += u64::from(oldest.is_none());
            self.remove(id);
        }
    }

    /// Removes ended verdicts: one step of a sweep, if one is going on or due.
    pub(super) fn sweep(&mut self, tick: u32) {
        if self.swept.is_some_and(|swept| tick < swept.saturating_add(SWEPT_EVERY)) {
            return;
        }
        let mut ended = 0;
        for _ in 0..SWEPT_AT_ONCE {
            if self.hand >= self.store.slots() {
                self.hand = 0;
                self.swept = Some(tick);
                return;
            }
            let id = self.hand as Id;
            self.hand += 1;
            let slot = self.store.at(id);
            if slot.place != PartName::Free && tick >= self.useless_from(slot) {
                self.remove(id);
                ended += 1;
                if ended == ENDED_AT_ONCE {
                    return;
                }
            }
        }
    }

    /// The tick from which on a verdict is of no use, not even while the API gives no answer.
    pub(super) fn useless_from(&self, slot: &Slot) -> u32 {
        match slot.verdict {
            Verdict::Allow => slot.ends.saturating_add(self.stale_ticks),
            Verdict::Deny => slot.ends,
        }
    }

    /// Removes what is above a bound that was lowered, as far as that is done at once.
    pub(super) fn make_room_after_reload(&mut self) {
        for _ in 0..REMOVED_AT_A_RELOAD / REMOVED_AT_ONCE {
            self.make_room(PartName::Allows, None);
            self.make_room(PartName::Denies, None);
            self.make_room_early(PartName::Unused, None, 0);
        }
    }

    /// Removes verdicts about readers that have ended: as many as keep up with those that are put in.
    pub(super) fn forget_ended_readers(&mut self, tick: u32) {
        for _ in 0..ENDED_AS_ONE_COMES {
            let Some(oldest) = self.awaited.oldest().filter(|id| tick >= self.store.at(*id).ends) else {
                return;
            };
            self.remove(oldest);
        }
    }
}
