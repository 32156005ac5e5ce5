//! Who may do what: one method for each event of the broker, and the parts that decide.

mod api;
mod attempt;
mod completion;
mod decision;
mod delayed;
mod early;
mod event;
mod hasher;
mod left_behind;
mod login;
mod recheck;
mod refusals;
mod reload;
mod sessions;
mod settings;
mod throttle;
mod topic_check;
mod wait_budget;

use std::sync::Arc;
use std::time::Instant;

use once_cell::sync::OnceCell;

use crate::ask::Asker;
use crate::ask::http::Names;
use crate::broker::{Broker, BrokerThread, Caller, Client};
use crate::config::BrokerOptions;
use crate::fingerprint::Fingerprinter;
use crate::log::{Level, Log};
use crate::main_queue::MainQueue;
use crate::prefetch::Prefetch;
use crate::question::{Access, Answer};
use crate::util::random;
use api::Api;
pub use decision::{By, Decision, Refusal, Ruling};
use delayed::{Delayed, Ticket};
use early::EarlySenders;
use event::Event;
pub use event::{Login, TopicCheck};
use login::Logins;
use recheck::Recheck;
pub use sessions::SessionStays;
use sessions::Sessions;
pub use settings::StartError;
use settings::{Current, Mode, Settings};
use throttle::{Group, Throttle};
use topic_check::Topics;

/// A task that another thread, or an earlier event, leaves for the broker's thread.
#[derive(Debug)]
enum Task {
    /// A parked client's question has been answered.
    Answered(Ticket, Answer),
    /// A parked client's password has been compared with a local hash.
    PasswordChecked(Ticket, bool),
    /// There may be room in a group of tries, for clients that are parked until it is their turn.
    NextTurn(Group),
    /// The API was asked again about connected clients and refused some.
    Revoked,
    /// The API was asked again about connected clients and refused all of them, so it is not believed.
    Disbelieved,
}

impl Task {
    /// The parked client that it is about.
    fn ticket(&self) -> Option<Ticket> {
        match self {
            Task::Answered(ticket, _) | Task::PasswordChecked(ticket, _) => Some(*ticket),
            Task::NextTurn(_) | Task::Revoked | Task::Disbelieved => None,
        }
    }
}

type Tasks = MainQueue<Task>;

/// One loaded plugin. Nothing of it is shared with another instance in the same broker.
pub struct Plugin {
    settings: Current,
    logins: Logins,
    topics: Topics,
    api: Arc<Api>,
    sessions: Arc<Sessions>,
    names: Names,
    broker: Arc<dyn Broker>,
    log: Arc<Log>,
}

impl Plugin {
    /// Reads options and files. Starts no thread and sends nothing.
    ///
    /// # Errors
    /// All mistakes that were found in options and files, or the one reason why the plugin cannot work here.
    pub fn new(
        options: BrokerOptions,
        broker: Arc<dyn Broker>,
        thread: &BrokerThread,
        now: Instant,
    ) -> Result<Self, Vec<StartError>> {
        let log = Arc::new(Log::new(now));
        let spawner = Arc::clone(&broker);
        let names = Names::new(move |body| spawner.spawn(body), broker.look_up());
        let (settings, target) = Settings::read(&options, broker.is_2_1(), &names, &log)?;
        let mode = Mode::choose(&settings.config, &*broker, thread).map_err(settings::one)?;
        let key = random::key().ok_or_else(|| settings::one(StartError::NoRandomness))?;
        let keys = Fingerprinter::with_key(&key);
        settings::introduce(&settings, mode, broker.is_2_1(), &log);
        let tasks = Arc::new(Tasks::new(Arc::clone(&broker)));
        let asker = Arc::new(Asker::new(Arc::clone(&log), Arc::clone(&broker), keys, Arc::new(target), now));
        let prefetch = Arc::new(Prefetch::new(Arc::clone(&asker), Arc::clone(&broker), keys));
        let sessions = Arc::new(Sessions::new(keys, broker.is_2_1()));
        let throttle = Arc::new(Throttle::new(keys));
        let delays = mode.delays();
        let api =
            Arc::new(Api::new(asker, prefetch, Arc::clone(&sessions), Arc::clone(&throttle), delays, now));
        let recheck = Recheck::new(
            Arc::clone(&api),
            Arc::clone(&sessions),
            Arc::clone(&tasks),
            Arc::clone(&broker),
            Arc::clone(&log),
            now,
        );
        let logins = Logins {
            api: Arc::clone(&api),
            sessions: Arc::clone(&sessions),
            throttle,
            recheck,
            delayed: Delayed::default(),
            early: EarlySenders::new(now),
            delays,
            keys,
            hasher: OnceCell::new(),
            tasks: Arc::clone(&tasks),
            broker: Arc::clone(&broker),
            log: Arc::clone(&log),
        };
        let topics =
            Topics::new(Arc::clone(&api), Arc::clone(&sessions), Arc::clone(&broker), Arc::clone(&log));
        let settings = Current::new(options, settings);
        Ok(Self { settings, logins, topics, api, sessions, names, broker, log })
    }

    /// The log, where lines wait until the broker's thread holds no lock and writes them.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether any option has this plugin decide about topics. A reload may change that.
    pub fn checks_topics(&self) -> bool {
        self.settings.now().config.checks_topics()
    }

    /// Decides a login (`MOSQ_EVT_BASIC_AUTH`).
    pub fn authenticate(&self, login: &Login<'_>, caller: &Caller, now: Instant) -> Decision {
        let settings = self.settings.now();
        self.logins.authenticate(login, &Event { now, caller, settings: &settings })
    }

    /// Decides a topic check (`MOSQ_EVT_ACL_CHECK`). `now` may be some milliseconds in the future.
    pub fn authorise(&self, check: &TopicCheck<'_>, caller: &Caller, now: Instant) -> Decision {
        // Where no tick comes, whoever was revoked leaves with its next message.
        if check.access == Access::Write && self.logins.recheck.is_overdue_to_leave(check, now) {
            return Decision { ruling: Ruling::Disconnect, by: By::Recheck };
        }
        let settings = self.settings.now();
        self.topics.authorise(check, &Event { now, caller, settings: &settings })
    }

    /// Notes an UNSUBSCRIBE. It needs no permission.
    pub fn unsubscribed(&self, client: Client<'_>, filter: &str) {
        self.topics.unsubscribed(client, filter);
    }

    /// Notes that a connection has ended (`MOSQ_EVT_DISCONNECT`, and `MOSQ_EVT_CLIENT_OFFLINE` where the broker has
    /// it), and whether its session stays.
    pub fn disconnected(&self, client: Client<'_>, username: &str, stays: SessionStays, now: Instant) {
        // A client that another plugin or a certificate let in has no session here: its id is all there is to go by.
        let is_gone =
            self.sessions.close(client, username, stays, now) || !self.sessions.has(client, username);
        if is_gone && stays != SessionStays::Yes {
            self.api.prefetch.is_gone(client.id, username);
        }
    }

    /// Notes that a client was let in (`MOSQ_EVT_CONNECT`): by this plugin, another one, or a certificate.
    pub fn connected(&self, client: Client<'_>, username: &str) {
        self.sessions.opened(client, username);
    }

    /// Begins a turn of the broker's loop (`MOSQ_EVT_TICK`): completes parked clients and runs tasks.
    pub fn tick(&self, caller: &Caller, now: Instant) {
        self.api.new_turn(now);
        self.sessions.new_turn();
        self.logins.recheck.new_turn(now);
        if let Some(thread) = caller.broker_thread() {
            let settings = self.settings.now();
            let event = Event { now, caller, settings: &settings };
            self.logins.forget_those_who_hung_up(thread, now);
            self.logins.complete_those_who_waited(thread, &event);
            self.logins.run_tasks(thread, &event);
        }
        self.log.tick(now);
    }

    /// Whether the broker should tick again soon: the time of a parked client may be up, or one waits for an answer and
    /// the loop cannot be woken for it.
    pub fn wants_tick(&self, thread: &BrokerThread) -> bool {
        let delayed = &self.logins.delayed;
        self.logins.delays
            && (delayed.has_deadlines() || (!delayed.is_empty() && !self.broker.can_wake(thread)))
    }

    /// Reads all files again (`MOSQ_EVT_RELOAD`, SIGHUP), and takes over what they say only if all of them are fine.
    /// Either way, a recheck of all sessions begins.
    pub fn reload(&self, now: Instant) {
        match self.settings.reload(self.broker.is_2_1(), &self.names, &self.log) {
            Ok(target) => self.api.asker.set_target(Arc::new(target)),
            Err(errors) => {
                for error in errors {
                    let line = format!("{error}. Nothing was taken over: what was loaded before stays.");
                    self.log.write(Level::Error, line);
                }
            }
        }
        self.logins.recheck.begin(now);
    }
}
