//! The decision: refuse what cannot be asked, local users, what is remembered, the API. One method for
//! each event of the broker.
#![forbid(unsafe_code)]

mod patience;
mod setup;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use once_cell::sync::OnceCell;

use crate::api::Target;
use crate::api::worker::{Class, Worker};
use crate::cache::key::Fingerprinter;
use crate::config::Config;
use crate::log::{Level, Log, quoted};
use crate::question::{Access, Answer, NoAnswer, Question, Verdict};
use crate::sessions::{Client, Sessions};
use crate::verdicts::Verdicts;
use patience::Patience;
use setup::Local;
pub use setup::StartError;

/// What the plugin needs of the broker's process. Everything here may be called from any thread.
pub trait Host: Send + Sync {
    /// Starts a thread that takes no signals, since those are for the broker's own thread.
    fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;
    /// Whether the caller is the broker's own thread, which serves all clients. (Mosquitto 2.1 also asks
    /// from the thread of its HTTP listener.)
    fn is_broker_thread(&self) -> bool;
    /// Whether this is Mosquitto 2.1 or later.
    fn is_2_1(&self) -> bool;
}

/// What the plugin says to a question of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// Not this plugin's business: the next plugin or the broker itself decides.
    Defer,
}

/// A CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// Who.
    pub client: Client<'a>,
    /// Its username, never empty.
    pub username: Option<&'a str>,
    /// Its password: any bytes.
    pub password: Option<&'a [u8]>,
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

/// One loaded plugin. Nothing of it is shared with another instance in the same broker.
pub struct Plugin {
    config: Arc<Config>,
    /// The lines it wants written.
    pub log: Arc<Log>,
    host: Arc<dyn Host>,
    local: RwLock<Arc<Local>>,
    sessions: Sessions,
    patience: Mutex<Patience>,
    /// Started with the first question: no network traffic before the broker is ready for it. It goes
    /// before `verdicts`, to which it files.
    worker: OnceCell<Worker>,
    verdicts: Arc<Verdicts>,
}

impl Plugin {
    /// Reads options and files. Starts no thread and sends nothing.
    pub fn new<'a>(
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
        host: Arc<dyn Host>,
        now: Instant,
    ) -> Result<Self, Vec<StartError>> {
        let config = Config::from_options(options).map_err(setup::each)?;
        let log = Arc::new(Log::new(now));
        let local = Local::read(&config, host.is_2_1(), &log).map_err(setup::one)?;
        let target = Target::new(&config).map_err(setup::one)?;
        let keys = Fingerprinter::with_key(&setup::random_key().map_err(|error| vec![error])?);
        setup::introduce(&config, &local, host.is_2_1(), &log);
        let config = Arc::new(config);
        Ok(Self {
            sessions: Sessions::new(keys),
            verdicts: Arc::new(Verdicts::new(Arc::clone(&config), Arc::clone(&log), keys, target, now)),
            patience: Mutex::new(Patience::new(config.timeout)),
            local: RwLock::new(Arc::new(local)),
            worker: OnceCell::new(),
            config,
            log,
            host,
        })
    }

    /// Whether topic checks are this plugin's business at all.
    pub fn checks_topics(&self) -> bool {
        !self.config.acl_urls.is_empty() || self.config.acl_file.is_some()
    }

    /// MOSQ_EVT_BASIC_AUTH
    pub fn authenticate(&self, login: &Login<'_>, now: Instant) -> Ruling {
        let (username, password) = match (login.username, login.password) {
            (None, None) => return Ruling::Defer,
            (None, Some(_)) => return self.refuse_login(login, Refusal::NoUsername, now),
            (Some(username), password) => (username, password.unwrap_or_default()),
        };
        if let Some(hash) = self.local().users.get(username) {
            return match hash.verify(password) {
                true => self.admit(login, username),
                false => self.refuse_login(login, Refusal::WrongLocalPassword, now),
            };
        }
        if self.config.auth_urls.is_empty() {
            return Ruling::Defer;
        }
        let Ok(password) = std::str::from_utf8(password) else {
            return self.refuse_login(login, Refusal::PasswordIsNoText, now);
        };
        match self.decide(&Question::Connect { username, password }, now) {
            Ok(()) => {
                self.prefetch(login.client, username, now);
                self.admit(login, username)
            }
            Err(refusal) => self.refuse_login(login, refusal, now),
        }
    }

    /// MOSQ_EVT_ACL_CHECK
    pub fn authorise(&self, check: &TopicCheck<'_>, now: Instant) -> Ruling {
        match self.judge(check, now) {
            Ok(ruling) => ruling,
            Err(refusal) => self.refuse_topic(check, &refusal, now),
        }
    }

    fn judge(&self, check: &TopicCheck<'_>, now: Instant) -> Result<Ruling, Refusal> {
        let TopicCheck { client, username, topic, access } = *check;
        let Some(username) = username else {
            return match self.config.anonymous {
                Verdict::Allow => Ok(Ruling::Allow),
                Verdict::Deny => Err(Refusal::Anonymous),
            };
        };
        if self.config.special_chars == Verdict::Deny && (has_wildcard(username) || has_wildcard(client.id)) {
            return Err(Refusal::SpecialCharacters);
        }
        if let Some(allowed) = self.local_rules(check, username) {
            return if allowed { Ok(Ruling::Allow) } else { Err(Refusal::LocalRules) };
        }
        if self.config.acl_urls.is_empty() {
            return Ok(Ruling::Defer);
        }
        if !self.config.acl_checks.contains(&access) {
            return Ok(Ruling::Allow);
        }
        self.decide(&Question::Access { username, client_id: client.id, topic, access }, now)?;
        Ok(Ruling::Allow)
    }

    /// What the rules of the local users say, or `None` for everybody else.
    fn local_rules(&self, check: &TopicCheck<'_>, username: &str) -> Option<bool> {
        let local = self.local.read().unwrap_or_else(PoisonError::into_inner);
        local.users.get(username)?;
        if !self.sessions.was_let_in(check.client, username, check.access) {
            return None;
        }
        Some(match &local.acl {
            None => true,
            Some(rules) => rules.allows(check.access, username, check.client.id, check.topic),
        })
    }

    /// MOSQ_EVT_DISCONNECT
    pub fn disconnected(&self, client: Client<'_>, username: &str) {
        self.sessions.close(client, username);
    }

    /// MOSQ_EVT_TICK
    pub fn tick(&self, now: Instant) {
        self.patience().new_turn();
        self.log.tick(now);
    }

    /// MOSQ_EVT_RELOAD: reads the files again, all of them, and takes over what they say only if all of
    /// them are fine.
    pub fn reload(&self) {
        let local = Local::read(&self.config, self.host.is_2_1(), &self.log).map_err(StartError::from);
        let target = Target::new(&self.config).map_err(StartError::from);
        match (local, target) {
            (Ok(local), Ok(target)) => {
                let users = local.users.len();
                *self.local.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(local);
                self.verdicts.set_target(target);
                self.log.write(Level::Notice, format!("Files are re-read: {users} local users."));
            }
            (local, target) => {
                for error in [local.err(), target.err()].into_iter().flatten() {
                    let line = format!("{error}. Nothing was taken over: what was loaded before stays.");
                    self.log.write(Level::Error, line);
                }
            }
        }
    }

    /// The remembered verdict, or the API's.
    fn decide(&self, question: &Question<'_>, now: Instant) -> Result<(), Refusal> {
        let key = self.verdicts.key(question);
        if let Some(hit) = self.verdicts.known(key, now) {
            if hit.refresh
                && let Ok(worker) = self.worker()
            {
                self.verdicts.ask(key, question, Class::Ahead, worker);
            }
            return match hit.verdict {
                Verdict::Allow => Ok(()),
                Verdict::Deny => Err(Refusal::Api { status: hit.status, remembered: true }),
            };
        }
        let worker = self.worker().map_err(|error| {
            Refusal::NoAnswer(NoAnswer::NotAsked(format!("no thread to ask with: {error}")))
        })?;
        // The broker's HTTP listener has a thread of its own: only requests to it wait there.
        let limit = match self.host.is_broker_thread() {
            true => self.patience().limit(now),
            false => self.config.timeout,
        };
        if limit.is_zero() {
            // Nobody waits, but the answer will be there when the client comes again.
            self.verdicts.ask(key, question, Class::Ahead, worker);
            return Err(Refusal::NoAnswer(NoAnswer::OutOfPatience));
        }
        let answer = self.verdicts.ask(key, question, Class::Frozen, worker).wait(limit);
        if self.host.is_broker_thread() {
            let answered = matches!(answer, Some(Answer::Verdict { .. }));
            let asked_at = now;
            let now = Instant::now();
            self.patience().waited(answered, now.duration_since(asked_at), now);
        }
        match answer {
            Some(Answer::Verdict { verdict: Verdict::Allow, .. }) => Ok(()),
            Some(Answer::Verdict { verdict: Verdict::Deny, status }) => {
                Err(Refusal::Api { status, remembered: false })
            }
            Some(Answer::None(reason)) => Err(Refusal::NoAnswer(reason)),
            None => Err(Refusal::NoAnswer(NoAnswer::TimedOut(limit))),
        }
    }

    /// Asks the questions that a client which was just let in is expected to raise.
    fn prefetch(&self, client: Client<'_>, username: &str, now: Instant) {
        let refused_anyway =
            self.config.special_chars == Verdict::Deny && (has_wildcard(username) || has_wildcard(client.id));
        if self.config.acl_prefetch.is_empty() || self.config.acl_urls.is_empty() || refused_anyway {
            return;
        }
        let Ok(worker) = self.worker() else { return };
        for rule in &self.config.acl_prefetch {
            let topic = rule.topic_for(username, client.id);
            let question =
                Question::Access { username, client_id: client.id, topic: &topic, access: rule.access };
            self.verdicts.ask_ahead(&question, now, worker);
        }
    }

    fn admit(&self, login: &Login<'_>, username: &str) -> Ruling {
        self.sessions.admit(login.client, username);
        Ruling::Allow
    }

    fn refuse_login(&self, login: &Login<'_>, refusal: Refusal, now: Instant) -> Ruling {
        self.log
            .refusal(now, || format!("Refused to let {} in: {refusal}.", Who(login.client, login.username)));
        Ruling::Deny
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

    fn local(&self) -> Arc<Local> {
        Arc::clone(&self.local.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether a name would be a wildcard in a topic filter.
fn has_wildcard(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}
