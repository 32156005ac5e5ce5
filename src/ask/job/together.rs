//! Several questions in one request (`acl_batch_url`).

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::Job;
use crate::ask::answer::{self, Now};
use crate::ask::http::{BatchReplies, Crowd, Target};
use crate::ask::inbox::Inbox;
use crate::ask::places::RequestPlace;
use crate::ask::queue::Road;
use crate::ask::shared::Shared;
use crate::ask::wire;
use crate::util::panics::last_place;

/// Asks several questions in one request. Returns those that have to be asked alone: all of them, if there was no right
/// answer.
pub(in crate::ask) async fn run_together(jobs: Vec<Job>, place: RequestPlace, inbox: Arc<Inbox>) -> Vec<Job> {
    let (target, sent) = (inbox.target(), Instant::now());
    let jobs = unknown(jobs, &target, &inbox).await;
    // Where `acl_url` is left alone, so are the questions that would go there.
    let (jobs, alone): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|(job, _)| !target.refuses(job.subject.kind, job.source, sent));
    let mut alone: Vec<_> = alone.into_iter().map(|(job, _)| job).collect();
    if jobs.len() < 2 || !target.takes_many(sent) {
        alone.extend(jobs.into_iter().map(|(job, _)| job));
    } else {
        let body = wire::together(jobs.iter().map(|(job, _)| job.question.as_question()));
        let crowd = Crowd { parties: jobs.iter().map(|(job, _)| job.parties()).collect(), body: body.into() };
        let told = place.wait_for(target.ask_together(&crowd), &target).await;
        inbox.metrics.went_together(jobs.len(), told.is_some());
        match told {
            Some(BatchReplies { replies, from }) => {
                for ((mut job, shared), (mut reply, more)) in jobs.into_iter().zip(replies) {
                    if let Some(more) = more.filter(|_| target.config.answer_rules) {
                        let question = job.question.as_question();
                        let (answer, problem) =
                            answer::read_object(&more, &question, &inbox.pool, Now::read());
                        reply.answer = answer.asked_at(reply.sent);
                        if let Some(problem) = problem {
                            target.note_bad_answer(&from, &problem);
                        }
                    }
                    if !job.file_and_pass_on(&reply, shared, &target) {
                        alone.push(job);
                    }
                }
            }
            None => alone.extend(jobs.into_iter().map(|(mut job, _)| {
                job.sent = Some(sent);
                job
            })),
        }
    }
    alone.iter_mut().for_each(|job| job.road = Road::Topic);
    alone
}

/// The questions whose answer the shared cache does not have, each with its place there. Where no cache is shared that is all
/// of them.
async fn unknown(jobs: Vec<Job>, target: &Arc<Target>, inbox: &Inbox) -> Vec<(Job, Option<Shared>)> {
    if inbox.sharing.store().is_none() {
        return jobs.into_iter().map(|job| (job, None)).collect();
    }
    // Side by side, so that they are looked up in one go.
    let mut looked: JoinSet<_> = jobs.into_iter().map(|job| job.unless_known(Arc::clone(target))).collect();
    let mut unknown = Vec::with_capacity(looked.len());
    while let Some(job) = looked.join_next().await {
        match job {
            Ok(job) => unknown.extend(job),
            Err(_) => inbox.worker_panicked(&last_place()),
        }
    }
    unknown
}
