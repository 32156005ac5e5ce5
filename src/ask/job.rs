//! A question on its way: asked alone, or with others in one request (`together`).

mod together;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{self, Now};
use super::http::{AskedFor, DRAIN_LIMIT, Exchange, Party, Reply, Request, Target};
use super::inbox::Inbox;
use super::places::RequestPlace;
use super::queue::{LONGEST_TOGETHER, Queued, Road};
use super::shared::Shared;
use super::store::Found;
use super::subject::Subject;
use super::superuser::{Finding, Topic};
use super::{dialect, wire};
use crate::fingerprint::{Fingerprint, Source};
use crate::question::{Answer, Kind, NoAnswer, OwnedQuestion, Question, Verdict};
pub(super) use together::run_together;

/// One try of a question that is asked alone.
#[derive(Clone, Copy)]
struct Try {
    /// When its time began.
    began: Instant,
    /// Whether what is remembered of its user was in vain before, and must not be used.
    asks_again: bool,
}

/// What came of a try.
enum Outcome {
    /// The API was not asked: its user may do everything, as was known before.
    Known(Found),
    /// The API was asked, if only about its user.
    Asked(Box<Exchange>),
}

/// A question on its way. However it ends, the inbox is told, also after a panic and when the worker stops.
pub struct Job {
    subject: Subject,
    /// The network and username that it is asked for.
    source: Source,
    question: OwnedQuestion,
    inbox: Arc<Inbox>,
    road: Road,
    /// Whether the API is to be asked, whatever the shared cache has.
    pub(super) asks_anew: bool,
    /// The bytes that it takes in a request, where it may go with others.
    sent_bytes: usize,
    /// When it was first sent, if that was with others and in vain.
    sent: Option<Instant>,
    /// Whether the inbox was told how it ended.
    filed: bool,
}

impl Job {
    /// A question of `source`. From now on it ends with a call of `inbox`.
    pub fn new(subject: Subject, source: Source, question: OwnedQuestion, inbox: Arc<Inbox>) -> Self {
        let road = match subject.kind {
            Kind::Connect => Road::Login,
            Kind::Access => Road::Topic,
        };
        Self {
            subject,
            source,
            question,
            inbox,
            road,
            asks_anew: false,
            sent_bytes: 0,
            sent: None,
            filed: false,
        }
    }

    /// Lets it go with others where questions do, unless it is long, or somebody of it may have spoilt such
    /// a request.
    pub(super) fn choose_road(&mut self, target: &Target) {
        if self.road == Road::Topic && target.lets_go_together(self.parties(), Instant::now()) {
            self.sent_bytes = wire::length(&self.question.as_question());
            if self.sent_bytes <= LONGEST_TOGETHER {
                self.road = Road::Together;
            }
        }
    }

    /// Whom it is asked for, and whom it is about.
    fn parties(&self) -> [Party; 2] {
        [Party::Source(self.source), Party::Client(self.subject.client)]
    }

    /// When its time is up, if it was sent before.
    pub(super) fn due_at(&self, timeout: Duration) -> Option<Instant> {
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

    /// Its place in the cache that is shared with other brokers, if there is one.
    fn shared(&self, request: &[u8], target: &Target) -> Option<Shared> {
        Shared::of(self.inbox.sharing.store(), self.subject, request, target, self.asks_anew)
    }

    /// Takes over what another broker was told, if it was. Returns what is still to be asked, and its place in the shared
    /// cache.
    async fn unless_known(mut self, target: Arc<Target>) -> Option<(Self, Option<Shared>)> {
        let body = dialect::body(&target.config.dialect, &self.question.as_question());
        let mut shared = self.shared(&body, &target);
        if let Some(shared) = &mut shared {
            self.filed = self.is_shared(shared, &target).await;
        }
        (!self.filed).then_some((self, shared))
    }

    /// Whether another broker was told, and that is taken over.
    async fn is_shared(&self, shared: &mut Shared, target: &Arc<Target>) -> bool {
        let Some(found) = shared.look_up().await else { return false };
        let is_filed = self.takes_over(&found, target);
        if !is_filed {
            shared.is_not_believed();
        }
        is_filed
    }

    /// The request to the API that asks a question: the body, and what goes with it.
    fn request(&self, question: &Question<'_>, target: &Target) -> Request {
        let dialect = &target.config.dialect;
        Request {
            asked_for: self.asked_for(),
            urls: self.subject.kind.into(),
            body: dialect::body(dialect, question).into(),
            credentials: dialect::credentials_of(dialect, question),
        }
    }

    /// The source and the client that it is asked for.
    fn asked_for(&self) -> AskedFor {
        AskedFor { source: self.source, client: self.subject.client.words()[0] }
    }

    /// What is known of its user, where that matters.
    async fn superuser(
        &self,
        question: &Question<'_>,
        target: &Arc<Target>,
        this_try: Try,
        place: &RequestPlace,
    ) -> Option<Finding> {
        if self.subject.kind == Kind::Connect || !target.config.dialect.knows_superusers() {
            return None;
        }
        let topic = Topic {
            question: *question,
            subject: self.subject,
            asked_for: self.asked_for(),
            asks_anew: self.asks_anew,
            began: this_try.began,
            is_again: this_try.asks_again,
        };
        // Of a type without its parts, as for the shared cache.
        let finding: Pin<Box<dyn Future<Output = _> + Send + '_>> =
            Box::pin(topic.superuser(&self.inbox, target));
        Some(place.wait_for(finding, target).await)
    }

    /// Files an allow that was given before, unless it is not to be used.
    fn takes_over(&self, found: &Found, target: &Arc<Target>) -> bool {
        let is_filed = self.inbox.take_over(self.subject, found, target);
        if is_filed {
            target.known.note(self.source.username);
        }
        is_filed
    }

    /// Notes that the API has allowed something that was asked for this name.
    fn note_allow(&self, reply: &Reply, target: &Target) {
        if matches!(reply.answer, Answer::Verdict { verdict: Verdict::Allow, .. }) {
            target.known.note(self.source.username);
        }
    }

    /// Files what the API has said, and only if that could be done passes it on to the other brokers: what another API has
    /// said than the one that is asked by now, or what is taken back, must serve nobody. Returns whether it was filed.
    fn file_and_pass_on(&mut self, reply: &Reply, shared: Option<Shared>, target: &Arc<Target>) -> bool {
        self.note_allow(reply, target);
        self.filed = self.inbox.file(self.subject, reply.clone(), target);
        if let Some(shared) = shared.filter(|_| self.filed) {
            shared.pass_on(reply, target);
        }
        self.filed
    }

    /// Asks the API, unless what is known of the user is as good as its answer.
    async fn reply(
        &self,
        request: &Request,
        target: &Arc<Target>,
        this_try: Try,
        place: &RequestPlace,
    ) -> Outcome {
        let question = self.question.as_question();
        let mut asked = match self.superuser(&question, target, this_try, place).await {
            Some(Finding::Known(found)) => return Outcome::Known(found),
            Some(Finding::Said(asked)) => asked,
            finding => {
                let overdue = || {
                    self.inbox.overdue(self.subject.key, target.config.timeout);
                    place.free();
                };
                let mut asked = place.wait_for(target.ask(request, this_try.began, overdue), target).await;
                if let Some(finding) = finding {
                    let config = &target.config;
                    finding.temper(&mut asked.reply, || config.lifetime(Kind::Access, Verdict::Deny));
                }
                Box::new(asked)
            }
        };
        if let Some(body) = asked.body.take() {
            let (answer, problem) = answer::read(&body, &question, &self.inbox.pool, Now::read());
            asked.reply.answer = answer.asked_at(asked.reply.sent);
            if let (Some(problem), Some(answered)) = (problem, &asked.response) {
                target.note_bad_answer(&answered.endpoint, &problem);
            }
        }
        Outcome::Asked(asked)
    }

    /// Asks it alone, once more where what was said is not to be used any more when it comes.
    pub(super) async fn run(mut self, place: RequestPlace) {
        let mut asks_again = false;
        loop {
            let target = self.inbox.target();
            let before = self.sent.take();
            let this_try = Try { began: before.unwrap_or_else(Instant::now), asks_again };
            // The body is made now: a queue of bodies would take several times the bytes.
            let request = self.request(&self.question.as_question(), &target);
            let mut shared = self.shared(&request.body, &target);
            // What was sent with others was looked up then.
            if let Some(shared) = shared.as_mut().filter(|_| before.is_none())
                && self.is_shared(shared, &target).await
            {
                self.filed = true;
                return place.free();
            }
            match self.reply(&request, &target, this_try, &place).await {
                Outcome::Known(found) => {
                    if self.takes_over(&found, &target) {
                        self.filed = true;
                        return place.free();
                    }
                    // What is remembered of the user was taken back for this client, or somebody waits for what the API says
                    // now. To find the same once more would go on for ever.
                    asks_again = true;
                }
                Outcome::Asked(asked) => {
                    if self.file_and_pass_on(&asked.reply, shared, &target) {
                        place.free();
                        // Nothing waits for the rest.
                        if let Some(response) = asked.response {
                            target.drain(response, DRAIN_LIMIT).await;
                        }
                        return;
                    }
                }
            }
        }
    }
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
