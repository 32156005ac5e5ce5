//! The subscriptions of all clients, as SUBSCRIBE checks show them. With them, the READ questions of one message can be
//! asked side by side before the broker asks them one by one. Not every session ends with an event, so a client that
//! the broker does not ask about, message after message, is taken for gone.
use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::fingerprint::AlreadyHashed;
use crate::topic::{MAX_SEPARATORS, behind_group};

mod going;
mod own;
mod walk;

pub use going::REMOVED_AT_ONCE;
pub use walk::Walk;

/// Bytes that all subscriptions may be charged: room for some 700,000. Where more are needed, a client is forgotten;
/// its READ questions are then asked one by one as the broker comes to them.
const BOUND: usize = 256 << 20;

/// One client's part of [`BOUND`]: one in this many, room for some ten thousand subscriptions. So no client takes the
/// room of all others, and forgetting one does not take long.
const CLIENT_SHARE: usize = 64;

/// Bytes charged per subscription: what it takes at worst, when the tables have just grown (`tests/memory.rs`).
const SUBSCRIPTION: usize = 96;

/// Bytes charged per level of a subscription's filter, also for levels that it shares with other filters.
const LEVEL: usize = 60;

/// Bytes charged per client, besides its client id and username.
const SUBSCRIBER: usize = 208;

/// The most levels that a filter can have.
const LEVELS: usize = MAX_SEPARATORS + 1;

/// The doubt at which a subscriber is taken for gone: after three messages that it should have got, or 48 that it might
/// have got, and about which the broker did not ask.
const GONE: u8 = 3 * DOUBT_IF_SURE;

/// The doubt for one message that the subscriber should have got.
const DOUBT_IF_SURE: u8 = 16;

/// The doubt for one message that the subscriber might have got.
const DOUBT_IF_UNSURE: u8 = 1;

/// Doubt grows at most once in this time, since the broker asks about receivers of a QoS 2 message a little later.
const DOUBT_EVERY: Duration = Duration::from_secs(1);

/// A keyed hash that stands for a level of filters or a client. Equal ones cannot be searched for without the key.
type Id = u64;

/// The level above all first levels.
const ROOT: Id = 0;

/// A client that has subscribed to something.
#[derive(Debug)]
struct Subscriber {
    client_id: Box<str>,
    username: Box<str>,
    /// Bytes that it is charged, with its subscriptions.
    cost: usize,
    /// How doubtful it is that the client still exists, up to [`GONE`].
    doubt: u8,
    /// When the broker last asked about it, or the doubt last grew.
    at: Instant,
}

/// A level of one or more filters that are the same up to it.
#[derive(Debug)]
struct Level {
    /// The level before it.
    above: Id,
    /// How many levels there are up to it, itself included.
    depth: u8,
    /// How many subscriptions end here, and how many levels come directly after it.
    uses: u32,
}

/// A client that subscribed to a topic.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Its username.
    pub username: &'a str,
    /// Names it in [`Subscriptions::expect`].
    pub expected: Expected,
}

/// A subscriber that the broker is expected to ask about.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    subscriber: Id,
    /// Whether its subscription is a shared one, where the message goes to one client of a group.
    is_shared: bool,
}

/// Filters and their subscribers, as a tree of levels.
#[derive(Debug)]
pub struct Subscriptions {
    /// The most bytes to be charged.
    bound: usize,
    /// The key of the hashes.
    ids: RandomState,
    levels: HashMap<Id, Level, AlreadyHashed>,
    subscribers: HashMap<Id, Subscriber, AlreadyHashed>,
    /// Each subscription: the last level of its filter, the subscriber, and whether it is a shared one.
    by_level: BTreeSet<(Id, Id, bool)>,
    /// Each subscription, the subscriber first: the subscriber, the last level, and whether it is a shared one.
    by_subscriber: BTreeSet<(Id, Id, bool)>,
    /// Clients that are gone, and whose subscriptions were not removed yet.
    gone: VecDeque<Id>,
    /// The numbers of clients that came back before that, by the ones that they would have.
    renamed: HashMap<Id, Id, AlreadyHashed>,
    /// How many numbers were given to clients that came back.
    names_given: u64,
    /// Bytes that all subscribers are charged, with what was left behind.
    cost: usize,
    /// The filters that match one topic.
    matching: own::Matching,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::bounded(BOUND)
    }
}

impl Subscriptions {
    /// Without subscriptions, for at most `bound` bytes.
    fn bounded(bound: usize) -> Self {
        Self {
            bound,
            ids: RandomState::default(),
            levels: HashMap::default(),
            subscribers: HashMap::default(),
            by_level: BTreeSet::default(),
            by_subscriber: BTreeSet::default(),
            gone: VecDeque::new(),
            renamed: HashMap::default(),
            names_given: 0,
            cost: 0,
            matching: own::Matching::default(),
        }
    }

    /// Notes a subscription, unless its filter is too long or the client has no room left. Subscriptions of the client
    /// id under another username are forgotten.
    pub fn add(&mut self, client_id: &str, username: &str, filter: &str, now: Instant) {
        let mut subscriber = self.subscriber(client_id);
        if self.subscribers.get(&subscriber).is_some_and(|known| &*known.username != username) {
            self.let_go(subscriber);
        }
        // Where nothing tells turns of the loop, this keeps up with what is left behind.
        self.clean_up(2);
        let (path, is_shared) = self.path(filter);
        let (Some(&last), true) = (path.last(), path.len() <= LEVELS) else { return };
        let is_known = self.subscribers.contains_key(&subscriber);
        if is_known && self.by_level.contains(&(last, subscriber, is_shared)) {
            return;
        }
        let mut names = names_of(client_id, username);
        let cost = cost(path.len());
        if self.subscribers.get(&subscriber).map_or(names, |known| known.cost) + cost
            > self.bound / CLIENT_SHARE
        {
            return;
        }
        while self.cost + names + cost > self.bound {
            self.make_room(last);
        }
        // The client itself may have gone for it.
        if !self.subscribers.contains_key(&subscriber) {
            let (number, more) = self.new_subscriber(client_id);
            (subscriber, names) = (number, names + more);
        }
        let known = self.subscribers.entry(subscriber).or_insert_with(|| {
            self.cost += names;
            Subscriber {
                client_id: client_id.into(),
                username: username.into(),
                cost: names,
                doubt: 0,
                at: now,
            }
        });
        known.cost += cost;
        self.cost += cost;
        self.matching.forget();
        let mut above = ROOT;
        for (id, depth) in path.into_iter().zip(1..) {
            if let Entry::Vacant(vacant) = self.levels.entry(id) {
                vacant.insert(Level { above, depth, uses: 0 });
                self.use_level(above);
            }
            above = id;
        }
        self.use_level(last);
        self.by_level.insert((last, subscriber, is_shared));
        self.by_subscriber.insert((subscriber, last, is_shared));
    }

    /// Forgets a subscription.
    pub fn remove(&mut self, client_id: &str, filter: &str) {
        let subscriber = self.subscriber(client_id);
        let (path, is_shared) = self.path(filter);
        let Some(&last) = path.last() else { return };
        self.unsubscribe(subscriber, last, is_shared);
        if self.by_subscriber.range(all_of(subscriber)).next().is_none() {
            self.let_go(subscriber);
        }
    }

    /// Forgets all subscriptions that a client made under this username.
    pub fn remove_client_of(&mut self, client_id: &str, username: &str) {
        let subscriber = self.subscriber(client_id);
        if self.subscribers.get(&subscriber).is_some_and(|known| &*known.username == username) {
            self.let_go(subscriber);
        }
    }

    /// Forgets all subscriptions of a client.
    pub fn remove_client(&mut self, client_id: &str) {
        // Nobody is known where topics are not asked about, and each login comes here.
        if !self.subscribers.is_empty() {
            self.let_go(self.subscriber(client_id));
        }
    }

    /// Notes that the broker is expected to ask about a reader, because a message goes out: `surely`, or maybe. This
    /// counts as doubt until the broker does. With too much doubt, the subscriber is forgotten.
    pub fn expect(&mut self, reader: Expected, surely: bool, now: Instant) {
        let Some(subscriber) = self.subscribers.get_mut(&reader.subscriber) else { return };
        if now.saturating_duration_since(subscriber.at) < DOUBT_EVERY {
            return;
        }
        subscriber.at = now;
        // The broker asks about one client of a group only.
        subscriber.doubt += if surely && !reader.is_shared { DOUBT_IF_SURE } else { DOUBT_IF_UNSURE };
        if subscriber.doubt >= GONE {
            self.let_go(reader.subscriber);
        }
    }

    /// Notes that the broker has asked about a client, so that there is no doubt about it.
    pub fn note_there(&mut self, client_id: &str, now: Instant) {
        let id = self.subscriber(client_id);
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            (subscriber.doubt, subscriber.at) = (0, now);
        }
    }

    /// How many subscriptions are known.
    pub fn len(&self) -> usize {
        self.by_level.len()
    }

    /// Bytes that all subscriptions are charged: at least what they take.
    pub fn charged(&self) -> usize {
        self.cost
    }

    /// Whether no subscription is known.
    pub fn is_empty(&self) -> bool {
        self.by_level.is_empty()
    }

    /// The id of the level of this name directly below another.
    fn below(&self, above: Id, level: &str) -> Id {
        self.ids.hash_one((above, level))
    }

    /// The ids of a filter's levels, from the first to the last, and whether the subscription is a shared one: of
    /// `$share/group/filter`, only what comes after the group is the filter (MQTT 5.0, section 4.8.2).
    fn path(&self, filter: &str) -> (Vec<Id>, bool) {
        let behind_group = behind_group(filter);
        let levels = behind_group.unwrap_or(filter).split('/').take(LEVELS + 1);
        let path = levels.scan(ROOT, |id, level| {
            *id = self.below(*id, level);
            Some(*id)
        });
        (path.collect(), behind_group.is_some())
    }

    /// Adds one use of a level.
    fn use_level(&mut self, id: Id) {
        if let Some(level) = self.levels.get_mut(&id) {
            level.uses += 1;
        }
    }

    /// Removes one use of a level. A level without uses is removed, which may remove those above it.
    fn release(&mut self, mut id: Id) {
        while let Entry::Occupied(mut level) = self.levels.entry(id) {
            level.get_mut().uses -= 1;
            if level.get().uses > 0 {
                return;
            }
            id = level.remove().above;
        }
    }

    /// Removes one subscription, if there is such.
    fn unsubscribe(&mut self, subscriber: Id, last: Id, is_shared: bool) {
        if !self.by_level.remove(&(last, subscriber, is_shared)) {
            return;
        }
        self.by_subscriber.remove(&(subscriber, last, is_shared));
        let depth = self.levels.get(&last).map_or(0, |level| usize::from(level.depth));
        if let Some(known) = self.subscribers.get_mut(&subscriber) {
            known.cost -= cost(depth);
        }
        self.cost -= cost(depth);
        self.matching.forget();
        self.release(last);
    }

    /// Makes room: removes what was left behind, or else has the subscriber of the first subscription from this id on go.
    /// Ids are as good as random, so the client with most subscriptions is the likeliest to be forgotten.
    fn make_room(&mut self, from: Id) {
        if self.gone.is_empty() {
            let mut next = self.by_level.range((from, 0, false)..);
            if let Some(&(_, subscriber, _)) = next.next().or_else(|| self.by_level.first()) {
                self.let_go(subscriber);
            }
        }
        self.clean_up(1);
    }
}

/// The range of all subscriptions of one level, or of one subscriber.
fn all_of(id: Id) -> RangeInclusive<(Id, Id, bool)> {
    (id, Id::MIN, false)..=(id, Id::MAX, true)
}

/// Bytes that a client is charged without its subscriptions.
fn names_of(client_id: &str, username: &str) -> usize {
    SUBSCRIBER + client_id.len() + username.len()
}

/// Bytes that a subscription is charged, by the number of levels of its filter.
fn cost(levels: usize) -> usize {
    SUBSCRIPTION + levels * LEVEL
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::walk::VISITS;
    use super::*;
    use crate::topic;
    use proptest::prelude::*;

    fn listeners(subscriptions: &Subscriptions, topic: &str) -> Vec<String> {
        let mut found = Vec::new();
        subscriptions.readers(topic, |reader| {
            found.push(reader.client_id.to_owned());
            ControlFlow::Continue(())
        });
        found.sort();
        found.dedup();
        found
    }

    fn subscribe(subscriptions: &mut Subscriptions, client_id: &str, filter: &str) {
        subscriptions.add(client_id, "u", filter, Instant::now());
    }

    /// Everybody who listens is asked about so often and the broker does not come.
    fn ask_in_vain(subscriptions: &mut Subscriptions, topic: &str, surely: bool, times: u32) {
        let start = Instant::now();
        for n in 1..=times {
            let mut expected = Vec::new();
            subscriptions.readers(topic, |reader| {
                expected.push(reader.expected);
                ControlFlow::Continue(())
            });
            for reader in expected {
                subscriptions.expect(reader, surely, start + n * DOUBT_EVERY);
            }
        }
    }

    fn assert_nothing_is_left(subscriptions: &mut Subscriptions) {
        subscriptions.clean_up(usize::MAX);
        assert!(subscriptions.is_empty());
        assert_eq!((subscriptions.gone.len(), subscriptions.renamed.len()), (0, 0));
        assert_eq!((subscriptions.levels.len(), subscriptions.subscribers.len()), (0, 0));
        assert_eq!((subscriptions.by_subscriber.len(), subscriptions.cost), (0, 0));
    }

    #[test]
    fn a_subscription_covers_topics_for_its_own_username_only() {
        let (mut subscriptions, now) = (Subscriptions::default(), Instant::now());
        subscriptions.add("id", "alice", "a/+/c", now);
        subscriptions.add("id", "alice", "$share/group/s/#", now);
        let covers =
            |subscriptions: &mut Subscriptions, username, topic| subscriptions.covers("id", username, topic);
        assert!(covers(&mut subscriptions, "alice", "a/b/c"));
        assert!(covers(&mut subscriptions, "alice", "s/1"));
        assert!(!covers(&mut subscriptions, "alice", "a/b"));
        assert!(!covers(&mut subscriptions, "mallory", "a/b/c"));
        assert!(!subscriptions.covers("other", "alice", "a/b/c"));
        subscriptions.remove("id", "a/+/c");
        assert!(!covers(&mut subscriptions, "alice", "a/b/c"));
    }

    #[test]
    fn shared_subscriptions_listen_to_what_comes_behind_the_group() {
        let mut subscriptions = Subscriptions::default();
        subscribe(&mut subscriptions, "a", "$share/g/x/+");
        assert_eq!(listeners(&subscriptions, "x/y"), ["a"]);
        subscriptions.remove("a", "$share/g/x/+");
        assert_nothing_is_left(&mut subscriptions);
    }

    #[test]
    fn another_username_is_another_client() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add("a", "u", "x", Instant::now());
        subscriptions.add("a", "v", "y", Instant::now());
        assert!(listeners(&subscriptions, "x").is_empty());
        assert_eq!(listeners(&subscriptions, "y"), ["a"]);
    }

    #[test]
    fn what_is_forgotten_leaves_nothing_behind() {
        let mut subscriptions = Subscriptions::default();
        for n in 0..100 {
            subscribe(&mut subscriptions, &format!("c{n}"), &format!("a/{n}/+/#"));
            subscribe(&mut subscriptions, &format!("c{n}"), "a/#");
        }
        for n in 0..50 {
            subscriptions.remove_client(&format!("c{n}"));
        }
        for n in 50..100 {
            subscriptions.remove(&format!("c{n}"), "a/#");
            subscriptions.remove(&format!("c{n}"), &format!("a/{n}/+/#"));
        }
        assert_nothing_is_left(&mut subscriptions);
    }

    #[test]
    fn who_is_asked_about_in_vain_is_taken_for_gone() {
        let mut subscriptions = Subscriptions::default();
        for (client_id, filter) in [("gone", "x"), ("shared", "$share/g/x"), ("other", "y")] {
            subscribe(&mut subscriptions, client_id, filter);
        }
        ask_in_vain(&mut subscriptions, "x", true, 2);
        assert_eq!(listeners(&subscriptions, "x"), ["gone", "shared"]);
        subscriptions.note_there("gone", Instant::now());
        ask_in_vain(&mut subscriptions, "x", true, 2);
        assert_eq!(listeners(&subscriptions, "x"), ["gone", "shared"]);
        ask_in_vain(&mut subscriptions, "x", true, 3);
        assert_eq!(listeners(&subscriptions, "x"), ["shared"]);
        // Of a group the broker asks about one, and after a READ maybe about nobody else.
        ask_in_vain(&mut subscriptions, "x", true, GONE.into());
        ask_in_vain(&mut subscriptions, "y", false, 3);
        subscriptions.clean_up(usize::MAX);
        assert_eq!(subscriptions.len(), 1);
        ask_in_vain(&mut subscriptions, "y", false, GONE.into());
        assert_nothing_is_left(&mut subscriptions);
    }

    #[test]
    fn messages_at_once_count_as_one() {
        let mut subscriptions = Subscriptions::default();
        subscribe(&mut subscriptions, "slow", "x");
        let later = Instant::now() + DOUBT_EVERY;
        for _ in 0..100 {
            let mut expected = None;
            subscriptions.readers("x", |reader| {
                expected = Some(reader.expected);
                ControlFlow::Continue(())
            });
            subscriptions.expect(expected.expect("a listener"), true, later);
        }
        assert_eq!(listeners(&subscriptions, "x"), ["slow"]);
    }

    #[test]
    fn one_client_does_not_get_all_the_room() {
        let mut subscriptions = Subscriptions::default();
        let deep = "/".repeat(LEVELS - 1);
        for n in 0..2000 {
            subscribe(&mut subscriptions, "hostile", &format!("{n}{deep}"));
        }
        assert!(subscriptions.cost <= BOUND / CLIENT_SHARE);
        subscribe(&mut subscriptions, "other", "x");
        assert_eq!(listeners(&subscriptions, "x"), ["other"]);
        // Longer than the broker would take.
        subscribe(&mut subscriptions, "hostile", &"/".repeat(60_000));
        assert!(subscriptions.levels.values().all(|level| usize::from(level.depth) <= LEVELS));
        subscriptions.remove_client("hostile");
        subscriptions.clean_up(usize::MAX);
        assert_eq!(subscriptions.levels.len(), 1);
    }

    #[test]
    fn where_there_is_no_room_those_with_most_go() {
        const ROOM: usize = 16 << 20;
        const HOSTILE: usize = 100;
        let mut subscriptions = Subscriptions::bounded(ROOM);
        for n in 0..100 {
            subscribe(&mut subscriptions, &format!("small{n}"), &format!("x/{n}"));
        }
        let deep = "/".repeat(LEVELS - 1);
        for n in 0..HOSTILE * ROOM / CLIENT_SHARE / cost(LEVELS) {
            subscribe(&mut subscriptions, &format!("hostile{}", n % HOSTILE), &format!("{n}{deep}"));
        }
        assert!(subscriptions.cost <= ROOM);
        assert!(subscriptions.cost > ROOM - 2 * ROOM / CLIENT_SHARE);
        let small = (0..100).filter(|n| !listeners(&subscriptions, &format!("x/{n}")).is_empty()).count();
        assert!(small > 50, "{small} of 100 are left");
    }

    #[test]
    fn one_message_takes_bounded_time() {
        let mut subscriptions = Subscriptions::default();
        for n in 0..1 << 16 {
            let filter: String = (0..16).map(|bit| if n >> bit & 1 == 1 { "+/" } else { "a/" }).collect();
            subscribe(&mut subscriptions, &format!("c{n}"), &filter);
        }
        let mut found = 0;
        subscriptions.readers(&"a/".repeat(16), |_| {
            found += 1;
            ControlFlow::Continue(())
        });
        assert!((1..=VISITS).contains(&found), "{found}");
    }

    #[test]
    fn a_hundred_thousand_who_listen_to_the_same_are_forgotten_in_no_time() {
        const CLIENTS: usize = 100_000;
        let mut subscriptions = Subscriptions::default();
        let start = Instant::now();
        for n in 0..CLIENTS {
            subscribe(&mut subscriptions, &format!("c{n}"), "broadcast/#");
        }
        assert_eq!(subscriptions.len(), CLIENTS);
        let (coming, start) = (start.elapsed(), Instant::now());
        for n in 0..CLIENTS {
            subscriptions.remove_client(&format!("c{n}"));
        }
        assert_nothing_is_left(&mut subscriptions);
        // Compared with what the same machine took a moment ago: a list would take a hundred times as long.
        assert!(start.elapsed() < 10 * coming, "{:?} after {coming:?}", start.elapsed());
    }

    /// When all go at once, each step takes as long as for one of them.
    #[test]
    fn what_is_left_behind_is_removed_in_steps() {
        let mut subscriptions = Subscriptions::default();
        for n in 0..5_000 {
            subscribe(&mut subscriptions, &format!("c{}", n % 50), &format!("x/{n}"));
        }
        let charged = subscriptions.charged();
        (0..50).for_each(|n| subscriptions.remove_client(&format!("c{n}")));
        assert_eq!((subscriptions.len(), subscriptions.subscribers.len()), (5_000, 0));
        assert!(subscriptions.charged() < charged);
        assert!((0..50).all(|n| listeners(&subscriptions, &format!("x/{n}")).is_empty()));
        // Who comes back has nothing of before, and its own is left alone.
        subscribe(&mut subscriptions, "c0", "x/1");
        assert_eq!(listeners(&subscriptions, "x/1"), ["c0"]);
        assert!(listeners(&subscriptions, "x/0").is_empty());
        assert!(subscriptions.covers("c0", "u", "x/1") && !subscriptions.covers("c0", "u", "x/0"));
        let before = subscriptions.len();
        subscriptions.clean_up(REMOVED_AT_ONCE);
        assert!(before - subscriptions.len() > REMOVED_AT_ONCE - 50);
        subscriptions.clean_up(usize::MAX);
        assert_eq!((subscriptions.len(), subscriptions.levels.len()), (1, 2));
        subscriptions.note_there("c0", Instant::now());
        subscriptions.remove("c0", "x/1");
        assert_nothing_is_left(&mut subscriptions);
    }

    #[test]
    fn a_walk_in_steps_passes_each_reader_once() {
        let mut subscriptions = Subscriptions::default();
        for n in 0..100 {
            subscribe(&mut subscriptions, &format!("c{n:02}"), ["a/b", "a/+", "#"][n % 3]);
        }
        let (mut walk, mut found, mut steps) = (subscriptions.walk("a/b"), Vec::new(), 0);
        while !walk.is_over() {
            let mut left = 7;
            subscriptions.go_on(&mut walk, |reader| {
                found.push(reader.client_id.to_owned());
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            steps += 1;
        }
        found.sort();
        assert_eq!(found, (0..100).map(|n| format!("c{n:02}")).collect::<Vec<_>>());
        assert_eq!(steps, 100 / 7 + 1);
    }

    proptest! {
        #[test]
        fn agrees_with_matching_one_by_one(
            filters in prop::collection::vec((0..4u8, "(\\+|a|b||\\$s)(/(\\+|a|b|)){0,2}(/#)?"), 0..30),
            gone in prop::collection::vec((0..4u8, any::<prop::sample::Index>()), 0..10),
            topics in prop::collection::vec("(a|b||\\$s)(/(a|b|)){0,3}", 1..10),
        ) {
            let mut subscriptions = Subscriptions::default();
            let mut model: Vec<(String, String)> = Vec::new();
            for (client, filter) in &filters {
                let client = client.to_string();
                subscribe(&mut subscriptions, &client, filter);
                model.push((client, filter.clone()));
            }
            for (client, index) in gone {
                if !filters.is_empty() {
                    let (client, filter) = (client.to_string(), &filters[index.index(filters.len())].1);
                    subscriptions.remove(&client, filter);
                    model.retain(|entry| !(entry.0 == client && &entry.1 == filter));
                }
            }
            for topic in topics.into_iter().filter(|topic| !topic.is_empty()) {
                let matching = model.iter().filter(|(_, filter)| topic::matches(filter, &topic));
                let mut expected: Vec<String> = matching.map(|(client, _)| client.clone()).collect();
                expected.sort();
                expected.dedup();
                prop_assert_eq!(listeners(&subscriptions, &topic), expected, "{}", topic);
            }
        }
    }
}
