//! More than a thousand bodies that are not as they should be, in an answer that is a yes by its status: none of them lets
//! anybody in, and the broker goes on.

use std::sync::Arc;

use serde_json::{Value, json};

use super::reading;
use super::support::{Connect, PATIENCE, Reply, api, on_every_broker};

fn good() -> Value {
    json!({
        "result": "allow",
        "is_superuser": true,
        "expire_at": 4_102_444_800_u64,
        "client_attrs": {"site": "berlin"},
        "acl": [
            {"permission": "allow", "action": "all", "topic": "#", "qos": [0, 1], "retain": "all"},
            {"permission": "deny", "action": "publish", "topics": ["a/${clientid}", "b/${client_attrs.site}/#"]},
        ],
    })
}

/// Values that no field takes.
fn odd() -> Vec<Value> {
    vec![
        json!(-1),
        json!(1.5),
        json!("x"),
        json!(""),
        json!("ALLOW"),
        json!("allow "),
        json!("nobody"),
        json!([[]]),
        json!([null]),
        json!([7]),
        json!(["x", 1]),
        json!([{}]),
        json!({"allow": true}),
        json!(3_u64.pow(39)),
        json!(f64::MAX),
    ]
}

fn bodies() -> Vec<Vec<u8>> {
    let text = good().to_string().into_bytes();
    let mut bodies: Vec<Vec<u8>> = (0..text.len()).map(|length| text[..length].to_vec()).collect();
    // Something behind it, or in front of it.
    for byte in (0..=255_u8).filter(|byte| !b" \t\r\n".contains(byte)) {
        bodies.push([&text[..], &[byte]].concat());
        bodies.push([&[byte][..], &text].concat());
    }
    // No UTF-8, wherever there is a letter.
    let letters = (0..text.len()).filter(|at| text[*at].is_ascii_alphabetic());
    bodies.extend(letters.map(|at| [&text[..at], &[0xff], &text[at + 1..]].concat()));
    let mut put = |value: &Value| bodies.push(value.to_string().into_bytes());
    for value in odd() {
        for field in ["result", "expire_at", "acl"] {
            let mut body = good();
            body[field] = value.clone();
            put(&body);
        }
        for field in ["permission", "action", "qos", "retain"] {
            let mut body = good();
            body["acl"][1][field] = value.clone();
            put(&body);
        }
        if !value.is_string() {
            let mut body = good();
            body["client_attrs"]["site"] = value.clone();
            put(&body);
            let mut body = good();
            body["acl"][0]["topic"] = value.clone();
            put(&body);
        }
        // An object with unknown fields says nothing against the status.
        if !value.is_object() {
            put(&value);
        }
    }
    for topic in ["a/#/b", "a+/b", "#a", "a/${nothing}", "", "$share/g/t"] {
        let mut body = good();
        body["acl"][0]["topic"] = json!(topic);
        put(&body);
    }
    for condition in ["ipaddr", "clientid_re", "username_re", "zone", "listener"] {
        let mut body = good();
        body["acl"][0][condition] = json!("x");
        put(&body);
    }
    let mut many = good();
    many["acl"] = json!(vec![many["acl"][0].clone(); 1_001]);
    put(&many);
    let mut long = good();
    long["padding"] = json!("x".repeat(70_000));
    put(&long);
    // The same field twice, in every object.
    let text = String::from_utf8(text).unwrap();
    for field in
        ["result", "is_superuser", "expire_at", "client_attrs", "acl", "permission", "action", "site"]
    {
        bodies.push(
            text.replacen(&format!("\"{field}\":"), &format!("\"{field}\":null,\"{field}\":"), 1)
                .into_bytes(),
        );
    }
    for word in [
        "",
        " ",
        "allow",
        "true",
        "200",
        "null",
        "ok",
        "result=allow",
        "<html>",
        "\u{feff}{}",
        "[]",
        "{]",
        "{'result':'allow'}",
    ] {
        bodies.push(word.as_bytes().to_vec());
    }
    bodies.push(vec![b'['; 60_000]);
    bodies.push(b"{\"a\":".repeat(10_000));
    bodies
}

#[test]
fn no_malformed_body_lets_anybody_in() {
    let bodies = Arc::new(bodies());
    assert!(bodies.len() > 1_000, "{}", bodies.len());
    on_every_broker(|version| {
        let (api, given) = (api(""), Arc::clone(&bodies));
        api.answer_with(move |request| {
            let body = request.field("username").parse().ok().and_then(|number: usize| given.get(number));
            let body = body.map_or(&b"{\"is_superuser\":true}"[..], Vec::as_slice);
            Reply::status(200).header("Content-Type", "application/json").body(body)
        });
        let broker = reading(version, &api).start();
        for (number, body) in bodies.iter().enumerate() {
            let login = Connect::v5("c").login(number.to_string(), "secret").attempt(broker.port());
            assert!(login.is_err(), "{} lets in", String::from_utf8_lossy(&body[..body.len().min(1_000)]));
        }
        assert_eq!(api.logins().len(), bodies.len(), "each was asked about");
        let mut client = Connect::v5("good").login("good", "secret").accepted(broker.port());
        assert!(super::may_publish(&mut client, "t"));
        let log = broker.wait_for_log("a body that cannot be used", PATIENCE);
        assert_eq!(log.matches("a body that cannot be used, which refuses").count(), 1, "once a minute");
    });
}
