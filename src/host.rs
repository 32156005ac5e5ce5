//! What the plugin needs of the process it lives in; the broker's side of it is in `broker`.
#![forbid(unsafe_code)]

use std::io;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::lookahead::Unread;
use crate::sessions::Connection;

/// The broker's process.
pub trait Host: Send + Sync {
    /// Starts a thread that takes no signals, since those are for the broker's own thread.
    fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

    /// Whether the caller is the broker's own thread, which serves all clients. (Mosquitto 2.1 also asks
    /// from the thread of its HTTP listener.)
    fn is_broker_thread(&self) -> bool;

    /// Whether this is Mosquitto 2.1 or later, in which clients can wait beside the loop.
    fn is_2_1(&self) -> bool;

    /// Whether no other copy of this library's file is in the process. Copies do not know of each other's parked
    /// clients, and the broker knows those by nothing but their ids.
    fn is_only_copy(&self) -> bool {
        true
    }

    /// Prepares for [`Self::wake`]. `false` if that cannot work here; then the loop comes round by itself,
    /// after up to 100 ms. For the broker's thread.
    fn can_wake(&self) -> bool;

    /// Makes the broker's loop come round, unless it has just come round and not yet begun to wait: then
    /// nothing happens. From any thread.
    fn wake(&self);

    /// Whether this connection is the broker's session of that client id: a client whose CONNECT is being
    /// handled is not yet. Always `false` before 2.1. For the broker's thread.
    fn is_session(&self, client_id: &str, connection: Connection) -> bool;

    /// Lets a client in that is parked under this id, or refuses it. May call back into the plugin before
    /// it returns. For the broker's thread.
    fn complete_login(&self, client_id: &str, allow: bool);

    /// Disconnects a client. May call back into the plugin before it returns. For the broker's thread, but
    /// not for a callback about that client.
    fn kick(&self, client_id: &str, username: &str);

    /// Shows what clients have sent and the broker has not read, until `deadline` at most. Takes nothing and
    /// never waits. For the broker's thread.
    fn look_ahead(&self, deadline: Instant, see: &mut dyn FnMut(Unread<'_>));
}
