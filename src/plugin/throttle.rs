//! Slows down who keeps trying wrong passwords: each try parks a client id or costs the API a question, and while an id
//! is parked its owner cannot connect.
//!
//! A login is a [`Try`]. From [`Throttle::admit`] to [`Throttle::close`] it is *open*. It counts in two groups: that of
//! its account (address and username, or the address alone) and that of its client id (address and client id), and is
//! admitted when both have room:
//!
//! - Until a group has had `after` refusals, it has room for as many open tries as it may still have refusals. What is
//!   beyond waits for its turn, that is until an open try of the group ends.
//! - The last of these refusals begins a pause, and each further one the next, twice as long. In each pause there is
//!   room for one try at a time until one was refused. Then whoever comes is refused unseen until that pause is over.
//! - Credentials that are known to be wrong are refused unseen in all of a pause, and change nothing. Those that are
//!   known to be good are always admitted, and take up no room.
//!
//! So with the right password one waits for one's turn, or for the rest of one pause if somebody else has guessed in it.
//!
//! # What attackers can push out
//!
//! Every table forgets what was not used for longest. Names and client ids can be made up, so anybody can fill the
//! tables of groups and of wrong credentials; but an entry there costs a question that the API refuses, since a try
//! that was not looked at leaves nothing behind. To have one pause forgotten takes as many questions as the table has
//! entries, for a handful of guesses. Each kind of group has a table of its own: ids made up for one name push out no
//! name's pause. Open tries have tables of their own, too, so that connections that only hang around push out no
//! refusals. Only what the API lets in gets into the table of good credentials.
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::config::{CountBy, ThrottleLimits};
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter};
use crate::util::{Lock, bounded};

/// Entries of each table.
const BOUND: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// How long credentials that were let in are known to be good: long enough for a device that connects once a day.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

/// For how many of the longest pauses credentials that were refused are known to be wrong. What is forgotten is looked
/// at in a pause in somebody else's stead, so this should be rare; but a password can also become right.
const WRONG_FOR_PAUSES: u32 = 10;

/// How long a try is open at most, should nobody close it.
pub const OPEN_FOR: Duration = Duration::from_secs(120);

/// How long a try that was asked about ahead is open; nobody closes it, unless the try itself comes.
const AHEAD_FOR: Duration = Duration::from_secs(2);

/// The kinds of groups: accounts, then client ids.
const KINDS: usize = 2;

/// Tries that are counted together; those that wait for their turn do so by group.
pub type Group = Fingerprint;

/// Somebody who tries to log in.
#[derive(Debug, Clone, Copy)]
pub struct Try<'a> {
    /// From where, where that is known.
    pub address: Option<&'a str>,
    /// Under which name.
    pub username: &'a str,
    /// Under which client id; empty: none, or not known.
    pub client_id: &'a str,
    /// With which username and password.
    pub credentials: Fingerprint,
}

/// What becomes of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is looked at now, and is to be closed in the end.
    Now(Open),
    /// It asks again when an open try of that group is closed; one of others is open.
    WaitForTurn(Group),
    /// It is refused unseen, and may be tried again after this time.
    Throttled(Duration),
}

/// An open try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    groups: [Group; KINDS],
    name: Fingerprint,
    credentials: Fingerprint,
    /// Its place in the order of all tries and refusals.
    number: u64,
    /// It takes up no room.
    is_exempt: bool,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Username and password were right.
    LetIn,
    /// Username or password was wrong.
    Refused,
    /// Nobody has said.
    Unknown,
}

/// Counts refusals and open tries, and remembers which credentials are good and which are wrong.
pub struct Throttle {
    keys: Fingerprinter,
    state: Lock<State>,
}

type Table<T> = LruCache<Fingerprint, T, AlreadyHashed>;

struct State {
    kinds: [Groups; KINDS],
    /// Names of accounts that are in a pause, and until when: all there is to go by for a try whose address is not
    /// known.
    held_names: Table<Instant>,
    /// Credentials that were let in, and when.
    good: Table<Instant>,
    /// Credentials that were refused.
    wrong: Table<Wrong>,
    /// Of the newest try or refusal.
    number: u64,
}

#[derive(Clone, Copy)]
struct Wrong {
    since: Instant,
    number: u64,
}

impl Throttle {
    /// A throttle that nobody has touched yet.
    pub fn new(keys: Fingerprinter) -> Self {
        let groups = || Groups { counts: bounded(BOUND), open: bounded(BOUND) };
        let state = State {
            kinds: [groups(), groups()],
            held_names: bounded(BOUND),
            good: bounded(BOUND),
            wrong: bounded(BOUND),
            number: 0,
        };
        Self { keys, state: Lock::new(state) }
    }

    /// Opens a try, if there is room for it. The same credentials that are open already need no more room: whoever
    /// asks the same shares the answer.
    pub fn admit(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> Admission {
        let mut open = self.identify(attempt, limits);
        let mut state = self.state.lock();
        state.number += 1;
        open.number = state.number;
        open.is_exempt = limits.after == 0 || state.is_good(open.credentials, now);
        if open.is_exempt {
            return Admission::Now(open);
        }
        let is_wrong = state.is_wrong(open.credentials, limits, now);
        let mut worst = (Room::Free, open.groups[0]);
        for (kind, group) in state.kinds.iter_mut().zip(open.groups) {
            let room = kind.room(group, open.credentials, is_wrong, limits, now);
            if room > worst.0 {
                worst = (room, group);
            }
        }
        match worst {
            (Room::Paused(left), _) => Admission::Throttled(left),
            (Room::Taken, group) => Admission::WaitForTurn(group),
            (Room::Free, _) => {
                for (kind, group) in state.kinds.iter_mut().zip(open.groups) {
                    kind.open(group, &open, 1, now, OPEN_FOR);
                }
                Admission::Now(open)
            }
        }
    }

    /// Ends an open try. Afterwards those who wait for their turn in these groups ask again, one after the other, until
    /// one has to wait still.
    ///
    /// A client that goes away does not end its try while its question is on its way: who hangs up early would have the
    /// API asked as often as he likes.
    pub fn close(
        &self,
        open: Open,
        outcome: Outcome,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> [Group; KINDS] {
        let mut state = self.state.lock();
        if !open.is_exempt {
            for (kind, group) in state.kinds.iter_mut().zip(open.groups) {
                kind.close(group, &open);
            }
        }
        match outcome {
            Outcome::LetIn => {
                state.wrong.pop(&open.credentials);
                state.good.put(open.credentials, now);
            }
            Outcome::Refused => state.refused(&open, limits, now),
            Outcome::Unknown => {}
        }
        open.groups
    }

    /// Whether the question about a try may be asked ahead, before the broker comes to it. That takes up room for a
    /// moment, but only that of others who are asked about ahead; it never waits, and uses up nothing of a pause.
    pub fn admit_ahead(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> bool {
        let mut open = self.identify(attempt, limits);
        let mut state = self.state.lock();
        if limits.after == 0 || state.is_good(open.credentials, now) {
            return true;
        }
        let is_held = state.held_names.peek(&open.name).is_some_and(|until| now < *until);
        let mut kinds = state.kinds.iter().zip(open.groups);
        if is_held || !kinds.all(|(kind, group)| kind.has_room_ahead(group, open.credentials, limits, now)) {
            return false;
        }
        state.number += 1;
        open.number = state.number;
        for (kind, group) in state.kinds.iter_mut().zip(open.groups) {
            kind.open(group, &open, 0, now, AHEAD_FOR);
        }
        true
    }

    /// The groups of a try, which is not open yet.
    fn identify(&self, attempt: &Try<'_>, limits: &ThrottleLimits) -> Open {
        let Try { address, username, client_id, credentials } = *attempt;
        let network = network(address.unwrap_or_default());
        let (network, username, client_id) = (network.as_bytes(), username.as_bytes(), client_id.as_bytes());
        let account = match limits.count_by {
            CountBy::AddressAndUsername => self.keys.fields(Domain::Account, [network, username]),
            CountBy::Address => self.keys.fields(Domain::Network, [network]),
        };
        // Clients without an id have none in common.
        let client = match client_id {
            b"" => self.keys.fields(Domain::NoClientId, [network, username]),
            _ => self.keys.fields(Domain::ClientId, [network, client_id]),
        };
        let name = self.keys.fields(Domain::AccountName, [username]);
        Open { groups: [account, client], name, credentials, number: 0, is_exempt: false }
    }
}

impl State {
    fn is_good(&mut self, credentials: Fingerprint, now: Instant) -> bool {
        let since = self.good.get(&credentials);
        since.is_some_and(|since| now.saturating_duration_since(*since) < GOOD_FOR)
    }

    fn is_wrong(&mut self, credentials: Fingerprint, limits: &ThrottleLimits, now: Instant) -> bool {
        let wrong = self.wrong.get(&credentials);
        let known_for = WRONG_FOR_PAUSES * limits.longest;
        wrong.is_some_and(|wrong| now.saturating_duration_since(wrong.since) < known_for)
    }

    fn refused(&mut self, open: &Open, limits: &ThrottleLimits, now: Instant) {
        self.good.pop(&open.credentials);
        // One that shared the answer has counted it.
        let is_counted = self.wrong.peek(&open.credentials).is_some_and(|wrong| wrong.number > open.number);
        if limits.after == 0 || is_counted {
            return;
        }
        // Only what was looked at as the one of a pause counts in it.
        let in_pause = !open.is_exempt && !self.is_wrong(open.credentials, limits, now);
        self.number += 1;
        self.wrong.put(open.credentials, Wrong { since: now, number: self.number });
        let [account, client] = &mut self.kinds;
        let until = account.refused(open.groups[0], in_pause, limits, now);
        client.refused(open.groups[1], in_pause, limits, now);
        if now < until {
            let held = self.held_names.get_or_insert_mut(open.name, || until);
            *held = until.max(*held);
        }
    }
}

/// All groups of one kind.
struct Groups {
    counts: Table<Count>,
    /// Of each group, those with distinct credentials.
    open: Table<Vec<OpenTry>>,
}

#[derive(Clone, Copy)]
struct Count {
    refusals: usize,
    /// In a pause: when somebody is looked at again whose credentials are not known to be wrong.
    next_look: Instant,
    /// The end of the pause, or the last refusal before the first one.
    until: Instant,
}

struct OpenTry {
    credentials: Fingerprint,
    /// Of the first who opened it.
    number: u64,
    /// How many have it open; nobody: it was asked about ahead.
    holders: usize,
    until: Instant,
}

/// What a group has for a try; the greater, the less.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Free,
    Taken,
    Paused(Duration),
}

impl Groups {
    /// That of a group. Whose last pause was twice the longest pause ago starts anew.
    fn count(&self, group: Group, limits: &ThrottleLimits, now: Instant) -> Count {
        let count = self.counts.peek(&group).copied();
        let is_recent = |count: &Count| now.saturating_duration_since(count.until) <= 2 * limits.longest;
        count.filter(is_recent).unwrap_or(Count { refusals: 0, next_look: now, until: now })
    }

    fn open_tries(&self, group: Group, now: Instant) -> impl Iterator<Item = &OpenTry> {
        self.open.peek(&group).into_iter().flatten().filter(move |open| now < open.until)
    }

    fn room(
        &mut self,
        group: Group,
        credentials: Fingerprint,
        is_wrong: bool,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> Room {
        self.counts.promote(&group);
        let count = self.count(group, limits, now);
        if is_wrong && now < count.until {
            return Room::Paused(count.until - now);
        }
        let mut taken = 0;
        for open in self.open_tries(group, now).filter(|open| open.holders > 0) {
            if open.credentials == credentials {
                return Room::Free;
            }
            taken += 1;
        }
        if now < count.next_look {
            Room::Paused(count.next_look - now)
        } else if taken < limits.after.saturating_sub(count.refusals).max(1) {
            Room::Free
        } else {
            Room::Taken
        }
    }

    fn has_room_ahead(
        &self,
        group: Group,
        credentials: Fingerprint,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> bool {
        let others = self.open_tries(group, now).filter(|open| open.credentials != credentials).count();
        self.count(group, limits, now).refusals + others < limits.after
    }

    fn open(&mut self, group: Group, open: &Open, holders: usize, now: Instant, at_most: Duration) {
        let tries = self.open.get_or_insert_mut(group, Vec::new);
        tries.retain(|open| now < open.until);
        let until = now + at_most;
        match tries.iter_mut().find(|other| other.credentials == open.credentials) {
            Some(same) => {
                same.holders += holders;
                same.until = same.until.max(until);
            }
            None => {
                tries.push(OpenTry { credentials: open.credentials, number: open.number, holders, until });
            }
        }
    }

    fn close(&mut self, group: Group, open: &Open) {
        let Some(tries) = self.open.peek_mut(&group) else { return };
        // What was opened later is not this one, whose time was up.
        let is_this = |other: &OpenTry| other.credentials == open.credentials && other.number <= open.number;
        if let Some(at) = tries.iter().position(is_this) {
            tries[at].holders = tries[at].holders.saturating_sub(1);
            if tries[at].holders == 0 {
                tries.swap_remove(at);
            }
        }
        if tries.is_empty() {
            self.open.pop(&group);
        }
    }

    /// Counts a refusal; returns the end of the pause. `in_pause` says whether it counts in a pause, too.
    fn refused(&mut self, group: Group, in_pause: bool, limits: &ThrottleLimits, now: Instant) -> Instant {
        let mut count = self.count(group, limits, now);
        if now < count.next_look || (now < count.until && !in_pause) {
            return count.until;
        }
        count.refusals += 1;
        count.next_look = count.until.max(now);
        count.until = count.next_look;
        if let Some(doublings) = count.refusals.checked_sub(limits.after) {
            let factor = 1u32.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
            count.until += limits.pause.saturating_mul(factor).min(limits.longest);
        }
        self.counts.put(group, count);
        count.until
    }
}

/// An address as it is counted: of IPv6 the first 64 bits, since a single customer has all the rest.
pub fn network(address: &str) -> Cow<'_, str> {
    match address.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
            Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).to_string().into()
        }
        _ => address.into(),
    }
}

#[cfg(test)]
mod tests;
