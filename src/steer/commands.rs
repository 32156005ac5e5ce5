//! The commands: what they want to know, what they do, and what they answer. `docs/commands.md` is their description.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::audit::{self, Giver};
use super::figures;
use crate::ask::ToAll;
use crate::metrics::unix;
use crate::plugin::{Explain, Explanation, Order, Reply, Steering};
use crate::question::{Access, Whom};
use crate::util::Lock;

/// A command that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Tell how the plugin is.
    Status,
    /// Tell what would be decided.
    Explain(Explain),
    /// Forget what the API has said.
    Forget(Whom),
    /// Disconnect.
    Kick(Whom),
    /// Ask the API again.
    Recheck(Whom),
}

/// Why a command was not carried out, in words for whoever gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// There is no command of this name.
    Unknown,
    /// What it was given makes no sense.
    Bad(String),
    /// It cannot be carried out now.
    Busy(String),
}

/// Hears what came of a command.
pub type Told = Box<dyn FnOnce(Result<Value, Failed>) + Send>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhomFields {
    username: Option<String>,
    clientid: Option<String>,
    everything: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainFields {
    #[serde(default)]
    username: String,
    password: Option<String>,
    #[serde(default)]
    clientid: String,
    address: Option<String>,
    topic: Option<String>,
    acc: Option<Value>,
}

impl WhomFields {
    fn whom(self) -> Result<Whom, Failed> {
        let named = |name: String, make: fn(String) -> Whom| match name {
            name if name.is_empty() => Err(bad("found an empty name, expected one")),
            name if name.contains('\0') => Err(bad("found a NUL in a name, which no client has")),
            name => Ok(make(name)),
        };
        match (self.username, self.clientid, self.everything) {
            (Some(username), None, None) => named(username, Whom::Username),
            (None, Some(client_id), None) => named(client_id, Whom::ClientId),
            (None, None, Some(true)) => Ok(Whom::Everybody),
            _ => Err(bad("expected exactly one of username, clientid and everything (true)")),
        }
    }
}

impl ExplainFields {
    fn explain(self) -> Result<Explain, Failed> {
        let Self { username, password, clientid: client_id, address, topic, acc } = self;
        let topic = match (topic, acc) {
            (None, None) => None,
            (Some(topic), Some(acc)) => Some((topic, access(&acc)?)),
            _ => return Err(bad("expected topic and acc together, or neither of them")),
        };
        if topic.is_some() && password.is_some() {
            return Err(bad("found a password beside a topic, for which none is needed"));
        }
        Ok(Explain { username, password, client_id, address, topic })
    }
}

fn access(acc: &Value) -> Result<Access, Failed> {
    match (acc.as_u64(), acc.as_str()) {
        (Some(1), _) | (_, Some("read")) => Ok(Access::Read),
        (Some(2), _) | (_, Some("write")) => Ok(Access::Write),
        (Some(4), _) | (_, Some("subscribe")) => Ok(Access::Subscribe),
        _ => Err(bad("acc: expected \"read\", \"write\", \"subscribe\", 1, 2 or 4")),
    }
}

fn bad(what: impl Into<String>) -> Failed {
    Failed::Bad(what.into())
}

fn fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Failed> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| bad(error.to_string()))
}

impl Command {
    /// Reads a command with its fields.
    ///
    /// # Errors
    /// [`Failed::Unknown`], or [`Failed::Bad`] with what is wrong with the fields.
    pub fn read(name: &str, given: Map<String, Value>) -> Result<Self, Failed> {
        match name {
            "status" => fields::<NoFields>(given).map(|NoFields {}| Command::Status),
            "explain" => Ok(Command::Explain(fields::<ExplainFields>(given)?.explain()?)),
            "forget" => Ok(Command::Forget(fields::<WhomFields>(given)?.whom()?)),
            "kick" => match fields::<WhomFields>(given)?.whom()? {
                Whom::Everybody => {
                    Err(bad("expected a username or a clientid: everybody is not kicked at once"))
                }
                whom => Ok(Command::Kick(whom)),
            },
            "recheck" => match fields::<WhomFields>(given)?.whom()? {
                Whom::ClientId(_) => Err(bad("expected a username, or everything (true)")),
                whom => Ok(Command::Recheck(whom)),
            },
            _ => Err(Failed::Unknown),
        }
    }

    /// Carries it out. `told` is called at once, or by the broker's thread.
    pub fn carry_out(self, giver: &Giver, steering: &Arc<Steering>, told: Told) {
        match self {
            Command::Status => told(Ok(Value::Object(figures::status(steering)))),
            Command::Explain(explain) => {
                let (told, refused) = twice(told);
                let explaining = Arc::clone(steering);
                let run = move || told(Ok(shown(&explaining.explain(&explain, Instant::now()))));
                if let Err(why) = steering.run_slowly(run) {
                    refused(Err(Failed::Busy(why)));
                }
            }
            Command::Forget(whom) => {
                steering.forget(&whom, Instant::now());
                steering.tell_others(ToAll::Forget(whom.clone()));
                audit::note(steering, "forget", &whom, giver, "done");
                told(Ok(match whom {
                    Whom::Username(username) => json!({"username": username}),
                    Whom::ClientId(client_id) => json!({"clientid": client_id}),
                    Whom::Everybody => json!({"everything": true}),
                }));
            }
            Command::Kick(whom) => {
                let (told, refused) = twice(told);
                steering.tell_others(ToAll::Kick(whom.clone()));
                let reply = reply("kick", "kicked", whom.clone(), giver, steering, told);
                if let Err(why) = steering.order(Order::Kick(whom, reply)) {
                    refused(Err(Failed::Busy(why.to_owned())));
                }
            }
            Command::Recheck(whom) => {
                let (told, refused) = twice(told);
                steering.tell_others(ToAll::Recheck(whom.clone()));
                let reply = reply("recheck", "sessions", whom.clone(), giver, steering, told);
                let username = match whom {
                    Whom::Username(username) => Some(username),
                    Whom::ClientId(_) | Whom::Everybody => None,
                };
                if let Err(why) = steering.order(Order::Recheck(username, reply)) {
                    refused(Err(Failed::Busy(why.to_owned())));
                }
            }
        }
    }
}

/// Puts whoever is told into two hands: the one that calls first is heard.
fn twice(told: Told) -> (Told, Told) {
    let first = Arc::new(Lock::new(Some(told)));
    let second = Arc::clone(&first);
    let call = |told: Arc<Lock<Option<Told>>>| -> Told {
        Box::new(move |result| {
            let told = told.lock().take();
            if let Some(told) = told {
                told(result);
            }
        })
    };
    (call(first), call(second))
}

/// What hears from the broker's thread how many clients a command was about.
fn reply(
    command: &'static str,
    counts: &'static str,
    whom: Whom,
    giver: &Giver,
    steering: &Arc<Steering>,
    told: Told,
) -> Reply {
    // The task may be in the plugin's queue when the plugin ends, so it does not hold it.
    let (giver, steering) = (giver.clone(), Arc::downgrade(steering));
    Box::new(move |result| {
        let outcome = Order::outcome(command, &result);
        if let Some(steering) = steering.upgrade() {
            audit::note(&steering, command, &whom, &giver, &outcome);
        }
        told(result.map(|count| json!({counts: count})).map_err(Failed::Busy));
    })
}

fn shown(explanation: &Explanation) -> Value {
    let Explanation { would, holds, steps } = explanation;
    let steps: Vec<_> = steps.iter().map(|step| json!({"step": step.step, "found": step.found})).collect();
    let mut shown = json!({
        "decision": would.name(),
        "by": would.source(),
        "why": would.why(),
        "steps": steps,
    });
    if let Some((since, until)) = holds {
        shown["since"] = time(*since);
        shown["until"] = time(*until);
    }
    shown
}

/// A time as answers have it: Unix seconds with milliseconds.
pub fn time(at: SystemTime) -> Value {
    json!((unix(at) * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, given: &Value) -> Result<Command, Failed> {
        Command::read(name, given.as_object().unwrap().clone())
    }

    #[test]
    fn commands_say_whom_they_mean_once() {
        let username = Whom::Username("u".to_owned());
        for name in ["forget", "kick", "recheck"] {
            assert!(read(name, &json!({"username": "u"})).is_ok(), "{name}");
            for given in [
                json!({}),
                json!({"username": ""}),
                json!({"username": "u\0"}),
                json!({"username": 1}),
                json!({"username": "u", "clientid": "c"}),
                json!({"user": "u"}),
                json!({"everything": false}),
                json!({"username": "u", "everything": true}),
            ] {
                assert!(matches!(read(name, &given), Err(Failed::Bad(_))), "{name} {given}");
            }
        }
        assert_eq!(read("forget", &json!({"username": "u"})), Ok(Command::Forget(username)));
        assert_eq!(read("forget", &json!({"everything": true})), Ok(Command::Forget(Whom::Everybody)));
        assert!(read("kick", &json!({"everything": true})).is_err());
        assert!(read("recheck", &json!({"clientid": "c"})).is_err());
        assert_eq!(read("reboot", &json!({})), Err(Failed::Unknown));
        assert_eq!(read("status", &json!({})), Ok(Command::Status));
        assert!(read("status", &json!({"verbose": true})).is_err());
    }

    #[test]
    fn what_is_explained_is_a_login_or_a_topic() {
        let explain = |given: Value| read("explain", &given);
        assert!(explain(json!({"username": "u", "password": "p"})).is_ok());
        let topic = json!({"username": "u", "clientid": "c", "topic": "t", "acc": 2});
        let Ok(Command::Explain(Explain { topic: Some(topic), .. })) = explain(topic) else {
            panic!("no topic")
        };
        assert_eq!(topic, ("t".to_owned(), Access::Write));
        for given in [
            json!({"username": "u", "topic": "t"}),
            json!({"username": "u", "acc": 1}),
            json!({"username": "u", "topic": "t", "acc": 3}),
            json!({"username": "u", "topic": "t", "acc": "publish"}),
            json!({"username": "u", "password": "p", "topic": "t", "acc": 1}),
        ] {
            assert!(matches!(explain(given.clone()), Err(Failed::Bad(_))), "{given}");
        }
    }
}
