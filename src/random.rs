//! Random numbers from the system.
#![forbid(unsafe_code)]

use ring::rand::{SecureRandom, SystemRandom};

/// A key, or `None` if the system gives no random numbers.
pub fn key() -> Option<[u8; 16]> {
    let mut key = [0; 16];
    SystemRandom::new().fill(&mut key).ok().map(|()| key)
}

/// A number from 0 to 1, to spread things that would otherwise happen together. Without randomness they
/// do: no reason to fail.
pub fn fraction() -> f64 {
    let mut byte = [0];
    let _ = SystemRandom::new().fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
