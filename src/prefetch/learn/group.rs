//! What clients of one kind ask after their login.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::credit::Credit;
use super::pattern::Telling;
use super::shape::Alike;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::question::Access;

/// Templates of one group: as many as the bits of a [`Slots`].
pub const TEMPLATES: usize = 128;

/// Clients that have to ask something before others are asked about it, where their names do not stand in it, or may
/// stand there by chance.
const SEVERAL: usize = 3;

/// One teacher may have one part in so many of the templates of a kind, so that nobody fills the group up.
const SHARE: usize = 4;

/// Templates that were asked so often make room last.
const PROVEN: u32 = 3;

/// Guesses about a template that is new: they are in vain if it is wrong.
const START: u16 = 16;

/// Guesses about a client by all that it has asked itself before: one SUBSCRIBE with so many filters.
const OWN_START: u16 = 64;

/// Bytes charged for a group, and for a template besides its text: about what they take.
const GROUP: usize = 512;
const TEMPLATE: usize = 160;

/// A set of templates, by their places in the group.
pub type Slots = u128;

/// Whose templates a group holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// The templates of clients whose names look alike, or of some of these that ask the same first.
    Many,
    /// The templates of one client, by what it asked when it came before.
    One,
}

/// A question that clients of the group ask, with places for their names.
#[derive(Debug)]
pub struct Template {
    /// The pattern of its topic.
    pub pattern: Box<str>,
    /// What they want to do with the topic.
    pub access: Access,
    /// Who has asked it, as far as that has to be known: their numbers, without 0.
    witnesses: [u64; SEVERAL],
    /// How many have to ask it before others are asked about it.
    needs: usize,
    credit: Credit,
    /// From where it was learnt: whoever teaches what is wrong is not believed for long.
    pub teacher: Fingerprint,
    /// The number in the group of the first client that was not looked at for this template.
    next: u64,
    /// How often templates had made room for others when it came.
    since: u64,
    /// How often it was asked.
    pub times: u32,
    used: Instant,
}

impl Template {
    /// Whether others are asked about it, as far as they may be.
    fn is_learnt(&self) -> bool {
        self.witnesses[..self.needs].iter().all(|witness| *witness != 0)
    }

    fn note_witness(&mut self, witness: u64) {
        if !self.witnesses.contains(&witness)
            && let Some(free) = self.witnesses.iter_mut().find(|witness| **witness == 0)
        {
            *free = witness;
        }
    }
}

/// The templates of a group, and its clients that came a moment ago.
#[derive(Debug)]
pub struct Group {
    /// Tells it from a later one under the same key.
    pub number: u64,
    kind: GroupKind,
    alike: Option<Alike>,
    templates: Vec<Template>,
    /// How often a template has made room for another one.
    replaced: u64,
    /// The clients that came a moment ago, by their numbers in the group, the one that came first before the others. Whoever
    /// has come again has the latest number alone. All groups together have no more of them than the learner knows clients, so
    /// the group is not charged for them.
    present: BTreeMap<u64, Fingerprint>,
    joined: u64,
    /// The credit that all templates of one client share.
    shared: Credit,
}

impl Group {
    /// A group that has learnt nothing.
    pub fn new(number: u64, kind: GroupKind) -> Self {
        Self {
            number,
            kind,
            alike: None,
            templates: Vec::new(),
            replaced: 0,
            present: BTreeMap::new(),
            joined: 0,
            shared: Credit::new(OWN_START),
        }
    }

    /// A group of all whose names look like that, which has learnt nothing.
    pub fn of_alike(number: u64, alike: Alike) -> Self {
        Self { alike: Some(alike), ..Self::new(number, GroupKind::Many) }
    }

    /// Who is in it, where their names tell.
    pub fn alike(&self) -> Option<&Alike> {
        self.alike.as_ref()
    }

    /// The bytes that it is charged.
    pub fn bytes(&self) -> usize {
        let alike = self.alike.as_ref().map_or(0, Alike::bytes);
        GROUP + alike + self.templates.iter().map(|template| TEMPLATE + template.pattern.len()).sum::<usize>()
    }

    /// All templates, the one of slot 0 first.
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// A client has come, perhaps again: its number in the group.
    pub fn join(&mut self, client: Fingerprint) -> u64 {
        let number = self.joined;
        self.joined += 1;
        self.present.insert(number, client);
        number
    }

    /// Nobody has this number any more.
    pub fn leave(&mut self, number: u64) {
        self.present.remove(&number);
    }

    /// The slot of a template.
    pub fn find(&self, access: Access, pattern: &str) -> Option<usize> {
        self.templates.iter().position(|it| it.access == access && &*it.pattern == pattern)
    }

    /// How often a template has made room for another one.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// The slots in which a template has made room for another one since that was so often.
    pub fn replaced_since(&self, times: u64) -> Slots {
        let is_new = |(_, template): &(usize, &Template)| template.since > times;
        self.templates.iter().enumerate().filter(is_new).fold(0, |all, (slot, _)| all | 1 << slot)
    }

    /// Puts a new template in, in the place of another one where there is no room. Returns its slot.
    pub fn insert(
        &mut self,
        access: Access,
        pattern: &str,
        telling: Telling,
        teacher: Fingerprint,
        now: Instant,
    ) -> usize {
        let needs = match (self.kind, telling, access) {
            (GroupKind::Many, Telling::Much, _) | (GroupKind::One, _, Access::Subscribe) => 1,
            // Topics that are drawn anew each time are written to, not subscribed to.
            (GroupKind::One, ..) => 2,
            (GroupKind::Many, ..) => SEVERAL,
        };
        let victim = self.victim(teacher);
        self.replaced += u64::from(victim.is_some());
        let template = Template {
            since: if victim.is_some() { self.replaced } else { 0 },
            pattern: pattern.into(),
            access,
            witnesses: [0; SEVERAL],
            needs,
            credit: Credit::new(START),
            teacher,
            next: 0,
            times: 0,
            used: now,
        };
        if let Some(slot) = victim {
            self.templates[slot] = template;
            return slot;
        }
        self.templates.push(template);
        self.templates.len() - 1
    }

    /// The template that makes room for a new one of this teacher, if one has to: the worst of the teacher's own, if it
    /// has its share, or else of the teacher that has most.
    fn victim(&self, teacher: Fingerprint) -> Option<usize> {
        let has = |teacher| self.templates.iter().filter(|it| it.teacher == teacher).count();
        let of = match self.kind {
            GroupKind::Many if has(teacher) >= TEMPLATES / SHARE => Some(teacher),
            _ if self.templates.len() < TEMPLATES => return None,
            GroupKind::Many => self.heaviest_teacher(),
            GroupKind::One => None,
        };
        let is_proven = |slot: usize| self.is_good(slot) && self.templates[slot].times >= PROVEN;
        let is_one = |slot: &usize| of.is_none_or(|of| self.templates[*slot].teacher == of);
        (0..self.templates.len())
            .filter(is_one)
            .min_by_key(|slot| (is_proven(*slot), self.templates[*slot].used))
    }

    fn heaviest_teacher(&self) -> Option<Fingerprint> {
        let mut counts: HashMap<Fingerprint, usize, AlreadyHashed> = HashMap::default();
        self.templates.iter().for_each(|it| *counts.entry(it.teacher).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(teacher, _)| teacher)
    }

    /// A client asks what a template says. `witness`: the client's number, or that of its visit where it is the only
    /// one.
    pub fn asked(&mut self, slot: usize, witness: u64, now: Instant) {
        let template = &mut self.templates[slot];
        template.times = template.times.saturating_add(1);
        template.used = now;
        if !template.is_learnt() {
            template.note_witness(witness.max(1));
        }
    }

    /// Whether others are asked about what a template says.
    pub fn is_good(&self, slot: usize) -> bool {
        self.templates[slot].is_learnt() && self.credit(slot).is_good()
    }

    /// Whether a template is no candidate any more.
    pub fn is_learnt(&self, slot: usize) -> bool {
        self.templates[slot].is_learnt()
    }

    /// The next client that is to be asked about by a template, and its number. Each comes once.
    pub fn next(&mut self, slot: usize) -> Option<(u64, Fingerprint)> {
        let template = &mut self.templates[slot];
        let (number, client) = self.present.range(template.next..).next()?;
        template.next = number + 1;
        Some((*number, *client))
    }

    /// The client that came so many after the next one behind this number.
    pub fn behind(&self, number: u64, further: usize) -> Option<(u64, Fingerprint)> {
        let (number, client) = self.present.range(number + 1..).nth(further)?;
        Some((*number, *client))
    }

    /// Whether all clients before this number were looked at for a template.
    pub fn is_next(&self, slot: usize, number: u64) -> bool {
        let next = self.templates[slot].next;
        next <= number && self.present.range(next..number).next().is_none()
    }

    /// A client has another number than before. For whichever templates it was looked at, it was looked at.
    pub fn is_renumbered(&mut self, before: u64, number: u64) {
        self.leave(before);
        for slot in 0..self.templates.len() {
            if before < self.templates[slot].next && self.is_next(slot, number) {
                self.go_behind(slot, number);
            }
        }
    }

    /// All clients up to this number were looked at for a template, or are not to be.
    pub fn go_behind(&mut self, slot: usize, number: u64) {
        self.templates[slot].next = number + 1;
    }

    /// How many clients came a moment ago.
    #[cfg(test)]
    pub fn present(&self) -> usize {
        self.present.len()
    }

    /// Whose templates it holds.
    pub fn kind(&self) -> GroupKind {
        self.kind
    }

    /// How many guesses a template may make.
    pub fn credit(&self, slot: usize) -> Credit {
        match self.kind {
            GroupKind::Many => self.templates[slot].credit,
            GroupKind::One => self.shared,
        }
    }

    /// The guesses that a template may make, to be counted.
    pub fn credit_mut(&mut self, slot: usize) -> &mut Credit {
        match self.kind {
            GroupKind::Many => &mut self.templates[slot].credit,
            GroupKind::One => &mut self.shared,
        }
    }
}

/// The slots of a set.
pub fn slots(mut set: Slots) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (slot < TEMPLATES).then_some(slot)
    })
}
