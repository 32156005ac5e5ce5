//! Clients that wait beside the broker's loop until it is known whether they may come in.
//!
//! The broker finds a parked client by its client id alone. If one goes away and another comes under the
//! same id, the answer to the first must never let the second in: so every parking has a ticket, and an
//! answer counts only for the ticket that it was asked for.
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::decision::By;
use super::throttle::{Group, OpenTry};
use crate::broker::Connection;
use crate::fingerprint::{Fingerprint, network};
use crate::topic::Terms;
use crate::util::{Held, Lock};
pub use client::{AwaitedTopics, Parked, Stage};
use quota::Quota;
pub use turns::Turn;
use turns::Turns;

mod client;
mod quota;
mod turns;

/// Names one parking, among all instances of the plugin in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// Its number, which no other has.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A parking, once something has come of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Parking {
    /// Its client waits.
    Live(Parked),
    /// Its client has gone, and its id may belong to another parking by now. Only its try is still to end.
    Over(Parked),
}

/// The ticket that is parked under each client id. The broker has one table for all of its listeners, so all instances
/// share this one, too: what one has parked, another may replace.
static NEWEST: LazyLock<Lock<HashMap<String, Ticket>>> = LazyLock::new(Lock::default);

/// The number of the next ticket, which all instances share since tickets are told apart by it.
static NEXT_TICKET: AtomicU64 = AtomicU64::new(0);

/// What the texts of all parked clients may take, in bytes, each with [`OVERHEAD`]: some 100,000 clients with short
/// names, which is what 64 requests of 20 ms each can serve in 30 s, or 255 with the
/// longest ones, of which those of one network are a quarter at most.
const BYTES: usize = 64 << 20;

/// What the passwords of those who wait for their turn may take, in bytes: 128 with the longest ones, or all that there
/// is room for with usual ones.
const PASSWORD_BYTES: usize = 8 << 20;

/// With so many parked clients or more, it is checked from time to time which of them have hung up.
const CROWD: usize = 256;

/// How often that is checked at most.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// After checking who has hung up, pause so many times as long as that took: it takes a twentieth of the broker's time at
/// most.
const PAUSE_FACTOR: u32 = 20;

/// Clients that have waited long enough and are completed in one go: a few milliseconds.
const AT_ONCE: usize = 128;

/// Bytes for a parked client besides its texts, here, in the question that is asked for it and in the tables of both.
const OVERHEAD: usize = 512;

/// The parked clients of one plugin.
pub struct Delayed {
    parked: HashMap<Ticket, Parked>,
    /// When they have waited long enough, for those whose wait is bounded here: for a turn, a slow hash or their topics, or
    /// under another's id.
    deadlines: BTreeSet<(Instant, Ticket)>,
    turns: Turns,
    /// When it is time to check who has hung up.
    next_check: Option<Instant>,
    texts: Quota,
    count: Arc<AtomicUsize>,
}

impl Default for Delayed {
    fn default() -> Self {
        Self {
            parked: HashMap::new(),
            deadlines: BTreeSet::new(),
            turns: Turns::new(PASSWORD_BYTES),
            next_check: None,
            texts: Quota::new(BYTES),
            count: Arc::default(),
        }
    }
}

impl Delayed {
    fn insert(&mut self, ticket: Ticket, client: Parked) {
        self.texts.take(&network_of(&client), bytes(&client));
        self.count.fetch_add(usize::from(!client.has_gone), Ordering::Relaxed);
        self.parked.insert(ticket, client);
    }

    /// Sets the deadline of a parked client, in place of the one that it had.
    fn set_deadline(&mut self, ticket: Ticket, until: Option<Instant>) {
        let Some(client) = self.parked.get_mut(&ticket) else { return };
        if let Some(before) = std::mem::replace(&mut client.until, until) {
            self.deadlines.remove(&(before, ticket));
        }
        if let Some(until) = until {
            self.deadlines.insert((until, ticket));
        }
    }

    /// Takes a parked client out, and with it whatever is kept of it elsewhere.
    fn remove(&mut self, ticket: Ticket) -> Option<Parked> {
        self.set_deadline(ticket, None);
        let client = self.parked.remove(&ticket)?;
        if let Stage::Turn(place) = client.stage {
            self.turns.remove(place);
        }
        self.texts.give_back(&network_of(&client), bytes(&client));
        self.count.fetch_sub(usize::from(!client.has_gone), Ordering::Relaxed);
        Some(client)
    }

    /// Ends a parking. If its try is open, the entry stays, without names, until the outcome is known: a wrong guess counts
    /// although its client has gone, and others wait for its place. Returns the key of that question.
    pub fn end(&mut self, ticket: Ticket) -> Option<Fingerprint> {
        let client = self.remove(ticket)?;
        forget(&client, ticket);
        let key = client.open().map(|_| client.key)?;
        let (client_id, username) = Default::default();
        self.insert(ticket, Parked { client_id, username, until: None, has_gone: true, ..client });
        Some(key)
    }
}

fn network_of(client: &Parked) -> Cow<'_, str> {
    network(client.address.as_deref().unwrap_or_default())
}

/// What a parked client is charged. Its names are kept here, in the table of newest tickets and in the question.
fn bytes(client: &Parked) -> usize {
    let address = client.address.as_ref().map_or(0, String::len);
    OVERHEAD + 2 * (client.client_id.len() + client.username.len() + client.more.len() + address)
}

impl Delayed {
    /// Parks a client, if there is room. Whoever was parked under this id before is gone, or the broker would not ask.
    pub fn park(&mut self, client: Parked) -> Option<Ticket> {
        if !self.texts.fits(&network_of(&client), bytes(&client)) {
            return None;
        }
        let ticket = Ticket(NEXT_TICKET.fetch_add(1, Ordering::Relaxed));
        newest().insert(client.client_id.clone(), ticket);
        self.insert(ticket, client);
        Some(ticket)
    }

    /// Has a parked client wait for its turn in a group, but no longer than until then. `false` if there is no room.
    pub fn await_turn(&mut self, group: Group, turn: Turn, until: Instant) -> bool {
        let ticket = turn.ticket;
        let Some(client) = self.parked.get_mut(&ticket) else { return false };
        let place = self.turns.push(group, turn);
        client.stage = place.map_or(Stage::Idle, Stage::Turn);
        let has_room = place.is_some();
        self.set_deadline(ticket, has_room.then_some(until));
        has_room
    }

    /// Has it wait on, as the next of its group.
    pub fn await_turn_still(&mut self, group: Group, turn: Turn) {
        if let Some(client) = self.parked.get_mut(&turn.ticket) {
            client.stage = Stage::Turn(self.turns.push_first(group, turn));
        }
    }

    /// The next of a group who is still there and waits for its turn.
    pub fn next_turn(&mut self, group: Group) -> Option<(Turn, Parked)> {
        while let Some(turn) = self.turns.pop(group) {
            let Some(client) = self.parked.get_mut(&turn.ticket) else { continue };
            client.stage = Stage::Idle;
            if is_newest(client, turn.ticket) {
                return Some((turn, client.clone()));
            }
            self.remove(turn.ticket);
        }
        None
    }

    /// The groups, of these, in which somebody waits for a turn.
    pub fn with_turns(&self, groups: impl IntoIterator<Item = Group>) -> Vec<Group> {
        groups.into_iter().filter(|group| self.turns.has(*group)).collect()
    }

    /// Notes that a parked client has its turn, and until when it waits for the outcome, if that is bounded here.
    pub fn await_outcome(&mut self, ticket: Ticket, open: OpenTry, until: Option<Instant>) {
        self.set_deadline(ticket, until);
        if let Some(client) = self.parked.get_mut(&ticket) {
            client.stage = Stage::Outcome(open);
        }
    }

    /// One of the answers that a client waits for has come: the client, once it was the last, and with it its open try. It
    /// stays parked until [`Self::end`].
    pub fn answered(&mut self, ticket: Ticket) -> Option<Parking> {
        let client = self.parked.get_mut(&ticket)?;
        if !is_newest(client, ticket) {
            return self.remove(ticket).map(Parking::Over);
        }
        if let Stage::AwaitedTopics(topics) = &mut client.stage {
            topics.answers = topics.answers.saturating_sub(1);
            return (topics.answers == 0).then(|| Parking::Live(client.clone()));
        }
        let answered = client.clone();
        // Its try ends with the answer.
        client.stage = Stage::Idle;
        Some(Parking::Live(answered))
    }

    /// A parked client may come in. It waits for so many answers about topics first, `until` then at most. `terms` and `api`,
    /// the number of the API that has allowed it, are kept for letting it in.
    pub fn await_more(
        &mut self,
        ticket: Ticket,
        answers: usize,
        until: Instant,
        terms: Option<Arc<Terms>>,
        api: u32,
    ) {
        if let Some(client) = self.parked.get_mut(&ticket) {
            client.stage = Stage::AwaitedTopics(AwaitedTopics { answers, api, terms });
            client.hangs_up_for = None;
            self.set_deadline(ticket, Some(until));
        }
    }

    /// Has a client that is refused wait on, so that it can leave without a CONNACK, but no longer than until then.
    pub fn hang_up_later(&mut self, ticket: Ticket, by: By, until: Instant) {
        if let Some(client) = self.parked.get_mut(&ticket) {
            client.hangs_up_for = Some(by);
            self.set_deadline(ticket, Some(until));
        }
    }

    /// Some of the clients that have waited long enough, the first one first.
    pub fn take_due(&mut self, now: Instant) -> Vec<Ticket> {
        let due = self.deadlines.iter().take_while(|(until, _)| *until <= now).take(AT_ONCE);
        let due: Vec<_> = due.copied().collect();
        for (_, ticket) in &due {
            self.set_deadline(*ticket, None);
        }
        due.into_iter().map(|(_, ticket)| ticket).collect()
    }

    /// Whether somebody's time may be up soon.
    pub fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// A client that is parked, if its id does not belong to another parking by now.
    pub fn get(&self, ticket: Ticket) -> Option<Parked> {
        let client = self.parked.get(&ticket)?;
        is_newest(client, ticket).then(|| client.clone())
    }

    /// Whether a parked client is to be refused, and waits until it is hung up on.
    pub fn is_hanging_up(&self, ticket: Ticket) -> bool {
        self.parked.get(&ticket).is_some_and(|client| client.hangs_up_for.is_some())
    }

    /// Those who are parked and of whom this is true.
    pub fn those(&self, is_meant: impl Fn(&Parked) -> bool) -> Vec<Ticket> {
        self.parked.iter().filter(|(_, client)| is_meant(client)).map(|(ticket, _)| *ticket).collect()
    }

    /// What counts those who are parked, for other threads. Those of whom only an open try is left are not.
    pub fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    /// A client that has waited long enough. If its id belongs to another parking by now, its own is forgotten, unless the
    /// outcome of its try is still to come.
    pub fn due(&mut self, ticket: Ticket) -> Option<Parking> {
        let client = self.parked.get(&ticket)?;
        if is_newest(client, ticket) {
            return Some(Parking::Live(client.clone()));
        }
        if client.open().is_some() {
            return Some(Parking::Over(client.clone()));
        }
        self.remove(ticket);
        None
    }

    /// Voids the parking of a client that comes again: somebody is parked under its id with the same credentials, and is gone,
    /// since the broker asks about the id. `false` if there is none.
    pub fn void_if_back(&mut self, client_id: &str, credentials: Fingerprint) -> bool {
        let mut newest = newest();
        let parked = newest.get(client_id).and_then(|ticket| self.parked.get(ticket));
        let is_back = parked.is_some_and(|client| client.credentials == credentials);
        if is_back {
            newest.remove(client_id);
        }
        is_back
    }

    /// Whether so many are parked that it is time to check who has hung up.
    pub fn wants_check(&self, now: Instant) -> bool {
        self.parked.len() >= CROWD && self.next_check.is_none_or(|next| now >= next)
    }

    /// Records how long that check took.
    pub fn schedule_check(&mut self, took: Duration, now: Instant) {
        self.next_check = Some(now + CHECK_EVERY.max(took * PAUSE_FACTOR));
    }

    /// Ends the parkings of those who have hung up, that is whose connection is not among these, which are in order. Returns
    /// the tickets of those whose tries are open, and what their questions are known by.
    pub fn forget_gone(&mut self, connections: &[Connection]) -> Vec<(Ticket, Fingerprint)> {
        // The number of a connection that is gone may be the next one's.
        let mut last: HashMap<Connection, Ticket> = HashMap::new();
        for (ticket, client) in &self.parked {
            let last = last.entry(client.connection).or_insert(*ticket);
            *last = Ticket(last.0.max(ticket.0));
        }
        let is_gone = |(ticket, client): &(&Ticket, &Parked)| {
            let is_there = || connections.binary_search(&client.connection).is_ok();
            !client.has_gone && (last.get(&client.connection) != Some(*ticket) || !is_there())
        };
        let gone: Vec<Ticket> = self.parked.iter().filter(is_gone).map(|(ticket, _)| *ticket).collect();
        gone.into_iter().filter_map(|ticket| Some((ticket, self.end(ticket)?))).collect()
    }

    /// Whether no client is parked.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        for (ticket, client) in self.parked.drain() {
            forget(&client, ticket);
        }
    }
}

fn newest() -> Held<'static, HashMap<String, Ticket>> {
    NEWEST.lock()
}

fn is_newest(client: &Parked, ticket: Ticket) -> bool {
    newest().get(&client.client_id) == Some(&ticket)
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
    use super::super::throttle::{Admission, Throttle, Try};
    use super::*;
    use crate::broker::Client;
    use crate::config::{CountBy, ThrottleLimits};
    use crate::fingerprint::{Domain, Fingerprinter};
    use crate::plugin::attempt::Attempt;

    fn client(id: &str, connection: Connection) -> Parked {
        let keys = Fingerprinter::with_key(&[0; 16]);
        let credentials = keys.fields(Domain::Credentials, []);
        let attempt = Attempt {
            client: Client { connection, id, address: None },
            username: "u",
            password: None,
            text: None,
            starts_clean: true,
            level: 4,
            hash: None,
            credentials,
            more: Default::default(),
            key: credentials,
            source: Default::default(),
        };
        Parked::new(&attempt, keys.fields(Domain::EarlySender, []), false)
    }

    /// An open try.
    fn open() -> OpenTry {
        let keys = Fingerprinter::with_key(&[0; 16]);
        let credentials = keys.credentials("u", b"p");
        let attempt = Try { address: None, username: "u", client_id: "", credentials, is_shared: true };
        let (pause, longest) = (Duration::from_secs(1), Duration::from_secs(1));
        let limits = ThrottleLimits { after: 0, pause, longest, count_by: CountBy::AddressAndUsername };
        match Throttle::new(keys).admit(&attempt, &limits, Instant::now()) {
            Admission::Now(open) => open,
            other => panic!("{other:?}"),
        }
    }

    fn live(parking: Option<Parking>) -> Option<Parked> {
        match parking? {
            Parking::Live(parked) => Some(parked),
            Parking::Over(_) => None,
        }
    }

    #[test]
    fn an_answer_counts_for_its_own_parking_only() {
        let mut delayed = Delayed::default();
        let gone = delayed.park(client("x", 1)).unwrap();
        let newer = delayed.park(client("x", 2)).unwrap();
        assert!(delayed.answered(gone).is_some_and(|it| matches!(it, Parking::Over(_))));
        assert_eq!(live(delayed.answered(newer)).map(|client| client.connection), Some(2));
        delayed.end(newer);
        assert_eq!(delayed.answered(newer), None);
        assert!(delayed.is_empty());
    }

    #[test]
    fn a_parking_in_another_instance_counts_too() {
        let (mut one, mut other) = (Delayed::default(), Delayed::default());
        let gone = one.park(client("y", 1)).unwrap();
        let newer = other.park(client("y", 2)).unwrap();
        assert!(one.answered(gone).is_some_and(|it| matches!(it, Parking::Over(_))));
        assert!(one.is_empty());
        assert!(other.answered(newer).is_some());
    }

    #[test]
    fn a_client_may_wait_for_several_answers() {
        let mut delayed = Delayed::default();
        let ticket = delayed.park(client("w", 1)).unwrap();
        assert!(live(delayed.answered(ticket)).is_some_and(|client| client.topics().is_none()));
        let now = Instant::now();
        delayed.await_more(ticket, 2, now, None, 0);
        assert_eq!(delayed.take_due(now), [ticket]);
        assert_eq!(delayed.answered(ticket), None);
        assert!(live(delayed.answered(ticket)).is_some_and(|client| client.topics().is_some()));
    }

    /// A crowd that is refused without a CONNACK may wait for the same list of sockets.
    #[test]
    fn of_a_crowd_whose_time_is_up_together_some_are_taken_at_once() {
        let (mut delayed, now) = (Delayed::default(), Instant::now());
        let park = |number| delayed.park(client(&format!("o{number}"), number)).unwrap();
        let tickets: Vec<_> = (0..1_000).map(park).collect();
        tickets.iter().for_each(|ticket| delayed.hang_up_later(*ticket, By::TooManyWait, now));
        let mut taken = Vec::new();
        while delayed.has_deadlines() {
            let some = delayed.take_due(now);
            assert!((1..=128).contains(&some.len()), "{}", some.len());
            taken.extend(some);
        }
        assert_eq!(taken, tickets);
    }

    #[test]
    fn who_has_hung_up_is_forgotten_but_for_the_open_try() {
        let mut delayed = Delayed::default();
        let keys = Fingerprinter::with_key(&[0; 16]);
        let group = keys.fields(Domain::Account, []);
        let mut park = |id: &str, connection| delayed.park(client(id, connection)).unwrap();
        let (stays, gone, replaced, waits) = (park("a", 1), park("b", 2), park("c", 3), park("d", 4));
        let newer = park("e", 3);
        [stays, gone, replaced, newer]
            .into_iter()
            .for_each(|ticket| delayed.await_outcome(ticket, open(), None));
        let turn = Turn { ticket: waits, password: Some(b"secret".to_vec()), network: String::new() };
        delayed.await_turn(group, turn, Instant::now());
        let before = delayed.texts.taken();
        let mut asked: Vec<_> = delayed.forget_gone(&[1, 3]).into_iter().map(|(ticket, _)| ticket).collect();
        asked.sort_by_key(|ticket| ticket.0);
        assert_eq!(asked, [gone, replaced]);
        assert!(delayed.texts.taken() < before);
        assert!(delayed.get(stays).is_some() && delayed.get(newer).is_some());
        assert!(delayed.get(gone).is_none() && delayed.next_turn(group).is_none());
        // Their tries end as they end.
        for ticket in [gone, replaced] {
            let Some(Parking::Over(rest)) = delayed.answered(ticket) else { panic!("nothing is left") };
            assert!(rest.open().is_some() && rest.username.is_empty());
        }
        assert_eq!(delayed.answered(waits), None);
        for ticket in [stays, newer] {
            assert!(live(delayed.answered(ticket)).is_some_and(|client| client.open().is_some()));
            delayed.end(ticket);
        }
        assert!(delayed.texts.is_empty() && delayed.turns.is_empty());
    }

    /// Or else whoever has guessed wrong would have to be kicked only, or to wait for the hasher for too long.
    #[test]
    fn who_is_refused_before_the_outcome_leaves_the_open_try_behind() {
        let (mut delayed, now) = (Delayed::default(), Instant::now());
        let keys = Fingerprinter::with_key(&[0; 16]);
        let [kicked, slow] = ["m", "n"].map(|id| delayed.park(client(id, 1)).unwrap());
        [kicked, slow].into_iter().for_each(|ticket| delayed.await_outcome(ticket, open(), Some(now)));
        delayed.hang_up_later(slow, By::TooManyWait, now);
        for ticket in [kicked, slow] {
            assert_eq!(delayed.end(ticket), Some(keys.fields(Domain::Credentials, [])));
            assert!(delayed.get(ticket).is_none() && live(delayed.due(ticket)).is_none());
        }
        assert!(!delayed.has_deadlines());
        for ticket in [kicked, slow] {
            let Some(Parking::Over(rest)) = delayed.answered(ticket) else { panic!("nothing is left") };
            assert!(rest.open().is_some() && rest.username.is_empty());
        }
        // Once the outcome is known nothing is left behind.
        let ticket = delayed.park(client("m", 1)).unwrap();
        delayed.await_outcome(ticket, open(), None);
        assert!(live(delayed.answered(ticket)).is_some_and(|client| client.open().is_some()));
        assert_eq!(delayed.end(ticket), None);
        assert!(delayed.parked.is_empty() && delayed.texts.is_empty());
    }

    /// Nobody else would, since an id that comes again has a parking of its own.
    #[test]
    fn who_is_replaced_is_forgotten_when_its_time_is_up() {
        let mut delayed = Delayed::default();
        let group = Fingerprinter::with_key(&[0; 16]).fields(Domain::Account, []);
        let now = Instant::now();
        let turn = |ticket| Turn { ticket, password: Some(b"secret".to_vec()), network: String::new() };
        let gone = delayed.park(client("f", 1)).unwrap();
        assert!(delayed.await_turn(group, turn(gone), now));
        let newer = delayed.park(client("f", 2)).unwrap();
        assert_eq!(delayed.take_due(now), [gone]);
        assert!(delayed.due(gone).is_none() && delayed.next_turn(group).is_none());
        assert_eq!(delayed.count().load(Ordering::Relaxed), 1);
        assert!(delayed.void_if_back("f", client("f", 2).credentials));
        assert!(delayed.due(newer).is_none());
        assert!(delayed.parked.is_empty() && delayed.texts.is_empty() && delayed.turns.is_empty());
    }

    #[test]
    fn whoever_leaves_takes_its_turn_along() {
        let mut delayed = Delayed::default();
        let group = Fingerprinter::with_key(&[0; 16]).fields(Domain::Account, []);
        let tickets = ["g", "h", "i"].map(|id| delayed.park(client(id, 1)).unwrap());
        for ticket in tickets {
            let turn = Turn { ticket, password: Some(vec![0; 100]), network: String::new() };
            assert!(delayed.await_turn(group, turn, Instant::now()));
        }
        delayed.end(tickets[1]);
        let (first, _) = delayed.next_turn(group).unwrap();
        assert_eq!(first.ticket, tickets[0]);
        delayed.await_turn_still(group, first);
        for ticket in [tickets[0], tickets[2]] {
            assert_eq!(delayed.next_turn(group).map(|(turn, _)| turn.ticket), Some(ticket));
        }
        assert!(delayed.next_turn(group).is_none() && delayed.with_turns([group]).is_empty());
        assert!(delayed.turns.is_empty());
    }

    #[test]
    fn whoever_waits_on_and_whoever_comes_next_have_a_place_each() {
        let mut delayed = Delayed::default();
        let group = Fingerprinter::with_key(&[0; 16]).fields(Domain::Account, []);
        let tickets = ["j", "k", "l"].map(|id| delayed.park(client(id, 1)).unwrap());
        let turn = |ticket| Turn { ticket, password: Some(vec![0; 100]), network: String::new() };
        for ticket in tickets {
            // The row is empty when the one before waits on.
            let before: Vec<_> = std::iter::from_fn(|| delayed.next_turn(group)).collect();
            before.into_iter().rev().for_each(|(turn, _)| delayed.await_turn_still(group, turn));
            assert!(delayed.await_turn(group, turn(ticket), Instant::now()));
        }
        delayed.end(tickets[0]);
        for ticket in &tickets[1..] {
            assert_eq!(delayed.next_turn(group).map(|(turn, _)| turn.ticket), Some(*ticket));
            delayed.end(*ticket);
        }
        assert!(delayed.parked.is_empty() && delayed.turns.is_empty());
    }

    #[test]
    fn what_is_dropped_leaves_nothing_behind() {
        let mut delayed = Delayed::default();
        delayed.park(client("z", 1)).unwrap();
        drop(delayed);
        assert!(!newest().contains_key("z"));
    }
}
