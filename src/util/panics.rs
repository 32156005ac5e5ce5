//! Catching panics, and where they happened. A panic's message is thrown away: it may quote data, such as a password.
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes panics in this library print nothing and note their location for [`last_place`].
pub fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        // This fails while a thread ends, when nobody asks for the location any more.
        let _ = LAST.try_with(|last| *last.borrow_mut() = location);
    }));
}

/// Runs `body`. If it panics, the error is the source location of the panic.
pub fn caught<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    // State that a panic would leave half changed in a harmful way is mended when it is locked next (`Lock::lock_or_mend`).
    catch_unwind(AssertUnwindSafe(body)).map_err(|_| last_place())
}

/// The source location of the last panic on this thread that nobody has asked for yet.
pub fn last_place() -> String {
    LAST.take().unwrap_or_else(|| "an unknown place".to_owned())
}

/// A line for the log about a panic that was stopped, and its `outcome`: a sentence about the request at hand.
pub fn message(location: &str, outcome: &str) -> String {
    format!("A bug in the plugin was stopped at {location}; please report it. {outcome}")
}
