//! Verdicts that are remembered for a time: allows and denies apart, and neither one client nor a flood of verdicts
//! that are used once pushes out what others rely on.
use std::time::{Duration, Instant};

use crate::fingerprint::Fingerprint;
use crate::question::Verdict;

mod part;
mod store;
#[cfg(test)]
mod tests;

use part::{CLIENTS, Part, share};
use store::{Id, Links, Place, Slot, Store};

/// Ticks of the cache's clock per second. A verdict counts time in 32 bits of these (eight years of uptime; at the
/// end of time nothing is remembered any more), which keeps it small.
const TICKS_PER_SECOND: u64 = 16;

/// Verdicts that were asked for ahead and not used yet may always take one part in so many of the bound.
const UNUSED_SHARE: usize = 4;

/// So long a verdict that was asked for ahead is kept for the broker, as far as there is room: within this time the
/// broker comes for what was asked ahead for a message, however many read it. Afterwards it was a wrong guess.
const WAITS_FOR_BROKER: u32 = 30 * TICKS_PER_SECOND as u32;

/// Verdicts that go at a time where more are held than the bound says. More than one does only after the bound was
/// lowered: the others follow with the next verdicts, so that nobody waits for all of them to go.
const REMOVED_AT_ONCE: usize = 8;

/// Verdicts that go at once when the bound is lowered: some hundred microseconds' work for each kind.
const REMOVED_AT_A_RELOAD: usize = 1_000;

/// Where room is needed, verdicts that have ended are looked for first: in every slot, but not more often than this,
const SWEPT_EVERY: u32 = TICKS_PER_SECOND as u32;

/// and in so many at a time, which takes some hundred microseconds,
const SWEPT_AT_ONCE: usize = 65_536;

/// of which so many may have ended: letting one go takes longer than looking at it.
const ENDED_AT_ONCE: usize = 4_096;

/// A remembered verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// What the API decided.
    pub verdict: Verdict,
    /// The HTTP status it decided with.
    pub status: u16,
    /// An allow in the last fifth of its time, seen there for the first time: ask again now, and the
    /// client never has to wait.
    pub refresh: bool,
    /// The verdict was asked for ahead, and this is its first use.
    pub is_first_use: bool,
}

/// A verdict to remember.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// What the API decided.
    pub verdict: Verdict,
    /// The HTTP status it decided with.
    pub status: u16,
    /// When the question was sent.
    pub since: Instant,
    /// How long it holds from then on.
    pub lifetime: Duration,
}

/// Verdicts by fingerprint, each for its own time.
///
/// As long as there is room nothing goes before its time. In a full cache,
///
/// - those go first that have ended;
/// - then those of the client that holds more than its share: a 64th, or 256 where that is
///   more (in small caches an eighth);
/// - then those that were used once, least recently used first. What was used twice stays, as long as it takes no
///   more than seven eighths of the cache.
///
/// Allows and denies have the same bound each, so that a flood of refused logins cannot push out what good clients
/// rely on. What was asked for ahead has a smaller one until it is used. A fingerprint is in one of them at most.
pub struct Cache {
    /// How many allows, and how many denies may be held.
    bound: usize,
    /// How many of them may be one client's where room is short.
    share: usize,
    /// How many ticks past its end an allow may still serve where there is no answer.
    stale_ticks: u32,
    started: Instant,
    store: Store,
    allows: Part,
    denies: Part,
    /// Verdicts that were asked for ahead and not used yet: apart, so that guesses push out nothing that is in use.
    unused: Part,
    /// The slot that is looked at next for a verdict that has ended.
    hand: usize,
    /// When all slots had been looked at last.
    swept: Option<u32>,
}

impl Cache {
    /// An empty cache for at most `bound` allows and as many denies. Memory is taken as it fills. Allows are
    /// kept for `stale` longer than they hold.
    pub fn new(bound: usize, stale: Duration, now: Instant) -> Self {
        Self::empty(bound, in_ticks(stale), now)
    }

    fn empty(bound: usize, stale_ticks: u32, started: Instant) -> Self {
        Self {
            bound,
            share: share(bound),
            stale_ticks,
            started,
            store: Store::new(),
            allows: Part::new(),
            denies: Part::new(),
            unused: Part::new(),
            hand: 0,
            swept: None,
        }
    }

    /// Changes the bound and how long allows are kept past their time. What is above a lower bound goes in steps,
    /// as verdicts are put in, and its memory is kept for others.
    pub fn configure(&mut self, bound: usize, stale: Duration) {
        if bound == 0 {
            self.clear();
        }
        self.bound = bound;
        self.stale_ticks = in_ticks(stale);
        self.share = share(bound);
        for place in [Place::Allows, Place::Denies, Place::Unused] {
            let share = self.share;
            self.part(place).0.set_share(share);
        }
        for _ in 0..REMOVED_AT_A_RELOAD / REMOVED_AT_ONCE {
            self.make_room(Place::Allows, None);
            self.make_room(Place::Denies, None);
            self.make_room_ahead(None, 0);
        }
    }

    /// Remembers a verdict about this client, replacing whatever was remembered for that fingerprint. A lifetime of
    /// zero only forgets.
    pub fn insert(&mut self, key: Fingerprint, client: Fingerprint, fresh: Fresh) {
        let known = self.store.find(key).map(|id| *self.store.at(id));
        self.forget(key);
        let Some(mut slot) = self.slot(key, client, fresh) else { return };
        slot.is_proven = known.is_some_and(|known| known.is_proven && known.verdict == fresh.verdict);
        self.put(slot);
        if self.part(slot.place).0.len() > self.bound || self.unused.len() > self.unused_bound() {
            self.sweep(slot.since);
            self.make_room(slot.place, Some(slot.client));
            self.make_room_ahead(None, slot.since);
        }
    }

    /// The same for a verdict that was asked for ahead: it takes its place among the others when it is first used.
    /// Until then it has the place of the verdict that it renews, or one among those that wait, which have a share
    /// of their own and what room is free. Where there is none, those stay that the broker comes for first.
    /// Returns whether it was kept.
    pub fn insert_unused(&mut self, key: Fingerprint, client: Fingerprint, fresh: Fresh) -> bool {
        let known = self.store.find(key).map(|id| *self.store.at(id));
        self.forget(key);
        let Some(mut slot) = self.slot(key, client, fresh) else { return false };
        slot.is_unused = true;
        match known.filter(|known| known.place == slot.place) {
            Some(known) => slot.is_proven = known.is_proven,
            None => slot.place = Place::Unused,
        }
        self.put(slot);
        if self.unused.len() > self.unused_bound() {
            self.sweep(slot.since);
            self.make_room_ahead(Some(slot.client), slot.since);
        }
        self.store.find(key).is_some()
    }

    /// How many more verdicts that were asked for ahead are sure to be kept until the broker comes for them.
    pub fn room_ahead(&self) -> usize {
        self.unused_bound().saturating_sub(self.unused.len())
    }

    fn unused_bound(&self) -> usize {
        (self.bound / UNUSED_SHARE).max(self.bound.saturating_sub(self.allows.len()))
    }

    /// A slot for a verdict among those that are used, or `None` where nothing is to be remembered.
    fn slot(&self, key: Fingerprint, client: Fingerprint, fresh: Fresh) -> Option<Slot> {
        let Fresh { verdict, status, since, lifetime } = fresh;
        let ticks = in_ticks(lifetime);
        let since = self.tick(since);
        let (place, refresh_margin) = match verdict {
            Verdict::Allow => (Place::Allows, u16::try_from(ticks / 5).unwrap_or(u16::MAX)),
            Verdict::Deny => (Place::Denies, 0),
        };
        (ticks > 0 && self.bound > 0).then(|| Slot {
            key,
            links: [Links::NONE; 2],
            // Rounded down at both ends: a verdict may end early by two ticks, never late.
            ends: since.saturating_add(ticks),
            since,
            refresh_margin,
            status,
            client: (client.words()[0] % CLIENTS as u64) as u16,
            verdict,
            place,
            is_proven: false,
            is_unused: false,
        })
    }

    fn part(&mut self, place: Place) -> (&mut Part, &mut Store) {
        let part = match place {
            Place::Allows => &mut self.allows,
            Place::Denies => &mut self.denies,
            Place::Unused | Place::Free => &mut self.unused,
        };
        (part, &mut self.store)
    }

    fn put(&mut self, slot: Slot) {
        let share = self.share;
        let id = self.store.add(slot);
        let (part, store) = self.part(slot.place);
        part.add(store, id, share);
    }

    fn remove(&mut self, id: Id) {
        let share = self.share;
        let (part, store) = self.part(self.store.at(id).place);
        part.remove(store, id, share);
        self.store.remove(id);
    }

    /// Has the allows or denies keep their bound, this client having added to them.
    fn make_room(&mut self, place: Place, newcomer: Option<u16>) {
        let (bound, share) = (self.bound, self.share);
        for _ in 0..REMOVED_AT_ONCE {
            let (part, _) = self.part(place);
            if part.len() <= bound {
                return;
            }
            let Some(id) = part.first_to_go(newcomer, bound, share) else { return };
            self.remove(id);
        }
    }

    /// The same for what was asked for ahead: what has ended or waits in vain goes first. After that it is the last
    /// that came, as the broker comes for the first one next.
    fn make_room_ahead(&mut self, newcomer: Option<u16>, tick: u32) {
        let is_in_vain = |slot: &Slot| tick >= slot.ends.min(slot.since.saturating_add(WAITS_FOR_BROKER));
        for _ in 0..REMOVED_AT_ONCE {
            if self.unused.len() <= self.unused_bound() {
                return;
            }
            let oldest = self.unused.oldest().filter(|id| is_in_vain(self.store.at(*id)));
            let Some(id) = oldest.or_else(|| self.unused.last_to_come(newcomer, self.share)) else { return };
            self.remove(id);
        }
    }

    /// Lets verdicts go that are of no more use.
    fn sweep(&mut self, tick: u32) {
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
            if slot.place != Place::Free && tick >= self.useless_from(slot) {
                self.remove(id);
                ended += 1;
                if ended == ENDED_AT_ONCE {
                    return;
                }
            }
        }
    }

    /// The tick from which on a verdict serves nobody, not even while there is no answer.
    fn useless_from(&self, slot: &Slot) -> u32 {
        match slot.verdict {
            Verdict::Allow => slot.ends.saturating_add(self.stale_ticks),
            Verdict::Deny => slot.ends,
        }
    }

    /// The verdict for a fingerprint, if it still holds.
    pub fn get(&mut self, key: Fingerprint, now: Instant) -> Option<Hit> {
        let tick = self.tick(now);
        let id = self.store.find(key)?;
        let slot = self.store.at(id);
        if tick >= self.useless_from(slot) {
            self.remove(id);
            return None;
        }
        if slot.place == Place::Unused {
            return self.first_use(id, tick);
        }
        // Past its time it is in use as well: it may be what serves while there is no answer.
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
        Some(Hit { verdict: slot.verdict, status: slot.status, refresh, is_first_use })
    }

    /// Somebody has come for a verdict that waited: it takes its place among the others.
    fn first_use(&mut self, id: Id, tick: u32) -> Option<Hit> {
        let share = self.share;
        self.unused.remove(&mut self.store, id, share);
        let slot = self.store.at_mut(id);
        slot.is_unused = false;
        slot.place = match slot.verdict {
            Verdict::Allow => Place::Allows,
            Verdict::Deny => Place::Denies,
        };
        let Slot { verdict, status, place, client, ends, .. } = *slot;
        let (part, store) = self.part(place);
        part.add(store, id, share);
        self.make_room(place, Some(client));
        self.make_room_ahead(None, tick);
        (tick < ends).then_some(Hit { verdict, status, refresh: false, is_first_use: true })
    }

    /// The verdict for a fingerprint, if it still holds, without counting as a use.
    pub fn peek(&self, key: Fingerprint, now: Instant) -> Option<Verdict> {
        let slot = self.store.at(self.store.find(key)?);
        (self.tick(now) < slot.ends).then_some(slot.verdict)
    }

    /// Whether there is an allow that may serve while there is no answer, past its time if need be.
    pub fn has_stale_allow(&self, key: Fingerprint, now: Instant) -> bool {
        let slot = self.store.find(key).map(|id| self.store.at(id));
        slot.is_some_and(|slot| slot.place == Place::Allows && self.tick(now) < self.useless_from(slot))
    }

    /// Forgets one verdict.
    pub fn forget(&mut self, key: Fingerprint) {
        if let Some(id) = self.store.find(key) {
            self.remove(id);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        drop(self.take());
    }

    /// Forgets everything in no time, and hands over what was held: giving back its memory takes a while, which
    /// nobody who needs the cache has to wait for.
    #[must_use = "dropped here, it is freed here"]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::empty(self.bound, self.stale_ticks, self.started))
    }

    /// How many verdicts are held, ended ones that nobody asked for since included.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn tick(&self, at: Instant) -> u32 {
        in_ticks(at.saturating_duration_since(self.started))
    }
}

fn in_ticks(time: Duration) -> u32 {
    let fraction = u64::from(time.subsec_nanos()) * TICKS_PER_SECOND / 1_000_000_000;
    u32::try_from(time.as_secs().saturating_mul(TICKS_PER_SECOND).saturating_add(fraction))
        .unwrap_or(u32::MAX)
}
