//! Slows down clients that keep trying wrong passwords. Each try costs a question to the API or the computing of a
//! hash, and may park a client id, whose owner cannot connect meanwhile.
//!
//! A login is a [`Try`]. From [`Throttle::admit`] to [`Throttle::close`] it is *open*. It counts in two groups: that of
//! its account (address and username, or the address alone) and that of its client id (address and client id), and is
//! admitted when both have room:
//!
//! - Until a group has had `after` refusals, it has room for as many open tries as it may still have refusals. Further
//!   tries wait for their turn, which comes when an open try of the group ends.
//! - The last of these refusals begins a pause, and each further refusal begins the next one, twice as long. In each
//!   pause there is room for one try at a time until one was refused. From then on every try is refused, and
//!   its password not examined, until that pause is over.
//! - Credentials that are known to be wrong are refused unexamined during a whole pause, and change nothing.
//!   Credentials that are known to be good are always admitted, and take up no room.
//!
//! So a client with the right password waits for its turn, or for the rest of one pause if another client has tried a
//! wrong one in it.
//!
//! # What attackers can push out
//!
//! Every table forgets the least recently used entry. Usernames and client ids can be made up, so anybody can fill the
//! tables of groups and of wrong credentials. But each entry there costs a question that the API refuses, or a
//! hash for a local user. A try that was not examined leaves none, but for its client id if it has kept that busy
//! ([`Throttle::charge_id`]), which costs a connection. Pushing out one pause takes as many questions as the table has entries, and
//! gains a handful of guesses. Each kind of group has a table of its own, so that made-up client ids push out no pause
//! of an account. Open tries have tables of their own, too, so that connections which only wait push out no refusals.
//! The table of good credentials holds only those that were let in.
mod groups;
mod tries;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use groups::{Groups, Room};
pub use tries::{Admission, Group, OpenTry, Try, TryOutcome};
use tries::{Standing, standing};

use crate::config::{CountBy, ThrottleLimits};
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter, network};
use crate::util::{Lock, bounded};

/// Entries of each table; least recently used go first. Some 10 MB for each that is full, or 30 MB where it holds open tries:
/// room for the right passwords of a fleet of as many, and as many questions have to be refused to push one pause out.
const BOUND: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// How long credentials that were let in are known to be good: long enough for a device that connects once a day.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

/// How long credentials that were refused are known to be wrong, in units of the longest pause. Long, since forgotten
/// ones are examined again, which uses up the one try of a pause. Not for ever, since a password can become right.
const WRONG_FOR_PAUSES: u32 = 10;

/// The longest time that a try stays open if it is never closed.
pub const OPEN_FOR: Duration = Duration::from_secs(120);

/// How long a try is open that was asked about early. It is not closed unless the login itself comes.
const SPECULATIVE_FOR: Duration = Duration::from_secs(2);

/// The kinds of groups: accounts, then client ids.
const KINDS: usize = 2;

/// Counts refusals and open tries, and remembers which credentials are good and which are wrong.
pub struct Throttle {
    keys: Fingerprinter,
    state: Lock<State>,
}

type Table<T> = LruCache<Fingerprint, T, AlreadyHashed>;

struct State {
    /// The groups of accounts, then those of client ids.
    kinds: [Groups; KINDS],
    /// Usernames of accounts that are in a pause, and until when. A login that is asked about early goes by these, too,
    /// since its address may be that of a proxy.
    held_names: Table<Instant>,
    /// Credentials that were let in, and when.
    good: Table<Instant>,
    /// Credentials that were refused, and when.
    wrong: Table<Instant>,
    /// The number of the newest try.
    number: u64,
}

impl Throttle {
    /// A throttle that has counted nothing yet.
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

    /// Opens a try, if both of its groups have room. Credentials that are open already need no more room where identical
    /// tries share one answer.
    pub fn admit(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> Admission {
        let mut open = self.identify(attempt, limits, now);
        let mut state = self.state.lock();
        state.begin(&mut open, limits);
        if open.standing == Standing::Good {
            return Admission::Now(open);
        }
        let mut worst = (Room::Free, open.groups[0]);
        // Whoever comes again and again keeps its client id busy, also if that asks nothing more.
        for ((kind, group), share_in_pause) in state.kinds.iter_mut().zip(open.groups).zip([true, false]) {
            let room = kind.room(group, &open, share_in_pause, limits, now);
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

    /// Ends an open try. An answer that is shared ends all tries that have the same credentials open; otherwise this try
    /// alone ends. Returns the groups that may have room now: the tries that wait for their turn there have to ask again,
    /// one after the other, until one is told to wait.
    ///
    /// A try must stay open while its question is on its way, even if its client goes away. Otherwise a client that
    /// hangs up early could have the API asked any number of times.
    pub fn close(
        &self,
        open: OpenTry,
        outcome: TryOutcome,
        limits: &ThrottleLimits,
        now: Instant,
    ) -> [Group; KINDS] {
        let mut state = self.state.lock();
        let ends_all = outcome != TryOutcome::Unknown;
        let mut ended = [false; KINDS];
        if open.standing != Standing::Good {
            for ((kind, group), ended) in state.kinds.iter_mut().zip(open.groups).zip(&mut ended) {
                *ended = kind.close(group, &open, ends_all);
            }
        }
        match outcome {
            TryOutcome::LetIn => {
                state.wrong.pop(&open.credentials);
                state.good.put(open.credentials, now);
            }
            TryOutcome::Refused => state.refused(&open, ended, limits, now),
            TryOutcome::Unknown | TryOutcome::Abandoned => {}
        }
        open.groups
    }

    /// A client is turned away, and its question goes on: its try stays open until that ends, for `at_most` this long. Returns
    /// `true` the first time: then the caller has to close the try when the question ends.
    pub fn leave(&self, open: &OpenTry, at_most: Duration, now: Instant) -> bool {
        if open.standing == Standing::Good {
            return false;
        }
        let [accounts, clients] = &mut self.state.lock().kinds;
        clients.leave(open.groups[1], open, now + at_most);
        accounts.leave(open.groups[0], open, now + at_most)
    }

    /// Counts a try against its client id as a refusal is: it keeps that id busy, and its client may be gone before its
    /// password is examined.
    pub fn charge_id(&self, id: Group, limits: &ThrottleLimits, now: Instant) {
        if limits.after > 0 {
            let [_, clients] = &mut self.state.lock().kinds;
            clients.refused(id, Standing::Nothing, limits, now);
        }
    }

    /// The group of a try's client id.
    pub fn id_group(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> Group {
        self.identify(attempt, limits, now).id_group()
    }

    /// Whether the API may be asked about a login before the broker comes to it. If so, the login takes up room for a
    /// moment, but only room for other early questions. It uses up nothing of a pause.
    pub fn admit_speculative(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> bool {
        let mut open = self.identify(attempt, limits, now);
        let mut state = self.state.lock();
        state.begin(&mut open, limits);
        if open.standing == Standing::Good {
            return true;
        }
        let is_held = state.held_names.peek(&open.name).is_some_and(|until| now < *until);
        let mut kinds = state.kinds.iter().zip(open.groups);
        if is_held || !kinds.all(|(kind, group)| kind.has_speculative_room(group, &open, limits, now)) {
            return false;
        }
        for (kind, group) in state.kinds.iter_mut().zip(open.groups) {
            kind.open(group, &open, 0, SPECULATIVE_FOR);
        }
        true
    }

    /// For how long a try would be refused and its password not examined, if it would. Changes nothing.
    pub fn inspect(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> Option<Duration> {
        let mut open = self.identify(attempt, limits, now);
        let state = self.state.lock();
        let (good, wrong) = (state.good.peek(&open.credentials), state.wrong.peek(&open.credentials));
        (open.standing, _) = standing(now, limits, good.copied(), wrong.copied());
        if open.standing == Standing::Good {
            return None;
        }
        let left = |(kind, group): (&Groups, Group)| kind.pause(group, &open, limits, now);
        state.kinds.iter().zip(open.groups).filter_map(left).max()
    }

    /// The groups and fingerprints of a try. [`State::begin`] adds the rest.
    fn identify(&self, attempt: &Try<'_>, limits: &ThrottleLimits, now: Instant) -> OpenTry {
        let Try { address, username, client_id, credentials, is_shared } = *attempt;
        let network = network(address.unwrap_or_default());
        let (network, username, client_id) = (network.as_bytes(), username.as_bytes(), client_id.as_bytes());
        let account = match limits.count_by {
            CountBy::AddressAndUsername => self.keys.fields(Domain::Account, [network, username]),
            CountBy::Address => self.keys.fields(Domain::Network, [network]),
        };
        // Clients without an id are not taken for one client.
        let client = match client_id {
            b"" => self.keys.fields(Domain::NoClientId, [network, username]),
            _ => self.keys.fields(Domain::ClientId, [network, client_id]),
        };
        let name = self.keys.fields(Domain::AccountName, [username]);
        let (groups, standing) = ([account, client], Standing::Nothing);
        OpenTry { groups, name, credentials, is_shared, number: 0, since: now, standing, was_let_in: false }
    }
}

impl State {
    /// Gives a try its number, and looks up what is known of its credentials. If the throttle is off (`after` 0), all
    /// count as good.
    fn begin(&mut self, open: &mut OpenTry, limits: &ThrottleLimits) {
        self.number += 1;
        open.number = self.number;
        let (good, wrong) = (self.good.get(&open.credentials), self.wrong.get(&open.credentials));
        (open.standing, open.was_let_in) = standing(open.since, limits, good.copied(), wrong.copied());
    }

    /// Notes refused credentials, and counts the refusal in each kind of group where it has `ended` an open try: tries
    /// that share an answer count once. A refusal that comes after [`OPEN_FOR`] counts, too, although its try has gone.
    fn refused(&mut self, open: &OpenTry, ended: [bool; KINDS], limits: &ThrottleLimits, now: Instant) {
        let was_good = self.good.pop(&open.credentials).is_some();
        if limits.after == 0 {
            return;
        }
        self.wrong.put(open.credentials, now);
        let is_late = now.saturating_duration_since(open.since) >= OPEN_FOR;
        let counts =
            ended.map(|ended| if open.standing == Standing::Good { was_good } else { ended || is_late });
        let [account, client] = &mut self.kinds;
        if counts[1] {
            client.refused(open.groups[1], open.standing, limits, now);
        }
        if counts[0] {
            let until = account.refused(open.groups[0], open.standing, limits, now);
            if now < until {
                let held = self.held_names.get_or_insert_mut(open.name, || until);
                *held = until.max(*held);
            }
        }
    }
}

#[cfg(test)]
mod tests;
