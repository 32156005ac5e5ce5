//! A question on its way: asked alone, or with others in one request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{self, Now};
use super::http::{Crowd, Reply, Request, Target, Told};
use super::places::Place;
use super::queue::{LONGEST_TOGETHER, Priority, Queued, Road};
use super::wire;
use crate::fingerprint::{About, Fingerprint, Source};
use crate::question::{Kind, NoAnswer, OwnedQuestion};
use crate::topic::GrantsPool;

/// How long a connection may take to deliver the rest of an answer that nobody waits for.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

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
    /// The question is not on its way to the API, and all who waited for it have left. `false` if somebody has come for it
    /// since; else it is over.
    fn give_up(&self, key: Fingerprint) -> bool;
    /// With which priority a question is asked by now, if it is on its way.
    fn priority(&self, key: Fingerprint) -> Option<Priority>;
    /// So many questions went in one request, which was answered or not.
    fn went_together(&self, questions: usize, is_answered: bool);
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
    road: Road,
    /// The bytes that it takes in a request, where it may go with others.
    sent_bytes: usize,
    /// When it was first sent, if that was with others and in vain.
    sent: Option<Instant>,
    /// Whether the inbox was told how it ended.
    filed: bool,
}

impl Job {
    /// A question of `source`. From now on it ends with a call of `inbox`.
    pub fn new(subject: Subject, source: Source, question: OwnedQuestion, inbox: Arc<dyn Inbox>) -> Self {
        let road = match subject.kind {
            Kind::Connect => Road::Login,
            Kind::Access => Road::Topic,
        };
        Self { subject, source, question, inbox, road, sent_bytes: 0, sent: None, filed: false }
    }

    /// Lets it go with others where questions do, unless it is long, or somebody of it may have spoilt such
    /// a request.
    pub(super) fn may_go_together(&mut self, target: &Target) {
        if self.road == Road::Topic && target.lets_go_together(self.parties(), Instant::now()) {
            self.sent_bytes = wire::length(&self.question.as_question());
            if self.sent_bytes <= LONGEST_TOGETHER {
                self.road = Road::Together;
            }
        }
    }

    /// Whom it is asked for, and whom it is about.
    fn parties(&self) -> [[u64; 2]; 2] {
        [self.source, self.subject.client.words()]
    }

    /// When its time is up, if it was sent before.
    pub(super) fn is_due(&self, timeout: Duration) -> Option<Instant> {
        self.sent.map(|sent| sent + timeout)
    }

    /// Tells the inbox that it is over for this reason.
    pub(super) fn abandon(mut self, reason: NoAnswer) {
        self.filed = true;
        self.inbox.abandon(self.subject.key, reason);
    }

    /// Ends it, since the inbox was told that it is over.
    pub(super) fn end(mut self) {
        self.filed = true;
    }

    /// Asks it alone.
    pub(super) async fn run(mut self, place: Place) {
        let question = self.question.as_question();
        // The body is made now: a queue of bodies would take several times the bytes.
        let [network, name] = self.source;
        let party = [network, name, self.subject.client.words()[0]];
        let request = Request { party, kind: self.subject.kind, body: wire::body(&question).into() };
        loop {
            let target = self.inbox.target();
            let overdue = || {
                self.inbox.overdue(self.subject.key, target.config.timeout);
                place.leave();
            };
            let mut asked = place.wait_for(target.ask(&request, self.sent.take(), overdue), &target).await;
            if let Some(body) = asked.body {
                let (answer, problem) = answer::read(&body, &question, self.inbox.pool(), Now::read());
                asked.reply.answer = answer.asked_at(asked.reply.sent);
                if let (Some(problem), Some((_, endpoint))) = (problem, &asked.response) {
                    target.note_bad_answer(request.kind, *endpoint, &problem);
                }
            }
            if self.inbox.file(self.subject, asked.reply, &target) {
                self.filed = true;
                place.leave();
                // Nothing waits for the rest.
                if let Some(response) = asked.response {
                    target.drain(request.kind, response, DRAIN_LIMIT).await;
                }
                return;
            }
        }
    }
}

/// Asks several questions in one request. Returns those that have to be asked alone: all of them, if there was no right
/// answer.
pub(super) async fn run_together(jobs: Vec<Job>, place: Place, inbox: Arc<dyn Inbox>) -> Vec<Job> {
    let (target, sent) = (inbox.target(), Instant::now());
    // Where `acl_url` is left alone, so are the questions that would go there.
    let (mut jobs, mut alone): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| !target.refuses(job.subject.kind, job.source, sent));
    if jobs.len() < 2 || !target.takes_many(sent) {
        alone.append(&mut jobs);
    } else {
        let body = wire::together(jobs.iter().map(|job| job.question.as_question()));
        let crowd = Crowd { parties: jobs.iter().map(Job::parties).collect(), body: body.into() };
        let told = place.wait_for(target.ask_together(&crowd), &target).await;
        inbox.went_together(jobs.len(), told.is_some());
        match told {
            Some(Told { replies, from }) => {
                for (mut job, (mut reply, more)) in jobs.into_iter().zip(replies) {
                    if let Some(more) = more.filter(|_| target.config.answer_rules) {
                        let question = job.question.as_question();
                        let (answer, problem) =
                            answer::read_object(&more, &question, inbox.pool(), Now::read());
                        reply.answer = answer.asked_at(reply.sent);
                        problem.into_iter().for_each(|problem| target.note_bad_result(from, &problem));
                    }
                    job.filed = inbox.file(job.subject, reply, &target);
                    if !job.filed {
                        alone.push(job);
                    }
                }
            }
            None => {
                jobs.iter_mut().for_each(|job| job.sent = Some(sent));
                alone.append(&mut jobs);
            }
        }
    }
    alone.iter_mut().for_each(|job| job.road = Road::Topic);
    alone
}

impl Queued for Job {
    fn key(&self) -> Fingerprint {
        self.subject.key
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.question.bytes()
    }

    fn road(&self) -> Road {
        self.road
    }

    fn sent_bytes(&self) -> usize {
        self.sent_bytes
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
