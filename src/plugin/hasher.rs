//! A thread for password hashes that take long on purpose: 50 ms of computing in front of the broker's loop
//! would stop every client, and on the worker's thread every request.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::delayed::Ticket;
use super::{Task, Tasks};
use crate::broker::Broker;
use crate::local::PasswordHash;
use crate::util::panics::caught;

/// Checks that may wait. More would take longer than a client waits: at 50 ms each this is 10 s.
const QUEUE_BOUND: usize = 200;

/// A password to compare with the hash of a local user.
pub struct Check {
    pub ticket: Ticket,
    pub hash: Arc<PasswordHash>,
    pub password: Vec<u8>,
}

/// The running thread. Dropping it waits for the check at hand.
pub struct Hasher {
    checks: Option<SyncSender<Check>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hasher {
    pub fn start(broker: &dyn Broker, tasks: &Arc<Tasks>) -> io::Result<Self> {
        let (checks, receiver) = sync_channel(QUEUE_BOUND);
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, tasks) = (Arc::clone(&stopping), Arc::clone(tasks));
        let thread = broker.spawn(Box::new(move || work(&receiver, &stop, &tasks)))?;
        Ok(Self { checks: Some(checks), stopping, thread: Some(thread) })
    }

    /// Takes a check over. `false` if too many wait.
    pub fn check(&self, check: Check) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.try_send(check).is_ok())
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.checks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(checks: &Receiver<Check>, stopping: &AtomicBool, tasks: &Tasks) {
    while let Ok(check) = checks.recv() {
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        let matches = caught(|| check.hash.verify(&check.password));
        tasks.push(Task::PasswordChecked(check.ticket, matches.unwrap_or(false)));
    }
}
