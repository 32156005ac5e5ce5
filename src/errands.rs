//! What only the broker's thread may do, collected on other threads and run at its next tick, and the bell
//! that brings that tick about.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::host::Host;
use crate::parking::Ticket;
use crate::question::Answer;
use crate::sessions::SessionName;

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
    host: Arc<dyn Host>,
    waiting: AtomicBool,
    queue: Mutex<Vec<Errand>>,
    bell: OnceCell<Bell>,
}

impl Errands {
    /// Nothing to do yet.
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { host, waiting: AtomicBool::new(false), queue: Mutex::default(), bell: OnceCell::new() }
    }

    /// Starts the thread that rings until the broker's loop has heard, unless it runs already.
    pub fn hang_up_bell(&self) -> io::Result<()> {
        self.bell.get_or_try_init(|| Bell::start(&self.host)).map(drop)
    }

    /// Leaves an errand for the broker's thread and rings for it.
    pub fn leave(&self, errand: Errand) {
        self.queue().push(errand);
        self.ring();
    }

    /// Whether errands wait. Costs one load.
    pub fn any(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// The errands to run now. If there are more, it rings again.
    pub fn take(&self) -> Vec<Errand> {
        if !self.any() {
            return Vec::new();
        }
        let mut queue = self.queue();
        if queue.len() <= BATCH {
            self.waiting.store(false, Ordering::Release);
            if let Some(bell) = self.bell.get() {
                bell.heard();
            }
            return std::mem::take(&mut *queue);
        }
        let batch = queue.drain(..BATCH).collect();
        drop(queue);
        self.ring();
        batch
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

    fn ring(&self) {
        self.waiting.store(true, Ordering::Release);
        self.host.wake();
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Errand>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that wakes the broker's loop again and again while it should be ringing.
struct Bell {
    rope: Arc<Rope>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Rope {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Quiet,
    Ringing,
    TakenDown,
}

impl Bell {
    fn start(host: &Arc<dyn Host>) -> io::Result<Self> {
        let rope = Arc::new(Rope::default());
        let (in_thread, waked) = (Arc::clone(&rope), Arc::clone(host));
        let thread = host.spawn(Box::new(move || in_thread.work(&*waked)))?;
        Ok(Self { rope, thread: Some(thread) })
    }

    fn ring(&self) {
        self.rope.pull(State::Ringing);
    }

    fn heard(&self) {
        self.rope.pull(State::Quiet);
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.rope.pull(State::TakenDown);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Rope {
    fn pull(&self, state: State) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != State::TakenDown && *current != state {
            *current = state;
            self.changed.notify_one();
        }
    }

    fn work(&self, host: &dyn Host) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            state = match *state {
                State::TakenDown => return,
                State::Quiet => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                State::Ringing => {
                    let waited = self.changed.wait_timeout(state, RING_EVERY);
                    let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                    if *state == State::Ringing {
                        host.wake();
                    }
                    state
                }
            }
        }
    }
}
