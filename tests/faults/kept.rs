//! Nothing that a client was told to be delivered is lost because the API is away: what it publishes with QoS 1 or 2
//! ends its connection instead, so that it sends it again, and what waits for it stays where it is.

use std::thread;
use std::time::Duration;

use super::{CLOSED, LOCAL_USER, OPENED, bare_broker};
use crate::support::{
    Broker, Client, Connect, MockApi, PASSWORD, PATIENCE, Protocol, Reply, Setup, Version, Will, api,
    eventually, fence, friendly_api, on_every_broker, reason,
};

/// The time of an allow, where it is to be over.
const SHORT_TTL: Duration = Duration::from_secs(1);

/// A broker that has an API for logins and one for topics. An API that is gone refuses connections at once, so the times
/// are for one that is there, on a busy machine.
fn asking_two_apis(version: Version, logins: &MockApi, topics: &MockApi) -> Setup {
    bare_broker(version, Duration::from_secs(10))
        .option("connect_timeout", "10s")
        .option("auth_url", logins.auth_url())
        .option("acl_url", topics.acl_url())
}

/// The same, where no allow serves for longer than its time, and an API that is back is found soon.
fn with_two_apis(version: Version, logins: &MockApi, topics: &MockApi) -> Setup {
    asking_two_apis(version, logins, topics)
        .option("stale_ttl", 0)
        .option("breaker_pause", "100ms")
        .option("breaker_longest", "300ms")
}

fn of(protocol: Protocol, id: &str) -> Connect {
    let connect = if protocol == Protocol::V5 { Connect::v5(id) } else { Connect::v3(id) };
    connect.login(id, "secret")
}

fn local(broker: &Broker) -> Client {
    Connect::v5("local").login(LOCAL_USER, PASSWORD).accepted(broker.port())
}

fn payloads(client: &mut Client) -> Vec<String> {
    let text = |payload| String::from_utf8(payload).unwrap();
    fence::received(client).into_iter().map(|message| text(message.payload)).collect()
}

/// Makes the plugin leave the API for topics alone, which cannot be reached.
fn exhaust_topics(broker: &Broker) {
    let mut client = Connect::v3("exhausting").login("exhausting", "secret").accepted(broker.port());
    for number in 0.. {
        assert!(number < 20, "the API is not left alone");
        client.publish(format!("t/{number}"), "x");
        client.ping();
        if broker.log().contains(OPENED) {
            return;
        }
    }
}

#[test]
fn what_gets_no_answer_is_not_acknowledged_and_sent_again() {
    on_every_broker(|version| {
        let (logins, topics) = (friendly_api(), friendly_api());
        let setup = with_two_apis(version, &logins, &topics);
        // (2.0.11 does not start with nothing but such a listener.)
        let broker = setup.listener(["protocol websockets"]).start();
        let mut reader = local(&broker);
        assert!(reader.may_subscribe("news/#"));
        let [plain, websockets] = *broker.ports() else { panic!("two ports") };
        let ways = [Protocol::V3_1_1, Protocol::V5].into_iter().flat_map(|protocol| {
            let id = format!("{protocol:?}");
            let over = of(protocol, &format!("{id}-ws")).over_websocket();
            [(plain, of(protocol, &id)), (websockets, over)]
        });
        let ways: Vec<_> = ways.collect();
        topics.stop();
        for (number, (port, connect)) in ways.iter().enumerate() {
            let mut client = connect.accepted(*port);
            client.publish("news/none", "QoS 0");
            assert!(client.try_ping(PATIENCE).is_some(), "QoS 0 ends the connection");
            assert_eq!(client.try_publish(format!("news/{number}"), "x"), None, "it is acknowledged");
            assert!(client.wait_until_closed(PATIENCE));
            let mut client = connect.accepted(*port);
            let packet = client.publish_packet(format!("news/2-{number}").as_bytes(), b"x", 2, false);
            client.send(&packet);
            assert!(client.wait_until_closed(PATIENCE), "QoS 2");
        }
        let log = broker.log();
        assert!(log.contains("it is disconnected, so that it keeps the message"), "the log says why");
        topics.restart().unwrap();
        for (number, (port, connect)) in ways.iter().enumerate() {
            let is_delivered = eventually(PATIENCE, || {
                connect.accepted(*port).try_publish(format!("news/{number}"), number.to_string()) == Some(0)
            });
            assert!(is_delivered, "{number}");
        }
        assert_eq!(payloads(&mut reader), ["0", "1", "2", "3"]);
    });
}

#[test]
fn with_deny_it_is_acknowledged_and_dropped() {
    on_every_broker(|version| {
        let (logins, topics) = (friendly_api(), friendly_api());
        topics.stop();
        let broker = with_two_apis(version, &logins, &topics).option("acl_no_answer", "deny").start();
        let mut client = of(Protocol::V5, "alice").accepted(broker.port());
        for number in 0..10 {
            let code = client.publish_acknowledged(format!("t/{number}"), "x");
            assert_eq!(code, reason::NOT_AUTHORIZED);
        }
    });
}

#[test]
fn a_refusal_ends_no_connection() {
    on_every_broker(|version| {
        let (logins, topics) = (friendly_api(), api(""));
        topics.answer(Reply::status(403));
        let broker = with_two_apis(version, &logins, &topics).start();
        let mut client = of(Protocol::V5, "alice").accepted(broker.port());
        assert_eq!(client.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
    });
}

/// The reader of a message is not to blame for it, nor is a subscriber for what is retained. A will is gone anyway.
#[test]
fn nothing_else_ends_a_connection() {
    on_every_broker(|version| {
        let (logins, topics) = (friendly_api(), friendly_api());
        let broker = with_two_apis(version, &logins, &topics)
            .option("acl_cache_ttl", "1s")
            .line("check_retain_source true")
            .start();
        let will = Will { topic: b"will".into(), payload: b"x".into(), qos: 1, retain: false };
        let mut alice = of(Protocol::V5, "alice").will(will).accepted(broker.port());
        let retained = alice.publish_packet(b"news/1", b"kept", 1, true);
        alice.send(&retained);
        alice.ping();
        let mut reader = of(Protocol::V5, "reader").accepted(broker.port());
        assert!(reader.may_subscribe("other/#"));
        topics.stop();
        thread::sleep(SHORT_TTL);
        // The source of a retained message cannot be asked about, on behalf of a local user.
        let mut local = local(&broker);
        assert!(local.may_subscribe("news/#"));
        assert_eq!(payloads(&mut local), [""; 0]);
        assert_eq!(local.publish_acknowledged("other/1", "x") & 0x80, 0);
        assert_eq!(reader.subscribe(&[("more/#", 1)]), [reason::NOT_AUTHORIZED]);
        assert_eq!(payloads(&mut reader), [""; 0]);
        alice.hang_up();
        let line = broker.wait_for_log("Refused write of \"will\"", PATIENCE);
        assert!(!line.contains("it is disconnected"), "{line}");
        local.ping();
        // It is there as before.
        topics.restart().unwrap();
        assert!(eventually(PATIENCE, || {
            local.may_subscribe("news/#");
            payloads(&mut local).contains(&"kept".to_owned())
        }));
    });
}

/// A client that sleeps, for which a message waits. Then the API about topics goes, and is left alone.
fn sleeper_with_a_message(broker: &Broker, topics: &MockApi) -> Connect {
    let sleeper = of(Protocol::V3_1_1, "sleeper").durable();
    let mut client = sleeper.accepted(broker.port());
    assert!(client.may_subscribe("news/#"));
    client.disconnect();
    assert_eq!(local(broker).publish_acknowledged("news/1", "first") & 0x80, 0);
    topics.stop();
    thread::sleep(SHORT_TTL);
    exhaust_topics(broker);
    sleeper
}

/// The broker would drop each message about which it gets no yes.
#[test]
fn what_waits_for_a_client_that_cannot_be_asked_about_stays() {
    on_every_broker(|version| {
        let (logins, topics) = (friendly_api(), friendly_api());
        let broker = with_two_apis(version, &logins, &topics).option("acl_cache_ttl", "1s").start();
        let sleeper = sleeper_with_a_message(&broker, &topics);
        for _ in 0..3 {
            assert!(sleeper.attempt(broker.port()).is_err(), "it is let in, and what waits for it is lost");
        }
        broker.wait_for_log("what waits for it in its session would be lost", PATIENCE);
        // Whoever begins anew has nothing to lose.
        of(Protocol::V3_1_1, "beginner").accepted(broker.port());
        topics.restart().unwrap();
        broker.wait_for_log(CLOSED, PATIENCE);
        let mut client = sleeper.accepted(broker.port());
        assert_eq!(client.receive(PATIENCE).expect("what waited").payload, b"first");
    });
}

/// By default the allows still serve, so nobody has to wait outside.
#[test]
fn who_has_slept_for_less_than_stale_ttl_gets_what_waits_for_it() {
    on_every_broker(|version| {
        let (logins, topics) = (friendly_api(), friendly_api());
        let broker = asking_two_apis(version, &logins, &topics)
            .option("acl_cache_ttl", "1s")
            .option("breaker_pause", "1h")
            .start();
        let sleeper = sleeper_with_a_message(&broker, &topics);
        let mut client = sleeper.accepted(broker.port());
        assert_eq!(client.receive(PATIENCE).expect("what waited").payload, b"first");
    });
}

/// Nobody can say whether the reader may have it: it waits, and is asked about when the reader comes back.
#[test]
fn what_comes_for_a_sleeping_reader_waits_until_it_can_be_asked_about() {
    on_every_broker(|version| {
        for may_read in [true, false] {
            let (logins, topics) = (friendly_api(), friendly_api());
            let mut broker = asking_two_apis(version, &logins, &topics)
                .option("breaker_pause", "100ms")
                .option("breaker_longest", "300ms")
                .global("persistence true")
                .global("persistence_location ./")
                .start();
            let (sleeper, restored) =
                (of(Protocol::V3_1_1, "sleeper").durable(), of(Protocol::V5, "restored").durable());
            for connect in [&sleeper, &restored] {
                let mut client = connect.accepted(broker.port());
                assert!(client.may_subscribe("news/#"));
                client.disconnect();
            }
            // Of one of them the plugin knows nothing but what the broker has from its disk.
            broker.restart();
            sleeper.accepted(broker.port()).disconnect();
            let mut there = of(Protocol::V5, "there").durable().accepted(broker.port());
            assert!(there.may_subscribe("news/#"));
            topics.stop();
            exhaust_topics(&broker);
            assert_eq!(local(&broker).publish_acknowledged("news/1", "x") & 0x80, 0);
            assert_eq!(payloads(&mut there), [""; 0], "who is there gets what nobody allowed");
            for connect in [&sleeper, &restored] {
                assert!(
                    connect.attempt(broker.port()).is_err(),
                    "{connect:?} is let in and loses its message"
                );
            }
            topics.answer_with(move |request| {
                Reply::status(if may_read || request.acc() != 1 { 200 } else { 403 })
            });
            topics.restart().unwrap();
            broker.wait_for_log(CLOSED, PATIENCE);
            for connect in [&sleeper, &restored] {
                let mut client = connect.accepted(broker.port());
                client.ping();
                assert_eq!(payloads(&mut client).len(), usize::from(may_read), "{connect:?}");
            }
        }
    });
}
