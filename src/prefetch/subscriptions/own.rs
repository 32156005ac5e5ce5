//! Whether a client has itself subscribed to a topic. The broker asks about every reader of a message, so what others have
//! subscribed to must not make that slow: filters of a client with few are looked at one by one, and for one with many
//! the filters that match a topic are looked up once for all readers.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::walk::VISITS;
use super::{Id, LEVELS, ROOT, Subscriber, Subscriptions, all_of, names_of};
use crate::fingerprint::AlreadyHashed;

/// Bytes that a client's subscriptions are charged up to which each is looked at: those of some 250 levels at most.
const FEW: usize = 16 << 10;

/// Filters that match a topic up to which each is looked up, and not each subscription of the client.
const SEVERAL: usize = 64;

/// The filters that match the topic that was looked at last.
#[derive(Debug, Default)]
pub(super) struct Matching {
    topic: Option<Box<str>>,
    /// Their last levels.
    filters: HashSet<Id, AlreadyHashed>,
}

impl Matching {
    /// Forgets them, since there are others now.
    pub(super) fn forget(&mut self) {
        self.topic = None;
    }
}

impl Subscriptions {
    /// Whether a client has subscribed under this username to a filter that matches the topic. A subscription that was
    /// forgotten for want of room implies nothing.
    pub fn covers(&mut self, client_id: &str, username: &str, topic: &str) -> bool {
        let id = self.subscriber(client_id);
        let is_it = |known: &&Subscriber| &*known.client_id == client_id && &*known.username == username;
        let Some(known) = self.subscribers.get(&id).filter(is_it) else { return false };
        if known.cost - names_of(client_id, username) <= FEW {
            let levels: Vec<&str> = topic.split('/').take(LEVELS + 1).collect();
            return self.by_subscriber.range(all_of(id)).any(|(_, last, _)| self.matches(*last, &levels));
        }
        if self.matching.topic.as_deref() != Some(topic) {
            self.look_at(topic);
        }
        let filters = &self.matching.filters;
        if filters.len() <= SEVERAL {
            let has = |last, is_shared| self.by_level.contains(&(last, id, is_shared));
            return filters.iter().any(|last| has(*last, false) || has(*last, true));
        }
        self.by_subscriber.range(all_of(id)).any(|(_, last, _)| filters.contains(last))
    }

    /// Whether the filter with this last level matches a topic of these levels: it is gone through from its end.
    fn matches(&self, last: Id, topic: &[&str]) -> bool {
        // Wildcards at the start do not match topics that start with $ (MQTT 5.0, section 4.7.2).
        let may_begin = !topic.first().is_some_and(|level| level.starts_with('$'));
        let is = |id, above, wildcard| id == self.below(above, wildcard) && (above != ROOT || may_begin);
        let Some(level) = self.levels.get(&last) else { return false };
        let mut id = last;
        if is(last, level.above, "#") {
            // It stands for any number of levels, also for none.
            id = level.above;
        } else if usize::from(level.depth) != topic.len() {
            return false;
        }
        while id != ROOT {
            let Some(level) = self.levels.get(&id) else { return false };
            let Some(name) = topic.get(usize::from(level.depth) - 1) else { return false };
            if id != self.below(level.above, name) && !is(id, level.above, "+") {
                return false;
            }
            id = level.above;
        }
        true
    }

    /// Looks up which filters match a topic.
    fn look_at(&mut self, topic: &str) {
        let mut filters = std::mem::take(&mut self.matching.filters);
        filters.clear();
        self.visit_matching(topic, VISITS, &mut |last| {
            filters.insert(last);
            ControlFlow::Continue(())
        });
        self.matching = Matching { topic: Some(topic.into()), filters };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::topic;
    use proptest::prelude::*;

    #[test]
    fn what_one_client_subscribes_to_does_not_make_it_slow_for_others() {
        const READERS: u32 = 50;
        let (topic, now) = (["a"; 12].join("/"), Instant::now());
        for own in [1, 200] {
            let mut subscriptions = Subscriptions::default();
            for n in 0..1 << 12 {
                let filter: Vec<_> = (0..12).map(|bit| if n >> bit & 1 == 1 { "+" } else { "a" }).collect();
                subscriptions.add("hostile", "mallory", &filter.join("/"), now);
            }
            for reader in 0..READERS {
                let client_id = format!("reader{reader}");
                subscriptions.add(&client_id, "u", &["+"; 12].join("/"), now);
                (1..own).for_each(|n| subscriptions.add(&client_id, "u", &format!("{n}/b/c/d"), now));
            }
            let start = Instant::now();
            drop(subscriptions.walk(&topic));
            let (walk, start) = (start.elapsed(), Instant::now());
            for reader in 0..READERS {
                assert!(subscriptions.covers(&format!("reader{reader}"), "u", &topic), "{own} of its own");
            }
            let all = start.elapsed();
            assert!(all < walk * READERS / 5, "{all:?}, and {walk:?} for one walk, with {own} of its own");
        }
    }

    #[test]
    fn a_client_with_many_sees_what_changes() {
        let (mut subscriptions, now) = (Subscriptions::default(), Instant::now());
        (0..1_000).for_each(|n| subscriptions.add("c", "u", &format!("x/{n}"), now));
        assert!(subscriptions.covers("c", "u", "x/7") && !subscriptions.covers("c", "u", "y"));
        assert!(!subscriptions.covers("c", "mallory", "x/7"));
        subscriptions.add("c", "u", "y", now);
        assert!(subscriptions.covers("c", "u", "y"));
        subscriptions.remove("c", "y");
        assert!(!subscriptions.covers("c", "u", "y"));
        subscriptions.remove_client("c");
        assert!(!subscriptions.covers("c", "u", "x/7"));
    }

    proptest! {
        /// Also where the client has so many others that these are not looked at one by one.
        #[test]
        fn a_client_is_covered_by_what_matches_and_by_nothing_else(
            filters in prop::collection::vec("(\\+|a|b||\\$s)(/(\\+|a|b|)){0,2}(/#)?|#|\\$share/g/(\\+|a)/#", 0..6),
            topics in prop::collection::vec("(a|b||\\$s)(/(a|b|)){0,3}", 1..10),
            others in prop::sample::select(vec![0, 300]),
        ) {
            let (mut subscriptions, now) = (Subscriptions::default(), Instant::now());
            (0..others).for_each(|n| subscriptions.add("c", "u", &format!("other/{n}"), now));
            filters.iter().for_each(|filter| subscriptions.add("c", "u", filter, now));
            subscriptions.add("d", "u", "#", now);
            for topic in topics.into_iter().filter(|topic| !topic.is_empty()) {
                let matches =
                    |filter: &String| topic::matches(topic::behind_group(filter).unwrap_or(filter), &topic);
                let expected = filters.iter().any(matches);
                prop_assert_eq!(subscriptions.covers("c", "u", &topic), expected, "{}", topic);
            }
        }
    }
}
