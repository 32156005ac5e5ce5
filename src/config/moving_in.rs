//! Options of mosquitto-go-auth and mosquitto-auth-plug, understood as these meant them: what they come to in options of
//! this plugin, and in a [`Dialect`] for what no option says. `table` has what becomes of each.

mod lines;
mod speech;
pub mod table;

use std::borrow::Cow;
use std::collections::HashMap;

use super::dialect::Dialect;
use super::options::{MINUTE, MONTH};
use super::url::urls;
use crate::log::{quoted, sentence};
use table::{Fate, find};

/// The longest that `timeout` may be, in seconds.
const LONGEST_TIMEOUT: u64 = MINUTE.as_secs();

/// The longest that answers may be remembered, in seconds: 30 days.
const LONGEST_TIME: u64 = MONTH.as_secs();

/// Whose options they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theirs {
    /// Options of mosquitto-go-auth, or of its fork.
    GoAuth,
    /// Options of mosquitto-auth-plug.
    AuthPlug,
}

impl Theirs {
    /// The plugin's name.
    pub fn name(self) -> &'static str {
        match self {
            Theirs::GoAuth => "mosquitto-go-auth",
            Theirs::AuthPlug => "mosquitto-auth-plug",
        }
    }

    /// Whether a row of the table is about an option of this plugin.
    fn has(self, row: &table::Row) -> bool {
        row.of.split(", ").any(|of| match self {
            Theirs::GoAuth => of == "go-auth" || of == "fork",
            Theirs::AuthPlug => of == "auth-plug",
        })
    }
}

/// An option of this plugin that stands for some of theirs.
#[derive(Debug, PartialEq, Eq)]
pub struct MovedOption {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The option of theirs that it comes from; none where that was not given.
    pub from: Option<String>,
}

/// What becomes of one of their options.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Which of all options it is.
    pub index: usize,
    /// Its name.
    pub name: &'a str,
    /// What becomes of it.
    pub fate: Fate,
    /// What does it here, or why nothing does.
    pub here: Cow<'static, str>,
}

/// Options of theirs, understood.
#[derive(Debug)]
pub struct Moved<'a> {
    /// Whose they are.
    pub theirs: Theirs,
    /// What they come to. None of them may be repeated but `header`.
    pub options: Vec<MovedOption>,
    /// What no option says.
    pub dialect: Dialect,
    /// What becomes of each option that is none of this plugin's own.
    pub lines: Vec<Line<'a>>,
    /// What is different without a line that says so.
    pub notes: Vec<String>,
    /// Why it would be unsafe, or of no use, to go on.
    pub errors: Vec<String>,
}

/// Reads options, if they are those of another plugin: then `backends` is among them. The last of two with one name counts,
/// as there.
pub fn moved(options: &[(String, String)]) -> Option<Moved<'_>> {
    let values: HashMap<_, _> = options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    values.get("backends")?;
    let is_of_plug = |name: &str| find(name).is_some_and(|row| row.of == "auth-plug");
    let theirs = if !values.contains_key("http_host") && values.keys().any(|name| is_of_plug(name)) {
        Theirs::AuthPlug
    } else {
        Theirs::GoAuth
    };
    let moved = Moved {
        theirs,
        options: Vec::new(),
        dialect: Dialect::default(),
        lines: Vec::new(),
        notes: Vec::new(),
        errors: Vec::new(),
    };
    let mut reading = Reading { options, values, moved };
    reading.read();
    Some(reading.moved)
}

/// Options that are being read.
struct Reading<'a> {
    options: &'a [(String, String)],
    values: HashMap<&'a str, &'a str>,
    moved: Moved<'a>,
}

/// What decides there.
#[derive(Clone, Copy)]
struct Backends {
    http: bool,
    files: bool,
}

impl<'a> Reading<'a> {
    fn read(&mut self) {
        let backends = self.backends();
        if backends.http {
            self.urls();
            self.times();
            self.speech();
        }
        if backends.files {
            self.files(backends);
        }
        self.lines(backends);
        self.moved.dialect.remarks = self.remarks();
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).copied()
    }

    /// Whether an option is just `true`, where they look no further.
    fn is_true(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    /// Whether an option is `true`, where they take all blanks out before they compare.
    fn is_true_among_blanks(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value.replace(' ', "") == "true")
    }

    fn is_of(&self, theirs: Theirs) -> bool {
        self.moved.theirs == theirs
    }

    fn error(&mut self, option: &str, what: &str) {
        self.moved.errors.push(format!("plugin_opt_{option}: {what}"));
    }

    fn note(&mut self, note: impl Into<String>) {
        self.moved.notes.push(note.into());
    }

    /// Sets an option of this plugin, by one of theirs where that is given.
    fn set(&mut self, name: &'static str, value: impl Into<String>, from: &str) {
        let from = self.value(from).map(|_| from.to_owned());
        self.moved.options.push(MovedOption { name, value: value.into(), from });
    }

    fn backends(&mut self) -> Backends {
        let list = self.value("backends").unwrap_or_default().replace(' ', "");
        let (mut backends, mut others) = (Backends { http: false, files: false }, Vec::new());
        for name in list.split(',') {
            match name {
                "http" => backends.http = true,
                "files" => backends.files = true,
                other => others.push(other),
            }
        }
        if !others.is_empty() {
            let what = format!(
                "found {}, which nothing here stands for, expected http or files: let the API decide what it decided, and \
                 take it out",
                quoted(&others.join(", "))
            );
            self.error("backends", &what);
        }
        backends
    }

    fn urls(&mut self) {
        let (host, expected) = match self.moved.theirs {
            Theirs::GoAuth => (self.value("http_host"), "http_host"),
            Theirs::AuthPlug => (self.value("http_ip").or(self.value("http_hostname")), "http_ip"),
        };
        let port = self.value("http_port").map(str::trim).filter(|port| !port.is_empty());
        if port.is_none() && self.is_of(Theirs::GoAuth) {
            self.error("http_port", "expected the port of the API; it is missing");
        }
        let Some(host) = host.map(str::trim).filter(|host| !host.is_empty()) else {
            return self.error(expected, "expected the host of the API; it is missing");
        };
        let scheme = if self.is_true("http_with_tls") { "https" } else { "http" };
        let begin = format!("{scheme}://{host}:{}", port.unwrap_or("80"));
        let registered = self.registered();
        for (option, uri) in [("auth_url", "http_getuser_uri"), ("acl_url", "http_aclcheck_uri")] {
            match self.value(uri) {
                Some(path) => self.set(option, begin.clone() + &rooted(path), uri),
                None => self.error(uri, "expected the path of the API for these questions; it is missing"),
            }
        }
        match self.value("http_superuser_uri") {
            Some(path)
                if registered && !(self.is_of(Theirs::GoAuth) && self.is_true("disable_superuser")) =>
            {
                match urls(&(begin + &rooted(path))) {
                    Ok(urls) => self.moved.dialect.superuser_urls = urls,
                    Err(wrong) => {
                        let what = wrong.reason().unwrap_or_else(|| "expected a path".to_owned());
                        self.error("http_superuser_uri", &what);
                    }
                }
            }
            None if self.is_of(Theirs::AuthPlug) => {
                self.error(
                    "http_superuser_uri",
                    "expected the path of the API for these questions; it is missing",
                );
            }
            _ => {}
        }
        if scheme == "https" && self.is_of(Theirs::GoAuth) && self.value("http_verify_peer").is_none() {
            self.note(
                "The API's certificate was not verified, since plugin_opt_http_verify_peer is not set. Here it IS VERIFIED, \
                 and nobody gets in if it is not one that the system trusts: name it, or its authority, in \
                 plugin_opt_tls_ca_file; plugin_opt_tls_insecure true goes on as before, open to whoever is on the way.",
            );
        }
    }

    /// Whether http is asked about superusers. Without the other two it would have no part in what only it can decide here.
    fn registered(&mut self) -> bool {
        let Some(list) = self.value("http_register").filter(|_| self.is_of(Theirs::GoAuth)) else {
            return true;
        };
        let list = list.replace(' ', "");
        let named: Vec<_> = list.split(',').collect();
        if let Some(other) = named.iter().find(|name| !["user", "acl", "superuser"].contains(name)) {
            self.error("http_register", &format!("found {}, expected user, acl or superuser", quoted(other)));
        } else if !(named.contains(&"user") && named.contains(&"acl")) {
            self.error(
                "http_register",
                "found it without user or without acl, expected both: what http does not decide would be left to the broker \
                 here, and was refused there",
            );
        }
        named.contains(&"superuser")
    }

    fn times(&mut self) {
        let timeout = match (self.moved.theirs, self.value("http_timeout")) {
            (Theirs::AuthPlug, _) => 10,
            (Theirs::GoAuth, None) => 5,
            (Theirs::GoAuth, Some(text)) => match text.parse::<u64>() {
                Ok(0) => LONGEST_TIMEOUT,
                Ok(seconds) => seconds.min(LONGEST_TIMEOUT),
                Err(_) => 5,
            },
        };
        let timeout = format!("{timeout}s");
        self.set("timeout", timeout.clone(), "http_timeout");
        // They have no other time for a connection.
        self.set("connect_timeout", timeout, "http_timeout");
        let (names, defaults) = match self.moved.theirs {
            Theirs::GoAuth if self.is_true_among_blanks("cache") => {
                (["auth_cache_seconds", "acl_cache_seconds"], [30, 30])
            }
            Theirs::GoAuth => ([""; 2], [0, 0]),
            Theirs::AuthPlug => {
                let acl = if self.value("acl_cacheseconds").is_some() {
                    "acl_cacheseconds"
                } else {
                    "cacheseconds"
                };
                (["auth_cacheseconds", acl], [0, 300])
            }
        };
        let times = [0, 1].map(|index| self.seconds(names[index]).unwrap_or(defaults[index]));
        for ((option, time), name) in ["auth_cache_ttl", "acl_cache_ttl"].into_iter().zip(times).zip(names) {
            self.set(option, format!("{time}s"), if name.is_empty() { "cache" } else { name });
        }
        // For who goes on without them; a no has no time of its own there.
        let shorter = times[0].min(times[1]);
        self.set("deny_cache_ttl", format!("{shorter}s"), "");
        self.moved.dialect.remembers_no_like_yes = true;
        if self.is_of(Theirs::GoAuth) && self.value("cache").is_none() {
            self.note(sentence(NO_CACHE));
        }
        if times != [0, 0] {
            self.note(
                "While the API gives no answer, what it allowed goes on for up to 10 minutes past its time, where theirs \
                 refused: plugin_opt_stale_ttl says how long, and 0 not at all.",
            );
        }
    }

    /// A time in whole seconds, if that is what stands there. One below zero counts as none.
    fn seconds(&self, name: &str) -> Option<u64> {
        let seconds: i64 = self.value(name)?.trim().parse().ok()?;
        Some(u64::try_from(seconds).unwrap_or(0).min(LONGEST_TIME))
    }

    fn files(&mut self, backends: Backends) {
        let first = |names: [&'static str; 2]| names.into_iter().find(|name| self.value(name).is_some());
        let (passwords, rules) = match self.moved.theirs {
            Theirs::GoAuth => {
                (first(["files_password_path", "password_path"]), first(["files_acl_path", "acl_path"]))
            }
            // These have the names that they have here.
            Theirs::AuthPlug => (first(["password_file"; 2]), first(["acl_file"; 2])),
        };
        let has_rules = rules.is_some() || self.value("acl_file").is_some();
        if self.is_of(Theirs::GoAuth) {
            for (option, name) in [("password_file", passwords), ("acl_file", rules)] {
                if let Some(name) = name
                    && let Some(path) = self.value(name)
                {
                    self.set(option, path, name);
                }
            }
        }
        if backends.http && passwords.is_some() && !has_rules {
            self.error(
                passwords.unwrap_or_default(),
                "found it without rules, expected plugin_opt_acl_file, too: without it those in the file may use every topic \
                 here, and http was asked about them there",
            );
        }
        if let Some(list) = self.value("files_register").map(|list| list.replace(' ', ""))
            && !["user", "acl"].into_iter().all(|name| list.split(',').any(|other| other == name))
        {
            self.error(
                "files_register",
                "expected both user and acl: here the users of a password file have their rights by the acl_file",
            );
        }
    }
}

/// What is said where nothing is remembered.
const NO_CACHE: &str = "Nothing is remembered, as without plugin_opt_cache true there: every login and every topic waits for \
                        the API. plugin_opt_cache true (30 s, or by auth_cache_seconds and acl_cache_seconds) is much faster; \
                        a right that the API takes back ends that much later then";

/// A path, from the root on.
fn rooted(path: &str) -> String {
    let path = path.trim();
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests;
