//! Who came a moment ago, in which groups, and what is asked about whom because of that. Pure bookkeeping: whoever calls
//! has the questions asked.

mod closing;
mod habits;
mod joining;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::forgotten::Forgotten;
use super::group::TEMPLATES;
use super::groups::{Groups, Learnt};
use super::pattern::{self, Telling, Who};
use super::shape;
use super::visit::{Arrival, Arrivals, Ask, Circle, Lesson, Round, Visitor, wish};
use crate::fingerprint::{Domain, Fingerprint, Fingerprinter, Whose};
use crate::prefetch::scores::{Origin, Scores};
use crate::prefetch::wish::Wish;
use crate::question::{Access, Kind};
use crate::util::bounded;
use habits::HabitScan;

/// Clients that came a moment ago; some 8 MB with usual names, and 30 MB with the longest ones.
const ARRIVALS: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// Bytes of a client id and a username together, beyond which nothing is learnt of a client: as for the names of sessions,
/// enough for tokens.
const LONGEST_NAMES: usize = 1_024;

/// The longest time after a login in which it is learnt what the client asks.
const LONGEST_VISIT: Duration = Duration::from_secs(60);

/// Clients that are looked at in one go while the broker waits: less than a millisecond.
const STEPS: usize = 256;

/// Clients that are looked at first, since they came next: as many as may be guessed about in one go by a template that is
/// new, and those before them that were.
const NEAR: usize = 64;

/// All that is learnt.
pub struct Learner {
    keys: Fingerprinter,
    groups: Groups,
    arrivals: Arrivals,
    scores: Scores,
    forgotten: Forgotten,
    /// The last number that was given to a group, a visit or somebody's being forgotten.
    number: u64,
    /// How far the groups were gone through for other brokers.
    scan: HabitScan,
    pattern: String,
    topic: String,
}

impl Learner {
    pub fn new(keys: Fingerprinter) -> Self {
        Self::bounded(keys, ARRIVALS, Groups::default())
    }

    /// One that knows so many clients that came a moment ago.
    pub fn bounded(keys: Fingerprinter, arrivals: NonZeroUsize, groups: Groups) -> Self {
        Self {
            keys,
            groups,
            arrivals: bounded(arrivals),
            scores: Scores::new(),
            forgotten: Forgotten::default(),
            number: 0,
            scan: HabitScan::default(),
            pattern: String::new(),
            topic: String::new(),
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.keys);
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.arrivals.is_empty()
    }

    /// Forgets what somebody alone was seen to ask, and that it has come.
    pub fn forget(&mut self, whose: Whose) {
        let number = self.next_number();
        self.forgotten.note(whose, number);
    }

    /// Whether a client comes again after a moment: what was asked about it then is remembered. The broker comes to it behind
    /// all others that have come.
    pub fn comes_again(&mut self, client: Fingerprint, who: Who<'_>, visit: Duration, now: Instant) -> bool {
        self.close_visits(visit, now);
        let client = self.forgotten.key(client, who, &self.keys);
        let is_just_now =
            |arrival: &Arrival| now.saturating_duration_since(arrival.since) <= visit.min(LONGEST_VISIT);
        if !self.arrivals.peek(&client).is_some_and(is_just_now) {
            return false;
        }
        for circle in Circle::ALL {
            self.number_anew(client, circle);
        }
        true
    }

    /// A client is about to be let in: what it is expected to ask. `visit`: for how long an answer is of use.
    pub fn arrives(
        &mut self,
        client: Visitor<'_>,
        visit: Duration,
        now: Instant,
        ask: &Ask<'_>,
    ) -> Vec<Wish> {
        let mut round = Round { ask, now, wishes: Vec::new() };
        if self.comes_again(client.key, client.who, visit, now) {
            return round.wishes;
        }
        if client.who.client_id.len() + client.who.username.len() > LONGEST_NAMES {
            return round.wishes;
        }
        let client = self.as_known(client);
        if let Some(over) = self.arrivals.pop(&client.key) {
            self.close(over);
        }
        if self.arrivals.len() == self.arrivals.cap().get()
            && let Some((_, arrival)) = self.arrivals.pop_lru()
        {
            self.close(arrival);
        }
        let arrival = Arrival {
            client_id: client.who.client_id.into(),
            username: client.who.username.into(),
            source: client.source,
            since: now,
            number: self.next_number(),
            in_groups: [None; 3],
        };
        self.arrivals.put(client.key, arrival);
        self.join(client, Circle::Names, shape::key(&self.keys, client.who), &mut round);
        let own = self.own_key(client.key);
        if self.groups.has(own) {
            self.join(client, Circle::Own, own, &mut round);
        }
        round.wishes
    }

    /// The broker asks about a topic, and it was not remembered from before: what others are expected to ask because of
    /// that.
    pub fn asked(
        &mut self,
        client: Visitor<'_>,
        (access, topic): (Access, &str),
        visit: Duration,
        now: Instant,
        ask: &Ask<'_>,
    ) -> Vec<Wish> {
        let mut round = Round { ask, now, wishes: Vec::new() };
        let client = self.as_known(client);
        self.close_visits(visit, now);
        if !self.arrivals.contains(&client.key) {
            return round.wishes;
        }
        let mut pattern = std::mem::take(&mut self.pattern);
        if let Some(telling) = pattern::pattern_of(topic, client.who, &mut pattern)
            // What a client reads depends on what others write, but where it is named.
            && (access != Access::Read || telling != Telling::Nothing)
        {
            self.learn(Lesson { client, access, pattern: &pattern, telling }, &mut round);
        }
        self.pattern = pattern;
        round.wishes
    }

    fn learn(&mut self, lesson: Lesson<'_>, round: &mut Round<'_>) {
        let Lesson { client, access, pattern, telling } = lesson;
        let mut is_expected = self.note(lesson, Circle::Names, round);
        if self.is_member(client, Circle::First) {
            is_expected |= self.note(lesson, Circle::First, round);
        } else if telling != Telling::Nothing || is_expected {
            // What it asks first tells the kinds apart whose names look alike.
            let names = shape::key(&self.keys, client.who).words().map(u64::to_le_bytes);
            let fields = [names.as_flattened(), &[access as u8], pattern.as_bytes()];
            self.join(client, Circle::First, self.keys.fields(Domain::AsksFirst, fields), round);
        }
        if is_expected || access == Access::Read {
            return;
        }
        if !self.is_member(client, Circle::Own) {
            self.join(client, Circle::Own, self.own_key(client.key), round);
        }
        self.note(lesson, Circle::Own, round);
    }

    fn is_member(&self, client: Visitor<'_>, circle: Circle) -> bool {
        self.arrivals.peek(&client.key).is_some_and(|arrival| arrival.in_groups[circle as usize].is_some())
    }

    /// Notes in a group that a client asks something. Returns whether others are expected to ask it, too.
    fn note(&mut self, lesson: Lesson<'_>, circle: Circle, round: &mut Round<'_>) -> bool {
        let (Lesson { client, access, pattern, telling }, now) = (lesson, round.now);
        let Self { groups, arrivals, scores, .. } = self;
        let Some(arrival) = arrivals.peek_mut(&client.key) else { return false };
        let visit = arrival.number;
        let Some(member) = &mut arrival.in_groups[circle as usize] else { return false };
        let Some(group) = member.group_among(groups) else { return false };
        let mut has_grown = false;
        let slot = match group.find(access, pattern) {
            Some(slot) => slot,
            None if member.take_lesson() => {
                let teacher = self.keys.fields(Domain::Teacher, [&client.source.network.to_le_bytes()]);
                has_grown = true;
                group.insert(access, pattern, telling, teacher, now)
            }
            None => return false,
        };
        member.bring_up_to_date(group);
        let (key, number, is_new) = (member.key(), member.number(), !member.has_asked(slot));
        if is_new {
            let witness = if circle == Circle::Own { visit } else { client.witness };
            let was_learnt = group.is_learnt(slot);
            group.asked(slot, witness, now);
            if member.note_asked(slot) {
                group.credit_mut(slot).ended(true);
                scores.confirmed(origin(group.templates()[slot].teacher));
            } else if was_learnt {
                // A guess would have been right. Where the broker goes another way than the guesses, only this tells.
                member.note_seen(slot);
                group.credit_mut(slot).count(true);
            }
        }
        let is_good = group.is_good(slot);
        if has_grown {
            self.groups.has_grown(key, now);
        }
        if is_good && is_new {
            match circle {
                Circle::Names | Circle::First => self.ask_on(key, slot, number, round),
                // They share their credit.
                Circle::Own => (0..TEMPLATES).for_each(|slot| self.ask_on(key, slot, number, round)),
            }
        }
        is_good
    }

    fn expect(&mut self, client: Visitor<'_>, circle: Circle, round: &mut Round<'_>) {
        let Self { groups, arrivals, scores, topic, .. } = self;
        let Round { ask, now, ref mut wishes } = *round;
        let Some(arrival) = arrivals.peek_mut(&client.key) else { return };
        let Some(mut member) = arrival.in_groups[circle as usize] else { return };
        let Some(group) = groups.get(member.key()) else { return };
        for slot in 0..group.templates().len() {
            if !group.is_learnt(slot) {
                continue;
            }
            let origin = origin(group.templates()[slot].teacher);
            let may_guess = group.credit(slot).may_guess() && scores.allow(origin, now);
            if group.is_good(slot) && !(may_guess && group.is_next(slot, member.number())) {
                // Its turn comes when more is known of those before it. What it asks until then tells as much as a guess.
                if wish(group, slot, arrival, ask, topic).is_some() {
                    member.note_watched(slot);
                }
                continue;
            }
            group.go_behind(slot, member.number());
            let Some(wish) = wish(group, slot, arrival, ask, topic) else { continue };
            if wishes.iter().any(|other| other.key == wish.key) {
                continue;
            }
            if may_guess {
                member.note_guessed(slot);
                group.credit_mut(slot).guess();
                scores.guessed(origin, now);
                wishes.push(wish);
            } else {
                member.note_watched(slot);
            }
        }
        arrival.in_groups[circle as usize] = Some(member);
    }

    /// Has those asked about who came a moment ago and have not asked yet what a template says: first those who came next
    /// after the client of this number, as the broker often goes on with them, and then the others in order.
    fn ask_on(&mut self, key: Fingerprint, slot: usize, number: u64, round: &mut Round<'_>) {
        let Round { ask, now, ref mut wishes } = *round;
        let Self { groups, arrivals, scores, topic, .. } = self;
        let Some(group) = groups.get(key) else { return };
        let Some(origin) = group.templates().get(slot).map(|template| origin(template.teacher)) else {
            return;
        };
        for step in 0..STEPS {
            if !(group.is_good(slot) && group.credit(slot).may_guess() && scores.allow(origin, now)) {
                return;
            }
            let near = if step < NEAR { group.behind(number, step) } else { None };
            let Some((number, client)) = near.or_else(|| group.next(slot)) else { return };
            let Some(arrival) = arrivals.peek_mut(&client) else { continue };
            let Some(member) = arrival.member(key).filter(|member| member.number() == number) else {
                continue;
            };
            member.bring_up_to_date(group);
            if member.has_asked(slot) || member.is_guessed(slot) {
                continue;
            }
            let Some(wish) = wish(group, slot, arrival, ask, topic) else { continue };
            if wishes.iter().any(|other| other.key == wish.key) {
                continue;
            }
            if let Some(member) = arrival.member(key) {
                member.note_guessed(slot);
            }
            group.credit_mut(slot).guess();
            scores.guessed(origin, now);
            wishes.push(wish);
        }
    }

    /// A number that nothing else has.
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// What was learnt of clients whose names look alike.
    pub fn learnt(&self) -> Learnt {
        self.groups.learnt()
    }

    /// How many numbers of clients the group with most of them keeps.
    #[cfg(test)]
    pub fn longest_group(&self) -> usize {
        self.groups.longest()
    }

    /// Fails if anything has grown beyond its bound.
    #[cfg(test)]
    pub fn assert_bounded(&self) {
        assert_eq!(self.arrivals.len(), self.arrivals.cap().get());
        self.groups.assert_bounded();
    }

    fn as_known<'a>(&self, client: Visitor<'a>) -> Visitor<'a> {
        Visitor { key: self.forgotten.key(client.key, client.who, &self.keys), ..client }
    }

    fn own_key(&self, client: Fingerprint) -> Fingerprint {
        self.keys.fields(Domain::OwnWishes, [client.words().map(u64::to_le_bytes).as_flattened()])
    }
}

/// Where guesses come from that somebody's questions have taught.
fn origin(teacher: Fingerprint) -> Origin {
    Origin { listener: 0, kind: Kind::Access, peer: teacher }
}
