//! `forget`, `kick`, `recheck` and `status`, on every broker.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::broker::are_for_musl;
use crate::support::{
    Admin, Broker, Connect, Gate, MockApi, PATIENCE, Reply, Version, broker_asking, eventually, fence,
    friendly_api, login, on_every_broker, revocable, side_by_side,
};

fn steered(version: Version, api: &MockApi) -> (Broker, Admin) {
    let admin = Admin::somewhere();
    let broker = admin.of(broker_asking(version, api)).option("login_wait", 0).start();
    (broker, admin)
}

/// What an API does the moment that it takes a right back.
#[test]
fn a_revoked_device_is_off_the_broker_and_stays_out() {
    on_every_broker(|version| {
        let api = friendly_api();
        let is_revoked = revocable(&api, "revoked");
        let (broker, admin) = steered(version, &api);
        let mut revoked = login("revoked").accepted(broker.port());
        let mut other = login("other").accepted(broker.port());
        revoked.publish_acknowledged("t", "x");
        other.publish_acknowledged("t", "x");
        is_revoked.store(true, Ordering::Relaxed);
        assert_eq!(
            admin.carries_out("forget", &json!({"username": "revoked"})),
            json!({"username": "revoked"})
        );
        assert_eq!(admin.carries_out("kick", &json!({"username": "revoked"})), json!({"kicked": 1}));
        assert!(revoked.wait_until_closed(PATIENCE), "mosquitto {version}");
        login("revoked").refused(broker.port());
        assert!(other.try_ping(PATIENCE).is_some());
        broker
            .wait_for_log("Command forget for username \"revoked\", by somebody with the token at", PATIENCE);
        broker.wait_for_log("Command kick for username \"revoked\"", PATIENCE);
        // Who is gone is gone.
        assert_eq!(admin.carries_out("kick", &json!({"username": "revoked"})), json!({"kicked": 0}));
    });
}

#[test]
fn what_is_forgotten_is_asked_again_and_nothing_else() {
    on_every_broker(|version| {
        let api = friendly_api();
        let (broker, admin) = steered(version, &api);
        let mut clients = ["a", "b"].map(|name| login(name).accepted(broker.port()));
        let mut publish = || {
            for client in &mut clients {
                client.publish_acknowledged("t", "x");
            }
            api.topic_checks().len()
        };
        assert_eq!((publish(), publish()), (2, 2), "remembered");
        admin.carries_out("forget", &json!({"username": "a"}));
        // What is asked in the moment of forgetting is asked once more.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!((publish(), publish()), (3, 3), "mosquitto {version}");
        admin.carries_out("forget", &json!({"clientid": "b"}));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!((publish(), publish()), (4, 4), "mosquitto {version}");
        admin.carries_out("forget", &json!({"everything": true}));
        assert_eq!((publish(), publish()), (6, 6), "mosquitto {version}");
        admin.carries_out("forget", &json!({"username": "nobody"}));
        assert_eq!(publish(), 6);
    });
}

/// Also where the broker stands still for the answer.
#[test]
fn an_answer_that_is_on_its_way_is_forgotten_too() {
    on_every_broker(|version| {
        let api = friendly_api();
        let (broker, admin) = steered(version, &api);
        let gate = Gate::in_front_of(&api, Reply::status(200));
        let mut client = login("revoked").send(broker.port());
        api.wait_for_requests(1, PATIENCE);
        // The first answer is an allow, and is sent after this.
        api.answer(Reply::status(403));
        admin.carries_out("forget", &json!({"username": "revoked"}));
        drop(gate);
        assert_ne!(client.connack(PATIENCE), Some(0), "mosquitto {version}");
        assert_eq!(api.logins().len(), 2);
    });
}

#[test]
fn a_client_is_kicked_by_its_id() {
    on_every_broker(|version| {
        let api = friendly_api();
        let (broker, admin) = steered(version, &api);
        // They share a username.
        let mut clients =
            ["a", "b"].map(|id| Connect::v3(id).login("shared", "secret").durable().accepted(broker.port()));
        assert_eq!(admin.carries_out("kick", &json!({"clientid": "a"})), json!({"kicked": 1}), "{version}");
        assert!(clients[0].wait_until_closed(PATIENCE));
        assert!(clients[1].try_ping(PATIENCE).is_some(), "mosquitto {version}");
        // Its session sleeps now, and is nothing to kick.
        assert_eq!(admin.carries_out("kick", &json!({"clientid": "a"})), json!({"kicked": 0}));
        assert_eq!(admin.carries_out("kick", &json!({"clientid": "nobody"})), json!({"kicked": 0}));
        let _back = Connect::v3("a").login("shared", "secret").durable().accepted(broker.port());
        assert_eq!(admin.carries_out("kick", &json!({"username": "shared"})), json!({"kicked": 2}));
        assert!(clients[1].wait_until_closed(PATIENCE));
    });
}

/// A broker with a second listener, for websockets, and an API that allows everything.
fn with_websockets(version: Version) -> (MockApi, Admin, Broker) {
    let (api, admin) = (friendly_api(), Admin::somewhere());
    let setup = admin.of(broker_asking(version, &api)).option("login_wait", 0);
    let broker = setup.listener(["protocol websockets"]).start();
    (api, admin, broker)
}

/// 2.0 closes them a little later than others, and tells of none of them before that.
#[test]
fn clients_of_websockets_are_kicked_and_counted_like_others() {
    on_every_broker(|version| {
        if are_for_musl() {
            return;
        }
        let (_api, admin, broker) = with_websockets(version);
        let [plain, websockets] = *broker.ports() else { panic!("two ports") };
        let over = |id: &str, name: &str| Connect::v5(id).login(name, "secret").over_websocket();
        let mut clients = ["a", "b", "c"].map(|id| over(id, "shared").accepted(websockets));
        let mut plainly = Connect::v3("d").login("shared", "secret").accepted(plain);
        let mut other = over("other", "other").accepted(websockets);

        assert_eq!(admin.carries_out("kick", &json!({"clientid": "a"})), json!({"kicked": 1}), "{version}");
        assert!(clients[0].wait_until_closed(PATIENCE), "mosquitto {version}");
        let told = admin.carries_out("kick", &json!({"username": "shared"}));
        assert_eq!(told, json!({"kicked": 3}), "mosquitto {version}");
        assert!(clients.iter_mut().all(|client| client.wait_until_closed(PATIENCE)), "mosquitto {version}");
        assert!(plainly.wait_until_closed(PATIENCE));
        assert_eq!(admin.metric("mosquitto_http_auth_kicks_total"), 4.0);
        // Who is gone is gone, and may come back.
        for whom in [json!({"username": "shared"}), json!({"clientid": "a"})] {
            assert_eq!(admin.carries_out("kick", &whom), json!({"kicked": 0}), "mosquitto {version}");
        }
        assert!(over("a", "shared").accepted(websockets).try_ping(PATIENCE).is_some());
        assert!(other.try_ping(PATIENCE).is_some(), "mosquitto {version}");
    });
}

/// 2.0 closes the connection only when it can write to it. Nothing counts that comes from there meanwhile.
#[test]
fn whoever_is_kicked_and_reads_nothing_has_no_say_any_more() {
    side_by_side([Version::V2_0_11, Version::V2_0_21], |version| {
        if are_for_musl() {
            return;
        }
        let (_api, admin, broker) = with_websockets(version);
        let [plain, websockets] = *broker.ports() else { panic!("two ports") };
        let mut deaf = Connect::v3("deaf").login("deaf", "secret").over_websocket().accepted(websockets);
        assert!(deaf.may_subscribe("much"));
        deaf.publish_acknowledged("news", "x");
        let mut watcher = Connect::v3("watcher").login("watcher", "secret").accepted(plain);
        assert!(watcher.may_subscribe("news"));
        // More than the buffers of a connection hold.
        let much = vec![b'x'; 50_000];
        for _ in 0..400 {
            watcher.publish_acknowledged("much", &much);
        }
        assert_eq!(
            admin.carries_out("kick", &json!({"username": "deaf"})),
            json!({"kicked": 1}),
            "{version}"
        );
        assert_eq!(
            admin.carries_out("kick", &json!({"username": "deaf"})),
            json!({"kicked": 0}),
            "{version}"
        );
        deaf.publish("news", "of the deaf");
        std::thread::sleep(Duration::from_millis(500));
        watcher.publish("news", "of the watcher");
        let message = watcher.receive(PATIENCE).unwrap();
        assert_eq!(message.payload, b"of the watcher", "mosquitto {version}");
        // It hears of its end with what it should have read.
        assert!(deaf.wait_until_closed(PATIENCE), "mosquitto {version}");
    });
}

/// What lets it in may be an answer from before.
#[test]
fn who_is_parked_is_kicked_too() {
    let api = friendly_api();
    let (broker, admin) = steered(Version::V2_1, &api);
    let gate = Gate::in_front_of(&api, Reply::status(200));
    let mut client = login("revoked").send(broker.port());
    api.wait_for_requests(1, PATIENCE);
    assert_eq!(admin.carries_out("kick", &json!({"username": "revoked"})), json!({"kicked": 1}));
    drop(gate);
    assert_ne!(client.connack(PATIENCE), Some(0));
    let _in = login("revoked").accepted(broker.port());
}

#[test]
fn a_recheck_asks_about_those_who_are_meant() {
    on_every_broker(|version| {
        let api = friendly_api();
        let is_revoked = revocable(&api, "revoked");
        // A command is no SIGHUP: it asks although that would not.
        let admin = Admin::somewhere();
        let broker = admin.of(broker_asking(version, &api)).option("reload_checks", "false").start();
        let mut revoked = login("revoked").accepted(broker.port());
        let mut others = ["a", "b"].map(|name| login(name).accepted(broker.port()));
        api.forget_requests();
        is_revoked.store(true, Ordering::Relaxed);
        assert_eq!(admin.carries_out("recheck", &json!({"username": "a"})), json!({"sessions": 1}));
        assert_eq!(api.wait_for_requests(1, PATIENCE)[0].field("username"), "a");
        assert!(revoked.try_ping(PATIENCE).is_some());
        assert_eq!(admin.carries_out("recheck", &json!({"username": "revoked"})), json!({"sessions": 1}));
        assert!(revoked.wait_until_closed(PATIENCE), "mosquitto {version}");
        assert_eq!(admin.carries_out("recheck", &json!({"everything": true})), json!({"sessions": 2}));
        for other in &mut others {
            assert!(other.try_ping(PATIENCE).is_some(), "mosquitto {version}");
        }
        // Wanted events are waited for before a fence: about both of them, after two others.
        api.wait_for_requests(4, PATIENCE);
        fence::later_logins(broker.port(), &api);
        let asked = api.logins().iter().filter(|request| request.field("username") == "a").count();
        assert_eq!(asked, 2, "mosquitto {version}");
        // A SIGHUP of somebody else asks about nobody, as the option says.
        api.forget_requests();
        let reloads = || broker.log().matches("Reloading config").count();
        let before = reloads();
        // While it is at it, the broker hears no further signal.
        let is_reloaded = (0..50).any(|_| {
            broker.sighup();
            eventually(PATIENCE / 50, || reloads() > before)
        });
        assert!(is_reloaded, "mosquitto {version}");
        fence::later_logins(broker.port(), &api);
        assert!(api.logins().is_empty(), "mosquitto {version}: {:?}", api.logins());
    });
}

#[test]
fn commands_are_answered_while_the_broker_waits() {
    on_every_broker(|version| {
        let api = friendly_api();
        let admin = Admin::somewhere();
        let broker = admin.of(broker_asking(version, &api)).option("timeout", "10s").start();
        let mut client = login("u").accepted(broker.port());
        let gate = Gate::in_front_of(&api, Reply::status(200));
        api.forget_requests();
        client.publish("t", "x");
        api.wait_for_requests(1, PATIENCE);
        for path in ["/healthz", "/readyz", "/metrics", "/figures", "/"] {
            assert_eq!(admin.get(path).status, 200, "mosquitto {version}: {path}");
        }
        let status = admin.carries_out("status", &json!({}));
        assert_eq!(status["in_flight"], 1, "mosquitto {version}: {status}");
        admin.carries_out("forget", &json!({"username": "somebody"}));
        // Only what needs the broker's thread waits for it, and is carried out when it comes round.
        let answer = admin.command("kick", &json!({"username": "u"}));
        assert_eq!(answer.status, 503, "mosquitto {version}: {answer:?}");
        drop(gate);
        assert!(client.wait_until_closed(PATIENCE), "mosquitto {version}");
    });
}

#[test]
fn status_tells_what_was_decided_and_who_was_refused() {
    on_every_broker(|version| {
        let api = friendly_api();
        let is_revoked = revocable(&api, "refused");
        is_revoked.store(true, Ordering::Relaxed);
        let (broker, admin) = steered(version, &api);
        let mut client = login("u").accepted(broker.port());
        client.publish_acknowledged("t", "x");
        client.publish_acknowledged("t", "x");
        login("refused").refused(broker.port());
        let count = |status: &Value, question: &str, result: &str, source: &str| {
            let decisions = status["decisions"].as_array().unwrap();
            let is_it =
                |it: &&Value| it["question"] == question && it["result"] == result && it["source"] == source;
            decisions.iter().find(is_it).map_or(0, |it| it["count"].as_u64().unwrap())
        };
        let mut status = json!({});
        let has_counted = eventually(PATIENCE, || {
            status = admin.carries_out("status", &json!({}));
            count(&status, "login", "deny", "api") == 1
        });
        assert!(has_counted, "mosquitto {version}: {status}");
        assert_eq!(count(&status, "login", "allow", "api"), 1, "mosquitto {version}: {status}");
        assert_eq!(count(&status, "write", "allow", "api"), 1, "mosquitto {version}: {status}");
        assert_eq!(count(&status, "write", "allow", "cache"), 1, "mosquitto {version}: {status}");
        assert_eq!(status["mode"], if version.is_2_1() { "delayed" } else { "blocking" });
        assert_eq!(status["broker"], if version.is_2_1() { "2.1" } else { "2.0" });
        assert_eq!(status["ready"], true);
        assert_eq!(status["endpoints"][0]["about"], "logins");
        assert_eq!(status["endpoints"][1]["breaker"], "closed");
        let is_timed = |endpoint: &Value| endpoint["latency"].as_f64().is_some_and(|seconds| seconds > 0.0);
        assert!(status["endpoints"].as_array().unwrap().iter().all(is_timed), "{status}");
        let line = status["refused"][0]["line"].as_str().unwrap();
        assert!(line.contains("\"refused\"") && line.contains("403"), "{line}");
        // Who has no token sees figures, and no names.
        let figures = admin.get("/figures").json();
        assert!(figures.get("refused").is_none());
        assert_eq!(figures["minutes"][0]["logins"], json!([1, 1, 0]));
        assert!(!figures.to_string().contains("\\\"refused\\\""), "{figures}");
    });
}

/// What clients ask after their login is shown, and forgotten with everything.
#[test]
fn what_was_learnt_is_shown_until_everything_is_forgotten() {
    on_every_broker(|version| {
        let api = friendly_api();
        let (broker, admin) = steered(version, &api);
        assert_eq!(admin.carries_out("status", &json!({}))["learnt"], json!([]));
        assert_eq!(admin.carries_out("status", &json!({}))["templates"], 0);
        login("sensor-1").accepted(broker.port()).publish_acknowledged("state/sensor-1", "on");
        assert_eq!(admin.carries_out("status", &json!({}))["templates"], 1);
        let learnt = || admin.carries_out("status", &json!({}))["learnt"].clone();
        assert_eq!(learnt(), json!(["write state/%c"]), "mosquitto {version}");
        admin.carries_out("forget", &json!({"username": "sensor-1"}));
        assert_ne!(learnt(), json!([]), "it is about all whose names look alike");
        admin.carries_out("forget", &json!({"everything": true}));
        assert_eq!(learnt(), json!([]));
    });
}
