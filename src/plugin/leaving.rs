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
    /// Whether the broker's thread was told, and has not come yet.
    is_told: AtomicBool,
    sessions: Lock<Vec<(SessionName, Grounds)>>,
}

impl Leaving {
    /// These have to leave, too.
    pub fn add(&self, sessions: impl IntoIterator<Item = (SessionName, Grounds)>) {
        let all = &mut *self.sessions.lock();
        all.extend(sessions);
        self.note(all);
    }

    /// Claims the right to tell the broker's thread that there are some, to be asked behind [`Self::add`]: one task is enough,
    /// however many there are.
    pub fn claim_notice(&self) -> bool {
        !self.is_told.swap(true, Ordering::AcqRel)
    }

    /// The broker's thread has come for them. Whoever is added from now on is told of once more.
    pub fn clear_notice(&self) {
        self.is_told.store(false, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprinter;

    /// However many are added one by one, the broker's thread has one task for them until it has come.
    #[test]
    fn the_brokers_thread_is_told_once_until_it_has_come() {
        let leaving = Leaving::default();
        let credentials = Fingerprinter::with_key(&[1; 16]).credentials("u", b"p");
        let session = |connection| SessionName {
            connection,
            client_id: String::new(),
            username: String::new(),
            credentials,
            address: None,
        };
        let tells = |connection| {
            leaving.add([(session(connection), Grounds::Expired)]);
            leaving.claim_notice()
        };
        assert_eq!([1, 2, 3].map(tells), [true, false, false]);
        leaving.clear_notice();
        // Whoever is added before it has taken them is taken, too, and told of once more.
        assert!(tells(4));
        assert_eq!(leaving.take(|_| true).len(), 4);
        assert!(!leaving.any() && !tells(5), "a task is pending");
        leaving.clear_notice();
        assert_eq!(leaving.take(|_| true).len(), 1);
        assert!(tells(6));
    }
}
