//! Usernames that the API has allowed something.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::fingerprint::NO_NAME;

/// Names that have their place among the same few.
const SET: usize = 8;

/// Sets of places. So many names with devices of their own as a broker is sized for are known all at once.
const SETS: usize = 1 << 14;

/// Names that the API has allowed something, each as a keyed hash. Whoever has no account makes up names, and none of those
/// is here. An account takes one place, however many clients it has.
pub struct KnownNames {
    places: Box<[AtomicU64]>,
    is_anybody: AtomicBool,
}

/// Nobody is known. Takes 1 MiB.
impl Default for KnownNames {
    fn default() -> Self {
        let places = (0..SETS * SET).map(|_| AtomicU64::new(NO_NAME)).collect();
        Self { places, is_anybody: AtomicBool::new(false) }
    }
}

impl KnownNames {
    fn set(&self, name: u64) -> &[AtomicU64] {
        &self.places[name as usize % SETS * SET..][..SET]
    }

    /// The API has allowed something that was asked for this name. Where its set is full, it takes another's place.
    pub fn note(&self, name: u64) {
        if name == NO_NAME || self.contains(name) {
            return;
        }
        let set = self.set(name);
        let free = set.iter().find(|place| place.load(Ordering::Relaxed) == NO_NAME);
        free.unwrap_or(&set[(name >> 56) as usize % SET]).store(name, Ordering::Relaxed);
        self.is_anybody.store(true, Ordering::Relaxed);
    }

    /// Knows whom another one knows.
    pub fn take_over(&self, before: &Self) {
        before.places.iter().for_each(|place| self.note(place.load(Ordering::Relaxed)));
    }

    /// Whether the API has allowed anybody anything.
    pub fn is_anybody(&self) -> bool {
        self.is_anybody.load(Ordering::Relaxed)
    }

    /// Whether the API has allowed this name something.
    pub fn contains(&self, name: u64) -> bool {
        name != NO_NAME && self.set(name).iter().any(|place| place.load(Ordering::Relaxed) == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::{Domain, Fingerprinter};

    #[test]
    fn names_are_known_until_others_take_their_place() {
        let known = KnownNames::default();
        assert!(!known.is_anybody() && !known.contains(7));
        let in_one_set = |n: u64| 7 + n * SETS as u64;
        for n in 0..SET as u64 {
            known.note(in_one_set(n));
            known.note(in_one_set(n));
        }
        assert!(known.is_anybody() && (0..SET as u64).all(|n| known.contains(in_one_set(n))));
        known.note(in_one_set(SET as u64));
        let left = (0..=SET as u64).filter(|n| known.contains(in_one_set(*n))).count();
        assert!(left == SET && known.contains(in_one_set(SET as u64)) && !known.contains(8));
        assert!(!known.contains(NO_NAME), "nobody in particular");
        let after = KnownNames::default();
        after.take_over(&known);
        assert!(after.is_anybody() && after.contains(in_one_set(SET as u64)));
    }

    /// As many as a broker may have (docs/limits.md) are nearly all known.
    #[test]
    fn a_large_fleet_is_known() {
        let known = KnownNames::default();
        let keys = Fingerprinter::with_key(&[3; 16]);
        let name = |n: u64| keys.fields(Domain::Client, [&n.to_le_bytes()]).words()[0];
        (0..50_000).for_each(|n| known.note(name(n)));
        let count = (0..50_000).filter(|n| known.contains(name(*n))).count();
        assert!(count > 49_000, "{count}");
    }
}
