//! The standard library with loom's threads, locks and atomics.

pub use ::std::*;

pub mod sync {
    // Loom's own Arc cannot hold a trait; who counts references is not the question here.
    pub use ::std::sync::{Arc, PoisonError};
    pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
}

pub mod thread {
    use std::time::Duration;

    pub use loom::thread::{JoinHandle, park, spawn};

    /// In a model time is nothing but the turns of others.
    pub fn sleep(_: Duration) {
        loom::thread::yield_now();
    }
}
