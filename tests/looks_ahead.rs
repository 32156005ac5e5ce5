//! Before the broker waits for one answer, the plugin looks into its other sockets and asks what waits there,
//! side by side. Whoever is let in, is by a verdict on the very question; nobody else's sockets are touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

mod support;
use support::tls::{Authority, Validity};
use support::{
    A_WHILE, Broker, Client, Connect, MockApi, PATIENCE, Protocol, Reply, Request, Setup, Version, Will, api,
    broker_asking, eventually, on_every_broker, reason,
};

/// As long as the plugin can be told to wait: nothing here is to end by itself.
const LONG: &str = "60s";

/// The API holds its answers to the topics `gate/1`, `gate/2`, ... until they are opened.
#[derive(Default)]
struct Gates {
    opened: Mutex<usize>,
    changed: Condvar,
}

impl Gates {
    fn open(&self, number: usize) {
        *self.opened.lock().unwrap() = number;
        self.changed.notify_all();
    }

    fn pass(&self, number: usize) {
        let opened = self.opened.lock().unwrap();
        drop(self.changed.wait_timeout_while(opened, 3 * PATIENCE, |opened| *opened < number).unwrap());
    }
}

/// A broker that can be frozen on purpose while other clients send: on a PUBLISH to a gate.
struct Stage {
    broker: Broker,
    api: MockApi,
    gates: Arc<Gates>,
    keepers: Vec<Client>,
    /// The last gate that somebody knocked at.
    gate: usize,
}

/// One look into the sockets is short, and on a busy machine it sees little: so there are several.
const LOOKS: usize = 8;

impl Drop for Stage {
    fn drop(&mut self) {
        self.gates.open(usize::MAX);
    }
}

impl Stage {
    /// Logins block on every broker here.
    fn on(version: Version) -> Self {
        Self::with(version, |setup| setup)
    }

    fn with(version: Version, configure: impl FnOnce(Setup) -> Setup) -> Self {
        Self::start(version, |setup| configure(setup.option("auth_mode", "blocking")))
    }

    fn start(version: Version, configure: impl FnOnce(Setup) -> Setup) -> Self {
        let (api, gates) = (api(""), Arc::<Gates>::default());
        let held = Arc::clone(&gates);
        api.answer_with(move |request| {
            if let Some(number) = request.field("topic").strip_prefix("gate/") {
                held.pass(number.parse().unwrap());
            }
            by_name(request)
        });
        let broker = configure(broker_asking(version, &api).option("timeout", LONG)).start();
        let keeper = |n| Connect::v3(format!("keeper-{n}")).login("keeper", "right").accepted(broker.port());
        let keepers = (0..=LOOKS).map(keeper).collect();
        api.forget_requests();
        Self { broker, api, gates, keepers, gate: 0 }
    }

    /// Connections that the broker has accepted and got nothing from yet.
    fn connections(&self, count: usize, protocol: Protocol) -> Vec<Client> {
        self.connections_to(self.broker.port(), count, protocol)
    }

    fn connections_to(&self, port: u16, count: usize, protocol: Protocol) -> Vec<Client> {
        self.while_accepted(count, || (0..count).map(|_| Client::open(port, protocol)).collect())
    }

    /// Waits until the broker has accepted so many connections more.
    fn while_accepted<T>(&self, count: usize, open: impl FnOnce() -> T) -> T {
        let accepted = || self.broker.log().matches("New connection from").count();
        let before = accepted();
        let opened = open();
        assert!(eventually(PATIENCE, || accepted() >= before + count), "connections are accepted");
        opened
    }

    /// Freezes the broker, and has the plugin look while what `send` sends waits in its sockets.
    fn freeze_in_front_of<T>(&mut self, send: impl FnOnce(&Self) -> T) -> T {
        // The first gate keeps the broker from reading, at each of the others it comes with a question.
        let first = self.gate + 1;
        self.knock(0);
        self.wait_at(first);
        for keeper in 1..=LOOKS {
            self.knock(keeper);
        }
        let sent = send(self);
        for gate in first..self.gate {
            self.gates.open(gate);
            self.wait_at(gate + 1);
            thread::sleep(Duration::from_millis(5));
        }
        sent
    }

    fn knock(&mut self, keeper: usize) {
        self.gate += 1;
        let topic = format!("gate/{}", self.gate);
        self.keepers[keeper].publish(topic, "");
    }

    fn wait_at(&self, gate: usize) {
        let topic = format!("gate/{gate}");
        let is_there = || self.api.topic_checks().iter().any(|request| request.field("topic") == topic);
        assert!(eventually(PATIENCE, is_there), "the broker waits at gate {gate}");
    }

    fn thaw(&self) {
        self.gates.open(self.gate);
    }

    /// Lets the broker go on while the API has no answer for whatever it still has to be asked.
    fn thaw_without_api(&self) {
        self.api.answer(Reply::status(500));
        self.thaw();
    }

    /// What the API was asked, but for the gates; sorted.
    fn asked(&self) -> Vec<String> {
        let mut asked: Vec<String> = (self.api.requests().iter())
            .filter(|request| !request.field("topic").starts_with("gate/"))
            .map(described)
            .collect();
        asked.sort();
        asked
    }

    /// Waits until these questions were asked, and sees that no others are.
    fn assert_asked(&self, expected: impl IntoIterator<Item = impl Into<String>>) {
        let mut expected: Vec<String> = expected.into_iter().map(Into::into).collect();
        expected.sort();
        eventually(PATIENCE, || self.asked().len() >= expected.len());
        thread::sleep(A_WHILE);
        assert_eq!(self.asked(), expected);
    }

    /// Has the plugin see these clients log in, and lets them in.
    fn let_in(&mut self, logins: &[Connect], protocol: Protocol) -> Vec<Client> {
        let mut clients = self.connections(logins.len(), protocol);
        self.freeze_in_front_of(|_| {
            for (client, login) in clients.iter_mut().zip(logins) {
                client.send(&login.packet());
            }
        });
        self.thaw();
        for client in &mut clients {
            assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
        }
        self.api.forget_requests();
        clients
    }
}

/// Wrong passwords and the topics below `no/` are denied; about the passwords `unknown` and
/// `lost` the API has no answer.
fn by_name(request: &Request) -> Reply {
    let (password, topic) = (request.field("password"), request.field("topic"));
    let denied = password.starts_with("wrong") || topic.starts_with("no/");
    match password {
        "lost" => Reply::Close,
        "unknown" => Reply::status(500),
        _ => Reply::status(if denied { 403 } else { 200 }),
    }
}

/// A question in a line: `username` or `username/clientid access topic`.
fn described(request: &Request) -> String {
    let username = request.field("username");
    if request.path == "/auth" {
        return format!("login {username}");
    }
    let access = match request.acc() {
        1 => "read",
        2 => "write",
        4 => "subscribe",
        other => panic!("access {other}"),
    };
    format!("{username}/{} {access} {}", request.field("clientid"), request.field("topic"))
}

fn crowd(size: usize) -> Vec<Connect> {
    (0..size).map(|n| Connect::v5(format!("c{n}")).login(format!("u{n}"), "right")).collect()
}

const CROWD: usize = 20;

/// The hash of `right`.
const RIGHT: &str = "$7$101$MDEyMzQ1Njc4OWFi$oVTkYV/9LKmtx0meTiciG2BkFmKy5yhpM8emDSS4KMeZKfNKWsHNT0OdjZPOTXytWioo\
                     +XuMEP8f6c9a+DB9gw==";

#[test]
fn logins_that_wait_are_asked_at_once_and_once() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
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
        let mut stage = Stage::on(version);
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
        thread::sleep(A_WHILE);
        let in_its_name = |stage: &Stage| stage.asked().iter().any(|asked| asked.starts_with("u0/c0"));
        assert!(!in_its_name(&stage), "{:?}", stage.asked());
        drop(victim);
        stage.thaw();
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

/// A connection from this port, to be closed without a trace (`TIME_WAIT`).
fn connection_from(local_port: u16, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], local_port)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.into()
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
        let local_port = support::free_port();
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
        thread::sleep(A_WHILE);
        assert!(!stage.asked().iter().any(|asked| asked.starts_with("victim")), "{:?}", stage.asked());
        stage.thaw();
    });
}

const THROTTLE_AFTER: usize = 3;

fn throttled(version: Version, by: &str) -> Stage {
    Stage::with(version, |setup| {
        setup
            .option("throttle_after", THROTTLE_AFTER)
            .option("throttle_pause", "1h")
            .option("throttle_longest", "1h")
            .option("throttle_by", by)
    })
}

/// What is asked about these logins if they wait at once, and who gets in.
fn tried_at_once(stage: &mut Stage, logins: &[Connect]) -> (usize, Vec<bool>) {
    let mut clients = stage.connections(logins.len(), Protocol::V3_1_1);
    stage.freeze_in_front_of(|_| {
        for (client, login) in clients.iter_mut().zip(logins) {
            client.send(&login.packet());
        }
    });
    thread::sleep(A_WHILE);
    stage.thaw();
    let let_in = clients.iter_mut().map(|client| client.connack(PATIENCE) == Some(reason::SUCCESS)).collect();
    (stage.asked().len(), let_in)
}

#[test]
fn wrong_passwords_that_wait_together_are_throttled() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address+username");
        let guesses: Vec<_> =
            (0..30).map(|n| Connect::v3(format!("m{n}")).login("victim", format!("wrong{n}"))).collect();
        let (asked, let_in) = tried_at_once(&mut stage, &guesses);
        assert!(let_in.iter().all(|let_in| !let_in));
        assert!(asked <= 2 * THROTTLE_AFTER, "{asked} of 30 passwords were tried");
    });
}

#[test]
fn a_right_guess_among_wrong_ones_comes_too_late() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address+username");
        let mut guesses: Vec<_> =
            (0..30).map(|n| Connect::v3(format!("m{n}")).login("victim", format!("wrong{n}"))).collect();
        guesses.push(Connect::v3("m").login("victim", "right"));
        let (_, let_in) = tried_at_once(&mut stage, &guesses);
        assert!(!let_in[30], "the throttle was passed by");
    });
}

#[test]
fn one_address_that_tries_many_names_is_throttled() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address");
        let guesses: Vec<_> = (0..30).map(|n| Connect::v3("m").login(format!("n{n}"), "wrong")).collect();
        let (asked, let_in) = tried_at_once(&mut stage, &guesses);
        assert!(let_in.iter().all(|let_in| !let_in));
        assert!(asked <= 2 * THROTTLE_AFTER, "{asked} of 30 names were tried");
    });
}

#[test]
fn who_is_throttled_already_is_not_asked_about() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address+username");
        for n in 0..THROTTLE_AFTER {
            Connect::v3("m").login("victim", format!("wrong{n}")).refused(stage.broker.port());
        }
        stage.api.forget_requests();
        let guesses: Vec<_> =
            (0..5).map(|n| Connect::v3(format!("m{n}")).login("victim", format!("wrong-{n}"))).collect();
        let (asked, let_in) = tried_at_once(&mut stage, &guesses);
        assert_eq!((asked, let_in), (0, vec![false; 5]));
    });
}

#[test]
fn local_users_and_anonymous_clients_cause_no_questions() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| {
            setup.line("allow_anonymous true").option("user", format!("local:{RIGHT}"))
        });
        let logins = [
            Connect::v3("l").login("local", "right"),
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

/// Where nothing is remembered, an answer that comes too early is lost.
#[test]
fn where_nothing_is_remembered_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| {
            setup.option("auth_cache_ttl", 0).option("deny_cache_ttl", 0).option("acl_cache_ttl", 0)
        });
        let (asked, let_in) = tried_at_once(&mut stage, &crowd_v3(CROWD));
        assert_eq!(let_in, [true; CROWD]);
        assert!(asked <= 2 * CROWD, "{asked} questions about {CROWD} logins");
    });
}

#[test]
fn an_api_in_trouble_is_not_flooded() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let logins: Vec<_> =
            (0..CROWD).map(|n| Connect::v3(format!("c{n}")).login(format!("u{n}"), "unknown")).collect();
        let (asked, let_in) = tried_at_once(&mut stage, &logins);
        assert_eq!(let_in, [false; CROWD]);
        assert!(asked <= 2 * CROWD, "{asked} questions about {CROWD} logins");
    });
}

fn crowd_v3(size: usize) -> Vec<Connect> {
    (0..size).map(|n| Connect::v3(format!("c{n}")).login(format!("u{n}"), "right")).collect()
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

#[test]
fn nothing_is_asked_ahead_while_the_breaker_is_open() {
    on_every_broker(|version| {
        let mut stage =
            Stage::with(version, |setup| setup.option("breaker_pause", "1h").option("breaker_longest", "1h"));
        for n in 0..20 {
            let login = Connect::v3(format!("x{n}")).login(format!("x{n}"), "lost");
            assert!(login.attempt(stage.broker.port()).is_err());
        }
        assert!(stage.asked().len() < 20, "the breaker is open");
        stage.api.forget_requests();
        assert_eq!(tried_at_once(&mut stage, &crowd_v3(CROWD)), (0, vec![false; CROWD]));
    });
}

#[test]
fn a_flood_of_guesses_pushes_out_nothing_that_is_used() {
    const USED: usize = 40;
    on_every_broker(|version| {
        let mut stage =
            Stage::with(version, |setup| setup.option("cache_size", 100).global("message_size_limit 1"));
        let port = stage.broker.port();
        let mut user = Connect::v5("user").login("user", "right").accepted(port);
        let use_all = |user: &mut Client| {
            for n in 0..USED {
                assert_eq!(user.publish_acknowledged(format!("used/{n}"), "x") & 0x80, 0);
            }
        };
        use_all(&mut user);
        let mut flooder = stage.let_in(&[Connect::v3("flooder").login("flooder", "right")], Protocol::V3_1_1);
        stage.freeze_in_front_of(|_| {
            for n in 100..400 {
                // The broker drops what is too long before it asks about it.
                let publish = flooder[0].publish_packet(format!("f/{n}").as_bytes(), b"xx", 0, false);
                flooder[0].send(&publish);
            }
        });
        assert!(eventually(PATIENCE, || stage.asked().len() >= 150), "{} were asked", stage.asked().len());
        stage.thaw();
        stage.api.forget_requests();
        use_all(&mut user);
        let again = stage.asked().iter().filter(|asked| asked.contains("used/")).count();
        assert_eq!(again, 0, "used verdicts were pushed out");
    });
}

#[test]
fn a_listener_with_a_mount_point_works_and_is_left_alone_after_a_while() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| setup.listener(["mount_point m/"]));
        let mounted = stage.broker.ports()[1];
        let mut client = stage.connections_to(mounted, 1, Protocol::V3_1_1).remove(0);
        stage.freeze_in_front_of(|_| client.send(&crowd_v3(1)[0].packet()));
        stage.thaw();
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
        let mut rounds = Vec::new();
        for round in 0..4 {
            stage.api.forget_requests();
            stage.freeze_in_front_of(|_| {
                for n in 100..250 {
                    let topic = format!("{round}/{n}");
                    let publish = client.publish_packet(topic.as_bytes(), b"", 0, false);
                    client.send(&publish);
                }
            });
            let in_vain = || stage.asked().iter().filter(|asked| !asked.contains(" m/")).count();
            let mut seen = None;
            while seen.replace(in_vain()) != Some(in_vain()) {
                thread::sleep(A_WHILE);
            }
            rounds.push(in_vain());
            stage.thaw();
            client.ping();
        }
        assert!(client.may_subscribe("in"));
        client.publish("in", "x");
        let message = client.receive(PATIENCE).expect("message");
        assert!(message.topic.ends_with("in"), "2.0.11 leaves the mount point in");
        assert_eq!(rounds[3], 0, "wrong questions in each round: {rounds:?}");
        assert!(rounds.iter().sum::<usize>() <= 500, "{rounds:?}");
    });
}

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
            setup
                .file("server.pem", &server.certificate)
                .file("server.key", &server.key)
                .file("ca.pem", &authority.certificate)
                .listener(["protocol websockets"])
                .listener([
                    "certfile server.pem".to_owned(),
                    "keyfile server.key".to_owned(),
                    // The last listener's lines are the last of all: here a bridge may follow.
                    "connection bridge".to_owned(),
                    format!("address 127.0.0.1:{}", elsewhere.port()),
                    "topic from/# in 1".to_owned(),
                ])
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
        thread::sleep(A_WHILE);
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
            thread::sleep(A_WHILE);
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
