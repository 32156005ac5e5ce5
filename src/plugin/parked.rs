//! Clients that wait beside the broker's loop until it is known whether they may come in.
//!
//! The broker finds a parked client by its client id alone. If one goes away and another comes under the
//! same id, the answer to the first must never let the second in: so every parking has a ticket, and an
//! answer counts only for the ticket that it was asked for.
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::broker::{Client, Connection};
use crate::fingerprint::Fingerprint;

/// Names one parking, among all instances of the plugin in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// The ticket that is parked under each client id. The broker has one table for all of its listeners, so
/// this is the one piece of state that instances share: what one has parked, another may replace.
static NEWEST: LazyLock<Mutex<HashMap<String, Ticket>>> = LazyLock::new(Mutex::default);

static NEXT_TICKET: AtomicU64 = AtomicU64::new(0);

/// What there is to know about a parked client when its answer comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Its connection.
    pub connection: Connection,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub address: Option<String>,
    /// Its username.
    pub username: String,
    /// Whether it starts without the session it had before.
    pub starts_clean: bool,
    /// Its username and password.
    pub credentials: Fingerprint,
    /// How often files had been re-read when it was parked.
    pub reload: usize,
    /// How many answers it waits for still.
    pub awaits: usize,
    /// It may come in, and only waits for topic questions that were asked ahead for it.
    pub is_let_in: bool,
}

impl Parked {
    /// The client, as events show it.
    pub fn client(&self) -> Client<'_> {
        Client { connection: self.connection, id: &self.client_id, address: self.address.as_deref() }
    }
}

/// The parked clients of one plugin.
#[derive(Default)]
pub struct Parking {
    parked: Mutex<HashMap<Ticket, Parked>>,
    /// When those who only wait for more come in without it, the next one first.
    deadlines: Mutex<VecDeque<(Instant, Ticket)>>,
}

impl Parking {
    /// Parks a client. Whoever was parked under this id before is gone, or the broker would not ask.
    pub fn park(&self, client: Parked) -> Ticket {
        let ticket = Ticket(NEXT_TICKET.fetch_add(1, Ordering::Relaxed));
        newest().insert(client.client_id.clone(), ticket);
        self.parked().insert(ticket, client);
        ticket
    }

    /// One of the answers that a client waits for has come: the client, once it was the last, or `None` also
    /// if its id belongs to another parking by now. It stays parked until [`Self::end`].
    pub fn answered(&self, ticket: Ticket) -> Option<Parked> {
        let mut parked = self.parked();
        let client = parked.get_mut(&ticket)?;
        client.awaits = client.awaits.saturating_sub(1);
        if newest().get(&client.client_id) != Some(&ticket) {
            parked.remove(&ticket);
            return None;
        }
        (client.awaits == 0).then(|| client.clone())
    }

    /// Lets a parked client wait for more answers, now that it may come in, but no longer than until then.
    pub fn await_more(&self, ticket: Ticket, answers: usize, until: Instant) {
        if let Some(client) = self.parked().get_mut(&ticket) {
            client.awaits = answers;
            client.is_let_in = true;
            self.deadlines().push_back((until, ticket));
        }
    }

    /// Clients that may come in and have waited long enough for more. Each waits as long as the others.
    pub fn take_those_who_waited(&self, now: Instant) -> Vec<Ticket> {
        let mut deadlines = self.deadlines();
        let due = deadlines.iter().take_while(|(until, _)| *until <= now).count();
        deadlines.drain(..due).map(|(_, ticket)| ticket).collect()
    }

    /// Whether somebody's time may be up soon.
    pub fn has_deadlines(&self) -> bool {
        !self.deadlines().is_empty()
    }

    /// A client that is parked, if its id does not belong to another parking by now.
    pub fn get(&self, ticket: Ticket) -> Option<Parked> {
        let parked = self.parked();
        let client = parked.get(&ticket)?;
        (newest().get(&client.client_id) == Some(&ticket)).then(|| client.clone())
    }

    /// Ends a parking.
    pub fn end(&self, ticket: Ticket) {
        let ended = self.parked().remove(&ticket);
        if let Some(client) = ended {
            forget(&client, ticket);
        }
    }

    /// How many clients are parked.
    pub fn len(&self) -> usize {
        self.parked().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn deadlines(&self) -> MutexGuard<'_, VecDeque<(Instant, Ticket)>> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parked(&self) -> MutexGuard<'_, HashMap<Ticket, Parked>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        for (ticket, client) in self.parked().drain() {
            forget(&client, ticket);
        }
    }
}

fn newest() -> MutexGuard<'static, HashMap<String, Ticket>> {
    NEWEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets a ticket, unless its client's id belongs to another by now.
fn forget(client: &Parked, ticket: Ticket) {
    let mut newest = newest();
    if newest.get(&client.client_id) == Some(&ticket) {
        newest.remove(&client.client_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprinter;

    fn client(id: &str, connection: Connection) -> Parked {
        Parked {
            connection,
            client_id: id.to_owned(),
            address: None,
            username: "u".to_owned(),
            starts_clean: true,
            reload: 0,
            awaits: 1,
            is_let_in: false,
            credentials: Fingerprinter::with_key(&[0; 16]).fields(b't', []),
        }
    }

    #[test]
    fn an_answer_counts_for_its_own_parking_only() {
        let parking = Parking::default();
        let gone = parking.park(client("x", 1));
        let newer = parking.park(client("x", 2));
        assert_eq!(parking.answered(gone), None);
        assert_eq!(parking.answered(newer).map(|client| client.connection), Some(2));
        parking.end(newer);
        assert_eq!(parking.answered(newer), None);
        assert!(parking.is_empty());
    }

    #[test]
    fn a_parking_in_another_instance_counts_too() {
        let (one, other) = (Parking::default(), Parking::default());
        let gone = one.park(client("y", 1));
        let newer = other.park(client("y", 2));
        assert_eq!(one.answered(gone), None);
        assert!(one.is_empty());
        assert!(other.answered(newer).is_some());
    }

    #[test]
    fn a_client_may_wait_for_several_answers() {
        let parking = Parking::default();
        let ticket = parking.park(client("w", 1));
        assert!(parking.answered(ticket).is_some_and(|client| !client.is_let_in));
        let now = Instant::now();
        parking.await_more(ticket, 2, now);
        assert_eq!(parking.take_those_who_waited(now), [ticket]);
        assert_eq!(parking.answered(ticket), None);
        assert!(parking.answered(ticket).is_some_and(|client| client.is_let_in));
    }

    #[test]
    fn what_is_dropped_leaves_nothing_behind() {
        let parking = Parking::default();
        parking.park(client("z", 1));
        drop(parking);
        assert!(!newest().contains_key("z"));
    }
}
