//! What waits in the queues of sleeping sessions, by topic. The broker asks about a message when it comes, and once more
//! when the client comes back, one after the other and before it does anything else.

use std::collections::{HashMap, HashSet};

use lru::LruCache;

use crate::fingerprint::{AlreadyHashed, Fingerprint};

/// What all queues may cost, in bytes: room for 200 topics of each of some 600 clients. What has no room is asked about
/// one by one when its client comes back.
const BOUND: usize = 16 << 20;

/// One client may have one part in so many of [`BOUND`]: 2,000 topics. The broker itself holds 1,000 messages for a client by
/// default.
const CLIENT_SHARE: usize = 64;

/// The clients of one username together may have one part in so many of all.
const NAME_SHARE: usize = 4;

/// Bytes charged for a client, and for a topic besides its text: what they take at worst, in tables that have just grown
/// (`tests/memory.rs`).
const QUEUE: usize = 600;
const TOPIC: usize = 96;

#[derive(Debug)]
struct Queue {
    topics: HashSet<Box<str>>,
    name: u64,
    cost: usize,
}

/// The topics that are asked about when their clients come back.
#[derive(Debug)]
pub struct Queues {
    bound: usize,
    /// The one that nothing was added to for longest goes first.
    by_client: LruCache<Fingerprint, Queue, AlreadyHashed>,
    by_name: HashMap<u64, usize>,
    cost: usize,
}

impl Default for Queues {
    fn default() -> Self {
        Self::bounded(BOUND)
    }
}

impl Queues {
    fn bounded(bound: usize) -> Self {
        let by_client = LruCache::unbounded_with_hasher(AlreadyHashed::default());
        Self { bound, by_client, by_name: HashMap::new(), cost: 0 }
    }

    /// A message on this topic waits for a client. `name` stands for its username.
    pub fn note(&mut self, client: Fingerprint, name: u64, topic: &str) {
        let known = self.by_client.get(&client);
        if known.is_some_and(|queue| queue.topics.contains(topic)) {
            return;
        }
        let cost = TOPIC + topic.len() + if known.is_none() { QUEUE } else { 0 };
        let of_client = known.map_or(0, |queue| queue.cost) + cost;
        let of_name = self.by_name.get(&name).copied().unwrap_or_default() + cost;
        if of_client > self.bound / CLIENT_SHARE || of_name > self.bound / NAME_SHARE {
            return;
        }
        let queue =
            self.by_client.get_or_insert_mut(client, || Queue { topics: HashSet::new(), name, cost: 0 });
        queue.topics.insert(topic.into());
        queue.cost += cost;
        self.cost += cost;
        *self.by_name.entry(name).or_default() += cost;
        while self.cost > self.bound
            && let Some((_, gone)) = self.by_client.pop_lru()
        {
            self.discharge(&gone);
        }
    }

    /// The topics of what waits for a client.
    pub fn topics(&self, client: Fingerprint) -> impl Iterator<Item = &str> {
        self.by_client.peek(&client).into_iter().flat_map(|queue| queue.topics.iter().map(|topic| &**topic))
    }

    /// Nothing waits for a client any more.
    pub fn remove(&mut self, client: Fingerprint) {
        if let Some(gone) = self.by_client.pop(&client) {
            self.discharge(&gone);
        }
    }

    /// What is charged, in bytes: at least what is taken.
    pub fn charged(&self) -> usize {
        self.cost
    }

    /// Whether nothing waits for anybody.
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    fn discharge(&mut self, queue: &Queue) {
        self.cost -= queue.cost;
        if let Some(of_name) = self.by_name.get_mut(&queue.name) {
            *of_name -= queue.cost;
            if *of_name == 0 {
                self.by_name.remove(&queue.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::{Domain, Fingerprinter};

    fn client(number: usize) -> Fingerprint {
        Fingerprinter::with_key(&[3; 16]).fields(Domain::Client, [&number.to_le_bytes()])
    }

    fn assert_sound(queues: &Queues) {
        assert!(queues.cost <= queues.bound);
        assert_eq!(queues.cost, queues.by_client.iter().map(|(_, queue)| queue.cost).sum::<usize>());
        assert_eq!(queues.cost, queues.by_name.values().sum::<usize>());
    }

    #[test]
    fn topics_are_kept_once_and_until_they_are_asked_about() {
        let mut queues = Queues::default();
        for topic in ["a", "b", "a"] {
            queues.note(client(1), 1, topic);
        }
        let mut topics: Vec<_> = queues.topics(client(1)).collect();
        topics.sort_unstable();
        assert_eq!(topics, ["a", "b"]);
        assert_eq!(queues.topics(client(2)).count(), 0);
        assert_sound(&queues);
        queues.remove(client(1));
        assert!(queues.is_empty() && queues.cost == 0 && queues.by_name.is_empty());
    }

    #[test]
    fn nobody_takes_the_room_of_all() {
        let mut queues = Queues::bounded(1 << 20);
        queues.note(client(0), 0, "kept");
        for number in 0..10_000 {
            queues.note(client(1), 1, &format!("one client, many topics {number}"));
            queues.note(client(2 + number), 1, "one name, many clients");
        }
        assert_sound(&queues);
        assert!(queues.cost <= queues.bound / NAME_SHARE + 1_000);
        assert_eq!(queues.topics(client(0)).count(), 1);
        for number in 0..10_000 {
            queues.note(client(20_000 + number), number as u64, "many names");
        }
        assert_sound(&queues);
        assert_eq!(queues.topics(client(0)).count(), 0, "it has slept for longest");
    }
}
