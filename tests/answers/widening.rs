//! Rules in the answer about a topic hold for the session as long as that answer is remembered.

use std::time::Duration;

use serde_json::json;

use super::support::{Connect, MockApi, PATIENCE, Reply, api, eventually, on_every_broker, read_by};
use super::{allowing, is_login, log_in, may_publish, reading};

const MESSAGES: usize = 500;

/// An API that allows everything, and answers SUBSCRIBE questions with rules about reading what is below.
fn widening() -> MockApi {
    let api = api("");
    api.answer_with(|request| match request.acc() {
        4 => Reply::json(&json!({"acl": [{"permission": "allow", "action": "subscribe", "topic": request.field("topic")}]})),
        _ => Reply::status(200),
    });
    api
}

#[test]
fn many_retained_messages_cost_one_question() {
    on_every_broker(|version| {
        let api = widening();
        let broker = reading(version, &api).start();
        let mut writer = log_in(&broker, "writer");
        for n in 0..MESSAGES {
            writer.publish_retained(format!("sensors/{n}/state"), "on");
            if n % 50 == 49 {
                writer.ping();
            }
        }
        writer.ping();
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("sensors/#"));
        for _ in 0..MESSAGES {
            assert!(reader.receive(PATIENCE).is_some());
        }
        assert_eq!(read_by(&api, "reader").len(), 0);
        // And so does what is published later.
        writer.publish("sensors/1/state", "off");
        assert_eq!(reader.receive(PATIENCE).unwrap().payload, b"off");
        assert_eq!(read_by(&api, "reader").len(), 0);
    });
}

#[test]
fn they_end_with_the_answer() {
    on_every_broker(|version| {
        let api = widening();
        let broker = reading(version, &api).option("acl_cache_ttl", "2s").start();
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("a/#"));
        let mut writer = log_in(&broker, "writer");
        assert!(may_publish(&mut writer, "a/1"));
        assert!(reader.receive(PATIENCE).is_some());
        assert_eq!(read_by(&api, "reader").len(), 0);
        std::thread::sleep(Duration::from_millis(2100));
        assert!(may_publish(&mut writer, "a/1"));
        assert!(reader.receive(PATIENCE).is_some());
        assert_eq!(read_by(&api, "reader").len(), 1, "asked about again");
    });
}

#[test]
fn an_answer_that_is_not_remembered_widens_nothing() {
    on_every_broker(|version| {
        let api = widening();
        let broker = reading(version, &api).option("acl_cache_ttl", 0).start();
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("a/#"));
        let mut writer = log_in(&broker, "writer");
        assert!(may_publish(&mut writer, "a/1"));
        assert!(reader.receive(PATIENCE).is_some());
        assert!(!read_by(&api, "reader").is_empty());
    });
}

/// The rules of the login come first, and nobody else has a part in what one was told.
#[test]
fn they_widen_one_session_and_overrule_nothing() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| match (is_login(request), request.acc()) {
            (true, _) => {
                Reply::json(&json!({"acl": [{"permission": "deny", "action": "all", "topic": "a/secret"}]}))
            }
            (false, 4) => Reply::json(&allowing(&["a/#"])),
            (false, _) => Reply::status(403),
        });
        let broker = reading(version, &api).start();
        let mut one = log_in(&broker, "one");
        let mut another = log_in(&broker, "another");
        assert!(one.may_subscribe("a/+/x"));
        assert!(may_publish(&mut one, "a/open"));
        assert!(!may_publish(&mut one, "a/secret"));
        assert!(!may_publish(&mut another, "a/open"));
    });
}

#[test]
fn a_refusal_in_the_body_refuses_the_topic() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("topic") {
            "deny" => Reply::json(
                &json!({"result": "deny", "acl": [{"permission": "allow", "action": "all", "topic": "#"}]}),
            ),
            "bad" => {
                Reply::json(&json!({"acl": [{"permission": "allow", "action": "all", "topic": "a/#/b"}]}))
            }
            "superuser" => Reply::json(&json!({"is_superuser": true})),
            "other" => Reply::status(403),
            _ => Reply::status(200),
        });
        let broker = reading(version, &api).start();
        let mut client = log_in(&broker, "alice");
        for (topic, may) in [("deny", false), ("bad", false), ("superuser", true), ("other", false)] {
            assert_eq!(may_publish(&mut client, topic), may, "{topic}");
        }
        broker.wait_for_log("rule 1: ", PATIENCE);
    });
}

/// An answer that came ahead counts once the broker comes for it.
#[test]
fn what_was_asked_ahead_widens_when_it_is_used() {
    on_every_broker(|version| {
        let api = widening();
        let setup = reading(version, &api).option("acl_prefetch", "subscribe a/%c/#");
        let broker = setup.start();
        let mut reader = log_in(&broker, "reader");
        assert!(eventually(PATIENCE, || api.topic_checks().len() == 1));
        api.wait_until_answered(PATIENCE);
        assert!(reader.may_subscribe("a/reader/#"));
        let mut writer = Connect::v3("writer").login("writer", "secret").accepted(broker.port());
        assert!(may_publish(&mut writer, "a/reader/1"));
        assert!(reader.receive(PATIENCE).is_some());
        assert_eq!(read_by(&api, "reader").len(), 0);
    });
}
