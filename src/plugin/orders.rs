//! What commands have the broker's thread do, at the tick (`tick.rs`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broker::Connection;
use crate::command::{Named, Outcome};

/// Hears what came of a command.
pub type OnDone = Box<dyn FnOnce(Outcome) + Send>;

/// Something that only the broker's thread can do.
pub enum Order {
    /// Disconnect who is connected or parked.
    Kick(Named, OnDone),
    /// Have the API asked again about the sessions of a username, or about all.
    Recheck(Option<String>, OnDone),
    /// Send a client these bytes as the answer to its commands.
    Answer(Recipient, Vec<u8>, OrderPlace),
}

/// A place among the orders that may wait, held until it is dropped.
#[derive(Debug)]
pub struct OrderPlace(Arc<AtomicUsize>);

impl OrderPlace {
    /// Takes a place, if fewer than `most` are taken.
    pub fn among(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        // Whoever finds none must not stand in the way of whoever comes just then.
        let one_more = |before| (before < most).then_some(before + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(taken)))
    }

    /// A reply that gives the place back when it is called, or dropped with its order.
    pub fn held_by(self, reply: OnDone) -> OnDone {
        Box::new(move |outcome| {
            drop(self);
            reply(outcome);
        })
    }
}

impl Drop for OrderPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that has given commands.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// The connection that they came on.
    pub connection: Connection,
    /// Its client id.
    pub client_id: String,
    /// Its username; empty if it has none.
    pub username: String,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Kick(..) => "Kick",
            Order::Recheck(..) => "Recheck",
            Order::Answer(..) => "Answer",
        })
    }
}
