//! Rights by answers pass to nobody else, and end when they should: attacks that worked.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{
    Admin, Broker, Client, Connect, Gate, MockApi, PATIENCE, Reply, Version, Will, api, eventually,
    on_every_broker,
};
use super::{allowing, is_login, log_in, may_publish, reading, says};

/// All have one username, as where the password is a token, and rights by their passwords.
fn by_password(rights: fn(&str) -> Value) -> MockApi {
    let api = api("");
    api.answer_with(move |request| match is_login(request) {
        true => Reply::json(&rights(request.field("password"))),
        false => Reply::status(403),
    });
    api
}

fn token(client_id: &str, token: &str) -> Connect {
    Connect::v5(client_id).login("token", token)
}

fn everything() -> Value {
    json!({"is_superuser": true})
}

/// A connection that is taken over has its will written when its session has the rights of whoever came.
#[test]
fn a_will_goes_by_what_its_own_password_was_told() {
    on_every_broker(|version| {
        let api = by_password(|token| match token {
            "mallory" => allowing(&["mallory/#"]),
            _ => everything(),
        });
        let broker = reading(version, &api).option("acl_no_match", "deny").start();
        let mut watcher = token("watcher", "watcher").accepted(broker.port());
        assert!(watcher.may_subscribe("#"));
        for topic in ["secret/alarm", "mallory/t"] {
            let will = Will { topic: topic.into(), payload: b"x".to_vec(), qos: 1, retain: false };
            let mut mallory = token("alice", "mallory").will(will).accepted(broker.port());
            assert!(may_publish(&mut mallory, "mallory/here"));
            let mut alice = token("alice", "alice").accepted(broker.port());
            assert!(mallory.wait_until_closed(PATIENCE));
            assert!(may_publish(&mut alice, "secret/t"));
            alice.disconnect();
        }
        let received: Vec<_> = std::iter::from_fn(|| watcher.receive(Duration::from_millis(500)))
            .map(|message| message.topic)
            .collect();
        let expected = ["mallory/here", "secret/t", "mallory/here", "mallory/t", "secret/t"];
        assert_eq!(received, expected, "mosquitto {version}");
    });
}

/// The same with the same password, where rights go by where somebody is (`auth_fields`).
#[test]
fn a_will_goes_by_what_its_own_address_was_told() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| match is_login(request) {
            true if request.field("address") == "127.0.0.2" => Reply::json(&allowing(&["outside/#"])),
            true => Reply::json(&everything()),
            false => Reply::status(403),
        });
        let broker =
            reading(version, &api).option("acl_no_match", "deny").option("auth_fields", "address").start();
        let mut watcher = token("watcher", "t").accepted(broker.port());
        assert!(watcher.may_subscribe("#"));
        for topic in ["secret/alarm", "outside/t"] {
            let will = Will { topic: topic.into(), payload: b"x".to_vec(), qos: 1, retain: false };
            let outside = token("alice", "t").coming_from(Ipv4Addr::new(127, 0, 0, 2)).will(will);
            let mut outside = outside.accepted(broker.port());
            assert!(may_publish(&mut outside, "outside/here"));
            let mut alice = token("alice", "t").accepted(broker.port());
            assert!(outside.wait_until_closed(PATIENCE));
            assert!(may_publish(&mut alice, "secret/t"));
            alice.disconnect();
        }
        let received: Vec<_> = std::iter::from_fn(|| watcher.receive(Duration::from_millis(500)))
            .map(|message| message.topic)
            .collect();
        let expected = ["outside/here", "secret/t", "outside/here", "outside/t", "secret/t"];
        assert_eq!(received, expected, "mosquitto {version}");
    });
}

/// `acl_checks write,subscribe`: a READ is implied by what was subscribed to with these very credentials.
#[test]
fn what_another_password_subscribed_to_implies_nothing() {
    on_every_broker(|version| {
        let api = by_password(|token| match token {
            "mallory" => allowing(&["mallory/#"]),
            _ => everything(),
        });
        let broker = reading(version, &api).option("acl_checks", "write,subscribe").start();
        let mut writer = token("writer", "writer").accepted(broker.port());
        let durable = |name: &str| token("alice", name).durable().accepted(broker.port());
        let mut alice = durable("alice");
        assert!(alice.may_subscribe("secret/#"));
        assert!(may_publish(&mut writer, "secret/1"));
        assert_eq!(alice.receive(PATIENCE).unwrap().topic, "secret/1");
        alice.disconnect();
        let mut mallory = durable("mallory");
        assert!(may_publish(&mut writer, "secret/2"));
        mallory.ping();
        assert!(mallory.receive(Duration::from_millis(300)).is_none(), "mosquitto {version}");
    });
}

/// What came with an answer about a topic ends with that answer: also where a SIGHUP names another API.
#[test]
fn what_an_api_said_of_a_topic_ends_when_another_is_asked() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| match is_login(request) {
            true => Reply::status(200),
            false => Reply::json(&allowing(&["#"])),
        });
        let strict = super::api("");
        strict.answer(Reply::status(403));
        let options = |topics: &MockApi| {
            let (auth, acl) = (api.auth_url(), topics.acl_url());
            format!(
                "auth_url = '{auth}'\nacl_url = '{acl}'\nanswer_rules = true\nreload_checks = false\n\
                 acl_cache_ttl = '1h'\n"
            )
        };
        let setup = Broker::with(version).file("o.toml", options(&api)).option("config_file", "o.toml");
        let broker = setup.start();
        let mut client = log_in(&broker, "alice");
        assert!(may_publish(&mut client, "a"));
        assert!(may_publish(&mut client, "b"));
        assert_eq!(api.topic_checks().len(), 1);
        fs::write(broker.folder().join("o.toml"), options(&strict)).unwrap();
        broker.sighup();
        assert!(eventually(PATIENCE, || !may_publish(&mut client, "b")), "mosquitto {version}");
        assert!(!may_publish(&mut client, "c"), "mosquitto {version}");
    });
}

fn steered(version: Version, api: &MockApi) -> (Broker, Admin) {
    let admin = Admin::somewhere();
    let setup = admin.of(reading(version, api)).option("login_wait", 0);
    (setup.option("acl_prefetch", "write slow/%c").start(), admin)
}

/// The login was answered, and only waits for a topic question when its username is forgotten.
#[test]
fn rules_that_were_forgotten_do_not_come_with_a_login_that_waited() {
    let api = api("");
    api.answer_with(|request| match (is_login(request), request.field("topic")) {
        (true, _) => Reply::json(&allowing(&["gold"])),
        (false, "slow/alice") => Reply::status(403).after(Duration::from_secs(1)),
        (false, _) => Reply::status(403),
    });
    let (broker, admin) = steered(Version::V2_1, &api);
    let mut client = Connect::v5("alice").login("alice", "secret").send(broker.port());
    api.wait_for_requests(2, PATIENCE);
    admin.carries_out("forget", &json!({"username": "alice"}));
    assert_eq!(client.connack(PATIENCE), Some(0), "the login itself was allowed");
    assert!(!may_publish(&mut client, "gold"));
    assert_eq!(api.topic_checks().last().unwrap().field("topic"), "gold");
    // The next login has them.
    let mut client: Client = log_in(&broker, "alice");
    assert!(may_publish(&mut client, "gold"));
}

/// The API is asked again where its answer was forgotten on the way, and what it says then counts: also where the broker
/// waits all the while.
#[test]
fn rules_of_an_answer_from_after_the_forgetting_count() {
    on_every_broker(|version| {
        let api = api("");
        let (broker, admin) = steered(version, &api);
        let gate = Gate::in_front_of(&api, Reply::status(200));
        let mut client = Connect::v5("alice").login("alice", "secret").send(broker.port());
        api.wait_for_requests(1, PATIENCE);
        says(&api, allowing(&["gold", "slow/alice"]));
        admin.carries_out("forget", &json!({"username": "alice"}));
        drop(gate);
        assert_eq!(client.connack(PATIENCE), Some(0), "mosquitto {version}");
        assert!(may_publish(&mut client, "gold"), "mosquitto {version}");
        assert_eq!(api.topic_checks().len(), 0, "mosquitto {version}");
    });
}

/// An API that answers with a token for the client is no API for `answer_rules`, and its tokens are no business of the log.
#[test]
fn a_token_in_place_of_an_object_is_not_logged() {
    let api = api("");
    says(&api, json!("t0psecret"));
    let broker = reading(Version::V2_1, &api).start();
    Connect::v5("alice").login("alice", "secret").refused(broker.port());
    broker.wait_for_log("found a text, expected an object", PATIENCE);
    assert!(!broker.log().contains("t0psecret"), "{}", broker.log());
}
