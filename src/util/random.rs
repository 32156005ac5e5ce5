//! Random numbers from the system.
use std::hash::{BuildHasher, Hasher, RandomState};

use ring::rand::{SecureRandom, SystemRandom};

/// A key, or `None` if the system gives no random numbers.
pub fn key() -> Option<[u8; 16]> {
    let mut key = [0; 16];
    SystemRandom::new().fill(&mut key).ok().map(|()| key)
}

/// A number from 0 to 1, to spread things that would otherwise happen together; no secret. (The standard
/// library keys its hash tables anew each time, and asks the system but once in each thread.)
pub fn fraction() -> f64 {
    f64::from((RandomState::new().build_hasher().finish() >> 32) as u32) / f64::from(u32::MAX)
}
