//! Options: one table of names, defaults and meanings, from which the parser, its error messages and the
//! README's list are made.
mod file;
mod limits;
mod value;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use crate::question::{Access, Kind, Verdict};
pub use limits::{BreakerLimits, CountBy, ThrottleLimits};
pub use value::{Prefetch, header_lines, shown_url};
use value::{
    boolean, choice, count, duration, duration_between, expand_checks, header_line, path, prefetch, urls,
};

/// Everything that options say, checked. Files that options name are read elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where to ask about logins, in the order of preference; empty: not asked.
    pub auth_urls: Vec<Url>,
    /// Where to ask about topics, likewise.
    pub acl_urls: Vec<Url>,
    /// Local users, a file.
    pub password_file: Option<PathBuf>,
    /// Local users, `name:hash` each.
    pub users: Vec<String>,
    /// Topic rules of the local users.
    pub acl_file: Option<PathBuf>,
    /// The longest one question may take.
    pub timeout: Duration,
    /// The longest a parked client may queue before its question is sent.
    pub max_wait: Duration,
    /// The longest a connection to the API may take to come about.
    pub connect_timeout: Duration,
    /// Requests in flight at once.
    pub max_requests: usize,
    /// Headers of every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// More of them, in a file.
    pub header_file: Option<PathBuf>,
    /// PEM file with the authorities to trust instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// PEM file with the client certificate and its chain.
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file with the client certificate's key.
    pub tls_key_file: Option<PathBuf>,
    /// Accept any certificate of the API.
    pub tls_insecure: bool,
    /// How long an allowed login is remembered.
    pub auth_cache_ttl: Duration,
    /// How long an allowed topic is.
    pub acl_cache_ttl: Duration,
    /// How long any deny is.
    pub deny_cache_ttl: Duration,
    /// Allows kept, and as many denies.
    pub cache_size: usize,
    /// How long past its time an allow may serve while there is no answer.
    pub stale_ttl: Duration,
    /// Let `Cache-Control` of an answer override the times for that answer.
    pub api_cache_control: bool,
    /// Topic questions to ask as soon as a client has been let in.
    pub acl_prefetch: Vec<Prefetch>,
    /// Whether to look into the other sockets before the broker waits.
    pub lookahead: bool,
    /// Which accesses the API is asked about.
    pub acl_checks: Vec<Access>,
    /// Whether clients with `+` or `#` in their name or id may touch topics.
    pub special_chars: Verdict,
    /// What anonymous clients may do with topics.
    pub anonymous: Verdict,
    /// Whether clients wait beside the broker or the broker for the API.
    pub auth_mode: AuthMode,
    /// When to slow down those who try wrong passwords.
    pub throttle: ThrottleLimits,
    /// When to leave an API alone that does not answer.
    pub breaker: BreakerLimits,
    /// Where more options are, and are read again on SIGHUP.
    pub config_file: Option<PathBuf>,
    /// Where the options stand that `config_file` set.
    places: Places,
}

/// Who waits while the API decides about a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// The client where the broker can (2.1), else the broker.
    Auto,
    /// The broker.
    Blocking,
    /// The client; a broker that cannot does not start.
    Delayed,
}

/// One option: a row of the table in the README.
pub struct OptionSpec {
    /// The name behind `plugin_opt_`.
    pub name: &'static str,
    /// What holds when it is not given, as one would write it; empty: nothing.
    pub default: &'static str,
    /// What a value looks like.
    pub expected: &'static str,
    /// What it is for, in Markdown.
    pub meaning: &'static str,
    /// Whether it may be given more than once.
    repeatable: bool,
    /// Whether a wrong value may be a secret that must not stand in a log.
    secret: bool,
    /// Takes a value over into the configuration.
    set: fn(&mut Config, &str) -> Result<(), Unexpected>,
}

/// A value that is not what its option wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unexpected;

/// The columns `name | default | expected | meaning` of each row, and how its value is taken over.
macro_rules! options {
    ($( $name:literal $([$($flag:ident),+])?, $default:literal, $expected:literal, $meaning:literal, $set:expr; )+) => {
        &[$(OptionSpec {
            name: $name,
            default: $default,
            expected: $expected,
            meaning: $meaning,
            set: $set,
            $($($flag: true,)+)?
            ..OptionSpec::PLAIN
        }),+]
    };
}

impl OptionSpec {
    const PLAIN: Self = Self {
        name: "",
        default: "",
        expected: "",
        meaning: "",
        repeatable: false,
        secret: false,
        set: |_, _| Ok(()),
    };
}

/// Takes a value into a field: parse, then assign.
macro_rules! into {
    ($($field:ident).+, $parse:expr) => {
        |config, text| {
            config.$($field).+ = $parse(text)?;
            Ok(())
        }
    };
    ($field:ident push $parse:expr) => {
        |config, text| {
            config.$field.push($parse(text)?);
            Ok(())
        }
    };
}

/// Every option, in the order of the README.
// A row with every flag leaves nothing for the rest of the struct.
#[allow(clippy::needless_update)]
pub const OPTIONS: &[OptionSpec] = options![
    "auth_url" [secret], "", "http:// or https:// URLs, separated by spaces",
        "Where to ask about logins. Several URLs are tried in order when one gives no answer. Without it, \
         only local users are decided; all others are left to the broker's own files and other plugins.",
        into!(auth_urls, urls);
    "acl_url" [secret], "", "http:// or https:// URLs, separated by spaces",
        "Where to ask about topics. Without it the plugin has no say in topics, unless `acl_file` is set.",
        into!(acl_urls, urls);
    "password_file", "", "the path of a readable file",
        "Local users, in the format of `mosquitto_passwd` (`$6$`, `$7$`, argon2id). Re-read on SIGHUP.",
        into!(password_file, path);
    "user" [repeatable, secret], "", "name:hash, with a hash as mosquitto_passwd writes it",
        "A local user, `name:hash`, in the same format.",
        into!(users push |text: &str| Ok(text.to_owned()));
    "acl_file", "", "the path of a readable file",
        "Topic rules of the local users, in the format of Mosquitto's own ACL files. Without it local users \
         may do everything. Re-read on SIGHUP.",
        into!(acl_file, path);
    "timeout", "2s", "a time from 10ms to 60s, such as 500ms or 2s",
        "The longest one question may take: name look-up, connection, TLS and fail-over included. Counted \
         from asking where the broker waits, from sending where a client is parked.",
        into!(timeout, |text| duration_between(text, Duration::from_millis(10), Duration::from_secs(60)));
    "max_wait", "30s", "a time from 10ms to 5m, such as 30s",
        "The longest a parked client may queue before its question is sent. Beyond that, and when the queue \
         is full, it is told that the server is busy (MQTT 5) or refused.",
        into!(max_wait, |text| duration_between(text, Duration::from_millis(10), Duration::from_secs(300)));
    "connect_timeout", "500ms", "a time from 10ms to 60s, such as 500ms",
        "The longest a connection to the API may take to come about.",
        into!(connect_timeout, |text| duration_between(text, Duration::from_millis(10), Duration::from_secs(60)));
    "max_requests", "64", "a whole number from 1 to 10000",
        "Requests in flight at once. Questions that the broker itself waits for may go over it by a quarter.",
        into!(max_requests, |text| count(text, 1, 10_000));
    "header" [repeatable, secret], "", "Name: value",
        "A header of every request, `Name: value`.",
        into!(headers push header_line);
    "header_file", "", "the path of a readable file",
        "The same, a line each; empty lines and lines that start with `#` are skipped. The place for \
         secrets. Re-read on SIGHUP.",
        into!(header_file, path);
    "tls_ca_file", "", "the path of a readable PEM file",
        "Trust these certificate authorities for https instead of the system's.",
        into!(tls_ca_file, path);
    "tls_cert_file", "", "the path of a readable PEM file",
        "Client certificate for https, with its chain. Needs `tls_key_file`.",
        into!(tls_cert_file, path);
    "tls_key_file", "", "the path of a readable PEM file",
        "Private key of the client certificate.",
        into!(tls_key_file, path);
    "tls_insecure", "false", "true or false",
        "`true` accepts any certificate of the API, and warns about it at every start.",
        into!(tls_insecure, boolean);
    "auth_cache_ttl", "30s", "a time up to 30 days, such as 30s, 5m or 1h; 0 = not remembered",
        "How long an allowed login is remembered; 0 = not.",
        into!(auth_cache_ttl, duration);
    "acl_cache_ttl", "30s", "a time up to 30 days, such as 30s, 5m or 1h; 0 = not remembered",
        "How long an allowed topic is remembered; 0 = not.",
        into!(acl_cache_ttl, duration);
    "deny_cache_ttl", "5s", "a time up to 30 days, such as 5s; 0 = not remembered",
        "How long a deny of either question is remembered; 0 = not.",
        into!(deny_cache_ttl, duration);
    "cache_size", "100000", "a whole number from 0 to 100000000",
        "Allows that are kept, and as many denies beside them; least recently used go first.",
        into!(cache_size, |text| count(text, 0, 100_000_000));
    "stale_ttl", "0s", "a time up to 30 days, such as 10m; 0 = not at all",
        "How long past its time an allow may still serve while the API gives no answer. A refusal by the API \
         ends it at once; denies are never stretched.",
        into!(stale_ttl, duration);
    "api_cache_control", "false", "true or false",
        "Let `max-age` and `no-store` in an answer's `Cache-Control` override the times above for that \
         answer, up to a day.",
        into!(api_cache_control, boolean);
    "acl_prefetch" [repeatable], "", "read, write or subscribe, then a topic",
        "`read|write|subscribe TOPIC`, with `%c` for the client id and `%u` for the username: asked side by \
         side as soon as the API has let a client in.",
        into!(acl_prefetch push prefetch);
    "lookahead", "true", "true or false",
        "Before the broker has to wait for one answer, look into the other sockets for the questions that wait \
         there, and ask them side by side.",
        into!(lookahead, boolean);
    "acl_checks", "read,write,subscribe", "a list of read, write and subscribe, separated by commas",
        "Which accesses the API is asked about; the others are allowed. `write,subscribe` takes an approved \
         filter for the right to read its topics.",
        into!(acl_checks, expand_checks);
    "special_chars", "deny", "allow or deny",
        "Topic checks of clients whose username or client id holds `+` or `#` are refused, as such names turn \
         into wildcards in pattern rules and in many APIs. `allow` lets them pass, but never into a `%c` or \
         `%u` pattern.",
        into!(special_chars, |text| choice(text, &[("allow", Verdict::Allow), ("deny", Verdict::Deny)]));
    "anonymous", "deny", "allow or deny",
        "What topic checks of anonymous clients get. Whether such clients may connect is the broker's \
         `allow_anonymous`.",
        into!(anonymous, |text| choice(text, &[("allow", Verdict::Allow), ("deny", Verdict::Deny)]));
    "auth_mode", "auto", "auto, blocking or delayed",
        "`auto`: clients wait without blocking the broker where it can (2.1), else the broker waits. \
         `blocking`: the broker always waits. `delayed`: a broker that cannot let them wait does not start.",
        into!(auth_mode, |text| choice(text, &[
            ("auto", AuthMode::Auto), ("blocking", AuthMode::Blocking), ("delayed", AuthMode::Delayed),
        ]));
    "throttle_after", "5", "a whole number from 0 to 1000; 0 = never",
        "Wrong passwords after which further tries are refused without being looked at, for a time that grows. \
         Credentials that were good within a day are always looked at. 0: never.",
        into!(throttle.after, |text| count(text, 0, 1_000));
    "throttle_pause", "1s", "a time from 10ms to 1h, such as 1s",
        "How long the first of these pauses is. Each further wrong password doubles it.",
        into!(throttle.pause, |text| duration_between(text, Duration::from_millis(10), Duration::from_secs(3600)));
    "throttle_longest", "1m", "a time from 10ms to 24h, such as 1m",
        "How long such a pause can get.",
        into!(throttle.longest, |text| {
            duration_between(text, Duration::from_millis(10), Duration::from_secs(24 * 3600))
        });
    "throttle_by", "address+username", "address+username or address",
        "Whose wrong passwords are counted together. `address` also stops who tries many names, but behind a \
         proxy, NAT or Unix socket everybody has the same. IPv6 addresses count by their first 64 bits.",
        into!(throttle.count_by, |text| choice(text, &[
            ("address+username", CountBy::AddressAndUsername), ("address", CountBy::Address),
        ]));
    "breaker_after", "5", "a whole number from 0 to 20; 0 = never",
        "Time-outs and transport errors among the last 20 questions to a URL within a minute after which it \
         is left alone: questions are refused at once, and copies of them find out in the background when the \
         API is back. No status that an API answers counts. 0: never.",
        into!(breaker.after, |text| count(text, 0, 20));
    "breaker_percent", "25", "a whole number from 1 to 100",
        "The share of those questions that they must make up, in percent.",
        into!(breaker.percent, |text| count(text, 1, 100));
    "breaker_pause", "1s", "a time from 10ms to 1h, such as 1s",
        "The pause before the API is first asked again. Each time in vain doubles it.",
        into!(breaker.pause, |text| duration_between(text, Duration::from_millis(10), Duration::from_secs(3600)));
    "breaker_longest", "30s", "a time from 10ms to 1h, such as 30s",
        "How long such a pause can get.",
        into!(breaker.longest, |text| duration_between(text, Duration::from_millis(10), Duration::from_secs(3600)));
    "config_file", "", "the path of a readable TOML file",
        "A TOML file with any of these options, such as `timeout = \"2s\"`; options that may be given several \
         times, and several URLs, are lists. Re-read on SIGHUP, which the broker does not do with \
         mosquitto.conf's own `plugin_opt_` lines. Those win where both set an option.",
        into!(config_file, path);
];

/// Where an option stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In mosquitto.conf, with `plugin_opt_` in front.
    Broker,
    /// In a configuration file, in this line, from 1.
    File(PathBuf, usize),
}

/// Where the options of a configuration file stand. That makes no difference to what they say, so all of
/// these are equal.
#[derive(Debug, Clone, Default)]
struct Places(HashMap<&'static str, Place>);

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A mistake in the configuration: where, what was found, what was expected.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No option has this name.
    UnknownOption {
        /// Where it stands.
        place: Place,
        /// The name that was given.
        name: String,
        /// The known name that is nearest to it, if one is near.
        nearest: Option<&'static str>,
    },
    /// An option was given twice that can be given once.
    Repeated(Place, &'static str),
    /// The value is not what the option wants.
    Value {
        /// Where it stands.
        place: Place,
        /// The option.
        name: &'static str,
        /// The value; `None` where it may be a secret.
        found: Option<String>,
        /// What the option wants.
        expected: &'static str,
    },
    /// Two options do not go together, or one lacks another.
    Combination(String),
    /// A configuration file cannot be read, or is no TOML.
    File(String),
}

/// An option, as it is called where it stands.
struct Named<'a>(&'a Place, &'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Broker => write!(f, "plugin_opt_{}", self.1),
            Place::File(path, line) => write!(f, "{}, line {line}: {}", path.display(), self.1),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::UnknownOption { place, name, nearest } => {
                write!(f, "{}: there is no option of this name", Named(place, name))?;
                match nearest {
                    Some(nearest) => write!(f, "; the nearest is {}", nearest),
                    None => write!(f, "; the README lists them all"),
                }
            }
            ConfigError::Repeated(place, name) => {
                write!(f, "{}: found it twice, expected it once at most", Named(place, name))
            }
            ConfigError::Value { place, name, found: Some(found), expected } => {
                write!(f, "{}: found \"{found}\", expected {expected}", Named(place, name))
            }
            ConfigError::Value { place, name, found: None, expected } => {
                let name = Named(place, name);
                write!(f, "{name}: expected {expected}; what was found is not shown, it may be a secret")
            }
            ConfigError::Combination(what) | ConfigError::File(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Options in the order of the broker's file, as it hands them over at the start and never again.
pub type BrokerOptions = Vec<(String, String)>;

impl Config {
    /// Reads the options of mosquitto.conf and of the `config_file` that they may name. All mistakes are
    /// returned, not only the first, so that an operator can mend them in one go. The second value names
    /// options that both set: then the broker's counts.
    pub fn read(options: &BrokerOptions) -> Result<(Self, Vec<&'static str>), Vec<ConfigError>> {
        let mut reading = Reading { config: Self::defaults(), given: HashMap::new(), errors: Vec::new() };
        for (name, value) in options {
            reading.take(&Place::Broker, name, value);
        }
        let by_broker = std::mem::take(&mut reading.given);
        let mut in_both = Vec::new();
        if let Some(path) = reading.config.config_file.clone() {
            match file::entries(&path) {
                Err(error) => reading.errors.push(error),
                Ok(entries) => {
                    for entry in entries {
                        match by_broker.get_key_value(entry.name.as_str()) {
                            Some((name, _)) => in_both.push(*name),
                            None => reading.take(&entry.place, &entry.name, &entry.value),
                        }
                    }
                    in_both.dedup();
                }
            }
        }
        let Reading { config, mut errors, .. } = reading;
        if errors.is_empty() {
            errors.extend(config.contradictions());
        }
        if errors.is_empty() { Ok((config, in_both)) } else { Err(errors) }
    }

    /// What is wrong with options that are fine one by one.
    fn contradictions(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let tls = [("tls_cert_file", &self.tls_cert_file), ("tls_key_file", &self.tls_key_file)];
        if let [(alone, Some(_)), (missing, None)] | [(missing, None), (alone, Some(_))] = tls {
            let what = format!("{}: found it without {missing}, expected both or none", self.called(alone));
            errors.push(ConfigError::Combination(what));
        }
        let has_local_users = self.password_file.is_some() || !self.users.is_empty();
        let asks = !self.auth_urls.is_empty() || !self.acl_urls.is_empty();
        if !has_local_users && !asks {
            let what = "there is nothing to decide with: expected plugin_opt_auth_url, plugin_opt_acl_url, \
                        plugin_opt_password_file or plugin_opt_user";
            errors.push(ConfigError::Combination(what.to_owned()));
        }
        errors
    }

    /// What an option is called where it stands: `plugin_opt_NAME`, or a file, a line and its name.
    pub fn called(&self, option: &'static str) -> String {
        Named(self.places.0.get(option).unwrap_or(&Place::Broker), option).to_string()
    }

    /// Whether topic checks are this plugin's business at all.
    pub fn checks_topics(&self) -> bool {
        !self.acl_urls.is_empty() || self.acl_file.is_some()
    }

    /// How long a verdict lives.
    pub fn lifetime(&self, kind: Kind, verdict: Verdict) -> Duration {
        match (verdict, kind) {
            (Verdict::Deny, _) => self.deny_cache_ttl,
            (Verdict::Allow, Kind::Connect) => self.auth_cache_ttl,
            (Verdict::Allow, Kind::Access) => self.acl_cache_ttl,
        }
    }

    /// What the table's defaults say.
    fn defaults() -> Self {
        let mut config = Self {
            auth_urls: Vec::new(),
            acl_urls: Vec::new(),
            password_file: None,
            users: Vec::new(),
            acl_file: None,
            timeout: Duration::ZERO,
            max_wait: Duration::ZERO,
            connect_timeout: Duration::ZERO,
            max_requests: 0,
            headers: Vec::new(),
            header_file: None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_insecure: false,
            auth_cache_ttl: Duration::ZERO,
            acl_cache_ttl: Duration::ZERO,
            deny_cache_ttl: Duration::ZERO,
            cache_size: 0,
            stale_ttl: Duration::ZERO,
            api_cache_control: false,
            acl_prefetch: Vec::new(),
            lookahead: false,
            acl_checks: Vec::new(),
            special_chars: Verdict::Deny,
            anonymous: Verdict::Deny,
            auth_mode: AuthMode::Auto,
            throttle: ThrottleLimits {
                after: 0,
                pause: Duration::ZERO,
                longest: Duration::ZERO,
                count_by: CountBy::AddressAndUsername,
            },
            breaker: BreakerLimits { after: 0, percent: 0, pause: Duration::ZERO, longest: Duration::ZERO },
            config_file: None,
            places: Places::default(),
        };
        for spec in OPTIONS.iter().filter(|spec| !spec.default.is_empty()) {
            let taken = (spec.set)(&mut config, spec.default);
            debug_assert!(taken.is_ok(), "the default of {} is wrong", spec.name);
        }
        config
    }
}

/// A configuration that is being read.
struct Reading {
    config: Config,
    /// How often each option was given.
    given: HashMap<&'static str, usize>,
    errors: Vec<ConfigError>,
}

impl Reading {
    fn take(&mut self, place: &Place, name: &str, value: &str) {
        let Some(spec) = OPTIONS.iter().find(|spec| spec.name == name) else {
            let (place, name, nearest) = (place.clone(), name.to_owned(), nearest(name));
            self.errors.push(ConfigError::UnknownOption { place, name, nearest });
            return;
        };
        if let Place::File(..) = place {
            self.config.places.0.insert(spec.name, place.clone());
        }
        let times = self.given.entry(spec.name).or_insert(0);
        *times += 1;
        if *times == 2 && !spec.repeatable {
            self.errors.push(ConfigError::Repeated(place.clone(), spec.name));
        }
        if (spec.set)(&mut self.config, value.trim()).is_err() {
            self.errors.push(ConfigError::Value {
                place: place.clone(),
                name: spec.name,
                found: (!spec.secret).then(|| value.to_owned()),
                expected: spec.expected,
            });
        }
    }
}

/// The known name that a wrong one was probably meant to be: at most a third of its letters differ.
fn nearest(name: &str) -> Option<&'static str> {
    OPTIONS
        .iter()
        .map(|spec| (strsim::damerau_levenshtein(spec.name, name), spec.name))
        .min()
        .filter(|(distance, nearest)| distance * 3 <= nearest.len().max(name.len()))
        .map(|(_, nearest)| nearest)
}

/// The README's list of options.
pub fn options_as_markdown() -> String {
    let mut text = String::new();
    for spec in OPTIONS {
        let default = match spec.default {
            "" => "not set".to_owned(),
            default => format!("`{default}`"),
        };
        let repeatable = if spec.repeatable { " May be given several times." } else { "" };
        text += &format!(
            "#### `{}`\n{}{repeatable}\n\nValue: {}. Default: {default}.\n\n",
            spec.name, spec.meaning, spec.expected
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<(Config, Vec<&'static str>), Vec<String>> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::read(&options.collect()).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    fn messages(options: &[(&str, &str)]) -> Vec<String> {
        read(options).map(|_| Vec::new()).unwrap_or_else(|errors| errors)
    }

    const URL: (&str, &str) = ("auth_url", "http://127.0.0.1:1/");

    #[test]
    fn defaults_are_those_of_the_table() {
        let (config, _) = read(&[URL]).unwrap();
        assert_eq!(config.timeout, Duration::from_secs(2));
        assert_eq!(config.deny_cache_ttl, Duration::from_secs(5));
        assert_eq!(config.max_requests, 64);
        assert_eq!(config.acl_checks, [Access::Read, Access::Write, Access::Subscribe]);
        assert_eq!(config.special_chars, Verdict::Deny);
    }

    #[test]
    fn every_mistake_says_what_was_found_and_expected() {
        for (options, expected) in [
            (
                vec![URL, ("auth_uri", "x")],
                "plugin_opt_auth_uri: there is no option of this name; the nearest is auth_url",
            ),
            (
                vec![URL, ("colour", "red")],
                "plugin_opt_colour: there is no option of this name; the README lists them all",
            ),
            (
                vec![URL, ("timeout", "soon")],
                "plugin_opt_timeout: found \"soon\", expected a time from 10ms to 60s, such as 500ms or 2s",
            ),
            (
                vec![URL, ("timeout", "0")],
                "plugin_opt_timeout: found \"0\", expected a time from 10ms to 60s, such as 500ms or 2s",
            ),
            (
                vec![URL, ("timeout", "1s"), ("timeout", "2s")],
                "plugin_opt_timeout: found it twice, expected it once at most",
            ),
            (
                vec![URL, ("max_requests", "-1")],
                "plugin_opt_max_requests: found \"-1\", expected a whole number from 1 to 10000",
            ),
            (
                vec![URL, ("anonymous", "maybe")],
                "plugin_opt_anonymous: found \"maybe\", expected allow or deny",
            ),
            (
                vec![URL, ("acl_prefetch", "own a/b")],
                "plugin_opt_acl_prefetch: found \"own a/b\", expected read, write or subscribe, then a topic",
            ),
            (
                vec![("auth_url", "ftp://u:secret@host/")],
                "plugin_opt_auth_url: expected http:// or https:// URLs, separated by spaces; what was found is not shown, it may be a secret",
            ),
            (
                vec![URL, ("header", "Authorization Bearer secret")],
                "plugin_opt_header: expected Name: value; what was found is not shown, it may be a secret",
            ),
            (
                vec![URL, ("tls_key_file", "/k")],
                "plugin_opt_tls_key_file: found it without tls_cert_file, expected both or none",
            ),
            (
                vec![("timeout", "1s")],
                "there is nothing to decide with: expected plugin_opt_auth_url, plugin_opt_acl_url, plugin_opt_password_file or plugin_opt_user",
            ),
        ] {
            assert_eq!(messages(&options), [expected], "{options:?}");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        assert_eq!(messages(&[("timeot", "1s"), ("cache_size", "big")]).len(), 2);
    }

    fn with_file(text: &str, options: &[(&str, &str)]) -> Result<(Config, Vec<&'static str>), Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        let mut options = options.to_vec();
        options.push(("config_file", path));
        read(&options).map_err(|errors| errors.iter().map(|error| error.replace(path, "FILE")).collect())
    }

    #[test]
    fn a_file_has_the_same_options_and_gives_way_to_the_broker() {
        let text = "auth_url = ['http://a/', 'http://b/']\ntimeout = '3s'\ncache_size = 7\ntls_insecure = true\n\
                    user = ['a:$7$x', 'b:$7$y']\nmax_wait = 4\n";
        let (config, in_both) = with_file(text, &[("timeout", "1s")]).unwrap();
        assert_eq!(config.auth_urls.len(), 2);
        assert_eq!(config.users.len(), 2);
        assert_eq!((config.cache_size, config.tls_insecure), (7, true));
        assert_eq!(config.max_wait, Duration::from_secs(4));
        assert_eq!(config.timeout, Duration::from_secs(1));
        assert_eq!(in_both, ["timeout"]);
    }

    #[test]
    fn mistakes_in_a_file_name_file_and_line() {
        for (text, expected) in [
            (
                "\ntimout = '1s'",
                "FILE, line 2: timout: there is no option of this name; the nearest is timeout",
            ),
            (
                "timeout = 'soon'",
                "FILE, line 1: timeout: found \"soon\", expected a time from 10ms to 60s, such as 500ms or 2s",
            ),
            ("config_file = 'x'", "FILE, line 1: config_file: a configuration file cannot name another"),
            (
                "[api]\nurl = 'x'",
                "FILE, line 1: api: found a table, expected a text, a number, true, false or a list of those",
            ),
            (
                "timeout = [['1s']]",
                "FILE, line 1: timeout: found a list in a list, expected a text, a number, true, false or a list of those",
            ),
        ] {
            assert_eq!(with_file(text, &[URL]).unwrap_err(), [expected], "{text}");
        }
        let broken = with_file("a = 1\ntimeout = = 2", &[URL]).unwrap_err();
        assert!(broken[0].starts_with("FILE, line 2: this is no TOML ("), "{broken:?}");
    }
}
