//! Which topics have a retained message, and how those are found that a filter matches.
//!
//! The names are in the order of their levels, so that everything below a name stands right behind it. A search goes
//! from one name that may match to the next one that may, and leaves out what lies between.
use std::collections::btree_map::Entry;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::time::Instant;

/// What all topics may cost at once, in bytes: a quarter of a million with names of 30 bytes. That is more than an API
/// can be asked about while a client waits for its messages: 1,000,000 questions take five minutes at 64 requests of
/// 20 ms each. Beyond, somebody's topics are forgotten, and are asked about one by one as the broker comes to them.
const BOUND: usize = 64 << 20;

/// The topics of one client may take one part in so many of [`BOUND`], so that nobody gets all the room. A bridge or a hub, which
/// publishes what others measure, has room for 60,000.
const CLIENT_SHARE: usize = 4;

/// Whoever holds more than one part in so many of the bound (some 250 topics) makes room before anybody else does.
const LITTLE: usize = 1024;

/// Bytes charged per topic and per client, beside the bytes of their names: what they take at worst, in tables whose
/// nodes are half empty (`tests/memory.rs`).
const TOPIC: usize = 216;
const PUBLISHER: usize = 208;

/// A name counts as one more step of a search for each so many bytes: it takes as long to compare as many short ones.
const LONG: usize = 64;

/// What a topic or a client is known by: a keyed hash. Two that meet by chance cost questions in vain.
type Id = u64;

/// When a topic was used, in minutes: exact enough to tell which are not used any more.
type Minute = u32;

/// A topic with a retained message.
#[derive(Debug)]
struct Topic {
    name: Name,
    owner: Id,
    /// Whether the owner published to it. Otherwise it was the first that was seen to read it.
    is_published: bool,
    used: Minute,
}

/// The client whose share a topic counts to.
#[derive(Debug)]
struct Owner {
    client_id: Box<str>,
    username: Box<str>,
    cost: usize,
}

/// A topic with NUL in the place of each slash: no topic holds a NUL, and it is less than any other character, so that
/// the order of these is the order of their levels.
pub type Name = Arc<str>;

/// The name of a topic.
fn name_of(topic: &str) -> String {
    topic.replace('/', "\0")
}

/// Who has to do with a retained message.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Its username; empty where there is none.
    pub username: &'a str,
    /// Whether it published the message, or only reads it.
    pub publishes: bool,
}

/// A topic that was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The client id and the username of whoever published to it last, if that was seen.
    pub publisher: Option<(&'a str, &'a str)>,
}

/// How far a search has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// Before all names.
    Start,
    /// Behind this one.
    Behind(Name),
    /// Behind all that match.
    End,
}

/// The topics that have a retained message.
#[derive(Debug)]
pub struct Retained {
    bound: usize,
    ids: RandomState,
    started: Instant,
    topics: BTreeMap<Id, Topic>,
    names: BTreeSet<Name>,
    owners: BTreeMap<Id, Owner>,
    /// The topics of each client, the longest unused first.
    by_owner: BTreeSet<(Id, Minute, Id)>,
    /// All topics, the longest unused first.
    by_use: BTreeSet<(Minute, Id)>,
    /// The clients by what they hold.
    by_cost: BTreeSet<(usize, Id)>,
    cost: usize,
}

impl Default for Retained {
    fn default() -> Self {
        Self::bounded(BOUND)
    }
}

impl Retained {
    fn bounded(bound: usize) -> Self {
        Self {
            bound,
            ids: RandomState::default(),
            started: Instant::now(),
            topics: BTreeMap::default(),
            names: BTreeSet::default(),
            owners: BTreeMap::default(),
            by_owner: BTreeSet::default(),
            by_use: BTreeSet::default(),
            by_cost: BTreeSet::default(),
            cost: 0,
        }
    }

    /// Notes that a topic has a retained message.
    pub fn keep(&mut self, topic: &str, whose: Whose<'_>, now: Instant) {
        let Whose { client_id, username, publishes } = whose;
        let owner = self.ids.hash_one((client_id, username));
        let minutes = now.saturating_duration_since(self.started).as_secs() / 60;
        let used = Minute::try_from(minutes).unwrap_or(Minute::MAX);
        let id = self.ids.hash_one(topic);
        let mut name = None;
        if let Some(known) = self.topics.get_mut(&id) {
            // Who reads is taken for the owner only as long as nobody else is.
            if !publishes || known.owner == owner {
                known.is_published |= publishes;
                if known.used != used {
                    self.by_use.remove(&(known.used, id));
                    self.by_owner.remove(&(known.owner, known.used, id));
                    self.by_use.insert((used, id));
                    self.by_owner.insert((known.owner, used, id));
                    known.used = used;
                }
                return;
            }
            name = self.remove(id).map(|known| known.name);
        }
        let name = name.unwrap_or_else(|| name_of(topic).into());
        let (cost, names) = (TOPIC + name.len(), PUBLISHER + client_id.len() + username.len());
        let share = self.bound / CLIENT_SHARE;
        if names + cost > share {
            return;
        }
        while self.owners.get(&owner).map_or(names, |owner| owner.cost) + cost > share {
            self.remove_oldest_of(owner);
        }
        while self.cost + names + cost > self.bound {
            self.remove_somebodys();
        }
        if let Entry::Vacant(vacant) = self.owners.entry(owner) {
            vacant.insert(Owner { client_id: client_id.into(), username: username.into(), cost: 0 });
            self.charge(owner, names);
        }
        self.charge(owner, cost);
        self.names.insert(Arc::clone(&name));
        self.by_use.insert((used, id));
        self.by_owner.insert((owner, used, id));
        self.topics.insert(id, Topic { name, owner, is_published: publishes, used });
    }

    /// Notes that a topic has no retained message any more.
    pub fn end(&mut self, topic: &str) {
        self.remove(self.ids.hash_one(topic));
    }

    /// Calls `found` with each topic that a filter matches, from a position on, until it has enough or `steps` names were
    /// looked at. The position is then where to go on.
    pub fn search(
        &self,
        filter: &str,
        position: &mut Position,
        steps: &mut usize,
        mut found: impl FnMut(Found<'_>) -> ControlFlow<()>,
    ) {
        let levels: Vec<&str> = filter.split('/').collect();
        let start = std::mem::replace(position, Position::End);
        let (mut last, mut next, mut topic) = (None, String::new(), String::new());
        let mut then = match &start {
            Position::Start => Then::From,
            Position::Behind(name) => {
                last = Some(name);
                Then::Next
            }
            Position::End => Then::End,
        };
        loop {
            let from = match (then, last) {
                (Then::End, _) => return,
                (Then::Next, Some(last)) => Bound::Excluded(&**last),
                (Then::Next, None) | (Then::From, _) => Bound::Included(&*next),
            };
            let Some(name) = self.names.range::<str, _>((from, Bound::Unbounded)).next() else { return };
            if *steps == 0 {
                *position = last.cloned().map_or(Position::Start, Position::Behind);
                return;
            }
            *steps = steps.saturating_sub(1 + name.len() / LONG);
            last = Some(name);
            let is_match;
            (is_match, then) = step(&levels, name, &mut next);
            if is_match {
                topic.clear();
                topic.extend(name.chars().map(|c| if c == '\0' { '/' } else { c }));
                if found(Found { topic: &topic, publisher: self.publisher(&topic) }).is_break() {
                    *position = Position::Behind(Arc::clone(name));
                    return;
                }
            }
        }
    }

    fn publisher(&self, topic: &str) -> Option<(&str, &str)> {
        let topic = self.topics.get(&self.ids.hash_one(topic)).filter(|topic| topic.is_published)?;
        let owner = self.owners.get(&topic.owner)?;
        Some((&owner.client_id, &owner.username))
    }

    /// How many topics are known.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no topic is known.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// What all topics are charged, in bytes: at least what they take.
    pub fn charged(&self) -> usize {
        self.cost
    }

    fn charge(&mut self, id: Id, cost: usize) {
        if let Some(owner) = self.owners.get_mut(&id) {
            self.by_cost.remove(&(owner.cost, id));
            owner.cost += cost;
            self.cost += cost;
            self.by_cost.insert((owner.cost, id));
        }
    }

    fn remove(&mut self, id: Id) -> Option<Topic> {
        let topic = self.topics.remove(&id)?;
        self.names.remove(&topic.name);
        self.by_use.remove(&(topic.used, id));
        self.by_owner.remove(&(topic.owner, topic.used, id));
        let cost = TOPIC + topic.name.len();
        if let Some(owner) = self.owners.get_mut(&topic.owner) {
            self.by_cost.remove(&(owner.cost, topic.owner));
            owner.cost -= cost;
            self.cost -= cost;
            let names = PUBLISHER + owner.client_id.len() + owner.username.len();
            if owner.cost > names {
                self.by_cost.insert((owner.cost, topic.owner));
            } else {
                self.cost -= names;
                self.owners.remove(&topic.owner);
            }
        }
        Some(topic)
    }

    fn remove_oldest_of(&mut self, owner: Id) {
        let oldest =
            self.by_owner.range((owner, Minute::MIN, Id::MIN)..=(owner, Minute::MAX, Id::MAX)).next();
        if let Some(&(_, _, id)) = oldest {
            self.remove(id);
        }
    }

    /// Makes room: what was not used for longest goes, of whoever holds most, or if nobody holds much of all.
    fn remove_somebodys(&mut self) {
        match self.by_cost.last() {
            Some(&(cost, owner)) if cost > self.bound / LITTLE => self.remove_oldest_of(owner),
            _ => {
                if let Some(&(_, id)) = self.by_use.first() {
                    self.remove(id);
                }
            }
        }
    }
}

/// Where a search goes on.
#[derive(Clone, Copy)]
enum Then {
    /// At the next name.
    Next,
    /// At this name, or the first one behind it.
    From,
    /// Nowhere: no more names match.
    End,
}

/// Whether a name matches a filter, and where the next one is that may. [`Then::From`] leaves that name in `next`.
fn step(filter: &[&str], name: &str, next: &mut String) -> (bool, Then) {
    // Wildcards at the start do not match topics that start with $ (MQTT 5.0, section 4.7.2). What comes behind all of
    // those starts with the next character at least.
    if matches!(filter, ["+" | "#", ..]) && name.starts_with('$') {
        set(next, "%", "");
        return (false, Then::From);
    }
    // Where the level begins that is looked at, beyond the name if it has no such level.
    let mut begin = 0;
    // Where the last level ends that a + matches. With another one in its place the rest may match again.
    let mut end_of_any = None;
    for level in filter {
        if *level == "#" {
            return (true, Then::Next);
        }
        if begin > name.len() {
            // Names below this one may match.
            set(next, name, "\0");
            next.push_str(if *level == "+" { "" } else { level });
            return (false, Then::From);
        }
        let end = name[begin..].find('\0').map_or(name.len(), |length| begin + length);
        if *level == "+" {
            end_of_any = Some(end);
        } else {
            match name[begin..end].cmp(level) {
                std::cmp::Ordering::Less => {
                    set(next, &name[..begin], level);
                    return (false, Then::From);
                }
                std::cmp::Ordering::Greater => return (false, behind(name, end_of_any, next)),
                std::cmp::Ordering::Equal => {}
            }
        }
        begin = end + 1;
    }
    (begin > name.len(), behind(name, end_of_any, next))
}

/// Behind everything that begins with the levels up to there.
fn behind(name: &str, end: Option<usize>, next: &mut String) -> Then {
    let Some(end) = end else { return Then::End };
    set(next, &name[..end], "\u{1}");
    Then::From
}

fn set(next: &mut String, start: &str, end: &str) {
    next.clear();
    next.push_str(start);
    next.push_str(end);
}

#[cfg(test)]
mod tests;
