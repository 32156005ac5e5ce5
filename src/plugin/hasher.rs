//! A thread for password hashes that take long on purpose: 50 ms of computing in front of the broker's loop
//! would stop every client, and on the worker's thread every request.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::settings::Loaded;
use crate::broker::Broker;
use crate::main_queue::{Errand, Errands};
use crate::plugin::parked::Ticket;
use crate::util::panics::caught;

/// Checks that may wait. More would take longer than a client waits: at 50 ms each this is 10 s.
const QUEUE_BOUND: usize = 200;

/// A password to compare with the hash of a local user.
pub(super) struct Check {
    pub(super) ticket: Ticket,
    pub(super) loaded: Arc<Loaded>,
    pub(super) username: String,
    pub(super) password: Vec<u8>,
}

/// The running thread. Dropping it waits for the check at hand.
pub(super) struct Checker {
    checks: Option<SyncSender<Check>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checker {
    pub(super) fn start(host: &Arc<dyn Broker>, errands: &Arc<Errands>) -> io::Result<Self> {
        let (checks, receiver) = sync_channel(QUEUE_BOUND);
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, errands) = (Arc::clone(&stopping), Arc::clone(errands));
        let thread = host.spawn(Box::new(move || work(&receiver, &stop, &errands)))?;
        Ok(Self { checks: Some(checks), stopping, thread: Some(thread) })
    }

    /// Takes a check over, or gives it back if too many wait.
    pub(super) fn check(&self, check: Check) -> Result<(), Check> {
        match self.checks.as_ref().map(|checks| checks.try_send(check)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(check) | TrySendError::Disconnected(check))) => Err(check),
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.checks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(checks: &Receiver<Check>, stopping: &AtomicBool, errands: &Errands) {
    while let Ok(check) = checks.recv() {
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        let matches = caught(|| {
            let hash = check.loaded.users.get(&check.username);
            hash.is_some_and(|hash| hash.verify(&check.password))
        });
        errands.leave(Errand::PasswordChecked(check.ticket, matches.unwrap_or(false)));
    }
}
