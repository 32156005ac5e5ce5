//! The API to try the plugin with: users and topic rules from a file, faults on demand.
//!
//! ```text
//! cargo run -p mock-api -- --listen 127.0.0.1:8080 --rules examples/api-rules.txt
//! curl -d '{"behave": "hang", "every": "3"}' http://127.0.0.1:8080/_control
//! ```
//!
//! The first line it prints is `listening on http://HOST:PORT`, then comes a line for every request:
//! `POST /auth {"username":"sensor-1","password":"***"} -> 200`.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, thread};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[path = "../../tests/support/mock_api/mod.rs"]
mod mock_api;

use mock_api::{MockApi, Reply, Request, Rules};

const HELP: &str = "\
An HTTP API to try mosquitto-http-auth with. It answers POST /auth, POST /acl, and for
many topics at once POST /acl-batch.

Usage: mock-api [--listen HOST:PORT] [--rules FILE] [FAULT ...]

  --listen HOST:PORT   where to listen, 127.0.0.1:0 unless told; port 0 takes a free one
  --rules FILE         who may do what; without it, nobody may do anything:
                         user NAME PASSWORD
                         allow read|write|readwrite|subscribe|all FILTER
                       FILTER may hold + and #, and %u and %c for username and client id
  --logins WHAT        what a yes to a login says: status, nothing more (the default), or
                       rules, what the user may do, for the plugin's answer_rules

Faults:
  --behave WHAT        rules (answer by the rules: the default), a status such as 503,
                       hang, reset, close, garbage, huge-headers, huge-body,
                       byte-a-second, endless-headers or endless-body
  --delay TIME         answer later, for example 20ms or 2s
  --every N            misbehave at every Nth request only
  --username NAME      misbehave at requests about this user only
  --path PATH          misbehave at requests to this path only, such as /acl-batch

POST /_control changes the faults while the server runs. It takes a JSON object of the
same names; what it leaves out is back to normal:
  curl -d '{\"behave\": \"hang\", \"every\": \"3\"}' http://HOST:PORT/_control
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        say(HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    let Err(problem) = run(&arguments);
    let _ = writeln!(io::stderr(), "mock-api: {problem}");
    ExitCode::from(2)
}

/// Prints a line. That nobody reads it is no reason to stop.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn run(arguments: &[String]) -> Result<Infallible, String> {
    let mut address = "127.0.0.1:0".to_owned();
    let mut rules = Rules::default();
    let mut faults = Faults::default();
    let mut with_rules = false;
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
        let Some(name) = flag.strip_prefix("--") else {
            return Err(format!("unexpected {flag:?}, try --help"));
        };
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value, try --help"));
        match name {
            "listen" => address.clone_from(value()?),
            "rules" => rules = read_rules(value()?)?,
            "logins" => {
                with_rules = match value()?.as_str() {
                    "rules" => true,
                    "status" => false,
                    other => return Err(format!("--logins: expected status or rules, found {other:?}")),
                }
            }
            _ if Faults::NAMES.contains(&name) => {
                faults.set(name, value()?).map_err(|problem| format!("{flag}: {problem}"))?;
            }
            _ => return Err(format!("unknown flag {flag}, try --help")),
        }
    }
    let api = MockApi::listen(&address, rules.clone())
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    api.stop_recording();
    let faults = Mutex::new(faults);
    api.answer_with(move |request| {
        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
        let (reply, outcome) = match request.path.as_str() {
            "/_control" => faults.control(request),
            _ => faults.choose(request, &rules, with_rules),
        };
        say(format_args!(
            "{} {} {} -> {outcome}",
            request.method,
            request.path.escape_debug(),
            shown(request)
        ));
        reply
    });
    say(format_args!("listening on http://{}", api.address()));
    loop {
        thread::park();
    }
}

fn read_rules(path: &str) -> Result<Rules, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    text.parse().map_err(|error| format!("{path}, {error}"))
}

/// What goes wrong, and when.
struct Faults {
    behave: String,
    reply: Reply,
    delay: Duration,
    every: u64,
    username: Option<String>,
    path: Option<String>,
    /// Requests that could have been hit since the faults were set.
    seen: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            behave: "rules".to_owned(),
            reply: Reply::rules(),
            delay: Duration::ZERO,
            every: 1,
            username: None,
            path: None,
            seen: 0,
        }
    }
}

impl Faults {
    const NAMES: [&str; 5] = ["behave", "delay", "every", "username", "path"];

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "behave" => {
                self.reply = value.parse()?;
                self.behave = value.to_owned();
            }
            "delay" => self.delay = duration(value)?,
            "every" => {
                let number = value.parse().ok().filter(|every| *every > 0);
                self.every = number.ok_or_else(|| format!("expected a number from 1, found {value:?}"))?;
            }
            "username" => self.username = Some(value.to_owned()),
            "path" => self.path = Some(value.to_owned()),
            _ => return Err(format!("unknown fault {name:?}, expected one of {}", Self::NAMES.join(", "))),
        }
        Ok(())
    }

    /// The reply, and how the output calls it.
    fn choose(&mut self, request: &Request, rules: &Rules, with_rules: bool) -> (Reply, String) {
        let status = rules.reply(request).0;
        let reply = match (request.path.as_str(), status) {
            ("/auth", 200) if with_rules => Reply::json(&rules.acl(request.field("username"))),
            _ => Reply::rules(),
        };
        let by_rules = (reply, status.to_string());
        if self.path.as_ref().is_some_and(|path| *path != request.path) {
            return by_rules;
        }
        if self.username.as_ref().is_some_and(|name| name != request.field("username")) {
            return by_rules;
        }
        self.seen += 1;
        if !self.seen.is_multiple_of(self.every) {
            return by_rules;
        }
        let (reply, outcome) =
            if self.behave == "rules" { by_rules } else { (self.reply.clone(), self.behave.clone()) };
        (reply.after(self.delay), outcome)
    }

    fn control(&mut self, request: &Request) -> (Reply, String) {
        let (status, message) = match Self::from_json(&request.json) {
            Ok(faults) => {
                *self = faults;
                (200, String::new())
            }
            Err(problem) => (400, problem + "\n"),
        };
        (Reply::status(status).body(message.as_bytes()), status.to_string())
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        let fields = json.as_object().ok_or("expected a JSON object such as {\"behave\": \"hang\"}")?;
        let mut faults = Self::default();
        for (name, value) in fields {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            faults.set(name, &value)?;
        }
        Ok(faults)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    match (number.parse(), unit) {
        (Ok(number), "ms") => Ok(Duration::from_millis(number)),
        (Ok(number), "s") => Ok(Duration::from_secs(number)),
        _ => Err(format!("expected a time such as 20ms or 2s, found {text:?}")),
    }
}

/// The body in the order of the contract, without the password.
fn shown(request: &Request) -> String {
    let body = match serde_json::from_slice::<Body>(&request.body) {
        Ok(mut body) => {
            if let Some(password) = &mut body.password {
                *password = "***".into();
            }
            serde_json::to_string(&body)
        }
        Err(_) => serde_json::to_string(&format!("{} bytes that are no question", request.body.len())),
    };
    body.unwrap_or_default()
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clientid: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acc: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}
