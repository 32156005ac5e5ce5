//! Carries out what commands have the broker's thread do.

use super::Logins;
use crate::broker::{BrokerThread, Client};
use crate::command::{Done, Named};
use crate::plugin::CONTROL_TOPIC;
use crate::plugin::decision::{By, Decision};
use crate::plugin::delayed::Parked;
use crate::plugin::event::Event;
use crate::plugin::orders::{Order, Recipient};

impl Logins {
    /// Carries an order out.
    pub(super) fn carry_out(&self, order: Order, thread: &BrokerThread, event: &Event<'_>) {
        match order {
            Order::Kick(named, reply) => {
                let kicked = self.kick(&named, thread, event);
                self.parts.metrics.kicked(kicked);
                reply(Ok(Done::Kicked(kicked)));
            }
            Order::Recheck(username, reply) => self.recheck.ask_about(username, reply, thread),
            Order::Answer(to, payload, _place) => {
                if self.is_still_there(&to, thread) {
                    let topic = format!("{CONTROL_TOPIC}/response");
                    self.parts.broker.publish(thread, Some(&to.client_id), &topic, &payload);
                }
            }
        }
    }

    /// Whether a client is still connected: the broker sends to whoever has its id by now.
    fn is_still_there(&self, to: &Recipient, thread: &BrokerThread) -> bool {
        let Recipient { connection, client_id, username } = to;
        let client = Client { connection: *connection, id: client_id, address: None };
        if self.parts.sessions.has(client, username) {
            self.parts.sessions.is_connected(client, username)
        } else if self.parts.broker.is_2_1() {
            // A certificate or another plugin has let it in.
            self.parts.broker.is_session(thread, client_id, *connection)
        } else {
            self.parts.broker.has_socket(thread, *connection) != Some(false)
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
        let meant = self.delayed.with(thread, |delayed| delayed.those(is_meant));
        for ticket in meant {
            let parked = self.delayed.with(thread, |delayed| delayed.get(ticket));
            if let Some(parked) = parked {
                self.refuse(ticket, &parked.attempt(None), Decision::deny(By::Kick), thread, event);
                kicked += 1;
            }
        }
        kicked + self.parts.kicks.kick(named, thread)
    }
}
