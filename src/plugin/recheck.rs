//! After a SIGHUP the broker checks every session once more, one after the other, while its loop stands still. It
//! disconnects each session whose check does not succeed at once. So the plugin keeps every session that was let in,
//! asks the API beside the loop, and disconnects a client later if the API refuses it.

mod belief;
mod going;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::api::{Api, Inquiry};
use super::attempt::Attempt;
use super::decision::{By, Decision};
use super::event::Event;
use super::granting::Granting;
use super::leaving::Leaving;
use super::noted::{Note, Noted};
use super::orders::Reply;
use super::parts::Parts;
use super::sessions::{LetInBy, SessionName, Sessions};
use super::{Task, Tasks};
use crate::ask::{Priority, Waiter};
use crate::broker::{Broker, BrokerThread};
use crate::command::Done;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::log::{Level, Log};
use crate::metrics::Metrics;
use crate::util::Lock;
use belief::{Belief, Change, PAUSE};

/// Recognises sessions that the broker checks again, asks the API about them, and disconnects those that it refuses.
pub struct Recheck {
    api: Arc<Api>,
    sessions: Arc<Sessions>,
    tasks: Arc<Tasks>,
    broker: Arc<dyn Broker>,
    log: Arc<Log>,
    /// Whether a round may be going on.
    is_going_on: AtomicBool,
    walk: Lock<Walk>,
    noted: Lock<Noted>,
    belief: Arc<Belief>,
    leaving: Arc<Leaving>,
    granting: Arc<Granting>,
    /// The command that has asked for the next round, or for the one that is going on.
    command: Lock<Option<Commanded>>,
    metrics: Arc<Metrics>,
}

/// A command that has the API asked again.
struct Commanded {
    /// About whom; about everybody if there is none.
    username: Option<String>,
    reply: Reply,
    /// Whether the broker has read its files again since.
    has_begun: bool,
    /// About how many sessions the API was asked.
    asked: usize,
}

/// One walk of the broker over all of its sessions.
struct Walk {
    /// Counts the rounds, so that each session is recognised once in each.
    number: u32,
    /// When it began, or recognised a session last.
    last: Instant,
    /// Whether credentials match the hash that their local user has now. Remembered, so that a slow hash is computed
    /// once for all sessions of a user.
    compared: HashMap<Fingerprint, bool, AlreadyHashed>,
}

impl Recheck {
    /// Before the first round.
    pub fn new(parts: &Parts, now: Instant) -> Self {
        Self {
            api: Arc::clone(&parts.api),
            sessions: Arc::clone(&parts.sessions),
            tasks: Arc::clone(&parts.tasks),
            broker: Arc::clone(&parts.broker),
            log: Arc::clone(&parts.log),
            is_going_on: AtomicBool::new(false),
            walk: Lock::new(Walk { number: 0, last: now, compared: HashMap::default() }),
            noted: Lock::default(),
            belief: Arc::new(Belief::new(Arc::clone(&parts.leaving), now)),
            leaving: Arc::clone(&parts.leaving),
            granting: Arc::clone(&parts.granting),
            command: Lock::default(),
            metrics: Arc::clone(&parts.metrics),
        }
    }

    /// Has the API asked again about the sessions of a username, or about all, as after a SIGHUP: only the broker has the
    /// passwords, and it shows them only then. A SIGHUP that somebody else sends at that very moment is one with this.
    /// `reply` hears about how many; whoever calls this waits for it before the next call.
    pub fn ask_about(&self, username: Option<String>, reply: Reply, thread: &BrokerThread) {
        *self.command.lock() = Some(Commanded { username, reply, has_begun: false, asked: 0 });
        self.broker.reload(thread);
    }

    /// Whether the API is asked again about a username in this round.
    fn asks_about(&self, username: &str, by_option: bool) -> bool {
        match &*self.command.lock() {
            Some(command) if command.has_begun => command.username.as_deref().is_none_or(|it| it == username),
            _ => by_option,
        }
    }

    /// Begins a round: the broker has read its configuration again and is about to check all sessions. `by_option`: the API
    /// is asked about them, unless a command says about whom. `asks_otherwise`: since then it is asked in another way.
    pub fn begin(&self, by_option: bool, asks_otherwise: bool, now: Instant) {
        let asks_about_all = self.command.lock().as_mut().map_or(by_option, |command| {
            command.has_begun = true;
            command.username.is_none()
        });
        let mut walk = self.walk.lock();
        // This also ends the round before, which lasts until now on a broker that never ticks.
        walk.number = walk.number.wrapping_add(1);
        walk.last = now;
        walk.compared.clear();
        self.belief.begin(walk.number, asks_about_all, asks_otherwise, now);
        if asks_about_all {
            *self.noted.lock() = Noted::default();
        }
        self.is_going_on.store(true, Ordering::Relaxed);
    }

    /// Ends the round, since the broker's loop has come round.
    pub fn new_turn(&self, now: Instant) {
        if !self.is_going_on.swap(false, Ordering::Relaxed) {
            return;
        }
        let command = self.command.lock().take_if(|command| command.has_begun);
        if let Some(Commanded { reply, asked, .. }) = command {
            reply(Ok(Done::Rechecked(asked)));
        }
        if self.noted.lock().is_empty() {
            self.all_were_asked(now);
        }
    }

    fn all_were_asked(&self, now: Instant) {
        task(&self.belief.all_were_asked(now)).into_iter().for_each(|task| self.tasks.push(task));
    }

    /// Asks about the next ones of those who were noted.
    pub fn ask_on(&self, now: Instant) {
        let few = self.belief.few();
        let (next, is_over) = self.noted.lock().next(few);
        for note in next {
            // Who has gone meanwhile need not be asked about.
            if self.sessions.is_connected(note.session.client(), &note.session.username) {
                self.ask_again(note, now);
            }
        }
        if is_over {
            self.all_were_asked(now);
        } else if !self.belief.pause_asking() {
            self.tasks.push(Task::AskAgain);
        }
    }

    /// Whether this login is the broker's check of a session that exists. The session tells, not the time: new clients
    /// may connect in the middle of a round.
    pub fn recognises(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> bool {
        let Attempt { client, password, .. } = *attempt;
        let Some(thread) = event.broker_thread() else { return false };
        if self.broker.is_2_1() {
            return self.broker.is_session(thread, client.id, client.connection);
        }
        if !self.is_going_on.load(Ordering::Relaxed) {
            return false;
        }
        // 2.0 keeps the address of every client that has connected to it. A session without one was restored from disk,
        // and passwords are not stored there.
        let was_restored = client.address.is_none() && password.is_none();
        was_restored || self.is_session(attempt, event.now)
    }

    /// Whether Mosquitto 2.0, whose check looks like a new login, means a session that was let in here: the same
    /// connection and credentials, and not yet recognised in this round. A client that connects meanwhile has another
    /// connection.
    fn is_session(&self, attempt: &Attempt<'_>, now: Instant) -> bool {
        let Attempt { client, username, credentials, .. } = *attempt;
        let mut walk = self.walk.lock();
        // A tick ends the round. Where none comes, only time can tell, although other plugins may take long for a
        // session.
        let is_going_on = self.api.ticks.has_ticked() || now.saturating_duration_since(walk.last) < PAUSE;
        let is_it = self.sessions.recheck(client, username, credentials, walk.number, is_going_on);
        if is_it {
            walk.last = now;
        }
        is_it
    }

    /// Decides the check of a session that exists.
    pub fn decide(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> Decision {
        let Attempt { client, username, password, credentials, .. } = *attempt;
        // A session that sleeps stays: its client is asked about when it comes back. If it were refused here, 2.0 would
        // read freed memory later.
        if !self.sessions.is_connected(client, username) {
            let is_ours = client.address.is_none() || self.sessions.is_known(client, username);
            return if is_ours { Decision::allow(By::Session) } else { Decision::defer(By::NotOurs) };
        }
        if let Some(hash) = &attempt.hash {
            if self.sessions.is_let_in_by(client, username, credentials, hash) {
                return Decision::allow(By::Session);
            }
            // The user has a new hash, or the username has become a local user's.
            let fits = |password| {
                *self.walk.lock().compared.entry(credentials).or_insert_with(|| hash.verify(password))
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
        if self.asks_about(username, event.settings.config.reload_checks) {
            self.note(attempt, &inquiry, event.now);
        }
        Decision::allow(By::Session)
    }

    /// Has a connected client asked about when the broker's loop has come round, or at once where it does not say so.
    fn note(&self, attempt: &Attempt<'_>, inquiry: &Inquiry<'_>, now: Instant) {
        // 2.0 comes round by itself all the time.
        if self.broker.is_2_1() {
            self.tasks.start_waking_if_possible();
        }
        if let Some(command) = &mut *self.command.lock()
            && command.has_begun
        {
            command.asked += 1;
        }
        let session = SessionName::of(attempt);
        let note = Note { session, key: inquiry.key, question: inquiry.question.to_owned() };
        let is_round = self.api.ticks.has_ticked() && self.is_going_on.load(Ordering::Relaxed);
        let mut noted = self.noted.lock();
        if !is_round || noted.is_full() {
            drop(noted);
            return self.ask_again(note, now);
        }
        let is_first = noted.add(note);
        drop(noted);
        if is_first {
            self.tasks.push(Task::AskAgain);
        }
    }

    /// Asks about a connected client beside the loop.
    fn ask_again(&self, Note { session, key, question }: Note, now: Instant) {
        let Some((round, number)) = self.belief.ask(key, now) else { return };
        let source = self.api.asker.source(session.address.as_deref(), &session.username);
        let (belief, tasks) = (Arc::clone(&self.belief), Arc::clone(&self.tasks));
        let granting = self.reads_bodies().then(|| Arc::clone(&self.granting));
        let waiter = Waiter::however_late(move |answer| {
            if let Some(granting) = granting {
                granting.renew(&session, answer, Instant::now());
            }
            let change = belief.answered(round, session, answer, Instant::now());
            task(&change).into_iter().for_each(|task| tasks.push(task));
            if belief.take_resume() {
                tasks.push(Task::AskAgain);
            }
        })
        .who_may_leave(number);
        // If there is no thread to ask with, the next login says so.
        let question = question.as_question();
        if self.api.asker.ask(key, &question, source, Priority::Revoke, Some(waiter), now).is_err() {
            self.belief.not_asked(round);
        }
    }

    /// Whether the API's answers are read (`answer_rules`).
    fn reads_bodies(&self) -> bool {
        self.api.asker.target().config.answer_rules
    }

    /// Asks no further, since the API refuses everybody.
    pub fn stop(&self) {
        for (question, number) in self.belief.in_vain() {
            self.api.asker.leave(question, number);
        }
        let line = "The API refused everybody whom it was asked about again after the SIGHUP (401 or 403). So nobody is \
                    disconnected, and it is not asked any further. Has the token expired with which this broker asks it \
                    (plugin_opt_header_file), or has the configuration file lost it? Put it right and send another \
                    SIGHUP. If all of them are to go, restart the broker; of fewer than 20, another SIGHUP without a change \
                    will do.";
        self.log.write(Level::Error, line);
    }
}

/// What the broker's thread has to do after a change.
fn task(change: &Change) -> Option<Task> {
    match change {
        Change::None => None,
        Change::SomebodyGoes => Some(Task::SomebodyLeaves),
        Change::Disbelieved => Some(Task::Disbelieved),
    }
}
