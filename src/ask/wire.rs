//! The JSON that the API gets. Field names, their order and their types are the contract.
use std::io::{self, Write};

use serde::Serialize;

use crate::question::Question;

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Connect { username: &'a str, password: &'a str },
    Access { username: &'a str, clientid: &'a str, topic: &'a str, acc: u8 },
}

/// The request body for a question.
pub fn body(question: &Question<'_>) -> Vec<u8> {
    let (body, more) = match *question {
        Question::Connect { username, password, more } => (Body::Connect { username, password }, more),
        Question::Access { username, client_id, topic, access, more } => {
            (Body::Access { username, clientid: client_id, topic, acc: access as u8 }, more)
        }
    };
    // Made to measure, since one that grows as it is written takes twice as much: a byte may be written as six.
    let mut length = Length(0);
    // Strings and a number into memory: there is nothing that could fail, and an empty body, which no API
    // allows, is the safe thing to send if it ever did.
    let _ = serde_json::to_writer(&mut length, &body);
    let mut text = Vec::with_capacity(length.0 + more.len());
    if serde_json::to_writer(&mut text, &body).is_err() {
        return Vec::new();
    }
    if !more.is_empty() {
        text.truncate(text.len() - 1);
        text.extend_from_slice(more.as_bytes());
        text.push(b'}');
    }
    text
}

/// Counts the bytes that are written to it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::Access;

    #[test]
    fn bodies_are_the_contract_byte_for_byte() {
        let login = Question::Connect { username: "a\"b\\", password: "\u{1}é🔑", more: "" };
        assert_eq!(
            String::from_utf8(body(&login)).unwrap(),
            r#"{"username":"a\"b\\","password":"\u0001é🔑"}"#
        );
        let topic = Question::Access {
            username: "u",
            client_id: "c",
            topic: "a/#",
            access: Access::Subscribe,
            more: "",
        };
        assert_eq!(
            String::from_utf8(body(&topic)).unwrap(),
            r#"{"username":"u","clientid":"c","topic":"a/#","acc":4}"#
        );
    }

    #[test]
    fn further_fields_stand_behind_those_of_the_contract() {
        let login =
            Question::Connect { username: "u", password: "p", more: r#","clientid":"c","address":null"# };
        assert_eq!(
            String::from_utf8(body(&login)).unwrap(),
            r#"{"username":"u","password":"p","clientid":"c","address":null}"#
        );
    }
}
