//! The HTTP listener of Mosquitto 2.1 asks from a thread of its own. It gets right answers, and the clients of the main
//! thread do not wait for it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;

mod support;
use support::{
    Broker, Connect, MockApi, PATIENCE, Reply, Setup, Version, api, assert_unnoticed, broker_asking,
    bystander, eventually, timed,
};

const RULES: &str = "user alice secret\nallow read /api/#\nallow all news/#\n\
                     user bob secret\nallow all news/#\n";

const SLOW: Duration = Duration::from_secs(1);

/// What the listener says to everybody who may read it.
const VERSION: &str = "/api/v1/version";

const OK: u16 = 200;
const UNAUTHORIZED: u16 = 401;

/// A broker whose second port speaks HTTP.
fn broker(api: &MockApi) -> Setup {
    broker_asking(Version::V2_1, api).listener(["protocol http_api"])
}

/// The status of a GET.
fn get(broker: &Broker, path: &str, credentials: Option<&[u8]>) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", broker.ports()[1])).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let authorization = credentials.map_or(String::new(), |credentials| {
        format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(credentials))
    });
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an HTTP answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

fn get_as(broker: &Broker, credentials: &str) -> u16 {
    get(broker, VERSION, Some(credentials.as_bytes()))
}

#[test]
fn requests_are_decided_like_logins_and_reads() {
    let api = api(RULES);
    let broker = broker(&api).start();
    // Nobody has asked anything before: the plugin's threads are started from here.
    assert_eq!(get_as(&broker, "alice:secret"), OK);
    let [login, check] = &api.requests()[..] else { panic!("two questions: {:?}", api.requests()) };
    assert_eq!(
        (login.path.as_str(), login.field("username"), login.field("password")),
        ("/auth", "alice", "secret")
    );
    assert_eq!((check.path.as_str(), check.field("username"), check.acc()), ("/acl", "alice", 1));
    assert_eq!((check.field("clientid"), check.field("topic")), ("http-api", VERSION));
    assert_eq!(get_as(&broker, "alice:wrong"), UNAUTHORIZED);
    assert_eq!(get_as(&broker, "bob:secret"), UNAUTHORIZED, "bob may log in, and not read this");
    assert_eq!(get_as(&broker, "nobody:"), UNAUTHORIZED);
    assert_eq!(get_as(&broker, ":secret"), UNAUTHORIZED);
    assert_eq!(get_as(&broker, "no colon"), UNAUTHORIZED);
    assert_eq!(get(&broker, VERSION, None), UNAUTHORIZED);
    assert_eq!(get(&broker, VERSION, Some(b"\xff\xfe:secret")), UNAUTHORIZED);
    assert_eq!(get(&broker, VERSION, Some(b"alice:\xff\xfe")), UNAUTHORIZED);
    assert_eq!(get_as(&broker, "alice:secret"), OK);
    api.answer(Reply::status(500));
    assert_eq!(get_as(&broker, "carol:secret"), UNAUTHORIZED);
    // What happened on that thread reaches the log by way of the other.
    broker.wait_for_log("http-api", PATIENCE);
    assert!(!broker.log().contains("secret"));
}

#[test]
fn no_client_waits_for_a_request() {
    let api = api(RULES);
    let broker = broker(&api).option("auth_cache_ttl", 0).option("acl_cache_ttl", 0).start();
    let mut bystander = bystander(&broker, "bob", "secret");
    for (reply, status, least) in
        [(Reply::rules().after(SLOW), OK, SLOW * 2), (Reply::Hang, UNAUTHORIZED, Duration::ZERO)]
    {
        api.answer(reply);
        assert_unnoticed("a ping beside a request", || {
            let ((answer, waited), stall) =
                bystander.longest_ping_during(|| timed(|| get_as(&broker, "alice:secret")));
            assert_eq!(answer, status);
            assert!((least..SLOW * 6).contains(&waited), "{waited:?} for a request");
            stall
        });
    }
}

#[test]
fn no_login_waits_for_a_request_and_none_is_mistaken_for_it() {
    let api = api(RULES);
    let broker = broker(&api).option("auth_cache_ttl", 0).start();
    api.answer_with(|request| match request.field("password") {
        "slow" => Reply::status(403).after(SLOW),
        _ => Reply::rules(),
    });
    thread::scope(|scope| {
        let request = scope.spawn(|| get_as(&broker, "alice:slow"));
        api.wait_for_requests(1, PATIENCE);
        // Its client id is nobody's own.
        let start = Instant::now();
        let mut client = Connect::v3("http-api").login("alice", "secret").accepted(broker.port());
        assert!(start.elapsed() < SLOW / 2, "{:?} for a login", start.elapsed());
        assert_eq!(request.join().unwrap(), UNAUTHORIZED);
        client.ping();
    });
    // The other way round: somebody is parked under that id while a request is decided.
    api.answer_with(|request| match request.field("password") {
        "slow" => Reply::status(403).after(SLOW),
        _ => Reply::status(200),
    });
    let mut parked = Connect::v5("http-api").login("mallory", "slow").send(broker.port());
    api.wait_for_requests(3, PATIENCE);
    assert_eq!(get_as(&broker, "alice:secret"), OK);
    assert_eq!(parked.connack(PATIENCE), Some(support::reason::NOT_AUTHORIZED));
}

#[test]
fn local_users_may_as_their_rules_say() {
    let api = api("");
    let broker = broker(&api)
        .file("passwords", [include_str!("fixtures/passwd-2.1"), include_str!("fixtures/passwd-argon2id")].concat())
        .option("password_file", "passwords")
        .file("rules", "user default\ntopic read /api/#\nuser argon2id\ntopic read /api/#\nuser sha512\ntopic read news\n")
        .option("acl_file", "rules")
        .start();
    assert_eq!(get_as(&broker, "default:correct horse"), OK);
    assert_eq!(get_as(&broker, "default:wrong"), UNAUTHORIZED);
    assert_eq!(get_as(&broker, "sha512:correct horse"), UNAUTHORIZED, "not in its rules");
    let mut client = Connect::v3("c").login("sha512", "correct horse").accepted(broker.port());
    assert_unnoticed("a ping beside a costly hash", || {
        let (status, stall) = client.longest_ping_during(|| get_as(&broker, "argon2id:correct horse"));
        assert_eq!(status, OK);
        stall
    });
    assert!(api.requests().is_empty());
}

/// A request comes with a client id that any client may have.
#[test]
fn a_request_takes_no_rights_from_a_client_with_its_id() {
    let api = api("");
    let broker = broker(&api)
        .file("passwords", include_str!("fixtures/passwd-2.1"))
        .option("password_file", "passwords")
        .start();
    let mut client = Connect::v5("http-api").login("default", "correct horse").accepted(broker.port());
    for _ in 0..3 {
        assert_eq!(get_as(&broker, "default:correct horse"), OK);
        // What the request has left to be done is done when the broker's loop comes round.
        client.ping();
        client.ping();
        assert_eq!(client.publish_acknowledged("news", "x") & 0x80, 0, "a local user may do everything");
        assert!(client.may_subscribe("news"));
    }
}

#[test]
fn who_keeps_trying_is_throttled() {
    let api = api(RULES);
    let broker = broker(&api).option("throttle_pause", "5m").option("throttle_longest", "5m").start();
    for number in 0..20 {
        assert_eq!(get_as(&broker, &format!("alice:wrong-{number}")), UNAUTHORIZED);
    }
    // Five, and the one that is looked at in the pause.
    assert_eq!(api.logins().len(), 6);
    // They come from nowhere; who comes from somewhere is another.
    Connect::v3("a").login("alice", "secret").accepted(broker.port());
}

#[test]
fn requests_and_clients_at_once_are_all_answered_rightly() {
    let api = api(RULES);
    api.answer(Reply::rules().after(Duration::from_millis(2)));
    let mut broker = broker(&api)
        .file("passwords", include_str!("fixtures/passwd-2.1"))
        .option("password_file", "passwords")
        .option("auth_cache_ttl", "1s")
        .option("acl_cache_ttl", "1s")
        .option("deny_cache_ttl", 0)
        .option("throttle_after", 0)
        .listener(["protocol http_api"])
        .start();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..3 {
            let (broker, over) = (&broker, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(get_as(broker, "alice:secret"), OK);
                    assert_eq!(get_as(broker, &format!("alice:wrong-{number}")), UNAUTHORIZED);
                    assert_eq!(get_as(broker, "bob:secret"), UNAUTHORIZED);
                    assert_eq!(get_as(broker, "default:correct horse"), OK);
                }
            });
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let name = format!("c{number}");
                    let mut client = Connect::v5(&name).login("bob", "secret").accepted(broker.port());
                    assert!(client.may_subscribe(&format!("news/{number}")));
                    assert_eq!(client.publish_acknowledged(format!("news/{number}"), "x") & 0x80, 0);
                    client.receive(PATIENCE).expect("message");
                    assert!(!client.may_subscribe("other/#"));
                    Connect::v5(&name).login("bob", "wrong").refused(broker.port());
                    Connect::v5(&name).login("default", "correct horse").accepted(broker.port());
                }
            });
        }
        for _ in 0..15 {
            thread::sleep(Duration::from_millis(200));
            broker.sighup();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(broker.is_running());
    assert!(!broker.log().contains("A bug in the plugin"));
    assert!(broker.terminate().0.success());
}

#[test]
fn a_revoked_client_goes_also_while_a_request_waits() {
    let api = api(RULES);
    let broker = broker(&api).option("auth_cache_ttl", 0).option("timeout", "5s").start();
    let mut revoked = bystander(&broker, "bob", "secret");
    api.answer_with(|request| match request.field("username") {
        "bob" => Reply::status(403),
        _ => Reply::rules().after(SLOW * 3),
    });
    thread::scope(|scope| {
        let request = scope.spawn(|| get_as(&broker, "alice:secret"));
        assert!(eventually(PATIENCE, || !api.logins().is_empty()));
        broker.sighup();
        assert!(revoked.wait_until_closed(SLOW * 2), "it waits for a request");
        request.join().unwrap();
    });
}

#[test]
fn the_broker_stops_while_a_request_waits() {
    let timeout = Duration::from_secs(2);
    let api = api(RULES);
    let mut broker = broker(&api).option("timeout", "2s").start();
    let before = api.requests().len();
    api.answer(Reply::Hang);
    let mut waiting = TcpStream::connect(("127.0.0.1", broker.ports()[1])).unwrap();
    let request = "GET /api/v1/version HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n";
    waiting.write_all(request.as_bytes()).unwrap();
    api.wait_for_requests(before + 1, PATIENCE);
    let (status, waited) = broker.terminate();
    assert!(status.success(), "{status}");
    assert!(waited < timeout + Duration::from_secs(1), "{waited:?} to stop");
}

/// The threads of the listener are the broker's own; those of the plugin are to take no signals, whoever
/// starts them.
#[test]
fn threads_that_a_request_starts_take_no_signals() {
    let api = api(RULES);
    let broker = broker(&api).start();
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", broker.pid())).unwrap();
        tasks.map(|task| task.unwrap().path()).collect::<Vec<_>>()
    };
    let before = threads();
    assert_eq!(get_as(&broker, "alice:secret"), OK);
    let started: Vec<_> = threads().into_iter().filter(|thread| !before.contains(thread)).collect();
    assert!(!started.is_empty());
    for thread in started {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
        for signal in
            [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH]
        {
            assert!(blocked >> (signal - 1) & 1 == 1, "signal {signal} is open: {status}");
        }
    }
}
