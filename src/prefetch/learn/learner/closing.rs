//! The ends of visits.

use std::time::{Duration, Instant};

use super::{LONGEST_VISIT, Learner};
use crate::prefetch::learn::visit::Arrival;

/// Visits that are closed in one go.
const CLOSED: usize = 64;

impl Learner {
    /// Draws the lesson from visits that are over: what was asked ahead and not asked by then was in vain.
    pub(super) fn close_visits(&mut self, visit: Duration, now: Instant) {
        let visit = visit.min(LONGEST_VISIT);
        for _ in 0..CLOSED {
            let is_over = |arrival: &Arrival| now.saturating_duration_since(arrival.since) > visit;
            if !self.arrivals.peek_lru().is_some_and(|(_, arrival)| is_over(arrival)) {
                return;
            }
            if let Some((_, arrival)) = self.arrivals.pop_lru() {
                self.close(arrival);
            }
        }
    }

    pub(super) fn close(&mut self, arrival: Arrival) {
        for mut member in arrival.in_groups.into_iter().flatten() {
            let Some(group) = member.group_among(&mut self.groups) else { continue };
            group.leave(member.number());
            member.bring_up_to_date(group);
            member.guessed().for_each(|slot| group.credit_mut(slot).ended(false));
            member.watched().for_each(|slot| group.credit_mut(slot).count(false));
        }
    }
}
