//! What other brokers have told and this one has not carried out yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::orders::OrderPlace;
use crate::util::Lock;

/// Kicks of other brokers that may wait for the broker's thread: as many as a journal keeps, since nobody gives them again.
const TOLD_KICKS: usize = 10_000;

/// Usernames of other brokers' rechecks that may wait. The broker goes through all of its sessions for each, so of more it
/// had better ask about everybody.
const TOLD_RECHECKS: usize = 64;

/// What other brokers have told and this one has not carried out yet.
#[derive(Default)]
pub(super) struct FromOthers {
    /// How many wait for the broker's thread. Those of operators have places of their own.
    kicks: Arc<AtomicUsize>,
    /// The usernames about whose sessions the API is to be asked again when no other recheck is going on; `None` for all.
    rechecks: Lock<VecDeque<Option<String>>>,
}

impl FromOthers {
    /// A place for a kick that waits for the broker's thread, if there is one.
    pub(super) fn place_of_kick(&self) -> Option<OrderPlace> {
        OrderPlace::among(&self.kicks, TOLD_KICKS)
    }

    /// Adds one to those about whom the API is to be asked again: once about each, and once about all if that is one of them
    /// or there are too many.
    pub(super) fn add_recheck(&self, username: Option<String>) {
        let mut rechecks = self.rechecks.lock();
        if rechecks.contains(&username) || rechecks.contains(&None) {
            return;
        }
        if username.is_none() || rechecks.len() >= TOLD_RECHECKS {
            rechecks.clear();
            return rechecks.push_back(None);
        }
        rechecks.push_back(username);
    }

    /// Whether the API is to be asked about somebody again.
    pub(super) fn has_rechecks(&self) -> bool {
        !self.rechecks.lock().is_empty()
    }

    /// Takes the next of those about whom the API is to be asked again.
    pub(super) fn next_recheck(&self) -> Option<Option<String>> {
        self.rechecks.lock().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rechecks_that_wait_are_merged() {
        let name = |number: usize| Some(format!("u{number}"));
        let waiting = |from_others: &FromOthers| from_others.rechecks.lock().clone();
        let many = FromOthers::default();
        for _ in 0..2 {
            (0..TOLD_RECHECKS).for_each(|number| many.add_recheck(name(number)));
        }
        assert!(waiting(&many).into_iter().eq((0..TOLD_RECHECKS).map(name)));
        many.add_recheck(name(TOLD_RECHECKS));
        assert_eq!(waiting(&many), [None]);
        many.add_recheck(name(0));
        assert_eq!(waiting(&many), [None], "all are asked about anyway");
        let one = FromOthers::default();
        one.add_recheck(name(0));
        one.add_recheck(None);
        assert_eq!(waiting(&one), [None]);
    }
}
