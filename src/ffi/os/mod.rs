//! The operating system: the process's clock, sockets, signals and loaded libraries.

pub(super) mod clock;
pub(super) mod copies;
mod interest;
pub(super) mod sockets;
pub(super) mod waker;
