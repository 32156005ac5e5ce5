//! Commands of other brokers, with which a cache is shared (`shared_cache`), and those that they are told.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::orders::{Meant, Order};
use super::steering::Steering;
use crate::ask::{Peer, ToAll};
use crate::log::Level;
use crate::question::Whom;

/// This broker among those that share a cache.
struct OneOfMany(Weak<Steering>);

impl Peer for OneOfMany {
    fn told(&self, told: ToAll) {
        if let Some(steering) = self.0.upgrade() {
            steering.carry_out_as_well(told);
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

    /// Has the other brokers carry a command out, too.
    pub fn tell_others(&self, told: ToAll) {
        self.api.asker.tell_others(told);
    }

    fn carry_out_as_well(self: &Arc<Self>, told: ToAll) {
        match told {
            ToAll::Forget(whom) => {
                self.forget(&whom, Instant::now());
                self.note_other("forget", &whom, "done");
            }
            ToAll::Kick(whom) => {
                let (steering, meant) = (Arc::downgrade(self), whom.clone());
                let reply = Box::new(move |result: Result<usize, String>| {
                    if let Some(steering) = steering.upgrade() {
                        let outcome = result.map_or_else(|why| why, |count| format!("{count} disconnected"));
                        steering.note_other("kick", &meant, &outcome);
                    }
                });
                if let Err(why) = self.order(Order::Kick(whom.clone(), reply)) {
                    self.note_other("kick", &whom, why);
                }
            }
            ToAll::Recheck(whom) => {
                let (steering, meant) = (Arc::downgrade(self), whom.clone());
                let reply = Box::new(move |result: Result<usize, String>| {
                    if let Some(steering) = steering.upgrade() {
                        let asked = |count| format!("the API is asked about {count} sessions");
                        steering.note_other("recheck", &meant, &result.map_or_else(|why| why, asked));
                    }
                });
                let username = match &whom {
                    Whom::Username(username) => Some(username.clone()),
                    Whom::ClientId(_) | Whom::Everybody => None,
                };
                if let Err(why) = self.order(Order::Recheck(username, reply)) {
                    self.note_other("recheck", &whom, why);
                }
            }
        }
    }

    fn note_other(&self, command: &str, whom: &Whom, outcome: &str) {
        let line = format!("Command {command} for {}, by another broker: {outcome}.", Meant(whom));
        self.log().write(Level::Notice, line);
        self.broker().wake();
    }
}
