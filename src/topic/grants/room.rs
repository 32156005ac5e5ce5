//! The room that rules take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The room that a set takes in a pool, on the account of whoever has brought it.
#[derive(Debug)]
pub struct Room {
    pub(super) bytes: usize,
    pub(super) held: [Arc<AtomicUsize>; 2],
}

impl Drop for Room {
    fn drop(&mut self) {
        for held in &self.held {
            held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
