//! Random numbers from the system.
use std::hash::{BuildHasher, Hasher, RandomState};

use ring::rand::{SecureRandom, SystemRandom};

/// A random key for a keyed hash, or `None` if the system gives no random numbers.
pub fn key() -> Option<[u8; 16]> {
    let mut key = [0; 16];
    SystemRandom::new().fill(&mut key).ok().map(|()| key)
}

/// A random number, or `None` if the system gives none.
pub fn number() -> Option<u64> {
    let mut number = [0; 8];
    SystemRandom::new().fill(&mut number).ok().map(|()| u64::from_be_bytes(number))
}

/// A number from 0 to 1 that spreads events which would otherwise happen together. It is no secret: it comes from the
/// standard library's keys for hash tables, which cost one system call in each thread.
pub fn fraction() -> f64 {
    f64::from((RandomState::new().build_hasher().finish() >> 32) as u32) / f64::from(u32::MAX)
}
