//! Prints what a configuration of mosquitto-go-auth or mosquitto-auth-plug with an HTTP API comes to in the plugin's own
//! options, and what becomes of each of its lines. It is read by the plugin's own code (`config::moving_in`).

use anstream::println;
use serde_json::json;

use crate::Outcome;
use crate::arguments::Migrate;
use crate::broker_conf::{BrokerConf, Plugin};
use crate::config::moving_in::{Line, Moved, MovedOption, moved};
use crate::config::{Dialect, Words, Yes};
use crate::util::location::Location;

/// Where the packages have the plugin.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/mosquitto_http_auth.so";
const HEADER_FILE: &str = "/etc/mosquitto/http_auth_headers";

/// A configuration in the plugin's own options.
struct Own<'a> {
    moved: Moved<'a>,
    plugin: &'a Plugin,
    /// Header names that belong into the header file, and the lines that have their values.
    headers: Vec<(String, &'a Location)>,
    /// What is different without a line that says so.
    notes: Vec<&'static str>,
    /// Why the own options do not do: who would get in who must not, or the API would not understand.
    obstacles: Vec<String>,
}

/// Reads the configuration, and prints what it comes to.
///
/// # Errors
/// Why it cannot be read, or that there is no such plugin in it.
pub fn run(migrate: &Migrate, as_json: bool) -> Result<Outcome, String> {
    let conf = BrokerConf::read(&migrate.config)?;
    let plugin = conf.plugins.iter().find(|plugin| plugin.line_of("backends").is_some());
    let plugin = plugin.ok_or_else(|| {
        format!(
            "{} loads no mosquitto-go-auth and no mosquitto-auth-plug: there is no plugin with an option `backends`",
            migrate.config.display()
        )
    })?;
    let options = plugin.broker_options();
    let Some(moved) = moved(&options) else { return Ok(Outcome::No) };
    let own = Own::new(moved, plugin);
    if as_json {
        own.print_json();
    } else {
        own.print();
    }
    Ok(if own.obstacles.is_empty() { Outcome::Yes } else { Outcome::No })
}

impl<'a> Own<'a> {
    fn new(moved: Moved<'a>, plugin: &'a Plugin) -> Self {
        let headers = moved.options.iter().filter_map(|option| secret_header(option, plugin)).collect();
        let obstacles = moved.errors.iter().cloned().chain(obstacles(&moved.dialect)).collect();
        let mut notes = vec![
            "Statuses from 200 to 299 were a yes. With these options 200 is, and every other below 500 is a no.",
        ];
        if moved.dialect.knows_superusers() {
            notes.push(
                "These options have no question about superusers: let the API allow all topics of such a user at acl_url, or \
                 name the user in password_file.",
            );
        }
        Self { moved, plugin, headers, notes, obstacles }
    }

    /// Options, and where each comes from. Headers that may be secret have a file of their own.
    fn options(&self) -> Vec<(&'static str, String, String)> {
        let printed = |option: &MovedOption| {
            let is_secret = secret_header(option, self.plugin).is_some();
            let is_their_name = option.name == "header" && option.from.is_none();
            !is_secret && !is_their_name
        };
        let from = |option: &MovedOption| option.from.clone().unwrap_or_else(|| "their default".to_owned());
        let options = self.moved.options.iter().filter(|option| printed(option));
        let mut options: Vec<_> =
            options.map(|option| (option.name, option.value.clone(), from(option))).collect();
        if !self.headers.is_empty() {
            options.push(("header_file", HEADER_FILE.to_owned(), "their header lines".to_owned()));
        }
        options
    }

    /// The remarks of the plugin at its start, but for those about single lines.
    fn notes(&self) -> impl Iterator<Item = &str> {
        self.moved.notes.iter().map(String::as_str).chain(self.notes.iter().copied())
    }

    fn at(&self, line: &Line<'_>) -> &Location {
        &self.plugin.options[line.index].0
    }

    fn print(&self) {
        println!("# In place of {} ({}):", self.moved.theirs.name(), self.plugin.at);
        println!("plugin {LIBRARY}");
        if self.moved.errors.is_empty() {
            println!(
                "# This path is all that has to change: the plugin understands their options as they stand."
            );
        }
        println!("# In its own options they come to:");
        // What would let everybody in is not printed ready to be used.
        let off = if self.obstacles.is_empty() { "" } else { "#" };
        for (name, value, from) in self.options() {
            println!("# {from}");
            println!("{off}plugin_opt_{name} {value}");
        }
        for (name, at) in &self.headers {
            println!(
                "# {HEADER_FILE} gets a line `{name} ...`, with what stands behind it at {at} (chmod 640)"
            );
        }
        println!("\n# Their options, as they stand:");
        for line in &self.moved.lines {
            println!("# {}, {}: {}. {}", self.at(line), line.name, line.fate.word(), line.here);
        }
        for note in self.notes() {
            println!("# {note}");
        }
        if !self.obstacles.is_empty() {
            println!("#\n# The plugin's own options do not do yet, so they are switched off by a #:");
            self.obstacles.iter().for_each(|what| println!("# - {what}"));
        }
        println!("#\n# Then: mosquitto-http-auth check");
    }

    fn print_json(&self) {
        let options: Vec<_> = self.options();
        let options: Vec<_> = options
            .iter()
            .map(|(name, value, from)| json!({ "name": name, "value": value, "from": from }))
            .collect();
        let headers: Vec<_> =
            self.headers.iter().map(|(name, at)| json!({ "name": name, "at": at.to_string() })).collect();
        let lines = self.moved.lines.iter().map(|line| {
            json!({ "at": self.at(line).to_string(), "name": line.name, "fate": line.fate, "here": line.here })
        });
        println!(
            "{}",
            json!({
                "works_as_it_stands": self.moved.errors.is_empty(),
                "options": options,
                "headers": headers,
                "lines": lines.collect::<Vec<_>>(),
                "notes": self.notes().collect::<Vec<_>>(),
                "obstacles": self.obstacles,
            })
        );
    }
}

/// The name of a header that may be secret, and the line that has its value.
fn secret_header<'a>(option: &MovedOption, plugin: &'a Plugin) -> Option<(String, &'a Location)> {
    let from = option.from.as_deref().filter(|_| option.name == "header")?;
    let name = match from {
        "http_basic_auth_key" => "Authorization: Basic".to_owned(),
        _ => format!("{}:", from.strip_prefix("http_header_")?),
    };
    Some((name, plugin.line_of(from)?))
}

/// What the plugin's own options cannot say.
fn obstacles(dialect: &Dialect) -> Vec<String> {
    let mut obstacles = Vec::new();
    if matches!(dialect.words, Words::GoForm | Words::PlugForm) {
        obstacles.push(
            "the API is asked by forms, and by JSON with these options: it has to read JSON".to_owned(),
        );
    }
    if matches!(dialect.yes, Yes::Text | Yes::Json) {
        obstacles.push(
            "DANGER: the API says no in the body of a 200, and a 200 lets everybody in with these options: it has to answer 403"
                .to_owned(),
        );
    }
    if dialect.method != "POST" {
        obstacles.push(format!("the API has to take POST in place of {}", dialect.method));
    }
    if dialect.in_front.iter().any(|fields| !fields.is_empty()) {
        obstacles.push(
            "the API gets no fields from the environment: put what is fixed into the URL's query".to_owned(),
        );
    }
    if dialect.client_id_is_username {
        obstacles.push("the API gets usernames as clients send them: it has to go by clientid".to_owned());
    }
    obstacles
}
