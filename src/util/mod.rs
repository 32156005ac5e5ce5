//! Leaves that know nothing of brokers, questions or options.

pub mod files;
mod lock;
pub mod panics;
pub mod random;
mod table;

pub use lock::{Held, Lock};
pub use table::bounded;
