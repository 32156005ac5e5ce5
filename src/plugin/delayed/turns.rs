//! Those who wait for their turn, in the order in which they came, by the group in which they do.

use std::collections::{BTreeMap, HashMap};

use super::quota::Quota;
use super::{Group, Ticket};
use crate::fingerprint::AlreadyHashed;

/// A client that waits for its turn to be looked at: the only one whose password is kept.
pub struct Turn {
    /// Its parking.
    pub ticket: Ticket,
    /// Its password.
    pub password: Option<Vec<u8>>,
    /// The network that its password is charged to.
    pub network: String,
}

impl Turn {
    /// What the password is charged as. The rest is charged with the parking, and goes with it.
    fn bytes(&self) -> usize {
        self.password.as_ref().map_or(0, Vec::len)
    }
}

/// A place in the row of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPosition {
    group: Group,
    number: i64,
}

/// All who wait for their turn.
pub(super) struct Turns {
    rows: HashMap<Group, BTreeMap<i64, Turn>, AlreadyHashed>,
    /// The number of the next who comes. It is given once, as each is: one number is one place.
    next: i64,
    /// The number of the next who waits on as the first: before all others.
    next_first: i64,
    passwords: Quota,
}

impl Turns {
    /// Nobody yet, and room for so many bytes of passwords.
    pub(super) fn new(passwords: usize) -> Self {
        Self { rows: HashMap::default(), next: 0, next_first: -1, passwords: Quota::new(passwords) }
    }

    /// Lets somebody wait as the last of a group. `None` if there is no room.
    pub(super) fn push(&mut self, group: Group, turn: Turn) -> Option<RowPosition> {
        if !self.passwords.fits(&turn.network, turn.bytes()) {
            return None;
        }
        let place = RowPosition { group, number: self.next };
        self.next += 1;
        self.put(place, turn);
        Some(place)
    }

    /// Lets somebody wait on as the first of a group, who has been first before.
    pub(super) fn push_first(&mut self, group: Group, turn: Turn) -> RowPosition {
        let place = RowPosition { group, number: self.next_first };
        self.next_first -= 1;
        self.put(place, turn);
        place
    }

    fn put(&mut self, place: RowPosition, turn: Turn) {
        self.passwords.take(&turn.network, turn.bytes());
        self.rows.entry(place.group).or_default().insert(place.number, turn);
    }

    /// Takes out the first of a group.
    pub(super) fn pop(&mut self, group: Group) -> Option<Turn> {
        let number = *self.rows.get(&group)?.first_key_value()?.0;
        self.remove(RowPosition { group, number })
    }

    /// Takes out whoever has this place.
    pub(super) fn remove(&mut self, place: RowPosition) -> Option<Turn> {
        let row = self.rows.get_mut(&place.group)?;
        let turn = row.remove(&place.number)?;
        if row.is_empty() {
            self.rows.remove(&place.group);
        }
        self.passwords.give_back(&turn.network, turn.bytes());
        Some(turn)
    }

    /// Whether somebody waits for a turn in a group.
    pub(super) fn has(&self, group: Group) -> bool {
        self.rows.contains_key(&group)
    }

    /// Whether nobody waits, and nothing is charged.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.passwords.is_empty()
    }
}
