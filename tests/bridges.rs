//! A bridge of another broker logs in like any client. Besides its messages it publishes its state, which nobody has to
//! allow.

mod support;
use support::{
    Broker, Client, Connect, MockApi, PASSWORD, PATIENCE, Version, api, broker_asking, eventually,
    local_user, on_every_broker,
};

const STATE: &str = "$SYS/broker/connection/edge/state";

/// A broker with this plugin, and one in front of it that has a bridge to it under the name `bridge`.
fn bridged(version: Version, api: &MockApi, lines: &[&str]) -> (Broker, Broker) {
    let center = broker_asking(version, api).option("user", local_user("watcher")).start();
    let edge = Broker::with(version).without_plugin().global("allow_anonymous true").listener([
        "connection to-the-center".to_owned(),
        format!("address 127.0.0.1:{}", center.port()),
        "remote_clientid edge".to_owned(),
        "remote_username bridge".to_owned(),
        "remote_password secret".to_owned(),
        "topic up/# out 1".to_owned(),
        format!("topic down/# in 1\n{}", lines.join("\n")),
    ]);
    (center, edge.start())
}

/// Messages go through in both directions.
fn assert_works(watcher: &mut Client, edge: &Broker) {
    let mut beyond = Connect::v5("beyond").accepted(edge.port());
    assert!(watcher.may_subscribe("up/#") && beyond.may_subscribe("down/#"));
    // The bridge may not be up yet.
    assert!(eventually(PATIENCE, || {
        beyond.publish_acknowledged("up/1", "x");
        watcher.receive(std::time::Duration::from_millis(500)).is_some_and(|message| message.topic == "up/1")
    }));
    assert!(eventually(PATIENCE, || {
        watcher.publish_acknowledged("down/1", "x");
        beyond.receive(std::time::Duration::from_millis(500)).is_some_and(|message| message.topic == "down/1")
    }));
}

fn watcher(center: &Broker) -> Client {
    Connect::v5("watcher").login("watcher", PASSWORD).accepted(center.port())
}

fn asked_about_the_state(api: &MockApi) -> bool {
    api.topic_checks().iter().any(|request| request.field("topic") == STATE)
}

#[test]
fn a_bridge_whose_state_is_refused_works() {
    on_every_broker(|version| {
        let api = api("user bridge secret\nallow all up/#\nallow all down/#\n");
        let (center, edge) = bridged(version, &api, &[]);
        assert_works(&mut watcher(&center), &edge);
        assert!(asked_about_the_state(&api));
        center.wait_for_log(&format!("Refused write of \"{STATE}\""), PATIENCE);
        assert_eq!(center.log().matches("as edge ").count(), 1, "it is not disconnected for that");
    });
}

#[test]
fn a_bridge_whose_state_is_allowed_shows_it() {
    on_every_broker(|version| {
        let api =
            api(&format!("user bridge secret\nallow all up/#\nallow all down/#\nallow write {STATE}\n"));
        let (center, edge) = bridged(version, &api, &[]);
        let mut watcher = watcher(&center);
        assert_works(&mut watcher, &edge);
        assert!(watcher.may_subscribe(STATE));
        assert_eq!(watcher.receive(PATIENCE).expect("the state").payload, b"1");
    });
}

#[test]
fn a_bridge_without_notifications_publishes_no_state() {
    on_every_broker(|version| {
        let api = api("user bridge secret\nallow all up/#\nallow all down/#\n");
        let (center, edge) = bridged(version, &api, &["notifications false"]);
        assert_works(&mut watcher(&center), &edge);
        assert!(!asked_about_the_state(&api));
    });
}
