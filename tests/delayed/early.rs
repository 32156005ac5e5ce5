//! Clients that send more before they have their CONNACK. MQTT allows that, 2.0 takes it, and 2.1 ends the connection of
//! a client that waits beside the loop: so for these the broker waits.

use std::io::Write;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use super::broker;
use crate::support::client::{UPGRADE, frame, read_head};
use crate::support::scene::PASSWD_ARGON2ID;
use crate::support::tls::{Authority, Validity};
use crate::support::{
    Broker, Client, Connect, Gate, MockApi, PASSWORD, PATIENCE, Protocol, Reply, Setup, Version, Will, api,
    broker_asking, bystander, eventually, fence, friendly_api, local_user, on_every_broker, side_by_side,
};

/// What the broker says when it ends such a connection.
const THROWN_OUT: &str = "before session is active";

/// A device that runs on a battery: it sends a reading and goes back to sleep.
fn device(name: &str) -> Connect {
    Connect::v3(name).login(name, "secret")
}

/// What it sends behind its CONNECT.
fn reading(number: usize) -> Vec<u8> {
    let (topic, payload) = (b"readings", number.to_string());
    let length = 2 + topic.len() + payload.len();
    let publish = [&[0x30, u8::try_from(length).unwrap(), 0, 8][..], topic, payload.as_bytes()].concat();
    let disconnect = [0xE0, 0];
    [&publish[..], &disconnect].concat()
}

/// A broker whose API is asked each time that somebody logs in, and somebody who receives the readings.
fn stage(api: &MockApi, setup: impl FnOnce(Setup) -> Setup) -> (Broker, Client) {
    let broker = setup(
        broker(api)
            .option("auth_cache_ttl", 0)
            .option("timeout", "10s")
            .option("user", local_user("watcher")),
    )
    .start();
    let mut watcher = bystander(&broker, "watcher", PASSWORD);
    assert!(watcher.may_subscribe("readings"));
    (broker, watcher)
}

/// The readings that have come by now.
fn come(watcher: &mut Client) -> Vec<String> {
    let messages = fence::received(watcher).into_iter();
    messages.map(|message| String::from_utf8(message.payload).unwrap()).collect()
}

/// The device wakes, sends everything with a pause behind its CONNECT, and is gone. Returns whether the reading has come.
fn wakes(broker: &Broker, watcher: &mut Client, number: usize, pause: Option<Duration>) -> bool {
    let mut client = Client::open(broker.port(), Protocol::V3_1_1);
    match pause {
        None => client.send(&[device("device").packet(), reading(number)].concat()),
        Some(pause) => {
            client.send(&device("device").packet());
            thread::sleep(pause);
            client.send(&reading(number));
        }
    }
    assert!(client.wait_until_closed(PATIENCE), "reading {number}");
    come(watcher) == [number.to_string()]
}

#[test]
fn readings_that_come_in_one_go_with_the_connect_all_arrive_at_the_first_try() {
    side_by_side([20, 1000], |latency| {
        let api = friendly_api();
        api.answer(Reply::status(200).after(Duration::from_millis(latency)));
        let (broker, mut watcher) = stage(&api, |setup| setup);
        for number in 0..4 {
            assert!(wakes(&broker, &mut watcher, number, None), "reading {number} is lost");
        }
        assert_eq!(api.logins().len(), 4, "none was remembered");
        assert!(!broker.log().contains(THROWN_OUT));
    });
}

/// Who sends the rest a moment later is known for that from the second time on, whenever that is.
#[test]
fn readings_that_come_a_moment_later_all_arrive_at_the_second_try_at_the_latest() {
    let cases = [1, 10, 100].into_iter().flat_map(|pause| [20, 1000].map(|latency| (pause, latency)));
    side_by_side(cases, |(pause, latency)| {
        let api = friendly_api();
        api.answer(Reply::status(200).after(Duration::from_millis(latency)));
        let (broker, mut watcher) = stage(&api, |setup| setup);
        for number in 0..4 {
            let mut wakes = || wakes(&broker, &mut watcher, number, Some(Duration::from_millis(pause)));
            assert!(wakes() || wakes(), "reading {number} is lost twice");
        }
        let thrown_out = broker.log().matches(THROWN_OUT).count();
        assert!(thrown_out <= 1, "{thrown_out} times");
    });
}

/// The same, with every step in its order.
#[test]
fn who_was_thrown_out_once_is_waited_for_from_then_on() {
    let api = friendly_api();
    let (broker, mut watcher) = stage(&api, |setup| setup);
    for number in 0..4 {
        let gate = Gate::in_front_of(&api, Reply::status(200));
        let mut client = Client::open(broker.port(), Protocol::V3_1_1);
        client.send(&device("device").packet());
        api.wait_for_requests(1, PATIENCE);
        client.send(&reading(number));
        if number == 0 {
            assert!(client.wait_until_closed(PATIENCE));
            assert!(broker.log().contains(THROWN_OUT), "the broker has changed: say so in docs/waiting.md");
        }
        drop(gate);
        assert!(client.wait_until_closed(PATIENCE));
        api.wait_until_answered(PATIENCE);
        assert!(number == 0 || come(&mut watcher) == [number.to_string()], "reading {number} is lost");
        fence::later_logins(broker.port(), &api);
        api.forget_requests();
    }
    // Only this device, at its place.
    for other in [device("other"), device("device").coming_from(Ipv4Addr::new(127, 0, 0, 2))] {
        let gate = Gate::in_front_of(&api, Reply::status(200));
        let mut parked = other.send(broker.port());
        api.wait_for_requests(1, PATIENCE);
        watcher.ping();
        drop(gate);
        assert_eq!(parked.connack(PATIENCE), Some(0));
        api.forget_requests();
    }
}

#[test]
fn who_comes_again_before_the_answer_is_waited_for() {
    let api = friendly_api();
    let (broker, mut watcher) = stage(&api, |setup| setup);
    let gate = Gate::in_front_of(&api, Reply::status(200));
    let mut first = Client::open(broker.port(), Protocol::V3_1_1);
    first.send(&device("device").packet());
    api.wait_for_requests(1, PATIENCE);
    first.send(&reading(0));
    assert!(first.wait_until_closed(PATIENCE));
    let mut second = Client::open(broker.port(), Protocol::V3_1_1);
    second.send(&device("device").packet());
    // The broker reads nothing more until it has the answer.
    thread::sleep(Duration::from_millis(50));
    second.send(&reading(1));
    drop(gate);
    assert!(second.wait_until_closed(PATIENCE));
    assert_eq!(come(&mut watcher), ["1"]);
    assert_eq!(api.logins().len(), 1);
}

/// Whatever way the bytes come: the broker may have them in a buffer of its own, or they wait in the socket, encrypted or
/// in frames.
#[test]
fn what_was_sent_is_seen_in_tls_and_websockets_too() {
    let authority = Authority::new("test");
    let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
    let api = friendly_api();
    let (broker, mut watcher) = stage(&api, |setup| {
        setup
            .listener(["protocol websockets"])
            .tls_listener(&server, &[])
            .tls_listener(&server, &["protocol websockets"])
    });
    let [_, web, tls, web_tls] = *broker.ports() else { panic!("four ports") };
    let connect = device("device").packet();
    for (number, is_in_one) in [true, false].into_iter().enumerate() {
        let rest = reading(number);
        let parts =
            if is_in_one { vec![[&connect[..], &rest].concat()] } else { vec![connect.clone(), rest] };
        let mut client = Client::open_websocket(web, Protocol::V3_1_1, b"");
        client.send_in_frames(&parts);
        assert!(client.wait_until_closed(PATIENCE));
        assert_eq!(come(&mut watcher), [number.to_string()], "websockets, in one: {is_in_one}");
        // Each write is a TLS record; all leave at once.
        let mut stream = authority.connect(tls);
        parts.iter().for_each(|part| stream.conn.writer().write_all(part).unwrap());
        stream.flush().unwrap();
        assert!(
            eventually(PATIENCE, || come(&mut watcher) == [number.to_string()]),
            "TLS, in one: {is_in_one}"
        );
        let mut stream = authority.connect(web_tls);
        stream.write_all(&[UPGRADE, "\r\n"].concat().into_bytes()).unwrap();
        read_head(&mut stream);
        parts.iter().for_each(|part| stream.conn.writer().write_all(&frame(part)).unwrap());
        stream.flush().unwrap();
        let come = eventually(PATIENCE, || come(&mut watcher) == [number.to_string()]);
        assert!(come, "websockets in TLS, in one: {is_in_one}");
    }
    assert_eq!(api.logins().len(), 6);
    assert!(!broker.log().contains(THROWN_OUT));
}

/// A CONNECT of any form is told from what follows it.
#[test]
fn a_connect_alone_makes_nobody_wait() {
    let api = friendly_api();
    let (broker, mut watcher) = stage(&api, |setup| setup);
    let will = Will { topic: b"w".to_vec(), payload: vec![0x30; 300], qos: 1, retain: false };
    let connects = [
        device("plain"),
        device("will").will(will.clone()),
        Connect::v5("five").login("five", "secret").session_expiry(7).will(will),
        Connect::v3("").login("nameless", "secret"),
        Connect::v5("long").login("long", [b'x'; 6000]),
    ];
    for connect in &connects {
        let gate = Gate::in_front_of(&api, Reply::status(200));
        let mut parked = connect.send(broker.port());
        api.wait_for_requests(1, PATIENCE);
        watcher.ping();
        drop(gate);
        assert_eq!(parked.connack(PATIENCE), Some(0), "{connect:?}");
        api.forget_requests();
    }
}

/// With `acl_prefetch` a client waits for the answers about its topics, also when its login is remembered; and for the
/// check of a hash that takes long.
#[test]
fn whatever_a_client_would_wait_for_beside_the_loop() {
    let api = friendly_api();
    let broker = broker_asking(Version::V2_1, &api)
        .option("acl_cache_ttl", "50ms")
        .option("auth_cache_ttl", "1h")
        .option("acl_prefetch", "write prefetched/%c")
        .file("passwords", PASSWD_ARGON2ID)
        .option("password_file", "passwords")
        .option("user", local_user("watcher"))
        .start();
    let mut watcher = bystander(&broker, "watcher", PASSWORD);
    assert!(watcher.may_subscribe("readings"));
    for number in 0..2 {
        // At the second try its login is remembered.
        assert!(wakes(&broker, &mut watcher, number, None), "reading {number} is lost");
        thread::sleep(Duration::from_millis(60));
    }
    let mut client = Client::open(broker.port(), Protocol::V3_1_1);
    client.send(&[Connect::v3("local").login("argon2id", PASSWORD).packet(), reading(2)].concat());
    assert!(client.wait_until_closed(PATIENCE));
    assert_eq!(come(&mut watcher), ["2"]);
    assert!(!broker.log().contains(THROWN_OUT));
}

/// Somebody without a right password has the broker wait, each time: for `login_wait` at once, and then for a tenth of
/// the time. Nobody else is turned away for it.
#[test]
fn one_network_cannot_have_the_broker_wait_all_the_time() {
    const TRIES: usize = 60;
    let latency = Duration::from_millis(50);
    let api = api("");
    api.answer_with(move |request| match request.field("username") {
        "device" => Reply::status(200),
        _ => Reply::status(403).after(latency),
    });
    let (broker, mut watcher) = stage(&api, |setup| setup.option("throttle_after", 0));
    let began = Instant::now();
    for number in 0..TRIES {
        let name = format!("made-up-{number}");
        let mut client = Client::open_from(Ipv4Addr::new(127, 0, 0, 7), broker.port(), Protocol::V3_1_1);
        client.send(&[device(&name).packet(), reading(number)].concat());
        assert!(client.wait_until_closed(PATIENCE));
    }
    let took = began.elapsed();
    let turned_away = broker.log().matches("plugin_opt_login_wait").count();
    let waited = u32::try_from(TRIES - turned_away).unwrap() * latency;
    let bound = Duration::from_millis(500) + took / 10 + latency;
    assert!(waited <= bound, "{turned_away} turned away, {waited:?} waited of {took:?}");
    assert!(wakes(&broker, &mut watcher, 0, None), "another network pays for it");
}

#[test]
fn a_device_that_works_on_2_0_works_everywhere() {
    on_every_broker(|version| {
        let api = friendly_api();
        api.answer(Reply::status(200).after(Duration::from_millis(20)));
        let broker = Broker::with(version)
            .option("auth_url", api.auth_url())
            .option("auth_cache_ttl", 0)
            .option("user", local_user("watcher"))
            .start();
        let mut watcher = bystander(&broker, "watcher", PASSWORD);
        assert!(watcher.may_subscribe("readings"));
        for number in 0..4 {
            assert!(wakes(&broker, &mut watcher, number, None), "reading {number} is lost");
        }
    });
}
