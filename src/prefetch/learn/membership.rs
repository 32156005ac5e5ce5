//! A client in a group: what it has asked of what the group's templates say, and what was asked ahead for it.

use super::group::{Group, GroupKind, Slots, slots};
use super::groups::Groups;
use crate::fingerprint::Fingerprint;

/// Templates that one client can add in one visit, to each of its groups.
const LESSONS: u8 = 128;

/// A client in a group.
#[derive(Debug, Clone, Copy)]
pub struct Membership {
    key: Fingerprint,
    /// The number of the group.
    group: u64,
    /// The client's number in it.
    number: u64,
    /// What it has asked.
    asked: Slots,
    /// What was asked ahead, and it has not asked yet.
    guessed: Slots,
    /// What would have been asked ahead.
    watched: Slots,
    /// How often a template had made room for another one when that was so. See [`Self::bring_up_to_date`].
    replaced: u64,
    /// How many templates it has added.
    lessons: u8,
}

impl Membership {
    /// A client that has this number in the group of this key, and has asked nothing.
    pub fn new(key: Fingerprint, group: &Group, number: u64) -> Self {
        let (group, replaced) = (group.number, group.replaced());
        Self { key, group, number, asked: 0, guessed: 0, watched: 0, replaced, lessons: 0 }
    }

    /// The key of the group.
    pub fn key(&self) -> Fingerprint {
        self.key
    }

    /// The client's number in the group.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The group, if it is still there.
    pub fn group_among<'g>(&self, groups: &'g mut Groups) -> Option<&'g mut Group> {
        groups.get_numbered(self.key, self.group)
    }

    /// It has another number in the group from now on.
    pub fn renumber(&mut self, number: u64) {
        self.number = number;
    }

    /// Counts a template that it is about to add. `false` if it has added enough.
    pub fn take_lesson(&mut self) -> bool {
        let may = self.lessons < LESSONS;
        self.lessons += u8::from(may);
        may
    }

    /// Takes out what is noted of templates that have made room for others: nobody has asked these yet. It is called before any
    /// of it is looked at, since there may be many clients to be gone through each time that a template makes room.
    pub fn bring_up_to_date(&mut self, group: &mut Group) {
        if self.replaced == group.replaced() {
            return;
        }
        let gone = group.replaced_since(self.replaced);
        self.replaced = group.replaced();
        if group.kind() == GroupKind::One {
            // The credit stays, and with it what the old ones have open.
            slots(self.guessed & gone).for_each(|slot| group.credit_mut(slot).forget());
        }
        for noted in [&mut self.asked, &mut self.guessed, &mut self.watched] {
            *noted &= !gone;
        }
    }

    /// Whether it has asked what a template says.
    pub fn has_asked(&self, slot: usize) -> bool {
        self.asked & 1 << slot != 0
    }

    /// Whether what a template says was asked ahead for it, and it has not asked that yet.
    pub fn is_guessed(&self, slot: usize) -> bool {
        self.guessed & 1 << slot != 0
    }

    /// It has asked what a template says. Returns whether that was asked ahead.
    pub fn note_asked(&mut self, slot: usize) -> bool {
        let was_guessed = self.is_guessed(slot);
        self.asked |= 1 << slot;
        self.guessed &= !(1 << slot);
        was_guessed
    }

    /// What a template says is asked ahead.
    pub fn note_guessed(&mut self, slot: usize) {
        self.guessed |= 1 << slot;
        self.watched &= !(1 << slot);
    }

    /// What a template says would be asked ahead, and is not.
    pub fn note_watched(&mut self, slot: usize) {
        self.watched |= 1 << slot;
    }

    /// It is known what came of what was watched.
    pub fn note_seen(&mut self, slot: usize) {
        self.watched &= !(1 << slot);
    }

    /// What was asked ahead, and it has not asked.
    pub fn guessed(&self) -> impl Iterator<Item = usize> {
        slots(self.guessed)
    }

    /// What would have been asked ahead, and it has not asked.
    pub fn watched(&self) -> impl Iterator<Item = usize> {
        slots(self.watched)
    }
}
