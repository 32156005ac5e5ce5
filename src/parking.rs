//! Clients that wait beside the broker's loop until it is known whether they may come in.
//!
//! The broker finds a parked client by its client id alone. If one goes away and another comes under the
//! same id, the answer to the first must never let the second in: so every parking has a ticket, and an
//! answer counts only for the ticket that it was asked for.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::cache::key::Fingerprint;
use crate::sessions::{Client, Connection};

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
    /// Its username and password.
    pub credentials: Fingerprint,
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
}

impl Parking {
    /// Parks a client. Whoever was parked under this id before is gone, or the broker would not ask.
    pub fn park(&self, client: Parked) -> Ticket {
        let ticket = Ticket(NEXT_TICKET.fetch_add(1, Ordering::Relaxed));
        newest().insert(client.client_id.clone(), ticket);
        self.parked().insert(ticket, client);
        ticket
    }

    /// Ends a parking: the client to complete, or `None` if its id belongs to another parking by now.
    pub fn end(&self, ticket: Ticket) -> Option<Parked> {
        let client = self.parked().remove(&ticket)?;
        forget(&client, ticket).then_some(client)
    }

    /// How many clients are parked.
    pub fn len(&self) -> usize {
        self.parked().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

/// Whether this ticket was the one parked under its client's id; then nothing is any more.
fn forget(client: &Parked, ticket: Ticket) -> bool {
    let mut newest = newest();
    let is_newest = newest.get(&client.client_id) == Some(&ticket);
    if is_newest {
        newest.remove(&client.client_id);
    }
    is_newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::Fingerprinter;

    fn client(id: &str, connection: Connection) -> Parked {
        Parked {
            connection,
            client_id: id.to_owned(),
            address: None,
            username: "u".to_owned(),
            credentials: Fingerprinter::with_key(&[0; 16]).fields(b't', []),
        }
    }

    #[test]
    fn an_answer_counts_for_its_own_parking_only() {
        let parking = Parking::default();
        let gone = parking.park(client("x", 1));
        let newer = parking.park(client("x", 2));
        assert_eq!(parking.end(gone), None);
        assert_eq!(parking.end(newer).map(|client| client.connection), Some(2));
        assert_eq!(parking.end(newer), None);
        assert!(parking.is_empty());
    }

    #[test]
    fn a_parking_in_another_instance_counts_too() {
        let (one, other) = (Parking::default(), Parking::default());
        let gone = one.park(client("y", 1));
        let newer = other.park(client("y", 2));
        assert_eq!(one.end(gone), None);
        assert!(other.end(newer).is_some());
    }

    #[test]
    fn what_is_dropped_leaves_nothing_behind() {
        let parking = Parking::default();
        parking.park(client("z", 1));
        drop(parking);
        assert!(!newest().contains_key("z"));
    }
}
