//! `status`, `explain`, `forget`, `kick`, `recheck`: what a running plugin's admin listener is asked and told
//! (docs/commands.md).

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstream::println;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::arguments::{Wanted, Which};
use crate::output::{counted, password, print_json, printable};
use crate::plugin_conf::admin_lines;
use crate::question::Access;

/// Longer than the plugin itself lets a request take.
const LIMIT: Duration = Duration::from_secs(12);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how the running plugin is: mode, URLs, cache, who waits, what was decided.
    Status(Plain),
    /// Show what the running plugin would decide now, and why. Changes nothing.
    Explain(Explain),
    /// Have the running plugin forget what the API has said about somebody.
    Forget(About),
    /// Disconnect who is connected under a username or client id.
    Kick(Whom),
    /// Have the API asked again about the sessions of a username, or about all.
    Recheck(Sessions),
}

/// The listener to speak to.
#[derive(Debug, Args)]
pub struct Door {
    /// The listener: HOST:PORT, or unix:/PATH. Otherwise it is what the broker's configuration says.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// The file that holds its token. Otherwise it is what the broker's configuration says.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub which: Which,
}

#[derive(Debug, Args)]
pub struct Plain {
    #[command(flatten)]
    pub door: Door,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The username.
    pub username: String,
    /// What is to be done with the topic; without one, it is about a login.
    #[arg(requires = "topic")]
    pub access: Option<Wanted>,
    /// The topic, or the filter of a subscription.
    pub topic: Option<String>,
    /// The client id.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// The client's address.
    #[arg(long)]
    pub address: Option<String>,
    /// Read a password from standard input, so that a remembered answer is found.
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub door: Door,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct AboutWhom {
    /// The username.
    pub username: Option<String>,
    /// A client id instead.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Everybody.
    #[arg(long)]
    pub everything: bool,
}

#[derive(Debug, Args)]
pub struct About {
    #[command(flatten)]
    pub whom: AboutWhom,
    #[command(flatten)]
    pub door: Door,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Connected {
    /// The username.
    pub username: Option<String>,
    /// A client id instead.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
}

#[derive(Debug, Args)]
pub struct Whom {
    #[command(flatten)]
    pub whom: Connected,
    #[command(flatten)]
    pub door: Door,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Rechecked {
    /// The username.
    pub username: Option<String>,
    /// Everybody.
    #[arg(long)]
    pub everything: bool,
}

#[derive(Debug, Args)]
pub struct Sessions {
    #[command(flatten)]
    pub whom: Rechecked,
    #[command(flatten)]
    pub door: Door,
}

/// Carries a command out.
///
/// # Errors
/// What cannot be used: the configuration, the token, the address.
pub fn run(command: &Command, json: bool) -> Result<Outcome, String> {
    let (door, request) = match command {
        Command::Status(Plain { door }) => (door, Map::new()),
        Command::Explain(explain) => (&explain.door, explain.request()?),
        Command::Forget(About { whom, door }) => {
            (door, request(whom.username.as_ref(), whom.client_id.as_ref(), whom.everything))
        }
        Command::Kick(Whom { whom, door }) => {
            (door, request(whom.username.as_ref(), whom.client_id.as_ref(), false))
        }
        Command::Recheck(Sessions { whom, door }) => {
            (door, request(whom.username.as_ref(), None, whom.everything))
        }
    };
    let (status, answer) = match post(door, command.name(), &Value::Object(request))? {
        Ok(answer) => answer,
        Err(what) => {
            crate::output::complain(&what);
            return Ok(Outcome::NoAnswer);
        }
    };
    if status != 200 {
        let what = answer["error"].as_str().unwrap_or("it gave no reason");
        crate::output::complain(&format!("the plugin answered {status}: {what}"));
        return Ok(if status == 503 { Outcome::NoAnswer } else { Outcome::No });
    }
    if json {
        print_json(&answer);
    } else {
        say(command, &answer);
    }
    if !matches!(command, Command::Explain(_)) {
        return Ok(Outcome::Yes);
    }
    Ok(match answer["decision"].as_str() {
        Some("allow") => Outcome::Yes,
        Some("deny") => Outcome::No,
        // It would be asked, or left to others.
        _ => Outcome::NoAnswer,
    })
}

impl Command {
    /// What the plugin calls it.
    fn name(&self) -> &'static str {
        match self {
            Command::Status(_) => "status",
            Command::Explain(_) => "explain",
            Command::Forget(_) => "forget",
            Command::Kick(_) => "kick",
            Command::Recheck(_) => "recheck",
        }
    }
}

impl Explain {
    fn request(&self) -> Result<Map<String, Value>, String> {
        let mut request = Map::new();
        request.insert("username".to_owned(), json!(self.username));
        let mut add = |name: &str, value: Option<Value>| {
            value.into_iter().for_each(|value| drop(request.insert(name.to_owned(), value)));
        };
        add("clientid", self.client_id.as_ref().map(|id| json!(id)));
        add("address", self.address.as_ref().map(|address| json!(address)));
        add("topic", self.topic.as_ref().map(|topic| json!(topic)));
        add("acc", self.access.map(|access| json!(Access::from(access).to_string())));
        if self.password_stdin {
            add("password", Some(json!(password(true, false)?)));
        }
        Ok(request)
    }
}

fn request(username: Option<&String>, client_id: Option<&String>, everything: bool) -> Map<String, Value> {
    let mut request = Map::new();
    if let Some(username) = username {
        request.insert("username".to_owned(), json!(username));
    }
    if let Some(id) = client_id {
        request.insert("clientid".to_owned(), json!(id));
    }
    if everything {
        request.insert("everything".to_owned(), json!(true));
    }
    request
}

/// Sends a command. The inner error says why there is no answer.
fn post(door: &Door, command: &str, request: &Value) -> Result<Result<(u16, Value), String>, String> {
    let (address, token) = door.way()?;
    let mut builder = reqwest::Client::builder().no_proxy().timeout(LIMIT);
    let host = match address.strip_prefix("unix:") {
        Some(socket) => {
            builder = builder.unix_socket(Path::new(socket));
            "localhost"
        }
        None => &address,
    };
    let failed = |error: &dyn std::fmt::Display| format!("this program cannot work here ({error})");
    let client = builder.build().map_err(|error| failed(&error))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let mut post = client
        .post(format!("http://{host}/v1/{command}"))
        .header("content-type", "application/json")
        .body(request.to_string());
    if let Some(token) = token {
        post = post.bearer_auth(token);
    }
    let answered = runtime.block_on(async {
        let response = post.send().await?;
        Ok((response.status().as_u16(), response.bytes().await?))
    });
    Ok(match answered {
        Ok((status, body)) => Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null))),
        Err(error) => Err(no_answer(&address, &error)),
    })
}

fn no_answer(address: &str, error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!(
        "no answer from {address} ({cause}): does the broker run, and does plugin_opt_admin_listen say this address?"
    )
}

impl Door {
    /// Address and token of the listener. Of several places it is a socket that may be opened, or else the first.
    fn way(&self) -> Result<(String, Option<String>), String> {
        let (places, token_file) = match &self.admin {
            Some(place) => (vec![place.clone()], None),
            None => admin_lines(&self.which)?,
        };
        let address = places.iter().find(|place| opens(place)).or(places.first()).ok_or_else(|| {
            "there is no plugin_opt_admin_listen in the configuration: add one, such as 127.0.0.1:9465, or name the \
             listener with --admin"
                .to_owned()
        })?;
        // Whoever may open a socket needs no token.
        let token_file = token_file.filter(|_| socket(address).is_none());
        let token = match self.token_file.clone().or(token_file) {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(&path)
                    .map_err(|cause| format!("the token in {} cannot be read ({cause})", path.display()))?;
                Some(text.trim().to_owned())
            }
        };
        Ok((address.clone(), token))
    }
}

/// The path of a place that is a Unix socket.
fn socket(place: &str) -> Option<&Path> {
    place.strip_prefix("unix:").map(Path::new)
}

/// Whether a place is a Unix socket that may be opened.
fn opens(place: &str) -> bool {
    socket(place).is_some_and(|path| UnixStream::connect(path).is_ok())
}

/// Prints an answer for people.
fn say(command: &Command, answer: &Value) {
    match command {
        Command::Status(_) => say_status(answer),
        Command::Explain(_) => {
            println!("{}: {}", text(&answer["decision"]), text(&answer["why"]));
            for step in answer["steps"].as_array().into_iter().flatten() {
                println!("  {:<14} {}", text(&step["step"]), text(&step["found"]));
            }
        }
        Command::Forget(_) => println!("Forgotten."),
        Command::Kick(_) => println!("{} disconnected.", text(&answer["kicked"])),
        Command::Recheck(_) => {
            println!("The API is being asked about {} sessions.", text(&answer["sessions"]))
        }
    }
}

fn say_status(status: &Value) {
    let up = Duration::from_secs(status["uptime"].as_f64().unwrap_or_default().max(0.0) as u64);
    println!(
        "mosquitto-http-auth {} on Mosquitto {}, {} logins, up {up:?}{}",
        text(&status["version"]),
        text(&status["broker"]),
        text(&status["mode"]),
        if status["ready"] == json!(false) { ", NOT READY" } else { "" },
    );
    println!("  {}", text(&status["asked"]));
    for endpoint in status["endpoints"].as_array().into_iter().flatten() {
        println!(
            "  {} ({}): {}, {} of {} questions on their way{}",
            text(&endpoint["url"]),
            text(&endpoint["about"]),
            match endpoint["breaker"].as_str() {
                Some("open") => "left alone, since it gave no answers",
                Some("paused") => "left alone, since it asked for that",
                _ => "is asked",
            },
            text(&endpoint["in_flight"]),
            text(&endpoint["at_a_time"]),
            endpoint["latency"].as_f64().map_or_else(String::new, |seconds| format!(
                ", answers take {:.1} ms of late",
                seconds * 1e3
            )),
        );
    }
    let cache = &status["cache"];
    println!(
        "  Remembered: {} allows, {} denies (room for {} each). Waiting: {} parked, {} queued.",
        text(&cache["allows"]),
        text(&cache["denies"]),
        text(&cache["size"]),
        text(&status["parked"]),
        text(&status["queued"]),
    );
    if let Some(templates) = status["templates"].as_u64().filter(|templates| *templates > 0) {
        println!(
            "  Learnt what clients ask after their login: {} of questions.",
            counted(usize::try_from(templates).unwrap_or(usize::MAX), "kind")
        );
    }
    for (about, name) in [("logins", "login"), ("topics", "topic")] {
        let (answers, seconds) = (&status["api"][name]["answers"], status["api"][name]["seconds"].as_f64());
        if let (Some(answers), Some(seconds)) = (answers.as_f64().filter(|answers| *answers > 0.0), seconds) {
            println!("  The API about {about}: {answers} answers, {:.1} ms each.", seconds * 1e3 / answers);
        }
    }
    for counted in status["decisions"].as_array().into_iter().flatten() {
        let [question, result, source] = ["question", "result", "source"].map(|name| text(&counted[name]));
        println!("  {:>10} x {question} {result} ({source})", text(&counted["count"]));
    }
    for refused in status["refused"].as_array().into_iter().flatten() {
        println!("  {}", text(&refused["line"]));
    }
}

/// A value for people.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Null => "?".to_owned(),
        value => value.to_string(),
    }
}
