//! At the tick: those who waited beside the broker's loop are let in or refused.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Logins;
use crate::broker::{BrokerThread, Client, HangUp};
use crate::log::{Level, Refused};
use crate::metrics::Matter;
use crate::plugin::Ruling;
use crate::plugin::attempt::Attempt;
use crate::plugin::decision::{By, Decision, LoggedClient, Refusal};
use crate::plugin::delayed::{Parked, Parking, Ticket};
use crate::plugin::event::Event;
use crate::plugin::sessions::Session;
use crate::plugin::tasks::{Task, is_over};
use crate::plugin::throttle::{Admission, Group};
use crate::question::{Answer, NoAnswer};
use crate::util::panics;

/// Clients that one task has examined: those that are refused unseen come by the hundred.
const TURNS: usize = 128;

impl Logins {
    /// A parked client's question has been answered, by the API of this number.
    pub fn answered(
        &self,
        ticket: Ticket,
        answer: &Answer,
        api: u32,
        thread: &BrokerThread,
        event: &Event<'_>,
    ) {
        // The verdict of an API that a reload has replaced does not count.
        let is_outdated = matches!(answer, Answer::Verdict { .. }) && api != self.parts.asker.api_number();
        let decision = match is_outdated {
            true => Decision::deny(By::Reload),
            false => Decision::by_answer(answer),
        };
        self.complete(ticket, decision, thread, event);
    }

    /// Whether a parked client's password matches a local hash. `None`: there was no room to compare it.
    pub fn password_checked(
        &self,
        ticket: Ticket,
        matches: Option<bool>,
        thread: &BrokerThread,
        event: &Event<'_>,
    ) {
        let decision = match matches {
            Some(matches) => Decision::of(matches.into(), By::LocalPassword),
            None => Decision::deny(By::TooManyWait),
        };
        self.complete(ticket, decision, thread, event);
    }

    /// Lets a parked client in or refuses it, if it is still the one that is parked and waits for nothing else.
    fn complete(&self, ticket: Ticket, decision: Decision, thread: &BrokerThread, event: &Event<'_>) {
        let parked = match self.delayed.with(thread, |delayed| delayed.answered(ticket)) {
            None => return,
            Some(Parking::Live(parked)) => parked,
            Some(Parking::Over(parked)) => {
                if parked.topics().is_none() && self.settle(&parked, decision, event).is_allow() {
                    self.note_early(&parked, thread, event.now);
                }
                return;
            }
        };
        let may_enter = parked.topics().is_some();
        let decision = if may_enter { parked.allow() } else { self.settle(&parked, decision, event) };
        // Whoever was refused and waits to be hung up on comes in all the same if its password turns out to be right.
        let attempt = parked.attempt(None);
        if decision.ruling != Ruling::Allow {
            return self.refuse(ticket, &attempt, decision, thread, event);
        }
        if !may_enter {
            let answers = self.prefetch(&attempt, decision.terms.as_deref(), Some(ticket), event);
            if answers > 0 {
                return self.await_topics(ticket, answers, decision.terms, thread, event);
            }
        }
        self.let_in(ticket, &parked, decision, thread, event);
    }

    /// The decision about a parked client whose outcome is known, with which its try ends.
    fn settle(&self, parked: &Parked, decision: Decision, event: &Event<'_>) -> Decision {
        // What the API once said of a name serves nobody whom a local hash is to decide about.
        let decision = match parked.hash {
            None => self.parts.api.or_stale(parked.key, decision, event.now),
            Some(_) => decision,
        };
        let was_asked =
            !matches!(decision.by, By::NoAnswer(NoAnswer::Unheard | NoAnswer::Busy) | By::TooManyWait);
        match parked.open() {
            // It hung up, left the queue, or had no room there. A question that goes on ends its try later.
            Some(open) if parked.is_under_anothers_id && !was_asked => {
                self.charge_id(&open, event);
                self.turn_away(open, event);
            }
            // Also of a client that has gone: its guess was right or wrong all the same.
            Some(open) => self.close(open, &decision, event),
            None => {}
        }
        decision
    }

    /// Looks at those who have waited for their turn in a group, as far as there is room.
    pub fn next_turns(&self, group: Group, thread: &BrokerThread, event: &Event<'_>) {
        for _ in 0..TURNS {
            let next = self.delayed.with(thread, |delayed| delayed.next_turn(group));
            let Some((turn, parked)) = next else { return };
            let attempt = parked.attempt(turn.password.as_deref());
            let limits = &event.settings.config.throttle;
            let decision = match self.parts.throttle.admit(&attempt.as_try(), limits, event.now) {
                Admission::Now(open) => self.examine(&attempt, open, Some(turn.ticket), event),
                Admission::WaitForTurn(other) => {
                    self.delayed.with(thread, |delayed| delayed.await_turn_still(other, turn));
                    if other == group {
                        return;
                    }
                    continue;
                }
                Admission::Throttled(pause) => Decision::deny(By::Throttle(pause)),
            };
            match decision.ruling {
                Ruling::Later => {}
                Ruling::Allow => self.let_in(turn.ticket, &parked, decision, thread, event),
                _ => self.refuse(turn.ticket, &attempt, decision, thread, event),
            }
        }
        self.parts.tasks.push(Task::NextTurn(group));
    }

    /// Lets in those who may come in and have waited long enough for their topic questions, and turns away those who have
    /// waited for too long for their turn, for the thread that compares slow hashes, or under a client id that others need:
    /// all of them, or as many as there is time for.
    pub fn complete_due(&self, thread: &BrokerThread, event: &Event<'_>) {
        let mut until = None;
        loop {
            let tickets = self.delayed.with(thread, |delayed| delayed.take_due(event.now));
            if tickets.is_empty() {
                return;
            }
            for ticket in tickets {
                self.guarded(Some(ticket), thread, event, || self.complete_one_due(ticket, thread, event));
            }
            if is_over(&mut until) {
                return;
            }
        }
    }

    fn complete_one_due(&self, ticket: Ticket, thread: &BrokerThread, event: &Event<'_>) {
        let parked = match self.delayed.with(thread, |delayed| delayed.due(ticket)) {
            None => return,
            Some(Parking::Live(parked)) => parked,
            Some(Parking::Over(parked)) => {
                // Also that is counted.
                if parked.is_under_anothers_id && parked.hash.is_none() {
                    self.parts.asker.leave_queue(parked.key, ticket.number());
                }
                return;
            }
        };
        let attempt = parked.attempt(None);
        if let Some(by) = parked.hangs_up_for.clone() {
            self.refuse(ticket, &attempt, Decision::deny(by), thread, event);
        } else if parked.topics().is_some() {
            self.let_in(ticket, &parked, parked.allow(), thread, event);
        } else if parked.open().is_some() && parked.hash.is_none() {
            // It comes under somebody else's id. If its question is still in the queue, it hears so; else the API's answer will
            // be there soon.
            self.parts.asker.leave_queue(parked.key, ticket.number());
        } else {
            let by = if parked.open().is_some() { By::TooManyWait } else { By::Turn };
            if let Some(open) = parked.open().filter(|_| parked.is_under_anothers_id) {
                self.charge_id(&open, event);
            }
            self.refuse(ticket, &attempt, Decision::deny(by), thread, event);
        }
    }

    /// Runs something about one client. A bug that it meets costs this client its login, and nobody else anything.
    pub fn guarded(
        &self,
        ticket: Option<Ticket>,
        thread: &BrokerThread,
        event: &Event<'_>,
        body: impl FnOnce(),
    ) {
        let Err(place) = panics::caught(body) else { return };
        self.parts.log.write(Level::Error, panics::message(&place, "Its client is refused."));
        let parked = ticket.and_then(|ticket| {
            let parked = self.delayed.with(thread, |delayed| delayed.get(ticket))?;
            Some((ticket, parked))
        });
        if let Some((ticket, parked)) = parked {
            let attempt = parked.attempt(None);
            let refused = || self.refuse(ticket, &attempt, Decision::deny(By::Bug), thread, event);
            if panics::caught(refused).is_err() {
                self.parts.broker.complete_login(thread, &parked.client_id, false);
            }
        }
    }

    /// Whether the broker should tick again soon: the time of a parked client may be up, or one waits for an answer and
    /// the loop cannot be woken for it.
    pub fn wants_tick(&self, thread: &BrokerThread) -> bool {
        let (has_deadlines, is_empty) =
            self.delayed.with(thread, |delayed| (delayed.has_deadlines(), delayed.is_empty()));
        self.parts.delays && (has_deadlines || (!is_empty && !self.parts.broker.can_wake(thread)))
    }

    /// How many clients are parked.
    pub fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Forgets those who have hung up while they waited, if there are many who wait.
    pub fn forget_those_who_hung_up(&self, thread: &BrokerThread, now: Instant) {
        if !self.delayed.with(thread, |delayed| delayed.wants_check(now)) {
            return;
        }
        let begun = Instant::now();
        if let Some(connections) = self.parts.broker.connections(thread) {
            let gone = self.delayed.with(thread, |delayed| delayed.forget_gone(&connections));
            gone.into_iter().for_each(|(ticket, question)| self.parts.asker.leave(question, ticket.number()));
        }
        self.delayed.with(thread, |delayed| delayed.schedule_check(begun.elapsed(), Instant::now()));
    }

    fn let_in(
        &self,
        ticket: Ticket,
        parked: &Parked,
        allow: Decision,
        thread: &BrokerThread,
        event: &Event<'_>,
    ) {
        let attempt = parked.attempt(None);
        // What decided counts no more if options or files were read again meanwhile: the name has become that of a local user,
        // its hash is another one, or another API is asked.
        let decides_now = event.settings.users.get(attempt.username);
        let api = self.parts.asker.api_number();
        let is_outdated = parked.topics().is_some_and(|topics| topics.api != api);
        if decides_now != attempt.hash.as_ref() || attempt.hash.is_none() && is_outdated {
            self.refuse(ticket, &attempt, Decision::deny(By::Reload), thread, event);
            return;
        }
        let (decision, granted) = self.last_word(&attempt, allow, event);
        if !decision.is_allow() {
            self.refuse(ticket, &attempt, decision, thread, event);
            return;
        }
        self.delayed.with(thread, |delayed| delayed.end(ticket));
        decision.count(Matter::Login, &self.parts.metrics, true);
        // Before the broker hears of it: it may ask about topics before it returns.
        let before = self.admit(&attempt, event);
        self.grant(&attempt, granted);
        let client = attempt.client;
        self.parts.broker.complete_login(thread, client.id, true);
        // It may be gone, because it sent something or by itself, or refused by the broker.
        if !self.parts.broker.is_session(thread, client.id, client.connection) {
            if matches!(self.parts.broker.hang_up(thread, client, true), HangUp::Done) {
                self.tell_not_taken(client, attempt.username, event.now);
            } else {
                self.note_early(parked, thread, event.now);
            }
            let is_there = |session: &Session| {
                session.connection().is_none_or(|it| self.parts.broker.is_session(thread, client.id, it))
            };
            self.parts.granting.ended(client.connection);
            self.parts.sessions.withdraw(client, attempt.username, before.filter(is_there));
        } else {
            self.note_owner(&attempt, event);
        }
    }

    /// The broker has not taken a client that was let in, and would have left its connection open without a word.
    fn tell_not_taken(&self, client: Client<'_>, username: &str, now: Instant) {
        let reason = "the broker did not take them";
        let refused = Refused { client: Some((client.id, client.address.unwrap_or_default())), reason };
        self.parts.log.refusal(now, &refused, || {
            format!(
                "Let {} in, but the broker did not take it, and its connection is closed. Has the broker as many clients as it \
                 may have (global_max_clients, max_connections), or is the keep alive too long (max_keepalive)?",
                LoggedClient(client, Some(username))
            )
        });
    }

    /// Refuses a parked client.
    pub(super) fn refuse(
        &self,
        ticket: Ticket,
        attempt: &Attempt<'_>,
        decision: Decision,
        thread: &BrokerThread,
        event: &Event<'_>,
    ) {
        // The broker tells whom it completes that they are not authorised, whatever the reason: who is to hear nothing of the
        // kind has its socket shut down before.
        if decision.refusal() != Refusal::NotAuthorised {
            let has_waited = self.delayed.with(thread, |delayed| delayed.is_hanging_up(ticket));
            if let HangUp::From(time) = self.parts.broker.hang_up(thread, attempt.client, has_waited) {
                return self.delayed.with(thread, |delayed| delayed.hang_up_later(ticket, decision.by, time));
            }
        }
        let asked = self.delayed.with(thread, |delayed| delayed.end(ticket));
        if let Some(question) = asked {
            self.parts.asker.leave(question, ticket.number());
        }
        decision.count(Matter::Login, &self.parts.metrics, true);
        self.log_refusal(attempt.client, Some(attempt.username), &decision, event.now);
        self.parts.broker.complete_login(thread, attempt.client.id, false);
    }
}
