//! What only the broker's own thread touches.

use std::cell::RefCell;
use std::mem;

use fragile::Fragile;

use super::BrokerThread;

/// A value that only the broker's own thread touches, the one that made it: no lock is taken, so no other thread can have
/// the broker wait. That it runs there is what a caller shows with a [`BrokerThread`]; that this is the very same thread is
/// checked as well.
pub struct BrokerCell<T>(Option<Fragile<RefCell<T>>>);

impl<T> BrokerCell<T> {
    /// Keeps a value for the calling thread.
    pub fn new(value: T) -> Self {
        Self(Some(Fragile::new(RefCell::new(value))))
    }

    /// Uses the value. `body` must not come back to it: not by a function of the broker that calls the plugin, either.
    ///
    /// # Panics
    /// On another thread, and if `body` comes back to it.
    #[track_caller]
    pub fn with<R>(&self, _: &BrokerThread, body: impl FnOnce(&mut T) -> R) -> R {
        let Some(value) = &self.0 else { unreachable!("it is taken out when it is dropped") };
        body(&mut value.get().borrow_mut())
    }
}

impl<T: Default> Default for BrokerCell<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Another thread must not drop the value: whoever lets go of a plugin last there leaves it behind.
impl<T> Drop for BrokerCell<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take_if(|value| !value.is_valid()) {
            mem::forget(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_value_is_for_the_thread_that_made_it() {
        let cell = Arc::new(BrokerCell::new(1));
        let thread = BrokerThread::vouched_for();
        cell.with(&thread, |value| *value += 1);
        assert_eq!(cell.with(&thread, |value| *value), 2);
        let elsewhere = Arc::clone(&cell);
        let used = thread::spawn(move || elsewhere.with(&BrokerThread::vouched_for(), |value| *value));
        assert!(used.join().is_err());
    }

    #[test]
    fn what_comes_back_to_a_value_in_use_panics_and_the_value_stays_usable() {
        let (cell, thread) = (BrokerCell::new(1), BrokerThread::vouched_for());
        let comes_back = || cell.with(&thread, |_| cell.with(&thread, |value| *value));
        assert!(catch_unwind(AssertUnwindSafe(comes_back)).is_err());
        assert_eq!(cell.with(&thread, |value| *value), 1);
    }

    #[test]
    fn another_thread_leaves_the_value_behind() {
        let value = Arc::new(());
        let cell = BrokerCell::new(Arc::clone(&value));
        thread::spawn(move || drop(cell)).join().unwrap();
        assert_eq!(Arc::strong_count(&value), 2, "it is not dropped there");
        drop(BrokerCell::new(Arc::clone(&value)));
        assert_eq!(Arc::strong_count(&value), 2, "here it is");
    }
}
