//! Prints what a configuration of mosquitto-go-auth or mosquitto-auth-plug with an HTTP API comes to in the plugin's own
//! options, and what becomes of each of its lines.

pub mod table;

use std::collections::HashMap;

use anstream::println;
use serde_json::json;

use crate::Outcome;
use crate::arguments::Migrate;
use crate::broker_conf::{BrokerConf, Plugin};
use crate::util::location::Location;
use table::{Fate, find};

/// Where the packages have the plugin.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/mosquitto_http_auth.so";
const HEADER_FILE: &str = "/etc/mosquitto/http_auth_headers";

/// The longest that `timeout` may be, in seconds.
const LONGEST_TIMEOUT: u64 = 60;

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theirs {
    GoAuth,
    AuthPlug,
}

/// What becomes of one of their lines.
struct Line<'a> {
    at: &'a Location,
    name: &'a str,
    fate: Fate,
    here: String,
}

/// A configuration in the plugin's own options.
#[derive(Default)]
struct Moved<'a> {
    /// Options, and where each comes from.
    options: Vec<(&'static str, String, String)>,
    /// Header names that belong into the header file, and the lines that have their values.
    headers: Vec<(String, &'a Location)>,
    lines: Vec<Line<'a>>,
    /// What is different without a line that says so.
    notes: Vec<&'static str>,
    /// Why it does not do as it stands: who would get in who must not, or the API would not understand.
    obstacles: Vec<String>,
}

/// Reads the configuration, and prints what it comes to.
///
/// # Errors
/// Why it cannot be read, or that there is no such plugin in it.
pub fn run(migrate: &Migrate, as_json: bool) -> Result<Outcome, String> {
    let conf = BrokerConf::read(&migrate.config)?;
    let (plugin, theirs) = conf.plugins.iter().find_map(|plugin| Some((plugin, of(plugin)?))).ok_or_else(|| {
        format!(
            "{} loads no mosquitto-go-auth and no mosquitto-auth-plug: there is no plugin with an option `backends`",
            migrate.config.display()
        )
    })?;
    let moved = Moved::new(plugin, theirs);
    if as_json {
        moved.print_json();
    } else {
        moved.print(plugin, theirs);
    }
    Ok(if moved.obstacles.is_empty() { Outcome::Yes } else { Outcome::No })
}

/// Whose plugin it is, if it is one of theirs.
fn of(plugin: &Plugin) -> Option<Theirs> {
    plugin.line_of("backends")?;
    let is_of_auth_plug = |name: &str| find(name).is_some_and(|row| row.of == "auth-plug");
    let path = plugin.path.to_string_lossy();
    let is_auth_plug =
        path.contains("auth-plug") || plugin.options.iter().any(|(_, name, _)| is_of_auth_plug(name));
    Some(if is_auth_plug && !path.contains("go-auth") { Theirs::AuthPlug } else { Theirs::GoAuth })
}

impl<'a> Moved<'a> {
    fn new(plugin: &'a Plugin, theirs: Theirs) -> Self {
        let mut moved = Self::default();
        let values: HashMap<&str, &str> =
            plugin.options.iter().map(|(_, name, value)| (name.as_str(), value.as_str())).collect();
        moved.urls(&values, theirs);
        moved.times(&values, theirs);
        for (at, name, value) in &plugin.options {
            moved.line(at, name, value, theirs);
        }
        if theirs == Theirs::AuthPlug {
            moved.obstacles.push(
                "the API is asked by forms (username=...&password=...), here by JSON with the same fields: it has to read JSON"
                    .to_owned(),
            );
        }
        if !moved.headers.is_empty() {
            moved.set("header_file", HEADER_FILE, "their header lines");
        }
        moved
    }

    fn set(&mut self, name: &'static str, value: impl Into<String>, from: impl Into<String>) {
        self.options.push((name, value.into(), from.into()));
    }

    fn urls(&mut self, values: &HashMap<&str, &str>, theirs: Theirs) {
        let is_on = |name: &str| values.get(name).copied() == Some("true");
        let host = ["http_host", "http_hostname", "http_ip"].iter().find_map(|name| values.get(name));
        let Some(host) = host.map(|host| host.trim()) else {
            self.obstacles.push("there is no http_host (or http_hostname, http_ip)".to_owned());
            return;
        };
        let scheme = if is_on("http_with_tls") { "https" } else { "http" };
        let port = match (values.get("http_port").map(|port| port.trim()), theirs) {
            (Some(port), _) if !port.is_empty() => format!(":{port}"),
            (_, Theirs::AuthPlug) => ":80".to_owned(),
            (_, Theirs::GoAuth) => String::new(),
        };
        let registered: Vec<_> =
            values.get("http_register").map_or(Vec::new(), |list| list.split(',').map(str::trim).collect());
        for (option, uri, kind) in
            [("auth_url", "http_getuser_uri", "user"), ("acl_url", "http_aclcheck_uri", "acl")]
        {
            if !registered.is_empty() && !registered.contains(&kind) {
                continue;
            }
            match values.get(uri) {
                Some(path) => {
                    let slash = if path.starts_with('/') { "" } else { "/" };
                    self.set(option, format!("{scheme}://{host}{port}{slash}{}", path.trim()), uri);
                }
                None => self.obstacles.push(format!("there is no {uri}")),
            }
        }
        if scheme == "https" && theirs == Theirs::GoAuth && !is_on("http_verify_peer") {
            self.notes.push(
                "The API's certificate was not verified, and is here: if it is your own, name it or its authority in \
                 plugin_opt_tls_ca_file.",
            );
        }
        self.notes
            .push("Statuses from 200 to 299 were a yes. Here 200 is, and every other below 500 is a no.");
        if theirs == Theirs::GoAuth {
            self.set("auth_fields", "clientid", "their question about a login has it");
        }
    }

    fn times(&mut self, values: &HashMap<&str, &str>, theirs: Theirs) {
        let seconds = |name: &str| values.get(name).and_then(|value| value.trim().parse::<u64>().ok());
        let timeout = match (seconds("http_timeout"), theirs) {
            (Some(0), _) => LONGEST_TIMEOUT,
            (Some(seconds), _) => seconds.min(LONGEST_TIMEOUT),
            (None, Theirs::GoAuth) => 5,
            (None, Theirs::AuthPlug) => 10,
        };
        let from = if values.contains_key("http_timeout") { "http_timeout" } else { "their default" };
        self.set("timeout", format!("{timeout}s"), from);
        let (names, defaults) = match theirs {
            Theirs::GoAuth if values.get("cache").map(|value| value.trim()) == Some("true") => {
                (["auth_cache_seconds", "acl_cache_seconds"], [30, 30])
            }
            // Nothing is remembered there. Here it is, unless that is switched off.
            Theirs::GoAuth => {
                self.notes.push(
                    "No answer was remembered. Here one is for 30 s, so a right that the API takes back ends that much \
                     later; auth_cache_ttl and acl_cache_ttl say how long.",
                );
                return;
            }
            Theirs::AuthPlug => (["auth_cacheseconds", "acl_cacheseconds"], [0, 300]),
        };
        for ((option, name), default) in
            ["auth_cache_ttl", "acl_cache_ttl"].into_iter().zip(names).zip(defaults)
        {
            let from = if values.contains_key(name) { name } else { "their default" };
            self.set(option, format!("{}s", seconds(name).unwrap_or(default)), from);
        }
    }

    /// What becomes of one line.
    fn line(&mut self, at: &'a Location, name: &'a str, value: &'a str, theirs: Theirs) {
        let Some(row) = find(name) else {
            let here = "neither they nor this plugin know it: leave it out".to_owned();
            self.lines.push(Line { at, name, fate: Fate::Missing, here });
            return;
        };
        let (mut fate, mut here) = (row.fate, row.here.to_owned());
        let value = value.trim();
        match (name, value) {
            ("backends", list) => {
                let others: Vec<_> =
                    list.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "http")).collect();
                if others.is_empty() {
                    "this plugin".clone_into(&mut here);
                } else {
                    fate = Fate::Missing;
                    here = format!("only http moves in, not {}", others.join(", "));
                    self.obstacles
                        .push(format!("{} decided, too, and nothing here does that", others.join(", ")));
                }
            }
            ("http_method", "GET" | "PUT") => {
                fate = Fate::Missing;
                here = format!("every question is a POST, not a {value}");
                self.obstacles.push(format!("the API has to take POST in place of {value}"));
            }
            ("http_params_mode", "form") => {
                fate = Fate::Missing;
                "every question is JSON, with the same fields".clone_into(&mut here);
                self.obstacles
                    .push("the API is asked by forms, here by JSON: it has to read JSON".to_owned());
            }
            ("http_response_mode", "text" | "json") => {
                fate = Fate::Missing;
                "the status alone is the answer: 200 lets everybody in, whatever stands in the body"
                    .clone_into(&mut here);
                self.obstacles.push(
                    "DANGER: the API says no in the body of a 200, and here a 200 lets everybody in: it has to answer 403"
                        .to_owned(),
                );
            }
            ("http_timeout", "0") => {
                fate = Fate::Different;
                "timeout 60s: it is never without an end".clone_into(&mut here);
            }
            ("http_with_tls", value) if value != "true" => {
                "http:// in auth_url and acl_url".clone_into(&mut here)
            }
            ("http_verify_peer", "true") => {
                fate = Fate::Same;
                "certificates are always verified".clone_into(&mut here);
            }
            ("http_user_agent", agent) if theirs == Theirs::GoAuth => {
                self.set("header", format!("User-Agent: {agent}"), name);
            }
            ("http_basic_auth_key", _) => self.headers.push(("Authorization: Basic".to_owned(), at)),
            ("cache", value) if value != "true" => {
                "it remembers answers for 30 s: 0s as auth_cache_ttl, acl_cache_ttl and deny_cache_ttl switches that off"
                    .clone_into(&mut here);
            }
            ("disable_superuser", value) if value != "true" => {
                fate = Fate::Missing;
                "see http_superuser_uri".clone_into(&mut here);
            }
            ("check_prefix" | "use_clientid_as_username", "true") => {
                self.obstacles
                    .push(format!("{name} has no counterpart: the API gets usernames as clients send them"));
            }
            (name, _) if name.starts_with("http_header_") => {
                self.headers.push((format!("{}:", &name["http_header_".len()..]), at));
            }
            (name, _) if name.ends_with("_params") => {
                self.obstacles.push(format!("{name}: the API gets no such fields"));
            }
            _ => {}
        }
        self.lines.push(Line { at, name, fate, here });
    }

    fn print(&self, plugin: &Plugin, theirs: Theirs) {
        let whose = match theirs {
            Theirs::GoAuth => "mosquitto-go-auth",
            Theirs::AuthPlug => "mosquitto-auth-plug",
        };
        println!("# In place of {whose} ({}):", plugin.at);
        println!("plugin {LIBRARY}");
        // What would let everybody in is not printed ready to be used.
        let off = if self.obstacles.is_empty() { "" } else { "#" };
        for (name, value, from) in &self.options {
            println!("# {from}");
            println!("{off}plugin_opt_{name} {value}");
        }
        for (name, at) in &self.headers {
            println!(
                "# {HEADER_FILE} gets a line `{name} ...`, with what stands behind it at {at} (chmod 640)"
            );
        }
        println!();
        for Line { at, name, fate, here } in &self.lines {
            println!("# {at}, {name}: {}. {here}", fate.word());
        }
        for note in &self.notes {
            println!("# {note}");
        }
        if !self.obstacles.is_empty() {
            println!("#\n# This does not do yet, so the options above are switched off by a #:");
            self.obstacles.iter().for_each(|what| println!("# - {what}"));
        }
        println!("#\n# Then: mosquitto-http-auth check");
    }

    fn print_json(&self) {
        let options: Vec<_> = self
            .options
            .iter()
            .map(|(name, value, from)| json!({ "name": name, "value": value, "from": from }))
            .collect();
        let headers: Vec<_> =
            self.headers.iter().map(|(name, at)| json!({ "name": name, "at": at.to_string() })).collect();
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| {
                json!({ "at": line.at.to_string(), "name": line.name, "fate": line.fate, "here": line.here })
            })
            .collect();
        println!(
            "{}",
            json!({
                "options": options,
                "headers": headers,
                "lines": lines,
                "notes": self.notes,
                "obstacles": self.obstacles,
            })
        );
    }
}
