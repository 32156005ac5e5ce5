//! How a question becomes a request and a response an answer: by the contract, or as other plugins have them, for APIs that
//! were made for these (`config::moving_in` says whose).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use super::answer::Body;
use super::json::Json;
use super::wire;
use crate::config::{Dialect, Words, Yes};
use crate::question::{Answer, Grounds, NoAnswer, Question, Verdict};
use crate::util::percent::push_encoded;

/// The number that mosquitto-auth-plug sends where no topic is asked about.
const NO_ACCESS: &str = "-1";

/// What is asked. As JSON: the fields in the order in which Go writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum WireQuestion<'a> {
    Login { clientid: &'a str, password: &'a str, username: &'a str },
    Topic { acc: u8, clientid: &'a str, topic: &'a str, username: &'a str },
    Superuser { username: &'a str },
}

/// What `auth_fields clientid` adds to a question about a login.
#[derive(Deserialize)]
struct More {
    clientid: String,
}

/// The request body for a question.
pub fn body(dialect: &Dialect, question: &Question<'_>) -> Vec<u8> {
    if dialect.is_contract() {
        return wire::body(question);
    }
    let client_id = client_id(question);
    let name = name(dialect, question.username(), &client_id);
    written(
        dialect,
        match *question {
            Question::Connect { password, .. } => {
                WireQuestion::Login { clientid: &client_id, password, username: name }
            }
            Question::Access { topic, access, .. } => {
                WireQuestion::Topic { acc: access as u8, clientid: &client_id, topic, username: name }
            }
        },
    )
}

/// The request body for the question whether a user may do everything, by the name that [`name`] gives.
pub fn superuser_body(dialect: &Dialect, name: &str) -> Vec<u8> {
    written(dialect, WireQuestion::Superuser { username: name })
}

/// The name by which the API knows a client.
pub fn name<'a>(dialect: &Dialect, username: &'a str, client_id: &'a str) -> &'a str {
    if dialect.client_id_is_username { client_id } else { username }
}

/// The client id in a question, if it has one.
fn client_id(question: &Question<'_>) -> String {
    match *question {
        Question::Access { client_id, .. } => client_id.to_owned(),
        Question::Connect { more, .. } => {
            let object = format!("{{{}}}", more.strip_prefix(',').unwrap_or_default());
            serde_json::from_str(&object).map(|More { clientid }| clientid).unwrap_or_default()
        }
    }
}

fn written(dialect: &Dialect, asked: WireQuestion<'_>) -> Vec<u8> {
    match dialect.words {
        Words::Contract | Words::GoJson => go_json(&asked),
        Words::GoForm => go_form(asked),
        Words::PlugForm => plug_form(dialect, asked),
    }
    .into_bytes()
}

/// JSON as Go writes it: `<`, `>`, `&` and two ends of lines are escaped, so that it may stand in HTML. Such letters stand
/// in texts alone. Nothing, which no API allows, is the safe thing to send if it could not be written.
fn go_json(asked: &WireQuestion<'_>) -> String {
    let plain = serde_json::to_string(asked).unwrap_or_default();
    let mut text = String::with_capacity(plain.len());
    for letter in plain.chars() {
        match letter {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}

/// A form as Go writes it: in the order of names, with `+` for a blank.
fn go_form(asked: WireQuestion<'_>) -> String {
    let mut form = String::new();
    let mut push = |name: &str, value: &str| {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        push_encoded(&mut form, value, "+");
    };
    match asked {
        WireQuestion::Login { clientid, password, username } => {
            push("clientid", clientid);
            push("password", password);
            push("username", username);
        }
        WireQuestion::Topic { acc, clientid, topic, username } => {
            push("acc", &acc.to_string());
            push("clientid", clientid);
            push("topic", topic);
            push("username", username);
        }
        WireQuestion::Superuser { username } => push("username", username),
    }
    form
}

/// A form as mosquitto-auth-plug writes it: always the same fields, and client ids as they are. One that would mean
/// something else then is encoded.
fn plug_form(dialect: &Dialect, asked: WireQuestion<'_>) -> String {
    let [of_login, of_superuser, of_topic] = &dialect.in_front;
    // It tells no client id at a login.
    let (in_front, username, password, topic, acc, client_id) = match asked {
        WireQuestion::Login { password, username, .. } => {
            (of_login, username, password, "", NO_ACCESS.to_owned(), "")
        }
        WireQuestion::Superuser { username } => (of_superuser, username, "", "", NO_ACCESS.to_owned(), ""),
        WireQuestion::Topic { acc, clientid, topic, username } => {
            (of_topic, username, "", topic, acc.to_string(), clientid)
        }
    };
    let mut form = in_front.clone();
    for (name, value) in [("username=", username), ("&password=", password), ("&topic=", topic)] {
        form.push_str(name);
        push_encoded(&mut form, value, "%20");
    }
    form.push_str("&acc=");
    form.push_str(&acc);
    form.push_str("&clientid=");
    if client_id.bytes().all(|byte| byte.is_ascii_graphic() && !b"&+%;=#".contains(&byte)) {
        form.push_str(client_id);
    } else {
        push_encoded(&mut form, client_id, "%20");
    }
    form
}

/// The header by which libcurl tells who asks, for mosquitto-auth-plug: the client's own name, and its password at a login.
pub fn credentials(dialect: &Dialect, name: &str, password: &str) -> Option<HeaderValue> {
    if !dialect.sends_credentials {
        return None;
    }
    let encoded = STANDARD.encode(format!("{name}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The `Authorization` that goes with a question, if the dialect has one.
pub fn credentials_of(dialect: &Dialect, question: &Question<'_>) -> Option<HeaderValue> {
    let password = match *question {
        Question::Connect { password, .. } => password,
        Question::Access { .. } => "",
    };
    credentials(dialect, question.username(), password)
}

/// Whether the body of a response with this status is a part of its answer.
pub fn reads_body(dialect: &Dialect, status: u16) -> bool {
    matches!(dialect.yes, Yes::Text | Yes::Json) && is_success(status)
}

/// What a response answers, by its status, and by its body where [`reads_body`] says so.
pub fn answer(dialect: &Dialect, status: u16, body: Option<&Body>) -> Answer {
    match dialect.yes {
        Yes::Status if is_success(status) => Answer::verdict(Verdict::Allow, Grounds::Status(status)),
        Yes::Text if is_success(status) => match body {
            Some(Body::Whole(text)) if text == b"ok" => {
                Answer::verdict(Verdict::Allow, Grounds::Status(status))
            }
            _ => Answer::verdict(Verdict::Deny, Grounds::BodyDenies),
        },
        Yes::Json if is_success(status) => match body.map(says_ok) {
            Some(Ok(true)) => Answer::verdict(Verdict::Allow, Grounds::Status(status)),
            Some(Ok(false)) => Answer::verdict(Verdict::Deny, Grounds::BodyDenies),
            Some(Err(())) | None => Answer::None(NoAnswer::Transport(NO_JSON.to_owned())),
        },
        _ => Answer::of_status(status),
    }
}

/// Why an answer is none by which mosquitto-go-auth decides.
const NO_JSON: &str = "expected a body such as {\"ok\":true} or {\"ok\":false,\"error\":\"...\"} (http_response_mode json), found another";

fn is_success(status: u16) -> bool {
    (200..=299).contains(&status)
}

/// Whether the body says yes, as Go reads it: whatever the case of names is, and no is what is not there. But where Go takes
/// the last of several, all have to say yes. `Err` if it cannot be read.
fn says_ok(body: &Body) -> Result<bool, ()> {
    let Body::Whole(text) = body else { return Err(()) };
    let fields = match serde_json::from_slice(text) {
        Ok(Json::Object(fields)) => fields,
        Ok(Json::Null) => return Ok(false),
        _ => return Err(()),
    };
    let (mut yes, mut no) = (false, false);
    for (name, value) in &fields {
        // To Go the sign of the kelvin is a k, too.
        let name = name.replace('\u{212a}', "k").to_ascii_lowercase();
        match (name.as_str(), value) {
            ("ok", Json::Bool(true)) => yes = true,
            ("ok", Json::Bool(false)) => no = true,
            ("ok" | "error", Json::Null) | ("error", Json::Text(_)) => {}
            ("ok" | "error", _) => return Err(()),
            _ => {}
        }
    }
    Ok(yes && !no)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::Access;

    const ODD: &str = "a b\"\\<>&+/\u{1}\u{8}\n\u{7f}é🔑\u{2028}";

    fn dialect(words: Words) -> Dialect {
        Dialect { words, yes: Yes::Status, ..Dialect::default() }
    }

    fn login<'a>(username: &'a str, password: &'a str, more: &'a str) -> Question<'a> {
        Question::Connect { username, password, more }
    }

    fn topic<'a>(username: &'a str, client_id: &'a str, topic: &'a str) -> Question<'a> {
        Question::Access { username, client_id, topic, access: Access::Write, more: "" }
    }

    fn text(dialect: &Dialect, question: &Question<'_>) -> String {
        String::from_utf8(body(dialect, question)).unwrap()
    }

    #[test]
    fn json_is_that_of_go() {
        let json = dialect(Words::GoJson);
        let more = format!(",\"clientid\":{}", serde_json::to_string(ODD).unwrap());
        let odd = r#""a b\"\\\u003c\u003e\u0026+/\u0001\b\n"#.to_owned() + "\u{7f}é🔑" + r#"\u2028""#;
        assert_eq!(
            text(&json, &login("u", "p&", &more)),
            format!(r#"{{"clientid":{odd},"password":"p\u0026","username":"u"}}"#)
        );
        assert_eq!(text(&json, &login("u", "p", "")), r#"{"clientid":"","password":"p","username":"u"}"#);
        assert_eq!(
            text(&json, &topic("u", "c", ODD)),
            format!(r#"{{"acc":2,"clientid":"c","topic":{odd},"username":"u"}}"#)
        );
        assert_eq!(superuser_body(&json, "<"), br#"{"username":"\u003c"}"#);
    }

    #[test]
    fn forms_are_those_of_go() {
        let form = dialect(Words::GoForm);
        let odd = "a+b%22%5C%3C%3E%26%2B%2F%01%08%0A%7F%C3%A9%F0%9F%94%91%E2%80%A8";
        assert_eq!(
            text(&form, &login(ODD, "p-._~", r#","clientid":"c d""#)),
            format!("clientid=c+d&password=p-._~&username={odd}")
        );
        assert_eq!(text(&form, &topic("u", "c", "a/#")), "acc=2&clientid=c&topic=a%2F%23&username=u");
        assert_eq!(superuser_body(&form, "a b"), b"username=a+b");
    }

    #[test]
    fn forms_are_those_of_auth_plug() {
        let mut plug = dialect(Words::PlugForm);
        assert_eq!(
            text(&plug, &login("a b", "p&", "")),
            "username=a%20b&password=p%26&topic=&acc=-1&clientid="
        );
        assert_eq!(
            text(&plug, &topic("u", "id:7/é", "a/+")),
            "username=u&password=&topic=a%2F%2B&acc=2&clientid=id%3A7%2F%C3%A9"
        );
        plug.in_front = ["d=1&".to_owned(), "d=2&".to_owned(), "d=3&".to_owned()];
        assert_eq!(superuser_body(&plug, "u"), b"d=2&username=u&password=&topic=&acc=-1&clientid=");
        assert_eq!(
            text(&plug, &topic("u", "id:7/<x>", "a")),
            "d=3&username=u&password=&topic=a&acc=2&clientid=id:7/<x>"
        );
        assert!(text(&plug, &login("u", "p", "")).starts_with("d=1&username=u&"));
        // No client writes fields of its own, or has the body of another.
        for (id, sent) in [("c&username=root", "c%26username%3Droot"), ("a%26b", "a%2526b"), ("a b", "a%20b")]
        {
            let body = text(&plug, &topic("u", id, "a"));
            assert!(body.ends_with(&format!("&clientid={sent}")), "{body}");
        }
    }

    #[test]
    fn the_client_id_may_go_for_the_username() {
        let dialect = Dialect { client_id_is_username: true, ..dialect(Words::GoJson) };
        assert_eq!(
            text(&dialect, &login("u", "p", r#","clientid":"c""#)),
            r#"{"clientid":"c","password":"p","username":"c"}"#
        );
        assert_eq!(
            text(&dialect, &topic("u", "c", "t")),
            r#"{"acc":2,"clientid":"c","topic":"t","username":"c"}"#
        );
        assert_eq!(name(&dialect, "u", "c"), "c");
    }

    #[test]
    fn credentials_go_where_libcurl_sends_them() {
        let mut plug = dialect(Words::PlugForm);
        assert_eq!(credentials_of(&plug, &login("u", "p", "")), None);
        plug.sends_credentials = true;
        let sent = credentials_of(&plug, &login("joe", "secret", "")).unwrap();
        assert!(sent.is_sensitive());
        assert_eq!(sent, "Basic am9lOnNlY3JldA==");
        assert_eq!(credentials_of(&plug, &topic("joe", "c", "t")).unwrap(), "Basic am9lOg==");
    }

    fn said(yes: Yes, status: u16, body: &str) -> Answer {
        let dialect = Dialect { words: Words::GoJson, yes, ..Dialect::default() };
        answer(&dialect, status, Some(&Body::Whole(body.as_bytes().to_vec())))
    }

    #[test]
    fn only_success_lets_in_and_trouble_is_no_answer() {
        for yes in [Yes::Status, Yes::Text, Yes::Json] {
            for status in 100..1000 {
                let body = if yes == Yes::Text { "ok" } else { "{\"ok\":true}" };
                let expected = match status {
                    200..=299 => Answer::verdict(Verdict::Allow, Grounds::Status(status)),
                    other => Answer::of_status(other),
                };
                assert_eq!(said(yes, status, body), expected, "{yes:?} {status}");
            }
        }
        let contract = Dialect::default();
        for status in 100..1000 {
            assert_eq!(answer(&contract, status, None), Answer::of_status(status));
        }
    }

    #[test]
    fn a_body_lets_in_only_by_what_go_takes_for_a_yes() {
        let denies = Answer::verdict(Verdict::Deny, Grounds::BodyDenies);
        for body in ["", "OK", "ok\n", " ok", "ok ", "okay", "\"ok\"", "true", "{\"ok\":true}", "\u{feff}ok"]
        {
            assert_eq!(said(Yes::Text, 200, body), denies, "{body}");
        }
        for body in
            [r#"{"ok":true}"#, r#" {"Ok" : true, "error":"", "x":[1]} "#, r#"{"OK":true,"error":null}"#]
        {
            assert_eq!(
                said(Yes::Json, 201, body),
                Answer::verdict(Verdict::Allow, Grounds::Status(201)),
                "{body}"
            );
        }
        for body in [
            "null",
            "{}",
            r#"{"ok":false,"error":"s3cret"}"#,
            r#"{"ok":null}"#,
            r#"{"result":"allow"}"#,
            r#"{"ok":true,"Ok":false}"#,
            "{\"ok\":true,\"o\u{212a}\":false}",
            r#"{"OK":false,"ok":true}"#,
        ] {
            assert_eq!(said(Yes::Json, 200, body), denies, "{body}");
        }
        for body in [
            "",
            "ok",
            "true",
            "[]",
            "[true]",
            r#"{"ok":true"#,
            r#"{"ok":true} x"#,
            r#"{"ok":"true"}"#,
            r#"{"ok":1}"#,
            r#"{"ok":true,"error":5}"#,
            r#"{"ok":true,"ok":true}"#,
            r#"{"ok":true,"ok":false}"#,
            "\u{feff}{\"ok\":true}",
            "<html>{\"ok\":true}",
        ] {
            let Answer::None(NoAnswer::Transport(what)) = said(Yes::Json, 200, body) else {
                panic!("{body}")
            };
            assert!(what.contains("http_response_mode json"));
        }
        for yes in [Yes::Text, Yes::Json] {
            let dialect = Dialect { words: Words::GoJson, yes, ..Dialect::default() };
            for body in [None, Some(&Body::TooLong)] {
                let answer = answer(&dialect, 200, body);
                assert!(!matches!(answer, Answer::Verdict { verdict: Verdict::Allow, .. }));
            }
            assert!(reads_body(&dialect, 204) && !reads_body(&dialect, 403) && !reads_body(&dialect, 500));
        }
        assert!(!reads_body(&Dialect::default(), 200) && !reads_body(&dialect(Words::GoForm), 200));
    }
}
