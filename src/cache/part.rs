//! A part of the cache: verdicts that share a bound, counted by client, and the order in which they make room.
use super::store::{BY_CLIENT, BY_USE, Id, List, Store};

/// The number of values by which clients are told apart; clients with the same value count as one. There are 64 for
/// each of the [`SHARES`], so that clients which count as one stay far below a share together, unless one of them holds
/// many verdicts. To the cache a client is half of the client ids of a username
/// ([`About::sharer`](crate::fingerprint::About::sharer)).
pub const CLIENTS: usize = 4096;

/// One client's share of a full cache: one part in this many. So filling it takes this many clients, and no more than
/// this many can be above their share.
const SHARES: usize = 64;

/// A share is never smaller than this, unless that is more than one part in [`FEWEST_SHARES`]: what a gateway that speaks
/// for a building has in topics. A cache for a few thousand verdicts belongs to a broker with a few clients.
const SMALLEST_SHARE: usize = 256;

/// Clients that a small cache has a share for at least.
const FEWEST_SHARES: usize = 8;

/// How many verdicts one client may hold of a cache that is full at `bound`.
pub fn share(bound: usize) -> usize {
    (bound / SHARES).max(SMALLEST_SHARE.min(bound / FEWEST_SHARES)).max(1)
}

fn seven_eighths(of: usize) -> usize {
    of - of.div_ceil(8)
}

/// Verdicts in the order of their use, and each client's verdicts in the order in which they came.
struct Segment {
    uses: List<BY_USE>,
    clients: Vec<List<BY_CLIENT>>,
}

impl Segment {
    fn new() -> Self {
        Self { uses: List::default(), clients: vec![List::default(); CLIENTS] }
    }

    fn add(&mut self, store: &mut Store, id: Id) {
        self.uses.add(store, id);
        let client = usize::from(store.at(id).client);
        self.clients[client].add(store, id);
    }

    fn remove(&mut self, store: &mut Store, id: Id) {
        self.uses.remove(store, id);
        let client = usize::from(store.at(id).client);
        self.clients[client].remove(store, id);
    }
}

/// Verdicts that share a bound.
pub struct Part {
    /// Used once so far, or not at all.
    once: Segment,
    /// Used at least twice.
    proven: Segment,
    /// The clients that hold more than their share.
    above: Vec<u16>,
}

impl Part {
    /// A part without verdicts.
    pub fn new() -> Self {
        // With room for more clients than can be above their share, so that counting a use allocates nothing.
        Self { once: Segment::new(), proven: Segment::new(), above: Vec::with_capacity(2 * SHARES) }
    }

    /// How many verdicts are held.
    pub fn len(&self) -> usize {
        self.once.uses.len() + self.proven.uses.len()
    }

    /// How many verdicts one client holds.
    pub fn held_by(&self, client: u16) -> usize {
        let client = usize::from(client);
        self.once.clients[client].len() + self.proven.clients[client].len()
    }

    /// Changes the clients' share.
    pub fn set_share(&mut self, share: usize) {
        self.above.clear();
        let clients = 0..CLIENTS as u16;
        self.above = clients.filter(|client| self.held_by(*client) > share).collect();
        self.above.reserve(2 * SHARES);
    }

    /// Adds a slot that is in no part.
    pub fn add(&mut self, store: &mut Store, id: Id, share: usize) {
        let slot = store.at(id);
        let client = slot.client;
        let segment = if slot.is_proven { &mut self.proven } else { &mut self.once };
        segment.add(store, id);
        if self.held_by(client) == share + 1 {
            self.above.push(client);
        }
    }

    /// Removes a slot of this part.
    pub fn remove(&mut self, store: &mut Store, id: Id, share: usize) {
        let slot = store.at(id);
        let client = slot.client;
        let segment = if slot.is_proven { &mut self.proven } else { &mut self.once };
        segment.remove(store, id);
        if self.held_by(client) == share {
            self.above.retain(|other| *other != client);
        }
    }

    /// Counts a use of a slot. From its second use on, it is among those that a flood of others does not push out.
    pub fn note_use(&mut self, store: &mut Store, id: Id) {
        if store.at(id).is_proven {
            self.proven.uses.renew(store, id);
        } else {
            self.once.remove(store, id);
            store.at_mut(id).is_proven = true;
            self.proven.add(store, id);
        }
    }

    /// The slot that makes room for another one, of the client `newcomer` if there is one: a slot of a client that
    /// holds more than its share, or else the least recently used of those that were used once. Slots that were used
    /// twice have seven eighths of the bound, or of what that client holds, so that new ones have room until their second
    /// use.
    pub fn first_to_go(&self, newcomer: Option<u16>, bound: usize, share: usize) -> Option<Id> {
        if let Some(client) = self.greediest(newcomer, share) {
            let held = self.held_by(client);
            let (once, proven) =
                (&self.once.clients[usize::from(client)], &self.proven.clients[usize::from(client)]);
            let first = if proven.len() > seven_eighths(held) { proven.oldest() } else { once.oldest() };
            return first.or_else(|| proven.oldest());
        }
        if self.proven.uses.len() > seven_eighths(bound) {
            return self.proven.uses.oldest();
        }
        self.once.uses.oldest()
    }

    /// The slot that makes room among verdicts that wait for the broker: the newest, of a client above its share if
    /// there is one. The broker comes for them in the order in which they were put in, so it needs the newest last.
    pub fn last_to_come(&self, newcomer: Option<u16>, share: usize) -> Option<Id> {
        if let Some(client) = self.greediest(newcomer, share).map(usize::from) {
            let once = self.once.clients[client].newest();
            return once.or_else(|| self.proven.clients[client].newest());
        }
        self.once.uses.newest().or_else(|| self.proven.uses.newest())
    }

    /// The least recently used or put in of those that were not used twice.
    pub fn oldest(&self) -> Option<Id> {
        self.once.uses.oldest()
    }

    /// The client that has to make room: the newcomer if it holds more than its share, or else the one that holds most.
    /// `None` if no client holds more than its share.
    fn greediest(&self, newcomer: Option<u16>, share: usize) -> Option<u16> {
        newcomer
            .filter(|client| self.held_by(*client) > share)
            .or_else(|| self.above.iter().copied().max_by_key(|client| (self.held_by(*client), *client)))
    }
}
