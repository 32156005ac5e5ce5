//! The standard library with loom's threads, locks and atomics.

pub use ::std::*;

pub mod sync {
    // Loom's own Arc cannot hold a trait object, and the counting of references is not under test.
    pub use ::std::sync::{Arc, PoisonError};
    pub use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
}

pub mod thread {
    use std::time::Duration;

    pub use loom::thread::{JoinHandle, park, spawn};

    /// Gives other threads a turn. A model has no time.
    pub fn sleep(_: Duration) {
        loom::thread::yield_now();
    }
}
