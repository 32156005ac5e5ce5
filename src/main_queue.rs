//! What only the broker's thread may do, collected on other threads and run at its next tick, and the bell
//! that brings that tick about.
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::broker::Broker;
use crate::plugin::parked::Ticket;
use crate::plugin::sessions::SessionName;
use crate::question::Answer;

/// Something for the broker's thread.
#[derive(Debug)]
pub enum Errand {
    /// A parked client's question has been answered.
    Answered(Ticket, Answer),
    /// A parked client's password has been compared with a local hash.
    PasswordChecked(Ticket, bool),
    /// The API was asked about a connected client in the background and refused it, with this status.
    Revoked(SessionName, u16),
}

/// Errands that one tick runs, so that a thousand answers do not keep other clients waiting.
const BATCH: usize = 128;

/// How often the bell is rung until the broker's loop has come round. A signal that falls between the tick
/// and the loop's wait is lost, so one is not enough.
const RING_EVERY: Duration = Duration::from_millis(1);

/// The errands of one plugin.
pub struct Errands {
    host: Arc<dyn Broker>,
    queue: Mutex<Vec<Errand>>,
    rope: Arc<Rope>,
    bell: OnceCell<Bell>,
}

impl Errands {
    /// Nothing to do yet.
    pub fn new(host: Arc<dyn Broker>) -> Self {
        Self { host, queue: Mutex::default(), rope: Arc::default(), bell: OnceCell::new() }
    }

    /// Starts the thread that rings until the broker's loop has heard, unless it runs already.
    pub fn hang_up_bell(&self) -> io::Result<()> {
        self.bell.get_or_try_init(|| Bell::start(&self.host, &self.rope)).map(drop)
    }

    /// Leaves an errand for the broker's thread. It is rung for, unless the loop has still to come round for
    /// one before it.
    pub fn leave(&self, errand: Errand) {
        self.queue().push(errand);
        if !self.rope.pulled.swap(true, Ordering::AcqRel) {
            self.host.wake();
            if let Some(bell) = self.bell.get() {
                bell.look();
            }
        }
    }

    /// Whether errands wait. Costs one load.
    pub fn any(&self) -> bool {
        self.rope.pulled.load(Ordering::Acquire)
    }

    /// The errands to run now. If there are more, the bell goes on ringing.
    pub fn take(&self) -> Vec<Errand> {
        if !self.any() {
            return Vec::new();
        }
        let mut queue = self.queue();
        if queue.len() <= BATCH {
            self.rope.pulled.store(false, Ordering::Release);
            return std::mem::take(&mut *queue);
        }
        queue.drain(..BATCH).collect()
    }

    /// Takes the revocations that `of` chooses, and only those.
    pub fn take_revoked(&self, of: impl Fn(&SessionName) -> bool) -> Vec<(SessionName, u16)> {
        let mut taken = Vec::new();
        self.queue().retain(|errand| match errand {
            Errand::Revoked(session, status) if of(session) => {
                taken.push((session.clone(), *status));
                false
            }
            _ => true,
        });
        taken
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Errand>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that wakes the broker's loop again and again while the rope is pulled.
struct Bell {
    rope: Arc<Rope>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Rope {
    /// Errands wait.
    pulled: AtomicBool,
    taken_down: AtomicBool,
}

impl Bell {
    fn start(host: &Arc<dyn Broker>, rope: &Arc<Rope>) -> io::Result<Self> {
        let (in_thread, waked) = (Arc::clone(rope), Arc::clone(host));
        let thread = host.spawn(Box::new(move || in_thread.work(&*waked)))?;
        Ok(Self { rope: Arc::clone(rope), thread: Some(thread) })
    }

    /// Has the thread look at the rope. Costs nothing while it does so by itself.
    fn look(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.rope.taken_down.store(true, Ordering::Release);
        self.look();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Rope {
    fn work(&self, host: &dyn Broker) {
        while !self.taken_down.load(Ordering::Acquire) {
            if !self.pulled.load(Ordering::Acquire) {
                thread::park();
                continue;
            }
            // Not to be cut short: while errands come one after the other, this is what spares a switch to
            // this thread and back for each of them.
            thread::sleep(RING_EVERY);
            if self.pulled.load(Ordering::Acquire) {
                host.wake();
            }
        }
    }
}
