//! The thread that asks: one single-threaded runtime, a queue in three classes, a bounded number of
//! requests in flight.
use std::collections::VecDeque;
use std::io;
use std::iter;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::Response;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::http::{Reply, Request, Target, drain};
use crate::fingerprint::Fingerprint;
use crate::question::{Kind, NoAnswer};
use crate::util::panics::caught;

/// Parked clients that may queue: what is beyond this many is refused at once. At 64 requests in flight
/// and 20 ms each this is what 30 s can serve.
const PARKED_BOUND: usize = 100_000;

/// Questions that nobody waits for that may queue, in each class: what is beyond is not asked. A sweep asks
/// about every session.
const UNAWAITED_BOUND: usize = 200_000;

/// How long a connection may take to deliver the rest of an answer that nobody waits for.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// Who waits for an answer; in this order questions are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nobody, and nobody will: an old verdict is asked again.
    Background,
    /// Nobody yet.
    Ahead,
    /// A client that may come in, and is parked until it can do so without stopping others.
    Prepared,
    /// A client that is parked beside the broker's loop.
    Parked,
    /// The broker, and with it every client.
    Frozen,
}

/// Where answers go, and where it is said how to ask. Called from the worker's thread.
pub trait Inbox: Send + Sync {
    /// The API to ask now.
    fn target(&self) -> Arc<Target>;
    /// A reply. `false` if it came from an API that is no longer the one to ask: then it was not taken,
    /// and the question is asked again.
    fn file(&self, key: Fingerprint, reply: Reply, from: &Arc<Target>) -> bool;
    /// A reply that nobody waits for: something to remember.
    fn learn(&self, key: Fingerprint, kind: Kind, reply: Reply, from: &Arc<Target>);
    /// Whoever waits for this question has waited long enough. It goes on without them: what still comes
    /// is filed, for the next try.
    fn overdue(&self, key: Fingerprint, limit: Duration);
    /// The question is over without a reply.
    fn abandon(&self, key: Fingerprint, reason: NoAnswer);
    /// There is a bug at this place in the source. The worker goes on.
    fn worker_panicked(&self, place: &str);
}

/// A question on its way. However it ends, on a panic and at a stop too, the inbox hears of it.
pub struct Job {
    request: Request,
    inbox: Arc<dyn Inbox>,
    filed: bool,
}

impl Job {
    /// A question with its request body, asked for this client.
    pub fn new(
        key: Fingerprint,
        client: Fingerprint,
        kind: Kind,
        body: Vec<u8>,
        inbox: Arc<dyn Inbox>,
    ) -> Self {
        Self { request: Request { key, client, kind, body }, inbox, filed: false }
    }

    fn abandon(mut self, reason: NoAnswer) {
        self.filed = true;
        self.inbox.abandon(self.request.key, reason);
    }

    async fn run(mut self) {
        let Self { request, inbox, .. } = &self;
        loop {
            let target = inbox.target();
            let overdue = || inbox.overdue(request.key, target.config.timeout);
            let asked = target.ask(request, overdue).await;
            if inbox.file(request.key, asked.reply, &target) {
                self.filed = true;
                self.finish(&target, asked.response, asked.probes).await;
                return;
            }
        }
    }

    /// What nobody waits for: the rest of the answer, and the question to endpoints that may be back.
    async fn finish(&self, target: &Arc<Target>, response: Option<Response>, probes: Vec<usize>) {
        if let Some(response) = response {
            drain(response, DRAIN_LIMIT).await;
        }
        for index in probes {
            let Some(asked) = target.probe(&self.request, index).await else { continue };
            self.inbox.learn(self.request.key, self.request.kind, asked.reply, target);
            if let Some(response) = asked.response {
                drain(response, DRAIN_LIMIT).await;
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.filed {
            let reason = NoAnswer::NotAsked("the worker stopped".to_owned());
            self.inbox.abandon(self.request.key, reason);
        }
    }
}

enum Command {
    Ask(Job, Class),
    Hurry(Fingerprint, Class),
    Stop,
}

/// The running thread. Dropping it stops it: what is in flight is abandoned, nothing outlives the drop.
pub struct Worker {
    commands: UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a thread that takes no signals meant for the broker.
pub type Spawn<'a> = &'a dyn Fn(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

impl Worker {
    /// Starts the thread. Fails where the system gives no thread or no event queue.
    pub fn start(inbox: Arc<dyn Inbox>, spawn: Spawn<'_>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (commands, receiver) = unbounded_channel();
        let thread = spawn(Box::new(move || work(runtime, receiver, &inbox)))?;
        Ok(Self { commands, thread: Some(thread) })
    }

    /// Takes a question over.
    pub fn ask(&self, job: Job, class: Class) {
        // A closed channel gives the job back, and dropping it tells the inbox.
        let _ = self.commands.send(Command::Ask(job, class));
    }

    /// Somebody has come to wait for a question that may be queued: it moves up to this class.
    pub fn hurry(&self, key: Fingerprint, class: Class) {
        let _ = self.commands.send(Command::Hurry(key, class));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(runtime: Runtime, mut commands: UnboundedReceiver<Command>, inbox: &Arc<dyn Inbox>) {
    // A panic in here is a bug, but no reason to refuse everybody from now on: the jobs at hand are
    // abandoned as they are dropped, and the loop starts anew.
    while let Err(place) = caught(|| runtime.block_on(serve(&mut commands, inbox))) {
        inbox.worker_panicked(&place);
    }
    // Look-ups and requests are futures, so that this leaves nothing running.
    drop(runtime);
}

async fn serve(commands: &mut UnboundedReceiver<Command>, inbox: &Arc<dyn Inbox>) {
    let mut queue = Queue::default();
    let mut in_flight = JoinSet::new();
    loop {
        let target = inbox.target();
        queue.refuse_those_who_waited(target.config.max_wait, Instant::now());
        while let Some(job) = queue.next(in_flight.len(), target.config.max_requests) {
            in_flight.spawn(job.run());
        }
        let next_refusal = queue.oldest_parked().map(|queued| queued + target.config.max_wait);
        let until_refusal = async {
            match next_refusal {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Whatever has come meanwhile is taken in one go, so that a storm of questions does not cost a turn
            // of this loop for each.
            command = commands.recv() => {
                for command in iter::once(command).chain(iter::from_fn(|| commands.try_recv().ok().map(Some))) {
                    match command {
                        Some(Command::Ask(job, class)) => queue.add(job, class),
                        Some(Command::Hurry(key, class)) => queue.hurry(key, class),
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
            () = until_refusal => {}
        }
    }
}

#[derive(Default)]
struct Queue {
    frozen: VecDeque<Job>,
    parked: VecDeque<(Instant, Job)>,
    prepared: VecDeque<Job>,
    ahead: VecDeque<Job>,
    background: VecDeque<Job>,
}

impl Queue {
    fn add(&mut self, job: Job, class: Class) {
        match class {
            Class::Frozen => self.frozen.push_back(job),
            Class::Parked if self.parked.len() < PARKED_BOUND => self.parked.push_back((Instant::now(), job)),
            Class::Prepared if self.prepared.len() < UNAWAITED_BOUND => self.prepared.push_back(job),
            Class::Ahead if self.ahead.len() < UNAWAITED_BOUND => self.ahead.push_back(job),
            Class::Background if self.background.len() < UNAWAITED_BOUND => self.background.push_back(job),
            _ => job.abandon(NoAnswer::Busy),
        }
    }

    fn hurry(&mut self, key: Fingerprint, class: Class) {
        let is_it = |job: &Job| job.request.key == key;
        let take =
            |list: &mut VecDeque<Job>| list.iter().position(is_it).and_then(|index| list.remove(index));
        let parked = self.parked.iter().position(|(_, job)| is_it(job));
        let parked = parked.and_then(|index| self.parked.remove(index)).map(|(_, job)| job);
        let found = parked
            .or_else(|| take(&mut self.prepared))
            .or_else(|| take(&mut self.ahead))
            .or_else(|| take(&mut self.background));
        if let Some(job) = found {
            self.add(job, class);
        }
    }

    /// The next question that may be sent while so many are. What the broker is frozen on may go over
    /// the bound by a quarter, so that it never queues behind the others.
    fn next(&mut self, in_flight: usize, bound: usize) -> Option<Job> {
        if in_flight < bound + bound.div_ceil(4)
            && let Some(job) = self.frozen.pop_front()
        {
            return Some(job);
        }
        if in_flight >= bound {
            return None;
        }
        let parked = self.parked.pop_front().map(|(_, job)| job);
        let awaited = parked.or_else(|| self.prepared.pop_front()).or_else(|| self.ahead.pop_front());
        // What nobody will wait for leaves room for what somebody might.
        awaited.or_else(|| if in_flight < bound.div_ceil(4) { self.background.pop_front() } else { None })
    }

    fn oldest_parked(&self) -> Option<Instant> {
        self.parked.front().map(|(queued, _)| *queued)
    }

    fn refuse_those_who_waited(&mut self, limit: Duration, now: Instant) {
        while self.oldest_parked().is_some_and(|queued| now.duration_since(queued) >= limit) {
            if let Some((_, job)) = self.parked.pop_front() {
                job.abandon(NoAnswer::Busy);
            }
        }
    }
}
