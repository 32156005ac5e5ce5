//! The other brokers with which a cache is shared (`shared_cache`): this one carries out what they were told to do, and learns
//! what they have learnt.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::orders::Order;
use super::steering::Steering;
use crate::ask::Peer;
use crate::command::{Command, Done, Giver};

/// This broker among those that share a cache.
struct OneOfMany(Weak<Steering>);

impl Peer for OneOfMany {
    fn told(&self, command: Command) {
        if let Some(steering) = self.0.upgrade() {
            steering.carry_out_told(command);
        }
    }

    fn learnt(&self, most: usize) -> Option<String> {
        self.0.upgrade()?.prefetch.habits(most)
    }

    fn learnt_elsewhere(&self, text: &str) {
        if let Some(steering) = self.0.upgrade() {
            steering.prefetch.adopt(text, Instant::now());
        }
    }
}

impl Steering {
    /// Carries out what other brokers are told to do, as long as this lives.
    pub(super) fn hear_others(self: &Arc<Self>) {
        self.asker.be_heard(OneOfMany(Arc::downgrade(self)));
    }

    /// Carries out what another broker has told. Nobody there waits to hear what came of it, nor tells it again: the log has
    /// it, and what has no room now waits.
    fn carry_out_told(self: &Arc<Self>, command: Command) {
        match command.clone() {
            Command::Forget(whom) => {
                self.forget(&whom, Instant::now());
                self.noting(command, Giver::Broker, Box::new(drop))(Ok(Done::Forgotten));
            }
            Command::Kick(named) => {
                let reply = self.noting(command, Giver::Broker, Box::new(drop));
                if let Some(place) = self.from_others.place_of_kick() {
                    return self.order(Order::Kick(named, place.held_by(reply)));
                }
                // Whoever has lost a right leaves all the same.
                let why =
                    "too many commands wait for the broker's thread, so the API is asked about everybody";
                reply(Err(why.to_owned()));
                self.recheck_told(None);
            }
            Command::Recheck(username) => self.recheck_told(username),
        }
    }

    fn recheck_told(self: &Arc<Self>, username: Option<String>) {
        self.from_others.add_recheck(username);
        self.recheck_next();
    }
}
