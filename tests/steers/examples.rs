//! The examples of docs/commands.md are what is answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    Admin, Connect, PATIENCE, Version, broker_asking, eventually, free_port, friendly_api, login, revocable,
};

/// The example in JSON that stands below this heading as the `number`th one.
fn example(heading: &str, number: usize) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(&format!("\n{heading}\n")).expect(heading);
    let section = section.split("\n#").next().unwrap();
    let block = section.split("```json\n").nth(number).and_then(|rest| rest.split("```").next());
    serde_json::from_str(block.unwrap()).unwrap_or_else(|error| panic!("{heading}: {error}"))
}

/// The keys of an answer with those of what is in them; of a list, those of its first element.
fn keys(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            json!(object.iter().map(|(name, value)| (name, keys(value))).collect::<BTreeMap<_, _>>())
        }
        Value::Array(list) => json!([list.first().map(keys)]),
        _ => Value::Null,
    }
}

/// A text with each number in it as 0.
fn without_numbers(text: &str) -> String {
    let mut plain = text.replace(|c: char| c.is_ascii_digit(), "0");
    while plain.contains("00") {
        plain = plain.replace("00", "0");
    }
    plain
}

#[test]
fn a_status_has_all_of_its_examples_keys_and_no_others() {
    let api = friendly_api();
    revocable(&api, "refused").store(true, std::sync::atomic::Ordering::Relaxed);
    let admin = Admin::somewhere();
    let broker = admin
        .of(broker_asking(Version::V2_1, &api))
        .file("cache.secret", "0123456789abcdef-the-secret-of-the-tests")
        .option("shared_cache", format!("redis://127.0.0.1:{}", free_port()))
        .option("shared_cache_secret_file", "cache.secret")
        .start();
    let mut client = login("sensor-1").accepted(broker.port());
    client.publish_acknowledged("state/sensor-1", "x");
    login("refused").refused(broker.port());
    broker.sighup();
    let mut status = Value::Null;
    let has_all = eventually(PATIENCE, || {
        status = admin.carries_out("status", &json!({}));
        let is_filled = |name: &str| status[name].as_array().is_some_and(|list| !list.is_empty());
        ["decisions", "refused", "learnt"].into_iter().all(is_filled) && !status["reload"].is_null()
    });
    assert!(has_all, "{status}");
    assert_eq!(keys(&status), keys(&example("### `status`", 1)));

    // The page without a token shows less, as the table of paths says.
    let mut figures = keys(&admin.get("/figures").json());
    let mut shown = keys(&status);
    for hidden in ["refused", "templates", "learnt"] {
        shown.as_object_mut().unwrap().remove(hidden);
    }
    assert!(figures.as_object_mut().unwrap().remove("minutes").is_some());
    assert_eq!(figures, shown);
}

#[test]
fn an_explanation_is_in_the_words_of_its_example() {
    let api = friendly_api();
    let admin = Admin::somewhere();
    let broker = admin.of(broker_asking(Version::V2_1, &api)).start();
    let mut client = Connect::v5("c1").login("sensor-1", "secret").accepted(broker.port());
    client.publish_acknowledged("sensors/1/t", "x");
    client.publish_acknowledged("sensors/1/t", "x");
    let told = admin.carries_out("explain", &example("### `explain`", 1));
    let expected = example("### `explain`", 2);
    for name in ["decision", "by", "why"] {
        assert_eq!(told[name], expected[name], "{told}");
    }
    let steps = |answer: &Value| -> Vec<(String, String)> {
        let of = |step: &Value| (step["step"].to_string(), without_numbers(&step["found"].to_string()));
        answer["steps"].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(steps(&told), steps(&expected));
    assert_eq!(keys(&told), keys(&expected));
}
