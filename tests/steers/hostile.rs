//! Whoever connects to the admin listener and means ill keeps neither the operator out nor clients waiting.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::scene::PASSWD_ARGON2ID;
use crate::support::{
    Admin, Broker, Client, Connect, MockApi, PATIENCE, Reply, Version, broker_asking, eventually,
    friendly_api, log_in, on_every_broker,
};

/// Connections that are held open at once.
const HELD: usize = 200;

/// Logins beside them.
const LOGINS: usize = 100;

#[test]
fn who_holds_connections_open_keeps_nobody_out() {
    on_every_broker(|version| {
        let api = friendly_api();
        let admin = Admin::somewhere();
        let Admin::Tcp(port) = admin else { panic!("over TCP") };
        let broker = admin.of(broker_asking(version, &api)).start();
        let before = broker.open_files();
        let begin = |n: usize| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let begun: &[u8] = match n % 4 {
                0 => b"",
                1 => b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
                2 => {
                    b"POST /v1/kick HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
                       Content-Length: 1000000\r\n\r\n{"
                }
                _ => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
            };
            let _ = stream.write_all(begun);
            stream
        };
        let held: Vec<_> = (0..HELD).map(begin).collect();
        for _ in 0..5 {
            assert_eq!(admin.carries_out("kick", &json!({"username": "nobody"})), json!({"kicked": 0}));
            assert_eq!(admin.get("/metrics").status, 200, "mosquitto {version}");
        }
        // No more than 64 are open, and what a login takes.
        let files = broker.open_files();
        assert!(files < before + 64 + 16, "mosquitto {version}: {before} and then {files}");
        drop(held);
        assert!(eventually(PATIENCE, || broker.open_files() <= before + 4), "mosquitto {version}");
    });
}

/// By counts: each request is answered or its connection closed, each login is let in.
#[test]
fn logins_go_on_beside_nonsense() {
    let api = friendly_api();
    let admin = Admin::somewhere();
    let Admin::Tcp(port) = admin else { panic!("over TCP") };
    let mut broker = admin.of(broker_asking(Version::V2_1, &api)).start();
    let nonsense: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer guess\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"POST /v1/kick HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"POST /v1/kick HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ];
    let long =
        [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ".to_vec(), vec![b'x'; 100_000], b"\r\n\r\n".to_vec()]
            .concat();
    let (nonsense, long) = (&nonsense, &long);
    let attack = |seed: usize| {
        for n in 0..500 {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let bytes = if n % 9 == 8 { long } else { nonsense[(seed + n) % nonsense.len()] };
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            // Half of them do not wait for an answer.
            if n % 2 == 0 {
                let _ = crate::support::admin::read_answer(&mut stream);
            }
        }
    };
    let let_in = thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || attack(seed));
        }
        let log_in =
            |n: usize| Connect::v5(format!("c{n}")).login(format!("u{n}"), "secret").attempt(broker.port());
        (0..LOGINS).map(log_in).filter(Result::is_ok).count()
    });
    assert_eq!(let_in, LOGINS);
    assert!(broker.is_running());
    assert!(!broker.log().contains("A bug in the plugin"), "{}", broker.log());
    assert_eq!(admin.carries_out("status", &json!({}))["decisions"][0]["count"], LOGINS);
}

/// Commands of an API that takes back the rights of several at once: each is carried out to its end, also if a SIGHUP of
/// somebody else comes, say for the log files.
#[test]
fn who_was_refused_goes_although_others_are_asked_about_by_then() {
    const REVOKED: [&str; 4] = ["a", "b", "c", "d"];
    on_every_broker(|version| {
        let api = friendly_api();
        let admin = Admin::somewhere();
        let broker = admin.of(broker_asking(version, &api)).option("reload_checks", false).start();
        let mut revoked = REVOKED.map(|name| log_in(&broker, name));
        let mut other = log_in(&broker, "other");
        api.answer_with(|request| {
            let is_revoked = REVOKED.contains(&request.field("username"));
            Reply::status(if is_revoked { 403 } else { 200 }).after(Duration::from_millis(300))
        });
        for name in REVOKED {
            let asked = admin.carries_out("recheck", &json!({"username": name}));
            assert_eq!(asked, json!({"sessions": 1}), "mosquitto {version}");
        }
        broker.sighup();
        for (client, name) in revoked.iter_mut().zip(REVOKED) {
            assert!(client.wait_until_closed(PATIENCE), "mosquitto {version}: {name} is still there");
        }
        assert!(other.try_ping(PATIENCE).is_some(), "mosquitto {version}");
    });
}

const CONTROL: &str = "$CONTROL/http-auth/v1";

/// A broker with a local user whose hash takes long, and commands that have it compared so often.
fn slow(version: Version, api: &MockApi, times: usize) -> (Broker, String) {
    let slow_user = PASSWD_ARGON2ID.lines().find(|line| line.starts_with("command:")).unwrap();
    let setup = broker_asking(version, api).option("control", true).option("timeout", "20s");
    let broker = setup.file("passwords", slow_user).option("password_file", "passwords").start();
    let explain = json!({"command": "explain", "username": "command", "password": "guess"});
    (broker, json!({"commands": vec![explain; times]}).to_string())
}

/// An answer to an operator's commands, which takes a while.
#[test]
fn whoever_takes_an_operators_client_id_over_gets_no_answers() {
    on_every_broker(|version| {
        let api = friendly_api();
        let (broker, commands) = slow(version, &api, 6);
        let mut operator = Connect::v5("ops").login("operator", "secret").accepted(broker.port());
        let explained = |client: &mut Client| {
            client.publish(CONTROL, &commands);
            client.ping();
        };
        explained(&mut operator);
        let answer = operator.receive(4 * PATIENCE).expect("an answer");
        assert!(String::from_utf8_lossy(&answer.payload).contains("\"deny\""));
        for name in ["operator", "mallory"] {
            explained(&mut operator);
            let mut mallory = Connect::v5("ops").login(name, "secret").accepted(broker.port());
            assert!(operator.wait_until_closed(PATIENCE));
            let got = mallory.receive(Duration::from_secs(4));
            assert!(got.is_none(), "mosquitto {version}: {name} {got:?}");
            operator = Connect::v5("ops").login("operator", "secret").accepted(broker.port());
        }
    });
}

/// They are made one after the other, and only so many wait.
#[test]
fn explanations_are_bounded() {
    const MESSAGES: usize = 10;
    let api = friendly_api();
    let (broker, commands) = slow(Version::V2_1, &api, 20);
    let mut operator = Connect::v5("ops").login("operator", "secret").accepted(broker.port());
    for _ in 0..MESSAGES {
        operator.publish(CONTROL, &commands);
    }
    let answers: String = (0..MESSAGES)
        .map(|_| String::from_utf8(operator.receive(4 * PATIENCE).expect("an answer").payload).unwrap())
        .collect();
    let made = answers.matches("\"decision\"").count();
    let refused = answers.matches("too many explanations wait").count();
    assert_eq!(made + refused, 20 * MESSAGES);
    assert!((64..100).contains(&made), "{made} were made");
}
