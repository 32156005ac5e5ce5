//! `once_cell` for models, which fill their cells before a second thread looks.

pub mod sync {
    use std::cell::OnceCell as Cell;

    pub struct OnceCell<T>(Cell<T>);

    // SAFETY: see above; loom runs one thread at a time, and nothing here is lent out mutably.
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
