//! Those who have to leave: whom the API has refused when it was asked again, and whose time is over. The broker's thread
//! disconnects them.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sessions::SessionName;
use crate::question::Grounds;
use crate::util::Lock;

/// Sessions that have to leave, each with why.
#[derive(Default)]
pub struct Leaving {
    /// Whether there are any. Spares the lock as long as there are none.
    any: AtomicBool,
    sessions: Lock<Vec<(SessionName, Grounds)>>,
}

impl Leaving {
    /// These have to leave, too. Returns whether they are the first ones: whoever is told that there are some takes all.
    pub fn add(&self, sessions: impl IntoIterator<Item = (SessionName, Grounds)>) -> bool {
        let all = &mut *self.sessions.lock();
        let are_first = all.is_empty();
        all.extend(sessions);
        self.note(all);
        are_first
    }

    /// Whether there are any. Costs one load.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Takes those whom `chosen` chooses. Costs one load where there are none.
    pub fn take(&self, chosen: impl Fn(&SessionName) -> bool) -> Vec<(SessionName, Grounds)> {
        if !self.any() {
            return Vec::new();
        }
        // Nothing is locked while `chosen` is called: it may ask other tables.
        let all = mem::take(&mut *self.sessions.lock());
        let (taken, mut left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(session, _)| chosen(session));
        let all = &mut *self.sessions.lock();
        all.append(&mut left);
        self.note(all);
        taken
    }

    fn note(&self, all: &[(SessionName, Grounds)]) {
        self.any.store(!all.is_empty(), Ordering::Release);
    }
}
