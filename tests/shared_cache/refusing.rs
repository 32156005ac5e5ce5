//! A command that is refused here is carried out nowhere, and the log says so.

use std::thread;

use serde_json::json;

use crate::store::{Kind, Sharer, Store};
use crate::support::{
    Gate, MockApi, PATIENCE, Reply, Setup, Version, broker_asking, eventually, friendly_api, login,
    on_every_broker,
};

/// Kicks that may wait for a broker's thread.
const KICKS: usize = 64;

const TOO_MANY: &str = "too many commands wait for the broker's thread";
const ANOTHER: &str = "another recheck is being carried out; try again in a moment";

fn asking(version: Version, api: &MockApi) -> Setup {
    // Longer than any command waits for the broker's thread.
    broker_asking(version, api).option("timeout", "10s").option("lookahead", false).option("acl_learn", false)
}

#[test]
fn what_is_refused_at_one_broker_is_told_to_no_other() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let [one, other] = [(); 2].map(|()| Sharer::start(asking(version, &api), &store));
        let mut spared = login("refused").accepted(other.port());
        let mut holding = login("holding").accepted(one.port());
        let gate = Gate::in_front_of(&api, Reply::status(200));
        api.forget_requests();
        holding.publish("t", "x");
        api.wait_for_requests(1, PATIENCE);

        // The broker stands still, and these wait for its thread.
        let give = |name: &str, username: &str| one.admin.command(name, &json!({"username": username}));
        let give = &give;
        thread::scope(|scope| {
            let wait = |number| scope.spawn(move || give("kick", &format!("nobody{number}")));
            let kicks: Vec<_> = (0..KICKS).map(wait).collect();
            for kick in kicks {
                let answer = kick.join().unwrap();
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.body.contains("it carries this out when it does"), "{answer:?}");
            }
        });
        let answer = give("kick", "refused");
        assert_eq!((answer.status, answer.json()), (503, json!({"error": TOO_MANY})), "{version}");

        // Of two rechecks one waits. The other one is refused at once.
        thread::scope(|scope| {
            let rechecks = ["a", "b"].map(|name| scope.spawn(move || give("recheck", name)));
            let is_refused = || rechecks.iter().any(|recheck| recheck.is_finished());
            assert!(eventually(PATIENCE, is_refused), "{version}");
            drop(gate);
            let mut answers = rechecks.map(|recheck| recheck.join().unwrap());
            answers.sort_by_key(|answer| answer.status);
            assert_eq!((answers[0].status, answers[0].json()), (200, json!({"sessions": 0})), "{version}");
            assert_eq!((answers[1].status, answers[1].json()), (503, json!({"error": ANOTHER})), "{version}");
        });

        let log = |line: &str| one.broker.wait_for_log(line, PATIENCE);
        log("Command kick for username \"nobody0\", by somebody with the token at 127.0.0.1");
        log("Command kick for username \"refused\", by somebody with the token at 127.0.0.1");
        log(&format!(": {TOO_MANY}."));
        log(&format!(": {ANOTHER}."));
        // What was accepted is carried out everywhere, and what was refused nowhere.
        one.admin.carries_out("kick", &json!({"username": "last"}));
        other.broker.wait_for_log("Command kick for username \"last\", by another broker", PATIENCE);
        let told = other.metric("commands_total{way=\"heard\"}");
        assert_eq!(told, KICKS as f64 + 2.0, "mosquitto {version}");
        assert!(!other.broker.log().contains("kick for username \"refused\""), "mosquitto {version}");
        assert!(spared.try_ping(PATIENCE).is_some(), "mosquitto {version}");
    });
}

/// There nobody waits for the answer nor gives the command once more, so what does not fit at once waits.
#[test]
fn what_another_broker_has_no_room_for_at_once_it_carries_out_later() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let [one, other] = [(); 2].map(|()| Sharer::start(asking(version, &api), &store));
        let mut holding = login("holding").accepted(other.port());
        let mut kicked = login("kicked").accepted(other.port());
        let gate = Gate::in_front_of(&api, Reply::status(200));
        api.forget_requests();
        holding.publish("t", "x");
        api.wait_for_requests(1, PATIENCE);
        for number in 0..KICKS {
            one.admin.carries_out("kick", &json!({"username": format!("nobody{number}")}));
        }
        one.admin.carries_out("kick", &json!({"username": "kicked"}));
        for number in 0..3 {
            one.admin.carries_out("recheck", &json!({"username": format!("nobody{number}")}));
        }
        let heard = || other.metric("commands_total{way=\"heard\"}") == KICKS as f64 + 4.0;
        assert!(eventually(PATIENCE, heard), "mosquitto {version}");
        drop(gate);
        assert!(kicked.wait_until_closed(PATIENCE), "mosquitto {version}");
        let log = |line: &str| other.broker.wait_for_log(line, PATIENCE);
        log("Command kick for username \"nobody0\", by another broker: 0 disconnected.");
        log("Command kick for username \"kicked\", by another broker: 1 disconnected.");
        for number in 0..3 {
            log(&format!(
                "Command recheck for username \"nobody{number}\", by another broker: the API is asked about 0 sessions."
            ));
        }
    });
}
