//! Learning (`acl_learn`): what clients ask after their login is asked ahead about clients like them. Whoever is let in,
//! or refused, is by the API's answer to the very question that the broker asks.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

mod support;
use serde_json::json;
use support::tls::{Authority, Validity};
use support::{
    Admin, Broker, Client, Connect, Gate, MockApi, PASSWORD, PATIENCE, Reply, Request, Setup, Version, api,
    api_by_name, broker_asking, by_name, eventually, fence, local_user, on_every_broker, reason,
};

/// Nothing is found in sockets here, as where clients use TLS.
fn learning(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api).option("lookahead", false).option("timeout", "60s")
}

fn device(number: usize) -> Connect {
    Connect::v5(format!("device-{number:04}")).login("fleet", "right")
}

fn filter(number: usize) -> String {
    format!("cmd/device-{number:04}/#")
}

/// What every device does.
fn work(device: &mut Client, number: usize) {
    assert!(device.may_subscribe(&filter(number)));
    assert_eq!(device.publish_acknowledged(format!("state/device-{number:04}"), "on") & 0x80, 0);
    let denied = device.publish_acknowledged(format!("no/device-{number:04}"), "on");
    assert_eq!(denied, reason::NOT_AUTHORIZED);
}

/// The topic questions about a client, sorted.
fn asked_about(api: &MockApi, client_id: &str) -> Vec<String> {
    let is_it = |request: &&Request| request.field("clientid") == client_id;
    let line = |request: &Request| format!("{} {}", request.acc(), request.field("topic"));
    let mut asked: Vec<_> = api.topic_checks().iter().filter(is_it).map(line).collect();
    asked.sort();
    asked
}

fn of_device(number: usize) -> Vec<String> {
    let id = format!("device-{number:04}");
    vec![format!("2 no/{id}"), format!("2 state/{id}"), format!("4 cmd/{id}/#")]
}

fn is_about_a_topic(request: &Request) -> bool {
    request.path == "/acl"
}

/// One device shows what devices do.
fn teach(broker: &Broker) {
    let mut first = device(1).accepted(broker.port());
    work(&mut first, 1);
    first.disconnect();
}

#[test]
fn who_is_like_others_is_asked_about_with_its_login() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = learning(version, &api).start();
        teach(&broker);
        let mut second = device(2).accepted(broker.port());
        assert!(eventually(PATIENCE, || asked_about(&api, "device-0002") == of_device(2)));
        fence::later_questions(&mut second, &api);
        assert_eq!(asked_about(&api, "device-0001"), of_device(1), "each is asked once");
        assert_eq!(asked_about(&api, "device-0002"), of_device(2), "each is asked once");
        // Its answers are there.
        api.stop();
        work(&mut second, 2);
    });
}

#[test]
fn switched_off_it_asks_nothing() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = learning(version, &api).option("acl_learn", false).start();
        teach(&broker);
        let mut second = device(2).accepted(broker.port());
        fence::later_questions(&mut second, &api);
        assert_eq!(asked_about(&api, "device-0002"), [""; 0]);
    });
}

#[test]
fn on_2_1_the_connack_waits_for_the_answers_and_nobody_else_does() {
    let api = api("");
    let gate = Gate::holding(&api, is_about_a_topic, by_name);
    gate.open();
    let broker = learning(Version::V2_1, &api).option("user", local_user("bystander")).start();
    let mut bystander = Connect::v5("bystander").login("bystander", PASSWORD).accepted(broker.port());
    teach(&broker);
    gate.close();
    let mut second = device(2).send(broker.port());
    assert!(eventually(PATIENCE, || asked_about(&api, "device-0002") == of_device(2)), "side by side");
    bystander.ping();
    assert_eq!(second.connack(Duration::ZERO), None);
    gate.open();
    assert_eq!(second.connack(PATIENCE), Some(reason::SUCCESS));
    work(&mut second, 2);
    assert_eq!(asked_about(&api, "device-0002"), of_device(2));
}

/// The broker waits for the answer about the first one, and meanwhile those about the others are on their way.
#[test]
fn who_was_let_in_a_moment_ago_is_asked_about_at_first_sight() {
    // No more are asked at once until it is known what the API can do.
    const DEVICES: usize = 6;
    on_every_broker(|version| {
        let api = api("");
        let gate = Gate::holding(&api, is_about_a_topic, by_name);
        gate.open();
        let broker = learning(version, &api).start();
        let mut devices: Vec<_> = (0..DEVICES).map(|number| device(number).accepted(broker.port())).collect();
        gate.close();
        let subscribe = devices[0].subscribe_packet(&[(&filter(0), 0)]);
        devices[0].send(&subscribe);
        let is_asked = |number: usize| {
            asked_about(&api, &format!("device-{number:04}")) == [format!("4 {}", filter(number))]
        };
        let all_are_asked = eventually(PATIENCE, || (0..DEVICES).all(is_asked));
        gate.open();
        assert!(all_are_asked);
        assert_eq!(devices[0].suback(), [0]);
        for (number, device) in devices.iter_mut().enumerate().skip(1) {
            assert!(device.may_subscribe(&filter(number)));
        }
        assert!((0..DEVICES).all(is_asked), "each once");
    });
}

/// It needs no sockets: over TLS and websockets nothing else could be known.
#[test]
fn over_tls_and_websockets_it_works_alike() {
    on_every_broker(|version| {
        let authority = Authority::new("test");
        let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
        let api = api_by_name();
        let broker =
            broker_asking(version, &api).tls_listener(&server, &[]).listener(["protocol websockets"]).start();
        teach(&broker);
        let mut tls = authority.connect(broker.ports()[1]);
        tls.write_all(&Connect::v3("device-0002").login("fleet", "right").packet()).unwrap();
        let mut connack = [0; 4];
        tls.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        let _websocket =
            Connect::v5("device-0003").login("fleet", "right").over_websocket().accepted(broker.ports()[2]);
        for number in [2, 3] {
            let id = format!("device-{number:04}");
            assert!(eventually(PATIENCE, || asked_about(&api, &id) == of_device(number)), "{id}");
        }
    });
}

#[test]
fn for_others_and_for_who_is_refused_nothing_is_asked() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = learning(version, &api)
            .line("allow_anonymous true")
            .option("user", local_user("local"))
            .option("special_chars", "allow")
            .start();
        teach(&broker);
        api.forget_requests();
        Connect::v5("device-0002").login("fleet", "wrong").refused(broker.port());
        Connect::v5("device-0003").login("local", PASSWORD).accepted(broker.port());
        Connect::v5("device-0004").accepted(broker.port());
        Connect::v5("device-+").login("fleet", "right").accepted(broker.port());
        // Another kind.
        Connect::v5("hub-0001").login("fleet", "right").accepted(broker.port());
        // Whatever was asked until now has been asked when a device comes now.
        let mut last = device(5).accepted(broker.port());
        assert!(eventually(PATIENCE, || asked_about(&api, "device-0005") == of_device(5)));
        fence::later_questions(&mut last, &api);
        assert_eq!(api.topic_checks().len(), of_device(5).len());
    });
}

#[test]
fn what_the_api_is_not_asked_about_is_not_learnt() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = learning(version, &api).option("acl_checks", "write").start();
        teach(&broker);
        let mut second = device(2).accepted(broker.port());
        assert!(eventually(PATIENCE, || asked_about(&api, "device-0002") == of_device(2)[..2]));
        fence::later_questions(&mut second, &api);
        assert_eq!(asked_about(&api, "device-0002"), of_device(2)[..2]);
    });
}

/// What one client shows has the API asked about others a bounded number of times.
#[test]
fn a_client_that_shows_any_number_of_topics_costs_the_others_little() {
    const OTHERS: usize = 30;
    const SHOWN: usize = 100;
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = learning(version, &api).start();
        let _others: Vec<_> = (0..OTHERS).map(|number| device(number).accepted(broker.port())).collect();
        let mut hostile = device(9999).accepted(broker.port());
        for number in 0..SHOWN {
            assert!(hostile.may_subscribe(&format!("{number}/device-9999")));
        }
        fence::later_questions(&mut hostile, &api);
        let is_about_others = |request: &&Request| request.field("clientid") != "device-9999";
        let about_others = api.topic_checks().iter().filter(is_about_others).count();
        assert!((1..=200).contains(&about_others), "{about_others}");
    });
}

/// Many filters in one SUBSCRIBE that only this client has: the second time all are asked about at once.
#[test]
fn who_comes_again_is_asked_about_with_what_it_asked_before() {
    const FILTERS: usize = 60;
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = learning(version, &api)
            .option("acl_cache_ttl", "1s")
            .option("auth_cache_ttl", "5m")
            .option("stale_ttl", 0)
            .start();
        let filters: Vec<_> = (0..FILTERS).map(|number| format!("site/{number}/#")).collect();
        let filters: Vec<_> = filters.iter().map(|filter| (&**filter, 0)).collect();
        let subscribe = || {
            let mut hub = Connect::v5("hub").login("hub", "right").accepted(broker.port());
            assert_eq!(hub.subscribe(&filters), [0; FILTERS]);
            hub.disconnect();
        };
        subscribe();
        thread::sleep(Duration::from_secs(1));
        api.forget_requests();
        api.answer(Reply::status(200).after(Duration::from_millis(20)));
        let ((), at_once) = api.most_concurrent_during(subscribe);
        assert!(at_once >= FILTERS / 6, "no more than {at_once} questions were on their way at once");
        assert_eq!(asked_about(&api, "hub").len(), FILTERS, "each once");
    });
}

/// What only one client asks is forgotten with it, and of others nothing is.
#[test]
fn who_was_forgotten_is_not_asked_about_with_what_it_asked_before() {
    on_every_broker(|version| {
        let (api, admin) = (api_by_name(), Admin::somewhere());
        let setup = learning(version, &api).option("acl_cache_ttl", "1s").option("stale_ttl", 0);
        let broker = admin.of(setup).start();
        let login = |name: &str| Connect::v5(name).login(name, "right").accepted(broker.port());
        for name in ["one", "another"] {
            assert!(login(name).may_subscribe(&format!("site/{name}/x")));
        }
        admin.carries_out("forget", &json!({"username": "one"}));
        thread::sleep(Duration::from_secs(1));
        api.forget_requests();
        for (name, asked) in [("one", vec![]), ("another", vec!["4 site/another/x"])] {
            fence::later_questions(&mut login(name), &api);
            assert_eq!(asked_about(&api, name), asked, "mosquitto {version}: {name}");
        }
    });
}

#[test]
fn a_reload_shows_what_was_learnt_and_may_switch_it_off() {
    on_every_broker(|version| {
        let api = api_by_name();
        let config =
            format!("auth_url = '{}'\nacl_url = '{}'\nlookahead = false\n", api.auth_url(), api.acl_url());
        let broker = Broker::with(version)
            .option("config_file", "plugin.toml")
            .file("plugin.toml", config.clone())
            .start();
        teach(&broker);
        broker.sighup();
        broker.wait_for_log(r#""subscribe cmd/%c/#", "write no/%c", "write state/%c""#, PATIENCE);
        // The broker takes note of a signal once it has dealt with the one before.
        Connect::v5("hub").login("hub", "right").accepted(broker.port()).ping();
        std::fs::write(broker.folder().join("plugin.toml"), config + "acl_learn = false\n").unwrap();
        broker.sighup();
        broker.wait_for_log(r#"-> "false""#, PATIENCE);
        let mut second = device(2).accepted(broker.port());
        fence::later_questions(&mut second, &api);
        assert_eq!(asked_about(&api, "device-0002"), [""; 0]);
    });
}
