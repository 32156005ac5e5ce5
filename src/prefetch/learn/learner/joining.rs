//! Who is in which groups, in the order in which clients have come: in this order the broker comes to what they want.

use super::Learner;
use crate::fingerprint::Fingerprint;
use crate::prefetch::learn::group::{Group, GroupKind};
use crate::prefetch::learn::membership::Membership;
use crate::prefetch::learn::shape::Alike;
use crate::prefetch::learn::visit::{Arrivals, Circle, Round, Visitor};

impl Learner {
    /// Has a client be a member of a group from now on, and finds what it is expected to ask because of that.
    pub(super) fn join(
        &mut self,
        client: Visitor<'_>,
        circle: Circle,
        key: Fingerprint,
        round: &mut Round<'_>,
    ) {
        let now = round.now;
        if !self.groups.has(key) {
            let number = self.next_number();
            let group = match (circle, Alike::like(client.who)) {
                (Circle::Own, _) => Group::new(number, GroupKind::One),
                (Circle::Names, Some(alike)) => Group::of_alike(number, alike),
                (Circle::Names | Circle::First, _) => Group::new(number, GroupKind::Many),
            };
            self.groups.add(key, group, client.source, now);
        }
        self.groups.touch(key, now);
        let Self { groups, arrivals, .. } = self;
        let Some(group) = groups.get(key) else { return };
        let number = group.join(client.key);
        if let Some(arrival) = arrivals.peek_mut(&client.key) {
            arrival.in_groups[circle as usize] = Some(Membership::new(key, group, number));
        }
        self.expect(client, circle, round);
    }

    /// Has a member of a group be the last that came.
    pub(super) fn number_anew(&mut self, client: Fingerprint, circle: Circle) {
        let Self { groups, arrivals, .. } = self;
        let its = |arrivals: &Arrivals| arrivals.peek(&client)?.in_groups[circle as usize];
        let Some(member) = its(arrivals) else { return };
        let Some(group) = member.group_among(groups) else { return };
        let number = group.join(client);
        group.is_renumbered(member.number(), number);
        if let Some(member) =
            arrivals.peek_mut(&client).and_then(|arrival| arrival.in_groups[circle as usize].as_mut())
        {
            member.renumber(number);
        }
    }
}
