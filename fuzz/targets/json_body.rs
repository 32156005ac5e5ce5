//! The JSON that the API gets: whatever names clients have, a parser reads the very same strings.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{Access, Question, body};
use serde_json::json;

#[derive(Arbitrary, Debug)]
struct Names {
    username: String,
    password: String,
    client_id: String,
    topic: String,
    access: u8,
}

fuzz_target!(|names: Names| {
    let Names { username, password, client_id, topic, access } = &names;
    let access = [Access::Read, Access::Write, Access::Subscribe][usize::from(access % 3)];
    let login = body(&Question::Connect { username, password, more: "" });
    check(&login, &["username", "password"], &json!({ "username": username, "password": password }));
    let check_of_topic = body(&Question::Access { username, client_id, topic, access, more: "" });
    let expected =
        json!({ "username": username, "clientid": client_id, "topic": topic, "acc": access as u8 });
    check(&check_of_topic, &["username", "clientid", "topic", "acc"], &expected);
});

fn check(body: &[u8], fields: &[&str], expected: &serde_json::Value) {
    let text = std::str::from_utf8(body).expect("JSON is UTF-8");
    assert!(!text.contains(|c: char| c < ' '), "a control character as it is: {text:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(text).expect("it is JSON"), *expected);
    // The order of the fields is promised, too, and fields of one name, of which a parser keeps one, must not repeat.
    let mut at = 0;
    for field in fields {
        let name = format!("\"{field}\":");
        at += text[at..].find(&name).expect("every field is there, in its order");
    }
}
