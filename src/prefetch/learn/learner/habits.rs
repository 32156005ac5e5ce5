//! What was learnt, as brokers tell each other that share a cache: without the name of any client.

use std::cmp::Reverse;
use std::mem;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Learner;
use crate::fingerprint::{Domain, Source};
use crate::prefetch::learn::group::{Group, TEMPLATES};
use crate::prefetch::learn::pattern::{self, Telling};
use crate::prefetch::learn::shape::Alike;
use crate::question::Access;

/// Bytes of a habit beside its texts, when it is told.
const OVERHEAD: usize = 48;

/// Groups and templates that are gone through in one go: the broker may wait for the learner's lock meanwhile, less than a
/// millisecond. Fleets have fewer.
const STEPS: usize = 1_024;

/// Something that clients whose names look alike ask after their login.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Habit {
    of: Alike,
    /// The access, by the number that questions to the API have (`acc`).
    acc: u8,
    pattern: String,
}

impl Habit {
    fn access(&self) -> Option<Access> {
        [Access::Read, Access::Write, Access::Subscribe].into_iter().find(|access| *access as u8 == self.acc)
    }

    /// About the bytes that it takes as JSON, where a NUL takes six.
    fn bytes(&self) -> usize {
        OVERHEAD + self.of.bytes() + self.pattern.len() + 5 * self.pattern.matches('\0').count()
    }
}

/// What was found when a part of the groups was gone through.
#[derive(Default)]
pub(super) struct HabitScan {
    /// The number of the last group.
    behind: u64,
    /// How often it was asked, and what.
    found: Vec<(Reverse<u32>, Habit)>,
}

impl Learner {
    /// What clients do whose names look alike: what is asked most first, so much as `room` has bytes for. `None` if there
    /// are more groups than are gone through at once: the next call goes on behind them.
    pub fn habits(&mut self, mut room: usize) -> Option<Vec<Habit>> {
        let HabitScan { behind, found } = &mut self.scan;
        let (mut groups, mut steps) = (self.groups.alike_behind(*behind), 0);
        let is_over = loop {
            if steps >= STEPS {
                break false;
            }
            let Some((of, group)) = groups.next() else { break true };
            let good = group.templates().iter().enumerate().filter(|(slot, _)| group.is_good(*slot));
            found.extend(good.map(|(_, template)| {
                let (acc, pattern) = (template.access as u8, template.pattern.to_string());
                (Reverse(template.times), Habit { of: of.clone(), acc, pattern })
            }));
            steps += 1 + group.templates().len();
            *behind = group.number;
        };
        found.sort_unstable();
        found.retain(|(_, habit)| {
            room = room.saturating_sub(habit.bytes());
            room > 0
        });
        if !is_over {
            return None;
        }
        let mut habits: Vec<_> =
            mem::take(&mut self.scan).found.into_iter().map(|(_, habit)| habit).collect();
        // In an order that stays while they do.
        habits.sort_unstable();
        Some(habits)
    }

    /// Takes over what another broker has learnt. It makes nothing forgotten that was learnt here, and whoever told it is
    /// believed as long as it is right, as any teacher is.
    pub fn adopt(&mut self, habits: &[Habit], now: Instant) {
        let teacher = self.keys.fields(Domain::Teacher, [b"another broker"]);
        for habit in habits {
            let Some(access) =
                habit.access().filter(|_| habit.of.is_one() && pattern::is_one(&habit.pattern))
            else {
                continue;
            };
            let key = habit.of.key(&self.keys);
            if !self.groups.has(key) {
                let group = Group::of_alike(self.next_number(), habit.of.clone());
                self.groups.add(key, group, Source::default(), now);
            }
            let Some(group) = self.groups.get(key) else { continue };
            if group.find(access, &habit.pattern).is_some() || group.templates().len() >= TEMPLATES {
                continue;
            }
            let slot = group.insert(access, &habit.pattern, Telling::Much, teacher, now);
            // Who was seen to ask it there has convinced the other broker.
            group.asked(slot, 1, now);
            self.groups.has_grown(key, now);
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

    /// All that is told in the end, and in how many goes.
    fn told(learner: &mut Learner, room: usize) -> (Vec<Habit>, usize) {
        let mut goes = 1;
        loop {
            if let Some(habits) = learner.habits(room) {
                return (habits, goes);
            }
            goes += 1;
        }
    }

    #[test]
    fn what_one_has_learnt_another_knows() {
        let (mut one, mut other, now) = (learner(), learner(), Instant::now());
        let habits =
            [habit("hub-0", 2, "up/\0c"), habit("sensor-0", 4, "cmd/\0c/#"), habit("sensor-0", 4, "news")];
        one.adopt(&habits, now);
        assert_eq!(told(&mut one, 10_000), (habits.to_vec(), 1));
        let text = serde_json::to_string(&one.habits(10_000)).unwrap();
        other.adopt(&serde_json::from_str::<Vec<Habit>>(&text).unwrap(), now + Duration::from_secs(1));
        assert_eq!(
            (told(&mut other, 10_000).0, other.learnt().lines()),
            (habits.to_vec(), one.learnt().lines())
        );
        assert_eq!(told(&mut other, 100).0.len(), 1, "no more than there is room for");
    }

    /// Whatever there is, the broker does not wait until all of it was gone through.
    #[test]
    fn many_kinds_are_told_in_several_goes() {
        const KINDS: usize = 1_000;
        let (mut learner, now) = (learner(), Instant::now());
        assert_eq!(told(&mut learner, 10_000), (Vec::new(), 1), "nothing");
        let habits: Vec<_> = (0..KINDS).map(|kind| habit(&format!("k{kind:04}"), 4, "a")).collect();
        learner.adopt(&habits, now);
        assert_eq!(told(&mut learner, usize::MAX), (habits.clone(), 2));
        // The most usual one comes last, and there is room for it alone.
        let key = habits[KINDS - 1].of.key(&learner.keys);
        learner.groups.get(key).unwrap().asked(0, 2, now);
        assert_eq!(told(&mut learner, 60), (habits[KINDS - 1..].to_vec(), 2));
        // Of the part that was gone through already nothing is kept for which there is no room.
        assert_eq!(learner.habits(60), None);
        assert_eq!(learner.scan.found.len(), 1);
        learner.clear();
        assert_eq!(told(&mut learner, usize::MAX), (Vec::new(), 1), "what is forgotten is not told");
        learner.groups.assert_bounded();
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
        assert_eq!(told(&mut learner, 10_000).0, []);
        let many: Vec<_> = (0..1_000).map(|number| habit("a", 4, &format!("t/{number}"))).collect();
        learner.adopt(&many, now);
        assert_eq!(told(&mut learner, 100_000).0.len(), TEMPLATES / 4, "the share of one teacher");
        learner.groups.assert_bounded();
    }
}
