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
mod groups;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use groups::{Groups, Room};

use crate::config::{CountBy, ThrottleLimits};
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter, network};
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
    /// Its place in the order of all tries.
    number: u64,
    since: Instant,
    /// What was known of its credentials then.
    known: Known,
}

/// What is known of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    /// They are looked at, and take up no room.
    Good,
    /// They are not looked at in a pause.
    Wrong,
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
    /// Credentials that were refused, and when.
    wrong: Table<Instant>,
    /// Of the newest try.
    number: u64,
}

impl Throttle {
    /// A throttle that nobody has touched yet.
    pub fn new(keys: Fingerprinter) -> Self {
        let state = State {
            kinds: [Groups::new(), Groups::new()],
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
        let mut open = self.identify(attempt, limits, now);
        let mut state = self.state.lock();
        state.begin(&mut open, limits);
        if open.known == Known::Good {
            return Admission::Now(open);
        }
        let mut worst = (Room::Free, open.groups[0]);
        for (kind, group) in state.kinds.iter_mut().zip(open.groups) {
            let room = kind.room(group, &open, limits, now);
            if room > worst.0 {
                worst = (room, group);
            }
        }
        match worst {
            (Room::Paused(left), _) => Admission::Throttled(left),
            (Room::Taken, group) => Admission::WaitForTurn(group),
            (Room::Free, _) => {
                for (kind, group) in state.kinds.iter_mut().zip(open.groups) {
                    kind.open(group, &open, 1, OPEN_FOR);
                }
                Admission::Now(open)
            }
        }
    }

    /// Ends an open try: with an answer for all who have the same credentials open, without one for this one alone.
    /// Afterwards those who wait for their turn in these groups ask again, one after the other, until one has to wait
    /// still.
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
        let is_answered = outcome != Outcome::Unknown;
        let mut ended = [false; KINDS];
        if open.known != Known::Good {
            for ((kind, group), ended) in state.kinds.iter_mut().zip(open.groups).zip(&mut ended) {
                *ended = kind.close(group, &open, is_answered);
            }
        }
        match outcome {
            Outcome::LetIn => {
                state.wrong.pop(&open.credentials);
                state.good.put(open.credentials, now);
            }
            Outcome::Refused => state.refused(&open, ended, limits, now),
            Outcome::Unknown => {}
        }
        open.groups
    }

    /// Whether the question about a try may be asked ahead, before the broker comes to it. That takes up room for a
    /// moment, but only that of others who are asked about ahead; it never waits, and uses up nothing of a pause.
    pub fn admit_ahead(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> bool {
        let mut open = self.identify(attempt, limits, now);
        let mut state = self.state.lock();
        state.begin(&mut open, limits);
        if open.known == Known::Good {
            return true;
        }
        let is_held = state.held_names.peek(&open.name).is_some_and(|until| now < *until);
        let mut kinds = state.kinds.iter().zip(open.groups);
        if is_held || !kinds.all(|(kind, group)| kind.has_room_ahead(group, &open, limits, now)) {
            return false;
        }
        for (kind, group) in state.kinds.iter_mut().zip(open.groups) {
            kind.open(group, &open, 0, AHEAD_FOR);
        }
        true
    }

    /// What a try counts in. It is to be begun.
    fn identify(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> Open {
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
        Open { groups: [account, client], name, credentials, number: 0, since: now, known: Known::Nothing }
    }
}

impl State {
    /// Gives a try its number, and says what is known of its credentials. While nobody is throttled, all are good.
    fn begin(&mut self, open: &mut Open, limits: &ThrottleLimits) {
        self.number += 1;
        open.number = self.number;
        let age = |since: &Instant| open.since.saturating_duration_since(*since);
        let is_good = self.good.get(&open.credentials).is_some_and(|since| age(since) < GOOD_FOR);
        let wrong_for = WRONG_FOR_PAUSES * limits.longest;
        if limits.after == 0 || is_good {
            open.known = Known::Good;
        } else if self.wrong.get(&open.credentials).is_some_and(|since| age(since) < wrong_for) {
            open.known = Known::Wrong;
        }
    }

    /// Notes and counts a refusal, in each kind where it has `ended` an open try: those that share it count once. One
    /// that nobody knew to be open any more counts, too.
    fn refused(&mut self, open: &Open, ended: [bool; KINDS], limits: &ThrottleLimits, now: Instant) {
        let was_good = self.good.pop(&open.credentials).is_some();
        if limits.after == 0 {
            return;
        }
        self.wrong.put(open.credentials, now);
        let is_late = now.saturating_duration_since(open.since) >= OPEN_FOR;
        let counts = ended.map(|ended| if open.known == Known::Good { was_good } else { ended || is_late });
        let [account, client] = &mut self.kinds;
        if counts[1] {
            client.refused(open.groups[1], open.known, limits, now);
        }
        if counts[0] {
            let until = account.refused(open.groups[0], open.known, limits, now);
            if now < until {
                let held = self.held_names.get_or_insert_mut(open.name, || until);
                *held = until.max(*held);
            }
        }
    }
}

#[cfg(test)]
mod tests;
