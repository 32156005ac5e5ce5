//! Verdicts that share a bound: whose they are, which of them were used twice, and which goes first.
use super::store::{BY_CLIENT, BY_USE, Id, List, Store};

/// Clients are told apart by so many values. They are thirty-two for each of the [`SHARES`], so that the many clients
/// that have to be counted as one of them stay far from a share together as long as each of them is modest.
pub const CLIENTS: usize = 2048;

/// One client's share of a full cache is one part in so many: whoever wants to fill it has to come as so many
/// clients, and as a share is this large, no more than so many clients can be above theirs.
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

/// Verdicts in order of use, and each client's in the order in which they came.
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
    /// Clients that hold more than their share.
    above: Vec<u16>,
}

impl Part {
    /// Holds nothing.
    pub fn new() -> Self {
        // With room for as many as can be above their share, so that counting a use allocates nothing.
        Self { once: Segment::new(), proven: Segment::new(), above: Vec::with_capacity(2 * SHARES) }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.once.uses.len() + self.proven.uses.len()
    }

    /// How many one client holds.
    pub fn held_by(&self, client: u16) -> usize {
        let client = usize::from(client);
        self.once.clients[client].len() + self.proven.clients[client].len()
    }

    /// The clients' share has changed.
    pub fn set_share(&mut self, share: usize) {
        self.above.clear();
        let clients = 0..CLIENTS as u16;
        self.above = clients.filter(|client| self.held_by(*client) > share).collect();
        self.above.reserve(2 * SHARES);
    }

    /// Takes a slot in that is in no part.
    pub fn add(&mut self, store: &mut Store, id: Id, share: usize) {
        let slot = store.at(id);
        let client = slot.client;
        let segment = if slot.is_proven { &mut self.proven } else { &mut self.once };
        segment.add(store, id);
        if self.held_by(client) == share + 1 {
            self.above.push(client);
        }
    }

    /// Lets a slot go that is in this part.
    pub fn remove(&mut self, store: &mut Store, id: Id, share: usize) {
        let slot = store.at(id);
        let client = slot.client;
        let segment = if slot.is_proven { &mut self.proven } else { &mut self.once };
        segment.remove(store, id);
        if self.held_by(client) == share {
            self.above.retain(|other| *other != client);
        }
    }

    /// A slot was used. At its second use it joins those that a flood of others does not push out.
    pub fn note_use(&mut self, store: &mut Store, id: Id) {
        if store.at(id).is_proven {
            self.proven.uses.renew(store, id);
        } else {
            self.once.remove(store, id);
            store.at_mut(id).is_proven = true;
            self.proven.add(store, id);
        }
    }

    /// The slot that makes room for another, of this client if one is named. Whoever holds more than its share goes
    /// first; after that, what was used once and not for longest. Seven eighths of the bound are for what was used
    /// twice: the rest is for new ones to prove themselves in.
    pub fn first_to_go(&self, newcomer: Option<u16>, bound: usize, share: usize) -> Option<Id> {
        if let Some(client) = self.greediest(newcomer, share).map(usize::from) {
            let once = self.once.clients[client].oldest();
            return once.or_else(|| self.proven.clients[client].oldest());
        }
        if self.proven.uses.len() > bound - bound.div_ceil(8) {
            return self.proven.uses.oldest();
        }
        self.once.uses.oldest()
    }

    /// The same the other way round, for verdicts that wait for the broker, which comes for them in the order in
    /// which they were put in: the one that it comes for last.
    pub fn last_to_come(&self, newcomer: Option<u16>, share: usize) -> Option<Id> {
        if let Some(client) = self.greediest(newcomer, share).map(usize::from) {
            let once = self.once.clients[client].newest();
            return once.or_else(|| self.proven.clients[client].newest());
        }
        self.once.uses.newest().or_else(|| self.proven.uses.newest())
    }

    /// The slot that was used, or put in, before all others, of those that were not used twice.
    pub fn oldest(&self) -> Option<Id> {
        self.once.uses.oldest()
    }

    /// Who gives back: the newcomer itself if it holds more than its share, or whoever holds most above it.
    fn greediest(&self, newcomer: Option<u16>, share: usize) -> Option<u16> {
        newcomer
            .filter(|client| self.held_by(*client) > share)
            .or_else(|| self.above.iter().copied().max_by_key(|client| (self.held_by(*client), *client)))
    }
}
