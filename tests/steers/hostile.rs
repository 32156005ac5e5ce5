//! Whoever connects to the admin listener and means ill keeps neither the operator out nor clients waiting.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;

use serde_json::json;

use crate::support::{
    Admin, Connect, PATIENCE, Version, broker_asking, eventually, friendly_api, on_every_broker,
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
    assert_eq!(admin.carries_out("status", &json!({}))["answers"][0]["count"], LOGINS);
}
