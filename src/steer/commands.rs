//! The commands: what they want to know, what they do, and what they answer. `docs/commands.md` is their description.

use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::figures;
use super::time::unix_time;
use crate::command::{Command, Done, Giver, Named, Verb, Whom};
use crate::log::quoted;
use crate::plugin::{Explain, Explanation, Steering};
use crate::question::Access;
use crate::util::Lock;

/// What a command is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Tell how the plugin is.
    Status,
    /// Tell what would be decided.
    Explain,
    /// Do something to somebody.
    Of(Verb),
}

/// A command that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Tell how the plugin is.
    Status,
    /// Tell what would be decided.
    Explain(Explain),
    /// Do something to somebody.
    Command(Command),
}

/// Hears what came of a command, or why it was not carried out, in words for whoever gave it.
pub type Respond = Box<dyn FnOnce(Result<Value, String>) + Send>;

impl Name {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Status, Self::Explain].into_iter().chain(Verb::ALL.map(Self::Of))
    }

    /// The command of this name, if there is one.
    pub fn of(text: &str) -> Option<Self> {
        Self::all().find(|name| name.as_text() == text)
    }

    /// As it is written.
    pub fn as_text(self) -> &'static str {
        match self {
            Name::Status => "status",
            Name::Explain => "explain",
            Name::Of(verb) => verb.name(),
        }
    }
}

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
    fn whom(self) -> Result<Whom, String> {
        let named = |name: String, make: fn(String) -> Whom| match name {
            name if name.is_empty() => Err("found an empty name, expected one".to_owned()),
            name if name.contains('\0') => Err("found a NUL in a name, which no client has".to_owned()),
            name => Ok(make(name)),
        };
        match (self.username, self.clientid, self.everything) {
            (Some(username), None, None) => named(username, Whom::username),
            (None, Some(client_id), None) => named(client_id, Whom::client_id),
            (None, None, Some(true)) => Ok(Whom::Everybody),
            (username, client_id, everything) => {
                let given = [
                    username.map(|_| "username".to_owned()),
                    client_id.map(|_| "clientid".to_owned()),
                    everything.map(|all| format!("everything ({all})")),
                ];
                let given: Vec<_> = given.into_iter().flatten().collect();
                let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
                Err(format!(
                    "found {found}, expected exactly one of username, clientid and everything (true)"
                ))
            }
        }
    }
}

impl ExplainFields {
    fn explain(self) -> Result<Explain, String> {
        let Self { username, password, clientid: client_id, address, topic, acc } = self;
        let topic = match (topic, acc) {
            (None, None) => None,
            (Some(topic), Some(acc)) => Some((topic, access(&acc)?)),
            (topic, _) => {
                let [found, lacks] = if topic.is_some() { ["topic", "acc"] } else { ["acc", "topic"] };
                return Err(format!("found {found} without {lacks}, expected both or neither of them"));
            }
        };
        if topic.is_some() && password.is_some() {
            return Err("found a password beside a topic, for which none is needed".to_owned());
        }
        Ok(Explain { username, password, client_id, address, topic })
    }
}

fn access(acc: &Value) -> Result<Access, String> {
    match (acc.as_u64(), acc.as_str()) {
        (Some(1), _) | (_, Some("read")) => Ok(Access::Read),
        (Some(2), _) | (_, Some("write")) => Ok(Access::Write),
        (Some(4), _) | (_, Some("subscribe")) => Ok(Access::Subscribe),
        _ => {
            let found = acc.to_string();
            let found = quoted(acc.as_str().unwrap_or(&found));
            Err(format!("acc: found {found}, expected \"read\", \"write\", \"subscribe\", 1, 2 or 4"))
        }
    }
}

fn fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

impl Given {
    /// Reads the fields of a command.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(name: Name, given: Map<String, Value>) -> Result<Self, String> {
        let verb = match name {
            Name::Status => return fields::<NoFields>(given).map(|NoFields {}| Given::Status),
            Name::Explain => return Ok(Given::Explain(fields::<ExplainFields>(given)?.explain()?)),
            Name::Of(verb) => verb,
        };
        let whom = fields::<WhomFields>(given)?.whom()?;
        let no_command = match whom {
            Whom::Everybody => {
                "found everything, expected a username or a clientid: everybody is not kicked at once"
            }
            Whom::Named(_) => "found a clientid, expected a username, or everything (true)",
        };
        Command::new(verb, whom).map(Given::Command).ok_or_else(|| no_command.to_owned())
    }

    /// Carries it out. `respond` is called at once, or by another thread.
    pub fn carry_out(self, giver: &Giver, steering: &Arc<Steering>, respond: Respond) {
        match self {
            Given::Status => respond(Ok(Value::Object(figures::status(steering)))),
            Given::Explain(explain) => {
                let (explained, refused) = twice(respond);
                let explaining = Arc::clone(steering);
                let run = move || explained(Ok(shown(&explaining.explain(&explain, Instant::now()))));
                if let Err(why) = steering.run_slowly(run) {
                    refused(Err(why));
                }
            }
            Given::Command(command) => {
                let whom = command.whom();
                let reply =
                    move |outcome: Result<Done, String>| respond(outcome.map(|done| data(done, whom)));
                steering.carry_out(command, giver.clone(), Box::new(reply));
            }
        }
    }
}

/// What is answered to a command that was carried out.
fn data(done: Done, whom: Whom) -> Value {
    match (done, whom) {
        (Done::Forgotten, Whom::Named(Named::Username(username))) => json!({"username": username}),
        (Done::Forgotten, Whom::Named(Named::ClientId(client_id))) => json!({"clientid": client_id}),
        (Done::Forgotten, Whom::Everybody) => json!({"everything": true}),
        (Done::Kicked(count), _) => json!({"kicked": count}),
        (Done::Rechecked(count), _) => json!({"sessions": count}),
    }
}

/// Puts a response into two hands: the one that calls first is heard.
fn twice(respond: Respond) -> (Respond, Respond) {
    let first = Arc::new(Lock::new(Some(respond)));
    let second = Arc::clone(&first);
    let call = |shared: Arc<Lock<Option<Respond>>>| -> Respond {
        Box::new(move |result| {
            let respond = shared.lock().take();
            if let Some(respond) = respond {
                respond(result);
            }
        })
    };
    (call(first), call(second))
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
        shown["since"] = unix_time(*since);
        shown["until"] = unix_time(*until);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, given: &Value) -> Result<Given, String> {
        Given::read(Name::of(name).unwrap(), given.as_object().unwrap().clone())
    }

    #[test]
    fn commands_say_whom_they_mean_once() {
        let (username, given) = ("u".to_owned(), |command| Ok(Given::Command(command)));
        for (name, command) in [
            ("forget", Command::Forget(Whom::username(username.clone()))),
            ("kick", Command::Kick(Named::Username(username.clone()))),
            ("recheck", Command::Recheck(Some(username))),
        ] {
            assert_eq!(read(name, &json!({"username": "u"})), given(command));
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
                assert!(read(name, &given).is_err(), "{name} {given}");
            }
            for (given, found) in [
                (json!({}), "found none, expected"),
                (json!({"everything": false}), "found everything (false), expected"),
                (json!({"username": "u", "clientid": "c"}), "found username and clientid, expected"),
            ] {
                assert!(read(name, &given).unwrap_err().starts_with(found), "{name} {given}");
            }
        }
        assert_eq!(read("forget", &json!({"everything": true})), given(Command::Forget(Whom::Everybody)));
        assert_eq!(read("recheck", &json!({"everything": true})), given(Command::Recheck(None)));
        assert!(read("kick", &json!({"everything": true})).is_err());
        assert!(read("recheck", &json!({"clientid": "c"})).is_err());
        assert_eq!(Name::of("reboot"), None);
        assert_eq!(read("status", &json!({})), Ok(Given::Status));
        assert!(read("status", &json!({"verbose": true})).is_err());
    }

    #[test]
    fn what_is_explained_is_a_login_or_a_topic() {
        let explain = |given: Value| read("explain", &given);
        assert!(explain(json!({"username": "u", "password": "p"})).is_ok());
        let topic = json!({"username": "u", "clientid": "c", "topic": "t", "acc": 2});
        let Ok(Given::Explain(Explain { topic: Some(topic), .. })) = explain(topic) else {
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
            assert!(explain(given.clone()).is_err(), "{given}");
        }
        let wrong = |acc: Value| explain(json!({"topic": "t", "acc": acc})).unwrap_err();
        assert!(wrong(json!(3)).starts_with("acc: found \"3\", expected \"read\""));
        assert!(wrong(json!("publish")).starts_with("acc: found \"publish\", expected"));
        assert!(explain(json!({"acc": 1})).unwrap_err().starts_with("found acc without topic"));
    }
}
