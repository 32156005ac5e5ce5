//! Who listens to which topics: learnt from the SUBSCRIBE checks, so that the READ questions of one message
//! can be asked side by side before the broker asks them one by one.
#![forbid(unsafe_code)]

use std::collections::HashMap;

/// Subscriptions that are known at once; beyond, new ones are not noted, and their READ checks are asked one
/// by one as they come. At about 200 bytes each this is 200 MB.
const BOUND: usize = 1_000_000;

/// A client that has subscribed to something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subscriber {
    client_id: Box<str>,
    username: Box<str>,
    /// The nodes of its filters, and whether as a shared subscription.
    nodes: Vec<(usize, bool)>,
}

/// A level of the filters that begin alike.
#[derive(Debug, Default)]
struct Node {
    /// Where it hangs, and by which level; none for the root.
    parent: Option<(usize, Box<str>)>,
    children: HashMap<Box<str>, usize>,
    /// The subscribers of the filter that ends here, and whether with others in a group.
    subscribers: Vec<(usize, bool)>,
}

/// Filters and their subscribers, as a tree of levels.
#[derive(Debug)]
pub struct Subscriptions {
    /// The first is the root. Those in `free_nodes` hang nowhere.
    nodes: Vec<Node>,
    free_nodes: Vec<usize>,
    subscribers: Vec<Option<Subscriber>>,
    free_subscribers: Vec<usize>,
    by_client_id: HashMap<Box<str>, usize>,
    count: usize,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            free_nodes: Vec::new(),
            subscribers: Vec::new(),
            free_subscribers: Vec::new(),
            by_client_id: HashMap::new(),
            count: 0,
        }
    }
}

const ROOT: usize = 0;

impl Subscriptions {
    /// Notes a subscription. A client that comes with another username is another one.
    pub fn add(&mut self, client_id: &str, username: &str, filter: &str) {
        if self.subscriber(client_id).is_some_and(|(_, subscriber)| &*subscriber.username != username) {
            self.remove_client(client_id);
        }
        if self.count >= BOUND {
            return;
        }
        let subscriber = match self.by_client_id.get(client_id) {
            Some(&index) => index,
            None => self.add_subscriber(client_id, username),
        };
        let mut node = ROOT;
        let (filter, is_shared) = shared_part(filter);
        for level in filter.split('/') {
            node = match self.nodes[node].children.get(level) {
                Some(&child) => child,
                None => self.add_node(node, level),
            };
        }
        if let Some(entry) = &mut self.subscribers[subscriber]
            && !entry.nodes.contains(&(node, is_shared))
        {
            entry.nodes.push((node, is_shared));
            self.nodes[node].subscribers.push((subscriber, is_shared));
            self.count += 1;
        }
    }

    /// Forgets a subscription.
    pub fn remove(&mut self, client_id: &str, filter: &str) {
        let Some(&subscriber) = self.by_client_id.get(client_id) else { return };
        let mut node = ROOT;
        let (filter, is_shared) = shared_part(filter);
        for level in filter.split('/') {
            match self.nodes[node].children.get(level) {
                Some(&child) => node = child,
                None => return,
            }
        }
        self.unsubscribe(subscriber, node, is_shared);
        if self.subscribers[subscriber].as_ref().is_some_and(|entry| entry.nodes.is_empty()) {
            self.remove_client(client_id);
        }
    }

    /// Forgets all subscriptions of a client.
    pub fn remove_client(&mut self, client_id: &str) {
        let Some(subscriber) = self.by_client_id.remove(client_id) else { return };
        let nodes = self.subscribers[subscriber].as_ref().map(|entry| entry.nodes.clone());
        for (node, is_shared) in nodes.unwrap_or_default() {
            self.unsubscribe(subscriber, node, is_shared);
        }
        self.subscribers[subscriber] = None;
        self.free_subscribers.push(subscriber);
    }

    /// Calls `listener` with client id and username of everybody who listens to a topic, some maybe twice.
    pub fn listeners(&self, topic: &str, mut listener: impl FnMut(&str, &str)) {
        let levels: Vec<&str> = topic.split('/').collect();
        // Wildcards at the start do not match topics that start with $ (MQTT 5.0, section 4.7.2).
        self.visit(ROOT, &levels, !topic.starts_with('$'), &mut listener);
    }

    /// How many subscriptions are known.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn visit(&self, node: usize, levels: &[&str], wildcards: bool, listener: &mut dyn FnMut(&str, &str)) {
        let children = &self.nodes[node].children;
        if wildcards && let Some(&rest) = children.get("#") {
            self.tell(rest, listener);
        }
        let Some((level, deeper)) = levels.split_first() else { return self.tell(node, listener) };
        if let Some(&child) = children.get(*level) {
            self.visit(child, deeper, true, listener);
        }
        if wildcards && let Some(&child) = children.get("+") {
            self.visit(child, deeper, true, listener);
        }
    }

    fn tell(&self, node: usize, listener: &mut dyn FnMut(&str, &str)) {
        for &(index, _) in &self.nodes[node].subscribers {
            if let Some(subscriber) = &self.subscribers[index] {
                listener(&subscriber.client_id, &subscriber.username);
            }
        }
    }

    fn subscriber(&self, client_id: &str) -> Option<(usize, &Subscriber)> {
        let &index = self.by_client_id.get(client_id)?;
        Some((index, self.subscribers[index].as_ref()?))
    }

    fn add_subscriber(&mut self, client_id: &str, username: &str) -> usize {
        let subscriber =
            Some(Subscriber { client_id: client_id.into(), username: username.into(), nodes: Vec::new() });
        let index = match self.free_subscribers.pop() {
            Some(index) => {
                self.subscribers[index] = subscriber;
                index
            }
            None => {
                self.subscribers.push(subscriber);
                self.subscribers.len() - 1
            }
        };
        self.by_client_id.insert(client_id.into(), index);
        index
    }

    fn add_node(&mut self, parent: usize, level: &str) -> usize {
        let node = Node { parent: Some((parent, level.into())), ..Node::default() };
        let index = match self.free_nodes.pop() {
            Some(index) => {
                self.nodes[index] = node;
                index
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.nodes[parent].children.insert(level.into(), index);
        index
    }

    fn unsubscribe(&mut self, subscriber: usize, node: usize, is_shared: bool) {
        let subscribers = &mut self.nodes[node].subscribers;
        let Some(position) = subscribers.iter().position(|entry| *entry == (subscriber, is_shared)) else {
            return;
        };
        subscribers.swap_remove(position);
        if let Some(entry) = &mut self.subscribers[subscriber] {
            entry.nodes.retain(|other| *other != (node, is_shared));
        }
        self.count -= 1;
        self.prune(node);
    }

    /// Takes away a node that has become useless, and those above it.
    fn prune(&mut self, mut node: usize) {
        while self.nodes[node].subscribers.is_empty() && self.nodes[node].children.is_empty() {
            let Some((parent, level)) = self.nodes[node].parent.take() else { return };
            self.nodes[parent].children.remove(&level);
            self.nodes[node] = Node::default();
            self.free_nodes.push(node);
            node = parent;
        }
    }
}

/// The filter of a shared subscription, `$share/group/filter`, is what comes behind (MQTT 5.0, section
/// 4.8.2); any other is its own. And which of the two it is.
fn shared_part(filter: &str) -> (&str, bool) {
    let behind_group = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    behind_group.map_or((filter, false), |(_, filter)| (filter, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic;
    use proptest::prelude::*;

    fn listeners(subscriptions: &Subscriptions, topic: &str) -> Vec<String> {
        let mut found = Vec::new();
        subscriptions.listeners(topic, |client_id, _| found.push(client_id.to_owned()));
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn shared_subscriptions_listen_to_what_comes_behind_the_group() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add("a", "u", "$share/g/x/+");
        assert_eq!(listeners(&subscriptions, "x/y"), ["a"]);
        subscriptions.remove("a", "$share/g/x/+");
        assert!(subscriptions.is_empty());
    }

    #[test]
    fn another_username_is_another_client() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add("a", "u", "x");
        subscriptions.add("a", "v", "y");
        assert!(listeners(&subscriptions, "x").is_empty());
        assert_eq!(listeners(&subscriptions, "y"), ["a"]);
    }

    #[test]
    fn what_is_forgotten_leaves_no_nodes_behind() {
        let mut subscriptions = Subscriptions::default();
        for round in 0..3 {
            for n in 0..100 {
                subscriptions.add(&format!("c{n}"), "u", &format!("a/{n}/{round}/+/#"));
            }
            for n in 0..100 {
                subscriptions.remove_client(&format!("c{n}"));
            }
        }
        assert!(subscriptions.is_empty());
        assert!(subscriptions.nodes.len() <= 1 + 1 + 4 * 100);
        assert_eq!(subscriptions.free_nodes.len() + 1, subscriptions.nodes.len());
        assert_eq!(subscriptions.subscribers.len(), 100);
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
                subscriptions.add(&client, "u", filter);
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
