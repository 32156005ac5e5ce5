//! Where a panic happened. What it said is thrown away: such texts quote data, and data may be a password.
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics in this library print nothing and note their place for [`caught`].
pub fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        // During the end of a thread there is no place to keep it any more, and nobody to read it.
        let _ = LAST.try_with(|last| *last.borrow_mut() = place);
    }));
}

/// Runs something; if it panics, the error is the place where.
pub fn caught<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    // What a panic may have left half done is behind locks, which notice.
    catch_unwind(AssertUnwindSafe(body))
        .map_err(|_| LAST.take().unwrap_or_else(|| "an unknown place".to_owned()))
}

/// A line for the log about a panic that was stopped at this place, and what became of what was at hand.
pub fn message(place: &str, outcome: &str) -> String {
    format!("A bug in the plugin was stopped at {place}; please report it. {outcome}")
}
