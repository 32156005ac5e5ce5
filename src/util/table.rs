//! Tables with a bound.

use std::hash::{BuildHasher, Hash};
use std::num::NonZeroUsize;

use lru::LruCache;

/// A table of at most `bound` entries; the one that was not used for longest makes room. It takes memory as it fills:
/// made with its bound at once, the crate would reserve all of it.
pub fn bounded<K: Hash + Eq, V, S: BuildHasher + Default>(bound: NonZeroUsize) -> LruCache<K, V, S> {
    let mut table = LruCache::with_hasher(NonZeroUsize::MIN, S::default());
    table.resize(bound);
    table
}
