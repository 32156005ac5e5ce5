//! What is counted of the cache that several brokers share.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Histogram;

/// What became of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedLookup {
    /// The verdict was there.
    Hit,
    /// Nothing was there.
    Miss,
    /// What was there has ended, or was taken back.
    Old,
    /// Something was there that no broker of these has stored.
    Foreign,
    /// There was no answer in time.
    Error,
}

impl SharedLookup {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Hit, Self::Miss, Self::Old, Self::Foreign, Self::Error];

    /// Its name in labels.
    pub fn name(self) -> &'static str {
        ["hit", "miss", "old", "foreign", "error"][self as usize]
    }
}

/// All counts of the shared cache since the start.
#[derive(Debug, Default)]
pub struct SharedCache {
    lookups: [AtomicU64; SharedLookup::ALL.len()],
    latency: Histogram,
    stored: [AtomicU64; 2],
    told: AtomicU64,
    heard: AtomicU64,
    foreign_entries: AtomicU64,
}

impl SharedCache {
    /// A verdict was looked up, which took so long.
    pub fn looked_up(&self, result: SharedLookup, took: Duration) {
        self.lookups[result as usize].fetch_add(1, Ordering::Relaxed);
        self.latency.observe(took);
    }

    /// A verdict was stored, or was not.
    pub fn stored(&self, is_stored: bool) {
        self.stored[usize::from(!is_stored)].fetch_add(1, Ordering::Relaxed);
    }

    /// The other brokers were told of a command.
    pub fn told(&self) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    /// A command of another broker was heard.
    pub fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// An entry of the journal was not one of these brokers.
    pub fn foreign_entry(&self) {
        self.foreign_entries.fetch_add(1, Ordering::Relaxed);
    }

    /// How often look-ups ended like this.
    pub fn lookups(&self, result: SharedLookup) -> u64 {
        self.lookups[result as usize].load(Ordering::Relaxed)
    }

    /// How long look-ups took.
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// How many verdicts were stored, and how many could not be.
    pub fn stores(&self) -> [u64; 2] {
        self.stored.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// How many commands the others were told, and how many were heard of them.
    pub fn commands(&self) -> [u64; 2] {
        [&self.told, &self.heard].map(|count| count.load(Ordering::Relaxed))
    }

    /// How many values and entries were found that no broker of these has written.
    pub fn foreign(&self) -> u64 {
        self.lookups(SharedLookup::Foreign) + self.foreign_entries.load(Ordering::Relaxed)
    }
}
