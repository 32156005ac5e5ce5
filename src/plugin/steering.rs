//! What commands and metrics see and do of a plugin: from any thread, while the broker waits or not.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Instant, SystemTime};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::api::Api;
use super::current::Current;
use super::from_others::FromOthers;
use super::login::Logins;
use super::orders::{OnDone, Order, OrderPlace, Recipient};
use super::parts::Parts;
use super::sessions::Sessions;
use super::settings::what_is_asked;
use super::tasks::{Task, Tasks};
use super::token::Token;
use crate::ask::Asker;
use crate::broker::Broker;
use crate::command::{self, Command, Done, Giver, Whom};
use crate::config::Config;
use crate::fingerprint::{Fingerprinter, Whose};
use crate::log::{Level, Log};
use crate::metrics::{Gauges, Metrics};
use crate::prefetch::Prefetch;
use crate::question::{Kind, NoAnswer};

/// Kicks that may wait for the broker's thread: a few would do, since there is one operator. Of rechecks one may, since the
/// broker goes through its sessions for one at a time.
const KICKS: usize = 64;

/// Answers that may wait for the broker's thread, one for each message with commands.
const ANSWERS: usize = 64;

/// Explanations that may wait for each other.
const EXPLANATIONS: usize = 64;

/// A handle to a plugin's parts. Whoever holds one must be gone before the plugin ends.
pub struct Steering {
    pub(super) settings: Arc<Current>,
    pub(super) logins: Arc<Logins>,
    pub(super) api: Arc<Api>,
    pub(super) asker: Arc<Asker>,
    pub(super) prefetch: Arc<Prefetch>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) keys: Fingerprinter,
    tasks: Arc<Tasks>,
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
    delays: bool,
    /// How many of each wait for the broker's thread.
    kicks: Arc<AtomicUsize>,
    rechecks: Arc<AtomicUsize>,
    answers: Arc<AtomicUsize>,
    /// What other brokers have told and waits.
    pub(super) from_others: FromOthers,
    /// Explanations may compare slow hashes, which take 46 MiB each: one at a time.
    explaining: Arc<Semaphore>,
    /// How many wait, and the one that is made.
    explanations: Arc<Semaphore>,
}

impl Steering {
    /// A handle to these parts.
    pub fn new(parts: &Parts, settings: Arc<Current>, logins: Arc<Logins>) -> Self {
        Self {
            settings,
            logins,
            api: Arc::clone(&parts.api),
            asker: Arc::clone(&parts.asker),
            prefetch: Arc::clone(&parts.prefetch),
            sessions: Arc::clone(&parts.sessions),
            keys: parts.keys,
            tasks: Arc::clone(&parts.tasks),
            broker: Arc::clone(&parts.broker),
            metrics: Arc::clone(&parts.metrics),
            log: Arc::clone(&parts.log),
            delays: parts.delays,
            kicks: Arc::default(),
            rechecks: Arc::default(),
            answers: Arc::default(),
            from_others: FromOthers::default(),
            explaining: Arc::new(Semaphore::new(1)),
            explanations: Arc::new(Semaphore::new(EXPLANATIONS)),
        }
    }

    /// The options that count now.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings.now().config)
    }

    /// The token that commands over TCP want, if one is set.
    pub fn token(&self) -> Option<Token> {
        self.settings.now().admin_token.clone()
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether clients wait beside the broker's loop.
    pub fn delays(&self) -> bool {
        self.delays
    }

    /// Whether the broker is 2.1 or later.
    pub fn is_2_1(&self) -> bool {
        self.broker.is_2_1()
    }

    /// Who is asked about what, in the words of the log.
    pub fn asked(&self) -> String {
        what_is_asked(&self.settings.now())
    }

    /// The latest refusals in the log, and when they were written. They name clients.
    pub fn refusals(&self) -> Vec<(SystemTime, String)> {
        self.log.latest_refusals()
    }

    /// Why logins or topics cannot be decided now, if that is so.
    pub fn trouble(&self, now: Instant) -> Option<&'static str> {
        let config = self.config();
        // A breaker that is open for one network alone, or for made-up names, does not count.
        let refuses = |kind| self.asker.refuses_all(kind, now);
        if !config.auth_urls.is_empty() && refuses(Kind::Connect) {
            Some("all URLs of auth_url are left alone, since they gave no answers")
        } else if !config.acl_urls.is_empty() && refuses(Kind::Access) {
            Some("all URLs of acl_url are left alone, since they gave no answers")
        } else {
            None
        }
    }

    /// What is so at this moment.
    pub fn gauges(&self, now: Instant) -> Gauges {
        let target = self.asker.target();
        let (cache, unanswered) = self.asker.counts();
        Gauges {
            queued: unanswered.saturating_sub(target.questions_under_way()),
            endpoints: target.figures(now),
            cache,
            parked: self.logins.parked(),
            rules: self.asker.pool().bytes(),
            is_ready: self.trouble(now).is_none(),
            shared_cache: self.asker.shared_cache(),
        }
    }

    /// Carries out a command that was given here: forgets at once, and has the broker's thread do the rest at its next tick. What
    /// is accepted the other brokers are told, too (they carry it out by `carry_out_told`). The log gets a line about what came
    /// of it, and `reply` hears the same.
    pub fn carry_out(self: &Arc<Self>, command: Command, giver: Giver, reply: OnDone) {
        let reply = self.noting(command.clone(), giver, reply);
        let tell_others = |command| self.asker.tell_others(command);
        match command.clone() {
            Command::Forget(whom) => {
                self.forget(&whom, Instant::now());
                tell_others(command);
                reply(Ok(Done::Forgotten));
            }
            Command::Kick(named) => match OrderPlace::among(&self.kicks, KICKS) {
                Some(place) => {
                    self.order(Order::Kick(named, place.held_by(reply)));
                    tell_others(command);
                }
                None => reply(Err("too many commands wait for the broker's thread".to_owned())),
            },
            Command::Recheck(username) => match self.place_of_recheck() {
                Some(place) => {
                    self.order(Order::Recheck(username, place.held_by(reply)));
                    tell_others(command);
                }
                None => reply(Err("another recheck is being carried out; try again in a moment".to_owned())),
            },
        }
    }

    /// The place of the one recheck that may wait or be going on.
    pub(super) fn place_of_recheck(&self) -> Option<OrderPlace> {
        OrderPlace::among(&self.rechecks, 1)
    }

    /// Begins the next recheck that another broker has told, unless one is going on. Whoever ends one calls this.
    pub(super) fn recheck_next(self: &Arc<Self>) {
        // Another thread that has come meanwhile may have found the place taken.
        while self.from_others.has_rechecks() {
            let Some(place) = self.place_of_recheck() else { return };
            let Some(username) = self.from_others.next_recheck() else { continue };
            let reply = self.noting(Command::Recheck(username.clone()), Giver::Broker, Box::new(drop));
            return self.order(Order::Recheck(username, place.held_by(reply)));
        }
    }

    /// What has the log tell of an outcome, and then hears it. The place of the command is free again by then, so the next
    /// recheck that another broker has told may begin.
    pub(super) fn noting(self: &Arc<Self>, command: Command, giver: Giver, reply: OnDone) -> OnDone {
        // It may be in the plugin's queue when the plugin ends, so it does not hold it.
        let steering = Arc::downgrade(self);
        Box::new(move |outcome| {
            if let Some(steering) = steering.upgrade() {
                steering.log.write(Level::Notice, command::line(&command, &giver, &outcome));
                // The broker's thread writes it, and may sleep for long.
                steering.broker.wake();
                steering.recheck_next();
            }
            reply(outcome);
        })
    }

    /// Forgets what the API has said of somebody, what is on its way included, and what it alone was seen to ask; with
    /// everybody also what clients were seen to ask whose names look alike.
    pub(super) fn forget(&self, whom: &Whom, now: Instant) {
        let whose = whom.whose(&self.keys);
        self.asker.forget(whose, now);
        // Whoever has just found something in there is let in with it.
        self.sessions.forget(whose, Instant::now());
        match whose {
            Whose::Everybody => self.prefetch.unlearn(),
            Whose::Username(_) | Whose::ClientId(_) => self.prefetch.forget(whose),
        }
    }

    /// What clients were seen to ask after their login, as values of `acl_prefetch`, what is asked most first.
    pub fn learnt(&self) -> Vec<String> {
        self.prefetch.learnt()
    }

    /// Has the broker's thread send a client these bytes as the answer to its commands, at its next tick. If too many wait,
    /// it gets none: it has asked too much at once.
    pub fn answer(&self, to: Recipient, payload: Vec<u8>) {
        if let Some(place) = OrderPlace::among(&self.answers, ANSWERS) {
            self.order(Order::Answer(to, payload, place));
        }
    }

    pub(super) fn order(&self, order: Order) {
        self.tasks.start_waking_if_possible();
        self.tasks.push(Task::Order(order));
    }

    /// Runs something on the plugin's own thread, until it ends or the plugin does.
    ///
    /// # Errors
    /// Why there is no such thread.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), NoAnswer> {
        self.asker.run_in_background(task)
    }

    /// Runs something that may take long, such as comparing a slow hash, on a thread of its own, one after the other.
    ///
    /// # Errors
    /// Why there is no such thread, or that too much waits for it.
    pub fn run_slowly(&self, task: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let Ok(place) = Arc::clone(&self.explanations).try_acquire_owned() else {
            return Err("too many explanations wait for each other".to_owned());
        };
        let one_at_a_time = Arc::clone(&self.explaining);
        let ran = self.run(async move {
            let _place = place;
            if let Ok(turn) = one_at_a_time.acquire_owned().await {
                // The thread takes no signals, as the one that it is started by.
                let _ = spawn_blocking(task).await;
                drop(turn);
            }
        });
        ran.map_err(|why| why.to_string())
    }

    /// The broker's process.
    pub fn broker(&self) -> &dyn Broker {
        &*self.broker
    }
}
