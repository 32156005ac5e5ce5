//! Questions that wait in sockets are asked side by side, each of them once, and no more at a time than allowed.

use std::time::{Duration, Instant};

use super::{CROWD, LONG, Stage, crowd};
use crate::support::{
    Client, Connect, PATIENCE, Protocol, Reply, Version, api, broker_asking, eventually, on_every_broker,
    reason,
};

#[test]
fn logins_that_wait_are_asked_at_once_and_once() {
    on_every_broker(|version| {
        let mut stage = Stage::remembering(version);
        let mut logins = crowd(CROWD);
        logins.extend((0..3).map(|n| Connect::v5(format!("d{n}")).login(format!("d{n}"), "wrong")));
        let mut clients = stage.connections(logins.len(), Protocol::V5);
        stage.freeze_in_front_of(|_| {
            for (client, login) in clients.iter_mut().zip(&logins) {
                client.send(&login.packet());
            }
        });
        let expected = (0..CROWD).map(|n| format!("login u{n}")).chain((0..3).map(|n| format!("login d{n}")));
        stage.assert_asked(expected.clone());

        // What was answered then decides now, yes and no alike.
        stage.thaw_without_api();
        let codes: Vec<_> = clients.iter_mut().map(|client| client.connack(PATIENCE)).collect();
        assert_eq!(codes[..CROWD], [Some(reason::SUCCESS); CROWD]);
        assert_eq!(codes[CROWD..], [Some(reason::NOT_AUTHORIZED); 3]);
        stage.assert_asked(expected);
    });
}

#[test]
fn topics_that_wait_are_asked_at_once_and_once() {
    on_every_broker(|version| {
        let mut stage = Stage::remembering(version);
        let mut clients = stage.let_in(&crowd(CROWD), Protocol::V5);
        let mut expected = Vec::new();
        stage.freeze_in_front_of(|_| {
            for (n, client) in clients.iter_mut().enumerate() {
                let subscribe =
                    client.subscribe_packet(&[(&format!("in/{n}/#"), 0), (&format!("no/{n}"), 0)]);
                let publish = client.publish_packet(format!("out/{n}").as_bytes(), b"x", 1, false);
                let denied = client.publish_packet(format!("no/out/{n}").as_bytes(), b"x", 1, false);
                client.send(&[subscribe, publish, denied].concat());
                for question in [
                    format!("subscribe in/{n}/#"),
                    format!("subscribe no/{n}"),
                    format!("write out/{n}"),
                    format!("write no/out/{n}"),
                ] {
                    expected.push(format!("u{n}/c{n} {question}"));
                }
            }
        });
        stage.assert_asked(expected.clone());

        stage.thaw_without_api();
        for client in &mut clients {
            assert_eq!(client.suback(), [0, reason::NOT_AUTHORIZED]);
            client.ping();
        }
        stage.assert_asked(expected);
        let log = stage.broker.log();
        for n in 0..CROWD {
            assert!(log.contains(&format!("Refused write of \"no/out/{n}\"")), "out/{n} was denied");
            assert!(!log.contains(&format!("Refused write of \"out/{n}\"")), "out/{n} was allowed");
        }
    });
}

/// The time in which so many clients are let in at once.
fn time_of_logins(version: Version, lookahead: bool, latency: Duration) -> Duration {
    let api = api("");
    api.answer(Reply::status(200).after(latency));
    let broker = broker_asking(version, &api)
        .option("timeout", LONG)
        .option("auth_mode", "blocking")
        .option("login_wait", 0)
        .option("lookahead", lookahead)
        .start();
    let mut clients: Vec<_> = (0..CROWD).map(|_| Client::open(broker.port(), Protocol::V5)).collect();
    let accepted = || broker.log().matches("New connection from").count() > CROWD;
    assert!(eventually(PATIENCE, accepted));
    let start = Instant::now();
    for (client, login) in clients.iter_mut().zip(crowd(CROWD)) {
        client.send(&login.packet());
    }
    for client in &mut clients {
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
    }
    assert_eq!(api.logins().len(), CROWD, "each is asked about once");
    start.elapsed()
}

#[test]
fn many_logins_take_about_as_long_as_a_few() {
    let latency = Duration::from_millis(150);
    on_every_broker(|version| {
        let alone = time_of_logins(version, false, latency);
        assert!(alone >= latency * u32::try_from(CROWD).unwrap(), "without it, one by one: {alone:?}");
        let ahead = time_of_logins(version, true, latency);
        assert!(ahead < latency * 8, "{CROWD} logins in {ahead:?}");
    });
}

#[test]
fn who_does_not_want_it_does_not_get_it() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| setup.option("lookahead", false));
        let mut clients = stage.connections(3, Protocol::V5);
        stage.freeze_in_front_of(|_| {
            for (client, login) in clients.iter_mut().zip(crowd(3)) {
                client.send(&login.packet());
            }
        });
        stage.assert_asked([""; 0]);
    });
}

#[test]
fn on_2_1_logins_wait_beside_the_loop_and_topics_are_looked_at() {
    let mut stage = Stage::start(Version::V2_1, |setup| setup.option("auth_mode", "delayed"));
    let mut clients = stage.let_in(&crowd(3), Protocol::V5);
    stage.freeze_in_front_of(|_| {
        for client in &mut clients {
            let subscribe = client.subscribe_packet(&[("in/#", 0)]);
            client.send(&subscribe);
        }
    });
    stage.assert_asked((0..3).map(|n| format!("u{n}/c{n} subscribe in/#")));
    stage.thaw_without_api();
    for client in &mut clients {
        assert_eq!(client.suback(), [0]);
    }
}

#[test]
fn on_2_1_connections_are_known_from_logins_that_came_together() {
    let mut stage = Stage::start(Version::V2_1, |setup| setup.option("auth_mode", "delayed"));
    let mut clients = stage.connections(CROWD, Protocol::V5);
    stage.broker.signal(libc::SIGSTOP);
    for (client, login) in clients.iter_mut().zip(crowd(CROWD)) {
        client.send(&login.packet());
    }
    stage.broker.signal(libc::SIGCONT);
    for client in &mut clients {
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
    }
    stage.api.forget_requests();
    stage.freeze_in_front_of(|_| {
        for client in &mut clients {
            let subscribe = client.subscribe_packet(&[("in/#", 0)]);
            client.send(&subscribe);
        }
    });
    // Not the first: its CONNECT was read before anybody could look.
    let most = || stage.asked().len() >= CROWD / 2;
    assert!(eventually(PATIENCE, most), "{:?}", stage.asked());
    stage.thaw();
    for client in &mut clients {
        assert_eq!(client.suback(), [0]);
    }
    assert_eq!(stage.asked().len(), CROWD, "each is asked about once");
}

#[test]
fn the_same_login_of_many_clients_is_asked_once() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let mut clients = stage.connections(CROWD, Protocol::V5);
        stage.freeze_in_front_of(|_| {
            for (n, client) in clients.iter_mut().enumerate() {
                client.send(&Connect::v5(format!("c{n}")).login("fleet", "right").packet());
            }
        });
        stage.assert_asked(["login fleet"]);
        stage.thaw_without_api();
        for client in &mut clients {
            assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
        }
    });
}

#[test]
fn no_more_is_asked_at_once_than_allowed() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(200).after(Duration::from_millis(30)));
        let broker = broker_asking(version, &api)
            .option("timeout", LONG)
            .option("auth_mode", "blocking")
            .option("max_requests", 4)
            .start();
        let mut clients: Vec<_> = (0..CROWD).map(|_| Client::open(broker.port(), Protocol::V5)).collect();
        for (n, (client, login)) in clients.iter_mut().zip(crowd(CROWD)).enumerate() {
            let publish = client.publish_packet(format!("out/{n}").as_bytes(), b"x", 1, false);
            client.send(&[login.packet(), publish].concat());
        }
        for client in &mut clients {
            assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
            client.ping();
        }
        // What the broker is frozen on may go over it by a quarter.
        assert!(api.most_concurrent() <= 5, "{} at once", api.most_concurrent());
        assert_eq!(api.requests().len(), 2 * CROWD);
    });
}
