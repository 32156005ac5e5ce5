//! The decision: refuse what cannot be asked, local users, what is remembered, the API. One method for
//! each event of the broker.
mod ahead;
mod hasher;
mod login;
pub mod parked;
mod recheck;
pub mod sessions;
mod settings;
pub mod throttle;
mod wait_budget;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::ask::worker::{Class, Worker};
use crate::ask::{Listener, Verdicts};
use crate::broker::Broker;
use crate::broker::Client;
use crate::cache::Hit;
use crate::config::{BrokerOptions, Config};
use crate::fingerprint::{AlreadyHashed, Fingerprint, Fingerprinter};
use crate::log::{Level, Log, quoted};
use crate::main_queue::Errands;
use crate::plugin::parked::Parking;
use crate::plugin::throttle::Throttle;
use crate::prefetch::peek::Lookahead;
use crate::prefetch::subscriptions::Subscriptions;
use crate::question::{Access, Answer, NoAnswer, Question, Verdict};
use crate::util::random;
use hasher::Checker;
pub use login::Login;
use sessions::{SessionStays, Sessions};
pub use settings::StartError;
use settings::{Loaded, Mode};
use wait_budget::Patience;

/// What the plugin says to a question of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// Not this plugin's business: the next plugin or the broker itself decides.
    Defer,
    /// Not known yet: the client waits beside the broker's loop, and will be completed.
    Later,
    /// No, because too many wait already.
    Busy,
    /// No, and the client has no business here any more.
    Disconnect,
}

/// A topic check.
#[derive(Debug, Clone, Copy)]
pub struct TopicCheck<'a> {
    /// Who.
    pub client: Client<'a>,
    /// Its username, never empty; who let it in with that name is another matter.
    pub username: Option<&'a str>,
    /// The topic or filter.
    pub topic: &'a str,
    /// What the client wants to do with it.
    pub access: Access,
}

/// Why a client was refused, in words for the log.
enum Refusal {
    NoUsername,
    PasswordIsNoText,
    WrongLocalPassword,
    TooManyTries(Duration),
    ReadAgain,
    LocalRules,
    SpecialCharacters,
    Anonymous,
    Api { status: u16, remembered: bool },
    NoAnswer(NoAnswer),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoUsername => f.write_str("a password without a username cannot be asked about"),
            Refusal::PasswordIsNoText => {
                f.write_str("the password is no UTF-8 text and cannot be written in JSON")
            }
            Refusal::WrongLocalPassword => f.write_str("wrong password for a local user"),
            Refusal::TooManyTries(pause) => write!(
                f,
                "too many wrong passwords from there; to be tried again in {}s (plugin_opt_throttle_after)",
                pause.as_secs() + 1
            ),
            Refusal::ReadAgain => {
                f.write_str("the files were read again while its password was checked; it may try again")
            }
            Refusal::LocalRules => f.write_str("the local user's topic rules do not allow it"),
            Refusal::SpecialCharacters => {
                f.write_str("the username or client id holds + or # (plugin_opt_special_chars)")
            }
            Refusal::Anonymous => f.write_str("the client is anonymous (plugin_opt_anonymous)"),
            Refusal::Api { status, remembered: false } => write!(f, "the API answered {status}"),
            Refusal::Api { status, remembered: true } => {
                write!(f, "the API answered {status} a moment ago")
            }
            Refusal::NoAnswer(reason) => write!(f, "the API gave no answer: {reason}"),
        }
    }
}

impl Refusal {
    /// Whether somebody tried a wrong password: only that counts against them, and not, say, an API that
    /// answers 404 to everybody.
    fn is_about_the_password(&self) -> bool {
        matches!(self, Refusal::WrongLocalPassword | Refusal::Api { status: 401 | 403, .. })
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::NoAnswer(NoAnswer::NotAsked(format!("no thread to ask with: {error}")))
    }
}

/// One loaded plugin. Nothing of it is shared with another instance in the same broker.
pub struct Plugin {
    /// What mosquitto.conf says. The broker says it once.
    options: BrokerOptions,
    /// The lines it wants written.
    pub log: Arc<Log>,
    host: Arc<dyn Broker>,
    /// Whether clients wait beside the broker's loop for their logins.
    delays: bool,
    keys: Fingerprinter,
    loaded: RwLock<Arc<Loaded>>,
    /// How often that was.
    reloads: AtomicUsize,
    sessions: Sessions,
    throttle: Throttle,
    parking: Parking,
    subscriptions: Mutex<Subscriptions>,
    /// Topics whose listeners were asked about in this turn of the broker's loop, and how many of them.
    fanned_out: Mutex<HashMap<Fingerprint, usize, AlreadyHashed>>,
    lookahead: Mutex<Lookahead>,
    patience: Mutex<Patience>,
    /// That of the broker's HTTP listener. Its thread has no turns, and the broker stops only when all the
    /// requests that wait there are answered.
    http_patience: Mutex<Patience>,
    /// Started with the first question: no network traffic before the broker is ready for it. It goes
    /// before `verdicts`, to which it files.
    worker: OnceCell<Worker>,
    /// Started with the first slow password hash.
    checker: OnceCell<Checker>,
    verdicts: Arc<Verdicts>,
    /// Last: the threads above leave errands.
    errands: Arc<Errands>,
}

impl Plugin {
    /// Reads options and files. Starts no thread and sends nothing.
    pub fn new(options: BrokerOptions, host: Arc<dyn Broker>, now: Instant) -> Result<Self, Vec<StartError>> {
        let log = Arc::new(Log::new(now));
        let (loaded, target) = Loaded::read(&options, None, host.is_2_1(), &log)?;
        let mode = Mode::choose(loaded.config.auth_mode, &*host).map_err(settings::one)?;
        let key = random::key().ok_or_else(|| settings::one(StartError::NoRandomness))?;
        let keys = Fingerprinter::with_key(&key);
        settings::introduce(&loaded, mode, host.is_2_1(), &log);
        let errands = Arc::new(Errands::new(Arc::clone(&host)));
        let verdicts = Verdicts::new(Arc::clone(&log), Arc::clone(&errands), keys, target, now);
        Ok(Self {
            delays: mode.delays(),
            sessions: Sessions::new(keys),
            throttle: Throttle::new(keys),
            parking: Parking::default(),
            subscriptions: Mutex::default(),
            fanned_out: Mutex::default(),
            lookahead: Mutex::new(Lookahead::new(keys)),
            patience: Mutex::new(Patience::new(now)),
            http_patience: Mutex::new(Patience::new(now)),
            loaded: RwLock::new(Arc::new(loaded)),
            reloads: AtomicUsize::new(0),
            worker: OnceCell::new(),
            checker: OnceCell::new(),
            verdicts: Arc::new(verdicts),
            errands,
            keys,
            options,
            log,
            host,
        })
    }

    /// Whether topic checks are this plugin's business at all. A reload may change that.
    pub fn checks_topics(&self) -> bool {
        self.loaded().config.checks_topics()
    }

    /// MOSQ_EVT_ACL_CHECK. `now` may be some milliseconds ahead.
    pub fn authorise(&self, check: &TopicCheck<'_>, now: Instant) -> Ruling {
        if self.errands.any() && check.access == Access::Write && self.is_overdue_to_leave(check, now) {
            return Ruling::Disconnect;
        }
        match self.judge(check, now) {
            Ok(ruling) => ruling,
            Err(refusal) => self.refuse_topic(check, &refusal, now),
        }
    }

    fn judge(&self, check: &TopicCheck<'_>, now: Instant) -> Result<Ruling, Refusal> {
        let TopicCheck { client, username, topic, access } = *check;
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let config = &*loaded.config;
        let Some(username) = username else {
            return match config.anonymous {
                Verdict::Allow => Ok(Ruling::Allow),
                Verdict::Deny => Err(Refusal::Anonymous),
            };
        };
        if is_wildcard_in_disguise(config, client.id, username) {
            return Err(Refusal::SpecialCharacters);
        }
        if loaded.users.get(username).is_some() && self.sessions.was_let_in(client, username, access, now) {
            let allowed =
                loaded.acl.as_ref().is_none_or(|acl| acl.allows(access, username, client.id, topic));
            return if allowed { Ok(Ruling::Allow) } else { Err(Refusal::LocalRules) };
        }
        if config.acl_urls.is_empty() {
            return Ok(Ruling::Defer);
        }
        // A READ that is not asked about is implied by a subscription. One of the broker's HTTP listener,
        // which has a thread of its own, is not.
        if !config.acl_checks.contains(&access) && (access != Access::Read || self.host.is_broker_thread()) {
            return Ok(Ruling::Allow);
        }
        let asks_reads = config.acl_checks.contains(&Access::Read);
        // Whoever waits below holds up no reload.
        drop(loaded);
        self.decide(&Question::Access { username, client_id: client.id, topic, access }, now)?;
        if access == Access::Subscribe && asks_reads {
            self.subscriptions().add(client.id, username, topic, now);
        }
        Ok(Ruling::Allow)
    }

    /// An UNSUBSCRIBE, which needs no question.
    pub fn unsubscribed(&self, client: Client<'_>, filter: &str) {
        self.subscriptions().remove(client.id, filter);
    }

    /// MOSQ_EVT_DISCONNECT, and MOSQ_EVT_CLIENT_OFFLINE where there is one. Where there is not, a session may
    /// stay after either.
    pub fn disconnected(&self, client: Client<'_>, username: &str, stays: SessionStays, now: Instant) {
        // Those that another let in are known by nothing but their id.
        let is_gone =
            self.sessions.close(client, username, stays, now) || !self.sessions.has(client, username);
        if is_gone && stays != SessionStays::Yes {
            self.subscriptions().remove_client(client.id);
        }
    }

    /// MOSQ_EVT_TICK
    pub fn tick(&self, now: Instant) {
        self.patience().new_turn(now);
        self.sessions.new_turn();
        self.fanned_out().clear();
        self.complete_those_who_waited(now);
        self.run_errands(now);
        self.log.tick(now);
    }

    /// Whether a tick is wanted soon: somebody's time may be up, or there is no way to bring a tick about.
    pub fn wants_tick(&self) -> bool {
        self.delays && (self.parking.has_deadlines() || (!self.parking.is_empty() && !self.host.can_wake()))
    }

    /// MOSQ_EVT_RELOAD: reads the files again, all of them, and takes over what they say only if all of
    /// them are fine.
    pub fn reload(&self) {
        let before = self.loaded();
        match Loaded::read(&self.options, Some(&before), self.host.is_2_1(), &self.log) {
            Ok((loaded, target)) => {
                if loaded.config.auth_mode != before.config.auth_mode {
                    self.log.trouble("A new auth_mode counts from the broker's next start on.");
                }
                let line = format!("Files are re-read: {}.", settings::what_is_asked(&loaded));
                self.log.write(Level::Notice, line);
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                self.reloads.fetch_add(1, Ordering::Relaxed);
                self.verdicts.set_target(target);
            }
            Err(errors) => {
                for error in errors {
                    let line = format!("{error}. Nothing was taken over: what was loaded before stays.");
                    self.log.write(Level::Error, line);
                }
            }
        }
        self.sessions.begin_sweep(Instant::now());
    }

    /// The remembered verdict, or the API's.
    fn decide(&self, question: &Question<'_>, now: Instant) -> Result<(), Refusal> {
        let key = self.verdicts.key(question);
        let hit = self.remembered(key, question, now);
        if hit.is_none_or(|hit| hit.is_first_use) {
            self.note_reader(question, now);
        }
        match hit {
            Some(hit) => outcome(hit),
            // By the exact time, since this is about milliseconds.
            None => self.wait_for(key, question, Instant::now()),
        }
    }

    /// The remembered verdict, if there is one. An allow near its end is asked again beside.
    fn remembered(&self, key: Fingerprint, question: &Question<'_>, now: Instant) -> Option<Hit> {
        let hit = self.verdicts.known(key, now)?;
        if hit.refresh
            && !self.verdicts.is_left_alone(question.kind(), now)
            && let Ok(worker) = self.worker()
        {
            self.verdicts.ask(key, question, Class::Background, Listener::None, worker);
        }
        Some(hit)
    }

    /// The API's verdict. Whoever calls this waits, and on the broker's thread so does every client.
    fn wait_for(&self, key: Fingerprint, question: &Question<'_>, now: Instant) -> Result<(), Refusal> {
        if self.verdicts.is_left_alone(question.kind(), now) {
            return self.or_stale(key, Err(Refusal::NoAnswer(NoAnswer::LeftAlone)), now);
        }
        let worker = self.worker()?;
        // The broker's HTTP listener has a thread of its own: only requests to it wait there.
        let freezes = self.host.is_broker_thread();
        let timeout = self.loaded().config.timeout;
        let patience = if freezes { &self.patience } else { &self.http_patience };
        let patience = || patience.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = patience().limit(key, timeout, now);
        if limit.is_zero() {
            // Nobody waits, but the answer will be there when the client comes again.
            let slot = self.verdicts.ask(key, question, Class::Background, Listener::None, worker);
            patience().asked_beside(key, slot);
            return self.or_stale(key, Err(Refusal::NoAnswer(NoAnswer::OutOfPatience)), now);
        }
        let slot = self.verdicts.ask(key, question, Class::Frozen, Listener::None, worker);
        // While this one is on its way: what the broker will ask next.
        let mut expected = Vec::new();
        if freezes {
            expected = self.fan_out(question, worker, now);
            self.look_ahead(worker, now);
        }
        let answer = slot.wait(limit.saturating_sub(now.elapsed()));
        let answered = matches!(answer, Some(Answer::Verdict { .. }));
        let answered_at = Instant::now();
        patience().waited(key, answered, answered_at.duration_since(now), timeout, answered_at);
        let result = login::verdict_of(answer.unwrap_or(Answer::None(NoAnswer::TimedOut(limit))));
        if result.is_ok() {
            self.expect(question, &expected, answered_at);
        }
        self.or_stale(key, result, answered_at)
    }

    /// Where there is no answer, an allow may serve past its time (`stale_ttl`).
    fn or_stale(&self, key: Fingerprint, result: Result<(), Refusal>, now: Instant) -> Result<(), Refusal> {
        match result {
            Err(Refusal::NoAnswer(_)) if self.verdicts.has_stale_allow(key, now) => Ok(()),
            result => result,
        }
    }

    fn refuse_topic(&self, check: &TopicCheck<'_>, refusal: &Refusal, now: Instant) -> Ruling {
        // Under `log_dest topic` each line is a message, and each message a READ check of everybody who
        // reads the log: a line about a refusal there would cause the next.
        if !check.topic.starts_with("$SYS/broker/log") {
            self.log.refusal(now, || {
                let who = Who(check.client, check.username);
                format!("Refused {} of {} to {who}: {refusal}.", check.access, quoted(check.topic))
            });
        }
        Ruling::Deny
    }

    fn worker(&self) -> io::Result<&Worker> {
        self.worker.get_or_try_init(|| {
            let inbox = Arc::clone(&self.verdicts);
            Worker::start(inbox, &|body| self.host.spawn(body))
        })
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn fanned_out(&self) -> MutexGuard<'_, HashMap<Fingerprint, usize, AlreadyHashed>> {
        self.fanned_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a remembered verdict says. One that was asked for ahead is as good as having asked now.
fn outcome(hit: Hit) -> Result<(), Refusal> {
    match hit.verdict {
        Verdict::Allow => Ok(()),
        Verdict::Deny => Err(Refusal::Api { status: hit.status, remembered: !hit.is_first_use }),
    }
}

/// A client in a log line.
struct Who<'a>(Client<'a>, Option<&'a str>);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(username) => write!(f, "{}", quoted(username))?,
            None => f.write_str("a client without a username")?,
        }
        let address = self.0.address.unwrap_or("not connected");
        write!(f, " (client id {}, {})", quoted(self.0.id), address.escape_debug())
    }
}

/// Whether this client's name or id would be a wildcard in a topic filter, and that matters.
fn is_wildcard_in_disguise(config: &Config, client_id: &str, username: &str) -> bool {
    config.special_chars == Verdict::Deny && (has_wildcard(username) || has_wildcard(client_id))
}

fn has_wildcard(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}
