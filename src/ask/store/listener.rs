//! Who hears what comes from the store.

use crate::command::Command;

/// The plugin, as far as the store has to do with it. The worker's thread calls it.
pub trait Listener: Send + Sync {
    /// It cannot be known what was taken back meanwhile: nothing that is remembered is certain.
    fn forget_everything(&self);
    /// Who hears of what the other brokers do, if anybody does by now.
    fn peer(&self) -> Option<&dyn Peer>;
}

/// What brokers that share a cache tell each other beside verdicts. The worker's thread calls it.
pub trait Peer: Send + Sync {
    /// Another one has been given a command.
    fn told(&self, command: Command);
    /// What was learnt here, in this many bytes at most, if anything was.
    fn learnt(&self, most: usize) -> Option<String>;
    /// What another one has learnt, as [`learnt`](Self::learnt) has it there.
    fn learnt_elsewhere(&self, text: &str);
}
