//! What only the broker's thread may do: tasks that other threads push, the next tick drains, and a thread that makes
//! the broker's loop come round for them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::broker::Broker;
use crate::util::Lock;

/// Tasks that one tick runs, so that a thousand answers do not keep other clients waiting.
const BATCH: usize = 128;

/// How often the broker is woken until its loop has come round. A signal that falls between the tick and the loop's
/// wait is lost, so one is not enough.
const WAKE_EVERY: Duration = Duration::from_millis(1);

/// The tasks of one plugin.
pub struct MainQueue<T> {
    broker: Arc<dyn Broker>,
    tasks: Lock<VecDeque<T>>,
    signal: Arc<Signal>,
    waking: OnceCell<Waking>,
}

impl<T> MainQueue<T> {
    /// A queue without tasks. It wakes once for each that finds it empty, until [`Self::start_waking`].
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, tasks: Lock::default(), signal: Arc::default(), waking: OnceCell::new() }
    }

    /// Starts the thread that wakes the broker until its loop has come round, unless it runs already.
    ///
    /// # Errors
    /// Those of the system, which may give no thread.
    pub fn start_waking(&self) -> io::Result<()> {
        self.waking.get_or_try_init(|| Waking::start(&self.broker, &self.signal)).map(drop)
    }

    /// Adds a task. The broker is woken for it, unless its loop has still to come round for one before it.
    pub fn push(&self, task: T) {
        self.tasks.lock().push_back(task);
        if !self.signal.pending.swap(true, Ordering::AcqRel) {
            self.broker.wake();
            if let Some(waking) = self.waking.get() {
                waking.look();
            }
        }
    }

    /// Whether tasks wait. Costs one load.
    pub fn any(&self) -> bool {
        self.signal.pending.load(Ordering::Acquire)
    }

    /// Takes the tasks to run now. If there are more, the broker goes on being woken.
    pub fn drain(&self) -> VecDeque<T> {
        if !self.any() {
            return VecDeque::new();
        }
        let mut tasks = self.tasks.lock();
        if tasks.len() <= BATCH {
            self.signal.pending.store(false, Ordering::Release);
            return std::mem::take(&mut *tasks);
        }
        tasks.drain(..BATCH).collect()
    }

    /// Takes only the tasks that `chosen` chooses.
    pub fn take_if(&self, mut chosen: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut tasks = self.tasks.lock();
        let (taken, left): (_, Vec<T>) =
            std::mem::take(&mut *tasks).into_iter().partition(|task| chosen(task));
        *tasks = left.into();
        taken
    }
}

/// The thread that wakes the broker's loop again and again while tasks are pending.
struct Waking {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Signal {
    pending: AtomicBool,
    stopping: AtomicBool,
}

impl Waking {
    fn start(broker: &Arc<dyn Broker>, signal: &Arc<Signal>) -> io::Result<Self> {
        let (in_thread, woken) = (Arc::clone(signal), Arc::clone(broker));
        let thread = broker.spawn(Box::new(move || in_thread.wake_while_pending(&*woken)))?;
        Ok(Self { signal: Arc::clone(signal), thread: Some(thread) })
    }

    /// Has the thread look at the signal. Costs nothing while it does so by itself.
    fn look(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Waking {
    fn drop(&mut self) {
        self.signal.stopping.store(true, Ordering::Release);
        self.look();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Signal {
    fn wake_while_pending(&self, broker: &dyn Broker) {
        while !self.stopping.load(Ordering::Acquire) {
            if !self.pending.load(Ordering::Acquire) {
                thread::park();
                continue;
            }
            // Not to be cut short: while tasks come one after the other, this is what spares a switch to
            // this thread and back for each of them.
            thread::sleep(WAKE_EVERY);
            if self.pending.load(Ordering::Acquire) {
                broker.wake();
            }
        }
    }
}
