//! The metrics are what Prometheus reads, name nobody, and tell what happens.

use serde_json::json;

use crate::support::{
    Admin, Connect, MockApi, PATIENCE, Reply, Version, api, broker_asking, eventually, friendly_api,
    on_every_broker,
};

fn secret_names(api: &MockApi, admin: &Admin, version: Version) -> crate::support::Broker {
    let broker = admin.of(broker_asking(version, api)).option("login_wait", 0).start();
    let mut client =
        Connect::v5("id-of-somebody").login("name-of-somebody", "secret").accepted(broker.port());
    client.publish_acknowledged("topic-of-somebody", "x");
    broker
}

#[test]
fn they_are_text_as_prometheus_reads_it_and_name_nobody() {
    on_every_broker(|version| {
        let (api, admin) = (friendly_api(), Admin::somewhere());
        let _broker = secret_names(&api, &admin, version);
        let answer = admin.get("/metrics");
        assert_eq!(
            answer.header("Content-Type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
        for name in ["name-of-somebody", "id-of-somebody", "topic-of-somebody", "secret"] {
            assert!(!answer.body.contains(name), "mosquitto {version}: {}", answer.body);
        }
        for (name, value) in [
            (r#"decisions_total{question="login",result="allow",source="api"}"#, 1.0),
            (r#"decisions_total{question="write",result="allow",source="api"}"#, 1.0),
            (r#"api_answers_total{question="login",result="allow"}"#, 1.0),
            (r#"api_answer_seconds_count{question="topic"}"#, 1.0),
            (r#"api_answer_seconds_bucket{le="30.0",question="topic"}"#, 1.0),
            (r#"broker_held_up_seconds_count{question="topic"}"#, 1.0),
            ("ready", 1.0),
            (r#"cache_entries{verdict="allow"}"#, 2.0),
        ] {
            let name = format!("mosquitto_http_auth_{name}");
            assert_eq!(admin.metric(&name), value, "mosquitto {version}: {name}\n{}", answer.body);
        }
    });
}

/// As plain decimal numbers, which exporters of the broker's own figures take.
#[test]
fn sys_topics_have_the_same_figures() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("sys_topics", "true").start();
        let mut client = Connect::v5("c").login("u", "secret").accepted(broker.port());
        assert!(client.may_subscribe("$SYS/broker/plugin/http-auth/#"));
        let mut known = std::collections::HashMap::new();
        let are_all_there = eventually(PATIENCE, || {
            while let Some(message) = client.receive(std::time::Duration::from_millis(20)) {
                let value: u64 =
                    String::from_utf8(message.payload).unwrap().parse().expect("a decimal number");
                known.insert(message.topic.rsplit_once("http-auth/").unwrap().1.to_owned(), value);
            }
            known.get("logins/allowed") == Some(&1) && known.get("ready") == Some(&1) && known.len() >= 15
        });
        assert!(are_all_there, "mosquitto {version}: {known:?}");
    });
}

#[test]
fn they_count_what_was_refused_and_why() {
    let api = api("");
    api.answer(Reply::status(403));
    let admin = Admin::somewhere();
    let broker = admin.of(broker_asking(Version::V2_1, &api)).option("throttle_after", 1).start();
    let metric = |name: &str| admin.metric(&format!("mosquitto_http_auth_{name}"));
    for n in 0..3 {
        Connect::v5("c").login("u", format!("wrong{n}")).refused(broker.port());
    }
    api.answer(Reply::status(503));
    assert!(Connect::v5("e").login("w", "right").attempt(broker.port()).is_err());
    let unanswered = r#"decisions_total{question="login",result="no_answer",source="no_answer"}"#;
    assert!(eventually(PATIENCE, || metric(unanswered) == 1.0), "{}", metric(unanswered));
    let throttled = || metric("throttled_logins_total");
    assert!(eventually(PATIENCE, || throttled() >= 1.0), "{}", throttled());
    assert!(metric(r#"decisions_total{question="login",result="deny",source="api"}"#) >= 1.0);
    assert_eq!(metric("kicks_total"), 0.0);
    api.answer(Reply::status(200));
    let mut client = Connect::v5("d").login("v", "right").accepted(broker.port());
    admin.carries_out("kick", &json!({"username": "v"}));
    assert!(client.wait_until_closed(PATIENCE));
    assert_eq!(metric("kicks_total"), 1.0);
    broker.sighup();
    assert!(eventually(PATIENCE, || metric(r#"reloads_total{result="ok"}"#) >= 1.0));
}
