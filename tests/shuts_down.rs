//! The broker stops when it is asked to, whatever the plugin is waiting for, and leaves nothing behind.

use std::time::Duration;

mod support;
use support::dns::{Lookup, NameServer};
use support::{
    Broker, Client, Connect, PATIENCE, Reply, Will, broker_asking, eventually, friendly_api, on_every_broker,
};

/// The longest one question may take.
const TIMEOUT: &str = "2s";

/// The promise is one second more than that; another is for a machine that has other things to do.
const LONGEST: Duration = Duration::from_secs(4);

fn assert_stops(broker: &mut Broker) {
    let version = broker.version();
    let (status, waited) = broker.terminate();
    assert!(status.success(), "mosquitto {version} ended with {status}");
    assert!(waited < LONGEST, "mosquitto {version} needed {waited:?} to stop");
}

fn log_in(broker: &Broker, number: usize) -> Client {
    login(number).accepted(broker.port())
}

fn login(number: usize) -> Connect {
    Connect::v3(format!("client-{number}")).login(format!("user-{number}"), "secret")
}

#[test]
fn without_having_been_asked_anything() {
    on_every_broker(|version| {
        let api = friendly_api();
        assert_stops(&mut broker_asking(version, &api).start());
        assert_eq!(api.connections(), 0, "nothing is sent before there is something to ask");
    });
}

#[test]
fn with_clients_connected() {
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = broker_asking(version, &api).start();
        let mut clients: Vec<_> = (0..20).map(|number| log_in(&broker, number)).collect();
        for client in &mut clients {
            assert!(client.may_subscribe("news/#"));
        }
        clients[0].publish("news/1", "x");
        clients[1].receive(PATIENCE).expect("message");
        assert_stops(&mut broker);
    });
}

#[test]
fn with_logins_in_flight() {
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = broker_asking(version, &api).option("timeout", TIMEOUT).start();
        log_in(&broker, 0);
        api.answer(Reply::Hang);
        let waiting: Vec<_> = (1..=100).map(|number| login(number).send(broker.port())).collect();
        api.wait_for_requests(2, PATIENCE);
        assert_stops(&mut broker);
        drop(waiting);
    });
}

#[test]
fn with_a_topic_check_in_flight() {
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = broker_asking(version, &api).option("timeout", TIMEOUT).start();
        let mut client = log_in(&broker, 0);
        api.answer(Reply::Hang);
        client.publish("news/1", "x");
        api.wait_for_requests(2, PATIENCE);
        assert_stops(&mut broker);
    });
}

/// The wills of all who are still there are sent, and checked, while the broker stops.
#[test]
fn with_wills_to_send_and_nobody_to_ask() {
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = broker_asking(version, &api).option("timeout", TIMEOUT).start();
        let will = |number: usize| Will {
            topic: format!("wills/{number}").into_bytes(),
            payload: b"bye".to_vec(),
            qos: 0,
            retain: true,
        };
        let _mortal: Vec<_> =
            (0..20).map(|number| login(number).will(will(number)).accepted(broker.port())).collect();
        api.answer(Reply::Hang);
        let (status, waited) = broker.terminate();
        assert!(status.success(), "{status}");
        assert!(waited < LONGEST, "{waited:?}");
    });
}

#[test]
fn with_the_api_gone() {
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = broker_asking(version, &api).option("timeout", TIMEOUT).start();
        let _client = log_in(&broker, 0);
        api.stop();
        for number in 1..=30 {
            login(number).unanswered(broker.port());
        }
        assert_stops(&mut broker);
    });
}

/// Looking names up is the system's, takes many seconds where its name servers are silent, and cannot be ended.
#[test]
fn while_a_name_is_looked_up() {
    on_every_broker(|version| {
        let Some(silent) = NameServer::start(Lookup::Silence) else { return };
        let mut broker = silent
            .serves(Broker::with(version))
            .option("auth_url", "http://api.example/auth")
            .option("timeout", TIMEOUT)
            .start();
        let before = broker.threads();
        let _waiting = login(0).send(broker.port());
        // The one that asks, and the one that looks the name up.
        assert!(eventually(PATIENCE, || broker.threads() >= before + 2), "{} threads", broker.threads());
        assert_stops(&mut broker);
    });
}

#[test]
fn every_instance_of_the_plugin() {
    on_every_broker(|version| {
        let api = friendly_api();
        let plugin = support::broker::plugin_line(&support::broker::plugin());
        let auth_url = format!("plugin_opt_auth_url {}", api.auth_url());
        let mut broker = broker_asking(version, &api)
            .global("per_listener_settings true")
            .listener([plugin.clone(), auth_url.clone()])
            .listener([plugin, auth_url])
            .start();
        for port in broker.ports() {
            login(0).accepted(*port);
        }
        assert_stops(&mut broker);
    });
}

#[test]
fn threads_and_files_do_not_grow_with_use() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker =
            broker_asking(version, &api).option("timeout", "300ms").option("auth_cache_ttl", 0).start();
        drop(log_in(&broker, 0));
        let threads = broker.threads();
        // The plugin's own: an event queue or two, and the connections to the API.
        let files = broker.open_files() + 10;

        let mut faults = [Reply::status(200), Reply::Reset, Reply::Hang, Reply::garbage(), Reply::Close]
            .into_iter()
            .cycle();
        for number in 0..15 {
            api.answer(faults.next().unwrap());
            let _ = login(number).attempt(broker.port());
        }
        api.stop();
        for number in 15..30 {
            let _ = login(number).attempt(broker.port());
        }
        api.restart().unwrap();
        api.answer(Reply::status(200));
        assert!(eventually(PATIENCE, || broker.open_files() <= files), "{} open files", broker.open_files());
        assert!(eventually(PATIENCE, || broker.threads() <= threads + 1), "{} threads", broker.threads());
    });
}
