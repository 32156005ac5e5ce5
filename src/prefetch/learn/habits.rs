//! What was learnt, as brokers tell each other that share a cache: without the name of any client.

use std::cmp::Reverse;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::group::{Group, Of, TEMPLATES, Template};
use super::learner::Learner;
use super::pattern::{self, Telling, Who};
use super::shape::{self, Shape};
use super::visit::forget_slot;
use crate::fingerprint::{Domain, Source};
use crate::question::Access;

/// Bytes of a habit beside its texts, when it is told.
const OVERHEAD: usize = 48;

/// Clients whose names look alike: what their ids and usernames look like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alike {
    id: String,
    name: String,
}

impl Alike {
    /// Those that are like this one. `None` where the look is no text, since it ends within a letter.
    pub fn like(who: Who<'_>) -> Option<Self> {
        let text = |name| String::from_utf8(Shape::of(name).bytes().to_vec()).ok();
        Some(Self { id: text(who.client_id)?, name: text(who.username)? })
    }

    /// The bytes of its texts.
    pub fn bytes(&self) -> usize {
        self.id.len() + self.name.len()
    }

    /// Whether it can be what names look like.
    fn is_one(&self) -> bool {
        [&self.id, &self.name].iter().all(|text| text.len() <= shape::LONGEST)
    }
}

/// Something that clients whose names look alike ask after their login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Habit {
    of: Alike,
    /// As questions have it: `acc`.
    acc: u8,
    pattern: String,
}

impl Habit {
    fn access(&self) -> Option<Access> {
        [Access::Read, Access::Write, Access::Subscribe].into_iter().find(|access| *access as u8 == self.acc)
    }
}

impl Learner {
    /// What clients do whose names look alike: what is asked most first, so much as `room` has bytes for.
    pub fn habits(&self, mut room: usize) -> Vec<Habit> {
        let mut asked = Vec::new();
        for group in self.groups().filter(|group| group.of() == Of::Kind) {
            let Some(of) = group.alike() else { continue };
            let good = group.templates().iter().enumerate().filter(|(slot, _)| group.is_good(*slot));
            asked.extend(good.map(|(slot, template)| (Reverse(template.times), of, slot, template)));
        }
        asked.sort_unstable_by_key(|(times, of, slot, _)| (*times, *of, *slot));
        // Only what there is room for is copied: the broker may wait for the lock.
        let fits = |(_, of, _, template): &(_, &Alike, _, &Template)| {
            // A NUL takes six bytes in JSON.
            let places = 5 * template.pattern.matches('\0').count();
            room = room.saturating_sub(OVERHEAD + of.bytes() + template.pattern.len() + places);
            room > 0
        };
        let habit = |(_, of, _, template): (_, &Alike, _, &Template)| Habit {
            of: of.clone(),
            acc: template.access as u8,
            pattern: template.pattern.to_string(),
        };
        let mut habits: Vec<_> = asked.into_iter().take_while(fits).map(habit).collect();
        // In an order that stays while they do.
        habits.sort_by(|one, other| {
            (&one.of, one.acc, &one.pattern).cmp(&(&other.of, other.acc, &other.pattern))
        });
        habits
    }

    /// Takes over what another broker has learnt. It makes nothing forgotten that was learnt here, and whoever told it is
    /// believed as long as it is right, as any teacher is.
    pub fn adopt(&mut self, habits: &[Habit], now: Instant) {
        let teacher = self.keys().fields(Domain::Network, [b"another broker"]);
        for habit in habits {
            let Some(access) =
                habit.access().filter(|_| habit.of.is_one() && pattern::is_one(&habit.pattern))
            else {
                continue;
            };
            let key = self.keys().fields(Domain::Wishes, [habit.of.id.as_bytes(), habit.of.name.as_bytes()]);
            let number = self.next_number();
            let (groups, arrivals) = self.parts();
            if !groups.has(key) {
                groups.add(key, Group::of_alike(number, habit.of.clone()), Source::default(), now);
            }
            let Some(group) = groups.get(key) else { continue };
            if group.find(access, &habit.pattern).is_some() || group.templates().len() >= TEMPLATES {
                continue;
            }
            let (slot, took_place) = group.insert(access, &habit.pattern, Telling::Much, teacher, now);
            if took_place {
                forget_slot(arrivals, key, group, slot);
            }
            // Who was seen to ask it there has convinced the other broker.
            group.asked(slot, 1, now);
            groups.has_grown(key, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fingerprint::Fingerprinter;

    fn habit(id: &str, acc: u8, pattern: &str) -> Habit {
        Habit { of: Alike { id: id.to_owned(), name: "a".to_owned() }, acc, pattern: pattern.to_owned() }
    }

    fn learner() -> Learner {
        Learner::new(Fingerprinter::with_key(&[3; 16]))
    }

    #[test]
    fn what_one_has_learnt_another_knows() {
        let (mut one, mut other, now) = (learner(), learner(), Instant::now());
        let told =
            [habit("hub-0", 2, "up/\0c"), habit("sensor-0", 4, "cmd/\0c/#"), habit("sensor-0", 4, "news")];
        one.adopt(&told, now);
        assert_eq!(one.habits(10_000), told);
        let text = serde_json::to_string(&one.habits(10_000)).unwrap();
        other.adopt(&serde_json::from_str::<Vec<Habit>>(&text).unwrap(), now + Duration::from_secs(1));
        assert_eq!((other.habits(10_000), other.lines()), (told.to_vec(), one.lines()));
        assert_eq!(other.habits(100).len(), 1, "no more than there is room for");
    }

    #[test]
    fn nonsense_is_passed_over_and_nobody_fills_a_kind() {
        let (mut learner, now) = (learner(), Instant::now());
        let nonsense = [
            habit(&"x".repeat(100), 4, "a"),
            habit("a", 3, "a"),
            habit("a", 4, ""),
            habit("a", 4, "\0"),
            habit("a", 4, "x/\0é"),
            habit("a", 4, &"x".repeat(300)),
        ];
        learner.adopt(&nonsense, now);
        assert_eq!(learner.habits(10_000), []);
        let many: Vec<_> = (0..1_000).map(|number| habit("a", 4, &format!("t/{number}"))).collect();
        learner.adopt(&many, now);
        assert_eq!(learner.habits(100_000).len(), TEMPLATES / 4, "the share of one teacher");
        learner.parts().0.assert_bounded();
    }
}
