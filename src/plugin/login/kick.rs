//! Whom a command disconnects (`kick`).

use super::Logins;
use crate::broker::BrokerThread;
use crate::command::Named;
use crate::plugin::decision::{By, Decision};
use crate::plugin::delayed::Parked;
use crate::plugin::event::Event;

impl Logins {
    /// Disconnects those who are connected, and refuses those who are parked: what lets them in may be an answer from
    /// before. Returns how many there were.
    pub fn kick(&self, named: &Named, thread: &BrokerThread, event: &Event<'_>) -> usize {
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
