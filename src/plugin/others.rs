//! The other brokers with which a cache is shared (`shared_cache`): this one carries out what they were told to do, and learns
//! what they have learnt.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::steering::Steering;
use crate::ask::Peer;
use crate::command::{Command, Giver};

/// This broker among those that share a cache.
struct OneOfMany(Weak<Steering>);

impl Peer for OneOfMany {
    fn told(&self, command: Command) {
        if let Some(steering) = self.0.upgrade() {
            // Nobody there waits to hear what came of it; the log has it.
            steering.carry_out(command, Giver::Broker, Box::new(drop));
        }
    }

    fn learnt(&self, most: usize) -> Option<String> {
        self.0.upgrade()?.api.prefetch.habits(most)
    }

    fn learnt_elsewhere(&self, text: &str) {
        if let Some(steering) = self.0.upgrade() {
            steering.api.prefetch.adopt(text, Instant::now());
        }
    }
}

impl Steering {
    /// Carries out what other brokers are told to do, as long as this lives.
    pub(super) fn hear_others(self: &Arc<Self>) {
        self.api.asker.be_heard(OneOfMany(Arc::downgrade(self)));
    }
}
