//! The cache that is shared with other brokers, as the door to the verdicts uses it: which store, and what is taken over
//! from there.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Asker;
use super::http::{Reply, Target};
use super::inbox::Inbox;
use super::store::{Found, Listener, Peer, Store, StoreQuestion};
use super::subject::Subject;
use crate::cache::Fresh;
use crate::command::Command;
use crate::fingerprint::Whose;
use crate::question::{Answer, Grounds, Kind, Verdict};

impl Asker {
    /// Has the connection to the shared cache held by the worker's thread, if it is not yet.
    pub(super) fn hold_store(&self) {
        if let Some(store) = self.inbox.sharing.unkept()
            && let Ok(worker) = self.worker()
        {
            let listener: Weak<dyn Listener> = Arc::downgrade(&self.inbox) as Weak<dyn Listener>;
            worker.run_in_background(store.hold(listener));
        }
    }

    /// Has `peer` hear of what other brokers do, and tell them what was learnt. Only the first call counts.
    pub fn be_heard(&self, peer: impl Peer + 'static) {
        self.inbox.sharing.set_peer(peer);
    }

    /// Has the other brokers carry out a command, if a cache is shared with any.
    pub fn tell_others(&self, command: Command) {
        if let Some(store) = self.inbox.sharing.store() {
            store.tell_others(command);
        }
    }

    /// The shared cache, if there is one: where it is, and whether it can be asked now.
    pub fn shared_cache(&self) -> Option<(String, bool)> {
        self.inbox.sharing.store().map(|store| (store.shown(), store.is_up()))
    }
}

impl Inbox {
    /// Takes an allow over that the API has given another broker. Returns `false` if it does not count here, or if somebody
    /// waits who wants to hear the API itself.
    pub(super) fn take_over(&self, subject: Subject, found: &Found, from: &Arc<Target>) -> bool {
        let Found { sent, lifetime, grounds } = *found;
        // Nobody was asked about whose name says enough: nothing can be taken back, and nobody can be asked anew.
        let is_said = grounds != Grounds::NamedSuperuser;
        let mut state = self.state();
        if !self.target.load().asks_like(from) || is_said && state.cache.has_forgotten(subject.about, sent) {
            return false;
        }
        if is_said && state.in_flight.get(&subject.key).is_some_and(|in_flight| in_flight.is_anew) {
            return false;
        }
        let Some(in_flight) = state.in_flight.remove(&subject.key) else { return true };
        let config = &from.config;
        let lifetime = match config.api_cache_control {
            true => lifetime,
            false => lifetime.min(config.lifetime(subject.kind, Verdict::Allow)),
        };
        let fresh = Fresh { verdict: Verdict::Allow, grounds, since: sent, lifetime, about: subject.about };
        state.put(subject.key, fresh, in_flight.unused());
        let api = self.api_number();
        drop(state);
        in_flight.deliver(&Answer::verdict(Verdict::Allow, grounds), api);
        true
    }
}

impl Listener for Inbox {
    fn forget_everything(&self) {
        self.state().cache.forget_whatever(Whose::Everybody, Instant::now());
    }

    fn peer(&self) -> Option<&dyn Peer> {
        self.sharing.peer()
    }
}

/// A question, and the store that may know its answer.
pub(super) struct Shared {
    store: Arc<Store>,
    asked: StoreQuestion,
    kind: Kind,
    /// The API is asked, whatever the store has.
    asks_anew: bool,
}

impl Shared {
    /// A question to this API, which this `request` asks. `None` where nothing is shared, or such answers are not remembered at all.
    pub(super) fn of(
        store: Option<Arc<Store>>,
        subject: Subject,
        request: &[u8],
        target: &Target,
        asks_anew: bool,
    ) -> Option<Self> {
        let (store, kind) = (store?, subject.kind);
        let config = &target.config;
        let remembers = config.api_cache_control || !config.lifetime(kind, Verdict::Allow).is_zero();
        if !remembers {
            return None;
        }
        let asked = store.asked(target.identity(), kind, request, subject.about);
        Some(Self { store, asked, kind, asks_anew })
    }

    /// The allow that the store has, if the API need not be asked.
    pub(super) async fn look_up(&self) -> Option<Found> {
        if self.asks_anew {
            return None;
        }
        self.store.look_up(&self.asked).await
    }

    /// The API is asked all the same, so what the store has may not be right any more.
    pub(super) fn is_not_believed(&mut self) {
        self.asks_anew = true;
    }

    /// Stores what the API has said for the other brokers, or removes what it has taken back.
    pub(super) fn pass_on(self, reply: &Reply, target: &Target) {
        let Answer::Verdict { verdict, grounds, ref terms } = reply.answer else { return };
        match verdict {
            // An answer that says more than yes is not stored: what else it says would be lost. Nor may a yes from before stand
            // for it.
            Verdict::Allow if terms.is_some() => {
                if self.asks_anew {
                    self.store.remove(self.asked);
                }
            }
            Verdict::Allow => {
                let configured = || target.config.lifetime(self.kind, verdict);
                let lifetime = reply.lifetime_or(configured);
                self.store.keep(self.asked, reply.sent, lifetime, grounds);
            }
            // A no that ends what is remembered here ends what is stored there.
            Verdict::Deny if self.asks_anew && grounds.is_about_the_client() => self.store.remove(self.asked),
            Verdict::Deny => {}
        }
    }
}
