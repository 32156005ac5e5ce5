//! BASIC_AUTH: who may come in.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::hasher::{Check, Checker};
use super::sessions::Session;
use super::settings::Loaded;
use super::{Plugin, Refusal, Ruling, Who, outcome};
use crate::ask::Listener;
use crate::ask::worker::Class;
use crate::broker::Client;
use crate::fingerprint::Fingerprint;
use crate::log::Level;
use crate::main_queue::Errand;
use crate::plugin::parked::{Parked, Ticket};
use crate::plugin::throttle::Try;
use crate::question::{Answer, NoAnswer, Question, Verdict};
use crate::util::panics::caught;

/// A CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// Who.
    pub client: Client<'a>,
    /// Its username, never empty.
    pub username: Option<&'a str>,
    /// Its password: any bytes.
    pub password: Option<&'a [u8]>,
    /// Whether it starts without the session it had before.
    pub starts_clean: bool,
}

/// A login that has a username, and so can be decided here.
pub(super) struct Attempt<'a> {
    pub(super) client: Client<'a>,
    pub(super) username: &'a str,
    pub(super) password: Option<&'a [u8]>,
    pub(super) starts_clean: bool,
    /// Username and password: what the cache knows the question by.
    pub(super) credentials: Fingerprint,
}

impl<'a> Attempt<'a> {
    /// That of a parked client. Nobody keeps its password.
    fn of(parked: &'a Parked) -> Self {
        Self {
            client: parked.client(),
            username: &parked.username,
            password: None,
            starts_clean: parked.starts_clean,
            credentials: parked.credentials,
        }
    }

    fn as_try(&self) -> Try<'_> {
        Try { address: self.client.address, username: self.username, credentials: self.credentials }
    }
}

/// Clients that may be parked at once: what 64 requests of 20 ms each can serve in 30 s.
const PARKING_BOUND: usize = 100_000;

impl Plugin {
    /// MOSQ_EVT_BASIC_AUTH
    pub fn authenticate(&self, login: &Login<'_>, now: Instant) -> Ruling {
        let Login { client, username, password, starts_clean } = *login;
        let username = match (username, password) {
            (None, None) => return Ruling::Defer,
            (None, Some(_)) => return self.refuse_login(client, None, &Refusal::NoUsername, now),
            (Some(username), _) => username,
        };
        let credentials = self.keys.credentials(username, password.unwrap_or_default());
        let attempt = Attempt { client, username, password, starts_clean, credentials };
        if self.is_swept(&attempt, now) {
            return self.recheck(&attempt, now);
        }
        self.revoke_without_ticks(&attempt, now);
        match self.try_login(&attempt, now) {
            Ok(Ruling::Allow) => {
                self.admit(&attempt, now);
                Ruling::Allow
            }
            Ok(ruling) => ruling,
            Err(refusal) => self.refuse_login(client, Some(username), &refusal, now),
        }
    }

    fn try_login(&self, attempt: &Attempt<'_>, now: Instant) -> Result<Ruling, Refusal> {
        let loaded = self.loaded();
        if let Some(hash) = loaded.users.get(attempt.username) {
            self.throttled(attempt, now)?;
            // Not even the hash of an empty password lets somebody in who sends none: no broker does.
            let Some(password) = attempt.password else { return Err(Refusal::WrongLocalPassword) };
            if hash.is_slow() && self.may_park() {
                return self.park_for_check(attempt, password, Arc::clone(&loaded));
            }
            let matches = hash.verify(password);
            return self.settle(
                attempt,
                if matches { Ok(()) } else { Err(Refusal::WrongLocalPassword) },
                now,
            );
        }
        if loaded.config.auth_urls.is_empty() {
            return Ok(Ruling::Defer);
        }
        let password = std::str::from_utf8(attempt.password.unwrap_or_default())
            .map_err(|_| Refusal::PasswordIsNoText)?;
        // Whoever waits below holds up no reload.
        drop(loaded);
        let question = Question::Connect { username: attempt.username, password };
        let key = attempt.credentials;
        if let Some(hit) = self.remembered(key, &question, now) {
            if hit.is_first_use {
                // As good as having asked now, and so only where asking now would be right.
                self.throttled(attempt, now)?;
                self.settle(attempt, outcome(hit), now)?;
            } else {
                outcome(hit)?;
            }
            return Ok(self.prepare(attempt, now));
        }
        self.throttled(attempt, now)?;
        if self.may_park() {
            return self.park_for_answer(attempt, &question, now);
        }
        let answer = self.wait_for(key, &question, now);
        let settled = self.settle(attempt, answer, Instant::now())?;
        self.prefetch(attempt.client, attempt.username, || Listener::None, now);
        Ok(settled)
    }

    /// Has the topic questions asked that a client is expected to raise. If it can wait beside the broker's
    /// loop for them, it does, and its first packets stop nobody.
    fn prepare(&self, attempt: &Attempt<'_>, now: Instant) -> Ruling {
        if self.loaded().config.acl_prefetch.is_empty() {
            return Ruling::Allow;
        }
        let ticket = if self.may_park() { self.park(attempt) } else { None };
        let listener = || ticket.map_or(Listener::None, Listener::Parked);
        let answers = self.prefetch(attempt.client, attempt.username, listener, now);
        match ticket {
            Some(ticket) if answers > 0 => {
                self.parking.await_more(ticket, answers, now + self.loaded().config.timeout);
                Ruling::Later
            }
            Some(ticket) => {
                self.parking.end(ticket);
                Ruling::Allow
            }
            None => Ruling::Allow,
        }
    }

    /// Keeps count of right and wrong passwords.
    fn settle(
        &self,
        attempt: &Attempt<'_>,
        result: Result<(), Refusal>,
        now: Instant,
    ) -> Result<Ruling, Refusal> {
        let settings = self.loaded().config.throttle;
        match &result {
            Ok(()) => self.throttle.let_in(&attempt.as_try(), now),
            Err(refusal) if refusal.is_about_the_password() => {
                self.throttle.refused(&attempt.as_try(), &settings, now);
            }
            Err(_) => {}
        }
        result.map(|()| Ruling::Allow)
    }

    fn throttled(&self, attempt: &Attempt<'_>, now: Instant) -> Result<(), Refusal> {
        let pause = self.throttle.pause(&attempt.as_try(), &self.loaded().config.throttle, now);
        if pause.is_zero() { Ok(()) } else { Err(Refusal::TooManyTries(pause)) }
    }

    /// Whether a client can wait beside the broker's loop. Not so for requests to the broker's HTTP
    /// listener, which come on a thread of their own.
    fn may_park(&self) -> bool {
        self.delays && self.host.is_broker_thread()
    }

    fn park_for_answer(
        &self,
        attempt: &Attempt<'_>,
        question: &Question<'_>,
        now: Instant,
    ) -> Result<Ruling, Refusal> {
        let key = attempt.credentials;
        if self.verdicts.is_left_alone(question.kind(), now) {
            let result = self.or_stale(key, Err(Refusal::NoAnswer(NoAnswer::LeftAlone)), now);
            return result.map(|()| Ruling::Allow);
        }
        let worker = self.worker()?;
        let Some(ticket) = self.park(attempt) else { return Ok(Ruling::Busy) };
        self.verdicts.ask(key, question, Class::Parked, Listener::Parked(ticket), worker);
        self.look_at_logins(worker);
        Ok(Ruling::Later)
    }

    fn park_for_check(
        &self,
        attempt: &Attempt<'_>,
        password: &[u8],
        loaded: Arc<Loaded>,
    ) -> Result<Ruling, Refusal> {
        let checker = self.checker.get_or_try_init(|| Checker::start(&self.host, &self.errands));
        let checker = checker.map_err(|error| Refusal::NoAnswer(NoAnswer::NotAsked(error.to_string())))?;
        let Some(ticket) = self.park(attempt) else { return Ok(Ruling::Busy) };
        let check =
            Check { ticket, loaded, username: attempt.username.to_owned(), password: password.to_owned() };
        if checker.check(check).is_err() {
            self.parking.end(ticket);
            return Ok(Ruling::Busy);
        }
        Ok(Ruling::Later)
    }

    /// Parks a client, or says that there is no room.
    fn park(&self, attempt: &Attempt<'_>) -> Option<Ticket> {
        if self.parking.len() >= PARKING_BOUND {
            return None;
        }
        // Without a bell the answer waits for the loop to come round by itself: late, not lost.
        if let Err(error) = self.errands.hang_up_bell() {
            self.log.trouble(&format!(
                "Answers may reach clients late: no thread to wake the broker with ({error})."
            ));
        }
        Some(self.parking.park(Parked {
            connection: attempt.client.connection,
            client_id: attempt.client.id.to_owned(),
            address: attempt.client.address.map(str::to_owned),
            username: attempt.username.to_owned(),
            starts_clean: attempt.starts_clean,
            credentials: attempt.credentials,
            reload: self.reloads.load(Ordering::Relaxed),
            awaits: 1,
            is_let_in: false,
        }))
    }

    /// Runs what has been left for the broker's thread. It calls the broker, which may call back, so
    /// nothing is held here.
    pub(super) fn run_errands(&self, now: Instant) {
        for errand in self.errands.take() {
            // A bug that one of them meets must not cost the others their answer.
            if let Err(place) = caught(|| self.run(errand, now)) {
                self.log.write(
                    Level::Error,
                    format!("A bug in the plugin was stopped at {place}; please report it."),
                );
            }
        }
    }

    fn run(&self, errand: Errand, now: Instant) {
        match errand {
            Errand::Answered(ticket, answer) => self.complete(ticket, verdict_of(answer), now),
            Errand::PasswordChecked(ticket, matches) => {
                let is_outdated = self
                    .parking
                    .get(ticket)
                    .is_some_and(|parked| parked.reload != self.reloads.load(Ordering::Relaxed));
                let result = match matches {
                    true if is_outdated => Err(Refusal::ReadAgain),
                    true => Ok(()),
                    false => Err(Refusal::WrongLocalPassword),
                };
                self.complete(ticket, result, now);
            }
            Errand::Revoked(session, status) => self.revoke(&session, status),
        }
    }

    /// Lets a parked client in or refuses it, if it is still the one that is parked and waits for nothing
    /// else.
    fn complete(&self, ticket: Ticket, result: Result<(), Refusal>, now: Instant) {
        let Some(parked) = self.parking.answered(ticket) else { return };
        if !parked.is_let_in {
            let attempt = Attempt::of(&parked);
            let Attempt { client, username, .. } = attempt;
            let result = self.or_stale(parked.credentials, result, now);
            if let Err(refusal) = self.settle(&attempt, result, now) {
                self.parking.end(ticket);
                self.refuse_login(client, Some(username), &refusal, now);
                self.host.complete_login(client.id, false);
                return;
            }
            let answers = self.prefetch(client, username, || Listener::Parked(ticket), now);
            if answers > 0 {
                self.parking.await_more(ticket, answers, now + self.loaded().config.timeout);
                return;
            }
        }
        self.let_in(ticket, &parked, now);
    }

    /// Lets in who may come in and has waited long enough for its topic questions.
    pub(super) fn complete_those_who_waited(&self, now: Instant) {
        for ticket in self.parking.take_those_who_waited(now) {
            if let Some(parked) = self.parking.get(ticket) {
                self.let_in(ticket, &parked, now);
            }
        }
    }

    fn let_in(&self, ticket: Ticket, parked: &Parked, now: Instant) {
        let attempt = Attempt::of(parked);
        let Attempt { client, username, .. } = attempt;
        self.parking.end(ticket);
        // What the API says of a name counts no more when it has become that of a local user.
        if parked.reload != self.reloads.load(Ordering::Relaxed)
            && self.loaded().users.get(username).is_some()
        {
            self.refuse_login(client, Some(username), &Refusal::ReadAgain, now);
            self.host.complete_login(client.id, false);
            return;
        }
        // Before the broker hears of it: it may ask about topics before it returns.
        let before = self.admit(&attempt, now);
        self.host.complete_login(client.id, true);
        // It may be gone, or refused by the broker itself.
        if !self.host.is_session(client.id, client.connection) {
            self.sessions.withdraw(client, username, before);
        }
    }

    fn admit(&self, attempt: &Attempt<'_>, now: Instant) -> Option<Session> {
        // A request to the broker's HTTP listener has no session, and an id that a client may have.
        if !self.host.is_broker_thread() {
            return None;
        }
        let Attempt { client, username, starts_clean, credentials, .. } = *attempt;
        if starts_clean {
            self.subscriptions().remove_client(client.id);
        }
        self.sessions.admit(client, username, credentials, now)
    }

    pub(super) fn refuse_login(
        &self,
        client: Client<'_>,
        username: Option<&str>,
        refusal: &Refusal,
        now: Instant,
    ) -> Ruling {
        self.log.refusal(now, || format!("Refused to let {} in: {refusal}.", Who(client, username)));
        Ruling::Deny
    }
}

/// An answer as the result of asking.
pub(super) fn verdict_of(answer: Answer) -> Result<(), Refusal> {
    match answer {
        Answer::Verdict { verdict: Verdict::Allow, .. } => Ok(()),
        Answer::Verdict { verdict: Verdict::Deny, status } => Err(Refusal::Api { status, remembered: false }),
        Answer::None(reason) => Err(Refusal::NoAnswer(reason)),
    }
}
