//! After a SIGHUP the broker checks every session once more, one after the other, while its loop stands still. It
//! disconnects each session whose check does not succeed at once. So the plugin keeps every session that was let in,
//! asks the API in the background, and disconnects a client later if the API refuses it.

mod belief;
mod going;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::api::{Api, Inquiry};
use super::attempt::Attempt;
use super::decision::{By, Decision};
use super::event::Event;
use super::granting::Granting;
use super::leaving::Leaving;
use super::noted::{Note, Noted};
use super::orders::OnDone;
use super::parts::Parts;
use super::sessions::{LetInBy, Sessions};
use super::tasks::{Task, Tasks};
use super::ticks::Ticks;
use crate::ask::{Asker, Priority, Waiter};
use crate::broker::{Broker, BrokerCell, BrokerThread, Connection, Details};
use crate::command::Done;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::local::PasswordHash;
use crate::log::{Level, Log};
use crate::metrics::Metrics;
use belief::{Belief, Change, PAUSE};

/// Recognises sessions that the broker checks again, asks the API about them, and disconnects those that it refuses.
pub struct Recheck {
    api: Arc<Api>,
    asker: Arc<Asker>,
    ticks: Arc<Ticks>,
    sessions: Arc<Sessions>,
    tasks: Arc<Tasks>,
    broker: Arc<dyn Broker>,
    log: Arc<Log>,
    round: BrokerCell<Round>,
    belief: Arc<Belief>,
    leaving: Arc<Leaving>,
    granting: Arc<Granting>,
    metrics: Arc<Metrics>,
}

/// A command that has the API asked again.
struct Commanded {
    /// About whom; about everybody if there is none.
    username: Option<String>,
    reply: OnDone,
    /// Whether the broker has read its files again since.
    has_begun: bool,
    /// About how many sessions the API was asked.
    asked: usize,
}

/// One round: the broker checks all of its sessions.
struct Round {
    /// Whether it may be going on.
    is_going_on: bool,
    /// Counts the rounds, so that each session is recognised once in each.
    number: u32,
    /// When it began, or recognised a session last.
    last: Instant,
    /// Whether credentials match the hash that their local user has now. Remembered, so that a slow hash is computed
    /// once for all sessions of a user.
    compared: HashMap<Fingerprint, bool, AlreadyHashed>,
    /// Those whom the API is to be asked about when the broker's loop has come round.
    noted: Noted,
    /// Whose sockets were there when it began, in order, if that can be told.
    with_sockets: Option<Vec<Connection>>,
    /// The command that has asked for the next round, or for this one.
    command: Option<Commanded>,
}

impl Round {
    /// Before the first one.
    fn none(now: Instant) -> Self {
        Self {
            is_going_on: false,
            number: 0,
            last: now,
            compared: HashMap::default(),
            noted: Noted::default(),
            with_sockets: None,
            command: None,
        }
    }

    /// Begins the next one, as [`Recheck::begin`] says. Returns whether the API is asked about everybody.
    fn begin(&mut self, by_option: bool, now: Instant) -> bool {
        let asks_about_all = self.command.as_mut().map_or(by_option, |command| {
            command.has_begun = true;
            command.username.is_none()
        });
        // This also ends the round before, which lasts until now on a broker that never ticks.
        self.number = self.number.wrapping_add(1);
        (self.is_going_on, self.last) = (true, now);
        self.compared.clear();
        if asks_about_all {
            self.noted = Noted::default();
        }
        asks_about_all
    }

    /// Whether the API is asked again about a username.
    fn asks_about(&self, username: &str, by_option: bool) -> bool {
        match &self.command {
            Some(command) if command.has_begun => command.username.as_deref().is_none_or(|it| it == username),
            _ => by_option,
        }
    }

    /// Counts a session that the API is asked about, for the command that has asked for that.
    fn count_asked(&mut self) {
        if let Some(command) = self.command.as_mut().filter(|command| command.has_begun) {
            command.asked += 1;
        }
    }
}

impl Recheck {
    /// Before the first round.
    pub fn new(parts: &Parts, now: Instant) -> Self {
        Self {
            api: Arc::clone(&parts.api),
            asker: Arc::clone(&parts.asker),
            ticks: Arc::clone(&parts.ticks),
            sessions: Arc::clone(&parts.sessions),
            tasks: Arc::clone(&parts.tasks),
            broker: Arc::clone(&parts.broker),
            log: Arc::clone(&parts.log),
            round: BrokerCell::new(Round::none(now)),
            belief: Arc::new(Belief::new(Arc::clone(&parts.leaving), now)),
            leaving: Arc::clone(&parts.leaving),
            granting: Arc::clone(&parts.granting),
            metrics: Arc::clone(&parts.metrics),
        }
    }

    /// Has the API asked again about the sessions of a username, or about all, as after a SIGHUP: only the broker has the
    /// passwords, and it shows them only then. A SIGHUP that somebody else sends at that very moment is one with this.
    /// `reply` hears about how many; whoever calls this waits for it before the next call.
    pub fn ask_about(&self, username: Option<String>, reply: OnDone, thread: &BrokerThread) {
        let command = Commanded { username, reply, has_begun: false, asked: 0 };
        self.round.with(thread, |round| round.command = Some(command));
        self.broker.reload(thread);
    }

    /// Begins a round: the broker has read its configuration again and is about to check all sessions. `by_option`: the API
    /// is asked about them, unless a command says about whom. `asks_otherwise`: since then it is asked in another way.
    pub fn begin(&self, by_option: bool, asks_otherwise: bool, thread: &BrokerThread, now: Instant) {
        // 2.1 tells of each session whether it is one.
        let with_sockets = if self.broker.is_2_1() { None } else { self.broker.connections(thread) };
        let (number, asks_about_all) = self.round.with(thread, |round| {
            round.with_sockets = with_sockets;
            let asks_about_all = round.begin(by_option, now);
            (round.number, asks_about_all)
        });
        self.belief.begin(number, asks_about_all, asks_otherwise, now);
    }

    /// Ends the round, since the broker's loop has come round.
    pub fn new_turn(&self, thread: &BrokerThread, now: Instant) {
        let ended = self.round.with(thread, |round| {
            round.with_sockets = None;
            let was_going_on = mem::take(&mut round.is_going_on);
            was_going_on.then(|| (round.command.take_if(|it| it.has_begun), round.noted.is_empty()))
        });
        let Some((command, all_were_asked)) = ended else { return };
        if let Some(Commanded { reply, asked, .. }) = command {
            reply(Ok(Done::Rechecked(asked)));
        }
        if all_were_asked {
            self.all_were_asked(now);
        }
    }

    fn all_were_asked(&self, now: Instant) {
        task(&self.belief.all_were_asked(now)).into_iter().for_each(|task| self.tasks.push(task));
    }

    /// Asks about the next ones of those who were noted.
    pub fn ask_on(&self, thread: &BrokerThread, now: Instant) {
        let few = self.belief.few();
        let (next, is_over) = self.round.with(thread, |round| round.noted.next(few));
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

    /// The decision about a login that is the broker's check of a session that exists.
    pub fn check_again(
        &self,
        attempt: &Attempt<'_>,
        details: &dyn Details,
        event: &Event<'_>,
    ) -> Option<Decision> {
        let thread = event.broker_thread()?;
        if self.was_deferred(attempt, thread) {
            return Some(Decision::defer(By::NotOurs));
        }
        if self.recognise(attempt, thread, event.now) {
            return Some(self.decide(attempt, thread, event));
        }
        self.is_asleep(attempt, details, thread).then_some(Decision::allow(By::Session))
    }

    /// Whether a login is the broker's check of a session that exists. The session tells, not the time: new clients may
    /// connect in the middle of a round. Each session is recognised once in a round.
    fn recognise(&self, attempt: &Attempt<'_>, thread: &BrokerThread, now: Instant) -> bool {
        let Attempt { client, password, .. } = *attempt;
        if self.broker.is_2_1() {
            return self.broker.is_session(thread, client.id, client.connection);
        }
        if !self.round.with(thread, |round| round.is_going_on) {
            return false;
        }
        // 2.0 keeps the address of every client that has connected to it. A session without one was restored from disk,
        // and passwords are not stored there.
        let was_restored = client.address.is_none() && password.is_none();
        was_restored || self.recognise_session(attempt, thread, now)
    }

    /// Whether Mosquitto 2.0 means a session that others have let in. Where no tick ends the round, whoever came later would be
    /// taken for one.
    fn was_deferred(&self, attempt: &Attempt<'_>, thread: &BrokerThread) -> bool {
        self.ticks.has_ticked()
            && self.round.with(thread, |round| round.is_going_on)
            && self.sessions.was_deferred(attempt.client.connection, attempt.credentials)
    }

    /// Whether Mosquitto 2.0 means a session that sleeps and is not known here: one that a certificate or another plugin has
    /// let in. From the reload until its loop comes round it serves nobody but clients that use websockets, which are not in the
    /// list of sockets. So whoever is not there and uses none is not just logging in.
    fn is_asleep(&self, attempt: &Attempt<'_>, details: &dyn Details, thread: &BrokerThread) -> bool {
        let connection = attempt.client.connection;
        let has_no_socket = |round: &mut Round| {
            round.is_going_on
                && round.with_sockets.as_ref().is_some_and(|all| all.binary_search(&connection).is_err())
        };
        self.ticks.has_ticked() && self.round.with(thread, has_no_socket) && !details.uses_websockets()
    }

    /// Whether Mosquitto 2.0, whose check looks like a new login, means a session that was let in here: the same
    /// connection and credentials, and not yet recognised in this round. A client that connects meanwhile has another
    /// connection.
    fn recognise_session(&self, attempt: &Attempt<'_>, thread: &BrokerThread, now: Instant) -> bool {
        let Attempt { client, username, credentials, .. } = *attempt;
        let (number, last) = self.round.with(thread, |round| (round.number, round.last));
        // A tick ends the round. Where none comes, only time can tell, although other plugins may take long for a
        // session.
        let is_going_on = self.ticks.has_ticked() || now.saturating_duration_since(last) < PAUSE;
        let is_it = self.sessions.recheck(client, username, credentials, number, is_going_on);
        if is_it {
            self.round.with(thread, |round| round.last = now);
        }
        is_it
    }

    /// Decides the check of a session that exists.
    fn decide(&self, attempt: &Attempt<'_>, thread: &BrokerThread, event: &Event<'_>) -> Decision {
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
            if !password.is_some_and(|password| self.compare(password, hash, credentials, thread, event)) {
                return Decision::deny(By::LocalPassword);
            }
            let by = LetInBy::Local(Arc::clone(hash));
            self.sessions.admit(client, username, credentials, by, None, event.now);
            return Decision::allow(By::LocalPassword);
        }
        if event.settings.config.auth_urls.is_empty() {
            return Decision::defer(By::NotOurs);
        }
        // Only a local user, which it is no more, can have got in with such a password.
        let Some(inquiry) = attempt.inquiry() else { return Decision::deny(By::PasswordIsNoText) };
        let by_option = event.settings.config.reload_checks;
        if self.round.with(thread, |round| round.asks_about(username, by_option)) {
            self.note(attempt, &inquiry, thread, event.now);
        }
        Decision::allow(By::Session)
    }

    /// Whether a password fits a hash. Compared once in a round for all sessions with these credentials, while the broker
    /// stands still.
    fn compare(
        &self,
        password: &[u8],
        hash: &PasswordHash,
        credentials: Fingerprint,
        thread: &BrokerThread,
        event: &Event<'_>,
    ) -> bool {
        if let Some(fits) = self.round.with(thread, |round| round.compared.get(&credentials).copied()) {
            return fits;
        }
        let began = Instant::now();
        let fits = hash.verify(password);
        if hash.is_slow() {
            self.api.charge_hash(began, event);
        }
        self.round.with(thread, |round| round.compared.insert(credentials, fits));
        fits
    }

    /// Has a connected client asked about when the broker's loop has come round, or at once where it does not say so.
    fn note(&self, attempt: &Attempt<'_>, inquiry: &Inquiry<'_>, thread: &BrokerThread, now: Instant) {
        // 2.0 comes round by itself all the time.
        if self.broker.is_2_1() {
            self.tasks.start_waking_if_possible();
        }
        let session = attempt.session_name();
        let note = Note { session, key: inquiry.key, question: inquiry.question.to_owned() };
        let has_room = self.round.with(thread, |round| {
            round.count_asked();
            round.is_going_on && !round.noted.is_full()
        });
        if !has_room || !self.ticks.has_ticked() {
            return self.ask_again(note, now);
        }
        if self.round.with(thread, |round| round.noted.add(note)) {
            self.tasks.push(Task::AskAgain);
        }
    }

    /// Asks about a connected client in the background.
    fn ask_again(&self, Note { session, key, question }: Note, now: Instant) {
        let Some((round, number)) = self.belief.ask(key, now) else { return };
        let source = self.asker.source(session.address.as_deref(), &session.username);
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
        if self.asker.ask(key, &question, source, Priority::Revoke, Some(waiter), now).is_err() {
            self.belief.not_asked(round);
        }
    }

    /// Whether the API's answers are read (`answer_rules`).
    fn reads_bodies(&self) -> bool {
        self.asker.target().config.answer_rules
    }

    /// Asks no further, since the API refuses everybody.
    pub fn stop(&self) {
        for (question, number) in self.belief.in_vain() {
            self.asker.leave(question, number);
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
