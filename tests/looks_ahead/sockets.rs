//! Peeking leaves every kind of connection as it was, also where there are many.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::{Stage, connection_from, crowd, crowd_v3};
use crate::support::tls::{Authority, Validity};
use crate::support::{Broker, Client, Connect, PATIENCE, Protocol, eventually, on_every_broker, reason};

#[test]
fn a_unix_socket_is_looked_into() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| setup.line("listener 0 mqtt.sock"));
        let path = stage.broker.folder().join("mqtt.sock");
        assert!(eventually(PATIENCE, || path.exists()));
        let mut clients: Vec<_> =
            stage.while_accepted(5, || (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect());
        stage.freeze_in_front_of(|_| {
            for (client, login) in clients.iter_mut().zip(crowd_v3(5)) {
                client.write_all(&login.packet()).unwrap();
            }
        });
        stage.assert_asked((0..5).map(|n| format!("login u{n}")));
        stage.thaw_without_api();
        for client in &mut clients {
            let mut connack = [0; 4];
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.read_exact(&mut connack).unwrap();
            assert_eq!(connack, [0x20, 2, 0, 0]);
        }
    });
}

#[test]
fn few_descriptors_are_no_obstacle() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| setup.launched_by(&["prlimit", "--nofile=200"]));
        let mut clients = stage.connections(3, Protocol::V5);
        stage.freeze_in_front_of(|_| {
            for (client, login) in clients.iter_mut().zip(crowd(3)) {
                client.send(&login.packet());
            }
        });
        stage.assert_asked((0..3).map(|n| format!("login u{n}")));
    });
}

#[test]
fn more_descriptors_than_are_polled_at_once() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let _idle = stage.connections(1100, Protocol::V5);
        let mut clients = stage.connections(5, Protocol::V5);
        for round in 0..2 {
            stage.freeze_in_front_of(|_| {
                if round == 1 {
                    for (client, login) in clients.iter_mut().zip(crowd(5)) {
                        client.send(&login.packet());
                    }
                }
            });
            if round == 0 {
                stage.thaw();
            }
        }
        stage.assert_asked((0..5).map(|n| format!("login u{n}")));
    });
}

#[test]
fn connections_that_cannot_be_read_are_left_alone_and_go_on() {
    let authority = Authority::new("test");
    let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
    on_every_broker(|version| {
        let elsewhere = Broker::with(version).without_plugin().global("allow_anonymous true").start();
        let mut stage = Stage::with(version, |setup| {
            setup.file("ca.pem", &authority.certificate).listener(["protocol websockets"]).tls_listener(
                &server,
                &[
                    // The last listener's lines are the last of all: here a bridge may follow.
                    "connection bridge",
                    &format!("address 127.0.0.1:{}", elsewhere.port()),
                    "topic from/# in 1",
                ],
            )
        });
        let (port, web, tls) = (stage.broker.port(), stage.broker.ports()[1], stage.broker.ports()[2]);
        let mut reader = Connect::v5("reader").login("reader", "right").accepted(port);
        assert!(reader.may_subscribe("from/#"));
        let mut web_client = Client::open_websocket(web, Protocol::V5, b"");
        let mut half_open = stage.connections(3, Protocol::V5);
        let [silent, cut, nonsense] = &mut half_open[..] else { unreachable!() };
        let mut ordinary = stage.connections(1, Protocol::V5).remove(0);
        let ca = stage.broker.folder().join("ca.pem").display().to_string();
        let mut publisher = Connect::v5("elsewhere").accepted(elsewhere.port());
        stage.api.forget_requests();

        let mut tls_client = stage.freeze_in_front_of(|stage| {
            web_client.send(&Connect::v5("web").login("web", "right").packet());
            cut.send(&Connect::v5("cut").login("cut", "right").packet()[..10]);
            nonsense.send(b"GET / HTTP/1.0\r\n\r\n\x82\x08\x00\x01\x00\x03a/#\x00");
            publisher.publish_acknowledged("from/elsewhere", "x");
            ordinary.send(&crowd(1)[0].packet());
            std::process::Command::new(stage.broker.version().program("mosquitto_pub"))
                .args(["-h", "127.0.0.1", "-p", &tls.to_string(), "--cafile", &ca, "-i", "tls"])
                .args(["-u", "tls", "-P", "right", "-t", "from/tls", "-m", "y", "-q", "1"])
                .spawn()
                .unwrap()
        });
        assert!(eventually(PATIENCE, || stage.asked().contains(&"login u0".to_owned())));
        stage.fence();
        // 2.0 serves WebSockets between any two turns of its loop.
        let others: Vec<_> = stage.asked().into_iter().filter(|asked| asked != "login web").collect();
        assert_eq!(others, ["login u0"]);
        stage.thaw();
        assert_eq!(ordinary.connack(PATIENCE), Some(reason::SUCCESS));
        assert_eq!(web_client.connack(PATIENCE), Some(reason::SUCCESS));
        assert!(web_client.may_subscribe("x"));
        assert!(tls_client.wait().unwrap().success());
        cut.send(&Connect::v5("cut").login("cut", "right").packet()[10..]);
        assert_eq!(cut.connack(PATIENCE), Some(reason::SUCCESS));
        assert!(nonsense.wait_until_closed(PATIENCE));
        silent.send(&Connect::v5("silent").login("silent", "right").packet());
        assert_eq!(silent.connack(PATIENCE), Some(reason::SUCCESS));
        let mut topics: Vec<_> = (0..2).map(|_| reader.receive(PATIENCE).expect("message").topic).collect();
        topics.sort();
        assert_eq!(topics, ["from/elsewhere", "from/tls"]);
    });
}

#[test]
fn what_is_looked_at_is_not_taken() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let mut client = stage.let_in(&crowd(1), Protocol::V5).remove(0);
        assert!(client.may_subscribe("big/#"));
        // More than is looked at, and an end in the middle of it that comes later.
        let payload: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let packet = client.publish_packet(b"big/1", &payload, 0, false);
        for part in [&packet[..5000], &packet[5000..60_000], &packet[60_000..]] {
            stage.freeze_in_front_of(|_| client.send(part));
            stage.thaw();
        }
        assert_eq!(client.receive(PATIENCE).expect("message").payload, payload);
    });
}

#[test]
fn clients_that_go_while_they_are_looked_at_hurt_nobody() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let port = stage.broker.port();
        for _ in 0..3 {
            let mut streams: Vec<_> =
                stage.while_accepted(10, || (0..10).map(|_| connection_from(0, port)).collect());
            stage.freeze_in_front_of(|_| {
                for (stream, login) in streams.iter_mut().zip(crowd(10)) {
                    stream.write_all(&login.packet()).unwrap();
                }
                streams.truncate(5);
            });
            stage.thaw();
            drop(streams);
        }
        let mut client = Connect::v5("after").login("after", "right").accepted(port);
        client.ping();
    });
}
