//! Clients that wait beside the broker's loop until it is known whether they may come in.
//!
//! The broker finds a parked client by its client id alone. If one goes away and another comes under the
//! same id, the answer to the first must never let the second in: so every parking has a ticket, and an
//! answer counts only for the ticket that it was asked for.
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use crate::broker::{Client, Connection};
use crate::fingerprint::Fingerprint;
use crate::local::PasswordHash;
use crate::util::{Held, Lock};

/// Names one parking, among all instances of the plugin in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// The ticket that is parked under each client id. The broker has one table for all of its listeners, so
/// this is the one piece of state that instances share: what one has parked, another may replace.
static NEWEST: LazyLock<Lock<HashMap<String, Ticket>>> = LazyLock::new(Lock::default);

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
    /// The hash of a local user that its password is compared with, if it is not the API that decides.
    pub hash: Option<Arc<PasswordHash>>,
    /// How many answers it waits for still.
    pub awaits: usize,
    /// It may come in, and only waits for topic questions that were asked ahead for it.
    pub may_enter: bool,
}

impl Parked {
    /// The client, as events show it.
    pub fn client(&self) -> Client<'_> {
        Client { connection: self.connection, id: &self.client_id, address: self.address.as_deref() }
    }
}

/// Clients that may be parked at once: what 64 requests of 20 ms each can serve in 30 s.
const BOUND: usize = 100_000;

/// The parked clients of one plugin.
#[derive(Default)]
pub struct Delayed(Lock<State>);

#[derive(Default)]
struct State {
    parked: HashMap<Ticket, Parked>,
    /// When those who only wait for topic questions come in without the answers, the next one first.
    deadlines: VecDeque<(Instant, Ticket)>,
}

impl Delayed {
    /// Parks a client, if there is room. Whoever was parked under this id before is gone, or the broker would not ask.
    pub fn park(&self, client: Parked) -> Option<Ticket> {
        let mut state = self.0.lock();
        if state.parked.len() >= BOUND {
            return None;
        }
        let ticket = Ticket(NEXT_TICKET.fetch_add(1, Ordering::Relaxed));
        newest().insert(client.client_id.clone(), ticket);
        state.parked.insert(ticket, client);
        Some(ticket)
    }

    /// One of the answers that a client waits for has come: the client, once it was the last, or `None` also
    /// if its id belongs to another parking by now. It stays parked until [`Self::end`].
    pub fn answered(&self, ticket: Ticket) -> Option<Parked> {
        let parked = &mut self.0.lock().parked;
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
        let state = &mut *self.0.lock();
        if let Some(client) = state.parked.get_mut(&ticket) {
            client.awaits = answers;
            client.may_enter = true;
            state.deadlines.push_back((until, ticket));
        }
    }

    /// Clients that may come in and have waited long enough for more. Each waits as long as the others.
    pub fn take_those_who_waited(&self, now: Instant) -> Vec<Ticket> {
        let deadlines = &mut self.0.lock().deadlines;
        let due = deadlines.iter().take_while(|(until, _)| *until <= now).count();
        deadlines.drain(..due).map(|(_, ticket)| ticket).collect()
    }

    /// Whether somebody's time may be up soon.
    pub fn has_deadlines(&self) -> bool {
        !self.0.lock().deadlines.is_empty()
    }

    /// A client that is parked, if its id does not belong to another parking by now.
    pub fn get(&self, ticket: Ticket) -> Option<Parked> {
        let parked = &self.0.lock().parked;
        let client = parked.get(&ticket)?;
        (newest().get(&client.client_id) == Some(&ticket)).then(|| client.clone())
    }

    /// Ends a parking.
    pub fn end(&self, ticket: Ticket) {
        let ended = self.0.lock().parked.remove(&ticket);
        if let Some(client) = ended {
            forget(&client, ticket);
        }
    }

    /// Whether no client is parked.
    pub fn is_empty(&self) -> bool {
        self.0.lock().parked.is_empty()
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        for (ticket, client) in self.0.lock().parked.drain() {
            forget(&client, ticket);
        }
    }
}

fn newest() -> Held<'static, HashMap<String, Ticket>> {
    NEWEST.lock()
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
    use crate::fingerprint::{Domain, Fingerprinter};

    fn client(id: &str, connection: Connection) -> Parked {
        Parked {
            connection,
            client_id: id.to_owned(),
            address: None,
            username: "u".to_owned(),
            starts_clean: true,
            hash: None,
            awaits: 1,
            may_enter: false,
            credentials: Fingerprinter::with_key(&[0; 16]).fields(Domain::Credentials, []),
        }
    }

    #[test]
    fn an_answer_counts_for_its_own_parking_only() {
        let delayed = Delayed::default();
        let gone = delayed.park(client("x", 1)).unwrap();
        let newer = delayed.park(client("x", 2)).unwrap();
        assert_eq!(delayed.answered(gone), None);
        assert_eq!(delayed.answered(newer).map(|client| client.connection), Some(2));
        delayed.end(newer);
        assert_eq!(delayed.answered(newer), None);
        assert!(delayed.is_empty());
    }

    #[test]
    fn a_parking_in_another_instance_counts_too() {
        let (one, other) = (Delayed::default(), Delayed::default());
        let gone = one.park(client("y", 1)).unwrap();
        let newer = other.park(client("y", 2)).unwrap();
        assert_eq!(one.answered(gone), None);
        assert!(one.is_empty());
        assert!(other.answered(newer).is_some());
    }

    #[test]
    fn a_client_may_wait_for_several_answers() {
        let delayed = Delayed::default();
        let ticket = delayed.park(client("w", 1)).unwrap();
        assert!(delayed.answered(ticket).is_some_and(|client| !client.may_enter));
        let now = Instant::now();
        delayed.await_more(ticket, 2, now);
        assert_eq!(delayed.take_those_who_waited(now), [ticket]);
        assert_eq!(delayed.answered(ticket), None);
        assert!(delayed.answered(ticket).is_some_and(|client| client.may_enter));
    }

    #[test]
    fn what_is_dropped_leaves_nothing_behind() {
        let delayed = Delayed::default();
        delayed.park(client("z", 1)).unwrap();
        drop(delayed);
        assert!(!newest().contains_key("z"));
    }
}
