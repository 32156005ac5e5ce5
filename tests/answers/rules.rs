//! Rules that come with the answer about a login decide about topics, exactly, and nobody is asked.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Admin, Connect, PATIENCE, Reply, Will, api, eventually, on_every_broker};
use super::{READ, WRITE, allowing, is_login, log_in, may_publish, reading, saying, saying_to, says};

fn rules(list: Value) -> Value {
    json!({ "acl": list })
}

#[test]
fn rules_decide_and_nobody_is_asked() {
    on_every_broker(|version| {
        let api = saying(rules(json!([
            {"permission": "deny", "action": "all", "topic": "home/secret/#"},
            {"permission": "allow", "action": "publish", "topic": "home/+/set"},
            {"permission": "allow", "action": "subscribe", "topic": "home/#"},
        ])));
        let broker = reading(version, &api).option("acl_no_match", "deny").start();
        let mut client = log_in(&broker, "alice");
        assert!(may_publish(&mut client, "home/lamp/set"));
        assert!(!may_publish(&mut client, "home/lamp/state"));
        assert!(!may_publish(&mut client, "home/secret/set"));
        assert!(client.may_subscribe("home/lamp/#"));
        assert!(!client.may_subscribe("home/#"), "what is denied is below it");
        assert!(!client.may_subscribe("#"));
        assert!(client.may_subscribe("$share/group/home/lamp/+"));
        assert_eq!(api.topic_checks().len(), 0);
    });
}

#[test]
fn the_first_rule_that_matches_decides() {
    on_every_broker(|version| {
        let api = saying(rules(json!([
            {"permission": "allow", "action": "all", "topic": "a/b"},
            {"permission": "deny", "action": "all", "topic": "a/#"},
            {"permission": "allow", "action": "all", "topic": "#"},
        ])));
        let broker = reading(version, &api).start();
        let mut client = log_in(&broker, "alice");
        for (topic, may) in [("a/b", true), ("a/c", false), ("b", true)] {
            assert_eq!(may_publish(&mut client, topic), may, "{topic}");
            assert_eq!(client.may_subscribe(topic), may, "{topic}");
        }
        assert_eq!(api.topic_checks().len(), 0);
    });
}

#[test]
fn a_message_is_read_by_the_rules_about_subscribing() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let topic = if request.field("username") == "reader" { "news/open" } else { "#" };
            match is_login(request) {
                true => Reply::json(&allowing(&[topic])),
                // The API is lax about filters that hold more than the rules say.
                false => Reply::status(if request.acc() == READ { 403 } else { 200 }),
            }
        });
        let broker = reading(version, &api).option("acl_no_match", "ask").start();
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("news/#"), "the API allows it");
        let mut writer = log_in(&broker, "writer");
        for topic in ["news/closed", "news/open"] {
            assert!(may_publish(&mut writer, topic));
        }
        let message = reader.receive(PATIENCE).unwrap();
        assert_eq!(message.topic, "news/open");
        let asked = api.topic_checks();
        let reads: Vec<_> = asked.iter().filter(|it| it.acc() == READ).map(|it| it.field("topic")).collect();
        assert_eq!(reads, ["news/closed"], "what a rule decides is not asked about");
        assert!(asked.iter().all(|it| it.field("username") == "reader"), "the writer's rules decide all");
    });
}

#[test]
fn names_stand_in_rules() {
    on_every_broker(|version| {
        let api = saying(json!({
            "acl": [
                {"permission": "allow", "action": "all", "topic": "by-id/${clientid}/#"},
                {"permission": "allow", "action": "all", "topic": "by-name/${username}"},
                {"permission": "allow", "action": "all", "topic": "by-site/${client_attrs.site}"},
                {"permission": "allow", "action": "all", "topic": "eq literal/${username}"},
            ],
            "client_attrs": {"site": "berlin"},
        }));
        let broker = reading(version, &api).option("acl_no_match", "deny").start();
        // Two devices share an account, and its answer.
        for id in ["d1", "d2"] {
            let mut client = Connect::v5(id).login("fleet", "secret").accepted(broker.port());
            assert!(may_publish(&mut client, &format!("by-id/{id}/x")));
            assert!(!may_publish(&mut client, "by-id/d3/x"));
            assert!(may_publish(&mut client, "by-name/fleet"));
            assert!(may_publish(&mut client, "by-site/berlin"));
            assert!(may_publish(&mut client, "literal/${username}"));
            assert!(!may_publish(&mut client, "literal/fleet"));
        }
        assert_eq!((api.logins().len(), api.topic_checks().len()), (1, 0));
        // A name that would be a level more reaches nothing.
        let mut client = Connect::v5("d1/x").login("fleet", "secret").accepted(broker.port());
        assert!(!may_publish(&mut client, "by-id/d1/x"));
        assert!(!may_publish(&mut client, "by-id/d1/x/y"));
    });
}

#[test]
fn quality_of_service_and_retain_are_conditions() {
    on_every_broker(|version| {
        let api = saying(rules(json!([
            {"permission": "allow", "action": "publish", "topic": "t", "qos": 0, "retain": false},
            {"permission": "allow", "action": "subscribe", "topic": "t", "qos": [0, 1]},
        ])));
        let broker = reading(version, &api).option("acl_no_match", "deny").start();
        let mut client = log_in(&broker, "alice");
        assert_eq!(client.subscribe(&[("t", 2)])[0] & 0x80, 0x80);
        assert_eq!(client.subscribe(&[("t", 1)]), [1]);
        client.publish_retained("t", "kept");
        client.publish("t", "sent");
        assert!(!may_publish(&mut client, "t"), "that is QoS 1");
        let message = client.receive(PATIENCE).unwrap();
        assert_eq!(message.payload, b"sent");
        client.ping();
        assert!(client.receive(Duration::ZERO).is_none());
    });
}

#[test]
fn where_no_rule_matches_an_option_decides() {
    on_every_broker(|version| {
        for (no_match, has_acl_url, may, asked) in [
            ("ask", true, false, 1),
            ("ask", false, false, 0),
            ("deny", true, false, 0),
            ("deny", false, false, 0),
            ("allow", true, true, 0),
            ("allow", false, true, 0),
        ] {
            let api = saying(allowing(&["mine/#"]));
            let mut setup = super::support::Broker::with(version).option("auth_url", api.auth_url());
            if has_acl_url {
                setup = setup.option("acl_url", api.acl_url());
            }
            let broker = setup.option("answer_rules", true).option("acl_no_match", no_match).start();
            let mut client = log_in(&broker, "alice");
            assert!(may_publish(&mut client, "mine/t"), "{no_match}");
            assert_eq!(may_publish(&mut client, "others/t"), may, "{no_match} {has_acl_url}");
            assert_eq!(api.topic_checks().len(), asked, "{no_match} {has_acl_url}");
        }
    });
}

/// An answer without rules is one whose rules are about nothing: whoever forgot them opens no door.
#[test]
fn an_answer_without_rules_opens_nothing() {
    on_every_broker(|version| {
        let api = saying(json!({"result": "allow"}));
        let broker = super::support::Broker::with(version)
            .option("auth_url", api.auth_url())
            .option("answer_rules", true)
            .start();
        let mut client = log_in(&broker, "alice");
        assert!(!may_publish(&mut client, "t"));
        assert!(!client.may_subscribe("t"));
        broker.wait_for_log("no rule that came with the API's answer is about it", PATIENCE);
    });
}

#[test]
fn a_will_goes_by_the_rules_of_its_session() {
    on_every_broker(|version| {
        let api = saying_to(
            |name| match name {
                "watcher" => json!({"is_superuser": true}),
                _ => allowing(&["wills/good"]),
            },
            403,
        );
        let broker = reading(version, &api).option("acl_no_match", "deny").start();
        let mut watcher = log_in(&broker, "watcher");
        assert!(watcher.may_subscribe("wills/#"));
        for topic in ["wills/bad", "wills/good"] {
            let will = Will { topic: topic.into(), payload: b"gone".into(), qos: 1, retain: false };
            Connect::v5(topic).login("alice", "secret").will(will).accepted(broker.port()).hang_up();
        }
        assert_eq!(watcher.receive(PATIENCE).unwrap().topic, "wills/good");
        assert_eq!(api.topic_checks().len(), 0);
    });
}

#[test]
fn commands_and_figures_know_of_rules() {
    on_every_broker(|version| {
        let api = saying(allowing(&["mine/#"]));
        let admin = Admin::somewhere();
        let broker = admin.of(reading(version, &api)).start();
        let mut client = log_in(&broker, "alice");
        assert!(may_publish(&mut client, "mine/t"));
        let explain = |topic: &str| {
            let fields = json!({"username": "alice", "clientid": "alice", "topic": topic, "acc": "write"});
            admin.carries_out("explain", &fields)
        };
        let told = explain("mine/x");
        assert_eq!((&told["decision"], &told["by"]), (&json!("allow"), &json!("rules")), "{told}");
        let told = explain("others/x");
        assert_eq!(told["decision"], "ask", "{told}");
        assert!(told["steps"].to_string().contains("no rule is about it"), "{told}");
        let metrics = admin.get("/metrics").body;
        assert!(
            metrics.contains(r#"decisions_total{question="write",result="allow",source="rules"} 1"#),
            "{metrics}"
        );
        let status = admin.carries_out("status", &json!({}));
        assert!(status["rules"]["bytes"].as_u64() > Some(0), "{status}");
        // What is forgotten is asked about.
        says(&api, json!({}));
        admin.carries_out("forget", &json!({"username": "alice"}));
        assert_eq!(explain("mine/x")["decision"], "ask");
        api.answer(Reply::status(200));
        assert!(may_publish(&mut client, "mine/t"));
        assert_eq!(api.topic_checks().iter().filter(|it| it.acc() == WRITE).count(), 1);
        // `recheck` brings them back.
        says(&api, allowing(&["mine/#"]));
        admin.carries_out("recheck", &json!({"username": "alice"}));
        assert!(eventually(PATIENCE, || explain("mine/x")["by"] == "rules"));
    });
}
