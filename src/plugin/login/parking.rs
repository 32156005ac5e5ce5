//! Clients are parked: they wait beside the broker's loop, for an answer or for their turn.

use std::sync::Arc;

use super::placement::{Arrival, LONGEST_UNDER_ANOTHERS_ID, Placement};
use super::{Logins, PARKED};
use crate::ask::Waiter;
use crate::broker::BrokerThread;
use crate::fingerprint::network;
use crate::plugin::attempt::Attempt;
use crate::plugin::decision::{By, Decision};
use crate::plugin::delayed::{Parked, Ticket, Turn};
use crate::plugin::event::Event;
use crate::plugin::tasks::Task;
use crate::plugin::throttle::Group;

impl Logins {
    /// Parks a client until it is its turn: its group, others with its username or client id from its network, has as
    /// many open tries as it may have. One of them has to end first.
    pub(super) fn park_for_turn(&self, attempt: &Attempt<'_>, group: Group, event: &Event<'_>) -> Decision {
        let Some(thread) = self.parking_thread(event) else { return Decision::deny(By::Turn) };
        let arrival = self.arrival(attempt, None, None, event);
        let placement = self.choose_placement(&arrival, event);
        if !matches!(placement, Placement::Parked | Placement::InLoop { then_parked: true, .. }) {
            return Decision::deny(By::Turn);
        }
        let Some(ticket) = self.park(&arrival, thread) else {
            return Decision::deny(By::TooManyWait);
        };
        let network = network(attempt.client.address.unwrap_or_default()).into_owned();
        let turn = Turn { ticket, password: attempt.password.map(<[u8]>::to_owned), network };
        let config = &event.settings.config;
        let until = arrival.until(LONGEST_UNDER_ANOTHERS_ID, event);
        let has_room = self.delayed.with(thread, |delayed| {
            let has_room = delayed.await_turn(group, turn, until);
            if !has_room {
                delayed.end(ticket);
            }
            has_room
        });
        if !has_room {
            return Decision::deny(By::TooManyWait);
        }
        let id = self.parts.throttle.id_group(&attempt.as_try(), &config.throttle, event.now);
        self.parts.throttle.charge_id(id, &config.throttle, event.now);
        PARKED
    }

    /// A waiter that leaves the answer as a task for the client with this ticket.
    pub(super) fn waiter(&self, ticket: Ticket) -> Waiter {
        let tasks = Arc::clone(&self.parts.tasks);
        Waiter::in_time(move |answer, api| tasks.push(Task::Answered(ticket, answer.clone(), api)))
            .who_may_leave(ticket.number())
    }

    /// The ticket of a client that is parked, as it may be already, and where. `None` if there is no room.
    pub(super) fn parked_on<'a>(
        &self,
        arrival: &Arrival<'_>,
        event: &Event<'a>,
    ) -> Option<(&'a BrokerThread, Ticket)> {
        let thread = self.parking_thread(event)?;
        Some((thread, arrival.parked.or_else(|| self.park(arrival, thread))?))
    }

    /// Parks a client. `None` if there is no room.
    pub(super) fn park(&self, arrival: &Arrival<'_>, thread: &BrokerThread) -> Option<Ticket> {
        // Without the thread the answer waits until the loop comes round by itself.
        if let Err(error) = self.parts.tasks.start_waking() {
            self.parts.log.warn(&format!(
                "Answers may reach clients late: no thread to wake the broker with ({error})."
            ));
        }
        let Arrival { attempt, is_under_anothers_id, .. } = *arrival;
        let client = Parked::new(attempt, self.sender(attempt), is_under_anothers_id);
        self.delayed.with(thread, |delayed| delayed.park(client))
    }
}
