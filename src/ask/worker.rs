//! The thread that asks the API: a single-threaded runtime, a queue by priority, a bounded number of requests in
//! flight.

use std::collections::BTreeMap;
use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinError, JoinSet};

use super::inbox::Inbox;
use super::job::{Job, run_together};
use super::places::Places;
use super::queue::{Priority, Queue, Queued, Road, Room, Together};
use crate::broker::Spawn;
use crate::fingerprint::{Fingerprint, Source};
use crate::question::NoAnswer;
use crate::util::panics::{caught, last_place};
use crate::util::{Lock, sleep_until};

/// What other threads tell the worker's thread.
enum Message {
    /// Queue this question.
    Ask(Job, Priority),
    /// Somebody else waits for this question, with this priority and from there.
    Join(Fingerprint, Priority, Source),
    /// Nobody waits for this question any more.
    Dequeue(Fingerprint),
    /// Tell those who have left this question that it was not asked, if it is still queued.
    LetGo(Fingerprint),
    /// Whoever was sending many questions has done so.
    AllHaveCome,
    Stop,
}

/// The running thread. Stopping or dropping it abandons all questions and waits for the thread's end.
pub struct Worker {
    messages: UnboundedSender<Message>,
    callers: Arc<Callers>,
    runtime: Handle,
    thread: Lock<Option<JoinHandle<()>>>,
}

/// What the threads that ask are just doing.
#[derive(Default)]
struct Callers {
    /// How many are sending many questions.
    sending: AtomicUsize,
    /// How many are the broker's, and wait for the answer about a topic.
    waiting: AtomicUsize,
}

/// The broker waits for the answer about a topic until this is dropped.
pub struct Waiting<'a>(&'a Worker);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.callers.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Somebody is just sending many questions about topics. Those that nobody waits for yet go when this is dropped, or as
/// soon as they fill a request. Not to be held while waiting for an answer.
pub struct Sending<'a>(&'a Worker);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.callers.sending.fetch_sub(1, Ordering::Relaxed);
        let _ = self.0.messages.send(Message::AllHaveCome);
    }
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's error if it gives no thread or no event queue.
    pub fn start(inbox: Arc<Inbox>, spawn: Spawn<'_>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (messages, receiver) = unbounded_channel();
        let callers = Arc::<Callers>::default();
        let their_doing = Arc::clone(&callers);
        let thread = spawn(Box::new(move || work(runtime, receiver, &their_doing, &inbox)))?;
        Ok(Self { messages, callers, runtime: handle, thread: Lock::new(Some(thread)) })
    }

    /// Says that many questions are about to be sent.
    pub fn sends_many(&self) -> Sending<'_> {
        self.callers.sending.fetch_add(1, Ordering::Relaxed);
        Sending(self)
    }

    /// Says that the broker waits for the answer about a topic.
    pub fn broker_waits(&self) -> Waiting<'_> {
        self.callers.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Runs something else on the thread in the background, until it ends or the worker is stopped.
    pub fn run_in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// Ends the thread, and with it all that runs on it. Not to be called on it.
    pub fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Takes a question over, or gives it back if the thread has stopped.
    pub fn ask(&self, job: Job, priority: Priority) -> Option<Job> {
        match self.messages.send(Message::Ask(job, priority)) {
            Err(SendError(Message::Ask(job, _))) => Some(job),
            _ => None,
        }
    }

    /// All who waited for a question have left: it leaves the queue, if it is still there.
    pub fn dequeue(&self, key: Fingerprint) {
        let _ = self.messages.send(Message::Dequeue(key));
    }

    /// Some who waited for a question have left: they are told that it was not asked, if it is still queued.
    pub fn let_go(&self, key: Fingerprint) {
        let _ = self.messages.send(Message::LetGo(key));
    }

    /// Somebody else has come to wait for a question that may be queued: it moves up to this priority, or to where less
    /// waits.
    pub fn join(&self, key: Fingerprint, priority: Priority, source: Source) {
        let _ = self.messages.send(Message::Join(key, priority, source));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(runtime: Runtime, mut messages: UnboundedReceiver<Message>, callers: &Callers, inbox: &Arc<Inbox>) {
    // A panic in here is a bug, but no reason to refuse all clients from now on: the jobs at hand are abandoned as they
    // are dropped, and the loop starts anew.
    while let Err(place) = caught(|| runtime.block_on(serve(&mut messages, callers, inbox))) {
        inbox.worker_panicked(&place);
    }
    // Requests are futures, so dropping the runtime leaves none running, nor anybody who waits for a name.
    drop(runtime);
}

/// What is under way on the thread.
struct Desk<'a> {
    inbox: &'a Arc<Inbox>,
    queue: Queue<Job>,
    /// The requests. Each ends with the questions that have to be asked alone now.
    in_flight: JoinSet<Vec<Job>>,
    places: Arc<Places>,
    /// Questions that were sent before and wait once more, by when their time is up.
    due: BTreeMap<(Instant, [u64; 2]), Fingerprint>,
}

async fn serve(messages: &mut UnboundedReceiver<Message>, callers: &Callers, inbox: &Arc<Inbox>) {
    let mut desk = Desk {
        inbox,
        queue: Queue::default(),
        in_flight: JoinSet::new(),
        places: Arc::default(),
        due: BTreeMap::new(),
    };
    loop {
        let max_wait = inbox.target().config.max_wait;
        turn_away(desk.queue.expired(Instant::now(), max_wait));
        desk.send(callers);
        let next_due = desk.due.first_key_value().map(|((at, _), _)| *at);
        let next = desk.queue.next_expiry(max_wait).into_iter().chain(next_due).min();
        tokio::select! {
            // All messages that have come meanwhile are taken in one go, so that a thousand questions do not cost a
            // thousand turns of this loop.
            message = messages.recv() => {
                for message in iter::once(message).chain(iter::from_fn(|| messages.try_recv().ok().map(Some))) {
                    match message {
                        Some(Message::Stop) | None => return,
                        Some(message) => desk.take(message),
                    }
                }
            }
            Some(ended) = desk.in_flight.join_next() => {
                desk.finish(ended);
                while let Some(ended) = desk.in_flight.try_join_next() {
                    desk.finish(ended);
                }
            }
            () = desk.places.changed.notified() => {}
            () = sleep_until(next) => {}
        }
        desk.tell_whose_time_is_up();
    }
}

impl Desk<'_> {
    fn take(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Ask(mut job, priority) => {
                job.choose_road(&self.inbox.target());
                turn_away(self.queue.push(job, priority, now));
            }
            Message::Dequeue(key) => {
                if self.queue.contains(key)
                    && self.inbox.give_up(key)
                    && let Some(job) = self.queue.remove(key)
                {
                    job.end();
                }
            }
            Message::LetGo(key) => {
                if self.queue.contains(key) {
                    self.inbox.let_go(key);
                }
            }
            Message::Join(key, priority, source) => {
                turn_away(self.queue.join(key, priority, source, now));
            }
            Message::AllHaveCome | Message::Stop => {}
        }
    }

    /// Sends what may be sent.
    fn send(&mut self, callers: &Callers) {
        if self.queue.is_empty() {
            return;
        }
        let (target, now) = (self.inbox.target(), Instant::now());
        let (config, limits) = (&target.config, target.at_a_time(now));
        let takes_many = target.takes_many(now);
        // The room is worked out anew for each, but for nobody if nobody waits.
        while !self.queue.is_empty() {
            let room = Room {
                in_flight: (self.in_flight.len() + target.second_tries(), config.max_requests),
                asked: self.places.taken(),
                limits,
                broker_waits: callers.waiting.load(Ordering::Relaxed) > 0,
                together: takes_many.then(|| Together {
                    most: config.acl_batch_size,
                    are_coming: callers.sending.load(Ordering::Relaxed) > 0,
                    is_crowded: self.places.is_crowded(),
                }),
            };
            let Some((first, mut others)) = self.queue.pop(&room) else { return };
            if !self.due.is_empty()
                && let Some(at) = first.due_at(config.timeout)
            {
                self.due.remove(&(at, first.key().words()));
            }
            if others.is_empty() {
                let place =
                    self.places.take(if first.road() == Road::Login { Road::Login } else { Road::Topic });
                self.in_flight.spawn(async move {
                    first.run(place).await;
                    Vec::new()
                });
            } else {
                others.insert(0, first);
                let place = self.places.take(Road::Together);
                self.in_flight.spawn(run_together(others, place, Arc::clone(self.inbox)));
            }
        }
    }

    /// A request has ended. What went with others in vain is asked alone.
    fn finish(&mut self, ended: Result<Vec<Job>, JoinError>) {
        let again = match ended {
            Ok(again) => again,
            Err(error) => {
                // The jobs are gone and have told the inbox; this tells the operator.
                if error.is_panic() {
                    self.inbox.worker_panicked(&last_place());
                }
                return;
            }
        };
        let timeout = self.inbox.target().config.timeout;
        for job in again {
            let key = job.key();
            if self.inbox.give_up(key) {
                job.end();
                continue;
            }
            if let Some(at) = job.due_at(timeout) {
                self.due.insert((at, key.words()), key);
            }
            // The broker may have come for it meanwhile.
            let priority = self.inbox.priority(key).unwrap_or(Priority::Speculative);
            turn_away(self.queue.push(job, priority, Instant::now()));
        }
    }

    /// Tells those who wait for a question that was sent before, and waits to be sent once more, when its time is up.
    fn tell_whose_time_is_up(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            if self.queue.contains(key) {
                self.inbox.overdue(key, self.inbox.target().config.timeout);
            }
        }
    }
}

/// Ends questions that had no room in the queue, or waited there for too long.
fn turn_away(jobs: impl IntoIterator<Item = Job>) {
    for job in jobs {
        job.abandon(NoAnswer::Busy);
    }
}
