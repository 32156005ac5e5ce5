//! Tasks for the broker's thread. Other threads push them, the next tick drains them, and a thread of its own wakes the
//! broker's loop so that the tick comes soon.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::broker::Broker;
use crate::util::Lock;

/// The most tasks that one tick runs, so that a thousand answers do not keep other clients waiting.
const BATCH: usize = 128;

/// How often the broker is woken while tasks are pending. A signal that arrives between the tick and the loop's wait is
/// lost, so one is not enough.
const WAKE_EVERY: Duration = Duration::from_millis(1);

/// The tasks of one plugin, the oldest first.
pub struct MainQueue<T> {
    broker: Arc<dyn Broker>,
    tasks: Lock<VecDeque<T>>,
    signal: Arc<Signal>,
    waking: OnceCell<Waking>,
}

impl<T> MainQueue<T> {
    /// A queue without tasks. Until [`Self::start_waking`] it wakes the broker only once for each task that finds it
    /// empty.
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, tasks: Lock::default(), signal: Arc::default(), waking: OnceCell::new() }
    }

    /// Starts the thread that wakes the broker while tasks are pending, unless it runs already.
    ///
    /// # Errors
    /// The system's error if it gives no thread.
    pub fn start_waking(&self) -> io::Result<()> {
        self.waking.get_or_try_init(|| Waking::start(&self.broker, &self.signal)).map(drop)
    }

    /// Starts that thread if the system gives one. Otherwise the broker is woken once, and its loop comes round by itself: that
    /// of 2.1 without websockets once a day.
    pub fn start_waking_if_possible(&self) {
        let _ = self.start_waking();
    }

    /// Adds a task, and wakes the broker unless an earlier task is pending and has done so.
    pub fn push(&self, task: T) {
        self.tasks.lock().push_back(task);
        self.call();
    }

    /// Gives back tasks that a tick has drained and has no time for. They come before all others.
    pub fn give_back(&self, mut rest: VecDeque<T>) {
        let mut tasks = self.tasks.lock();
        rest.append(&mut tasks);
        *tasks = rest;
        drop(tasks);
        self.call();
    }

    fn call(&self) {
        if !self.signal.pending.swap(true, Ordering::AcqRel) {
            self.broker.wake();
            if let Some(waking) = self.waking.get() {
                waking.look();
            }
        }
    }

    /// Whether tasks are pending. Costs one atomic load.
    pub fn any(&self) -> bool {
        self.signal.pending.load(Ordering::Acquire)
    }

    /// Takes the tasks that this tick runs, at most [`BATCH`], or as many as there is time for if the rest is given back. While
    /// there are more, the broker is woken for them.
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
}

/// The thread that wakes the broker every [`WAKE_EVERY`] while tasks are pending.
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

    /// Makes the waking thread look at the signal, if it sleeps.
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
            // This sleep must not be cut short by `look`: while tasks come one after the other, it spares a switch
            // to this thread and back for each of them.
            thread::sleep(WAKE_EVERY);
            if self.pending.load(Ordering::Acquire) {
                broker.wake();
            }
        }
    }
}
