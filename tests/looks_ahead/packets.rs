//! The plugin asks about waiting packets if the broker will ask about them, however they arrive.

use super::{Stage, crowd};
use crate::support::{
    Client, Connect, PASSWORD, PATIENCE, Protocol, Will, local_user, on_every_broker, reason,
};

#[test]
fn packets_in_pieces_and_packets_in_a_row() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let will = Will { topic: b"will".to_vec(), payload: b"w".to_vec(), qos: 1, retain: true };
        let login = Connect::v5("c").login("u", "right").session_expiry(7).will(will).will_delay(3);
        let packet = login.packet();
        let mut client = stage.connections(1, Protocol::V5).remove(0);
        // The first half asks nothing; what the broker takes of it leaves the second half without a head.
        stage.freeze_in_front_of(|_| client.send(&packet[..packet.len() / 2]));
        stage.assert_asked([""; 0]);
        stage.thaw();
        stage.freeze_in_front_of(|_| client.send(&packet[packet.len() / 2..]));
        stage.assert_asked([""; 0]);
        stage.thaw();
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
        stage.assert_asked(["login u"]);
        drop(client);
        stage.api.forget_requests();

        // In two segments that wait together.
        let mut client = stage.connections(1, Protocol::V5).remove(0);
        let other = Connect::v5("d").login("v", "right").session_expiry(7).packet();
        stage.freeze_in_front_of(|_| {
            client.send(&other[..7]);
            client.send(&other[7..]);
        });
        stage.assert_asked(["login v"]);
        stage.thaw_without_api();
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
    });
}

/// A SUBSCRIBE of MQTT 5 with a subscription identifier and a user property.
fn subscribe_with_properties(filter: &str) -> Vec<u8> {
    let properties = b"\x0b\x05\x26\x00\x01k\x00\x01v";
    let mut body = vec![0, 9, u8::try_from(properties.len()).unwrap()];
    body.extend_from_slice(properties);
    body.extend([0, u8::try_from(filter.len()).unwrap()]);
    body.extend_from_slice(filter.as_bytes());
    body.push(1);
    [&[0x82, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

#[test]
fn properties_of_mqtt_5_are_read_over() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let mut client = stage.let_in(&crowd(1), Protocol::V5).remove(0);
        let publish = b"\x30\x0e\x00\x03out\x08\x26\x00\x01k\x00\x02vvx".to_vec();
        stage.freeze_in_front_of(|_| {
            client.send(&[subscribe_with_properties("a/+"), vec![0xc0, 0], publish].concat());
        });
        stage.assert_asked(["u0/c0 subscribe a/+", "u0/c0 write out"]);
        stage.thaw_without_api();
        assert_eq!(client.suback(), [1]);
        client.ping();
    });
}

#[test]
fn of_packets_behind_a_connect_only_the_login_is_asked() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let mut client = stage.connections(1, Protocol::V5).remove(0);
        stage.freeze_in_front_of(|_| {
            let (connect, subscribe) = (crowd(1)[0].packet(), client.subscribe_packet(&[("a", 0)]));
            client.send(&[connect, subscribe].concat());
        });
        stage.assert_asked(["login u0"]);
        stage.thaw();
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
        assert_eq!(client.suback(), [0]);
        stage.assert_asked(["login u0", "u0/c0 subscribe a"]);
    });
}

/// A DISCONNECT of MQTT 5.
const DISCONNECT: &[u8] = b"\xe0\x00";

#[test]
fn nothing_is_asked_that_the_broker_will_not_ask() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let mut clients = stage.let_in(&crowd(3), Protocol::V5);
        stage.freeze_in_front_of(|_| {
            let [system, leaving, malformed] = &mut clients[..] else { unreachable!() };
            let publish =
                |client: &mut Client, topic: &str| client.publish_packet(topic.as_bytes(), b"x", 0, false);
            for topic in ["$SYS/broker/uptime", "$SYS/x", "$SYS/broker/connection/b/state", "own/0"] {
                let packet = publish(system, topic);
                system.send(&packet);
            }
            let packets = [publish(leaving, "own/1"), DISCONNECT.to_vec(), publish(leaving, "behind/1")];
            leaving.send(&packets.concat());
            let bad_filter = b"\x82\x09\x00\x01\x00\x00\x03a#b\x00".to_vec();
            let packets = [publish(malformed, "own/2"), bad_filter, publish(malformed, "behind/2")];
            malformed.send(&packets.concat());
        });
        let expected = [
            "u0/c0 write $SYS/broker/connection/b/state",
            "u0/c0 write own/0",
            "u1/c1 write own/1",
            "u2/c2 write own/2",
        ];
        stage.assert_asked(expected);
        stage.thaw();
        clients[0].ping();
        assert!(clients[1].wait_until_closed(PATIENCE));
        assert!(clients[2].wait_until_closed(PATIENCE));
        stage.assert_asked(expected);
    });
}

/// MQTT 5 extended authentication is not what this plugin is asked about.
#[test]
fn extended_authentication_is_not_guessed() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let mut clients = stage.connections(2, Protocol::V5);
        stage.freeze_in_front_of(|_| {
            // The properties: a session expiry, and the method `SCRAM`.
            let packet = b"\x10\x22\x00\x04MQTT\x05\xc2\x00\x00\x0d\x11\x00\x00\x00\x07\x15\x00\x05SCRAM\
                           \x00\x02id\x00\x01u\x00\x01p";
            clients[0].send(packet);
            clients[1].send(&crowd(1)[0].packet());
        });
        stage.assert_asked(["login u0"]);
        stage.thaw();
        assert_eq!(clients[1].connack(PATIENCE), Some(reason::SUCCESS));
        assert_eq!(clients[0].connack(PATIENCE), Some(0x8c), "bad authentication method");
        stage.assert_asked(["login u0"]);
    });
}

#[test]
fn local_users_and_anonymous_clients_cause_no_questions() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| {
            setup.line("allow_anonymous true").option("user", local_user("local"))
        });
        let logins = [
            Connect::v3("l").login("local", PASSWORD),
            Connect::v3("a"),
            Connect::v3("e").username(""),
            Connect::v3("f").login("", "right"),
            Connect::v3("b").login("binary", b"\xff\xfe"),
        ];
        let mut clients = stage.connections(logins.len(), Protocol::V3_1_1);
        stage.freeze_in_front_of(|_| {
            for (client, login) in clients.iter_mut().zip(&logins) {
                let publish = client.publish_packet(b"t", b"x", 0, false);
                client.send(&[login.packet(), publish].concat());
            }
        });
        stage.assert_asked([""; 0]);
        stage.thaw();
    });
}
