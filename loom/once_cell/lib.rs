//! A substitute for the crate `once_cell`, for models that fill their cells before a second thread reads them.

pub mod sync {
    use std::cell::OnceCell as Cell;

    pub struct OnceCell<T>(Cell<T>);

    // SAFETY: loom runs one thread at a time, cells are filled before a second thread reads them, and nothing is lent
    // out mutably.
    unsafe impl<T: Send + Sync> Sync for OnceCell<T> {}

    impl<T> OnceCell<T> {
        pub fn new() -> Self {
            Self(Cell::new())
        }

        pub fn get(&self) -> Option<&T> {
            self.0.get()
        }

        pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
            if self.0.get().is_none() {
                let _ = self.0.set(make()?);
            }
            Ok(self.0.get().expect("just filled"))
        }
    }
}
