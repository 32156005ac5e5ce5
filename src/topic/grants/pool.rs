//! Sets of rules that many sessions share.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashTable;

use super::Grants;
use crate::util::Lock;

/// The sets of rules that somebody holds, each stored once. What nobody holds any more is forgotten.
///
/// Its lock is taken alone, and for the time of one look-up.
#[derive(Debug)]
pub struct GrantsPool {
    /// The most bytes of all sets together.
    most_bytes: usize,
    /// The bytes of all sets that somebody holds.
    held: Arc<AtomicUsize>,
    keys: RandomState,
    sets: Lock<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    /// With the hash of each, since a set that is gone cannot be hashed.
    by_hash: HashTable<(u64, Weak<Grants>)>,
    /// The length at which those that are gone are taken out: at least twice what was left the last time.
    full_at: usize,
}

/// The room that a set takes in a pool.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl GrantsPool {
    /// A pool for so many bytes of rules, counted once for equal sets.
    pub fn new(most_bytes: usize) -> Self {
        let held = Arc::new(AtomicUsize::new(0));
        Self { most_bytes, held, keys: RandomState::new(), sets: Lock::default() }
    }

    /// The set that equals this one: an older one, if somebody holds one, else this. `None` if there is no room for it.
    pub fn share(&self, grants: Grants) -> Option<Arc<Grants>> {
        let hash = self.keys.hash_one(&grants.set);
        // Let go of behind the lock, since the last one to hold a set frees it.
        let mut looked_at = Vec::new();
        let mut sets = self.sets.lock();
        let known = sets.by_hash.find(hash, |(_, known)| {
            let known = known.upgrade();
            let is_equal = known.as_ref().is_some_and(|known| known.set == grants.set);
            looked_at.extend(known);
            is_equal
        });
        if known.is_some() {
            return looked_at.pop();
        }
        let bytes = grants.bytes();
        // Only this adds to it, and it holds the lock.
        if self.bytes().saturating_add(bytes) > self.most_bytes {
            return None;
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { bytes, held: Arc::clone(&self.held) };
        let shared = Arc::new(Grants { _room: Some(room), ..grants });
        sets.add(hash, Arc::downgrade(&shared));
        Some(shared)
    }

    /// The bytes of all sets that somebody holds.
    pub fn bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Sets {
    fn add(&mut self, hash: u64, set: Weak<Grants>) {
        const FEW: usize = 64;
        if self.by_hash.len() >= self.full_at {
            self.by_hash.retain(|(_, set)| set.strong_count() > 0);
            self.full_at = FEW.max(2 * self.by_hash.len());
        }
        self.by_hash.insert_unique(hash, (hash, set), |(hash, _)| *hash);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Names, Permission, QosSet, RawRule};
    use super::*;

    fn grants(topic: &str) -> Grants {
        let rule = RawRule {
            permission: Permission::Allow,
            action: Action::All,
            topics: vec![topic],
            qos: QosSet::ALL,
            retain: None,
        };
        Grants::compile(&[rule], &Names { client_id: "c", username: "u", attrs: &[] }).unwrap()
    }

    #[test]
    fn equal_sets_are_stored_once() {
        let pool = GrantsPool::new(1 << 20);
        let first = pool.share(grants("a/${username}")).unwrap();
        let bytes = pool.bytes();
        assert_eq!(bytes, first.bytes());
        assert!(Arc::ptr_eq(&first, &pool.share(grants("a/u")).unwrap()));
        assert_eq!(pool.bytes(), bytes);
        let other = pool.share(grants("b")).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(pool.bytes(), bytes + other.bytes());
    }

    #[test]
    fn sets_that_nobody_holds_are_forgotten() {
        let pool = GrantsPool::new(1 << 20);
        for number in 0..10_000 {
            let shared = pool.share(grants(&number.to_string())).unwrap();
            assert_eq!(pool.bytes(), shared.bytes());
        }
        assert_eq!(pool.bytes(), 0);
        assert!(pool.sets.lock().by_hash.len() <= 64);
    }

    #[test]
    fn a_full_pool_takes_no_new_set_until_one_is_gone() {
        let pool = GrantsPool::new(grants("a").bytes());
        let first = pool.share(grants("a")).unwrap();
        assert!(pool.share(grants("b")).is_none());
        assert!(pool.share(grants("a")).is_some(), "an equal one takes no room");
        drop(first);
        assert!(pool.share(grants("b")).is_some());
    }
}
