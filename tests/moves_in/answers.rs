//! What answers mean: by their status, a text or JSON. Whatever is no plain yes lets nobody in.

use super::support::{Connect, MockApi, PATIENCE, Reply, on_every_broker, reason};
use super::{auth_plug, broker, friendly, go_auth};

/// An API that answers to a login as the username says, in this table, and allows all topics by `ok`.
fn api_that_says(table: &'static [(&'static str, Reply)], ok: &'static str) -> MockApi {
    let api = friendly();
    api.answer_with(move |request| {
        let body = String::from_utf8_lossy(&request.body);
        let named = table.iter().find(|(name, _)| body.contains(&format!("\"username\":\"{name}\"")));
        named.map_or(Reply::status(200).body(ok.as_bytes()), |(_, reply)| reply.clone())
    });
    api
}

fn is_let_in(port: u16, name: &str) -> bool {
    Connect::v5(format!("c-{name}")).login(name, "p").attempt(port).is_ok()
}

#[test]
fn every_status_of_success_is_a_yes_and_trouble_is_no_answer() {
    on_every_broker(|version| {
        for conf in [go_auth(""), auth_plug("")] {
            let api = friendly();
            let broker = broker(version, &api, &conf).start();
            let login = |status, name: &str| {
                let reply =
                    if status == 302 { Reply::redirect(&api.acl_url()) } else { Reply::status(status) };
                api.answer(reply);
                Connect::v5(format!("c{status}")).login(name, "p").attempt(broker.port())
            };
            for status in [200, 201, 204, 299] {
                assert!(login(status, "good").is_ok(), "{status}");
            }
            for status in [302, 400, 401, 403, 404] {
                let refused = login(status, &format!("bad-{status}")).unwrap_err();
                assert_eq!(refused, super::support::Refusal::Code(reason::NOT_AUTHORIZED), "{status}");
            }
            for status in [408, 429, 500, 503] {
                let refused = login(status, &format!("nobody-{status}")).unwrap_err();
                assert_ne!(refused, super::support::Refusal::Code(reason::NOT_AUTHORIZED), "{status}");
            }
            // A redirect is not followed.
            assert!(api.topic_checks().is_empty());
        }
    });
}

#[test]
fn a_text_is_a_yes_only_if_it_is_ok() {
    on_every_broker(|version| {
        let table: &'static [(&str, Reply)] = Box::leak(Box::new([
            ("empty", Reply::status(200)),
            ("upper", Reply::status(200).body(b"OK")),
            ("line", Reply::status(200).body(b"ok\n")),
            ("blank", Reply::status(200).body(b" ok")),
            ("no", Reply::status(200).body(b"no such user")),
            ("json", Reply::status(200).body(b"{\"ok\":true}")),
            ("forbidden", Reply::status(403).body(b"ok")),
            ("nothing", Reply::status(204)),
            ("long", Reply::status(200).body(&[b'o'; 100 << 10])),
            ("moved", Reply::redirect("http://127.0.0.1:1/").body(b"ok")),
        ]));
        let api = api_that_says(table, "ok");
        let broker = broker(version, &api, &go_auth("plugin_opt_http_response_mode text")).start();
        for (name, reply) in table {
            let refused = Connect::v5(format!("c-{name}")).login(name, "p").refused(broker.port());
            assert_eq!(refused, reason::NOT_AUTHORIZED, "{reply:?}");
        }
        let mut client = Connect::v5("c").login("joe", "p").accepted(broker.port());
        assert!(client.may_subscribe("t"));
        api.answer(Reply::status(200).body(b"no"));
        assert!(!client.may_subscribe("u"));
        assert!(!broker.log().contains("lets everybody in"), "{}", broker.log());
    });
}

#[test]
fn json_is_a_yes_only_if_it_says_ok() {
    on_every_broker(|version| {
        let json = |text: &str| Reply::status(200).body(text.as_bytes());
        let no: &'static [(&str, Reply)] = Box::leak(Box::new([
            ("false", json(r#"{"ok":false,"error":"no"}"#)),
            ("missing", json("{}")),
            ("null", json("null")),
            ("both", json(r#"{"ok":true,"Ok":false}"#)),
            ("other", json(r#"{"result":"allow"}"#)),
            ("forbidden", json(r#"{"ok":true}"#).with_status(403)),
        ]));
        let none: &'static [(&str, Reply)] = Box::leak(Box::new([
            ("empty", json("")),
            ("text", json("ok")),
            ("cut", json(r#"{"ok":true"#)),
            ("word", json(r#"{"ok":"true"}"#)),
            ("twice", json(r#"{"ok":false,"ok":true}"#)),
            ("behind", json(r#"{"ok":true}{"ok":true}"#)),
            ("error", json(r#"{"ok":true,"error":{}}"#)),
            ("html", json("<html>ok</html>")),
            ("broken", json(r#"{"ok":true}"#).with_status(500)),
        ]));
        let all: &'static [(&str, Reply)] = Box::leak([no, none].concat().into_boxed_slice());
        let api = api_that_says(all, r#"{"Ok": true, "error": ""}"#);
        let broker = broker(version, &api, &go_auth("plugin_opt_http_response_mode json")).start();
        for (name, reply) in no {
            let refused = Connect::v5(format!("c-{name}")).login(name, "p").refused(broker.port());
            assert_eq!(refused, reason::NOT_AUTHORIZED, "{reply:?}");
        }
        for (name, _) in none {
            Connect::v5(format!("c-{name}")).login(name, "p").unanswered(broker.port());
        }
        broker.wait_for_log("expected a body such as {\"ok\":true}", PATIENCE);
        assert!(is_let_in(broker.port(), "joe"));
        assert!(!broker.log().contains("is left alone"), "{}", broker.log());
    });
}

/// As there, a publisher whose question has no answer keeps its message: its connection ends.
#[test]
fn a_topic_without_an_answer_ends_the_publishers_connection() {
    on_every_broker(|version| {
        for (mode, no_answer) in
            [("status", Reply::status(500)), ("json", Reply::status(200).body(b"not what it was"))]
        {
            let api = friendly();
            api.answer(Reply::status(200).body(b"{\"ok\":true}"));
            let conf = go_auth(&format!("plugin_opt_http_response_mode {mode}"));
            let broker = broker(version, &api, &conf).start();
            let mut client = Connect::v3("c").login("joe", "p").accepted(broker.port());
            assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
            api.answer(no_answer);
            let packet = client.publish_packet(b"u", b"x", 1, false);
            client.send(&packet);
            assert!(client.wait_until_closed(PATIENCE), "{mode}");
        }
    });
}
