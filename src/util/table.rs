//! Tables of bounded size.

use std::hash::{BuildHasher, Hash};
use std::num::NonZeroUsize;

use lru::LruCache;

/// A table of at most `bound` entries; the least recently used one makes room. The bound is set after creation, so that
/// the table takes memory as it fills: created with the bound, it would reserve all of it at once.
pub fn bounded<K: Hash + Eq, V, S: BuildHasher + Default>(bound: NonZeroUsize) -> LruCache<K, V, S> {
    let mut table = LruCache::with_hasher(NonZeroUsize::MIN, S::default());
    table.resize(bound);
    table
}
