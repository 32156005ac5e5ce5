//! Topics: the API is asked about every access that `acl_checks` names, with the topic as it was sent, and a refusal
//! holds.

use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

mod support;
use support::{
    Broker, Client, Connect, MockApi, PASSWORD, PATIENCE, Reply, Request, Setup, Version, Will, api,
    broker_asking, fence, friendly_api, local_user, on_every_broker, reason,
};

const READ: u64 = 1;
const WRITE: u64 = 2;
const SUBSCRIBE: u64 = 4;

/// `reader` may subscribe to everything but read only news, `writer` may write anything.
const RULES: &str = "\
user reader secret
allow subscribe #
allow subscribe $SYS/#
allow read news/#
user writer secret
allow write #
user friend secret
allow all #
";

fn reader(broker: &Broker) -> Client {
    Connect::v5("reader-1").login("reader", "secret").accepted(broker.port())
}

fn writer(broker: &Broker) -> Client {
    Connect::v5("writer-1").login("writer", "secret").accepted(broker.port())
}

/// Every check is a question.
fn without_memory(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api).option("acl_cache_ttl", 0).option("deny_cache_ttl", 0)
}

fn triples(requests: &[Request]) -> Vec<(&str, &str, u64)> {
    requests
        .iter()
        .map(|request| (request.field("username"), request.field("topic"), request.acc()))
        .collect()
}

#[test]
fn the_question_is_as_promised() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api).start();
        let mut reader = reader(&broker);
        assert!(reader.may_subscribe("news/#"));
        writer(&broker).publish("news/today", "sunny");
        assert_eq!(reader.receive(PATIENCE).expect("message").payload, b"sunny");

        let asked = api.topic_checks();
        let mut bodies: Vec<_> = asked.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
        // The questions about one message are asked side by side.
        bodies[1..].sort();
        assert_eq!(
            bodies,
            [
                r##"{"username":"reader","clientid":"reader-1","topic":"news/#","acc":4}"##,
                r#"{"username":"reader","clientid":"reader-1","topic":"news/today","acc":1}"#,
                r#"{"username":"writer","clientid":"writer-1","topic":"news/today","acc":2}"#,
            ]
        );
        for request in &asked {
            assert_eq!(request.method, "POST");
            assert_eq!(request.header("content-type"), Some("application/json"));
        }
        assert!(api.connections() <= 2, "logins and topic checks share connections");
    });
}

#[test]
fn a_refused_subscription_is_not_granted() {
    on_every_broker(|version| {
        let api = api("user alice secret\nallow subscribe mine/#\nallow all mine/#\n");
        let broker = broker_asking(version, &api).start();
        let filters = [("mine/#", 1), ("theirs/#", 1), ("mine/deep/+", 0)];
        let mut alice = Connect::v5("a5").login("alice", "secret").accepted(broker.port());
        assert_eq!(alice.subscribe(&filters), [1, reason::NOT_AUTHORIZED, 0]);
        let mut alice = Connect::v3("a3").login("alice", "secret").accepted(broker.port());
        assert_eq!(alice.subscribe(&filters), [1, reason::SUBSCRIBE_FAILED_V3, 0]);
    });
}

#[test]
fn a_refused_publish_reaches_nobody_and_costs_no_connection() {
    on_every_broker(|version| {
        let api = api("user friend secret\nallow all #\nuser mute secret\nallow write news/#\n");
        let broker = broker_asking(version, &api).start();
        let mut friend = Connect::v5("friend").login("friend", "secret").accepted(broker.port());
        assert!(friend.may_subscribe("#"));
        let mut old = Connect::v3("m3").login("mute", "secret").accepted(broker.port());
        let mut new = Connect::v5("m5").login("mute", "secret").accepted(broker.port());

        old.publish("secrets", "x");
        assert_eq!(old.publish_acknowledged("secrets", "x"), 0, "MQTT 3.1.1 cannot say more");
        assert_eq!(new.publish_acknowledged("secrets", "x"), reason::NOT_AUTHORIZED);
        old.publish("news/1", "y");
        assert_eq!(friend.receive(PATIENCE).expect("message").topic, "news/1");
        old.ping();
        new.ping();
    });
}

#[test]
fn a_message_is_delivered_to_those_who_may_read_it() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api).start();
        let mut reader = reader(&broker);
        let mut friend = Connect::v3("friend").login("friend", "secret").accepted(broker.port());
        assert!(reader.may_subscribe("#") && friend.may_subscribe("#"));
        let mut writer = writer(&broker);
        writer.publish("secrets", "x");
        writer.publish("news/1", "y");
        assert_eq!(friend.receive(PATIENCE).expect("message").topic, "secrets");
        assert_eq!(friend.receive(PATIENCE).expect("message").topic, "news/1");
        assert_eq!(reader.receive(PATIENCE).expect("message").topic, "news/1");
        assert_eq!(fence::received(&mut reader), []);
    });
}

#[test]
fn shared_subscriptions_are_asked_about_as_they_were_sent() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api).start();
        let mut reader = reader(&broker);
        assert!(reader.may_subscribe("$share/group/news/#"));
        writer(&broker).publish("news/1", "x");
        assert_eq!(reader.receive(PATIENCE).expect("message").topic, "news/1");
        let asked = api.topic_checks();
        let mut asked = triples(&asked);
        // The questions about one message are asked side by side.
        asked[1..].sort();
        assert_eq!(
            asked,
            [
                ("reader", "$share/group/news/#", SUBSCRIBE),
                ("reader", "news/1", READ),
                ("writer", "news/1", WRITE)
            ]
        );
    });
}

#[test]
fn a_will_is_a_publish_of_its_client() {
    on_every_broker(|version| {
        let api = api("user friend secret\nallow all #\nuser mute secret\nallow write news/#\n");
        let broker = broker_asking(version, &api).start();
        let mut friend = Connect::v3("friend").login("friend", "secret").accepted(broker.port());
        assert!(friend.may_subscribe("#"));
        for topic in ["secrets", "news/last"] {
            let will = Will { topic: topic.into(), payload: b"bye".to_vec(), qos: 0, retain: false };
            drop(Connect::v3("mortal").login("mute", "secret").will(will).accepted(broker.port()));
        }
        assert_eq!(friend.receive(PATIENCE).expect("will").topic, "news/last");
        let asked = api.topic_checks();
        assert!(triples(&asked).contains(&("mute", "secrets", WRITE)));
        assert!(triples(&asked).contains(&("mute", "news/last", WRITE)));
    });
}

#[test]
fn a_retained_message_goes_to_those_who_may_read_it() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api).start();
        let mut writer = writer(&broker);
        writer.publish_retained("secrets", "x");
        writer.publish_retained("news/1", "y");
        writer.ping();
        let mut reader = reader(&broker);
        assert!(reader.may_subscribe("#"));
        let message = reader.receive(PATIENCE).expect("retained message");
        assert_eq!((message.topic.as_str(), message.retain), ("news/1", true));
        assert_eq!(fence::received(&mut reader), []);
        assert!(triples(&api.topic_checks()).contains(&("reader", "secrets", READ)));
    });
}

#[test]
fn a_queued_message_is_checked_when_it_is_delivered() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = without_memory(version, &api).start();
        let connect = Connect::v3("sleeper").login("friend", "secret").durable();
        let mut sleeper = connect.accepted(broker.port());
        assert!(sleeper.may_subscribe("#"));
        sleeper.disconnect();
        let mut writer = writer(&broker);
        assert_eq!(writer.publish_acknowledged("secrets", "x"), 0);
        assert_eq!(writer.publish_acknowledged("news/1", "y"), 0);

        // Meanwhile the sleeper has lost a right.
        api.answer_with(|request| match (request.acc(), request.field("topic")) {
            (READ, "secrets") => Reply::status(403),
            _ => Reply::rules(),
        });
        let mut sleeper = connect.accepted(broker.port());
        let message = sleeper.receive(PATIENCE).expect("queued message");
        assert_eq!(message.topic, "news/1");
        assert_eq!(fence::received(&mut sleeper), []);
    });
}

#[test]
fn unsubscribing_needs_no_question() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = without_memory(version, &api).start();
        let mut reader = reader(&broker);
        assert!(reader.may_subscribe("news/#"));
        api.forget_requests();
        api.answer(Reply::Hang);
        reader.unsubscribe("news/#");
        reader.unsubscribe("never/subscribed");
        assert!(api.requests().is_empty());
    });
}

#[test]
fn without_acl_url_topics_are_not_checked() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = Broker::with(version).option("auth_url", api.auth_url()).start();
        let mut reader = reader(&broker);
        assert!(reader.may_subscribe("#"));
        writer(&broker).publish("secrets", "x");
        assert_eq!(reader.receive(PATIENCE).expect("message").topic, "secrets");
        assert!(api.topic_checks().is_empty());
    });
}

#[test]
fn names_that_look_like_wildcards_may_touch_nothing() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).start();
        for (client_id, username) in [("client", "a+"), ("client", "#"), ("+", "alice"), ("cl#ient", "alice")]
        {
            let mut client = Connect::v5(client_id).login(username, "secret").accepted(broker.port());
            assert!(!client.may_subscribe("news/#"), "{client_id} {username}");
            assert_eq!(client.publish_acknowledged("news/1", "x"), reason::NOT_AUTHORIZED);
        }
        assert!(api.topic_checks().is_empty());
        let mut client = Connect::v5("client").login("alice", "secret").accepted(broker.port());
        assert!(client.may_subscribe("news/#"));
    });
}

#[test]
fn names_that_look_like_wildcards_are_asked_about_if_the_operator_wants() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("special_chars", "allow").start();
        let mut client = Connect::v5("+").login("#", "secret").accepted(broker.port());
        assert!(client.may_subscribe("news/#"));
        let asked = api.topic_checks();
        assert_eq!((asked[0].field("username"), asked[0].field("clientid")), ("#", "+"));
    });
}

#[test]
fn anonymous_clients_go_by_their_option() {
    on_every_broker(|version| {
        let api = friendly_api();
        let anonymous = |option: Option<&str>| {
            let mut setup = broker_asking(version, &api).line("allow_anonymous true");
            if let Some(value) = option {
                setup = setup.option("anonymous", value);
            }
            let broker = setup.start();
            let mut client = Connect::v5("nobody").accepted(broker.port());
            let (subscribed, published) =
                (client.may_subscribe("news/#"), client.publish_acknowledged("news/1", "x"));
            (subscribed, published < 0x80)
        };
        assert_eq!(anonymous(None), (false, false));
        assert_eq!(anonymous(Some("deny")), (false, false));
        assert_eq!(anonymous(Some("allow")), (true, true));
        assert!(api.requests().is_empty());
    });
}

#[test]
fn only_the_chosen_accesses_are_asked_about() {
    on_every_broker(|version| {
        let api = api("user alice secret\n");
        let broker = broker_asking(version, &api).option("acl_checks", "write").start();
        let mut alice = Connect::v5("a").login("alice", "secret").accepted(broker.port());
        assert!(alice.may_subscribe("news/#"), "not asked about, so allowed");
        assert_eq!(alice.publish_acknowledged("news/1", "x"), reason::NOT_AUTHORIZED);
        assert_eq!(triples(&api.topic_checks()), [("alice", "news/1", WRITE)]);

        let broker = broker_asking(version, &api).option("acl_checks", "subscribe,read").start();
        let mut alice = Connect::v5("a").login("alice", "secret").accepted(broker.port());
        assert!(!alice.may_subscribe("news/#"));
        assert!(alice.publish_acknowledged("news/1", "x") < 0x80);
    });
}

/// The first of these lets whoever it is asked about give commands to the second, unless nothing but a rule or the API may.
#[test]
fn no_option_lets_anybody_give_commands_to_another_plugin() {
    const COMMANDS: &str = "$CONTROL/dynamic-security/v1";
    on_every_broker(|version| {
        let library = version.program("mosquitto").with_file_name("../lib/mosquitto_dynamic_security.so");
        if !library.exists() {
            eprintln!("mosquitto {version} skipped: it has no {}", library.display());
            return;
        }
        let folder = TempDir::new().unwrap();
        let state = folder.path().join("state.json");
        let init = ["dynsec", "init", state.to_str().unwrap(), "admin", "secret"];
        let init = Command::new(version.program("mosquitto_ctrl")).args(init).output().unwrap();
        assert!(init.status.success(), "{init:?}");
        let lists = |setup: Setup, connect: Connect| {
            let library = format!("plugin {}", library.display());
            let broker = setup.line(library).option("config_file", state.to_str().unwrap()).start();
            let mut client = connect.accepted(broker.port());
            assert!(client.may_subscribe(&format!("{COMMANDS}/response")));
            client.publish_acknowledged(COMMANDS, "{\"commands\":[{\"command\":\"listClients\"}]}");
            let got = fence::received(&mut client);
            got.iter().any(|message| String::from_utf8_lossy(&message.payload).contains("admin"))
        };
        let api = friendly_api();
        let refuses_writes = || {
            let may = |request: &Request| request.path == "/auth" || request.acc() != WRITE;
            api.answer_with(move |request| Reply::status(if may(request) { 200 } else { 403 }));
            broker_asking(version, &api)
        };
        let mallory = || Connect::v5("m").login("mallory", "x");
        assert!(!lists(refuses_writes().option("acl_checks", "read,subscribe"), mallory()));
        let rule = serde_json::json!({ "permission": "allow", "action": "subscribe", "topic": "$CONTROL/#" });
        let rules = serde_json::json!({ "result": "allow", "acl": [rule] });
        let with_rules = refuses_writes().option("answer_rules", true).option("acl_no_match", "allow");
        api.answer_with(move |request| match request.path.as_str() {
            "/auth" => Reply::json(&rules),
            _ => Reply::status(403),
        });
        assert!(!lists(with_rules, mallory()));
        let local = Connect::v5("l").login("local", PASSWORD);
        assert!(!lists(refuses_writes().option("user", local_user("local")), local));
        let anonymous = refuses_writes().option("anonymous", "allow").global("allow_anonymous true");
        assert!(!lists(anonymous, Connect::v5("a")));
        // It works where the API allows it.
        api.answer(Reply::status(200));
        assert!(lists(broker_asking(version, &api), mallory()));
    });
}

#[test]
fn hostile_topics_arrive_as_they_are_or_not_at_all() {
    let long = "x/".repeat(30_000);
    let deep = "/".repeat(190);
    let topics = [
        r#"a"b\"#,
        r#"","acc":1,"x":""#,
        "control \u{1}\u{7f}\t\n",
        "emoji \u{1f600}",
        "%u %c %s%n",
        " ",
        "/",
        "$share/x/y",
        "null",
        &deep,
        &long,
    ];
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = without_memory(version, &api).start();
        for topic in topics {
            let mut alice = Connect::v3("a").login("alice", "secret").accepted(broker.port());
            api.forget_requests();
            let packet = alice.publish_packet(topic.as_bytes(), b"x", 1, false);
            alice.send(&packet);
            let filter = alice.subscribe_packet(&[(topic, 0)]);
            alice.send(&filter);
            // A topic that MQTT forbids ends the connection, and whatever it was is not asked about.
            let answered = alice.try_ping(PATIENCE).is_some();
            assert!(answered || alice.is_closed());
            for request in api.topic_checks() {
                assert_eq!(request.field("topic"), topic);
                assert_eq!(request.json.as_object().map(|fields| fields.len()), Some(4));
            }
        }
        assert!(broker.is_running());
        Connect::v3("a").login("alice", "secret").accepted(broker.port()).ping();
    });
}

#[test]
fn refusals_in_the_log_topic_do_not_go_round_in_circles() {
    on_every_broker(|version| {
        let api = api(RULES);
        let mut broker = without_memory(version, &api).global("log_dest topic").start();
        // `reader` may subscribe to $SYS but not read it: every line of the log is one more refusal.
        let mut reader = reader(&broker);
        assert!(reader.may_subscribe("$SYS/broker/log/#"));
        assert!(reader.may_subscribe("news/#"));
        for number in 0..20 {
            Connect::v3("stranger").login(format!("stranger-{number}"), "wrong").refused(broker.port());
        }
        let mut writer = writer(&broker);
        for number in 0..20 {
            assert!(writer.publish_acknowledged(format!("secrets/{number}"), "x") < 0x80);
        }
        writer.publish("news/1", "still here");
        assert_eq!(reader.receive(PATIENCE).expect("message").payload, b"still here");
        assert!(broker.is_running());
        let about_the_log = broker.log().lines().filter(|line| line.contains("$SYS/broker/log")).count();
        assert!(about_the_log < 10, "{about_the_log} lines about checks that logging caused");
    });
}

/// 2.0 tells plugins of a bare connection's end, with no client id.
#[test]
fn connections_without_a_client_do_no_harm() {
    on_every_broker(|version| {
        let api = api(RULES);
        let mut broker = broker_asking(version, &api).start();
        for rubbish in [&b""[..], b"\x10", b"\x10\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff\xff"] {
            for _ in 0..5 {
                let mut connection = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
                std::io::Write::write_all(&mut connection, rubbish).unwrap();
            }
        }
        let mut friend = Connect::v3("f").login("friend", "secret").accepted(broker.port());
        friend.ping();
        assert!(broker.is_running());
        assert!(broker.terminate().0.success());
    });
}

#[test]
fn a_refusal_has_its_line_in_the_log() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api).start();
        let mut reader = reader(&broker);
        assert_eq!(reader.publish_acknowledged("secrets", "x"), reason::NOT_AUTHORIZED);
        let line = broker.wait_for_log("\"secrets\"", PATIENCE);
        for fact in ["reader", "reader-1", "127.0.0.1", "write", "403"] {
            assert!(line.contains(fact), "{fact:?} is not in {line:?}");
        }
    });
}
