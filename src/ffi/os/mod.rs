//! The operating system: the process's clock, names, sockets, signals and loaded libraries. `interest` finds whose each
//! socket is, `sockets` looks into them; `in_hand` and `read_ahead` find what the broker has read of them already.

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
