//! `auth_fields` and `acl_fields`: what the requests say beside the contract, and that each of it belongs to the verdict.

use std::process::Command;
use std::time::Duration;

mod support;

use support::tls::{Authority, TlsTunnel, Validity};
use support::{
    Broker, Client, Connect, MockApi, PATIENCE, Reply, Request, Version, api, broker_asking, eventually,
    on_every_broker, reason,
};

/// The bodies of requests, in the order in which they came.
fn bodies(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect()
}

fn friendly() -> MockApi {
    let api = api("");
    api.answer(Reply::status(200));
    api
}

fn log_in(broker: &Broker, client_id: &str) -> Client {
    Connect::v5(client_id).login("joe", "secret").accepted(broker.port())
}

#[test]
fn requests_say_what_they_are_told_to_in_a_fixed_order() {
    on_every_broker(|version| {
        let api = friendly();
        let broker = broker_asking(version, &api)
            .option("auth_fields", "keepalive, clean_start,protocol_version,protocol,address,clientid")
            .option("acl_fields", "retain,qos,address")
            .start();
        let connect = Connect::v3("sensor \"1\"").login("joe", "secret").keepalive(60).durable();
        let mut client = connect.accepted(broker.port());
        client.publish_acknowledged("a/b", "x");
        assert!(client.may_subscribe("c/#"));
        let first = r#"{"username":"joe","password":"secret","clientid":"sensor \"1\"","address":"127.0.0.1","protocol":"mqtt","protocol_version":"3.1.1","clean_start":false,"keepalive":60}"#;
        assert_eq!(bodies(&api.logins()), [first]);
        let topics = bodies(&api.topic_checks());
        let name = r#"{"username":"joe","clientid":"sensor \"1\"","#;
        let publish =
            format!(r#"{name}"topic":"a/b","acc":2,"address":"127.0.0.1","qos":1,"retain":false}}"#);
        let subscribe =
            format!(r#"{name}"topic":"c/#","acc":4,"address":"127.0.0.1","qos":1,"retain":false}}"#);
        assert_eq!(topics, [publish, subscribe]);
    });
}

#[test]
fn a_verdict_counts_for_the_whole_request_only() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let is_own = request.path != "/auth" || request.field("clientid") == request.field("username");
            Reply::status(if is_own { 200 } else { 403 })
        });
        let broker = broker_asking(version, &api)
            .option("auth_fields", "clientid")
            .option("acl_fields", "qos")
            .start();
        let joe = |client_id: &str| Connect::v5(client_id).login("joe", "secret");
        drop(joe("joe").accepted(broker.port()));
        assert_eq!(joe("other").refused(broker.port()), reason::NOT_AUTHORIZED);
        assert_eq!(api.logins().len(), 2, "the allow under one id is none under another");
        drop(joe("joe").accepted(broker.port()));
        assert_eq!(api.logins().len(), 2, "it is remembered for its own");
        let mut client = joe("joe").accepted(broker.port());
        client.publish_acknowledged("t", "x");
        client.publish_acknowledged("t", "x");
        assert_eq!(api.topic_checks().len(), 1);
        let packet = client.publish_packet(b"t", b"x", 0, false);
        client.send(&packet);
        client.ping();
        assert_eq!(api.topic_checks().len(), 2, "with another quality of service it is another question");
    });
}

#[test]
fn parked_clients_and_those_who_wait_for_their_turn_are_asked_about_in_full() {
    const CLIENTS: usize = 12;
    let api = friendly();
    api.answer(Reply::status(200).after(Duration::from_millis(50)));
    // With one name and address, most of them wait for their turn.
    let broker = broker_asking(Version::V2_1, &api).option("auth_fields", "clientid,address").start();
    let connect = |n| Connect::v5(format!("c-{n}")).login("joe", format!("secret-{n}")).send(broker.port());
    let mut clients: Vec<_> = (0..CLIENTS).map(connect).collect();
    for client in &mut clients {
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
    }
    let mut asked = bodies(&api.logins());
    asked.sort();
    let mut expected: Vec<_> = (0..CLIENTS)
        .map(|n| {
            format!(
                r#"{{"username":"joe","password":"secret-{n}","clientid":"c-{n}","address":"127.0.0.1"}}"#
            )
        })
        .collect();
    expected.sort();
    assert_eq!(asked, expected);
}

#[test]
fn a_reload_asks_the_same_again() {
    on_every_broker(|version| {
        let api = friendly();
        let broker = broker_asking(version, &api).option("auth_fields", "clientid,keepalive").start();
        let mut client = Connect::v5("sensor").login("joe", "secret").keepalive(30).accepted(broker.port());
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
        assert!(eventually(PATIENCE, || {
            client.ping();
            api.logins().len() == 2
        }));
        let asked = bodies(&api.logins());
        assert_eq!(asked[0], asked[1]);
        assert_eq!(asked[0], r#"{"username":"joe","password":"secret","clientid":"sensor","keepalive":30}"#);
        api.answer(Reply::status(403));
        // The first answer may still be on its way, and serves a question that is asked meanwhile.
        let is_asked_again = eventually(PATIENCE, || {
            broker.sighup();
            eventually(Duration::from_millis(500), || api.logins().len() == 3)
        });
        assert!(is_asked_again);
        let is_gone = eventually(PATIENCE, || {
            // 2.0.11 comes round when somebody comes.
            let _ = Connect::v5("somebody").login("somebody", "else").attempt(broker.port());
            client.wait_until_closed(Duration::from_millis(50))
        });
        assert!(is_gone, "who is refused by then goes");
    });
}

/// On 2.0 the next logins are asked about while the broker waits for the first.
#[test]
fn logins_are_looked_ahead_for_with_their_fields() {
    const CLIENTS: usize = 8;
    for version in [Version::V2_0_11, Version::V2_0_21] {
        let api = friendly();
        let broker = broker_asking(version, &api)
            .option(
                "auth_fields",
                "clientid,address,protocol,protocol_version,clean_start,keepalive,tls_serial",
            )
            .option("login_wait", 0)
            .option("timeout", "60s")
            .start();
        drop(log_in(&broker, "first"));
        api.forget_requests();
        api.answer(Reply::status(200).after(Duration::from_millis(200)));
        broker.signal(libc::SIGSTOP);
        let connect = |n| Connect::v5(format!("c-{n}")).login(format!("u-{n}"), "x").send(broker.port());
        let mut clients: Vec<_> = (0..CLIENTS).map(connect).collect();
        broker.signal(libc::SIGCONT);
        let ((), at_once) = api.most_concurrent_during(|| {
            for client in &mut clients {
                assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
            }
        });
        assert!(at_once >= CLIENTS / 2, "{version}: {at_once} of {CLIENTS} were asked about side by side");
        assert_eq!(api.logins().len(), CLIENTS, "{version}: each is asked about once");
    }
}

/// On 2.1 that is so where logins are asked about one after the other. Each listener has a port of its own.
#[test]
fn logins_are_looked_ahead_for_with_the_port_of_their_listener() {
    const CLIENTS: usize = 8;
    let api = friendly();
    let broker = broker_asking(Version::V2_1, &api)
        .option("auth_mode", "blocking")
        .option("auth_fields", "listener_port")
        .option("login_wait", 0)
        .option("timeout", "60s")
        .listener([""; 0])
        .start();
    drop(log_in(&broker, "first"));
    api.forget_requests();
    api.answer(Reply::status(200).after(Duration::from_millis(200)));
    broker.signal(libc::SIGSTOP);
    let port = |n: usize| broker.ports()[n % 2];
    let connect = |n| Connect::v5(format!("c-{n}")).login(format!("u-{n}"), "x").send(port(n));
    let mut clients: Vec<_> = (0..CLIENTS).map(connect).collect();
    broker.signal(libc::SIGCONT);
    let ((), at_once) = api.most_concurrent_during(|| {
        for client in &mut clients {
            assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
        }
    });
    assert!(at_once >= CLIENTS / 2, "{at_once} of {CLIENTS} were asked about side by side");
    let mut asked = bodies(&api.logins());
    asked.sort();
    let expected = |n| format!(r#"{{"username":"u-{n}","password":"x","listener_port":{}}}"#, port(n));
    assert_eq!(asked, (0..CLIENTS).map(expected).collect::<Vec<_>>());
}

#[test]
fn nothing_about_topics_is_asked_ahead_without_its_fields() {
    const READERS: usize = 5;
    on_every_broker(|version| {
        let api = friendly();
        let broker = broker_asking(version, &api).option("acl_fields", "qos").start();
        let mut readers: Vec<_> = (0..READERS)
            .map(|n| {
                let mut reader = log_in(&broker, &format!("reader-{n}"));
                assert!(reader.may_subscribe("news"));
                reader
            })
            .collect();
        let mut writer = log_in(&broker, "writer");
        api.forget_requests();
        writer.publish_acknowledged("news", "x");
        for reader in &mut readers {
            assert!(reader.receive(PATIENCE).is_some());
        }
        let asked = api.topic_checks();
        assert_eq!(asked.len(), 1 + READERS, "one for the message, one for each reader");
        assert!(asked.iter().all(|request| request.json["qos"].is_u64()), "{:?}", bodies(&asked));
        let failure = broker_asking(version, &api)
            .option("acl_fields", "qos")
            .option("acl_prefetch", "subscribe a/%c")
            .start_expecting_failure();
        assert!(failure.log.contains("acl_prefetch: found it beside acl_fields"), "{}", failure.log);
    });
}

#[test]
fn clients_of_websockets_are_told_apart() {
    for version in [Version::V2_0_21, Version::V2_1] {
        let api = friendly();
        let broker = broker_asking(version, &api)
            .option("auth_fields", "protocol,protocol_version")
            .listener(["protocol websockets"])
            .start();
        let connect = Connect::v5("browser").login("joe", "secret").over_websocket();
        drop(connect.accepted(broker.ports()[1]));
        let expected =
            r#"{"username":"joe","password":"secret","protocol":"websockets","protocol_version":"5"}"#;
        assert_eq!(bodies(&api.logins()), [expected], "{version}");
    }
}

#[test]
fn the_listener_is_told_by_brokers_that_know_it() {
    let api = friendly();
    let broker = broker_asking(Version::V2_1, &api).option("auth_fields", "listener_port").start();
    drop(log_in(&broker, "sensor"));
    let port = broker.port();
    let expected = format!(r#"{{"username":"joe","password":"secret","listener_port":{port}}}"#);
    assert_eq!(bodies(&api.logins()), [expected]);
    for (version, option) in [(Version::V2_0_11, "auth_fields"), (Version::V2_0_21, "acl_fields")] {
        let failure =
            broker_asking(version, &api).option(option, "address,listener_port").start_expecting_failure();
        let expected = format!("plugin_opt_{option}: found listener_port, which this broker does not tell");
        assert!(failure.log.contains(&expected), "{}", failure.log);
    }
}

/// What `openssl x509` says of a certificate.
fn shown_by_openssl(pem: &str, options: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.pem");
    std::fs::write(&file, pem).unwrap();
    let output = Command::new("openssl").args(["x509", "-noout", "-in"]).arg(&file).args(options).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.trim().split_once('=').unwrap().1.trim().to_owned()
}

#[test]
fn certificates_are_told_at_the_login_and_with_topics() {
    let authority = Authority::new("Factory");
    let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
    let sensor = authority.issue_to("sensor 7, hall 3", "DNS:sensor", &Validity::NOW);
    let serial = shown_by_openssl(&sensor.certificate, &["-serial"]).to_lowercase();
    let digest = shown_by_openssl(&sensor.certificate, &["-fingerprint", "-sha256"]);
    let digest = digest.replace(':', "").to_lowercase();
    on_every_broker(|version| {
        let api = friendly();
        let fields = "tls_fingerprint,tls_serial,tls_subject,tls_common_name";
        let broker = broker_asking(version, &api)
            .option("auth_fields", fields)
            .option("acl_fields", fields)
            .file("ca.pem", &authority.certificate)
            .tls_listener(&server, &["cafile ca.pem", "require_certificate true"])
            .start();
        let tunnel = TlsTunnel::start(broker.ports()[1], &sensor, &authority);
        let mut client = Connect::v5("c").login("joe", "secret").accepted(tunnel.port());
        for _ in 0..3 {
            client.publish_acknowledged("t", "x");
        }
        let told = format!(
            r#""tls_common_name":"sensor 7, hall 3","tls_subject":"CN=sensor 7\\, hall 3","tls_serial":"{serial}","tls_fingerprint":"{digest}"}}"#
        );
        assert_eq!(bodies(&api.logins()), [format!(r#"{{"username":"joe","password":"secret",{told}"#)]);
        let topic = format!(r#"{{"username":"joe","clientid":"c","topic":"t","acc":2,{told}"#);
        assert_eq!(bodies(&api.topic_checks()), [topic]);
        // Who has none is another one, with the same name and password.
        drop(log_in(&broker, "plain"));
        let expected = r#"{"username":"joe","password":"secret","tls_common_name":null,"tls_subject":null,"tls_serial":null,"tls_fingerprint":null}"#;
        assert_eq!(bodies(&api.logins())[1], expected);
    });
}

#[test]
fn fields_that_are_none_are_named() {
    let api = friendly();
    for (option, value, complaint) in [
        ("auth_fields", "client_id", "client_id"),
        ("auth_fields", "clientid,qos", "only a question about a topic has it, see acl_fields"),
        ("acl_fields", "clientid", "each question about a topic has it already"),
    ] {
        let failure = broker_asking(Version::V2_1, &api).option(option, value).start_expecting_failure();
        let line = failure.log.lines().find(|line| line.contains(&format!("plugin_opt_{option}")));
        assert!(line.is_some_and(|line| line.contains(complaint)), "{}", failure.log);
    }
}
