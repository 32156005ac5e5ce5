//! The other brokers with which a cache is shared (`shared_cache`): this one carries out what they were told to do, and learns
//! what they have learnt.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::orders::{Order, Permit};
use super::steering::Steering;
use crate::ask::Peer;
use crate::command::{Command, Done, Giver};

/// Kicks of other brokers that may wait for the broker's thread: as many as a journal keeps, since nobody gives them again.
const TOLD_KICKS: usize = 10_000;

/// This broker among those that share a cache.
struct OneOfMany(Weak<Steering>);

impl Peer for OneOfMany {
    fn told(&self, command: Command) {
        if let Some(steering) = self.0.upgrade() {
            steering.carry_out_told(command);
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
                if let Some(place) = Permit::among(&self.from_others.kicks, TOLD_KICKS) {
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

    /// Begins the next recheck that another broker has told, unless one is going on. Whoever ends one calls this.
    pub(super) fn recheck_next(self: &Arc<Self>) {
        // Another thread that has come meanwhile may have found the place taken.
        while self.from_others.has_rechecks() {
            let Some(place) = self.place_of_recheck() else { return };
            let Some(username) = self.from_others.next_recheck() else { continue };
            let reply = self.noting(Command::Recheck(username.clone()), Giver::Broker, Box::new(drop));
            return self.order(Order::Recheck(username, place.held_by(reply)));
        }
    }
}
