//! What one broker has asked, the others need not; and the store tells nothing and is not believed.

use std::thread;
use std::time::Duration;

use redis::{Value, cmd};
use serde_json::json;

use crate::store::{Kind, SECRET, Sharer, Store, shared};
use crate::support::{
    Broker, Connect, MockApi, PATIENCE, Reply, Version, broker_asking, eventually, friendly_api, log_in,
    on_every_broker, side_by_side,
};

/// Logs in, subscribes and publishes, as alice or somebody else: a login and three topics, since she reads it, too.
pub fn be(name: &str, sharer: &Sharer) {
    let mut client = Connect::v5(name).login(name, "s3cret-password").accepted(sharer.port());
    assert!(client.may_subscribe("news/today"));
    client.publish("news/today", "x");
    assert_eq!(client.receive(PATIENCE).expect("the message").topic, "news/today");
}

/// The questions of [`be`].
const QUESTIONS: usize = 4;

pub fn wait_for_verdicts(store: &Store, count: usize) {
    let stored = || store.verdicts().len();
    assert!(eventually(PATIENCE, || stored() >= count), "{} verdicts are stored", stored());
}

fn asking(version: Version, api: &MockApi) -> crate::support::Setup {
    // What is only guessed may be asked a moment later than a test looks.
    broker_asking(version, api)
        .option("shared_cache_timeout", "1s")
        .option("lookahead", false)
        .option("acl_learn", false)
}

#[test]
fn what_one_broker_has_asked_the_other_is_not_asked() {
    for kind in Kind::BOTH {
        on_every_broker(|version| {
            let (api, store) = (friendly_api(), Store::start(kind));
            let [one, other] = [(); 2].map(|()| Sharer::start(asking(version, &api), &store));
            be("alice", &one);
            wait_for_verdicts(&store, QUESTIONS);
            assert_eq!(api.requests().len(), QUESTIONS);
            be("alice", &other);
            assert_eq!(api.requests().len(), QUESTIONS, "mosquitto {version}");
            assert_eq!(other.metric("lookups_total{result=\"hit\"}"), QUESTIONS as f64);
            be("bob", &other);
            assert_eq!(api.requests().len(), 2 * QUESTIONS, "that is somebody else");
        });
    }
}

#[test]
fn a_broker_that_is_started_again_has_forgotten_nothing() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let mut sharer = Sharer::start(asking(version, &api), &store);
        be("alice", &sharer);
        wait_for_verdicts(&store, QUESTIONS);
        sharer.broker.restart();
        sharer.wait_until(true);
        be("alice", &sharer);
        assert_eq!(api.requests().len(), QUESTIONS, "mosquitto {version}");
    });
}

#[test]
fn the_first_question_of_a_broker_waits_for_the_connection() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let patient = || asking(version, &api);
        let one = Sharer::start(patient(), &store);
        be("alice", &one);
        wait_for_verdicts(&store, QUESTIONS);
        be("alice", &Sharer::alone(store.shared_by(patient())));
        assert_eq!(api.requests().len(), QUESTIONS, "mosquitto {version}");
    });
}

#[test]
fn only_what_was_allowed_is_shared_and_it_tells_nothing() {
    let (api, store) = (friendly_api(), Store::start(Kind::Redis));
    api.answer_with(|request| Reply::status(if request.field("username") == "mallory" { 401 } else { 200 }));
    let sharer = Sharer::start(asking(Version::V2_1, &api), &store);
    be("alice", &sharer);
    wait_for_verdicts(&store, QUESTIONS);
    Connect::v5("m").login("mallory", "wrong").refused(sharer.port());
    thread::sleep(Duration::from_millis(100));
    let names = store.verdicts();
    assert_eq!(names.len(), QUESTIONS);
    sharer.admin.carries_out("forget", &serde_json::json!({"username": "alice"}));
    for name in store.names("") {
        let Value::BulkString(content) = store.does(&cmd("DUMP").arg(&name).take()) else { panic!("{name}") };
        let all = [name.as_bytes(), &content].concat();
        for secret in ["alice", "s3cret", "news", SECRET] {
            let holds = all.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!holds, "{name} holds {secret}");
        }
    }
    // Each ends by itself.
    for name in names {
        let left: i64 = redis::from_redis_value(store.does(&cmd("PTTL").arg(&name).take())).unwrap();
        assert!((1..=30_000).contains(&left), "{left}");
    }
}

#[test]
fn what_an_answer_says_of_its_time_holds_for_all() {
    let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
    api.answer(Reply::status(200).header("Cache-Control", "no-store"));
    let setup = || asking(Version::V2_1, &api).option("api_cache_control", true).option("stale_ttl", 0);
    let [one, other] = [(); 2].map(|()| Sharer::start(setup(), &store));
    let login =
        |sharer: &Sharer, name: &str| drop(Connect::v5(name).login(name, "p").accepted(sharer.port()));
    login(&one, "alice");
    login(&other, "alice");
    assert_eq!((api.logins().len(), store.verdicts().len()), (2, 0));
    api.answer(Reply::status(200).header("Cache-Control", "max-age=2"));
    login(&one, "bob");
    wait_for_verdicts(&store, 1);
    login(&other, "bob");
    assert_eq!(api.logins().len(), 3);
    thread::sleep(Duration::from_millis(2_100));
    api.answer(Reply::status(403));
    Connect::v5("bob").login("bob", "p").refused(other.port());
}

#[test]
fn what_others_have_written_does_not_count() {
    side_by_side(Kind::BOTH, |kind| {
        let (api, store) = (friendly_api(), Store::start(kind));
        let [one, other] = [(); 2].map(|()| Sharer::start(asking(Version::V2_1, &api), &store));
        be("alice", &one);
        wait_for_verdicts(&store, QUESTIONS);
        api.answer(Reply::status(403));
        // A verdict under another name, garbage, nothing, and something of another type.
        let names = store.verdicts();
        for (index, name) in names.iter().enumerate() {
            let content = store.does(&cmd("GET").arg(&names[(index + 1) % names.len()]).take());
            let Value::BulkString(content) = content else { panic!("{content:?}") };
            store.does(&cmd("SET").arg(name).arg(content).take());
        }
        let refused = || Connect::v5("alice").login("alice", "s3cret-password").refused(other.port());
        let again = || {
            other.admin.carries_out("forget", &serde_json::json!({"everything": true}));
            thread::sleep(Duration::from_millis(100));
        };
        refused();
        let garbage = [vec![0; 75], vec![b'x'; 1 << 20], vec![1, 1, 0, 200]];
        for bytes in garbage {
            again();
            names.iter().for_each(|name| drop(store.does(&cmd("SET").arg(name).arg(&bytes).take())));
            refused();
        }
        again();
        for name in &names {
            store.does(&cmd("DEL").arg(name).take());
            store.does(&cmd("RPUSH").arg(name).arg("a list").take());
        }
        refused();
        assert!(other.metric("lookups_total{result=\"foreign\"}") >= 5.0);
        other.broker.wait_for_log("were not signed with the secret", PATIENCE);
        assert_eq!(other.metric("up"), 1.0);
    });
}

#[test]
fn another_secret_or_another_api_is_another_cache() {
    let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
    let setup = || asking(Version::V2_1, &api);
    let one = Sharer::start(setup(), &store);
    be("alice", &one);
    wait_for_verdicts(&store, QUESTIONS);
    let other_secret = Sharer::of(shared(setup(), &store.url()).file("cache.secret", "x".repeat(40)));
    be("alice", &other_secret);
    assert_eq!(api.requests().len(), 2 * QUESTIONS);
    let other_api = friendly_api();
    be("alice", &Sharer::start(asking(Version::V2_1, &other_api), &store));
    assert_eq!(other_api.requests().len(), QUESTIONS);
    let with_header = Sharer::start(setup().option("header", "Authorization: Bearer 2"), &store);
    be("alice", &with_header);
    assert_eq!(api.requests().len(), 3 * QUESTIONS);
    // Whoever is on the way to one broker's API lets nobody in at the others.
    be("alice", &Sharer::start(setup().option("tls_insecure", true), &store));
    assert_eq!(api.requests().len(), 4 * QUESTIONS);
}

#[test]
fn the_secret_is_changed_while_brokers_run() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let [one, other] = [(); 2].map(|()| Sharer::start(asking(version, &api), &store));
        be("alice", &one);
        wait_for_verdicts(&store, QUESTIONS);
        let new = "a-new-secret-of-the-tests-0123456789";
        let change = |sharer: &Sharer, text: &str| {
            std::fs::write(sharer.broker.folder().join("cache.secret"), text).unwrap();
            sharer.broker.sighup();
            sharer.broker.wait_for_log("Files are re-read", PATIENCE);
            thread::sleep(Duration::from_millis(300));
            sharer.wait_until(true);
        };
        // The first broker writes with the new one, the other still knows the old one alone.
        change(&one, &format!("{new}\n{SECRET}\n"));
        be("bob", &one);
        wait_for_verdicts(&store, 2 * QUESTIONS);
        change(&other, &format!("{new}\n{SECRET}\n"));
        let asked = api.logins().len();
        be("alice", &other);
        be("bob", &other);
        assert_eq!(api.logins().len(), asked, "mosquitto {version}: under either secret");
        // What was stored since is stored under the new one: who has that alone finds it, and nothing from before.
        let third = Sharer::of(shared(asking(version, &api), &store.url()).file("cache.secret", new));
        be("bob", &third);
        assert_eq!(api.logins().len(), asked, "mosquitto {version}");
    });
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let failed = |setup: crate::support::Setup| setup.start_expecting_failure().log;
    let api = friendly_api();
    let setup = || broker_asking(Version::V2_1, &api);
    let log = failed(setup().option("shared_cache", "redis://127.0.0.1"));
    assert!(log.contains("plugin_opt_shared_cache: found it without shared_cache_secret_file"), "{log}");
    let log = failed(shared(setup(), "redis://127.0.0.1").file("cache.secret", "t0psecret"));
    assert!(
        log.contains("holds no secret: found a line of 9 characters; expected") && !log.contains("t0psecret"),
        "{log}"
    );
    let log = failed(shared(setup(), "http://:t0psecret@127.0.0.1"));
    assert!(log.contains("expected redis:// or rediss://") && !log.contains("t0psecret"), "{log}");
    let log = failed(shared(setup(), "redis://127.0.0.1").option("shared_cache_timeout", "2s"));
    assert!(log.contains("plugin_opt_shared_cache_timeout"), "{log}");
    let broker: Broker = shared(setup(), "redis://user:t0psecret@127.0.0.1:1").start();
    broker.wait_for_log("The shared cache at redis://127.0.0.1:1 cannot be used now", PATIENCE);
    assert!(!broker.log().contains("t0psecret"));
}

/// What one broker has seen devices ask, another knows from its first moment on.
#[test]
fn what_one_broker_has_learnt_the_others_know() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let learning =
            || broker_asking(version, &api).option("lookahead", false).option("shared_cache_timeout", "1s");
        let one = Sharer::start(learning(), &store);
        assert!(log_in(&one.broker, "sensor-0001").may_subscribe("commands/sensor-0001/#"));
        assert!(eventually(2 * PATIENCE, || store.names("mha:1:learnt:").len() == 1), "nothing is told");
        let other = Sharer::start(learning(), &store);
        let learnt = || other.admin.carries_out("status", &json!({}))["learnt"].clone();
        assert!(
            eventually(PATIENCE, || learnt() == json!(["subscribe commands/%c/#"])),
            "mosquitto {version}"
        );
        api.forget_requests();
        let _newcomer = log_in(&other.broker, "sensor-4711");
        let is_asked = || api.topic_checks().iter().any(|it| it.field("topic") == "commands/sensor-4711/#");
        assert!(eventually(PATIENCE, is_asked), "it is asked about before it subscribes");
    });
}
