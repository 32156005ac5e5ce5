//! The operating system: the process's clock, names, sockets, signals and loaded libraries.

pub(super) mod clock;
pub(super) mod copies;
pub(super) mod in_hand;
pub(super) mod interest;
mod memory;
pub(super) mod names;
pub(super) mod read_ahead;
pub(super) mod sockets;
pub(super) mod threads;
pub(super) mod waker;
