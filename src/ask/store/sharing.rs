//! The store that is in use, and who hears of what the other brokers do.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use once_cell::sync::OnceCell;

use super::{Peer, Store, StoreOptions};
use crate::fingerprint::Fingerprinter;
use crate::log::{Level, Log};
use crate::metrics::Metrics;

/// The store, and who hears of what the other brokers do.
pub(in crate::ask) struct Sharing {
    keys: Fingerprinter,
    store: ArcSwapOption<Store>,
    peer: OnceCell<Box<dyn Peer>>,
}

impl Sharing {
    pub(in crate::ask) fn new(keys: Fingerprinter) -> Self {
        Self { keys, store: ArcSwapOption::empty(), peer: OnceCell::new() }
    }

    /// Uses the store of these options from now on, or none.
    pub(in crate::ask) fn use_store(
        &self,
        options: Option<&StoreOptions>,
        log: &Arc<Log>,
        metrics: &Arc<Metrics>,
    ) {
        let store = options.and_then(|options| {
            let before = self.store.load();
            let (to_log, metrics) = (Arc::clone(log), Arc::clone(metrics));
            let store = Store::new(options.clone(), self.keys, to_log, metrics, before.as_deref());
            if store.is_none() {
                let line = "The system gives no random numbers for the shared cache: it is not used.";
                log.write(Level::Error, line.to_owned());
            }
            store.map(Arc::new)
        });
        if let Some(before) = self.store.swap(store) {
            before.end();
        }
    }

    /// Has `peer` hear of what the other brokers do. Only the first call counts.
    pub(in crate::ask) fn set_peer(&self, peer: impl Peer + 'static) {
        let _ = self.peer.set(Box::new(peer));
    }

    /// Who hears of what the other brokers do, if anybody does by now.
    pub(in crate::ask) fn peer(&self) -> Option<&dyn Peer> {
        self.peer.get().map(|peer| &**peer)
    }

    /// The store, if nobody holds the connection to it yet.
    pub(in crate::ask) fn unkept(&self) -> Option<Arc<Store>> {
        self.store.load().as_ref().filter(|store| store.wants_keeper()).map(Arc::clone)
    }

    pub(in crate::ask) fn store(&self) -> Option<Arc<Store>> {
        self.store.load_full()
    }

    /// Whether there is a store that can be asked now.
    pub(in crate::ask) fn is_up(&self) -> bool {
        self.store.load().as_ref().is_some_and(|store| store.is_up())
    }
}
