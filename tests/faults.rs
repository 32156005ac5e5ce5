//! An API that is slow, wrong or gone: what that costs other clients, who is let in meanwhile, and how the API
//! is spared when it comes back.
//!
//! Times are compared with `timeout`, the one budget of a question, not with the clock: machines are busy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::any::Any;
use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

mod support;
use support::dns::{Lookup, NameServer};
use support::{
    A_WHILE, Broker, Client, Connect, MockApi, PATIENCE, Reply, Request, Setup, Version, api, eventually,
    free_port, reason,
};

/// The most that one question may cost. Long beside the hiccups of a busy machine.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The same where many are waited for in vain. A busy API answers within it all the same.
const SHORT_TIMEOUT: Duration = Duration::from_millis(400);

/// What nobody takes for waiting, beside a time-out.
const AT_ONCE: Duration = Duration::from_millis(800);

/// A question that took its whole time, and no other after it.
const ONE_TIMEOUT: Duration = Duration::from_millis(1900);

/// How the log says that an API is left alone, and that it is not any more.
const OPENED: &str = "It is left alone now";
const CLOSED: &str = "answers again";

/// Runs a test on the broker that waits for logins itself and on the one that lets clients wait, side by side.
fn on_both(test: impl Fn(Version) + Sync) {
    side_by_side([Version::V2_0_11, Version::V2_1], test);
}

/// Runs a test with each of these, side by side; a failure names which.
fn side_by_side<T: Copy + Debug + Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    let failed: Vec<T> = thread::scope(|scope| {
        let start = |case: T| (case, scope.spawn(move || test(case)));
        let runs: Vec<_> = cases.into_iter().map(start).collect();
        runs.into_iter().filter_map(|(case, run)| run.join().is_err().then_some(case)).collect()
    });
    assert!(failed.is_empty(), "failed with: {failed:?}");
}

fn friendly_api() -> MockApi {
    let api = api("");
    api.answer(Reply::status(200));
    api
}

/// A broker with a local user whom no API can harm.
fn broker_with_budget(version: Version, timeout: Duration) -> Setup {
    Broker::with(version)
        .option("timeout", format!("{}ms", timeout.as_millis()))
        .file("passwords", include_str!("fixtures/passwd-2.1"))
        .option("password_file", "passwords")
}

fn broker(version: Version) -> Setup {
    broker_with_budget(version, TIMEOUT)
}

/// The same, asking this API about logins.
fn broker_for_logins(version: Version, api: &MockApi) -> Setup {
    broker(version).option("auth_url", api.auth_url())
}

/// The local user, from whose pings it is seen how long the broker stands still.
fn bystander(broker: &Broker) -> Client {
    Connect::v3("bystander").login("sha512", "correct horse").accepted(broker.port())
}

fn login(name: impl AsRef<str>) -> Connect {
    Connect::v5(format!("client-{}", name.as_ref())).login(name.as_ref(), "secret")
}

/// Runs `action` and says how long it took.
fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = action();
    (result, start.elapsed())
}

/// Whether a login is granted; however it is answered, that takes no time.
fn is_let_in_at_once(broker: &Broker, connect: &Connect) -> bool {
    let (outcome, waited) = timed(|| connect.attempt(broker.port()).is_ok());
    assert!(waited < AT_ONCE, "{waited:?} for {connect:?}");
    outcome
}

fn count(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

/// Makes the plugin leave an API alone that is out of order now.
fn exhaust(broker: &Broker) {
    for number in 0.. {
        assert!(number < 20, "the API is not left alone");
        login(format!("exhausting-{number}")).refused(broker.port());
        if broker.log().contains(OPENED) {
            return;
        }
    }
}

fn number_in(request: &Request) -> usize {
    let name = request.field("username");
    name.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

// One budget.

/// A place to ask at which something is wrong, for as long as this lives.
struct Fault {
    url: String,
    name_server: Option<NameServer>,
    _server: Box<dyn Any + Sync>,
}

impl Fault {
    fn at(url: impl Into<String>, server: impl Any + Sync) -> Option<Self> {
        Some(Self { url: url.into(), name_server: None, _server: Box::new(server) })
    }

    fn of_api(reply: Reply) -> Option<Self> {
        let api = api("");
        api.answer(reply);
        Self::at(api.auth_url(), api)
    }

    /// A server that says this, once and then again and again, to whoever connects.
    fn of_talker(scheme: &str, start: &[u8], again: &[u8]) -> Option<Self> {
        let talker = Talker::start(start.to_vec(), again.to_vec());
        Self::at(format!("{scheme}://{}/", talker.address), talker)
    }

    /// A name that is looked up like this. Where it has an address, the API is there and friendly.
    fn of_name(lookup: Lookup) -> Option<Self> {
        let (name_server, api) = (NameServer::start(lookup)?, friendly_api());
        let url = format!("http://api.example:{}/auth", api.address().port());
        Some(Self { url, name_server: Some(name_server), _server: Box::new(api) })
    }

    fn broker(&self, version: Version) -> Setup {
        // Whatever else has a limit of its own, the budget holds.
        let setup = broker(version).option("connect_timeout", "30s").option("breaker_after", 0);
        match &self.name_server {
            Some(server) => server.serves(setup),
            None => setup,
        }
    }
}

/// One question, the number of which is given: nobody gets in, nothing gets through, and that takes one time-out
/// at most, for the client that asks and for everybody else who has to wait with it.
fn assert_costs_one_timeout(
    broker: &mut Broker,
    others_wait: bool,
    mut ask: impl FnMut(&Broker, usize) -> bool,
) {
    let bearable = if others_wait { ONE_TIMEOUT } else { AT_ONCE };
    let mut measured = Vec::new();
    // What a busy machine holds up once it does not hold up three times.
    for number in 0..3 {
        let mut other = bystander(broker);
        let ((allowed, waited), stall) = other.longest_ping_during(|| timed(|| ask(broker, number)));
        assert!(!allowed, "no answer is taken for a yes");
        assert!(broker.is_running());
        if waited < ONE_TIMEOUT && stall < bearable {
            return;
        }
        measured.push((waited, stall));
    }
    panic!("how long the client waited, and another one for a ping: {measured:?}");
}

fn assert_within_budget(fault: &Fault, version: Version, is_login: bool) {
    if is_login {
        let mut broker = fault.broker(version).option("auth_url", &fault.url).start();
        let may_connect =
            |broker: &Broker, number| login(format!("u-{number}")).attempt(broker.port()).is_ok();
        assert_costs_one_timeout(&mut broker, !version.is_2_1(), may_connect);
        return;
    }
    let friendly = friendly_api();
    let setup = fault.broker(version).option("auth_url", friendly.auth_url());
    let mut broker = setup.option("acl_url", &fault.url).start();
    let mut alice = login("alice").accepted(broker.port());
    let may_subscribe = |_: &Broker, number| alice.may_subscribe(&format!("news/{number}/#"));
    assert_costs_one_timeout(&mut broker, true, may_subscribe);
    let may_publish =
        |_: &Broker, number| alice.publish_acknowledged(format!("news/{number}"), "x") & 0x80 == 0;
    assert_costs_one_timeout(&mut broker, true, may_publish);
}

/// One test for each fault, so that they run side by side.
macro_rules! budget_holds_with {
    ($($name:ident: $fault:expr;)+) => {
        $(#[test]
        fn $name() {
            let fault: Option<Fault> = $fault;
            let Some(fault) = fault else { return };
            let (old, new) = (Version::V2_0_11, Version::V2_1);
            let cases = [(old, true), (old, false), (new, true), (new, false)];
            side_by_side(cases, |(version, is_login)| assert_within_budget(&fault, version, is_login));
        })+
    };
}

budget_holds_with! {
    an_api_that_accepts_and_never_answers: Fault::of_api(Reply::Hang);
    an_api_that_answers_a_byte_a_second: Fault::of_api(Reply::byte_a_second());
    an_api_that_never_finishes_its_headers: Fault::of_api(Reply::endless_headers());
    an_api_that_says_to_go_on_for_ever: Fault::of_talker("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n");
    an_api_that_resets: Fault::of_api(Reply::Reset);
    an_api_that_drops_packets: {
        let deaf = DeafListener::open();
        Fault::at(format!("http://{}/", deaf.address), deaf)
    };
    an_api_that_never_shakes_hands: {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        Fault::at(format!("https://{}/", listener.local_addr().unwrap()), listener)
    };
    an_api_that_talks_plain_http_on_its_tls_port: Fault::of_talker("https", b"HTTP/1.1 200 OK\r\n\r\n", b"");
    an_api_that_refuses_every_handshake: Fault::of_talker("https", b"\x15\x03\x03\x00\x02\x02\x28", b"");
    an_api_that_never_ends_a_tls_record: Fault::of_talker("https", b"\x16\x03\x03\x40\x00\x02", b"\0");
    an_api_that_never_ends_its_handshake: Fault::of_talker("https", b"", b"\x14\x03\x03\x00\x01\x01");
    an_api_that_talks_nonsense_on_its_tls_port: Fault::of_talker("https", b"SSH-2.0-nonsense\r\n", b"\xff\0");
    an_api_whose_name_does_not_exist: Fault::of_name(Lookup::NoSuchName);
    an_api_whose_name_is_never_looked_up: Fault::of_name(Lookup::Silence);
    an_api_whose_name_is_looked_up_slowly: Fault::of_name(Lookup::After(TIMEOUT * 4, Ipv4Addr::LOCALHOST));
    an_api_whose_name_server_talks_nonsense: Fault::of_name(Lookup::Garbage);
    an_api_with_a_url_that_hangs_behind_a_url_that_hangs: {
        let apis = [(); 3].map(|()| api(""));
        apis.iter().for_each(|api| api.answer(Reply::Hang));
        let urls = apis.each_ref().map(MockApi::auth_url).join(" ");
        Fault::at(urls, apis)
    };
}

/// A listener that never accepts and whose queue is full, so that the system drops what knocks.
struct DeafListener {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl DeafListener {
    fn open() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::from(address)).unwrap();
        listener.listen(0).unwrap();
        let queued = (0..4).map(|_| {
            let knocking = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            knocking.set_nonblocking(true).unwrap();
            let _ = knocking.connect(&SockAddr::from(address)); // in progress, for ever
            knocking
        });
        let queued = queued.collect();
        let refused = TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err();
        assert!(refused, "the listener still takes connections");
        Self { address, _listener: listener, _queued: queued }
    }
}

/// Says its piece to whoever connects, and listens to nobody.
struct Talker {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Talker {
    fn start(start: Vec<u8>, again: Vec<u8>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        let (address, stopping) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&stopping);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (mut stream, start, again) = (stream.unwrap(), start.clone(), again.clone());
                thread::spawn(move || {
                    let mut told = stream.write_all(&start);
                    while !again.is_empty() && told.is_ok() {
                        thread::sleep(Duration::from_millis(50));
                        told = stream.write_all(&again);
                    }
                    // Until the other side has had enough.
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                });
            }
        });
        Self { address, stopping, acceptor: Some(acceptor) }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes `accept`
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Slow is not wrong: what comes within the budget counts.
#[test]
fn a_name_that_is_looked_up_within_the_budget_is_used() {
    on_both(|version| {
        let slowly = Lookup::After(TIMEOUT / 4, Ipv4Addr::LOCALHOST);
        let Some(server) = NameServer::start(slowly) else { return };
        let api = friendly_api();
        let url = format!("http://api.example:{}/auth", api.address().port());
        let broker = server.serves(broker(version)).option("auth_url", url).start();
        login("alice").accepted(broker.port());
    });
}

#[test]
fn many_questions_at_once_do_not_add_up() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::Hang);
        let broker = broker_for_logins(version, &api).start();
        let mut other = bystander(&broker);
        let ((), stall) = other.longest_ping_during(|| {
            let mut crowd: Vec<_> =
                (0..100).map(|number| login(format!("u-{number}")).send(broker.port())).collect();
            for client in &mut crowd {
                assert!(client.connack(PATIENCE).is_some_and(|code| code != reason::SUCCESS));
            }
        });
        // The broker comes round once or twice while they knock.
        let bearable = if version.is_2_1() { ONE_TIMEOUT } else { TIMEOUT * 4 };
        assert!(stall < bearable, "another client waited {stall:?} for a ping");
    });
}

/// How a crowd of clients comes.
#[derive(Debug, Clone, Copy)]
enum Crowd {
    AtOnce,
    InARow,
}

/// The figure of the README: with all options as they come, a hundred clients that nobody can decide about.
#[test]
fn a_hundred_logins_at_a_silent_api_stall_others_for_a_bounded_time() {
    let versions = [Version::V2_0_11, Version::V2_1];
    let cases = versions.into_iter().flat_map(|version| [(version, Crowd::AtOnce), (version, Crowd::InARow)]);
    side_by_side(cases, |(version, crowd)| {
        let api = api("");
        api.answer(Reply::Hang);
        let broker = Broker::with(version)
            .option("auth_url", api.auth_url())
            .option("user", format!("bob:{}", local_hash()))
            .start();
        let mut bob = Connect::v5("bob").login("bob", "correct horse").accepted(broker.port());
        let log_in = || match crowd {
            Crowd::AtOnce => log_in_at_once(broker.port()),
            Crowd::InARow => log_in_in_a_row(broker.port()),
        };
        let (stalled, took) = timed(|| total_stall_during(&mut bob, log_in));
        eprintln!(
            "mosquitto {version}, {crowd:?}: another client was stalled for {stalled:.2?} of {took:.2?}"
        );
        let timeout = Duration::from_secs(2); // the default
        let bearable = if version.is_2_1() { timeout / 2 } else { timeout * 7 };
        assert!(stalled < bearable, "another client was stalled for {stalled:?}");
    });
}

fn log_in_at_once(port: u16) {
    let mut crowd: Vec<_> = (0..100).map(|number| login(format!("u-{number}")).send(port)).collect();
    for client in &mut crowd {
        assert!(client.connack(PATIENCE).is_some_and(|code| code != reason::SUCCESS));
    }
}

fn log_in_in_a_row(port: u16) {
    for number in 0..100 {
        login(format!("u-{number}")).refused(port);
    }
}

/// Pings all the while that something else is going on, and adds up what took longer than a ping does.
fn total_stall_during(client: &mut Client, action: impl FnOnce() + Send) -> Duration {
    const NO_STALL: Duration = Duration::from_millis(20);
    thread::scope(|scope| {
        let acting = scope.spawn(action);
        let mut stalled = Duration::ZERO;
        while !acting.is_finished() {
            stalled += client.ping().saturating_sub(NO_STALL);
            thread::sleep(Duration::from_millis(1));
        }
        acting.join().unwrap();
        stalled
    })
}

/// The hash of the fixtures' password, "correct horse".
fn local_hash() -> &'static str {
    let users = include_str!("fixtures/passwd-2.1").lines();
    users.filter_map(|line| line.strip_prefix("sha512:")).next().expect("a user in the fixture")
}

// The circuit breaker.

/// An API that never answers costs a few time-outs, not one for each question.
#[test]
fn a_dead_api_is_left_alone() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::Hang);
        let broker = broker_for_logins(version, &api).option("breaker_pause", "1h").start();
        let mut other = bystander(&broker);
        let ((_, spent), stall) = other.longest_ping_during(|| timed(|| exhaust(&broker)));
        assert!(spent < TIMEOUT * 8, "{spent:?}");
        // The next client can be served before the ping that the one before it held up.
        assert!(stall < TIMEOUT * 3, "another client waited {stall:?} for a ping");
        let asked = api.requests().len();
        let ((), stall) = other.longest_ping_during(|| {
            for number in 0..50 {
                assert!(!is_let_in_at_once(&broker, &login(format!("late-{number}"))));
            }
        });
        assert!(stall < AT_ONCE, "another client waited {stall:?} for a ping");
        assert_eq!(api.requests().len(), asked, "the API is asked all the same");
        assert_eq!(count(&broker.log(), OPENED), 1);
    });
}

#[test]
fn an_api_that_answers_two_of_three_questions_is_left_alone() {
    on_both(|version| {
        let api = api("");
        let arrived = AtomicUsize::new(0);
        api.answer_with(move |_| match arrived.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Reply::Hang,
            _ => Reply::status(200),
        });
        let setup = broker_with_budget(version, TIMEOUT / 4).option("auth_url", api.auth_url());
        let broker = setup.start();
        for number in 0..40 {
            let _ = login(format!("u-{number}")).attempt(broker.port());
            if broker.log().contains(OPENED) {
                return;
            }
        }
        panic!("forty questions, a third of them without an answer, did not open the breaker");
    });
}

/// While it goes on, such an API must not make the broker stand still most of the time, nor fill its log.
#[test]
fn an_api_that_answers_two_of_three_questions_costs_a_part_of_the_time() {
    const WATCHED: Duration = Duration::from_secs(7);
    let api = api("");
    let arrived = AtomicUsize::new(0);
    api.answer_with(move |_| match arrived.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => Reply::Hang,
        _ => Reply::status(200),
    });
    let timeout = Duration::from_millis(200);
    let setup = broker_with_budget(Version::V2_0_11, timeout).option("auth_url", api.auth_url());
    let broker = setup.start();
    let start = Instant::now();
    let mut stalled = Duration::ZERO;
    for number in 0.. {
        let (_, waited) = timed(|| login(format!("u-{number}")).attempt(broker.port()).is_ok());
        stalled += if waited > timeout / 2 { waited } else { Duration::ZERO };
        if start.elapsed() > WATCHED {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(stalled < WATCHED / 2, "the broker stood still for {stalled:?} of {WATCHED:?}");
    let lines = count(&broker.log(), OPENED) + count(&broker.log(), CLOSED);
    assert!(lines <= 8, "{lines} lines about it in {WATCHED:?}");
}

/// An answer to a question from before says nothing about whether the API is well now.
#[test]
fn an_answer_to_an_old_question_does_not_close_it() {
    let version = Version::V2_1; // where questions are asked side by side
    let api = api("");
    api.answer_with(|request| match request.field("username").starts_with("slow") {
        true => Reply::status(200).after(TIMEOUT * 3 / 4),
        false => Reply::Hang,
    });
    let broker = broker_for_logins(version, &api).option("breaker_pause", "1h").start();
    let mut hanging: Vec<_> =
        (0..10).map(|number| login(format!("hang-{number}")).send(broker.port())).collect();
    api.wait_for_requests(10, PATIENCE);
    thread::sleep(TIMEOUT / 2);
    let mut slow: Vec<_> = (0..3).map(|number| login(format!("slow-{number}")).send(broker.port())).collect();
    api.wait_for_requests(13, PATIENCE);
    broker.wait_for_log(OPENED, PATIENCE);
    for client in &mut slow {
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS), "it was asked, and is answered in time");
    }
    for client in &mut hanging {
        assert!(client.connack(PATIENCE).is_some_and(|code| code != reason::SUCCESS));
    }
    let asked = api.requests().len();
    assert!(!is_let_in_at_once(&broker, &login("slow-stranger")));
    assert_eq!(api.requests().len(), asked, "the API is asked again before its time");
    assert_eq!(count(&broker.log(), CLOSED), 0);
}

/// The same question again and again, and nobody else has anything to ask: one client must not be able to take the
/// API from the others.
#[test]
fn one_bad_question_does_not_open_it() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("username") {
            "mallory" => Reply::Hang,
            _ => Reply::status(200),
        });
        let broker = broker_with_budget(version, SHORT_TIMEOUT).option("auth_url", api.auth_url()).start();
        for _ in 0..8 {
            login("mallory").refused(broker.port());
        }
        assert!(is_let_in_at_once(&broker, &login("alice")), "mallory's questions cost alice her login");
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

/// The same with another password each time, and a topic.
#[test]
fn one_client_does_not_open_it() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("username") {
            "mallory" if request.path == "/auth" && request.field("password") != "secret" => Reply::Hang,
            "mallory" if request.path == "/acl" => Reply::Hang,
            _ => Reply::status(200),
        });
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("throttle_after", 0)
            .start();
        for number in 0..7 {
            Connect::v5("m").login("mallory", format!("guess-{number}")).refused(broker.port());
        }
        assert!(is_let_in_at_once(&broker, &login("alice")), "mallory's guesses cost alice her login");
        // (She may have to wait for it herself.)
        assert!(eventually(PATIENCE, || login("mallory").attempt(broker.port()).is_ok()));
        let mut mallory = login("mallory").accepted(broker.port());
        for number in 0..7 {
            mallory.publish_acknowledged(format!("t/{number}"), "x");
        }
        let mut alice = login("alice").accepted(broker.port());
        assert_eq!(alice.publish_acknowledged("t", "x") & 0x80, 0, "mallory's topics cost alice hers");
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

/// Often all devices have one username, and only their client ids differ: then it is those that count.
#[test]
fn a_dead_api_is_left_alone_by_clients_with_one_name_too() {
    on_both(|version| {
        let (logins, topics) = (friendly_api(), api(""));
        topics.answer(Reply::Hang);
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", logins.auth_url())
            .option("acl_url", topics.acl_url())
            .start();
        for number in 0..20 {
            let device = Connect::v5(format!("device-{number}")).login("fleet", "secret");
            let code = device.accepted(broker.port()).publish_acknowledged("t", "x");
            assert_eq!(code, reason::NOT_AUTHORIZED);
        }
        assert!(broker.log().contains(OPENED), "{} questions", topics.requests().len());
    });
}

#[test]
fn one_client_takes_no_time_from_others_of_its_name() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("topic").starts_with("bad") {
            true => Reply::Hang,
            false => Reply::status(200),
        });
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .start();
        let device = |id: &str| Connect::v5(id).login("fleet", "secret").accepted(broker.port());
        let (mut mallory, mut alice) = (device("mallory"), device("alice"));
        for number in 0..6 {
            mallory.publish_acknowledged(format!("bad/{number}"), "x");
        }
        for number in 0..10 {
            let code = alice.publish_acknowledged(format!("good/{number}"), "x");
            assert_eq!(code & 0x80, 0, "mallory's topics cost alice good/{number}");
        }
    });
}

/// Whoever had no answer for a while is served again when there are answers, also where nothing is remembered.
#[test]
fn nobody_pays_for_an_api_that_was_silent_when_it_is_back() {
    on_both(|version| {
        let api = api("");
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", api.auth_url())
            .option("auth_cache_ttl", 0)
            .option("breaker_pause", "100ms")
            .option("breaker_longest", "200ms")
            .start();
        for reply in [Reply::Hang, Reply::Reset, Reply::status(500)] {
            api.answer(reply);
            for _ in 0..6 {
                login("alice").refused(broker.port());
            }
            api.answer(Reply::status(200));
            let is_in = eventually(TIMEOUT * 3, || {
                thread::sleep(Duration::from_millis(50));
                login("alice").attempt(broker.port()).is_ok()
            });
            assert!(is_in, "alice is not let in when the API is well");
        }
    });
}

/// Whatever an API answers, it is there; and what the answer is, clients can decide.
#[test]
fn no_status_opens_it() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("username") {
            "alice" => Reply::status(200),
            _ => Reply::status([401, 403, 404, 400, 413, 500, 502, 408][number_in(request) % 8]),
        });
        let broker = broker_for_logins(version, &api).option("throttle_after", 0).start();
        for number in 0..80 {
            login(format!("mallory-{number}")).refused(broker.port());
        }
        assert!(is_let_in_at_once(&broker, &login("alice")));
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

/// A password can be 64 KiB long, many times that as JSON. Servers refuse such a request before they have read it
/// and hang up, which can arrive as a reset.
#[test]
fn a_request_that_is_too_long_for_the_api_does_not_open_it() {
    on_both(|version| {
        let picky = PickyApi::start(16 << 10);
        let broker = broker(version)
            .option("auth_url", format!("http://{}/auth", picky.address))
            .option("throttle_after", 0)
            .start();
        for number in 0..10 {
            let password = [b'a' + number; 65_000];
            Connect::v5("mallory").login("mallory", password).refused(broker.port());
        }
        assert!(is_let_in_at_once(&broker, &login("alice")), "mallory's passwords cost alice her login");
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

/// Says 200 to everything but requests that are too long: those it refuses when it has read their head, and
/// hangs up.
struct PickyApi {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl PickyApi {
    fn start(limit: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        let (address, stopping) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&stopping);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.unwrap();
                thread::spawn(move || Self::serve(stream, limit));
            }
        });
        Self { address, stopping, acceptor: Some(acceptor) }
    }

    fn serve(mut stream: TcpStream, limit: usize) {
        let mut received = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            let text = String::from_utf8_lossy(&received).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
                if length > limit {
                    let answer = "HTTP/1.1 413 Too Long\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                    let _ = stream.write_all(answer.as_bytes());
                    return; // with bytes left that nobody has read: a reset
                }
                if body.len() >= length {
                    received.clear();
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(length) => received.extend_from_slice(&chunk[..length]),
            }
        }
    }
}

impl Drop for PickyApi {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes `accept`
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

#[test]
fn an_api_that_has_enough_is_left_alone_for_as_long_as_it_wants() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::status(429).header("Retry-After", "2"));
        let broker = broker_for_logins(version, &api).start();
        let asked = Instant::now();
        login("alice").refused(broker.port());
        api.answer(Reply::status(200));
        let mut refused = 0;
        let back = eventually(PATIENCE, || {
            let is_in = login(format!("bob-{refused}")).attempt(broker.port()).is_ok();
            refused += usize::from(!is_in);
            is_in
        });
        assert!(back, "it is never asked again");
        let pause = asked.elapsed();
        assert!(pause >= Duration::from_secs(2), "it is asked again after {pause:?}");
        assert!(refused > 0);
        assert_eq!(api.requests().len(), 2);
        let log = broker.log();
        assert_eq!(count(&log, OPENED), 0, "this is no API that does not answer");
        assert!(log.contains("429"), "the operator is told why everybody is refused");
    });
}

#[test]
fn questions_about_topics_have_a_breaker_of_their_own() {
    on_both(|version| {
        let (logins, topics) = (friendly_api(), api(""));
        topics.stop();
        let broker = broker_for_logins(version, &logins).option("acl_url", topics.acl_url()).start();
        for number in 0..10 {
            let mut client = login(format!("u-{number}")).accepted(broker.port());
            assert_eq!(client.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
        }
        broker.wait_for_log(OPENED, PATIENCE);
        assert!(is_let_in_at_once(&broker, &login("alice")));
    });
}

/// The API is asked now and then, each time after a longer pause, and nobody waits for that.
#[test]
fn nobody_waits_for_a_probe() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::Hang);
        let broker = broker_for_logins(version, &api)
            .option("breaker_after", 2)
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "800ms")
            .start();
        exhaust(&broker);
        let mut other = bystander(&broker);
        api.forget_requests();
        let start = Instant::now();
        let ((), stall) = other.longest_ping_during(|| {
            let mut number = 0;
            while start.elapsed() < TIMEOUT * 3 {
                assert!(!is_let_in_at_once(&broker, &login(format!("late-{number}"))));
                number += 1;
                thread::sleep(Duration::from_millis(10));
            }
        });
        assert!(stall < AT_ONCE, "another client waited {stall:?} for a ping");
        // Each takes a time-out, and the pauses between are 0.15 s at least.
        let probes = api.requests();
        assert!((1..=4).contains(&probes.len()), "{} probes in three time-outs", probes.len());
        let names: HashSet<_> = probes.iter().map(|probe| probe.field("username").to_owned()).collect();
        assert!(names.iter().all(|name| name.starts_with("late-")), "copies of real questions: {names:?}");
    });
}

#[test]
fn an_api_that_is_back_is_found_and_spared() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::Hang);
        let broker = broker_for_logins(version, &api)
            .option("breaker_after", 2)
            .option("breaker_pause", "300ms")
            .option("breaker_longest", "1s")
            .start();
        exhaust(&broker);
        thread::sleep(TIMEOUT * 2);
        api.answer(Reply::status(200));
        api.forget_requests();
        let back = Instant::now();
        let mut asked = 0;
        let is_in = eventually(PATIENCE, || {
            asked += 1;
            is_let_in_at_once(&broker, &login(format!("u-{asked}")))
        });
        assert!(is_in, "nobody is let in");
        let found_after = back.elapsed();
        // A probe that was in vain, and a pause that is longer by a quarter.
        assert!(found_after < TIMEOUT * 4, "{found_after:?}");
        // A few may ask whether it is back for good.
        let requests = api.requests().len();
        assert!(requests <= 5, "{requests} requests for {asked} logins");
        let log = broker.log();
        assert_eq!((count(&log, OPENED), count(&log, CLOSED)), (1, 1));
    });
}

/// A firewall forgot the connections, or the API's machine lost its power: what is open is dead and does not say
/// so. What is new works.
#[test]
fn connections_that_went_dead_do_not_hide_an_api_that_is_back() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::status(200).after(Duration::from_millis(100)));
        let broker = broker_with_budget(version, Duration::from_millis(300))
            .option("auth_url", api.auth_url())
            .option("connect_timeout", "300ms")
            .option("breaker_pause", "100ms")
            .option("breaker_longest", "300ms")
            .start();
        let mut crowd: Vec<_> =
            (0..30).map(|number| login(format!("u-{number}")).send(broker.port())).collect();
        for client in &mut crowd {
            assert!(client.connack(PATIENCE).is_some());
        }
        let old = api.connections();
        api.answer_with(move |request| match request.connection < old {
            true => Reply::Hang,
            false => Reply::status(200),
        });
        let mut refused = 0;
        let is_in = eventually(Duration::from_secs(10), || {
            let is_in = login(format!("late-{refused}")).attempt(broker.port()).is_ok();
            refused += usize::from(!is_in);
            thread::sleep(Duration::from_millis(50));
            is_in
        });
        assert!(is_in, "a working API is not found within ten seconds, {old} connections went dead");
        for number in 0..10 {
            assert!(is_let_in_at_once(&broker, &login(format!("later-{number}"))), "{number}");
        }
    });
}

/// A kept connection that turns out to be closed is nobody's fault: the question is asked once more.
#[test]
fn a_connection_that_was_closed_while_idle_costs_nobody_anything() {
    on_both(|version| {
        let api = api("");
        let used = Arc::new(Mutex::new(HashSet::new()));
        // Every second request on a connection finds it closed.
        api.answer_with(move |request| match used.lock().unwrap().insert(request.connection) {
            true => Reply::status(200),
            false => Reply::Reset,
        });
        let broker = broker_for_logins(version, &api).start();
        for number in 0..20 {
            assert!(is_let_in_at_once(&broker, &login(format!("u-{number}"))), "{number}");
        }
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

/// Once more, and not again and again: an API that hangs up on everybody has enough to do.
#[test]
fn no_question_is_asked_more_than_twice() {
    on_both(|version| {
        let api = api("");
        let broker = broker_for_logins(version, &api).start();
        for (number, reply) in [Reply::Close, Reply::Reset, Reply::garbage()].into_iter().enumerate() {
            api.answer(reply);
            api.forget_requests();
            login(format!("u-{number}")).refused(broker.port());
            thread::sleep(A_WHILE);
            assert!(api.requests().len() <= 2, "{} times", api.requests().len());
        }
    });
}

// Several URLs.

/// Three APIs, and a broker that asks them in their order.
fn three_apis(version: Version) -> ([MockApi; 3], Setup) {
    let apis = [(); 3].map(|()| friendly_api());
    let setup = broker(version).option("auth_url", apis.each_ref().map(MockApi::auth_url).join(" "));
    (apis, setup)
}

fn asked(apis: &[MockApi; 3]) -> [usize; 3] {
    apis.each_ref().map(|api| api.requests().len())
}

#[test]
fn the_first_url_that_works_is_used_until_it_fails() {
    on_both(|version| {
        let (apis, setup) = three_apis(version);
        let broker = setup.start();
        for number in 0..3 {
            login(format!("first-{number}")).accepted(broker.port());
        }
        assert_eq!(asked(&apis), [3, 0, 0]);
        apis[0].stop();
        for number in 0..3 {
            assert!(is_let_in_at_once(&broker, &login(format!("second-{number}"))));
        }
        assert_eq!(asked(&apis), [3, 3, 0]);
        apis[0].restart().unwrap();
        for number in 0..3 {
            login(format!("still-second-{number}")).accepted(broker.port());
        }
        assert_eq!(asked(&apis), [3, 6, 0], "what works stays");
        apis[1].answer(Reply::status(503));
        login("third").accepted(broker.port());
        assert_eq!(asked(&apis), [3, 7, 1]);
    });
}

#[test]
fn a_verdict_is_final_and_no_answer_is_not() {
    on_both(|version| {
        for (status, asks_on) in
            [(401, false), (403, false), (404, false), (302, false), (500, true), (429, true), (408, true)]
        {
            let (apis, setup) = three_apis(version);
            apis[0].answer(Reply::status(status));
            let broker = setup.start();
            assert_eq!(login("alice").attempt(broker.port()).is_ok(), asks_on, "{status}");
            assert_eq!(asked(&apis), [1, usize::from(asks_on), 0], "{status}");
        }
    });
}

/// One hangs and one refuses connections: there is time left for the third.
#[test]
fn several_urls_share_the_budget() {
    on_both(|version| {
        let (apis, setup) = three_apis(version);
        apis[0].answer(Reply::Hang);
        apis[1].stop();
        let broker = setup.start();
        let mut other = bystander(&broker);
        let ((_, waited), stall) =
            other.longest_ping_during(|| timed(|| login("alice").accepted(broker.port())));
        assert!(waited < ONE_TIMEOUT, "alice waited {waited:?}");
        let bearable = if version.is_2_1() { AT_ONCE } else { ONE_TIMEOUT };
        assert!(stall < bearable, "another client waited {stall:?} for a ping");
        for number in 0..5 {
            assert!(
                is_let_in_at_once(&broker, &login(format!("later-{number}"))),
                "the one that works stays"
            );
        }
        // And when all of them hang.
        apis.iter().for_each(|api| api.answer(Reply::Hang));
        let (_, waited) = timed(|| login("bob").refused(broker.port()));
        assert!(waited < ONE_TIMEOUT, "bob waited {waited:?}");
    });
}

#[test]
fn a_url_that_is_left_alone_is_passed_over() {
    on_both(|version| {
        let (apis, setup) = three_apis(version);
        apis.iter().for_each(|api| api.answer(Reply::Hang));
        let broker = setup.option("breaker_after", 2).option("breaker_pause", "1h").start();
        for number in 0.. {
            login(format!("u-{number}")).refused(broker.port());
            if count(&broker.log(), OPENED) == 3 {
                break;
            }
            assert!(number < 20, "not all of them are left alone");
        }
        let before = asked(&apis);
        assert!(!is_let_in_at_once(&broker, &login("late")));
        assert_eq!(asked(&apis), before);
    });
}

/// A dead URL in front of one that works: when that one is in trouble too, the dead one takes no time from it.
#[test]
fn a_dead_url_takes_no_time_from_one_that_works() {
    on_both(|version| {
        let apis = [(); 2].map(|()| api(""));
        let urls = apis.each_ref().map(MockApi::auth_url).join(" ");
        let broker = broker(version).option("auth_url", urls).option("breaker_pause", "1h").start();
        apis[0].answer(Reply::Hang);
        apis[1].answer(Reply::status(500));
        for number in 0.. {
            login(format!("u-{number}")).refused(broker.port());
            if broker.log().contains(OPENED) {
                break;
            }
            assert!(number < 20, "the dead one is not left alone");
        }
        let before = apis[0].requests().len();
        // Longer than the half that each of two would get.
        apis[1].answer(Reply::status(200).after(TIMEOUT * 7 / 10));
        login("alice").accepted(broker.port());
        assert_eq!(apis[0].requests().len(), before);
    });
}

// Stale verdicts.

/// A broker whose allows end soon, and serve for a while longer.
fn broker_with_stale(version: Version, api: &MockApi, stale: &str) -> Setup {
    broker_for_logins(version, api)
        .option("acl_url", api.acl_url())
        .option("auth_cache_ttl", "1s")
        .option("acl_cache_ttl", "1s")
        .option("stale_ttl", stale)
}

const SHORT_TTL: Duration = Duration::from_secs(1);

#[test]
fn an_allow_serves_past_its_time_while_there_is_no_answer_and_no_longer() {
    let replies = [Reply::Hang, Reply::Reset, Reply::status(500), Reply::status(429)];
    let cases =
        [Version::V2_0_11, Version::V2_1].into_iter().flat_map(|v| (0..replies.len()).map(move |n| (v, n)));
    side_by_side(cases, |(version, reply)| {
        let api = friendly_api();
        let broker = broker_with_stale(version, &api, "4s").start();
        let start = Instant::now();
        login("alice").accepted(broker.port());
        let answered = Instant::now();
        api.answer(replies[reply].clone());
        thread::sleep(SHORT_TTL);
        while start.elapsed() < Duration::from_millis(3500) {
            assert!(login("alice").attempt(broker.port()).is_ok(), "the login has gone stale");
            thread::sleep(Duration::from_millis(100));
        }
        // A fifth may be taken off its time, and nothing is added: by now it has ended.
        thread::sleep(Duration::from_millis(5100).saturating_sub(answered.elapsed()));
        assert!(login("alice").attempt(broker.port()).is_err(), "stale for ever");
    });
}

#[test]
fn topics_serve_past_their_time_too() {
    on_both(|version| {
        let api = friendly_api();
        let broker = broker_with_stale(version, &api, "1h").start();
        let mut alice = login("alice").accepted(broker.port());
        assert!(alice.may_subscribe("news/#"));
        assert_eq!(alice.publish_acknowledged("news/1", "x") & 0x80, 0);
        assert_eq!(alice.receive(PATIENCE).expect("message").topic, "news/1");
        api.answer(Reply::Hang);
        thread::sleep(SHORT_TTL);
        assert!(alice.may_subscribe("news/#"));
        assert_eq!(alice.publish_acknowledged("news/1", "x") & 0x80, 0);
        assert_eq!(alice.receive(PATIENCE).expect("message").topic, "news/1");
        assert_eq!(alice.publish_acknowledged("news/2", "x"), reason::NOT_AUTHORIZED, "never allowed before");
    });
}

/// A verdict that was asked again beside is as good as the one before it.
#[test]
fn an_allow_that_was_renewed_serves_past_its_time_too() {
    on_both(|version| {
        let api = friendly_api();
        let broker = broker_with_stale(version, &api, "1h").start();
        let start = Instant::now();
        while api.requests().len() < 2 {
            assert!(start.elapsed() < PATIENCE, "never asked again");
            login("alice").accepted(broker.port());
            thread::sleep(SHORT_TTL / 50);
        }
        // The new verdict has arrived, and ends unused.
        thread::sleep(A_WHILE);
        api.answer(Reply::status(500));
        thread::sleep(SHORT_TTL);
        assert!(login("alice").attempt(broker.port()).is_ok(), "the renewed allow is gone");
    });
}

#[test]
fn a_refusal_ends_a_stale_allow_at_once() {
    on_both(|version| {
        let api = friendly_api();
        let broker = broker_with_stale(version, &api, "1h").option("deny_cache_ttl", 0).start();
        login("alice").accepted(broker.port());
        api.answer(Reply::status(500));
        thread::sleep(SHORT_TTL);
        login("alice").accepted(broker.port());
        api.answer(Reply::status(403));
        login("alice").refused(broker.port());
        for reply in [Reply::status(500), Reply::Close, Reply::Hang] {
            api.answer(reply);
            login("alice").refused(broker.port());
        }
    });
}

#[test]
fn a_denial_is_never_stretched() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::status(403));
        let broker = broker_with_stale(version, &api, "1h").option("deny_cache_ttl", "1s").start();
        login("alice").refused(broker.port());
        thread::sleep(SHORT_TTL);
        api.answer(Reply::status(200));
        login("alice").accepted(broker.port());
    });
}

#[test]
fn without_the_option_nothing_serves_past_its_time() {
    on_both(|version| {
        let api = friendly_api();
        let broker = broker_with_stale(version, &api, "0s").start();
        login("alice").accepted(broker.port());
        api.answer(Reply::status(500));
        thread::sleep(SHORT_TTL);
        login("alice").refused(broker.port());
    });
}

/// With the breaker open nobody waits for what is stale.
#[test]
fn a_stale_allow_costs_no_time_while_the_api_is_left_alone() {
    on_both(|version| {
        let api = friendly_api();
        let broker = broker_with_stale(version, &api, "1h")
            .option("breaker_after", 2)
            .option("breaker_pause", "1h")
            .start();
        login("alice").accepted(broker.port());
        api.answer(Reply::Hang);
        exhaust(&broker);
        thread::sleep(SHORT_TTL);
        assert!(is_let_in_at_once(&broker, &login("alice")));
    });
}

// Refresh ahead.

/// (That nobody waits for it, and that a refusal ends an allow at once, is tested with the cache.)
#[test]
fn an_allow_in_use_is_asked_again_once_for_each_life() {
    on_both(|version| {
        const TTL: Duration = Duration::from_secs(2);
        let api = friendly_api();
        let broker = broker_for_logins(version, &api)
            .option("acl_url", api.acl_url())
            .option("acl_cache_ttl", "2s")
            .start();
        let mut clients: Vec<_> =
            (0..3).map(|number| login(format!("u-{number}")).accepted(broker.port())).collect();
        api.answer(Reply::status(200).after(TTL / 10));
        api.forget_requests();
        let start = Instant::now();
        while start.elapsed() < TTL * 2 {
            for client in &mut clients {
                assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
            }
        }
        let mut questions = [0; 3];
        for request in api.requests() {
            questions[number_in(&request)] += 1;
        }
        // A life is shortened by a fifth at most, and its last fifth is when it is asked again: there are no
        // less than 1.28 s between two questions, and no more than 2 s.
        assert!(questions.iter().all(|questions| (1..=4).contains(questions)), "{questions:?} questions");
    });
}

// Cache-Control.

#[test]
fn cache_control_that_is_nonsense_means_not_to_remember() {
    on_both(|version| {
        let api = api("");
        let broker = broker_for_logins(version, &api).option("api_cache_control", "true").start();
        let mut number = 0;
        let mut questions = |status: u16, cache_control: &str| {
            api.forget_requests();
            api.answer(Reply::status(status).header("Cache-Control", cache_control));
            number += 1;
            for _ in 0..3 {
                assert_eq!(login(format!("u-{number}")).attempt(broker.port()).is_ok(), status == 200);
            }
            api.requests().len()
        };
        for nonsense in ["max-age=soon", "max-age=-1", "max-age=", "max-age", "max-age=1.5"] {
            assert_eq!(questions(200, nonsense), 3, "{nonsense}");
        }
        for other in ["", "=", ",,,", "max-aged=0", "x-no-store", "\"no\"", "s-maxage=0"] {
            assert_eq!(questions(200, other), 1, "{other}: the option's time");
        }
        assert_eq!(questions(200, "max-age=60"), 1);
        assert_eq!(questions(403, "no-store"), 3, "denies follow it, too");
        assert_eq!(questions(403, "max-age=60"), 1);
    });
}

// The API is down when the broker starts.

#[test]
fn a_broker_starts_without_its_api() {
    on_both(|version| {
        let api = friendly_api();
        api.stop();
        let broker = broker_for_logins(version, &api)
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "500ms")
            .start();
        bystander(&broker);
        for number in 0..10 {
            login(format!("u-{number}")).refused(broker.port());
        }
        bystander(&broker);
        api.restart().unwrap();
        assert!(eventually(TIMEOUT * 5, || login("alice").attempt(broker.port()).is_ok()), "not found");
    });
}

/// At boot a name server may be silent, or not yet be configured.
#[test]
fn a_broker_starts_without_its_name_server() {
    on_both(|version| {
        let Some(silent) = NameServer::start(Lookup::Silence) else { return };
        let Some(other) = NameServer::start(Lookup::Address(Ipv4Addr::LOCALHOST)) else { return };
        let api = friendly_api();
        let broker = silent
            .serves(broker(version))
            .option("auth_url", format!("http://api.example:{}/auth", api.address().port()))
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "500ms")
            .start();
        bystander(&broker);
        login("alice").refused(broker.port());
        std::fs::write(broker.folder().join("resolv.conf"), other.resolv_conf()).unwrap();
        let is_in = eventually(TIMEOUT * 8, || {
            thread::sleep(Duration::from_millis(100));
            login("alice").attempt(broker.port()).is_ok()
        });
        assert!(is_in, "the new name server is not asked");
        drop(silent);
    });
}

/// An API that moves is found at its new address.
#[test]
fn a_name_that_gets_another_address_is_followed() {
    on_both(|version| {
        let Some(server) = NameServer::start(Lookup::Address(Ipv4Addr::new(127, 1, 1, 1))) else { return };
        let api = friendly_api();
        let broker = server
            .serves(broker(version))
            .option("auth_url", format!("http://api.example:{}/auth", api.address().port()))
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "500ms")
            .start();
        login("alice").refused(broker.port()); // nobody listens there
        server.answer(Lookup::Address(Ipv4Addr::LOCALHOST));
        assert!(eventually(TIMEOUT * 8, || {
            thread::sleep(Duration::from_millis(100));
            login("alice").attempt(broker.port()).is_ok()
        }));
    });
}

/// The same with the file that names are looked up in first.
#[test]
fn a_name_that_gets_another_address_in_the_hosts_file_is_followed() {
    on_both(|version| {
        let Some(server) = NameServer::start(Lookup::NoSuchName) else { return };
        let api = friendly_api();
        let broker = server
            .serves_with_hosts(broker(version), "127.1.1.1 api.example\n")
            .option("auth_url", format!("http://api.example:{}/auth", api.address().port()))
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "500ms")
            .start();
        login("alice").refused(broker.port()); // nobody listens there
        std::fs::write(broker.folder().join("hosts"), "127.0.0.1 api.example\n").unwrap();
        let mut tries = 0;
        assert!(eventually(TIMEOUT * 8, || {
            tries += 1;
            thread::sleep(Duration::from_millis(100));
            login(format!("u-{tries}")).attempt(broker.port()).is_ok()
        }));
    });
}

// Log lines.

#[test]
fn the_log_says_once_what_an_operator_must_know_and_no_secret() {
    on_both(|version| {
        let api = friendly_api();
        let url = format!("http://someone:pa55word@{}/auth?token=t0ken", api.address());
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", url)
            .option("header", "Authorization: Bearer b3arer")
            .option("breaker_pause", "100ms")
            .option("breaker_longest", "300ms")
            .start();
        let mut number = 0;
        let mut attempt = || {
            number += 1;
            Connect::v5("c").login(format!("u-{number}"), "s3cret").attempt(broker.port()).is_ok()
        };
        for reply in [Reply::Hang, Reply::garbage(), Reply::Reset] {
            let before = broker.log();
            api.answer(reply.clone());
            for _ in 0..300 {
                assert!(!attempt());
            }
            let log = broker.log().split_off(before.len());
            assert_eq!(count(&log, OPENED), 1, "{reply:?}");
            assert_eq!(count(&log, CLOSED), 0, "{reply:?}");
            api.answer(Reply::status(200));
            assert!(eventually(PATIENCE, &mut attempt));
            let log = broker.log().split_off(before.len());
            assert_eq!((count(&log, OPENED), count(&log, CLOSED)), (1, 1), "{reply:?}");
        }
        let log = broker.log();
        // What it means, and where: not with which password.
        let opened = log.lines().find(|line| line.contains(OPENED)).unwrap();
        assert!(opened.contains(&format!("http://{}/auth", api.address())), "{opened}");
        let lines = count(&log, "Refused to let");
        assert!(lines < 300, "{lines} lines about 900 refusals");
        for secret in ["pa55word", "t0ken", "b3arer", "s3cret"] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    });
}
