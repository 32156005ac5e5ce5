//! Clients that are gone. When many go at once nobody waits until all of their subscriptions are removed: a client is no
//! reader any more from the moment that it goes, and what it leaves behind is removed in steps.

use std::hash::BuildHasher;

use super::{Id, Subscriptions, all_of, names_of};

/// Subscriptions that are removed in one turn of the broker's loop: some milliseconds.
pub const REMOVED_AT_ONCE: usize = 1_000;

/// Bytes charged for a client that came back before all that it left behind was removed.
const RENAMED: usize = 48;

impl Subscriptions {
    /// The number of a client. It stands for a client id in the subscriptions, for as long as the client is there.
    pub(super) fn subscriber(&self, client_id: &str) -> Id {
        let id = self.ids.hash_one(client_id);
        if self.renamed.is_empty() { id } else { self.renamed.get(&id).copied().unwrap_or(id) }
    }

    /// The number of a client that is not known, and what it is charged besides its names. While something is left behind
    /// under the number that it would have, it has another one.
    pub(super) fn new_subscriber(&mut self, client_id: &str) -> (Id, usize) {
        let id = self.ids.hash_one(client_id);
        if self.by_subscriber.range(all_of(id)).next().is_none() {
            return (id, 0);
        }
        self.names_given += 1;
        let other = self.ids.hash_one((client_id, self.names_given));
        self.renamed.insert(id, other);
        (other, RENAMED)
    }

    /// Forgets a client: it is no reader any more. Its subscriptions are left behind.
    pub(super) fn let_go(&mut self, subscriber: Id) {
        let Some(gone) = self.subscribers.remove(&subscriber) else { return };
        let renamed = self.renamed.remove(&self.ids.hash_one(&*gone.client_id));
        let left = self.by_subscriber.range(all_of(subscriber)).next().is_some();
        if left {
            self.gone.push_back(subscriber);
        }
        self.cost -= names_of(&gone.client_id, &gone.username) + renamed.map_or(0, |_| RENAMED);
    }

    /// Removes what was left behind, up to so many subscriptions.
    pub fn clean_up(&mut self, most: usize) {
        for _ in 0..most {
            let Some(&subscriber) = self.gone.front() else { return };
            // It may have come back since the last one was removed.
            let is_back = self.subscribers.contains_key(&subscriber);
            match self.by_subscriber.range(all_of(subscriber)).next() {
                Some(&(_, last, is_shared)) if !is_back => self.unsubscribe(subscriber, last, is_shared),
                _ => drop(self.gone.pop_front()),
            }
        }
    }
}
