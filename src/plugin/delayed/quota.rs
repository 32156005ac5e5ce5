//! Room in bytes, of which no network takes more than its share.

use std::collections::HashMap;

/// One network may take one part in so many of all that there is, so that a single one that floods leaves room for the
/// others.
const NETWORK_SHARE: usize = 4;

/// What is taken of some room, by everybody and by each network.
pub(super) struct Quota {
    most: usize,
    taken: usize,
    by_network: HashMap<String, usize>,
}

impl Quota {
    /// Nothing is taken of so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: 0, by_network: HashMap::new() }
    }

    /// Whether there is room for so many bytes more of a network.
    pub(super) fn fits(&self, network: &str, bytes: usize) -> bool {
        let of_network = self.by_network.get(network).copied().unwrap_or_default();
        self.taken + bytes <= self.most && of_network + bytes <= self.most / NETWORK_SHARE
    }

    /// Takes them.
    pub(super) fn take(&mut self, network: &str, bytes: usize) {
        if bytes > 0 {
            self.taken += bytes;
            *self.by_network.entry(network.to_owned()).or_default() += bytes;
        }
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, network: &str, bytes: usize) {
        self.taken -= bytes;
        if let Some(of_network) = self.by_network.get_mut(network) {
            *of_network -= bytes;
            if *of_network == 0 {
                self.by_network.remove(network);
            }
        }
    }

    /// What is taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Whether nothing is taken.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0 && self.by_network.is_empty()
    }
}
