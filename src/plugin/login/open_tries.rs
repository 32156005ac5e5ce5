//! How the open tries of the throttle end: with the answer, wherever it is heard.

use std::sync::Arc;
use std::time::Instant;

use super::Logins;
use crate::ask::Waiter;
use crate::plugin::decision::{By, Decision, Ruling};
use crate::plugin::event::Event;
use crate::plugin::tasks::Task;
use crate::plugin::throttle::{OpenTry, TryOutcome};
use crate::question::NoAnswer;

impl Logins {
    /// Ends an open try, and has the next clients of its groups examined.
    pub(super) fn close(&self, open: OpenTry, decision: &Decision, event: &Event<'_>) {
        if let By::NoAnswer(NoAnswer::LoginWaitSpent | NoAnswer::TimedOut(_) | NoAnswer::Unheard) =
            decision.by
        {
            return self.turn_away(open, event);
        }
        let outcome = outcome_of(decision);
        let groups = self.parts.throttle.close(open, outcome, &event.settings.config.throttle, event.now);
        if self.parts.delays {
            let groups = match event.broker_thread() {
                Some(thread) => self.delayed.with(thread, |delayed| delayed.with_turns(groups)),
                None => groups.to_vec(),
            };
            groups.into_iter().for_each(|group| self.parts.tasks.push(Task::NextTurn(group)));
        }
    }

    /// Turns a client away whose question goes on. Its try ends with that: a wrong guess counts, whether or not anybody
    /// comes back for the answer.
    pub(super) fn turn_away(&self, open: OpenTry, event: &Event<'_>) {
        let config = &event.settings.config;
        if !self.parts.throttle.leave(&open, config.max_wait + 2 * config.timeout, event.now) {
            return;
        }
        let (throttle, tasks) = (Arc::clone(&self.parts.throttle), Arc::clone(&self.parts.tasks));
        let (limits, delays) = (config.throttle, self.parts.delays);
        let waiter = Waiter::however_late(move |answer| {
            let outcome = outcome_of(&Decision::by_answer(answer)).of_all();
            let groups = throttle.close(open, outcome, &limits, Instant::now());
            if delays {
                groups.into_iter().for_each(|group| tasks.push(Task::NextTurn(group)));
            }
        });
        self.parts.asker.hear_late(open.credentials(), waiter, event.now);
    }

    /// Counts against its client id that a try has kept it busy, and was not examined meanwhile. Goes by the try, which is
    /// all that is kept of a client that has gone.
    pub(super) fn charge_id(&self, open: &OpenTry, event: &Event<'_>) {
        self.parts.throttle.charge_id(open.id_group(), &event.settings.config.throttle, event.now);
    }
}

/// What a decision says about the username and password.
fn outcome_of(decision: &Decision) -> TryOutcome {
    match decision.ruling {
        Ruling::Allow => TryOutcome::LetIn,
        Ruling::Deny if decision.by.is_about_the_password() => TryOutcome::Refused,
        _ => TryOutcome::Unknown,
    }
}
