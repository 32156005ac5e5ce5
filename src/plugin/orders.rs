//! What commands have the broker's thread do, at the tick.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::CONTROL_TOPIC;
use super::attempt::Attempt;
use super::decision::{By, Decision};
use super::delayed::Parked;
use super::event::Event;
use super::login::Logins;
use crate::broker::{BrokerThread, Client, Connection};
use crate::command::{Done, Named, Outcome};

/// Hears what came of a command.
pub type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// Something that only the broker's thread can do.
pub enum Order {
    /// Disconnect who is connected or parked.
    Kick(Named, Reply),
    /// Have the API asked again about the sessions of a username, or about all.
    Recheck(Option<String>, Reply),
    /// Send a client these bytes as the answer to its commands.
    Answer(Recipient, Vec<u8>, Place),
}

/// A place among the orders that may wait, until it is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place, if fewer than `most` are taken.
    pub fn among(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        // Whoever finds none must not stand in the way of whoever comes just then.
        let one_more = |before| (before < most).then_some(before + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(taken)))
    }

    /// A reply that gives the place back when it is called, or dropped with its order.
    pub fn held_by(self, reply: Reply) -> Reply {
        Box::new(move |outcome| {
            drop(self);
            reply(outcome);
        })
    }
}

impl Drop for Place {
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

impl Logins {
    /// Carries an order out.
    pub fn carry_out(&self, order: Order, thread: &BrokerThread, event: &Event<'_>) {
        match order {
            Order::Kick(named, reply) => {
                let kicked = self.kick(&named, thread, event);
                self.metrics.kicked(kicked);
                reply(Ok(Done::Kicked(kicked)));
            }
            Order::Recheck(username, reply) => self.recheck.ask_about(username, reply, thread),
            Order::Answer(to, payload, _place) => {
                if self.is_still_there(&to, thread) {
                    let topic = format!("{CONTROL_TOPIC}/response");
                    self.broker.publish(thread, Some(&to.client_id), &topic, &payload);
                }
            }
        }
    }

    /// Whether a client is still connected: the broker sends to whoever has its id by now.
    fn is_still_there(&self, to: &Recipient, thread: &BrokerThread) -> bool {
        let Recipient { connection, client_id, username } = to;
        let client = Client { connection: *connection, id: client_id, address: None };
        if self.sessions.has(client, username) {
            self.sessions.is_connected(client, username)
        } else if self.broker.is_2_1() {
            // A certificate or another plugin has let it in.
            self.broker.is_session(thread, client_id, *connection)
        } else {
            self.broker.has_socket(thread, *connection) != Some(false)
        }
    }

    /// Disconnects those who are connected, and refuses those who are parked: what lets them in may be an answer from
    /// before. Returns how many there were.
    fn kick(&self, named: &Named, thread: &BrokerThread, event: &Event<'_>) -> usize {
        let is_meant = |client: &Parked| match named {
            Named::Username(username) => client.username == *username,
            Named::ClientId(client_id) => client.client_id == *client_id,
        };
        let mut kicked = 0;
        for ticket in self.delayed.those(is_meant) {
            if let Some(parked) = self.delayed.get(ticket) {
                self.refuse(ticket, &Attempt::of(&parked, None), Decision::deny(By::Kick), thread, event);
                kicked += 1;
            }
        }
        kicked + self.kicks.kick(named, thread)
    }
}
