//! Where verdicts lie: slots in one row, an index by fingerprint, and lists that run through the slots.
//!
//! Nothing here takes a long step as it grows. Slots come in blocks that never move, and the index consists of many
//! small tables, each of which grows by itself.
use std::array;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::fingerprint::Fingerprint;
use crate::question::Verdict;

/// A slot's number.
pub type Id = u32;

const NONE: Id = Id::MAX;

/// Tables in the index. Growing one moves 4,000 entries where a million are held.
const TABLES: usize = 256;

/// Slots in a block: 64 KiB.
const BLOCK: usize = 1024;

/// Which list of its segment a slot belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing is in this slot.
    Free,
    /// An allow that was used.
    Allows,
    /// A deny that was used.
    Denies,
    /// A verdict that was asked for ahead and that nobody has come for.
    Unused,
}

/// Neighbours in a list.
#[derive(Clone, Copy)]
pub struct Links {
    older: Id,
    newer: Id,
}

impl Links {
    /// In no list.
    pub const NONE: Self = Self { older: NONE, newer: NONE };
}

/// A verdict, and its place among the others. A use looks at the slot and its neighbours: each of them is one line of
/// the processor's cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Slot {
    /// What it answers.
    pub key: Fingerprint,
    /// Its neighbours in the two kinds of lists: [`BY_USE`] and [`BY_CLIENT`].
    pub links: [Links; 2],
    /// The tick at which the verdict ends.
    pub ends: u32,
    /// The tick at which its question was sent.
    pub since: u32,
    /// How many ticks before its end it is asked again; 0 once it was. Saturates for lives over 5 hours.
    pub refresh_margin: u16,
    /// The HTTP status.
    pub status: u16,
    /// Whose it is: the fingerprint of a client folded to the few bits that counting takes.
    pub client: u16,
    /// What the API decided.
    pub verdict: Verdict,
    /// Where it is held.
    pub place: Place,
    /// It was used at least twice.
    pub is_proven: bool,
    /// It was asked for ahead, and nobody has come for it.
    pub is_unused: bool,
}

/// Slots by their number.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Box<[Slot; BLOCK]>>,
    /// How many slots were taken so far.
    len: usize,
}

impl Blocks {
    fn at(&self, id: Id) -> &Slot {
        &self.blocks[id as usize / BLOCK][id as usize % BLOCK]
    }

    fn at_mut(&mut self, id: Id) -> &mut Slot {
        &mut self.blocks[id as usize / BLOCK][id as usize % BLOCK]
    }

    fn push(&mut self, slot: Slot) -> Id {
        let id = self.len as Id;
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Box::new([slot; BLOCK]));
        } else {
            *self.at_mut(id) = slot;
        }
        self.len += 1;
        id
    }
}

/// Slots and their index.
pub struct Store {
    tables: Box<[HashTable<Id>; TABLES]>,
    blocks: Blocks,
    /// The first free slot; the others hang on it by their links.
    free: Id,
    used: usize,
}

fn hash(key: Fingerprint) -> u64 {
    key.words()[0]
}

/// The other half of the fingerprint: within a table, all bits of the hash still differ.
fn table(key: Fingerprint) -> usize {
    key.words()[1] as usize % TABLES
}

impl Store {
    /// No slots yet.
    pub fn new() -> Self {
        let tables = Box::new(array::from_fn(|_| HashTable::new()));
        Self { tables, blocks: Blocks::default(), free: NONE, used: 0 }
    }

    /// How many slots are taken.
    pub fn len(&self) -> usize {
        self.used
    }

    /// How many slots there are, free ones included: their numbers are those below this.
    pub fn slots(&self) -> usize {
        self.blocks.len
    }

    /// The slot of that number, which somebody got from here.
    pub fn at(&self, id: Id) -> &Slot {
        self.blocks.at(id)
    }

    /// The same, to be changed.
    pub fn at_mut(&mut self, id: Id) -> &mut Slot {
        self.blocks.at_mut(id)
    }

    /// Where a fingerprint's verdict lies.
    pub fn find(&self, key: Fingerprint) -> Option<Id> {
        self.tables[table(key)].find(hash(key), |id| self.at(*id).key == key).copied()
    }

    /// Takes a slot for a verdict whose fingerprint is not there yet.
    pub fn add(&mut self, slot: Slot) -> Id {
        let id = match self.free {
            NONE => self.blocks.push(slot),
            id => {
                self.free = self.at(id).links[BY_USE].newer;
                *self.at_mut(id) = slot;
                id
            }
        };
        let blocks = &self.blocks;
        let hash_of = |id: &Id| hash(blocks.at(*id).key);
        self.tables[table(slot.key)].insert_unique(hash(slot.key), id, hash_of);
        self.used += 1;
        id
    }

    /// Gives a slot back that is in no list any more.
    pub fn remove(&mut self, id: Id) {
        let key = self.at(id).key;
        let blocks = &self.blocks;
        let hash_of = |id: &Id| hash(blocks.at(*id).key);
        if let Entry::Occupied(entry) =
            self.tables[table(key)].entry(hash(key), |other| *other == id, hash_of)
        {
            entry.remove();
            self.used -= 1;
            let next = self.free;
            let slot = self.at_mut(id);
            slot.place = Place::Free;
            slot.links[BY_USE].newer = next;
            self.free = id;
        }
    }
}

/// The lists in the order of use.
pub const BY_USE: usize = 0;

/// The lists of one client's verdicts, in the order in which they came.
pub const BY_CLIENT: usize = 1;

/// A list that runs through slots, by one of their two pairs of links.
#[derive(Clone, Copy)]
pub struct List<const BY: usize> {
    oldest: Id,
    newest: Id,
    len: u32,
}

impl<const BY: usize> Default for List<BY> {
    fn default() -> Self {
        Self { oldest: NONE, newest: NONE, len: 0 }
    }
}

impl<const BY: usize> List<BY> {
    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// The slot that was put in first.
    pub fn oldest(&self) -> Option<Id> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The slot that was put in last.
    pub fn newest(&self) -> Option<Id> {
        (self.newest != NONE).then_some(self.newest)
    }

    /// Puts a slot in that is in no list of this kind.
    pub fn add(&mut self, store: &mut Store, id: Id) {
        store.at_mut(id).links[BY] = Links { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = id,
            newest => store.at_mut(newest).links[BY].newer = id,
        }
        self.newest = id;
        self.len += 1;
    }

    /// Takes a slot out that is in this list.
    pub fn remove(&mut self, store: &mut Store, id: Id) {
        let Links { older, newer } = store.at(id).links[BY];
        match older {
            NONE => self.oldest = newer,
            older => store.at_mut(older).links[BY].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => store.at_mut(newer).links[BY].older = older,
        }
        self.len -= 1;
    }

    /// Moves a slot of this list to its newest end.
    pub fn renew(&mut self, store: &mut Store, id: Id) {
        if self.newest != id {
            self.remove(store, id);
            self.add(store, id);
        }
    }
}
