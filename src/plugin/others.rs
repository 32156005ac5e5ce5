//! Commands of other brokers, with which a cache is shared (`shared_cache`), and those that they are told.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::orders::{Meant, Order, Reply};
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
        let (command, whom, ordered) = match told {
            ToAll::Forget(whom) => {
                self.forget(&whom, Instant::now());
                return self.note_other("forget", &whom, "done");
            }
            ToAll::Kick(whom) => {
                let reply = self.noting("kick", &whom);
                ("kick", whom.clone(), self.order(Order::Kick(whom, reply)))
            }
            ToAll::Recheck(whom) => {
                let reply = self.noting("recheck", &whom);
                let username = match &whom {
                    Whom::Username(username) => Some(username.clone()),
                    Whom::ClientId(_) | Whom::Everybody => None,
                };
                ("recheck", whom, self.order(Order::Recheck(username, reply)))
            }
        };
        if let Err(why) = ordered {
            self.note_other(command, &whom, why);
        }
    }

    /// Notes what has come of an order.
    fn noting(self: &Arc<Self>, command: &'static str, whom: &Whom) -> Reply {
        let (steering, whom) = (Arc::downgrade(self), whom.clone());
        Box::new(move |result| {
            if let Some(steering) = steering.upgrade() {
                steering.note_other(command, &whom, &Order::outcome(command, &result));
            }
        })
    }

    fn note_other(&self, command: &str, whom: &Whom, outcome: &str) {
        let line = format!("Command {command} for {}, by another broker: {outcome}.", Meant(whom));
        self.log().write(Level::Notice, line);
        self.broker().wake();
    }
}
