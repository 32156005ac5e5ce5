//! What commands ask of the door to the verdicts, and what runs on its thread for them.

use std::time::Instant;

use super::superuser::{Beforehand, asked_at};
use super::{Asker, dialect};
use crate::cache::{Counts, Remembered};
use crate::config::UrlSet;
use crate::fingerprint::{Fingerprint, Source, Whose};
use crate::question::{NoAnswer, Question, Verdict};

impl Asker {
    /// The remembered verdict for a question as it is explained. Changes nothing.
    pub fn look(&self, key: Fingerprint, now: Instant) -> Option<Remembered> {
        self.inbox.state().cache.look(key, now)
    }

    /// What is known of the user of a question about a topic, where APIs of other plugins are asked whether users may do
    /// everything, and whether asking is in vain for now, for an explanation. Changes nothing.
    pub fn superuser(
        &self,
        question: &Question<'_>,
        source: Source,
        now: Instant,
    ) -> Option<(Beforehand, bool)> {
        let Question::Access { username, client_id, .. } = *question else { return None };
        let target = self.inbox.target.load();
        let dialect = &target.config.dialect;
        if !dialect.knows_superusers() {
            return None;
        }
        let name = dialect::name(dialect, username, client_id);
        let remembered = || {
            let cache = &self.inbox.state().cache;
            let known =
                cache.look(self.inbox.superuser_key(name), now).filter(|known| !known.holds.is_zero())?;
            // A yes that was taken back for this client since does not count.
            let is_yes = known.verdict == Verdict::Allow;
            let is_over = is_yes && cache.has_forgotten(self.keys.about(question), asked_at(&known, now));
            (!is_over).then_some(known)
        };
        let known = Beforehand::of(dialect, name, remembered);
        Some((known, target.refuses(UrlSet::Superuser, source, now)))
    }

    /// Forgets whatever the API has said of somebody, what is on its way included.
    pub fn forget(&self, whose: Whose, now: Instant) {
        // Giving back the memory of a large cache takes a while: nobody waits for it.
        self.inbox.state().cache.forget_whatever(whose, now);
    }

    /// How much is remembered, and how many questions have no answer yet.
    pub fn counts(&self) -> (Counts, usize) {
        let state = self.inbox.state();
        (state.cache.counts(), state.in_flight.len())
    }

    /// Runs something on the worker's thread in the background, until it ends or the worker is stopped.
    ///
    /// # Errors
    /// [`NoAnswer::NotAsked`] if the system gives no thread.
    pub fn run_in_background(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), NoAnswer> {
        self.worker().map(|worker| worker.run_in_background(task))
    }

    /// Ends the worker's thread and all that runs on it, which may hold whatever holds this.
    pub fn stop(&self) {
        if let Some(worker) = self.worker.get() {
            worker.stop();
        }
    }
}
