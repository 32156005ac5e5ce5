//! No client has the API asked in the name of another.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Stage, connection_from, crowd};
use crate::support::{Connect, PATIENCE, Protocol, free_port, on_every_broker, reason};

#[test]
fn nobody_has_the_api_asked_in_the_name_of_another() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let victim = stage.let_in(&crowd(1), Protocol::V5).remove(0);
        let mut attackers = stage.connections(3, Protocol::V5);
        let mut attack = |stage: &mut Stage| {
            stage.freeze_in_front_of(|_| {
                let claims = [
                    Connect::v5("c0").login("u0", "wrong"),
                    Connect::v5("c0").username("u0"),
                    Connect::v5("c0").login("mallory", "right"),
                ];
                for (attacker, claim) in attackers.iter_mut().zip(claims) {
                    let subscribe = attacker.subscribe_packet(&[("victim/secret", 0)]);
                    let publish = attacker.publish_packet(b"victim/door", b"open", 0, false);
                    // The broker takes no second CONNECT, but a reader that guesses might.
                    let pair = [claim.packet(), subscribe.clone(), publish, claim.packet(), subscribe];
                    attacker.send(&pair.concat());
                }
            });
        };
        attack(&mut stage);
        stage.fence();
        let in_its_name = |stage: &Stage| stage.asked().iter().any(|asked| asked.starts_with("u0/c0"));
        assert!(!in_its_name(&stage), "{:?}", stage.asked());
        drop(victim);
        stage.thaw();
    });
}

fn await_connack(stream: &mut TcpStream) {
    let mut head = [0; 4];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut head).unwrap();
    assert_eq!((head[0], head[3]), (0x20, reason::SUCCESS), "CONNACK");
}

const SUBSCRIBE_TO_A_SECRET: &[u8] = b"\x82\x0b\x00\x01\x00\x06secret\x00";

#[test]
fn who_gets_the_port_of_another_does_not_become_it() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let port = stage.broker.port();
        let local_port = free_port();
        let victim = Connect::v3("victim").login("victim", "right");
        let mut stream = stage.while_accepted(1, || connection_from(local_port, port));
        stage.freeze_in_front_of(|_| stream.write_all(&victim.packet()).unwrap());
        stage.assert_asked(["login victim"]);
        stage.thaw();
        await_connack(&mut stream);
        drop(stream);

        // It is back from elsewhere; behind the same NAT somebody else has its old port now.
        let _victim = victim.accepted(port);
        let mut attacker = stage.while_accepted(1, || connection_from(local_port, port));
        attacker.write_all(&Connect::v3("mallory").login("mallory", "right").packet()).unwrap();
        await_connack(&mut attacker);
        stage.api.forget_requests();
        stage.freeze_in_front_of(|_| attacker.write_all(SUBSCRIBE_TO_A_SECRET).unwrap());
        stage.fence();
        assert!(!stage.asked().iter().any(|asked| asked.starts_with("victim")), "{:?}", stage.asked());
        stage.thaw();
    });
}
