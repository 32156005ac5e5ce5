//! Sets of rules that many sessions share.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashTable;

use super::Grants;
use super::draft::{Draft, KeptDraft, Unusable};
use super::room::Room;
use crate::util::Lock;

/// Where more than half of a pool is taken, one username may hold one in this many of its bytes, and the set that brings it
/// there: it may come under any number of client ids, and each may make a set that nobody else has.
const SHARE: usize = 64;

/// The sets of rules that somebody holds, each stored once: those that are ready, and those that wait for a client id. What
/// nobody holds any more is forgotten.
///
/// Its locks are taken for the time of one look-up: a shelf's, and the owners' with it where a set is new.
#[derive(Debug)]
pub struct GrantsPool {
    /// The most bytes of all sets together.
    most_bytes: usize,
    /// The bytes of all sets that somebody holds.
    held: Arc<AtomicUsize>,
    keys: RandomState,
    grants: Lock<Shelf<Grants>>,
    drafts: Lock<Shelf<KeptDraft>>,
    owners: Lock<Owners>,
}

/// What a pool holds.
trait Pooled: Sized {
    /// What makes two of them equal.
    type Set: Eq + Hash;
    fn set(&self) -> &Self::Set;
    fn bytes(&self) -> usize;
    fn in_room(self, room: Room) -> Self;
}

#[derive(Debug)]
struct Shelf<T> {
    /// With the hash of each, since a set that is gone cannot be hashed.
    by_hash: HashTable<(u64, Weak<T>)>,
    /// The length at which those that are gone are taken out: at least twice what was left the last time.
    full_at: usize,
}

/// The bytes of those who have brought sets that somebody holds, by the hashes of their usernames.
#[derive(Debug, Default)]
struct Owners {
    held: HashMap<u64, Arc<AtomicUsize>>,
    full_at: usize,
}

impl Pooled for Grants {
    type Set = super::Set;

    fn set(&self) -> &super::Set {
        &self.set
    }

    fn bytes(&self) -> usize {
        Grants::bytes(self)
    }

    fn in_room(self, room: Room) -> Self {
        Self { _room: Some(room), ..self }
    }
}

impl Pooled for KeptDraft {
    type Set = Draft;

    fn set(&self) -> &Draft {
        self.draft()
    }

    fn bytes(&self) -> usize {
        self.draft().bytes()
    }

    fn in_room(self, room: Room) -> Self {
        KeptDraft::in_room(self, room)
    }
}

impl GrantsPool {
    /// A pool for so many bytes of rules, counted once for equal sets.
    pub fn new(most_bytes: usize) -> Self {
        let (held, keys) = (Arc::default(), RandomState::new());
        let (grants, drafts, owners) = (Lock::default(), Lock::default(), Lock::default());
        Self { most_bytes, held, keys, grants, drafts, owners }
    }

    /// The set that equals this one: an older one, if somebody holds one, else this. `None` if there is no room for it, or no
    /// more for this username.
    pub fn share(&self, grants: Grants, username: &str) -> Option<Arc<Grants>> {
        self.share_on(&self.grants, grants, username)
    }

    /// The rules of a draft, made ready for one client.
    ///
    /// # Errors
    /// What is wrong with them, or that there is no room.
    pub fn ready(&self, draft: &Draft, username: &str, client_id: &str) -> Result<Arc<Grants>, Unusable> {
        self.share(draft.compile(username, client_id)?, username).ok_or(Unusable::NoRoom)
    }

    /// The set of rules which still wait for a client id that equals this one, as [`share`](Self::share) finds it for others.
    pub fn keep(&self, draft: Draft, username: &str) -> Option<Arc<KeptDraft>> {
        self.share_on(&self.drafts, KeptDraft::new(draft), username)
    }

    fn share_on<T: Pooled>(&self, shelf: &Lock<Shelf<T>>, new: T, username: &str) -> Option<Arc<T>> {
        let hash = self.keys.hash_one(new.set());
        // Let go of behind the lock, since the last one to hold a set frees it.
        let mut looked_at = Vec::new();
        let mut shelf = shelf.lock();
        let known = shelf.by_hash.find(hash, |(_, known)| {
            let known = known.upgrade();
            let is_equal = known.as_ref().is_some_and(|known| known.set() == new.set());
            looked_at.extend(known);
            is_equal
        });
        if known.is_some() {
            return looked_at.pop();
        }
        let room = self.room(new.bytes(), username)?;
        let shared = Arc::new(new.in_room(room));
        shelf.add(hash, Arc::downgrade(&shared));
        Some(shared)
    }

    fn room(&self, bytes: usize, username: &str) -> Option<Room> {
        // Only this adds anything, and it holds the lock.
        let mut owners = self.owners.lock();
        let own = owners.held(self.keys.hash_one(username));
        let held = self.bytes().saturating_add(bytes);
        let is_short = held > self.most_bytes / 2;
        let has_share = own.load(Ordering::Relaxed) >= self.most_bytes / SHARE;
        if held > self.most_bytes || is_short && has_share {
            return None;
        }
        let held = [Arc::clone(&self.held), own];
        for held in &held {
            held.fetch_add(bytes, Ordering::Relaxed);
        }
        Some(Room { bytes, held })
    }

    /// The bytes of all sets that somebody holds.
    pub fn bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// What is left over is taken out when a table has so many entries, or twice as many as were left the last time.
const FEW: usize = 64;

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { by_hash: HashTable::new(), full_at: FEW }
    }
}

impl<T> Shelf<T> {
    fn add(&mut self, hash: u64, set: Weak<T>) {
        if self.by_hash.len() >= self.full_at {
            self.by_hash.retain(|(_, set)| set.strong_count() > 0);
            self.full_at = FEW.max(2 * self.by_hash.len());
        }
        self.by_hash.insert_unique(hash, (hash, set), |(hash, _)| *hash);
    }
}

impl Owners {
    fn held(&mut self, owner: u64) -> Arc<AtomicUsize> {
        if self.held.len() >= self.full_at {
            self.held.retain(|_, held| Arc::strong_count(held) > 1);
            self.full_at = FEW.max(2 * self.held.len());
        }
        Arc::clone(self.held.entry(owner).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Names, Permission, QosSet, RawRule};
    use super::*;
    use crate::topic::grants::DraftRule;

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
        let first = pool.share(grants("a/${username}"), "u").unwrap();
        let bytes = pool.bytes();
        assert_eq!(bytes, first.bytes());
        assert!(Arc::ptr_eq(&first, &pool.share(grants("a/u"), "u").unwrap()));
        assert_eq!(pool.bytes(), bytes);
        let other = pool.share(grants("b"), "u").unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(pool.bytes(), bytes + other.bytes());
    }

    #[test]
    fn sets_that_nobody_holds_are_forgotten() {
        let pool = GrantsPool::new(1 << 20);
        for number in 0..10_000 {
            let shared = pool.share(grants(&number.to_string()), "u").unwrap();
            assert_eq!(pool.bytes(), shared.bytes());
        }
        assert_eq!(pool.bytes(), 0);
        assert!(pool.grants.lock().by_hash.len() <= 64);
    }

    #[test]
    fn a_full_pool_takes_no_new_set_until_one_is_gone() {
        let pool = GrantsPool::new(grants("a").bytes());
        let first = pool.share(grants("a"), "u").unwrap();
        assert!(pool.share(grants("b"), "u").is_none());
        assert!(pool.share(grants("a"), "u").is_some(), "an equal one takes no room");
        drop(first);
        assert!(pool.share(grants("b"), "u").is_some());
    }

    /// Whoever comes under many client ids, each of which makes a set of its own, leaves room for the others.
    #[test]
    fn one_username_does_not_fill_the_pool() {
        let one = grants("client/0000/t").bytes();
        let pool = GrantsPool::new(1000 * one);
        let sets = |username: &'static str, from: usize| {
            let pool = &pool;
            (from..from + 1000).map_while(move |n| pool.share(grants(&format!("client/{n:04}/t")), username))
        };
        let greedy: Vec<_> = sets("mallory", 0).collect();
        assert_eq!(greedy.len(), 500);
        let share: Vec<_> = sets("alice", 1000).collect();
        assert_eq!(share.len(), 1000_usize.div_ceil(SHARE));
        assert!(pool.share(grants("client/0000/t"), "alice").is_some(), "what is held takes no room");
        assert!(pool.share(grants("other"), "bob").is_some());
        drop(greedy);
        assert!(pool.share(grants("other/2"), "alice").is_some(), "there is room again");
        drop(share);
        assert_eq!(pool.bytes(), 0);
    }

    /// Rules with a place for the client id are kept with each remembered login: they count, and equal ones count once.
    #[test]
    fn rules_that_wait_for_a_client_id_take_room_too() {
        let draft = |topic: &str| Draft {
            rules: vec![DraftRule {
                permission: Permission::Allow,
                action: Action::All,
                topics: vec![topic.to_owned()],
                qos: QosSet::ALL,
                retain: None,
            }],
            attrs: Vec::new(),
        };
        let pool = GrantsPool::new(1 << 20);
        let first = pool.keep(draft("a/${clientid}"), "u").unwrap();
        assert_eq!(pool.bytes(), first.draft().bytes());
        assert!(Arc::ptr_eq(&first, &pool.keep(draft("a/${clientid}"), "v").unwrap()));
        let long = "x".repeat(60_000);
        let kept: Vec<_> =
            (0..100).map_while(|n| pool.keep(draft(&format!("{n}/{long}/${{clientid}}")), "u")).collect();
        assert!((8..18).contains(&kept.len()), "{}", kept.len());
        drop((first, kept));
        assert_eq!(pool.bytes(), 0);
    }
}
