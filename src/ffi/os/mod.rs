//! The operating system: what the process has beside the broker.

pub(super) mod clock;
pub(super) mod copies;
pub(super) mod sockets;
pub(super) mod waker;
