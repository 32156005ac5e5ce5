//! SIGHUP: the broker asks about every session once more, one after the other in front of its loop, and
//! throws out whoever is not answered with success. So everybody stays who was let in before; the API is
//! asked beside the loop, and who is refused by then is disconnected.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::api::{Api, Inquiry};
use super::decision::{By, Decision, LoggedClient};
use super::event::{Event, TopicCheck};
use super::login::Attempt;
use super::sessions::{LetInBy, SessionName, Sessions};
use super::{Task, Tasks};
use crate::ask::{Priority, Waiter};
use crate::broker::{Broker, BrokerThread, Client};
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::log::{Level, Log};
use crate::question::Answer;
use crate::util::Lock;

/// How long a round may pause between two sessions where no tick ends it: the broker goes through them without waiting
/// for anything.
const PAUSE: Duration = Duration::from_secs(1);

/// Recognises sessions that the broker asks about again, has the API asked, and disconnects those that it refuses.
pub struct Recheck {
    api: Arc<Api>,
    sessions: Arc<Sessions>,
    tasks: Arc<Tasks>,
    broker: Arc<dyn Broker>,
    log: Arc<Log>,
    is_going_on: AtomicBool,
    /// Whether this broker ticks at all: 2.0.11 with `per_listener_settings true` does not.
    ticks: AtomicBool,
    round: Lock<Round>,
    revoked: Arc<Revoked>,
}

/// Clients that the API has refused when it was asked again, each with the status.
#[derive(Default)]
struct Revoked {
    any: AtomicBool,
    sessions: Lock<Vec<(SessionName, u16)>>,
}

impl Revoked {
    fn push(&self, session: SessionName, status: u16) {
        self.sessions.lock().push((session, status));
        self.any.store(true, Ordering::Release);
    }

    /// Takes those that `chosen` chooses. Costs one load where there are none.
    fn take(&self, chosen: impl Fn(&SessionName) -> bool) -> Vec<(SessionName, u16)> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        // Nothing else is locked while this is: `chosen` may ask other tables.
        let all = std::mem::take(&mut *self.sessions.lock());
        let (taken, mut left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(session, _)| chosen(session));
        let mut sessions = self.sessions.lock();
        sessions.append(&mut left);
        self.any.store(!sessions.is_empty(), Ordering::Release);
        taken
    }
}

/// One walk of the broker over all of its sessions.
struct Round {
    number: u32,
    /// When it began, or recognised a session last.
    last: Instant,
    /// Whether these credentials fit the hash that their user has now: a slow hash is computed once for all sessions.
    compared: HashMap<Fingerprint, bool, AlreadyHashed>,
}

impl Recheck {
    pub fn new(
        api: Arc<Api>,
        sessions: Arc<Sessions>,
        tasks: Arc<Tasks>,
        broker: Arc<dyn Broker>,
        log: Arc<Log>,
        now: Instant,
    ) -> Self {
        let round = Lock::new(Round { number: 0, last: now, compared: HashMap::default() });
        Self {
            api,
            sessions,
            tasks,
            broker,
            log,
            revoked: Arc::default(),
            is_going_on: AtomicBool::new(false),
            ticks: AtomicBool::new(false),
            round,
        }
    }

    /// The broker has re-read its configuration and is about to ask about all sessions once more.
    pub fn begin(&self, now: Instant) {
        let mut round = self.round.lock();
        // Where the broker never ticks, the round before was never ended.
        round.number = round.number.wrapping_add(1);
        round.last = now;
        round.compared.clear();
        self.is_going_on.store(true, Ordering::Relaxed);
    }

    /// The broker's loop has come round: whatever round there was is over.
    pub fn new_turn(&self) {
        self.ticks.store(true, Ordering::Relaxed);
        self.is_going_on.store(false, Ordering::Relaxed);
    }

    /// Whether this login is the broker checking a session that exists. What tells is the session, never
    /// the time: strangers may connect in the middle of a round.
    pub fn recognises(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> bool {
        let Attempt { client, password, .. } = *attempt;
        let Some(thread) = event.broker_thread() else { return false };
        if self.broker.is_2_1() {
            return self.broker.is_session(thread, client.id, client.connection);
        }
        if !self.is_going_on.load(Ordering::Relaxed) {
            return false;
        }
        // 2.0 has an address for every client that ever connected to it, so what has none was restored; its
        // password was not.
        let was_restored = client.address.is_none() && password.is_none();
        was_restored || self.is_session(attempt, event.now)
    }

    /// Whether Mosquitto 2.0, which asks as if the client had just connected, means a session that was let in here: the
    /// very connection, the same credentials, and each session once per round. A client that connects meanwhile is a
    /// stranger, as it always is.
    fn is_session(&self, attempt: &Attempt<'_>, now: Instant) -> bool {
        let Attempt { client, username, credentials, .. } = *attempt;
        let mut round = self.round.lock();
        // A tick ends the round. Only where none comes does time tell, since other plugins may take theirs.
        let is_going_on =
            self.ticks.load(Ordering::Relaxed) || now.saturating_duration_since(round.last) < PAUSE;
        let is_it = self.sessions.recheck(client, username, credentials, round.number, is_going_on);
        if is_it {
            round.last = now;
        }
        is_it
    }

    /// The answer to the broker about a session that exists.
    pub fn decide(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> Decision {
        let Attempt { client, username, password, credentials, .. } = *attempt;
        // Who sleeps is left alone until it comes back: it can be asked about then. (2.0 reads freed memory
        // later if a sleeping session is refused here.)
        if !self.sessions.is_connected(client, username) {
            let is_ours = client.address.is_none() || self.sessions.is_known(client, username);
            return if is_ours { Decision::allow(By::Session) } else { Decision::defer(By::NotOurs) };
        }
        if let Some(hash) = &attempt.hash {
            if self.sessions.is_let_in_by(client, username, credentials, hash) {
                return Decision::allow(By::Session);
            }
            // The hash is new, or the name has just become that of a local user.
            let fits = |password| {
                *self.round.lock().compared.entry(credentials).or_insert_with(|| hash.verify(password))
            };
            if !password.is_some_and(fits) {
                return Decision::deny(By::LocalPassword);
            }
            let by = LetInBy::Local(Arc::clone(hash));
            self.sessions.admit(client, username, credentials, by, 0, event.now);
            return Decision::allow(By::LocalPassword);
        }
        if event.settings.config.auth_urls.is_empty() {
            return Decision::defer(By::NotOurs);
        }
        // Only a local user, which it is no more, can have got in with such a password.
        let Some(inquiry) = attempt.inquiry() else { return Decision::deny(By::PasswordIsNoText) };
        self.ask_again(attempt, &inquiry);
        Decision::allow(By::Session)
    }

    /// Asks about a connected client beside the loop.
    fn ask_again(&self, attempt: &Attempt<'_>, inquiry: &Inquiry<'_>) {
        let question = inquiry.question;
        // 2.1 without websockets comes round by itself once a day. Without a thread for it, it is woken once.
        if self.broker.is_2_1() {
            let _ = self.tasks.start_waking();
        }
        let session = SessionName {
            connection: attempt.client.connection,
            client_id: attempt.client.id.to_owned(),
            username: attempt.username.to_owned(),
            credentials: attempt.credentials,
        };
        let (revoked, tasks) = (Arc::clone(&self.revoked), Arc::clone(&self.tasks));
        let waiter = Waiter::however_late(move |answer| {
            if let Answer::Verdict { status: status @ (401 | 403), .. } = *answer {
                revoked.push(session, status);
                tasks.push(Task::Revoked);
            }
        });
        let source = self.api.asker.source(attempt.client.address, attempt.username);
        // Where there is no thread to ask with, the next login says so.
        let _ = self.api.asker.ask(attempt.credentials, &question, source, Priority::Revoke, Some(waiter));
    }

    /// Disconnects all that the API refuses by now.
    pub fn revoke_all(&self, thread: &BrokerThread) {
        for (session, status) in self.revoked.take(|_| true) {
            self.revoke(thread, &session, status);
        }
    }

    /// Disconnects a client that the API refuses by now, unless it is gone already.
    fn revoke(&self, thread: &BrokerThread, session: &SessionName, status: u16) {
        let SessionName { connection, client_id, username, credentials } = session;
        let client = Client { connection: *connection, id: client_id, address: None };
        let is_there = self.sessions.is_connected(client, username)
            && self.sessions.has_credentials(client, username, *credentials)
            && (!self.broker.is_2_1() || self.broker.is_session(thread, client_id, *connection));
        if is_there {
            let who = LoggedClient(client, Some(username));
            self.log.write(Level::Notice, revoked(&who, status));
            self.broker.kick(thread, client_id, username);
        }
    }

    /// Mosquitto 2.0.11 with `per_listener_settings true` never ticks. There, whoever was revoked goes when
    /// somebody else connects: the one event in which the broker walks through none of its lists, so that
    /// it can stand to lose a client.
    pub fn revoke_without_ticks(&self, attempt: &Attempt<'_>, event: &Event<'_>) {
        // A request to the broker's HTTP listener comes on a thread that can disconnect nobody.
        let Some(thread) = event.broker_thread() else { return };
        if self.api.is_tickless(event.now) {
            for (session, status) in self.revoked.take(|session| session.username != attempt.username) {
                self.revoke(thread, &session, status);
            }
        }
    }

    /// Whether a client that publishes was revoked, and is still there because no tick has come. Costs one load where
    /// nobody was.
    pub fn is_overdue_to_leave(&self, check: &TopicCheck<'_>, now: Instant) -> bool {
        if !self.revoked.any.load(Ordering::Acquire) || !self.api.is_tickless(now) {
            return false;
        }
        let is_meant = |session: &SessionName| {
            session.connection == check.client.connection
                && session.client_id == check.client.id
                && self.sessions.has_credentials(check.client, &session.username, session.credentials)
        };
        let left = self.revoked.take(is_meant);
        for (session, status) in &left {
            let who = LoggedClient(check.client, Some(&session.username));
            self.log.write(Level::Notice, revoked(&who, *status));
        }
        !left.is_empty()
    }
}

fn revoked(who: &LoggedClient<'_>, status: u16) -> String {
    format!("Disconnecting {who}: the API answered {status} when asked again.")
}
