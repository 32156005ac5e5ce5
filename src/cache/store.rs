//! The memory of the cache: slots for verdicts, an index by fingerprint, and linked lists through the slots.
//!
//! It grows without a long step. Slots come in blocks that never move, and the index consists of many small tables,
//! each of which grows by itself.
use std::array;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::attached::Attached;
use crate::fingerprint::{About, Fingerprint};
use crate::question::Verdict;

/// A slot's number.
pub type Id = u32;

/// No slot.
const NONE: Id = Id::MAX;

/// Tables in the index. Where a million verdicts are held, growing one table moves 4,000 entries.
const TABLES: usize = 256;

/// Slots in a block: 64 KiB.
const BLOCK: usize = 1024;

/// The part of the cache that a slot belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartName {
    /// None: the slot is free.
    Free,
    /// The allows that are in use.
    Allows,
    /// The denies that are in use.
    Denies,
    /// The verdicts that were asked for early and not used yet.
    Unused,
    /// The verdicts that were asked for early about the readers of a message, which the broker is on its way to.
    Awaited,
}

impl PartName {
    /// Whether the broker has not come yet for the verdicts that are there.
    pub fn is_early(self) -> bool {
        matches!(self, PartName::Unused | PartName::Awaited)
    }
}

/// Neighbours in a list.
#[derive(Clone, Copy)]
pub struct Links {
    older: Id,
    newer: Id,
}

impl Links {
    /// The links of a slot that is in no list.
    pub const NONE: Self = Self { older: NONE, newer: NONE };
}

/// A verdict, and its place among the others. A use reads and writes the slot and its neighbours, so each fills one
/// line of the processor's cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Slot {
    /// The fingerprint of the question that it answers.
    pub key: Fingerprint,
    /// Its neighbours in the two kinds of lists: [`BY_USE`] and [`BY_CLIENT`].
    pub links: [Links; 2],
    /// The tick at which the verdict ends.
    pub ends: u32,
    /// The tick at which its question was sent.
    pub since: u32,
    /// How many ticks before its end it is asked again, or 0 once it was. Saturates for lifetimes over 5 hours.
    pub refresh_margin: u16,
    /// What the API said: the number of its [`Grounds`](crate::question::Grounds).
    pub grounds: u16,
    /// Whose share it counts to, see [`About::sharer`]: a fingerprint, folded to the few bits that counting takes.
    pub client: u16,
    /// Whom it is about, to be forgotten by.
    pub about: About,
    /// What the API decided.
    pub verdict: Verdict,
    /// The part of the cache that it belongs to.
    pub place: PartName,
    /// Whether it was used at least twice.
    pub is_proven: bool,
    /// Whether it was asked for early and not used yet.
    pub is_unused: bool,
    /// The number of what came with it.
    pub terms: u32,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// Slots by their number.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Box<[Slot; BLOCK]>>,
    /// How many slots were taken so far.
    len: usize,
}

impl Blocks {
    fn at(&self, id: Id) -> &Slot {
        #[cfg(test)]
        touched::count();
        &self.blocks[id as usize / BLOCK][id as usize % BLOCK]
    }

    fn at_mut(&mut self, id: Id) -> &mut Slot {
        #[cfg(test)]
        touched::count();
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

/// Counts how often this thread looks at slots or changes them: most of the work of a step, on a machine of any speed.
#[cfg(test)]
pub mod touched {
    use std::cell::Cell;

    thread_local!(static TOUCHED: Cell<usize> = const { Cell::new(0) });

    pub(super) fn count() {
        TOUCHED.set(TOUCHED.get() + 1);
    }

    /// How often it does so in a step.
    pub fn in_step<T>(step: impl FnOnce() -> T) -> usize {
        let before = TOUCHED.get();
        step();
        TOUCHED.get() - before
    }
}

/// What a store leaves behind whose verdicts were all forgotten. Its memory is given back in steps, since giving all of a
/// large one back takes long.
pub struct Remains {
    attached: Attached,
    tables: Vec<HashTable<Id>>,
    blocks: Vec<Box<[Slot; BLOCK]>>,
}

impl Remains {
    /// Gives some of it back. Returns whether anything is left.
    pub fn give_back(&mut self) -> bool {
        let (table, block) = (self.tables.pop(), self.blocks.pop());
        self.attached.give_back() || table.is_some() || block.is_some()
    }
}

/// Slots and their index.
pub struct Store {
    tables: Box<[HashTable<Id>; TABLES]>,
    blocks: Blocks,
    /// What came with the verdicts in slots.
    pub attached: Attached,
    /// The first free slot. Each free slot's links name the next one.
    free: Id,
    used: usize,
}

/// The hash of a fingerprint within a table.
fn hash(key: Fingerprint) -> u64 {
    key.words()[0]
}

/// The table of a fingerprint. It comes from the other half of it, so that all bits of the hash differ within a table.
fn table(key: Fingerprint) -> usize {
    key.words()[1] as usize % TABLES
}

impl Store {
    /// A store without slots.
    pub fn new() -> Self {
        let tables = Box::new(array::from_fn(|_| HashTable::new()));
        Self { tables, blocks: Blocks::default(), attached: Attached::default(), free: NONE, used: 0 }
    }

    /// Forgets everything at once.
    pub fn clear(&mut self) -> Remains {
        let Self { tables, blocks, attached, .. } = std::mem::replace(self, Self::new());
        let tables: Box<[HashTable<Id>]> = tables;
        Remains { attached, tables: tables.into_vec(), blocks: blocks.blocks }
    }

    /// How many slots are in use.
    pub fn len(&self) -> usize {
        self.used
    }

    /// How many slots there are, free ones included. The numbers below it are those of slots.
    pub fn slots(&self) -> usize {
        self.blocks.len
    }

    /// The slot of this number, which must be below [`Self::slots`].
    pub fn at(&self, id: Id) -> &Slot {
        self.blocks.at(id)
    }

    /// The slot of this number, to be changed. The number must be below [`Self::slots`].
    pub fn at_mut(&mut self, id: Id) -> &mut Slot {
        self.blocks.at_mut(id)
    }

    /// The number of the slot that holds a fingerprint's verdict.
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
            self.attached.remove(self.at(id).terms);
            let slot = self.at_mut(id);
            slot.place = PartName::Free;
            slot.links[BY_USE].newer = next;
            self.free = id;
        }
    }
}

/// The index of the links that order verdicts by their use.
pub const BY_USE: usize = 0;

/// The index of the links that order one client's verdicts as they came.
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

    /// The slot that was put in or renewed before all others.
    pub fn oldest(&self) -> Option<Id> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The slot that was put in or renewed after all others.
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
