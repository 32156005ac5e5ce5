//! Filters as a tree of their levels, so that those about a topic are found without a look at each of them.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;

use super::{Cases, QosSet, Say};

/// What rules say about the topics of filters, in a few arrays: 24 bytes for each level, and its text.
///
/// The nodes stand row by row, so that the children of one are side by side, and what belongs to a node ends where that of
/// the next one begins.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Tree {
    /// The root first. The last one is none: it ends what belongs to the one before it.
    nodes: Box<[Node]>,
    /// The texts of all levels.
    texts: Box<[u8]>,
    /// What is said about the filters that end at a node, then about those that go on with `#`, both in the rules' order.
    says: Box<[Say]>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Node {
    /// Where its text begins.
    text: u32,
    /// Where its children begin: that for `+`, if there is one, then the others in the order of their texts.
    children: u32,
    /// Where that begins which is said about the filters that end here.
    here: u32,
    /// Where that begins which is said about the filters that go on with `#`.
    below: u32,
    /// How filters go on behind this node by which a rule denies a subscription: a bit for each level, see [`bit`]; [`END`];
    /// or [`ANYHOW`].
    denies: u32,
    /// The first rule that denies a subscription by such a filter, or [`NO_RULE`].
    first_deny: u16,
    /// Whether there is a child for `+`.
    has_plus: bool,
}

const ROOT: usize = 0;

/// The filter goes on with no further level.
const END: u32 = 1 << 31;

/// The filter goes on with a wildcard.
const ANYHOW: u32 = u32::MAX;

/// Comes after every rule.
const NO_RULE: u16 = u16::MAX;

impl Tree {
    /// A tree of valid filters, and of what is said about each, in any order.
    pub fn of(mut lines: Vec<(String, Say)>) -> Self {
        lines.sort_unstable_by(|(a, of_a), (b, of_b)| a.split('/').cmp(b.split('/')).then(of_a.cmp(of_b)));
        let (mut nodes, mut texts, mut says) = (vec![Node::default()], Vec::new(), Vec::new());
        // For each node that is not done: the lines that go through it, and where in them the next level begins.
        let mut rows = VecDeque::from([(0..lines.len(), 0)]);
        let mut number = ROOT;
        while let Some((range, at)) = rows.pop_front() {
            let mut from = range.start;
            let groups: Vec<(Option<&str>, Range<usize>)> = lines[range]
                .chunk_by(|(a, _), (b, _)| level(a, at) == level(b, at))
                .map(|group| {
                    let lines = from..from + group.len();
                    from = lines.end;
                    (level(&group[0].0, at), lines)
                })
                .collect();
            let said = |of: Option<&str>| {
                let group = groups.iter().find(|(level, _)| *level == of);
                group.into_iter().flat_map(|(_, group)| &lines[group.clone()]).map(|(_, say)| *say)
            };
            let children = index(nodes.len());
            let here = index(says.len());
            says.extend(said(None));
            let below = index(says.len());
            says.extend(said(Some("#")));
            let plus = groups.iter().filter(|(level, _)| *level == Some("+"));
            let literal = groups.iter().filter(|(level, _)| !matches!(level, None | Some("+" | "#")));
            for (level, lines) in plus.clone().chain(literal) {
                let level = level.unwrap_or_default();
                nodes.push(Node { text: index(texts.len()), ..Node::default() });
                texts.extend_from_slice(level.as_bytes());
                rows.push_back((lines.clone(), at + level.len() + 1));
            }
            let has_plus = plus.count() > 0;
            nodes[number] = Node { children, here, below, has_plus, ..nodes[number] };
            number += 1;
        }
        let (here, below) = (index(says.len()), index(says.len()));
        nodes.push(Node {
            text: index(texts.len()),
            children: index(number),
            here,
            below,
            ..Node::default()
        });
        let mut tree = Self { nodes: nodes.into(), texts: texts.into(), says: says.into() };
        // Children stand behind their parents.
        for node in (0..number).rev() {
            let (first_deny, denies) = tree.denies(node);
            tree.nodes[node] = Node { first_deny, denies, ..tree.nodes[node] };
        }
        tree
    }

    /// The first rule that denies a subscription, and how the filters of all that do go on behind a node.
    fn denies(&self, node: usize) -> (u16, u32) {
        let subscribing = Cases::subscribe(QosSet::ALL);
        let first = |says: &[Say]| {
            let mut denies = says.iter().filter(|say| !say.allows && say.cases.overlaps(subscribing));
            denies.next().map_or(NO_RULE, |say| say.rule)
        };
        let ending = [(first(self.here(node)), END), (first(self.below(node)), ANYHOW)];
        let children = self.children(node).map(|child| {
            let how = if self.plus(node) == Some(child) { ANYHOW } else { bit(self.text(child)) };
            (self.nodes[child].first_deny, how)
        });
        let denies = ending.into_iter().chain(children).filter(|(rule, _)| *rule != NO_RULE);
        denies.fold((NO_RULE, 0), |(rule, how), (other, goes_on)| (rule.min(other), how | goes_on))
    }

    /// Looks at what is said about filters that cover another one: that match every topic which this one can match. Of a
    /// topic, those are the filters that match it.
    pub fn covering(&self, filter: &str, look_at: &mut impl FnMut(&[Say])) {
        if filter.starts_with('$') {
            // Wildcards in the first place do not match these.
            let (level, rest) = split(filter);
            if let Some(child) = self.child(ROOT, level) {
                self.covering_below(child, rest, look_at);
            }
            return;
        }
        if filter == "#"
            && let Some(plus) = self.plus(ROOT)
        {
            // Every topic has a first level, so that `+/#` matches as many as `#`.
            look_at(self.below(plus));
        }
        self.covering_below(ROOT, Some(filter), look_at);
    }

    fn covering_below(&self, node: usize, rest: Option<&str>, look_at: &mut impl FnMut(&[Say])) {
        look_at(self.below(node));
        let Some(rest) = rest else { return look_at(self.here(node)) };
        let (level, rest) = split(rest);
        if level == "#" {
            return;
        }
        if let Some(plus) = self.plus(node) {
            self.covering_below(plus, rest, look_at);
        }
        // No child has the text `+`.
        if let Some(child) = self.child(node, level) {
            self.covering_below(child, rest, look_at);
        }
    }

    /// Whether a rule before another one denies cases of a subscription to a topic that a filter can match.
    pub fn denies_some(&self, filter: &str, asked: Cases, before: Option<u16>) -> bool {
        let search = Search { tree: self, asked, before: before.unwrap_or(NO_RULE) };
        if !filter.starts_with('$') {
            return search.finds(ROOT, Some(filter));
        }
        let (level, rest) = split(filter);
        self.child(ROOT, level).is_some_and(|child| search.finds(child, rest))
    }

    /// Bytes of the arrays.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.nodes) + size_of_val(&*self.texts) + size_of_val(&*self.says)
    }

    fn here(&self, node: usize) -> &[Say] {
        let node = &self.nodes[node];
        &self.says[node.here as usize..node.below as usize]
    }

    fn below(&self, node: usize) -> &[Say] {
        &self.says[self.nodes[node].below as usize..self.nodes[node + 1].here as usize]
    }

    fn children(&self, node: usize) -> Range<usize> {
        self.nodes[node].children as usize..self.nodes[node + 1].children as usize
    }

    fn plus(&self, node: usize) -> Option<usize> {
        let node = &self.nodes[node];
        node.has_plus.then_some(node.children as usize)
    }

    fn text(&self, node: usize) -> &[u8] {
        &self.texts[self.nodes[node].text as usize..self.nodes[node + 1].text as usize]
    }

    /// The child for a level with this text.
    fn child(&self, node: usize, level: &str) -> Option<usize> {
        let Range { start, mut end } = self.children(node);
        let mut start = start + usize::from(self.nodes[node].has_plus);
        while start < end {
            let middle = start.midpoint(end);
            match self.text(middle).cmp(level.as_bytes()) {
                Ordering::Less => start = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => end = middle,
            }
        }
        None
    }
}

/// A search for a rule that denies a part of a filter's topics.
struct Search<'a> {
    tree: &'a Tree,
    asked: Cases,
    /// Rules from this one on do not count.
    before: u16,
}

impl Search<'_> {
    /// Whether there is one below a node, for the rest of the filter.
    fn finds(&self, node: usize, rest: Option<&str>) -> bool {
        let tree = self.tree;
        if !self.may_find(node, how(rest)) {
            return false;
        }
        if self.is_in(tree.below(node)) {
            return true;
        }
        let Some(filter) = rest else { return self.is_in(tree.here(node)) };
        // Wildcards in the first place match nothing that starts with `$`.
        let mut matched =
            tree.children(node).filter(|child| node != ROOT || !tree.text(*child).starts_with(b"$"));
        match split(filter) {
            ("#", _) => self.is_in(tree.here(node)) || matched.any(|child| self.finds(child, rest)),
            ("+", rest) => {
                // Of many children most are passed by here.
                let how = how(rest);
                matched.any(|child| self.may_find(child, how) && self.finds(child, rest))
            }
            (level, rest) => {
                let children = [tree.plus(node), tree.child(node, level)];
                children.into_iter().flatten().any(|child| self.finds(child, rest))
            }
        }
    }

    /// Whether it is worth a look, where the filter goes on like this behind a node.
    fn may_find(&self, node: usize, how: u32) -> bool {
        let node = &self.tree.nodes[node];
        node.first_deny < self.before && node.denies & how != 0
    }

    fn is_in(&self, says: &[Say]) -> bool {
        says.iter().any(|say| !say.allows && say.rule < self.before && say.cases.overlaps(self.asked))
    }
}

/// The level of a filter that begins at a place; `None` behind its end.
fn level(filter: &str, at: usize) -> Option<&str> {
    filter.get(at..).map(|rest| split(rest).0)
}

/// The first level, and what comes behind its `/`.
fn split(filter: &str) -> (&str, Option<&str>) {
    match filter.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (filter, None),
    }
}

/// How a filter goes on: the bit of its next level, [`END`] or [`ANYHOW`].
fn how(rest: Option<&str>) -> u32 {
    match rest.map(|rest| split(rest).0) {
        None => END,
        Some("+" | "#") => ANYHOW,
        Some(level) => bit(level.as_bytes()),
    }
}

/// The bit that stands for a level, and for others.
fn bit(level: &[u8]) -> u32 {
    let sum = level.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    1 << (sum % END.trailing_zeros())
}

/// A place in an array. Those of a tree are far shorter than 4 GiB: its filters take `MOST_BYTES` together.
fn index(place: usize) -> u32 {
    place as u32
}
