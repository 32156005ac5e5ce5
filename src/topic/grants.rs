//! Rules that come with the API's answers, in the format that EMQX and RMQTT share.
//!
//! A rule is about a set of topics and a set of cases (a way to use them: PUBLISH with these QoS and retain flags, SUBSCRIBE
//! with those QoS). So is a question: a PUBLISH is about one topic, a SUBSCRIBE about every topic that its filter can
//! match, and what the question leaves open (an unknown QoS) is about every case that it may turn out to be. One sentence
//! then says which rule decides: **the first one that allows all of what is asked, or denies any of it.**
//!
//! - Of an allow that covers a filter partly, nothing follows, and the search goes on: several rules together never allow
//!   what none of them does alone. A deny that overlaps with a filter refuses it, since the subscription would reach what
//!   is denied, unless a rule before it allows the whole filter.
//! - So whoever is allowed a filter is allowed to read each topic that it matches, and where no rule decides about a
//!   filter, none denies reading any of them. Properties in the tests hold that.
//! - A message is delivered with at most the QoS of the subscription, which the broker does not tell. READ therefore asks
//!   whether the client could subscribe to the topic with any QoS. The retain flag is a matter of who publishes.
//! - `eq FILTER` with wildcards in it is about the subscription that is written exactly so, and an allow also about reading
//!   what it brings. Without wildcards, `eq` only says that there are no placeholders.
//! - The empty text counts as a topic where filters are compared: `+` overlaps with `/#`, though no topic is in both.

mod draft;
mod fill;
mod pool;
mod room;
mod tree;

use std::fmt;

use self::fill::{Filled, Values};
use self::tree::Tree;
use super::Access;
use super::{Names, behind_group, has_wildcard, is_valid_filter};

pub use draft::{Draft, DraftRule, KeptDraft, Unusable};
pub use pool::GrantsPool;
use room::Room;

/// The most rules in one answer.
const MOST_RULES: usize = 1_000;

/// The most bytes of all topics of one answer, with the names filled in: twice the most of an answer's body, since names
/// are longer than their placeholders; but a client chooses its id, which may be 64 KiB long.
const MOST_BYTES: usize = 128 * 1024;

/// What a rule does to what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Allows it.
    Allow,
    /// Denies it.
    Deny,
}

/// What a rule is about. Reading messages goes with subscribing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publishing.
    Publish,
    /// Subscribing, and reading what it brings.
    Subscribe,
    /// Both.
    All,
}

/// One or more of the QoS 0, 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QosSet(u8);

impl QosSet {
    /// Every QoS: a rule that does not mention it.
    pub const ALL: Self = Self(0b111);

    /// The set of some QoS; `None` if there are none, or one is above 2.
    pub fn of(qos: impl IntoIterator<Item = u8>) -> Option<Self> {
        let bits = qos.into_iter().try_fold(0, |bits, qos| (qos <= 2).then(|| bits | (1 << qos)));
        bits.filter(|bits| *bits != 0).map(Self)
    }
}

/// A rule as an answer has it, with placeholders in its topics.
#[derive(Debug, Clone)]
pub struct RawRule<'a> {
    /// Whether it allows or denies.
    pub permission: Permission,
    /// Publishing, subscribing, or both.
    pub action: Action,
    /// Topics and filters, with `${username}`, `${clientid}` and `${client_attrs.NAME}`, or `eq ` and a literal one.
    pub topics: Vec<&'a str>,
    /// The QoS that it is about.
    pub qos: QosSet,
    /// The retain flag that it is about, of publishing only; `None` for both.
    pub retain: Option<bool>,
}

/// A rule that cannot be used, so that the answer cannot be, either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRule {
    /// Its place in the list, from 0.
    pub index: usize,
    /// What is wrong with it, as the end of a sentence.
    pub what: String,
}

impl fmt::Display for BadRule {
    /// Counts from 1, as people do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", self.index + 1, self.what)
    }
}

impl std::error::Error for BadRule {}

/// What a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// What it wants to do with the topic.
    pub access: Access,
    /// The topic; for [`Access::Subscribe`] the filter as it was sent, with `$share/GROUP/`.
    pub topic: &'a str,
    /// The QoS of the message or the subscription, if it is known. [`Access::Read`] does not look at it.
    pub qos: Option<u8>,
    /// The retain flag of the message, if it is known. Only [`Access::Write`] looks at it.
    pub retain: Option<bool>,
}

/// The cases that a rule or a question is about: a bit for each.
///
/// From the lowest: PUBLISH with QoS 0, 1, 2 (two bits each: without and with the retain flag), SUBSCRIBE with QoS 0, 1, 2,
/// READ through a subscription with QoS 0, 1, 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Cases(u16);

impl Cases {
    const NONE: Self = Self(0);

    fn publish(QosSet(qos): QosSet, retain: Option<bool>) -> Self {
        let flags = retain.map_or(0b11, |retain| 1 << u16::from(retain));
        Self((0..3).filter(|number| qos & (1 << number) != 0).map(|number| flags << (2 * number)).sum())
    }

    fn subscribe(QosSet(qos): QosSet) -> Self {
        Self(u16::from(qos) << 6)
    }

    fn read(QosSet(qos): QosSet) -> Self {
        Self(u16::from(qos) << 9)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a rule says about one of its topics. The first rule is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Say {
    rule: u16,
    allows: bool,
    cases: Cases,
}

impl Say {
    /// Whether this decides about cases, where it is about the topic or filter that is asked about.
    fn decides(self, asked: Cases) -> bool {
        if self.allows { self.cases.covers(asked) } else { self.cases.overlaps(asked) }
    }
}

/// The rules of one answer for one client: which topics it may use.
#[derive(Debug)]
pub struct Grants {
    set: Set,
    /// The room that is taken in the pool, given back when nobody holds the set any more.
    _room: Option<Room>,
}

/// What makes sets equal.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Set {
    /// What the rules say about the topics of filters.
    topics: Tree,
    /// What rules say about subscriptions to a filter that is written exactly so, in the order of their texts.
    literally: Box<[(Box<str>, Say)]>,
    /// Denies of everything, also of topics that start with `$`.
    everything: Box<[Say]>,
    /// Whether the QoS of a subscription makes a difference, so that READ has to try all three.
    reads_differ: bool,
}

impl PartialEq for Grants {
    fn eq(&self, other: &Self) -> bool {
        self.set == other.set
    }
}

impl Eq for Grants {}

impl Grants {
    /// Fills a client's names into rules, and puts them in an order in which they are found fast.
    ///
    /// # Errors
    ///
    /// The first rule that cannot be used: there are too many, or one is about no topic, is no filter, or has an unknown
    /// placeholder.
    pub fn compile(rules: &[RawRule<'_>], names: &Names<'_>) -> Result<Self, BadRule> {
        let mut lines = Vec::with_capacity(rules.len());
        let (mut literally, mut everything) = (Vec::new(), Vec::new());
        let (values, mut bytes) = (Values::of(names), 0);
        for (index, rule) in rules.iter().enumerate() {
            let bad = |what: String| BadRule { index, what };
            let number = u16::try_from(index).ok().filter(|_| index < MOST_RULES);
            let number = number.ok_or_else(|| bad(format!("an answer has at most {MOST_RULES} rules")))?;
            if rule.topics.is_empty() {
                return Err(bad("it names no topic".to_owned()));
            }
            for topic in &rule.topics {
                let filled = fill::fill(topic, &values).map_err(bad)?;
                bytes += filled.bytes();
                if bytes > MOST_BYTES {
                    let kib = MOST_BYTES / 1024;
                    return Err(bad(format!("with it, the topics of all rules take more than {kib} KiB")));
                }
                let say = |cases| Say { rule: number, allows: rule.permission == Permission::Allow, cases };
                match filled {
                    Filled::Filter(filter) => lines.push((filter, say(rule.cases()))),
                    Filled::Literally(filter) => {
                        if rule.permission == Permission::Allow {
                            lines.push((filter.clone(), say(rule.reads())));
                        }
                        literally.push((filter.into(), say(rule.cases())));
                    }
                    // An allow that cannot be filled in is about nothing.
                    Filled::UpTo(_) if rule.permission == Permission::Allow => {}
                    Filled::UpTo(Some(filter)) => lines.push((filter, say(rule.cases()))),
                    Filled::UpTo(None) => everything.push(say(rule.cases())),
                }
            }
        }
        literally.sort_unstable();
        let all = Cases::read(QosSet::ALL);
        let set = Set {
            reads_differ: lines
                .iter()
                .map(|(_, say)| say)
                .chain(&everything)
                .any(|say| say.cases.overlaps(all) && !say.cases.covers(all)),
            topics: Tree::of(lines),
            literally: literally.into(),
            everything: everything.into(),
        };
        Ok(Self { set, _room: None })
    }

    /// Whether the client may; `None` where no rule decides. It allocates nothing.
    ///
    /// What is no topic, or for SUBSCRIBE no filter, is refused.
    pub fn decide(&self, asked: &Wanted<'_>) -> Option<bool> {
        let qos = asked.qos.and_then(|qos| QosSet::of([qos])).unwrap_or(QosSet::ALL);
        match asked.access {
            Access::Write => self.set.decide_topic(asked.topic, Cases::publish(qos, asked.retain)),
            Access::Subscribe => self.set.decide_filter(asked.topic, Cases::subscribe(qos)),
            Access::Read => self.set.decide_read(asked.topic),
        }
    }

    /// About how many bytes this takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.set.bytes()
    }
}

impl Set {
    fn decide_read(&self, topic: &str) -> Option<bool> {
        if !self.reads_differ {
            return self.decide_topic(topic, Cases::read(QosSet::ALL));
        }
        let mut decision = Some(false);
        for qos in 0..3 {
            match self.decide_topic(topic, Cases::read(QosSet(1 << qos))) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => decision = None,
            }
        }
        decision
    }

    fn decide_topic(&self, topic: &str, asked: Cases) -> Option<bool> {
        if topic.is_empty() || has_wildcard(topic) {
            return Some(false);
        }
        self.first_about(topic, asked).map(|say| say.allows)
    }

    fn decide_filter(&self, filter: &str, asked: Cases) -> Option<bool> {
        let filter = behind_group(filter).unwrap_or(filter);
        if !is_valid_filter(filter) || filter.starts_with("$share/") {
            return Some(false);
        }
        let first =
            self.first_about(filter, asked).into_iter().chain(self.first_literally(filter, asked)).min();
        if has_wildcard(filter) && self.topics.denies_some(filter, asked, first.map(|say| say.rule)) {
            return Some(false);
        }
        first.map(|say| say.allows)
    }

    /// The first rule that decides about cases of a topic, or of all topics that a filter matches, among those that are
    /// about all of them.
    fn first_about(&self, filter: &str, asked: Cases) -> Option<Say> {
        let mut first: Option<Say> = None;
        let mut look_at = |says: &[Say]| {
            // They are in the order of their rules.
            let decisive = says.iter().find(|say| say.decides(asked)).copied();
            first = first.into_iter().chain(decisive).min();
        };
        look_at(&self.everything);
        self.topics.covering(filter, &mut look_at);
        first
    }

    /// The first rule that decides about a subscription to a filter that is written like its own.
    fn first_literally(&self, filter: &str, asked: Cases) -> Option<Say> {
        let from = self.literally.partition_point(|(text, _)| **text < *filter);
        let same = self.literally[from..].iter().take_while(|(text, _)| **text == *filter);
        same.map(|(_, say)| *say).find(|say| say.decides(asked))
    }

    fn bytes(&self) -> usize {
        let texts: usize = self.literally.iter().map(|(text, _)| text.len()).sum();
        self.topics.bytes() + size_of_val(&*self.literally) + texts + size_of_val(&*self.everything)
    }
}

impl RawRule<'_> {
    /// All cases that this is about.
    fn cases(&self) -> Cases {
        let publish = Cases::publish(self.qos, self.retain);
        let subscribe = Cases::subscribe(self.qos).and(self.reads());
        match self.action {
            Action::Publish => publish,
            Action::Subscribe => subscribe,
            Action::All => publish.and(subscribe),
        }
    }

    /// The cases of reading that this is about.
    fn reads(&self) -> Cases {
        if self.action == Action::Publish { Cases::NONE } else { Cases::read(self.qos) }
    }
}

#[cfg(test)]
mod tests;
