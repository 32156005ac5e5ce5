//! Whom a question is asked for, and what of that is counted.

use crate::fingerprint::Source;

/// Whom a question is asked for; by default nobody in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AskedFor {
    /// Where it comes from.
    pub source: Source,
    /// The client that it is about, as a keyed hash.
    pub client: u64,
}

/// What counts as one whom the API is silent to, the widest first.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    Network,
    Username,
    Client,
}

impl AskedFor {
    /// As a keyed hash, what it counts as on a level.
    pub(super) fn on(self, level: Level) -> u64 {
        match level {
            Level::Network => self.source.network,
            Level::Username => self.source.username,
            Level::Client => self.client,
        }
    }
}
