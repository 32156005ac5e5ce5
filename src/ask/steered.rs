//! What commands ask of the door to the verdicts, and what runs on its thread for them.

use std::sync::Arc;
use std::time::Instant;

use super::Asker;
use super::http::Target;
use crate::cache::{Counts, Look};
use crate::fingerprint::{Fingerprint, Whose};
use crate::question::NoAnswer;

impl Asker {
    /// The remembered verdict for a question as it is explained. Changes nothing.
    pub fn look(&self, key: Fingerprint, now: Instant) -> Option<Look> {
        self.inner.state().cache.look(key, now)
    }

    /// Forgets whatever the API has said of somebody, what is on its way included.
    pub fn forget(&self, whose: Whose, now: Instant) {
        // Giving back the memory of a large cache takes a while: nobody waits for it.
        self.inner.state().cache.forget_whatever(whose, now);
    }

    /// How much is remembered, and how many questions have no answer yet.
    pub fn counts(&self) -> (Counts, usize) {
        let state = self.inner.state();
        (state.cache.counts(), state.in_flight.len())
    }

    /// The API that is asked.
    pub fn target(&self) -> Arc<Target> {
        self.inner.target.load_full()
    }

    /// Runs something on the worker's thread beside the questions, until it ends or the worker is stopped.
    ///
    /// # Errors
    /// [`NoAnswer::NotAsked`] if the system gives no thread.
    pub fn run_beside(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), NoAnswer> {
        self.worker().map(|worker| worker.run_beside(task))
    }

    /// Ends the worker's thread and all that runs on it, which may hold whatever holds this.
    pub fn stop(&self) {
        if let Some(worker) = self.worker.get() {
            worker.stop();
        }
    }
}
