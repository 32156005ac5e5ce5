//! Going through the readers of a topic, in as many steps as it takes.

use std::ops::{Bound, ControlFlow};

use super::{Expected, Id, LEVELS, ROOT, Reader, Subscriber, Subscriptions};

/// The most levels that are looked at for one message. Usual filters need few; made-up ones could need millions.
pub(super) const VISITS: usize = 10_000;

/// The readers of one topic, as far as they are still to be told of.
#[derive(Debug)]
pub struct Walk {
    /// The last levels of the filters that match, the next one last.
    filters: Vec<Id>,
    /// The subscription to the next of these that was told of last.
    last: Option<(Id, bool)>,
}

impl Walk {
    /// Whether all were told of.
    pub fn is_over(&self) -> bool {
        self.filters.is_empty()
    }
}

impl Subscriptions {
    /// Calls `tell` with each subscriber of a topic, until it breaks off. One with two matching filters comes twice.
    pub fn readers(&self, topic: &str, tell: impl FnMut(Reader<'_>) -> ControlFlow<()>) {
        self.go_on(&mut self.walk(topic), tell);
    }

    /// Begins to go through the subscribers of a topic.
    pub fn walk(&self, topic: &str) -> Walk {
        let mut filters = Vec::new();
        self.visit_matching(topic, VISITS, &mut |last| {
            filters.push(last);
            ControlFlow::Continue(())
        });
        filters.reverse();
        Walk { filters, last: None }
    }

    /// Goes on with a walk, and calls `tell` with each subscriber until it breaks off. The next call begins behind the last
    /// one that was told of, so that going through all of them takes as long in many steps as in one. Who has subscribed
    /// since may be passed over.
    pub fn go_on(&self, walk: &mut Walk, mut tell: impl FnMut(Reader<'_>) -> ControlFlow<()>) {
        while let Some(&filter) = walk.filters.last() {
            let end = (filter, Id::MAX, true);
            let rest = match walk.last {
                None => (Bound::Included((filter, Id::MIN, false)), Bound::Included(end)),
                Some((id, is_shared)) => (Bound::Excluded((filter, id, is_shared)), Bound::Included(end)),
            };
            for &(_, subscriber, is_shared) in self.by_level.range(rest) {
                walk.last = Some((subscriber, is_shared));
                let Some(Subscriber { client_id, username, .. }) = self.subscribers.get(&subscriber) else {
                    continue;
                };
                let expected = Expected { subscriber, is_shared };
                if tell(Reader { client_id, username, expected }).is_break() {
                    return;
                }
            }
            walk.filters.pop();
            walk.last = None;
        }
    }

    /// Calls `found` with the last level of each filter that matches a topic, until it breaks off or these visits are up.
    pub(super) fn visit_matching(
        &self,
        topic: &str,
        mut visits: usize,
        found: &mut dyn FnMut(Id) -> ControlFlow<()>,
    ) {
        // One level more than a filter can have is enough to tell that a topic is too long for it.
        let levels: Vec<&str> = topic.split('/').take(LEVELS + 1).collect();
        // Wildcards at the start do not match topics that start with $ (MQTT 5.0, section 4.7.2).
        let _ = self.visit(ROOT, &levels, !topic.starts_with('$'), &mut visits, found);
    }

    /// Visits a level and those below it, for the rest of a topic. `wildcards`: whether `+` and `#` may come next.
    fn visit(
        &self,
        id: Id,
        topic: &[&str],
        wildcards: bool,
        visits: &mut usize,
        found: &mut dyn FnMut(Id) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if *visits == 0 {
            return ControlFlow::Break(());
        }
        *visits -= 1;
        let below = |level: &str| {
            let id = self.below(id, level);
            self.levels.contains_key(&id).then_some(id)
        };
        if wildcards && let Some(rest) = below("#") {
            found(rest)?;
        }
        let Some((level, deeper)) = topic.split_first() else { return found(id) };
        if let Some(exact) = below(level) {
            self.visit(exact, deeper, true, visits, found)?;
        }
        if wildcards && let Some(any) = below("+") {
            self.visit(any, deeper, true, visits, found)?;
        }
        ControlFlow::Continue(())
    }
}
