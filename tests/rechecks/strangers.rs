//! No client passes for a session that was admitted before.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::Way::WebSockets;
use super::{assert_all_stay, on_every_way_to_every_broker, reload};
use crate::support::{
    Client, Connect, PATIENCE, Protocol, Reply, Will, api, fence, friendly_api, local_user, on_every_broker,
    reason,
};

#[test]
fn strangers_are_asked_about_also_during_a_reload() {
    on_every_way_to_every_broker(|version, way| {
        let api = api("");
        api.answer_with(|request| {
            Reply::status(if request.field("password") == "secret" { 200 } else { 403 })
        });
        let broker = way.to(version, &api).option("throttle_after", 0).option("deny_cache_ttl", 0).start();
        let mut sessions: Vec<_> = (0..way.many())
            .map(|n| way.login(&format!("u{n}"), "secret").accepted(way.port(&broker)))
            .collect();
        for round in 0..way.many() {
            // Both arrive while the broker is at it, or right after.
            let known_name = way.login("u0", "wrong");
            let stranger = way.login(&format!("stranger-{round}"), "wrong");
            let newcomer = way.login(&format!("newcomer-{round}"), "secret");
            broker.sighup();
            let mut pending = [known_name, stranger, newcomer].map(|connect| connect.send(way.port(&broker)));
            let codes = pending.each_mut().map(|client| client.connack(PATIENCE));
            let refused = Some(reason::NOT_AUTHORIZED);
            assert_eq!(codes, [refused, refused, Some(reason::SUCCESS)], "{way:?}, round {round}");
        }
        let asked = |name: String| api.logins().iter().any(|request| request.field("username") == name);
        for round in 0..way.many() {
            assert!(asked(format!("newcomer-{round}")) && asked(format!("stranger-{round}")), "{way:?}");
        }
        assert_all_stay(&mut sessions, &format!("{way:?}"));
    });
}

/// A client may get the place in memory of one that has gone, and in a plugin's eyes 2.0 then tells no more of
/// it than of that one. On 2.0.11 with `per_listener_settings` no tick ends a reload, so it matters for ever.
#[test]
fn who_left_before_a_reload_is_a_stranger_after_it() {
    const CROWD: usize = 100;
    on_every_way_to_every_broker(|version, way| {
        if way == WebSockets {
            return; // 2.0 takes a tick for each of these, and is like Plain then.
        }
        let api = friendly_api();
        let broker = way.to(version, &api).option("throttle_after", 0).option("deny_cache_ttl", 0).start();
        let port = broker.port();
        // 2.0 does not say whether a session of MQTT 5 is kept: some doubt right after a reload is excused.
        for (connect, protocol, pause) in [
            (Connect::v3 as fn(String) -> Connect, Protocol::V3_1_1, Duration::ZERO),
            (Connect::v5, Protocol::V5, Duration::from_secs(2)),
        ] {
            api.answer(Reply::status(200));
            let logins: Vec<_> =
                (0..CROWD).map(|n| connect(format!("u{n}")).login(format!("u{n}"), "secret")).collect();
            drop(logins.iter().map(|login| login.accepted(port)).collect::<Vec<_>>());
            // The broker takes note of who has gone before it lets in who comes then.
            fence::later_logins(port, &api);
            reload(&broker);
            api.answer(Reply::status(403));
            thread::sleep(pause);
            // Everybody comes again, in ever other places.
            for shift in 0..20 {
                let mut sockets: Vec<_> = (0..CROWD).map(|_| Client::open(port, protocol)).collect();
                for (place, socket) in sockets.iter_mut().enumerate() {
                    let number = (place + CROWD - 10 + shift) % CROWD;
                    socket.send(&logins[number].packet());
                    let code = socket.connack(PATIENCE);
                    assert_ne!(code, Some(reason::SUCCESS), "{way:?}, {protocol:?}: u{number} is let in");
                }
            }
        }
    });
}

/// A restored session has no address; a client of 2.0.21 has the one that it claims to have.
#[test]
fn nobody_passes_for_a_restored_session() {
    on_every_broker(|version| {
        let api = api("");
        let broker = WebSockets.to(version, &api).option("user", local_user("local")).start();
        let port = WebSockets.port(&broker);
        for claim in
            [&b"X-Forwarded-For: \xff\xfe\r\n"[..], b"X-Forwarded-For: \r\n", b"X-Forwarded-For: x\r\n"]
        {
            for name in ["mallory", "local"] {
                let connect = Connect::v3("x").login(name, "wrong").over_websocket_with(claim);
                let outcome = connect.attempt(port);
                assert!(outcome.is_err(), "{name} is let in with {:?}", String::from_utf8_lossy(claim));
            }
        }
    });
}

/// A connection that is over before the broker takes it has no address, either, and yet its CONNECT is read.
#[test]
fn who_has_hung_up_does_not_pass_for_a_restored_session() {
    on_every_way_to_every_broker(|version, way| {
        if way == WebSockets {
            return; // A connection has to last until the broker has answered its request to upgrade.
        }
        let api = friendly_api();
        let setup = way.to(version, &api).option("acl_url", api.acl_url());
        let broker = setup.option("user", local_user("local")).option("throttle_after", 0).start();
        let mut watcher = way.login("watcher", "secret").accepted(broker.port());
        assert!(watcher.may_subscribe("#"));
        reload(&broker);
        api.answer_with(|request| {
            let is_wrong = request.path == "/auth" && request.field("username") != "watcher";
            Reply::status(if is_wrong { 403 } else { 200 })
        });
        for name in ["mallory", "local"] {
            let will = Will { topic: name.into(), payload: b"forged".to_vec(), qos: 0, retain: false };
            let packet = Connect::v3(name).username(name).will(will).packet();
            broker.signal(libc::SIGSTOP);
            for _ in 0..20 {
                let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
                stream.write_all(&packet).unwrap();
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(); // ends it at once
            }
            broker.signal(libc::SIGCONT);
            // The broker takes connections, and what comes on them, in their order.
            fence::later_logins(broker.port(), &api);
            let messages = fence::received(&mut watcher);
            assert!(messages.is_empty(), "{way:?}: somebody speaks for {name}: {messages:?}");
        }
    });
}
