//! The one kind of lock that this library has.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex that a panic does not close: whoever panics while holding it was stopped at the boundary to the broker, and
/// the others must go on deciding. State that half a change can spoil says so where it is locked, see
/// [`Self::lock_or_mend`].
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

/// What is locked, until this is dropped.
pub type Held<'a, T> = MutexGuard<'a, T>;

impl<T> Lock<T> {
    /// Puts something behind a lock.
    pub fn new(inner: T) -> Self {
        Self(Mutex::new(inner))
    }

    /// Waits for whoever holds it, and takes it.
    pub fn lock(&self) -> Held<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Self::lock`], but if somebody panicked while holding it, `mend` makes the state trustworthy first.
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
    fn a_panic_closes_no_lock_and_is_mended_once() {
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
