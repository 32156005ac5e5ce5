//! The thread that asks the API: a single-threaded runtime, a queue by priority, a bounded number of requests in
//! flight.

use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::answer::{self, Now};
use super::http::{Reply, Request, Target};
use super::queue::{Priority, Queue, Queued, Room};
use super::wire::body;
use crate::fingerprint::{About, Fingerprint, Source};
use crate::question::{Kind, NoAnswer, OwnedQuestion};
use crate::topic::GrantsPool;
use crate::util::Lock;
use crate::util::panics::caught;

/// How long a connection may take to deliver the rest of an answer that nobody waits for.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// How often a question that takes long is looked at, once it has taken long enough to hang.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a verdict is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// The fingerprint of the question.
    pub key: Fingerprint,
    /// The fingerprint of the client that the question is about.
    pub client: Fingerprint,
    /// Whom the question is about, to be forgotten by.
    pub about: About,
    /// Whether the question is about a login or a topic.
    pub kind: Kind,
}

/// Takes what becomes of questions, and says which API to ask. The worker's thread calls it.
pub trait Inbox: Send + Sync {
    /// The API to ask now.
    fn target(&self) -> Arc<Target>;
    /// The rules that came with answers.
    fn pool(&self) -> &GrantsPool;
    /// Takes a reply, remembers its verdict and tells all who wait. Returns `false` if the API that it came `from` is
    /// no longer the one to ask, or if whatever it has said of that client was forgotten since the question was sent: then
    /// nothing was taken, and the question has to be asked again.
    fn file(&self, subject: Subject, reply: Reply, from: &Arc<Target>) -> bool;
    /// Tells all who wait that the question's time, `limit`, is up. The question goes on, so that a late answer is
    /// remembered for the next try.
    fn overdue(&self, key: Fingerprint, limit: Duration);
    /// Tells all who wait that the question has ended without a reply.
    fn abandon(&self, key: Fingerprint, reason: NoAnswer);
    /// The question has not been sent, and all who waited for it have left. `false` if somebody has come for it since;
    /// else it is over.
    fn give_up(&self, key: Fingerprint) -> bool;
    /// There is a bug at this place in the source. The worker goes on.
    fn worker_panicked(&self, place: &str);
}

/// A question on its way. However it ends, the inbox is told, also after a panic and when the worker stops.
pub struct Job {
    subject: Subject,
    /// The network and username that it is asked for.
    source: Source,
    question: OwnedQuestion,
    inbox: Arc<dyn Inbox>,
    /// Whether the inbox was told how it ended.
    filed: bool,
}

impl Job {
    /// A question of `source`. From now on it ends with a call of `inbox`.
    pub fn new(subject: Subject, source: Source, question: OwnedQuestion, inbox: Arc<dyn Inbox>) -> Self {
        Self { subject, source, question, inbox, filed: false }
    }

    fn abandon(mut self, reason: NoAnswer) {
        self.filed = true;
        self.inbox.abandon(self.subject.key, reason);
    }

    async fn run(mut self, place: Place) {
        let question = self.question.as_question();
        // The body is made now: a queue of bodies would take several times the bytes.
        let [network, name] = self.source;
        let party = [network, name, self.subject.client.words()[0]];
        let request = Request { party, kind: self.subject.kind, body: body(&question).into() };
        let place = Lock::new(place);
        let leave = || place.lock().leave();
        loop {
            let target = self.inbox.target();
            let overdue = || {
                self.inbox.overdue(self.subject.key, target.config.timeout);
                leave();
            };
            let mut asking = std::pin::pin!(target.ask(&request, overdue));
            let sent = Instant::now();
            let mut look_after = target.hangs_after(request.kind, sent);
            let mut asked = loop {
                tokio::select! {
                    asked = &mut asking => break asked,
                    () = sleep(look_after), if !place.lock().has_left => {
                        look_after = LOOK_AGAIN;
                        let others = place.lock().others_that_left();
                        if target.hangs(request.kind, sent, others, Instant::now()) {
                            leave();
                        }
                    }
                }
            };
            if let Some(body) = asked.body {
                let (answer, problem) = answer::read(&body, &question, self.inbox.pool(), Now::read());
                asked.reply.answer = answer;
                if let (Some(problem), Some((_, endpoint))) = (problem, &asked.response) {
                    target.note_bad_body(request.kind, *endpoint, &problem);
                }
            }
            if self.inbox.file(self.subject, asked.reply, &target) {
                self.filed = true;
                leave();
                // Nothing waits for the rest.
                if let Some(response) = asked.response {
                    target.drain(request.kind, response, DRAIN_LIMIT).await;
                }
                return;
            }
        }
    }
}

/// How many questions of each kind hold a place among those that are being asked.
#[derive(Default)]
struct Places {
    taken: [AtomicUsize; 2],
    /// How many have left theirs and are still on their way.
    left: [AtomicUsize; 2],
    /// Somebody has left.
    changed: Notify,
}

/// A question's place among those of its kind. It is left when the question hangs, and at the latest when its time is
/// over: one that hangs holds up nobody else.
struct Place {
    of: Arc<Places>,
    kind: Kind,
    has_left: bool,
}

impl Places {
    fn take(self: &Arc<Self>, kind: Kind) -> Place {
        self.taken[kind as usize].fetch_add(1, Ordering::Relaxed);
        Place { of: Arc::clone(self), kind, has_left: false }
    }
}

impl Place {
    /// Makes room for another question while this one goes on.
    fn leave(&mut self) {
        if !self.has_left {
            self.has_left = true;
            self.of.left[self.kind as usize].fetch_add(1, Ordering::Relaxed);
            self.of.taken[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
            self.of.changed.notify_one();
        }
    }

    /// How many of its kind have left their places and are still on their way.
    fn others_that_left(&self) -> usize {
        self.of.left[self.kind as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counter = if self.has_left { &self.of.left } else { &self.of.taken };
        counter[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queued for Job {
    fn key(&self) -> Fingerprint {
        self.subject.key
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.question.bytes()
    }

    fn kind(&self) -> Kind {
        self.subject.kind
    }

    fn source(&self) -> Source {
        self.source
    }

    fn ask_for(&mut self, source: Source) {
        self.source = source;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.filed {
            let reason = NoAnswer::NotAsked("the worker stopped".to_owned());
            self.inbox.abandon(self.subject.key, reason);
        }
    }
}

/// What other threads tell the worker's thread.
enum Command {
    /// Queue this question.
    Ask(Job, Priority),
    /// Somebody else waits for this question, with this priority and from there.
    Join(Fingerprint, Priority, Source),
    /// Nobody waits for this question any more.
    Forget(Fingerprint),
    Stop,
}

/// The running thread. Stopping or dropping it abandons all questions and waits for the thread's end.
pub struct Worker {
    commands: UnboundedSender<Command>,
    runtime: Handle,
    thread: Lock<Option<JoinHandle<()>>>,
}

/// A function that starts a thread which takes none of the signals that are meant for the broker.
pub type Spawn<'a> = &'a dyn Fn(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's error if it gives no thread or no event queue.
    pub fn start(inbox: Arc<dyn Inbox>, spawn: Spawn<'_>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (commands, receiver) = unbounded_channel();
        let thread = spawn(Box::new(move || work(runtime, receiver, &inbox)))?;
        Ok(Self { commands, runtime: handle, thread: Lock::new(Some(thread)) })
    }

    /// Runs something else on the thread, beside the questions, until it ends or the worker is stopped.
    pub fn run_beside(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// Ends the thread, and with it all that runs on it. Not to be called on it.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Takes a question over, or gives it back if the thread has stopped.
    pub fn ask(&self, job: Job, priority: Priority) -> Option<Job> {
        match self.commands.send(Command::Ask(job, priority)) {
            Err(SendError(Command::Ask(job, _))) => Some(job),
            _ => None,
        }
    }

    /// All who waited for a question have left: it is forgotten, if it is still queued.
    pub fn forget(&self, key: Fingerprint) {
        let _ = self.commands.send(Command::Forget(key));
    }

    /// Somebody else has come to wait for a question that may be queued: it moves up to this priority, or to where less
    /// waits.
    pub fn join(&self, key: Fingerprint, priority: Priority, source: Source) {
        let _ = self.commands.send(Command::Join(key, priority, source));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(runtime: Runtime, mut commands: UnboundedReceiver<Command>, inbox: &Arc<dyn Inbox>) {
    // A panic in here is a bug, but no reason to refuse all clients from now on: the jobs at hand are abandoned as they
    // are dropped, and the loop starts anew.
    while let Err(place) = caught(|| runtime.block_on(serve(&mut commands, inbox))) {
        inbox.worker_panicked(&place);
    }
    // Requests are futures, so dropping the runtime leaves none running, nor anybody who waits for a name.
    drop(runtime);
}

async fn serve(commands: &mut UnboundedReceiver<Command>, inbox: &Arc<dyn Inbox>) {
    let mut queue = Queue::default();
    let mut in_flight = JoinSet::new();
    let places = Arc::new(Places::default());
    loop {
        let target = inbox.target();
        let config = &target.config;
        turn_away(queue.expired(Instant::now(), config.max_wait));
        let limits = target.at_a_time(Instant::now());
        let room = |in_flight: &JoinSet<()>| Room {
            in_flight: (in_flight.len() + target.second_tries(), config.max_requests),
            asked: places.taken.each_ref().map(|taken| taken.load(Ordering::Relaxed)),
            limits,
        };
        while let Some(job) = queue.pop(&room(&in_flight)) {
            let place = places.take(job.subject.kind);
            in_flight.spawn(job.run(place));
        }
        let next_refusal = queue.next_expiry(config.max_wait);
        let until_refusal = async {
            match next_refusal {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // All commands that have come meanwhile are taken in one go, so that a thousand questions do not cost a
            // thousand turns of this loop.
            command = commands.recv() => {
                for command in iter::once(command).chain(iter::from_fn(|| commands.try_recv().ok().map(Some))) {
                    match command {
                        Some(Command::Ask(job, priority)) => turn_away(queue.push(job, priority, Instant::now())),
                        Some(Command::Forget(key)) => {
                            if queue.contains(key) && inbox.give_up(key) && let Some(mut job) = queue.remove(key) {
                                job.filed = true;
                            }
                        }
                        Some(Command::Join(key, priority, source)) => {
                            turn_away(queue.join(key, priority, source, Instant::now()));
                        }
                        Some(Command::Stop) | None => return,
                    }
                }
            }
            Some(ended) = in_flight.join_next() => {
                for ended in iter::once(ended).chain(iter::from_fn(|| in_flight.try_join_next())) {
                    // The job is gone and has told the inbox; this tells the operator.
                    if ended.is_err_and(|error| error.is_panic()) {
                        inbox.worker_panicked("a question");
                    }
                }
            }
            () = places.changed.notified() => {}
            () = until_refusal => {}
        }
    }
}

/// Ends questions that had no room in the queue, or waited there for too long.
fn turn_away(jobs: impl IntoIterator<Item = Job>) {
    for job in jobs {
        job.abandon(NoAnswer::Busy);
    }
}
