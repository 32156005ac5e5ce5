//! Before a client comes in: the topic questions that it is expected to raise then are asked side by side.

use std::sync::Arc;

use super::placement::{Arrival, Placement};
use super::{Logins, PARKED};
use crate::broker::BrokerThread;
use crate::plugin::attempt::Attempt;
use crate::plugin::decision::Decision;
use crate::plugin::delayed::Ticket;
use crate::plugin::event::Event;
use crate::prefetch::Wish;
use crate::topic::Terms;

impl Logins {
    /// Asks the topic questions that a client is expected to raise once it is in. If it can wait beside the broker's
    /// loop for the answers, it does, so that its first packets make no other client wait.
    pub(super) fn warm_up(&self, attempt: &Attempt<'_>, allow: Decision, event: &Event<'_>) -> Decision {
        let wishes = self.wishes(attempt, allow.terms.as_deref(), event);
        if wishes.is_empty() {
            return allow;
        }
        // A client that may come in keeps its id from nobody, so it counts as coming under its own.
        let arrival = Arrival { attempt, parked: None, is_under_anothers_id: false };
        let parked = match self.parking_thread(event) {
            Some(thread) if self.choose_placement(&arrival, event) == Placement::Parked => {
                self.park(&arrival, thread).map(|ticket| (thread, ticket))
            }
            _ => None,
        };
        let answers = self.ask_wishes(&wishes, parked.map(|(_, ticket)| ticket), event);
        match parked {
            Some((thread, ticket)) if answers > 0 => {
                self.await_topics(ticket, answers, allow.terms, thread, event);
                PARKED
            }
            Some((thread, ticket)) => {
                self.delayed.with(thread, |delayed| delayed.end(ticket));
                allow
            }
            None => allow,
        }
    }

    /// Lets a parked client that may come in wait for so many answers, for the time of one question at most.
    pub(super) fn await_topics(
        &self,
        ticket: Ticket,
        answers: usize,
        terms: Option<Arc<Terms>>,
        thread: &BrokerThread,
        event: &Event<'_>,
    ) {
        let until = event.now + event.settings.config.timeout;
        let api = self.parts.asker.api_number();
        self.delayed.with(thread, |delayed| delayed.await_more(ticket, answers, until, terms, api));
    }

    /// Asks what a client that may come in is expected to raise. A parked client waits for the answers on its `ticket`.
    /// Returns how many are to come.
    pub(super) fn prefetch(
        &self,
        attempt: &Attempt<'_>,
        terms: Option<&Terms>,
        ticket: Option<Ticket>,
        event: &Event<'_>,
    ) -> usize {
        self.ask_wishes(&self.wishes(attempt, terms, event), ticket, event)
    }

    /// The topic questions that a client is expected to raise that is let in with these terms. Requests to the broker's
    /// HTTP listener, whose id a client may have, raise none.
    fn wishes(&self, attempt: &Attempt<'_>, terms: Option<&Terms>, event: &Event<'_>) -> Vec<Wish> {
        let Some(thread) = event.broker_thread().filter(|_| !event.settings.config.acl_urls.is_empty())
        else {
            return Vec::new();
        };
        let Attempt { client, username, starts_clean, .. } = *attempt;
        let newcomer = self.newcomer(attempt, terms, event);
        let gate = self.parts.api.gate(event).before(newcomer.as_deref());
        let source = || attempt.source(&self.parts.keys);
        let scope = gate.scope(&source, event.now);
        self.parts.prefetch.wishes(username, client.id, starts_clean, thread, &scope)
    }

    fn ask_wishes(&self, wishes: &[Wish], ticket: Option<Ticket>, event: &Event<'_>) -> usize {
        let gate = self.parts.api.gate(event);
        let _many = self.parts.asker.sends_many();
        let is_sent = |wish: &&Wish| {
            let waiter = ticket.map(|ticket| self.waiter(ticket));
            self.parts.prefetch.ask_wish(wish, waiter, &gate.scope(&|| wish.source, event.now))
        };
        wishes.iter().filter(is_sent).count()
    }
}
