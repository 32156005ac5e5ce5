//! Where a client waits for its login: beside the broker's loop where it can, and otherwise in it, for as long as it may.

use std::time::{Duration, Instant};

use super::Logins;
use crate::plugin::api::Account;
use crate::plugin::attempt::Attempt;
use crate::plugin::delayed::Ticket;
use crate::plugin::event::Event;
use crate::plugin::throttle::OpenTry;
use crate::prefetch::packet;

/// The longest that a client under somebody else's id waits for its turn, and for its question to be sent. So all tries that
/// the throttle lets pass by default keep that id busy for about a second, whatever flood they wait behind.
pub(super) const LONGEST_UNDER_ANOTHERS_ID: Duration = Duration::from_millis(200);

/// The same for a slow hash, which is computed by then unless others are in front.
pub(super) const LONGEST_FOR_HASH: Duration = Duration::from_secs(2);

/// Where a client waits for its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Beside the broker's loop: it is parked.
    Parked,
    /// In the broker's loop: everybody waits with it.
    InLoop {
        /// On whose account.
        account: Account,
        /// Whether it is parked once there is no more time for that.
        then_parked: bool,
    },
    /// Not at all: its network has had the broker wait for long enough. It is turned away.
    Nowhere,
}

impl Placement {
    const IN_LOOP: Self = Self::InLoop { account: Account::Logins, then_parked: false };
}

/// A client that may have to wait.
pub(super) struct Arrival<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    /// Its ticket, if it is parked already.
    pub(super) parked: Option<Ticket>,
    /// Whether it keeps somebody else's client id busy while it is parked.
    pub(super) is_under_anothers_id: bool,
}

impl Arrival<'_> {
    /// Until when it may wait: for `max_wait`, or for no longer than this where it keeps somebody else's id busy.
    pub(super) fn until(&self, under_anothers_id: Duration, event: &Event<'_>) -> Instant {
        let max_wait = event.settings.config.max_wait;
        event.now + if self.is_under_anothers_id { under_anothers_id.min(max_wait) } else { max_wait }
    }
}

impl Logins {
    /// A client that may have to wait, on the ticket that it may have already. `open` is `None` while it waits for its turn:
    /// credentials that were let in lately never do.
    pub(super) fn arrival<'a>(
        &self,
        attempt: &'a Attempt<'a>,
        open: Option<&OpenTry>,
        parked: Option<Ticket>,
        event: &Event<'_>,
    ) -> Arrival<'a> {
        let was_let_in = open.is_some_and(OpenTry::was_let_in);
        let is_under_anothers_id = !was_let_in && self.is_under_anothers_id(attempt, event);
        Arrival { attempt, parked, is_under_anothers_id }
    }

    /// Chooses where a client waits, and voids the parking that it may have from before. Whoever is parked already stays so.
    /// Requests to the broker's HTTP listener wait where they are: they come on a thread of their own.
    pub(super) fn choose_placement(&self, arrival: &Arrival<'_>, event: &Event<'_>) -> Placement {
        let Some(thread) = self.parking_thread(event) else { return Placement::IN_LOOP };
        if arrival.parked.is_some() {
            return Placement::Parked;
        }
        let attempt = arrival.attempt;
        let Attempt { client, username, password, credentials, .. } = *attempt;
        let length = |bytes: &[u8]| packet::length_of_connect(bytes, username, password);
        let has_sent_more = self.parts.broker.has_sent_more(thread, client.connection, &length);
        // The broker asks about an id that is parked only when that client is gone.
        let is_back = self.delayed.with(thread, |delayed| delayed.void_if_back(client.id, credentials));
        let sender = self.sender(attempt);
        let may_send_more = is_back || self.early.with(thread, |early| early.recognise(sender, event.now));
        let login_wait = event.settings.config.login_wait;
        let (account, longest) = match has_sent_more || may_send_more {
            true => (Account::Logins, login_wait),
            // The other half is left to those who cannot be parked.
            false if arrival.is_under_anothers_id => (Account::LoginsBriefly, login_wait / 2),
            false => return Placement::Parked,
        };
        let network = attempt.source(&self.parts.keys).network;
        match self.debts.with(thread, |debts| debts.may_wait(network, longest, event.now)) {
            true => Placement::InLoop { account, then_parked: !has_sent_more },
            false if has_sent_more => Placement::Nowhere,
            false => Placement::Parked,
        }
    }
}
