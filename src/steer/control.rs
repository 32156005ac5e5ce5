//! Commands over `$CONTROL/http-auth/v1`, in the envelope of the broker's own plugins.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::commands::{Given, Name};
use crate::command::Giver;
use crate::plugin::{Control, Recipient, Steering};
use crate::util::Lock;

/// The longest message, in bytes, and the most commands in it.
const LONGEST: usize = 16 * 1024;
const MOST: usize = 20;

/// In place of the name of a command that has none, and the error of one that nobody knows.
const UNKNOWN: &str = "Unknown command";

/// A command of an envelope, or what is wrong with it. The name is what the answer calls it.
#[derive(Debug, PartialEq)]
struct Entry {
    name: String,
    correlation: Option<String>,
    command: Result<Given, String>,
}

impl Entry {
    /// What is wrong with the envelope, in the broker's own words where it has some.
    fn wrong(what: impl Into<String>) -> Self {
        Self { name: UNKNOWN.to_owned(), correlation: None, command: Err(what.into()) }
    }

    fn read(entry: Value) -> Self {
        let Value::Object(mut fields) = entry else { return Self::wrong("Command not an object") };
        let Some(Value::String(name)) = fields.remove("command") else {
            return Self::wrong("Missing command");
        };
        let correlation = match fields.remove("correlationData") {
            None => None,
            Some(Value::String(correlation)) => Some(correlation),
            Some(_) => return Self { name, ..Self::wrong("Invalid correlationData data type.") },
        };
        let command = Name::of(&name.to_ascii_lowercase())
            .ok_or_else(|| UNKNOWN.to_owned())
            .and_then(|known| Given::read(known, fields));
        Self { name, correlation, command }
    }

    fn answer(name: String, correlation: Option<String>, result: Result<Value, String>) -> Value {
        let mut answer = Map::new();
        answer.insert("command".to_owned(), name.into());
        match result {
            Ok(data) => answer.insert("data".to_owned(), data),
            Err(what) => answer.insert("error".to_owned(), what.into()),
        };
        if let Some(correlation) = correlation {
            answer.insert("correlationData".to_owned(), correlation.into());
        }
        Value::Object(answer)
    }
}

/// Reads an envelope. What is not one is answered as one wrong command.
fn entries(payload: &[u8]) -> Vec<Entry> {
    if payload.len() > LONGEST {
        return vec![Entry::wrong(format!(
            "Payload too large; expected no more than {} KiB",
            LONGEST / 1024
        ))];
    }
    let Ok(Value::Object(mut envelope)) = serde_json::from_slice(payload) else {
        return vec![Entry::wrong("Payload not valid JSON")];
    };
    match envelope.remove("commands") {
        Some(Value::Array(commands)) if commands.len() > MOST => {
            vec![Entry::wrong(format!("Too many commands; expected no more than {MOST}"))]
        }
        Some(Value::Array(commands)) => commands.into_iter().map(Entry::read).collect(),
        _ => vec![Entry::wrong("Invalid/missing commands")],
    }
}

/// Answers of which some may be still to come, in the order of their commands.
struct Answers {
    answers: Vec<Value>,
    missing: usize,
}

/// Carries out all commands of a message whose sender may give them, and has it get one answer to all of them, at a tick.
pub fn carry_out(control: &Control<'_>, steering: &Arc<Steering>) {
    let (username, client_id) = (control.username.unwrap_or_default(), control.client.id);
    let giver = Giver::Client(username.to_owned(), client_id.to_owned());
    let (username, client_id) = (username.to_owned(), client_id.to_owned());
    let sender = Recipient { connection: control.client.connection, client_id, username };
    let entries = entries(control.payload);
    let missing = entries.len();
    let answers = Arc::new(Lock::new(Answers { answers: vec![Value::Null; missing], missing }));
    if missing == 0 {
        return send(steering, sender, Vec::new());
    }
    for (number, Entry { name, correlation, command }) in entries.into_iter().enumerate() {
        let (answers, sender) = (Arc::clone(&answers), sender.clone());
        // An order may be in the plugin's queue when the plugin ends, so it does not hold it.
        let weak = Arc::downgrade(steering);
        let respond = move |result| {
            let mut state = answers.lock();
            state.answers[number] = Entry::answer(name, correlation, result);
            state.missing -= 1;
            if state.missing > 0 {
                return;
            }
            let all = std::mem::take(&mut state.answers);
            drop(state);
            if let Some(steering) = weak.upgrade() {
                send(&steering, sender, all);
            }
        };
        match command {
            Ok(command) => command.carry_out(&giver, steering, Box::new(respond)),
            Err(what) => respond(Err(what)),
        }
    }
}

fn send(steering: &Steering, to: Recipient, answers: Vec<Value>) {
    let payload = json!({"responses": answers}).to_string().into_bytes();
    steering.answer(to, payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(payload: &str) -> Vec<String> {
        entries(payload.as_bytes()).into_iter().filter_map(|entry| entry.command.err()).collect()
    }

    #[test]
    fn what_is_no_envelope_is_told_in_the_brokers_words() {
        for (payload, error) in [
            ("", "Payload not valid JSON"),
            ("[]", "Payload not valid JSON"),
            ("{}", "Invalid/missing commands"),
            (r#"{"commands":{}}"#, "Invalid/missing commands"),
            (r#"{"commands":["status"]}"#, "Command not an object"),
            (r#"{"commands":[{}]}"#, "Missing command"),
            (r#"{"commands":[{"command":1}]}"#, "Missing command"),
            (
                r#"{"commands":[{"command":"status","correlationData":1}]}"#,
                "Invalid correlationData data type.",
            ),
            (r#"{"commands":[{"command":"createClient"}]}"#, "Unknown command"),
        ] {
            assert_eq!(errors(payload), [error], "{payload}");
        }
        assert_eq!(errors(&format!("{{\"commands\":[{}{{}}]}}", "{},".repeat(MOST))).len(), 1);
        assert_eq!(errors(&" ".repeat(LONGEST + 1)).len(), 1);
        assert!(
            errors(r#"{"commands":[{"command":"STATUS"},{"command":"forget","username":"u"}]}"#).is_empty()
        );
    }
}
