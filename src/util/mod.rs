//! Helpers that know nothing of brokers, questions or options.

pub mod fair;
pub mod files;
pub mod location;
mod lock;
mod nanos;
mod once_a_minute;
pub mod panics;
pub mod percent;
pub mod random;
mod table;
mod until;

pub use location::Location;
pub use lock::{Held, Lock};
pub use nanos::nanos;
pub use once_a_minute::OnceAMinute;
pub use table::bounded;
pub use until::sleep_until;
