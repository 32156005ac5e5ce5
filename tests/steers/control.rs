//! Commands over `$CONTROL/http-auth/v1`, from those who may, on every broker.

use serde_json::{Value, json};

use crate::support::broker::{plugin, plugin_line};
use crate::support::{
    Broker, Client, Connect, MockApi, PASSWORD, PATIENCE, Reply, Version, broker_asking, friendly_api,
    local_user, on_every_broker,
};

const TOPIC: &str = "$CONTROL/http-auth/v1";
const RESPONSE: &str = "$CONTROL/http-auth/v1/response";

fn steered(version: Version, api: &MockApi) -> Broker {
    broker_asking(version, api).option("control", "true").start()
}

/// Sends commands and returns the answers.
fn commands(client: &mut Client, payload: &str) -> Vec<Value> {
    client.publish_acknowledged(TOPIC, payload);
    let message = client.receive(PATIENCE).expect("an answer");
    assert_eq!(message.topic, RESPONSE);
    let answer: Value = serde_json::from_slice(&message.payload).unwrap();
    answer["responses"].as_array().unwrap().clone()
}

#[test]
fn whoever_the_api_lets_write_there_gives_commands() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = steered(version, &api);
        let mut operator = Connect::v5("operator").login("operator", "secret").accepted(broker.port());
        let mut listener = Connect::v5("listener").login("listener", "secret").accepted(broker.port());
        assert!(listener.may_subscribe("$CONTROL/#"));
        let mut device = Connect::v5("c1").login("device", "secret").accepted(broker.port());
        device.publish_acknowledged("t", "x");
        api.forget_requests();
        let answers = commands(
            &mut operator,
            r#"{"commands":[{"command":"forget","username":"device","correlationData":"1"},
                {"command":"explain","username":"device","clientid":"c1","topic":"t","acc":"write"},
                {"command":"kick","username":"device","correlationData":"3"},
                {"command":"Status"}]}"#,
        );
        assert_eq!(
            answers[0],
            json!({"command": "forget", "data": {"username": "device"}, "correlationData": "1"}),
            "mosquitto {version}"
        );
        assert_eq!(answers[1]["data"]["decision"], "ask", "mosquitto {version}: {answers:?}");
        assert_eq!(
            answers[2],
            json!({"command": "kick", "data": {"kicked": 1}, "correlationData": "3"}),
            "mosquitto {version}"
        );
        assert_eq!(answers[3]["data"]["ready"], true, "mosquitto {version}: {answers:?}");
        assert!(device.wait_until_closed(PATIENCE), "mosquitto {version}");
        broker.wait_for_log("Command kick for username \"device\", by \"operator\" (client id", PATIENCE);
        let answers =
            commands(&mut operator, r#"{"commands":[{"command":"recheck","username":"operator"}]}"#);
        assert_eq!(answers[0]["data"], json!({"sessions": 1}), "mosquitto {version}: {answers:?}");
        // Only the client that has asked hears of it.
        listener.ping();
        assert!(listener.receive(std::time::Duration::ZERO).is_none(), "mosquitto {version}");
        // It may disconnect itself, as anybody else.
        operator.publish(TOPIC, r#"{"commands":[{"command":"kick","clientid":"operator"}]}"#);
        assert!(operator.wait_until_closed(PATIENCE), "mosquitto {version}");
    });
}

#[test]
fn a_bad_command_disconnects_nobody() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = steered(version, &api);
        let mut operator = Connect::v5("operator").login("operator", "secret").accepted(broker.port());
        for (payload, error) in [
            ("", "Payload not valid JSON"),
            ("\u{0}", "Payload not valid JSON"),
            ("{}", "Invalid/missing commands"),
            (r#"{"commands":[{"command":"reboot"}]}"#, "Unknown command"),
            (r#"{"commands":[{"command":"kick","everything":true}]}"#, "expected a username or a clientid"),
            (&"[".repeat(15_000), "Payload not valid JSON"),
            (&" ".repeat(20_000), "Payload too large"),
        ] {
            let answers = commands(&mut operator, payload);
            let is_said = answers[0]["error"].as_str().unwrap().contains(error);
            assert!(is_said, "mosquitto {version}: {payload:.40}: {answers:?}");
        }
        assert!(operator.try_ping(PATIENCE).is_some());
    });
}

/// Not by an option that lets messages through, not by being a local user who may do everything.
#[test]
fn nobody_else_gives_that_right() {
    on_every_broker(|version| {
        let api = friendly_api();
        let base =
            || broker_asking(version, &api).option("control", "true").option("user", local_user("joe"));
        let give = |broker: &Broker, login: Connect| {
            let mut client = login.accepted(broker.port());
            client.publish(TOPIC, r#"{"commands":[{"command":"status"}]}"#);
            client.ping();
            client.receive(std::time::Duration::from_millis(500)).is_some()
        };
        let joe = || Connect::v5("joe").login("joe", PASSWORD);
        let other = || Connect::v5("other").login("other", "secret");

        let broker = base().start();
        assert!(!give(&broker, joe()), "mosquitto {version}: without an acl_file");
        broker.wait_for_log("Refused a command of \"joe\"", PATIENCE);
        drop(broker);
        let rules = "user joe\ntopic write $CONTROL/http-auth/v1\n";
        let broker = base().file("rules", rules).option("acl_file", "rules").start();
        assert!(give(&broker, joe()), "mosquitto {version}: with a rule");
        assert!(give(&broker, other()), "mosquitto {version}: by the API");
        drop(broker);
        let broker = base().file("rules", "user joe\ntopic #\n").option("acl_file", "rules").start();
        assert!(!give(&broker, joe()), "mosquitto {version}: by a rule about other topics");
        drop(broker);
        let broker = base().option("acl_checks", "subscribe").start();
        assert!(!give(&broker, other()), "mosquitto {version}: by acl_checks");
        drop(broker);
        let broker = base().option("anonymous", "allow").global("allow_anonymous true").start();
        assert!(!give(&broker, Connect::v5("anonymous")), "mosquitto {version}: by anonymous");
        api.answer_with(|request| {
            Reply::status(if request.field("topic").starts_with("$CONTROL") { 403 } else { 200 })
        });
        assert!(!give(&broker, other()), "mosquitto {version}: refused by the API");
    });
}

/// 2.1 has one place for it, for all of its listeners.
#[test]
fn two_copies_start_and_one_of_them_takes_commands() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api)
            .option("control", "true")
            .global("per_listener_settings true")
            .listener([
                plugin_line(&plugin()),
                format!("plugin_opt_auth_url {}", api.auth_url()),
                "plugin_opt_control true".to_owned(),
            ])
            .start();
        if version.is_2_1() {
            broker.wait_for_log("another copy of the plugin gets the commands", PATIENCE);
        }
        Connect::v5("c").login("u", "secret").accepted(broker.ports()[1]);
    });
}

#[test]
fn the_brokers_own_programs_speak_it() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = steered(version, &api);
        let payload = r#"{"commands":[{"command":"forget","everything":true}]}"#;
        let output = broker.run_client(
            "mosquitto_rr",
            &["-V", "5", "-u", "operator", "-P", "x", "-W", "10", "-t", TOPIC, "-e", RESPONSE, "-m", payload],
        );
        let answer = String::from_utf8_lossy(&output.stdout);
        let expected = r#"{"responses":[{"command":"forget","data":{"everything":true}}]}"#;
        assert_eq!(answer.trim(), expected, "mosquitto {version}: {output:?}");
    });
}
