//! The settings: options and files, read as a whole (`current` swaps them), and what the log says of them at the start.
use std::sync::Arc;
use std::time::Duration;

use super::start_error::{StartError, each, one};
use super::token::Token;
use crate::ask::http::Target;
use crate::ask::resolver::Resolver;
use crate::broker::{Broker, BrokerThread};
use crate::config::{ApiUrl, AuthMode, BrokerOptions, Config, Field, password_file_of_broker};
use crate::local::{self, AclFile, Placeholders, Users};
use crate::log::{Level, Log};
use crate::question::Verdict;
use crate::topic;

/// Whether the broker or the client waits while the API decides about a login, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The broker, since Mosquitto 2.0 has no other way.
    BlockingBroker,
    /// The broker, since the option `auth_mode` says so.
    BlockingByOption,
    /// The broker, since another copy of the plugin may park clients under the same ids: its answers would let in
    /// clients that wait here.
    BlockingBesideCopy,
    /// The broker, since `defer_status` leaves some logins to other plugins, which decide while the broker waits.
    BlockingForOthers,
    /// The client, beside the broker's loop.
    Delayed {
        /// Whether the loop can be woken when the answer has come.
        wakes: bool,
    },
}

impl Mode {
    /// Chooses the mode that the options allow on this broker.
    ///
    /// # Errors
    /// The reason if delayed mode is wanted and impossible.
    pub fn choose(config: &Config, broker: &dyn Broker, thread: &BrokerThread) -> Result<Self, StartError> {
        let may_defer = !config.defer_status.is_empty() && !config.auth_urls.is_empty();
        match (config.auth_mode, broker.is_2_1()) {
            (AuthMode::Delayed, false) => Err(StartError::CannotDelay),
            (AuthMode::Auto, false) => Ok(Mode::BlockingBroker),
            (AuthMode::Blocking, _) => Ok(Mode::BlockingByOption),
            (AuthMode::Delayed, true) if may_defer => Err(StartError::CannotDefer),
            (AuthMode::Auto, true) if may_defer => Ok(Mode::BlockingForOthers),
            (AuthMode::Delayed, true) if !broker.is_only_copy() => Err(StartError::NotOnlyCopy),
            (AuthMode::Auto, true) if !broker.is_only_copy() => Ok(Mode::BlockingBesideCopy),
            (AuthMode::Auto | AuthMode::Delayed, true) => {
                Ok(Mode::Delayed { wakes: broker.can_wake(thread) })
            }
        }
    }

    /// The mode as a sentence for the log.
    fn describe(self, config: &Config) -> String {
        let (timeout, requests) = (config.timeout, config.max_requests);
        match self {
            Mode::BlockingBroker => format!(
                "Logins in blocking mode, since Mosquitto 2.0 knows no other: the broker waits for each login that must \
                 be asked, at most {timeout:?}."
            ),
            Mode::BlockingByOption => format!(
                "Logins in blocking mode, as plugin_opt_auth_mode says: the broker waits for each login that must be \
                 asked, at most {timeout:?}."
            ),
            Mode::BlockingBesideCopy => format!(
                "Logins in blocking mode, since another copy of the plugin's file is loaded, and neither knows whom the \
                 other lets wait (load one file for all listeners): the broker waits for each login that must be asked, \
                 at most {timeout:?}."
            ),
            Mode::BlockingForOthers => format!(
                "Logins in blocking mode, since plugin_opt_defer_status leaves some to other plugins, which cannot decide \
                 about clients that wait: the broker waits for each login that must be asked, at most {timeout:?}."
            ),
            Mode::Delayed { wakes: true } => format!(
                "Logins in delayed mode: clients wait beside the broker's loop while up to {requests} logins are asked at \
                 once, at most {timeout:?} each."
            ),
            Mode::Delayed { wakes: false } => format!(
                "Logins in delayed mode: clients wait beside the broker's loop while up to {requests} logins are asked at \
                 once, at most {timeout:?} each. Something else in this process handles SIGWINCH, so answers \
                 wait for the loop to come round, up to 100ms."
            ),
        }
    }

    /// Whether clients wait beside the broker's loop.
    pub fn delays(self) -> bool {
        matches!(self, Mode::Delayed { .. })
    }
}

/// Everything that a reload swaps as a whole.
pub struct Settings {
    /// The options.
    pub config: Arc<Config>,
    /// The local users and their password hashes.
    pub users: Users,
    /// The topic rules of local users. `None`: local users may do everything.
    pub acl: Option<AclFile>,
    /// The token that commands over TCP want.
    pub admin_token: Option<Token>,
}

impl Settings {
    /// Reads options and all files that they name, and warns in the log of what is dangerous.
    ///
    /// # Errors
    /// All mistakes in options, or one for each of users, rules and API.
    pub fn read(
        options: &BrokerOptions,
        is_2_1: bool,
        resolver: &Resolver,
        log: &Arc<Log>,
    ) -> Result<(Self, Target), Vec<StartError>> {
        let (config, in_both) = Config::read(options).map_err(each)?;
        let config = Arc::new(config);
        let fields = [("auth_fields", &config.auth_fields), ("acl_fields", &config.acl_fields)];
        let untold = fields.iter().filter(|(_, fields)| !is_2_1 && fields.contains(&Field::ListenerPort));
        let untold: Vec<_> = untold.map(|(name, _)| StartError::Untold(config.called(name))).collect();
        if !untold.is_empty() {
            return Err(untold);
        }
        let placeholders = if is_2_1 { Placeholders::WholeLevels } else { Placeholders::Anywhere };
        let (users, acl) = (local::users(&config), local::rules(&config, placeholders));
        let (users, acl, target) = match (users, acl, Target::new(&config, resolver, log)) {
            (Ok(users), Ok(acl), Ok(target)) => (users, acl, target),
            (users, acl, target) => {
                let files = [users.err(), acl.err()].map(|wrong| wrong.map(StartError::from));
                return Err(files
                    .into_iter()
                    .chain([target.err().map(StartError::from)])
                    .flatten()
                    .collect());
            }
        };
        let admin_token = Token::read(&config).map_err(one)?;
        for name in in_both {
            log.warn(&format!(
                "{name} is set in mosquitto.conf and in the configuration file: the one in mosquitto.conf counts."
            ));
        }
        for path in config.secret_files().filter(|path| local::is_world_readable(path)) {
            log.warn(&format!("{} can be read by everybody on this machine; chmod 640 it.", path.display()));
        }
        config.dialect.remarks.iter().for_each(|remark| log.warn(remark));
        if config.tls_insecure {
            log.warn("tls_insecure is true: anybody on the way can pose as the API and let clients in.");
        }
        Ok((Self { config, users, acl, admin_token }, target))
    }

    /// Whether the username or client id holds `+` or `#` and the option `special_chars` refuses that: put into a
    /// pattern, they would be wildcards.
    pub fn is_wildcard_in_disguise(&self, username: &str, client_id: &str) -> bool {
        self.config.special_chars == Verdict::Deny
            && (topic::has_wildcard(username) || topic::has_wildcard(client_id))
    }
}

/// Says in the log what the plugin is going to do.
pub fn introduce(settings: &Settings, mode: Mode, is_2_1: bool, log: &Log) {
    let config = &*settings.config;
    log.write(
        Level::Notice,
        format!(
            "Version {} on Mosquitto {}: {}.",
            env!("CARGO_PKG_VERSION"),
            if is_2_1 { "2.1 or later" } else { "2.0" },
            what_is_asked(settings),
        ),
    );
    log.write(
        Level::Notice,
        format!(
            "{} Remembers up to {} allows and as many denies (logins {}, topics {}, denies {}).",
            mode.describe(config),
            config.cache_size,
            shown(config.auth_cache_ttl),
            shown(config.acl_cache_ttl),
            match config.dialect.remembers_no_like_yes {
                true => "as long".to_owned(),
                false => shown(config.deny_cache_ttl),
            }
        ),
    );
    if !config.auth_urls.is_empty()
        && config.defer_status.is_empty()
        && let Some(file) = password_file_of_broker()
    {
        log.warn(&format!(
            "password_file {file} in mosquitto.conf lets nobody in any more: the API is asked about those in it, too. For \
             local users, name it in plugin_opt_password_file."
        ));
    }
    let options = config.not_at_default();
    log.write(Level::Notice, format!("Options that are not at their defaults: {}.", options.join("; ")));
}

/// The files that options name.
pub(super) fn files(config: &Config) -> String {
    let named: Vec<_> = config.files().map(|path| path.display().to_string()).collect();
    if named.is_empty() { "no option names any".to_owned() } else { named.join(", ") }
}

/// Says what decides about logins and topics.
pub fn what_is_asked(settings: &Settings) -> String {
    let asked = |urls: &[ApiUrl], otherwise: &str| match urls {
        [] => otherwise.to_owned(),
        urls => urls.iter().map(ApiUrl::shown).collect::<Vec<_>>().join(" then "),
    };
    let only_local = "only local users are decided";
    let topics_otherwise = match (settings.config.checks_topics(), settings.config.has_rules()) {
        (false, _) => "not checked",
        (true, false) => only_local,
        (true, true) => "by the rules in a login's answer, nobody else is asked",
    };
    let many = match &*settings.config.acl_batch_urls {
        [] => String::new(),
        urls => format!("; many topics at once: {}", asked(urls, "")),
    };
    let superusers = match &*settings.config.dialect.superuser_urls {
        [] => String::new(),
        urls => format!("; superusers: {}", asked(urls, "")),
    };
    format!(
        "logins: {}; topics: {}{many}{superusers}; local users: {}",
        asked(&settings.config.auth_urls, only_local),
        asked(&settings.config.acl_urls, topics_otherwise),
        settings.users.len(),
    )
}

/// A lifetime in the cache, in words.
fn shown(lifetime: Duration) -> String {
    if lifetime.is_zero() { "not".to_owned() } else { format!("{lifetime:?}") }
}
