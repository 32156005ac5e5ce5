//! Rules about topics. A rule that denies outweighs every rule that grants.

use super::Access;

/// The effect of a rule on the topics that its filter covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Denies every access, whatever other rules grant.
    Deny,
    /// Grants some kinds of access.
    Grant(Grant),
}

/// The kinds of access that a rule grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Receiving messages.
    Read,
    /// Publishing messages.
    Write,
    /// Receiving and publishing messages.
    ReadWrite,
}

impl Grant {
    /// Whether this grant includes a kind of access. No grant includes SUBSCRIBE, which is about a filter: rules are
    /// about topics.
    pub fn covers(self, access: Access) -> bool {
        match access {
            Access::Read => matches!(self, Grant::Read | Grant::ReadWrite),
            Access::Write => matches!(self, Grant::Write | Grant::ReadWrite),
            Access::Subscribe => false,
        }
    }
}

/// A list of rules that are weighed together: first those that deny, then those that grant. Their order means nothing.
///
/// `Filter` tells which topics a rule covers: it is a filter's text, or a [`Template`](super::Template).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules<Filter> {
    denied: Vec<Filter>,
    granted: Vec<(Grant, Filter)>,
}

impl<Filter> Rules<Filter> {
    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.denied.is_empty() && self.granted.is_empty()
    }

    /// Adds a rule about the topics that `filter` covers.
    pub fn add(&mut self, rule: Rule, filter: Filter) {
        match rule {
            Rule::Deny => self.denied.push(filter),
            Rule::Grant(grant) => self.granted.push((grant, filter)),
        }
    }

    /// Whether access to a topic is granted; `None` if no rule applies. `covers` tells whether a filter covers the
    /// topic.
    pub fn decide(&self, access: Access, covers: impl Fn(&Filter) -> bool) -> Option<bool> {
        if self.denied.iter().any(&covers) {
            return Some(false);
        }
        let granted = self.granted.iter().any(|(grant, filter)| grant.covers(access) && covers(filter));
        granted.then_some(true)
    }
}

impl<Filter> Default for Rules<Filter> {
    fn default() -> Self {
        Self { denied: Vec::new(), granted: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{Read, Subscribe, Write};
    use proptest::prelude::*;

    fn rules<const N: usize>(list: [(Rule, &'static str); N]) -> Rules<&'static str> {
        let mut rules = Rules::default();
        list.into_iter().for_each(|(rule, filter)| rules.add(rule, filter));
        rules
    }

    #[test]
    fn grants_cover_what_they_say() {
        for (grant, read, write) in
            [(Grant::Read, true, false), (Grant::Write, false, true), (Grant::ReadWrite, true, true)]
        {
            assert_eq!((grant.covers(Read), grant.covers(Write)), (read, write), "{grant:?}");
            assert!(!grant.covers(Subscribe), "{grant:?}");
        }
    }

    #[test]
    fn a_denial_outweighs_every_grant_wherever_it_stands() {
        let (deny, grant) = ((Rule::Deny, "a"), (Rule::Grant(Grant::ReadWrite), "a"));
        for rules in [rules([deny, grant]), rules([grant, deny])] {
            assert_eq!(rules.decide(Read, |filter| *filter == "a"), Some(false));
        }
    }

    #[test]
    fn where_no_rule_says_anything_nothing_is_decided() {
        let rules = rules([(Rule::Grant(Grant::Read), "a"), (Rule::Deny, "b")]);
        assert_eq!(rules.decide(Write, |filter| *filter == "a"), None, "another kind of access");
        assert_eq!(rules.decide(Read, |filter| *filter == "c"), None, "another topic");
        assert!(!rules.is_empty());
        assert!(Rules::<&str>::default().is_empty());
        assert_eq!(Rules::<&str>::default().decide(Read, |_| true), None);
    }

    proptest! {
        #[test]
        fn the_order_of_rules_means_nothing(
            list in prop::collection::vec((0..4usize, 0..3u8), 0..8),
            topic in 0..3u8,
        ) {
            let kinds = [
                Rule::Deny,
                Rule::Grant(Grant::Read),
                Rule::Grant(Grant::Write),
                Rule::Grant(Grant::ReadWrite),
            ];
            let (mut forwards, mut backwards) = (Rules::default(), Rules::default());
            list.iter().for_each(|(kind, filter)| forwards.add(kinds[*kind], *filter));
            list.iter().rev().for_each(|(kind, filter)| backwards.add(kinds[*kind], *filter));
            for access in [Read, Write, Subscribe] {
                let covers = |filter: &u8| *filter == topic;
                let decided = forwards.decide(access, covers);
                prop_assert_eq!(decided, backwards.decide(access, covers));
                let about = list.iter().filter(|(_, filter)| *filter == topic).map(|(kind, _)| kinds[*kind]);
                let is_denied = about.clone().any(|rule| rule == Rule::Deny);
                let is_granted =
                    about.clone().any(|rule| matches!(rule, Rule::Grant(grant) if grant.covers(access)));
                prop_assert_eq!(decided, if is_denied { Some(false) } else { is_granted.then_some(true) });
            }
        }
    }
}
