//! The one kind of lock that this library has.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex that stays usable after a panic: the panic was stopped at the boundary to the broker, and the other threads
/// must go on deciding. State that half a change would spoil is locked with [`Self::lock_or_mend`].
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

/// The value behind a [`Lock`], locked until this is dropped.
pub type Held<'a, T> = MutexGuard<'a, T>;

impl<T> Lock<T> {
    /// Puts a value behind a lock.
    pub fn new(inner: T) -> Self {
        Self(Mutex::new(inner))
    }

    /// Waits until no other thread holds the lock, and takes it.
    pub fn lock(&self) -> Held<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like [`Self::lock`], but if a thread has panicked while holding the lock, `mend` first makes the value
    /// trustworthy.
    pub fn lock_or_mend(&self, mend: impl FnOnce(&mut T)) -> Held<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| {
            self.0.clear_poison();
            let mut inner = poisoned.into_inner();
            mend(&mut inner);
            inner
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_survives_a_panic_and_is_mended_once() {
        let lock = Lock::new(1);
        let panicking = std::panic::AssertUnwindSafe(|| {
            let _held = lock.lock();
            panic!("on purpose");
        });
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(*lock.lock_or_mend(|number| *number = 2), 2);
        assert_eq!(*lock.lock_or_mend(|number| *number = 3), 2);
        assert_eq!(*lock.lock(), 2);
    }
}
