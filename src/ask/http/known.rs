//! Usernames that the API has allowed something.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::fingerprint::NO_NAME;

/// Places for names. Where two names have the same one, the later is known.
const PLACES: usize = 1 << 14;

/// Names that the API has allowed something, each as a keyed hash. Whoever has no account makes up names, and none of those
/// is here. An account takes one place, however many clients it has.
pub struct Known {
    places: Box<[AtomicU64]>,
    is_anybody: AtomicBool,
}

/// Nobody is known. Takes 128 KiB.
impl Default for Known {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { places, is_anybody: AtomicBool::new(false) }
    }
}

impl Known {
    fn place(&self, name: u64) -> &AtomicU64 {
        &self.places[name as usize % PLACES]
    }

    /// The API has allowed something that was asked for this name.
    pub fn note(&self, name: u64) {
        self.place(name).store(name, Ordering::Relaxed);
        self.is_anybody.store(true, Ordering::Relaxed);
    }

    /// Whether it has allowed anybody anything.
    pub fn is_anybody(&self) -> bool {
        self.is_anybody.load(Ordering::Relaxed)
    }

    /// Whether it has.
    pub fn contains(&self, name: u64) -> bool {
        name != NO_NAME && self.place(name).load(Ordering::Relaxed) == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_until_another_takes_their_place() {
        let known = Known::default();
        assert!(!known.is_anybody());
        let (name, other, same_place) = (7, 8, 7 + PLACES as u64);
        known.note(name);
        assert!(
            known.is_anybody()
                && known.contains(name)
                && !known.contains(other)
                && !known.contains(same_place)
        );
        known.note(same_place);
        assert!(known.contains(same_place) && !known.contains(name));
        assert!(!known.contains(NO_NAME));
    }
}
