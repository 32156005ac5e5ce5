//! `explain` tells what would be decided, and changes nothing.

use serde_json::{Value, json};

use crate::support::{
    Admin, Connect, PASSWORD, PATIENCE, Reply, Version, broker_asking, eventually, friendly_api, local_user,
    on_every_broker,
};

#[test]
fn what_is_explained_is_what_happens() {
    on_every_broker(|version| {
        let api = friendly_api();
        let admin = Admin::somewhere();
        let broker = admin
            .of(broker_asking(version, &api))
            .option("user", local_user("joe"))
            .file("rules", "user joe\ntopic readwrite home/#\n")
            .option("acl_file", "rules")
            .start();
        let mut client = Connect::v5("c1").login("sensor-1", "secret").accepted(broker.port());
        client.publish_acknowledged("t", "x");
        let mut joe = Connect::v5("j1").login("joe", PASSWORD).accepted(broker.port());
        api.wait_until_answered(PATIENCE);
        let before = (api.requests().len(), admin.get("/metrics").body);
        let explain = |fields: Value| admin.carries_out("explain", &fields);

        let told = explain(json!({"username": "sensor-1", "password": "secret"}));
        assert_eq!((&told["decision"], &told["by"]), (&json!("allow"), &json!("cache")), "{told}");
        assert!(told["until"].as_f64() > told["since"].as_f64(), "{told}");
        let told = explain(json!({"username": "sensor-1", "password": "another"}));
        assert_eq!((&told["decision"], &told["by"]), (&json!("ask"), &json!("api")), "{told}");
        let topic = |username: &str, clientid: &str, topic: &str, acc: &str| {
            explain(json!({"username": username, "clientid": clientid, "topic": topic, "acc": acc}))
        };
        let told = topic("sensor-1", "c1", "t", "write");
        assert_eq!((&told["decision"], &told["by"]), (&json!("allow"), &json!("cache")), "{told}");
        assert_eq!(topic("sensor-1", "c1", "t", "read")["decision"], "ask");
        assert_eq!(topic("sensor-1", "c2", "t", "write")["decision"], "ask");
        for (name, decision) in [("home/1", "allow"), ("office/1", "deny")] {
            let told = topic("joe", "j1", name, "write");
            assert_eq!((&told["decision"], &told["by"]), (&json!(decision), &json!("local")), "{told}");
        }
        for (password, decision) in [(PASSWORD, "allow"), ("wrong", "deny")] {
            let told = explain(json!({"username": "joe", "password": password}));
            assert_eq!((&told["decision"], &told["by"]), (&json!(decision), &json!("local")), "{told}");
        }
        assert_eq!(explain(json!({"username": "joe"}))["decision"], "unknown");
        assert_eq!(explain(json!({}))["decision"], "defer");
        assert_eq!(topic("a+b", "c", "t", "read")["decision"], "deny");
        assert_eq!(topic("", "c", "t", "read")["decision"], "deny");

        assert_eq!(api.requests().len(), before.0, "mosquitto {version}: it asks nobody");
        let without_time = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.contains("broker_held_up")).map(str::to_owned).collect()
        };
        assert_eq!(without_time(&admin.get("/metrics").body), without_time(&before.1), "it counts nothing");
        assert!(joe.may_subscribe("home/#"));
    });
}

#[test]
fn an_api_that_is_left_alone_is_told() {
    let api = friendly_api();
    let admin = Admin::somewhere();
    let broker = admin
        .of(broker_asking(Version::V2_1, &api))
        .option("acl_cache_ttl", "1s")
        .option("timeout", "200ms")
        .start();
    let mut client = Connect::v5("c1").login("u", "secret").accepted(broker.port());
    client.publish_acknowledged("known", "x");
    api.stop();
    let explain = |topic: &str| {
        admin.carries_out("explain", &json!({"username": "u", "clientid": "c1", "topic": topic, "acc": 2}))
    };
    let mut number = 0;
    let is_open = eventually(PATIENCE, || {
        number += 1;
        let _ = Connect::v5("c2").login(format!("u{number}"), "x").attempt(broker.port());
        client.publish(format!("t{number}"), "x");
        admin.get("/readyz").status == 503
    });
    assert!(is_open, "{}", admin.get("/figures").body);
    assert!(eventually(PATIENCE, || {
        let told = explain("unknown");
        client.publish(format!("t{number}"), "x");
        number += 1;
        told["decision"] == "deny" && told["by"] == "no_answer"
    }));
    assert!(eventually(PATIENCE, || explain("known")["by"] == "stale"), "{}", explain("known"));
    // Who comes back would lose what waits for it.
    let told =
        admin.carries_out("explain", &json!({"username": "u", "clientid": "c9", "password": "secret"}));
    let steps = told["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["step"] == "what it left behind"), "{told}");
    assert_eq!(admin.metric("mosquitto_http_auth_ready"), 0.0);
    api.restart().unwrap();
    api.answer(Reply::status(200));
    assert!(eventually(PATIENCE, || admin.get("/readyz").status == 200));
}
