//! The JSON that the API gets, and that it answers where one request carries many questions. Field names, their order and
//! their types are the contract.
use std::collections::HashMap;
use std::io::{self, Write};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{Json, Object};
use crate::question::{Question, Verdict};

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Connect { username: &'a str, password: &'a str },
    Access { username: &'a str, clientid: &'a str, topic: &'a str, acc: u8 },
}

impl<'a> Body<'a> {
    /// The fields of the contract, and what stands behind them.
    fn of(question: &Question<'a>) -> (Self, &'a str) {
        match *question {
            Question::Connect { username, password, more } => (Body::Connect { username, password }, more),
            Question::Access { username, client_id, topic, access, more } => {
                (Body::Access { username, clientid: client_id, topic, acc: access as u8 }, more)
            }
        }
    }
}

/// The request body for a question.
pub fn body(question: &Question<'_>) -> Vec<u8> {
    // Made to measure, since one that grows as it is written takes twice as much: a byte may be written as six.
    let mut text = Vec::with_capacity(length(question));
    write(&mut text, question);
    text
}

/// The bytes of the request body for a question.
pub fn length(question: &Question<'_>) -> usize {
    let (body, more) = Body::of(question);
    let mut length = Length(0);
    let _ = serde_json::to_writer(&mut length, &body);
    length.0 + more.len()
}

/// Writes the request body for a question. Strings and a number into memory: there is nothing that could fail, and nothing,
/// which no API allows, is the safe thing to send if it ever did.
fn write(text: &mut Vec<u8>, question: &Question<'_>) {
    let (body, more) = Body::of(question);
    let begin = text.len();
    if serde_json::to_writer(&mut *text, &body).is_err() {
        text.truncate(begin);
    } else if !more.is_empty() {
        text.truncate(text.len() - 1);
        text.extend_from_slice(more.as_bytes());
        text.push(b'}');
    }
}

/// The request body for many questions about topics.
pub fn together<'q>(questions: impl Iterator<Item = Question<'q>>) -> Vec<u8> {
    let mut text = br#"{"checks":["#.to_vec();
    for (index, question) in questions.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write(&mut text, &question);
    }
    text.extend_from_slice(b"]}");
    text
}

/// The answer to a request with many questions.
#[derive(Deserialize)]
struct Results {
    results: Vec<Json>,
    #[serde(flatten)]
    _others: Others,
}

/// Fields that tell nothing here. Where they are gathered, a list is not taken for an object.
type Others = HashMap<String, IgnoredAny>;

/// What is said about one question.
#[derive(Debug, PartialEq)]
pub struct BatchResult {
    /// The yes or no.
    pub verdict: Verdict,
    /// The object that it stands in, if there is more in that.
    pub more: Option<Object>,
}

/// What is said about each question in the answer to a request with so many, in their order.
///
/// # Errors
/// What was found instead, without any of its texts, which may hold secrets. Then nothing in it counts.
pub fn results(body: &[u8], questions: usize) -> Result<Vec<BatchResult>, String> {
    let Results { results, .. } = serde_json::from_slice(body).map_err(|error| no_results(body, &error))?;
    if results.len() != questions {
        return Err(format!("{} results for {questions} questions", results.len()));
    }
    let said = |(index, result)| {
        said(result).map_err(|found| {
            format!(
                "{found} as result {} of {questions}, and no true, false, \"allow\" or \"deny\"",
                index + 1
            )
        })
    };
    results.into_iter().enumerate().map(said).collect()
}

/// The yes or no in a result; `Err` with what it is if there is none.
fn said(result: Json) -> Result<BatchResult, &'static str> {
    let verdict = match &result {
        Json::Bool(true) => Verdict::Allow,
        Json::Bool(false) => Verdict::Deny,
        Json::Text(word) if word == "allow" => Verdict::Allow,
        Json::Text(word) if word == "deny" => Verdict::Deny,
        Json::Object(fields) => match fields.get("result") {
            Some(Json::Text(word)) if word == "allow" => Verdict::Allow,
            Some(Json::Text(word)) if word == "deny" || word == "ignore" => Verdict::Deny,
            _ => return Err("an object"),
        },
        Json::Null => return Err("null"),
        Json::Whole(_) | Json::Number(_) => return Err("a number"),
        Json::Text(_) => return Err("another text"),
        Json::List(_) => return Err("a list"),
    };
    let more = match result {
        Json::Object(fields) if fields.len() > 1 => Some(fields),
        _ => None,
    };
    Ok(BatchResult { verdict, more })
}

/// What a body is from which no results can be read.
fn no_results(body: &[u8], error: &serde_json::Error) -> String {
    let length = body.len();
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => match fields.get("results") {
            None => "JSON without \"results\"".to_owned(),
            Some(Value::Array(_)) => "JSON with an object in which a name stands twice".to_owned(),
            Some(other) => format!("{} as \"results\", and no list", shown(other)),
        },
        Ok(other) => format!("{}, and no object", shown(&other)),
        Err(_) if body.is_empty() => "nothing".to_owned(),
        Err(_) => {
            format!("{length} bytes that are no JSON (line {}, column {})", error.line(), error.column())
        }
    }
}

/// What kind of JSON it is.
fn shown(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
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
    fn many_questions_stand_in_one_body_as_each_would_alone() {
        let ask = |topic, more| Question::Access {
            username: "u",
            client_id: "c",
            topic,
            access: Access::Read,
            more,
        };
        let questions = [ask("a\"", ""), ask("b", r#","qos":1"#)];
        assert_eq!(
            String::from_utf8(together(questions.iter().copied())).unwrap(),
            r#"{"checks":[{"username":"u","clientid":"c","topic":"a\"","acc":1},{"username":"u","clientid":"c","topic":"b","acc":1,"qos":1}]}"#
        );
        for question in questions {
            assert_eq!(length(&question), body(&question).len());
        }
    }

    fn verdicts(answer: &[u8], questions: usize) -> Result<Vec<Verdict>, String> {
        results(answer, questions).map(|said| said.into_iter().map(|said| said.verdict).collect())
    }

    #[test]
    fn a_right_answer_has_a_plain_yes_or_no_for_each_question() {
        use Verdict::{Allow, Deny};
        let answer = br#" {"more": {"results": 1}, "results": [true, false, "allow", "deny",
            {"result": "allow", "acl": []}, {"result": "deny"}, {"result": "ignore"}]}"#;
        let expected = [Allow, Deny, Allow, Deny, Allow, Deny, Deny];
        assert_eq!(verdicts(answer, expected.len()).as_deref(), Ok(&expected[..]));
    }

    #[test]
    fn what_is_no_right_answer_is_told_without_its_texts() {
        let found = |answer: &str| verdicts(answer.as_bytes(), 2).unwrap_err();
        for (answer, expected) in [
            ("", "nothing"),
            ("s3cret", "6 bytes that are no JSON (line 1, column 1)"),
            (r#"{"results":[true,true]"#, "22 bytes that are no JSON (line 1, column 22)"),
            (r#"{"results":[true,true]} x"#, "25 bytes that are no JSON (line 1, column 25)"),
            ("{}", "JSON without \"results\""),
            ("[[true,true]]", "a list, and no object"),
            ("true", "true or false, and no object"),
            (r#"{"results":true}"#, "true or false as \"results\", and no list"),
            (
                r#"{"results":[true,true],"results":[true,true]}"#,
                "JSON with an object in which a name stands twice",
            ),
            (
                r#"{"results":[true,{"result":"deny","result":"allow"}]}"#,
                "JSON with an object in which a name stands twice",
            ),
            (r#"{"results":[true]}"#, "1 results for 2 questions"),
            (r#"{"results":[true,true,true]}"#, "3 results for 2 questions"),
        ] {
            assert_eq!(found(answer), expected, "{answer}");
        }
        for result in [
            "null",
            "1",
            "0",
            "[true]",
            "[\"allow\"]",
            "\"s3cret\"",
            "\"true\"",
            "\"Allow\"",
            "\"allow \"",
            "\"ignore\"",
            "{}",
            r#"{"result":null}"#,
            r#"{"result":true}"#,
            r#"{"result":["allow"]}"#,
            r#"{"allow":true}"#,
            r#"{"result":"s3cret"}"#,
        ] {
            let found = found(&format!("{{\"results\":[true,{result}]}}"));
            assert!(found.contains(" as result 2 of 2") && !found.contains("s3cret"), "{found}");
        }
    }

    /// Some thousand answers that are not what an API meant to say.
    #[test]
    fn an_answer_that_was_cut_or_bent_admits_nobody() {
        let answer =
            br#"{"results":[false,"deny",{"result":"deny"},{"result":"ignore","acl":[{"topic":"a"}]}]}"#;
        let mut bent: Vec<Vec<u8>> = (0..answer.len()).map(|length| answer[..length].to_vec()).collect();
        for at in 0..answer.len() {
            for byte in *b"\0\"\\{}[],:1tn\xff" {
                let mut text = answer.to_vec();
                text[at] = byte;
                bent.push(text.clone());
                text.insert(at, answer[at]);
                bent.push(text);
            }
            bent.push([&answer[..at], &answer[at + 1..]].concat());
            bent.push([&answer[..at], &answer[..], &answer[at..]].concat());
        }
        assert!(bent.len() > 1_000);
        for text in bent {
            let found = verdicts(&text, 4).unwrap_or_default();
            assert!(!found.contains(&Verdict::Allow), "{}", String::from_utf8_lossy(&text));
        }
        // And none counts for fewer or more questions than were asked.
        for questions in [0, 1, 3, 5, 100] {
            assert!(verdicts(answer, questions).is_err());
        }
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
