//! Tries: what the throttle counts, what becomes of each, and how it ends.
use std::time::{Duration, Instant};

use super::{GOOD_FOR, KINDS, WRONG_FOR_PAUSES};
use crate::config::ThrottleLimits;
use crate::fingerprint::Fingerprint;

/// A group of tries that are counted together, and in which tries wait for their turn.
pub type Group = Fingerprint;

/// A login, as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Try<'a> {
    /// The client's address, if it is known.
    pub address: Option<&'a str>,
    /// The username.
    pub username: &'a str,
    /// The client id; empty: none, or not known.
    pub client_id: &'a str,
    /// The fingerprint of username and password, and of what `auth_fields` adds: what is right or wrong as a whole.
    pub credentials: Fingerprint,
    /// Whether those who try the same credentials at once share one answer. Each try of a local user is examined by
    /// itself.
    pub is_shared: bool,
}

/// What becomes of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is examined now, and has to be closed in the end.
    Now(OpenTry),
    /// It has to ask again when an open try of this group is closed.
    WaitForTurn(Group),
    /// It is refused, its password not examined, and may be tried again after this time.
    Throttled(Duration),
}

/// An open try.
#[must_use = "a try has to be closed, or nobody else of its groups gets its place"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTry {
    /// The group of its account and that of its client id.
    pub(super) groups: [Group; KINDS],
    /// The username, for [`super::State::held_names`].
    pub(super) name: Fingerprint,
    pub(super) credentials: Fingerprint,
    /// Whether tries with the same credentials share one answer.
    pub(super) is_shared: bool,
    /// Its number in the order of all tries, from 1.
    pub(super) number: u64,
    /// When it was opened.
    pub(super) since: Instant,
    /// What was known of its credentials when it was opened.
    pub(super) standing: Standing,
    /// Whether they were let in lately. `standing` does not tell: where the throttle is off, all count as good.
    pub(super) was_let_in: bool,
}

impl OpenTry {
    /// What is tried.
    pub fn credentials(&self) -> Fingerprint {
        self.credentials
    }

    /// Whether its credentials were let in lately.
    pub fn was_let_in(&self) -> bool {
        self.was_let_in
    }

    /// The group of its client id, see [`super::Throttle::charge_id`].
    pub fn id_group(&self) -> Group {
        self.groups[1]
    }
}

/// What is known of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Whether they are right is not known.
    Nothing,
    /// They were let in: they are always examined, and take up no room.
    Good,
    /// They were refused: they are not examined in a pause.
    Wrong,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryOutcome {
    /// Username and password were right.
    LetIn,
    /// Username or password was wrong.
    Refused,
    /// There was no answer for this one.
    Unknown,
    /// Its question has ended without an answer, for all who have tried the same.
    Abandoned,
}

impl TryOutcome {
    /// Of the question itself, and so for all who have tried the same.
    pub fn of_all(self) -> Self {
        if self == Self::Unknown { Self::Abandoned } else { self }
    }
}

/// What is known of credentials that were let in or refused last at these times, and whether they were let in lately.
pub(super) fn standing(
    now: Instant,
    limits: &ThrottleLimits,
    good: Option<Instant>,
    wrong: Option<Instant>,
) -> (Standing, bool) {
    let age = |since: Instant| now.saturating_duration_since(since);
    let was_let_in = good.is_some_and(|since| age(since) < GOOD_FOR);
    let standing = if limits.after == 0 || was_let_in {
        Standing::Good
    } else if wrong.is_some_and(|since| age(since) < WRONG_FOR_PAUSES * limits.longest) {
        Standing::Wrong
    } else {
        Standing::Nothing
    };
    (standing, was_let_in)
}
