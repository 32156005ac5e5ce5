//! Who may do what: one method for each event of the broker, and the parts that decide.

mod api;
mod attempt;
mod changes;
mod current;
mod decision;
mod delayed;
mod event;
mod expiry;
mod explain;
mod from_others;
mod granting;
mod hasher;
mod kicks;
mod leaving;
mod login;
mod noted;
mod orders;
mod others;
mod parts;
mod recheck;
mod sessions;
mod settings;
mod start_error;
mod steering;
mod sys_topics;
mod tasks;
mod throttle;
mod tick;
mod ticks;
mod token;
mod topic_check;
mod unasked;
mod wait_budget;

use std::ffi::CStr;
use std::sync::Arc;
use std::time::Instant;

use crate::ask::Asker;
use crate::ask::resolver::Resolver;
use crate::broker::{Broker, BrokerThread, Caller, Client, Connection};
use crate::config::BrokerOptions;
use crate::fingerprint::Fingerprinter;
use crate::log::{Level, Log, quoted};
use crate::metrics::{Matter, Metrics};
use crate::prefetch::Prefetch;
use crate::question::Access;
use crate::util::random;
use api::Api;
use current::Current;
use decision::LoggedClient;
pub use decision::{By, Decision, Refusal, Ruling};
use event::Event;
pub use event::{Control, Login, TopicCheck};
pub use explain::{Explain, Explanation};
use granting::Granting;
use kicks::Kicks;
use login::Logins;
pub use orders::Recipient;
use parts::Parts;
use recheck::Recheck;
pub use sessions::SessionStays;
use sessions::Sessions;
use settings::{Mode, Settings};
pub use start_error::StartError;
pub use steering::Steering;
use sys_topics::SysTopics;
use tasks::Tasks;
use topic_check::TopicChecks;

/// The topic that commands come by, as the broker wants it.
pub const CONTROL_TOPIC_TERMINATED: &CStr = c"$CONTROL/http-auth/v1";

/// The topic that commands come by.
pub const CONTROL_TOPIC: &str = match CONTROL_TOPIC_TERMINATED.to_str() {
    Ok(topic) => topic,
    Err(_) => panic!("the topic is text"),
};

/// What was learnt, as far as the log shows it: the beginning of a list in order of importance.
const SHOWN_LINES: usize = 20;

/// One loaded plugin. Nothing of it is shared with another instance in the same broker but the tickets (`delayed`) and what
/// belongs to the process (crate docs).
pub struct Plugin {
    settings: Arc<Current>,
    logins: Arc<Logins>,
    topics: TopicChecks,
    recheck: Arc<Recheck>,
    granting: Arc<Granting>,
    kicks: Arc<Kicks>,
    api: Arc<Api>,
    asker: Arc<Asker>,
    prefetch: Arc<Prefetch>,
    sessions: Arc<Sessions>,
    resolver: Resolver,
    broker: Arc<dyn Broker>,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    steering: Arc<Steering>,
    tasks: Arc<Tasks>,
    sys_topics: SysTopics,
}

/// What runs on the worker's thread may hold the parts of the plugin, that thread's own handle included: it ends first.
impl Drop for Plugin {
    fn drop(&mut self) {
        self.asker.stop();
    }
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
        let resolver = Resolver::new(move |body| spawner.spawn(body), broker.look_up());
        let (settings, target) = Settings::read(&options, broker.is_2_1(), &resolver, &log)?;
        let mode = Mode::choose(&settings.config, &*broker, thread).map_err(start_error::one)?;
        let key = random::key().ok_or_else(|| start_error::one(StartError::NoRandomness))?;
        let keys = Fingerprinter::with_key(&key);
        settings::introduce(&settings, mode, broker.is_2_1(), &log);
        let parts = Parts::new(target, mode.delays(), keys, broker, log, now);
        if settings.config.is_steered() {
            // Where the loop cannot be woken it comes round by itself, after up to 100 ms.
            parts.broker.can_wake(thread);
            if !parts.broker.is_2_1() {
                parts.sessions.know_client_ids();
            }
        }
        let recheck = Arc::new(Recheck::new(&parts, now));
        let logins = Arc::new(Logins::new(parts.clone(), Arc::clone(&recheck), now));
        let topics = TopicChecks::new(&parts);
        let settings = Arc::new(Current::new(options, settings));
        let steering = Arc::new(Steering::new(&parts, Arc::clone(&settings), Arc::clone(&logins)));
        steering.hear_others();
        let Parts { api, asker, prefetch, sessions, granting, kicks, tasks, broker, log, metrics, .. } =
            parts;
        Ok(Self {
            settings,
            logins,
            topics,
            recheck,
            granting,
            kicks,
            api,
            asker,
            prefetch,
            sessions,
            resolver,
            broker,
            log,
            metrics,
            steering,
            tasks,
            sys_topics: SysTopics::default(),
        })
    }

    /// What commands see and do. To be let go of before the plugin is dropped, unless it runs on the plugin's own thread.
    pub fn steering(&self) -> &Arc<Steering> {
        &self.steering
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
        let decision = self.logins.authenticate(login, &Event { now, caller, settings: &settings });
        decision.count(Matter::Login, &self.metrics, caller.broker_thread().is_some());
        decision
    }

    /// Decides a topic check (`MOSQ_EVT_ACL_CHECK`). `now` may be some milliseconds in the future.
    pub fn authorise(&self, check: &TopicCheck<'_>, caller: &Caller, now: Instant) -> Decision {
        // Where no tick comes, whoever was revoked leaves with its next message.
        let overdue =
            if check.access == Access::Write { self.recheck.take_overdue(check, now) } else { None };
        let decision = match overdue {
            Some(by) => Decision::new(Ruling::Disconnect, by),
            None => {
                let settings = self.settings.now();
                self.topics.authorise(check, &Event { now, caller, settings: &settings })
            }
        };
        decision.count(Matter::Topic(check.access), &self.metrics, caller.broker_thread().is_some());
        decision
    }

    /// Whether a client may give commands: by a rule of `acl_file` that lets it write to their topic, or by the API's answer
    /// about that or about its login, and by nothing else that may have let its message through.
    pub fn may_control(&self, control: &Control<'_>, caller: &Caller, now: Instant) -> bool {
        let Control { client, username, qos, retain, details, .. } = *control;
        let settings = self.settings.now();
        let access = Access::Write;
        let check = TopicCheck { client, username, topic: CONTROL_TOPIC, access, qos, retain, details };
        let decision = self.topics.authorise(&check, &Event { now, caller, settings: &settings });
        let may = decision.is_allow()
            && match decision.by {
                By::LocalRules => settings.acl.is_some(),
                By::Api { .. } | By::Remembered { .. } | By::Rules => true,
                _ => false,
            };
        if !may {
            let who = LoggedClient(client, username);
            let line = format!(
                "Refused a command of {who}: neither a rule of plugin_opt_acl_file nor the API lets it write to \
                 {CONTROL_TOPIC}."
            );
            self.log.refusal(now, &decision.by.as_refusal(client), || line);
        }
        may
    }

    /// Notes an UNSUBSCRIBE. It needs no permission.
    pub fn unsubscribed(&self, client: Client<'_>, filter: &str) {
        self.topics.unsubscribed(client, filter);
    }

    /// Notes that a connection without a client id has ended.
    pub fn closed_nameless(&self, connection: Connection) {
        self.sessions.closed_nameless(connection);
    }

    /// Notes that a connection has ended (`MOSQ_EVT_DISCONNECT`, and `MOSQ_EVT_CLIENT_OFFLINE` where the broker has
    /// it), and whether its session stays.
    pub fn disconnected(&self, client: Client<'_>, username: &str, stays: SessionStays, now: Instant) {
        self.kicks.note_closing();
        self.granting.ended(client.connection);
        // A client that another plugin or a certificate let in has no session here: its id is all there is to go by.
        let is_gone =
            self.sessions.close(client, username, stays, now) || !self.sessions.has(client, username);
        if is_gone && stays != SessionStays::Yes {
            self.prefetch.note_gone(client.id, username);
        }
    }

    /// Notes that a client was let in (`MOSQ_EVT_CONNECT`): by this plugin, another one, or a certificate.
    pub fn connected(&self, client: Client<'_>, username: &str) {
        self.sessions.opened(client, username);
    }

    /// Reads all files again (`MOSQ_EVT_RELOAD`, SIGHUP), and takes over what they say only if all of them are fine.
    /// Either way, a recheck of all sessions begins. Here nobody is asked about yet: the broker raises the login of each session
    /// once more behind this (`MOSQ_EVT_BASIC_AUTH`), where `recheck` recognises it and has it asked about, and `belief`
    /// settles who has to go.
    pub fn reload(&self, caller: &Caller, now: Instant) {
        // As with ticks.
        let Some(thread) = caller.broker_thread() else { return };
        let mut asks_otherwise = false;
        match self.settings.reload(self.broker.is_2_1(), &self.resolver, &self.log) {
            Ok(target) => {
                self.metrics.reloaded(true);
                asks_otherwise = self.asker.set_target(Arc::new(target));
                if asks_otherwise {
                    self.sessions.unwiden();
                }
            }
            Err(errors) => {
                self.metrics.reloaded(false);
                for error in errors {
                    let line = format!("{error}. Nothing was taken over: what was loaded before stays.");
                    self.log.write(Level::Error, line);
                }
            }
        }
        self.show_what_was_learnt();
        let by_option = self.settings.now().config.reload_checks;
        self.recheck.begin(by_option, asks_otherwise, thread, now);
    }

    /// Says in the log what clients were seen to ask after their login.
    fn show_what_was_learnt(&self) {
        if !self.settings.now().config.acl_learn {
            return;
        }
        let learnt = self.prefetch.learnt();
        if !learnt.is_empty() {
            let shown: Vec<_> =
                learnt.iter().take(SHOWN_LINES).map(|line| quoted(line).to_string()).collect();
            let shown = shown.join(", ");
            let line = format!(
                "Learnt what clients ask after their login (acl_learn), {} in all, as values of acl_prefetch: {shown}.",
                learnt.len()
            );
            self.log.write(Level::Info, line);
        }
    }
}
