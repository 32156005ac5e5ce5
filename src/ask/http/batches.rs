//! Where many questions go at once (`acl_batch_url`), and what is known of that.
use std::sync::atomic::{AtomicUsize, Ordering};

use super::endpoint::Endpoints;
use super::rest::Suspects;
use crate::util::Lock;

/// Where many questions go at once.
pub(super) struct Batches {
    pub(super) endpoints: Endpoints,
    /// Whoever may have spoilt a request with others.
    pub(super) suspects: Lock<Suspects>,
    /// How many questions are on their way in these requests.
    questions: AtomicUsize,
}

/// Counts questions for as long as they are on their way.
pub(super) struct Counted<'a>(&'a AtomicUsize, usize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Batches {
    pub(super) fn new(endpoints: Endpoints) -> Self {
        Self { endpoints, suspects: Lock::default(), questions: AtomicUsize::new(0) }
    }

    /// How many questions are on their way in requests with others.
    pub(super) fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }

    /// Counts so many more, for as long as what is returned lives.
    pub(super) fn count(&self, questions: usize) -> Counted<'_> {
        self.questions.fetch_add(questions, Ordering::Relaxed);
        Counted(&self.questions, questions)
    }
}
