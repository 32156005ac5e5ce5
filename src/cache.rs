//! Verdicts that are remembered for a time. Allows and denies are held apart, and neither one client nor a flood of
//! verdicts that are used once pushes out the verdicts that other clients use.
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fingerprint::{About, Fingerprint};
use crate::question::{Grounds, Verdict};
use crate::topic::Terms;

mod attached;
mod forgotten;
mod look;
mod part;
mod room;
mod store;
#[cfg(test)]
mod tests;

pub use forgotten::{Forgotten, LONGEST_QUESTION};
pub use look::{Counts, PRECISION, Remembered};
use part::{CLIENTS, Part, share};
use room::AWAITED;
#[cfg(test)]
use room::UNUSED_SHARE;
use store::{Id, Links, PartName, Remains, Slot, Store};

/// Ticks of the cache's clock per second. A verdict counts time in 32 bits of them, which keeps it small. They last for
/// eight years of uptime; after that nothing is remembered.
const TICKS_PER_SECOND: u64 = 16;

/// The last part of its lifetime, one of so many, in which an allow is asked about again while it serves.
pub const LAST_PART: u32 = 5;

/// A remembered verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// What the API decided.
    pub verdict: Verdict,
    /// What it said.
    pub grounds: Grounds,
    /// Whether to ask again now: this is the first use of an allow in the last fifth of its time. So clients that use
    /// it often never have to wait.
    pub refresh: bool,
    /// Whether the verdict was asked for early, and this is its first use.
    pub is_first_use: bool,
    /// What an allow says besides.
    pub terms: Option<Arc<Terms>>,
}

/// A remembered allow, and what it says besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// What came with it.
    pub terms: Option<Arc<Terms>>,
    /// When it ends, unless it ended before.
    pub ends: Instant,
}

/// A verdict to remember.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// What the API decided.
    pub verdict: Verdict,
    /// What it said.
    pub grounds: Grounds,
    /// When the question was sent.
    pub since: Instant,
    /// How long the verdict holds from then on.
    pub lifetime: Duration,
    /// Whom it is about.
    pub about: About,
}

/// Verdicts by fingerprint, each for its own time.
///
/// As long as there is room, no verdict is removed before its end. A full cache removes, in this order:
///
/// - those that have ended;
/// - those of the client that holds more than its share: a 64th, or 256 where that is
///   more (in small caches an eighth). An account has two such shares, however many client ids it has;
/// - those that were used once, least recently used first. What was used twice stays, as long as it takes no
///   more than seven eighths of the cache.
///
/// Allows and denies have the same bound each, so that a flood of refused logins cannot push out the verdicts of good
/// clients. Verdicts that were asked for early have a smaller bound until they are used, and those among them that are
/// about the readers of a message a fixed one ([`AWAITED`]). A fingerprint has one verdict at most.
pub struct Cache {
    /// How many allows may be held, and as many denies.
    bound: usize,
    /// How many allows or denies one client may hold where room is short.
    share: usize,
    /// How many ticks past its end an allow may serve while the API gives no answer.
    stale_ticks: u32,
    /// When the ticks began.
    started: Instant,
    store: Store,
    /// What is left of stores that were cleared.
    remains: Vec<Remains>,
    allows: Part,
    denies: Part,
    /// Verdicts that were asked for early and not used yet. Held apart, so that they push out none that is in use.
    unused: Part,
    /// Verdicts that were asked for early about the readers of a message, and not used yet.
    awaited: Part,
    /// How many of these may be held.
    awaited_bound: usize,
    /// The number of the slot that the sweep looks at next.
    hand: usize,
    /// The tick at which the last sweep had looked at all slots.
    swept: Option<u32>,
    /// Whose verdicts were forgotten, and when. Those in slots are removed as they are met.
    forgotten: Forgotten,
    /// The most ticks that a verdict may serve which was put in, past its end included.
    longest: u32,
    /// How many verdicts that still held were removed to make room.
    evicted: u64,
}

impl Cache {
    /// An empty cache for at most `bound` allows and as many denies. Memory is taken as it fills. Allows are kept for
    /// `stale` longer than they hold.
    pub fn new(bound: usize, stale: Duration, now: Instant) -> Self {
        Self {
            bound,
            share: share(bound),
            stale_ticks: in_ticks(stale),
            started: now,
            store: Store::new(),
            remains: Vec::new(),
            allows: Part::new(),
            denies: Part::new(),
            unused: Part::new(),
            awaited: Part::new(),
            awaited_bound: AWAITED,
            hand: 0,
            swept: None,
            forgotten: Forgotten::default(),
            longest: 0,
            evicted: 0,
        }
    }

    /// Changes the bound, and how long allows are kept past their end. Verdicts above a lower bound are removed in
    /// steps, as others are put in, and their memory is kept for others.
    pub fn configure(&mut self, bound: usize, stale: Duration) {
        if bound == 0 {
            self.clear();
        }
        self.bound = bound;
        self.stale_ticks = in_ticks(stale);
        self.share = share(bound);
        for place in [PartName::Allows, PartName::Denies, PartName::Unused, PartName::Awaited] {
            let share = self.share_of(place);
            self.part(place).0.set_share(share);
        }
        self.make_room_after_reload();
    }

    /// Remembers a verdict, in place of the one that was remembered for the fingerprint. A lifetime of zero only forgets that
    /// one. `client` is whose share it counts to, see [`About::sharer`].
    pub fn insert(&mut self, key: Fingerprint, client: Fingerprint, fresh: Fresh) {
        let known = self.store.find(key).map(|id| *self.store.at(id));
        self.forget(key);
        let Some(mut slot) = self.slot(key, client, fresh) else { return };
        slot.is_proven = known.is_some_and(|known| known.is_proven && known.verdict == fresh.verdict);
        self.put(slot);
        if self.part(slot.place).0.len() > self.bound || self.unused.len() > self.unused_bound() {
            self.sweep(slot.since);
            self.make_room(slot.place, Some(slot.client));
            self.make_room_early(PartName::Unused, None, slot.since);
        }
    }

    /// Remembers a verdict that was asked for early, in place of the one that was remembered for the fingerprint. If it
    /// renews a verdict that is in use, it takes the place of that one. If not, it is held among the unused ones until
    /// its first use; where they have no room, those stay that the broker comes for first. Returns whether it was kept.
    pub fn insert_unused(&mut self, key: Fingerprint, client: Fingerprint, fresh: Fresh) -> bool {
        self.insert_early(PartName::Unused, key, client, fresh)
    }

    /// Remembers a verdict that was asked for early, about a reader of a message that the broker is on its way to: else as
    /// [`Self::insert_unused`].
    pub fn insert_awaited(&mut self, key: Fingerprint, client: Fingerprint, fresh: Fresh) -> bool {
        self.forget_ended_readers(self.tick(fresh.since));
        self.insert_early(PartName::Awaited, key, client, fresh)
    }

    fn insert_early(&mut self, place: PartName, key: Fingerprint, client: Fingerprint, fresh: Fresh) -> bool {
        let known = self.store.find(key).map(|id| *self.store.at(id));
        self.forget(key);
        let Some(mut slot) = self.slot(key, client, fresh) else { return false };
        slot.is_unused = true;
        match known.filter(|known| known.place == slot.place) {
            Some(known) => slot.is_proven = known.is_proven,
            None => slot.place = place,
        }
        self.put(slot);
        if self.part(place).0.len() > self.early_bound(place) {
            self.sweep(slot.since);
            self.make_room_early(place, Some(slot.client), slot.since);
        }
        self.store.find(key).is_some()
    }

    /// How many more unused verdicts have room.
    #[cfg(test)]
    pub fn room_unused(&self) -> usize {
        self.unused_bound().saturating_sub(self.unused.len())
    }

    /// Keeps what came with the allow that was just put in, if it was kept.
    pub fn attach(&mut self, key: Fingerprint, terms: &Arc<Terms>) {
        let Some(id) = self.store.find(key) else { return };
        if self.store.at(id).verdict == Verdict::Allow {
            let number = self.store.attached.add(Arc::clone(terms));
            let before = std::mem::replace(&mut self.store.at_mut(id).terms, number);
            self.store.attached.remove(before);
        }
    }

    /// A slot for a verdict that is in use, or `None` if it is not to be remembered.
    fn slot(&self, key: Fingerprint, client: Fingerprint, fresh: Fresh) -> Option<Slot> {
        let Fresh { verdict, grounds, since, lifetime, about } = fresh;
        let ticks = in_ticks(lifetime);
        let since = self.tick(since);
        let (place, refresh_margin) = match verdict {
            Verdict::Allow => (PartName::Allows, u16::try_from(ticks / LAST_PART).unwrap_or(u16::MAX)),
            Verdict::Deny => (PartName::Denies, 0),
        };
        (ticks > 0 && self.bound > 0).then(|| Slot {
            key,
            links: [Links::NONE; 2],
            // Rounded down at both ends: a verdict may end early by two ticks, never late.
            ends: since.saturating_add(ticks),
            since,
            refresh_margin,
            grounds: grounds.number(),
            client: (client.words()[0] % CLIENTS as u64) as u16,
            about,
            verdict,
            place,
            is_proven: false,
            is_unused: false,
            terms: attached::NONE,
        })
    }

    /// The part that holds the verdicts of a place, and the store for its operations.
    fn part(&mut self, place: PartName) -> (&mut Part, &mut Store) {
        let part = match place {
            PartName::Allows => &mut self.allows,
            PartName::Denies => &mut self.denies,
            PartName::Unused | PartName::Free => &mut self.unused,
            PartName::Awaited => &mut self.awaited,
        };
        (part, &mut self.store)
    }

    /// Puts a verdict in whose fingerprint is not there.
    fn put(&mut self, slot: Slot) {
        self.give_back();
        let share = self.share_of(slot.place);
        self.longest = self.longest.max(self.useless_from(&slot).saturating_sub(slot.since));
        let id = self.store.add(slot);
        let (part, store) = self.part(slot.place);
        part.add(store, id, share);
    }

    /// Removes a verdict.
    fn remove(&mut self, id: Id) {
        let place = self.store.at(id).place;
        let share = self.share_of(place);
        let (part, store) = self.part(place);
        part.remove(store, id, share);
        self.store.remove(id);
    }

    /// The verdict for a fingerprint, if it still holds. Counts as a use of it.
    pub fn get(&mut self, key: Fingerprint, now: Instant) -> Option<Hit> {
        let tick = self.tick(now);
        let id = self.store.find(key)?;
        let slot = self.store.at(id);
        if tick >= self.useless_from(slot) || self.is_forgotten(slot) {
            self.remove(id);
            return None;
        }
        if slot.place.is_early() {
            return self.first_use(id, tick);
        }
        // An allow past its end counts as used, too: it may be the one that serves while the API gives no answer.
        let (part, store) = self.part(slot.place);
        part.note_use(store, id);
        let slot = self.store.at_mut(id);
        if tick >= slot.ends {
            return None;
        }
        let is_first_use = std::mem::take(&mut slot.is_unused);
        let refresh = slot.ends - tick <= u32::from(slot.refresh_margin);
        if refresh {
            slot.refresh_margin = 0;
        }
        let Slot { verdict, grounds, terms, .. } = *slot;
        let grounds = Grounds::of_number(grounds);
        Some(Hit { verdict, grounds, refresh, is_first_use, terms: self.store.attached.get(terms) })
    }

    /// Moves an unused verdict to the allows or denies, since the broker has come for it.
    fn first_use(&mut self, id: Id, tick: u32) -> Option<Hit> {
        let early = self.store.at(id).place;
        let share = self.share_of(early);
        let (part, store) = self.part(early);
        part.remove(store, id, share);
        let slot = self.store.at_mut(id);
        slot.is_unused = false;
        slot.place = match slot.verdict {
            Verdict::Allow => PartName::Allows,
            Verdict::Deny => PartName::Denies,
        };
        let Slot { verdict, grounds, place, client, ends, terms, .. } = *slot;
        let grounds = Grounds::of_number(grounds);
        let share = self.share;
        let terms = self.store.attached.get(terms);
        let (part, store) = self.part(place);
        part.add(store, id, share);
        self.make_room(place, Some(client));
        self.make_room_early(PartName::Unused, None, tick);
        (tick < ends).then_some(Hit { verdict, grounds, refresh: false, is_first_use: true, terms })
    }

    /// The tick of a moment.
    fn tick(&self, at: Instant) -> u32 {
        in_ticks(at.saturating_duration_since(self.started))
    }
}

/// A time in whole ticks, rounded down.
fn in_ticks(time: Duration) -> u32 {
    let fraction = u64::from(time.subsec_nanos()) * TICKS_PER_SECOND / 1_000_000_000;
    u32::try_from(time.as_secs().saturating_mul(TICKS_PER_SECOND).saturating_add(fraction))
        .unwrap_or(u32::MAX)
}
