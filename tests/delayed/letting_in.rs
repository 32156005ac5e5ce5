//! Many clients with one id are admitted, while the broker calls back, refuses by itself, reloads or stops.

use std::fs;
use std::thread;
use std::time::Duration;

use super::{RULES, SLOW, TICK, broker};
use crate::support::scene::PASSWD_ARGON2ID;
use crate::support::{
    Broker, Client, Connect, MockApi, PATIENCE, Reply, Version, Will, api, broker_asking, bystander, fence,
    friendly_api, reason,
};

#[test]
fn the_same_id_in_parallel_ends_with_one_session() {
    let api = friendly_api();
    api.answer(Reply::status(200).after(Duration::from_millis(100)));
    let broker = broker(&api).option("auth_cache_ttl", 0).start();
    for round in 0..5 {
        let user = |n: usize| format!("user-{}", if round % 2 == 0 { n } else { 0 });
        let mut clients: Vec<_> =
            (0..10).map(|n| Connect::v3("x").login(user(n), "secret").send(broker.port())).collect();
        let codes: Vec<_> = clients.iter_mut().map(|client| client.connack(PATIENCE)).collect();
        let accepted = codes.iter().filter(|code| **code == Some(reason::SUCCESS)).count();
        assert!(accepted >= 1, "{codes:?}");
        thread::sleep(Duration::from_millis(50));
        let alive = clients.iter_mut().map(Client::is_closed).filter(|closed| !closed).count();
        assert_eq!(alive, 1, "{codes:?}");
    }
}

#[test]
fn a_reload_leaves_parked_clients_parked() {
    let api = api(RULES);
    let broker = broker(&api).start();
    let mut old = Connect::v3("old").login("alice", "secret").accepted(broker.port());
    api.answer(Reply::rules().after(SLOW));
    let mut parked: Vec<_> =
        (0..20).map(|n| Connect::v3(format!("c{n}")).login("bob", "secret").send(broker.port())).collect();
    let mut wrong: Vec<_> =
        (0..20).map(|n| Connect::v3(format!("w{n}")).login("bob", "wrong").send(broker.port())).collect();
    // Somebody waits under the id of a session that is about to be swept.
    let mut pretender = Connect::v3("old").login("alice", "wrong").send(broker.port());
    api.wait_for_requests(3, PATIENCE);
    for _ in 0..3 {
        broker.sighup();
        thread::sleep(TICK);
    }
    assert!(parked.iter_mut().all(|client| client.connack(PATIENCE) == Some(reason::SUCCESS)));
    assert!(wrong.iter_mut().all(|client| client.connack(PATIENCE) == Some(reason::NOT_AUTHORIZED_V3)));
    assert_eq!(pretender.connack(PATIENCE), Some(reason::NOT_AUTHORIZED_V3));
    api.answer(Reply::rules());
    fence::later_logins(broker.port(), &api);
    old.ping();
    assert!(parked.iter_mut().all(|client| client.try_ping(PATIENCE).is_some()));
}

/// Nobody who may come in by what an API said, and waits for the answers about its topics, gets in after a reload that has
/// another API asked: the recheck asks about sessions alone.
#[test]
fn whom_an_api_let_in_that_is_asked_no_more_has_to_ask_the_new_one() {
    let (old, new) = (api(""), api(""));
    old.answer_with(|request| match request.path.as_str() {
        "/auth" => Reply::status(200),
        _ => Reply::status(200).after(SLOW),
    });
    new.answer(Reply::status(403));
    let config = |api: &MockApi| {
        format!(
            "auth_url = '{}'\nacl_url = '{}'\nacl_prefetch = 'write up/%c'\n",
            api.auth_url(),
            api.acl_url()
        )
    };
    for lives in ["5m", "0"] {
        let broker = Broker::with(Version::V2_1)
            .option("config_file", "plugin.toml")
            .file("plugin.toml", config(&old))
            .option("auth_cache_ttl", lives)
            .start();
        let before = old.requests().len();
        let mut parked = Connect::v3("parked").login("alice", "secret").send(broker.port());
        old.wait_for_requests(before + 2, PATIENCE);
        fs::write(broker.folder().join("plugin.toml"), config(&new)).unwrap();
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
        assert_eq!(parked.connack(PATIENCE), None, "it may try again");
        Connect::v3("parked").login("alice", "secret").refused(broker.port());
    }
}

/// A login that the old API was asked about is asked about anew, and that answer counts, remembered or not.
#[test]
fn whom_the_new_api_lets_in_comes_in_though_the_old_one_was_asked_before() {
    for lives in ["5m", "0"] {
        let (old, new) = (api(""), api(""));
        old.answer(Reply::status(403).after(SLOW));
        new.answer(Reply::status(200));
        let config = |api: &MockApi| format!("auth_url = '{}'\n", api.auth_url());
        let broker = Broker::with(Version::V2_1)
            .option("config_file", "plugin.toml")
            .file("plugin.toml", config(&old))
            .option("auth_cache_ttl", lives)
            .start();
        let mut parked = Connect::v3("parked").login("alice", "secret").send(broker.port());
        old.wait_for_requests(1, PATIENCE);
        fs::write(broker.folder().join("plugin.toml"), config(&new)).unwrap();
        broker.sighup();
        assert_eq!(parked.connack(PATIENCE), Some(reason::SUCCESS));
        assert_eq!(new.requests().len(), 1);
    }
}

/// Taking a session over, the broker sends the old will, gives the queued messages out, and asks about all
/// of them while the plugin lets the new client in.
#[test]
fn letting_a_client_in_may_raise_further_questions() {
    let api = api(RULES);
    let broker = broker_asking(Version::V2_1, &api)
        .option("auth_cache_ttl", 0)
        .option("acl_cache_ttl", 0)
        .global("log_dest topic")
        .start();
    let mut watcher = bystander(&broker, "bob", "secret");
    assert!(watcher.may_subscribe("wills/#"));
    let mut reader = Connect::v3("log").login("bob", "secret").accepted(broker.port());
    reader.subscribe(&[("$SYS/broker/log/#", 0)]);
    let will = Will { topic: b"wills/x".to_vec(), payload: b"gone".to_vec(), qos: 1, retain: false };
    let connect = Connect::v3("x").login("alice", "secret").durable().will(will);
    let mut first = connect.accepted(broker.port());
    assert!(first.may_subscribe("queue/#"));
    for round in 0..5 {
        // Twice over: the session is taken from a client that is there, and from one that is asleep.
        let second = connect.accepted(broker.port());
        assert!(first.wait_until_closed(PATIENCE));
        drop(second);
        assert_eq!(watcher.receive(PATIENCE).expect("the will").payload, b"gone");
        for number in 0..20 {
            assert_eq!(watcher.publish_acknowledged(format!("queue/{number}"), "x"), reason::SUCCESS);
        }
        first = connect.accepted(broker.port());
        for number in 0..20 {
            let message = first.receive(PATIENCE).unwrap_or_else(|| panic!("round {round}: {number}"));
            assert_eq!(message.topic, format!("queue/{number}"));
        }
    }
    // Refused now, with as much to be asked.
    drop(first);
    watcher.publish_acknowledged("queue/0", "x");
    Connect::v3("x").login("alice", "wrong").durable().refused(broker.port());
    let mut first = connect.accepted(broker.port());
    assert_eq!(first.receive(PATIENCE).expect("it is still there").topic, "queue/0");
}

/// The broker itself may refuse who was let in; that must not be taken for a session.
#[test]
fn a_refusal_by_the_broker_itself_is_survived() {
    let api = friendly_api();
    let broker = broker_asking(Version::V2_1, &api).global("max_keepalive 60").start();
    for _ in 0..3 {
        let _ = Connect::v3("x").keepalive(600).login("alice", "secret").attempt(broker.port());
    }
    let mut client = Connect::v3("x").keepalive(30).login("alice", "secret").accepted(broker.port());
    assert!(client.may_subscribe("news"));
    client.ping();
}

#[test]
fn a_broker_stops_while_a_hundred_clients_wait() {
    let timeout = Duration::from_secs(2);
    let api = friendly_api();
    let mut broker = broker(&api)
        .option("timeout", "2s")
        .file("passwords", PASSWD_ARGON2ID)
        .option("password_file", "passwords")
        .start();
    Connect::v3("first").login("first", "x").accepted(broker.port());
    api.answer(Reply::Hang);
    let parked: Vec<_> = (0..100)
        .map(|n| Connect::v3(format!("c{n}")).login(format!("u{n}"), "x").send(broker.port()))
        .chain((0..20).map(|n| Connect::v3(format!("l{n}")).login("argon2id", "x").send(broker.port())))
        .collect();
    api.wait_for_requests(30, PATIENCE);
    let (status, waited) = broker.terminate();
    assert!(status.success(), "{status}");
    assert!(waited < timeout + Duration::from_secs(1), "{waited:?} to stop");
    drop(parked);
}
