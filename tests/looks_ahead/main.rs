//! Before the broker waits for one answer, the plugin peeks into its other sockets and asks the questions that wait
//! there, side by side. A client is admitted only by a verdict on its own question, and sockets that are not of the
//! broker's clients are not touched.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

mod floods;
mod in_whose_name;
mod long_ago;
mod packets;
mod rest;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
mod together;

use support::{
    Broker, Client, Connect, MockApi, PASSWORD, PATIENCE, Protocol, Reply, Request, Setup, Version, api,
    broker_asking, eventually, fence, local_user, reason,
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

/// A broker that can be frozen on purpose while other clients send: on a message to a gate, which the keeper may read
/// only by the API. Whoever knocks is a local user, about whom the API is not asked: a look into the sockets sees the
/// knocks that wait there, and would have the API asked before the broker has come to them.
struct Stage {
    broker: Broker,
    api: MockApi,
    gates: Arc<Gates>,
    _keeper: Client,
    knockers: Vec<Client>,
    /// Publishes what the API is asked about last.
    fence: Client,
    /// The last gate that somebody knocked at.
    gate: usize,
    /// The gate at which the broker stands.
    stands_at: usize,
}

/// One look into the sockets is short, and on a busy machine it sees little: so there are several, unless a test wants
/// more.
const LOOKS: usize = 8;

/// The gates behind those: when the broker has come to the last, all that was asked before has reached the API. One
/// question may overtake another on its way there, so there are two.
const FENCES: usize = 2;

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

    /// One on which a no is remembered for longer than any test takes, however busy the machine.
    fn remembering(version: Version) -> Self {
        Self::with(version, |setup| setup.option("deny_cache_ttl", LONG))
    }

    fn with(version: Version, configure: impl FnOnce(Setup) -> Setup) -> Self {
        Self::start(version, |setup| configure(setup.option("auth_mode", "blocking")))
    }

    fn start(version: Version, configure: impl FnOnce(Setup) -> Setup) -> Self {
        let (api, gates) = (api(""), Arc::<Gates>::default());
        let held = Arc::clone(&gates);
        api.answer_with(move |request| {
            let number = request.field("topic").strip_prefix("gate/");
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                held.pass(number);
            }
            by_name(request)
        });
        let setup = broker_asking(version, &api)
            .option("timeout", LONG)
            .option("user", local_user("knocker"))
            // The fence stays, also where it publishes without an answer.
            .option("acl_no_answer", "deny");
        let broker = configure(setup).start();
        let client = |id: &str| Connect::v3(id).login("keeper", "right").accepted(broker.port());
        let (mut keeper, fence) = (client("keeper"), client("fence"));
        assert!(keeper.may_subscribe("gate/+"));
        let mut stage =
            Self { broker, api, gates, _keeper: keeper, knockers: Vec::new(), fence, gate: 0, stands_at: 0 };
        stage.set_looks(LOOKS);
        stage
    }

    /// How often the plugin looks into the sockets at each freeze.
    fn set_looks(&mut self, looks: usize) {
        for n in self.knockers.len()..=looks + FENCES {
            let knocker = Connect::v3(format!("knocker-{n}")).login("knocker", PASSWORD);
            self.knockers.push(knocker.accepted(self.broker.port()));
        }
        self.api.forget_requests();
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
        for knocker in 1..self.knockers.len() {
            self.knock(knocker);
        }
        let sent = send(self);
        for _ in 0..self.knockers.len() - 1 - FENCES {
            self.go_to_the_next_gate();
            thread::sleep(Duration::from_millis(5));
        }
        sent
    }

    fn go_to_the_next_gate(&mut self) {
        self.gates.open(self.stands_at);
        self.wait_at(self.stands_at + 1);
    }

    fn knock(&mut self, knocker: usize) {
        self.gate += 1;
        let topic = format!("gate/{}", self.gate);
        self.knockers[knocker].publish(topic, "");
    }

    /// Waits until what is asked by now has reached the API. What was to be asked was asked then, or never is.
    fn fence(&mut self) {
        if self.stands_at < self.gate {
            (0..FENCES).for_each(|_| self.go_to_the_next_gate());
        } else {
            assert_eq!(*self.gates.opened.lock().unwrap(), self.gate, "there is one fence for each freeze");
            fence::later_questions(&mut self.fence, &self.api);
        }
    }

    fn wait_at(&mut self, gate: usize) {
        let topic = format!("gate/{gate}");
        let is_there = || self.api.topic_checks().iter().any(|request| request.field("topic") == topic);
        assert!(eventually(PATIENCE, is_there), "the broker waits at gate {gate}");
        self.stands_at = gate;
    }

    fn thaw(&mut self) {
        self.gates.open(self.gate);
        self.stands_at = self.gate;
    }

    /// Lets the broker go on while the API has no answer for whatever it still has to be asked.
    fn thaw_without_api(&mut self) {
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
    fn assert_asked(&mut self, expected: impl IntoIterator<Item = impl Into<String>>) {
        let mut expected: Vec<String> = expected.into_iter().map(Into::into).collect();
        expected.sort();
        eventually(PATIENCE, || self.asked().len() >= expected.len());
        self.fence();
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

fn crowd_v3(size: usize) -> Vec<Connect> {
    (0..size).map(|n| Connect::v3(format!("c{n}")).login(format!("u{n}"), "right")).collect()
}

const CROWD: usize = 20;

/// What is asked about these logins if they wait at once, and who gets in.
fn tried_at_once(stage: &mut Stage, logins: &[Connect]) -> (usize, Vec<bool>) {
    let mut clients = stage.connections(logins.len(), Protocol::V3_1_1);
    stage.freeze_in_front_of(|_| {
        for (client, login) in clients.iter_mut().zip(logins) {
            client.send(&login.packet());
        }
    });
    stage.fence();
    stage.thaw();
    let let_in = clients.iter_mut().map(|client| client.connack(PATIENCE) == Some(reason::SUCCESS)).collect();
    (stage.asked().len(), let_in)
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
