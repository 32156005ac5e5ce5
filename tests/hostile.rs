//! What hostile clients try against waiting, sharing and counting: what keeps them from others' room, ids and rights.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

mod support;
use support::scene::Gate;
use support::{
    Broker, Client, Connect, ELSEWHERE, MockApi, PASSWORD, PATIENCE, Protocol, Reply, Request, Version, Will,
    api, broker_asking, eventually, local_user, log_in, on_every_broker, reason, timed,
};

const READ: u64 = 1;

/// A local user with a hash that takes tens of milliseconds. The password is [`PASSWORD`].
fn slow_user() -> &'static str {
    include_str!("fixtures/passwd-argon2id").lines().find(|line| line.starts_with("command:")).unwrap()
}

/// Lets in whoever has the password "secret", and takes so long for it.
fn api_after(latency: Duration) -> MockApi {
    let api = api("");
    api.answer_with(move |request| {
        let is_right = request.path != "/auth" || request.field("password") == "secret";
        Reply::status(if is_right { 200 } else { 403 }).after(latency)
    });
    api
}

/// Who waits for a turn keeps a client id busy as well, and is never looked at: also that counts.
#[test]
fn who_waits_for_a_turn_keeps_no_client_id_busy() {
    const ROUNDS: usize = 3;
    const ENOUGH: Duration = Duration::from_secs(5);
    let api = api("");
    api.answer_with(|request| {
        let is_made_up = request.field("username").starts_with("made-up");
        let latency = Duration::from_millis(if is_made_up { 400 } else { 10 });
        Reply::status(if is_made_up { 403 } else { 200 }).after(latency)
    });
    let broker = broker_asking(Version::V2_1, &api).option("auth_cache_ttl", 0).start();
    let owner = Connect::v5("x").login("alice", "secret").coming_from(ELSEWHERE);
    let (over, name) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (parked, tries) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut waits = Vec::new();
    thread::scope(|scope| {
        // Five tries of one name are open, under any ids.
        scope.spawn(|| {
            let mut crowd = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let number = name.load(Ordering::Relaxed) + 1;
                let attack = |n| {
                    let connect = Connect::v5(format!("any-{number}-{n}"));
                    connect.login(format!("made-up-{number}"), format!("{n}")).send(broker.port())
                };
                crowd.push((0..5).map(attack).collect::<Vec<_>>());
                name.store(number, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(150));
            }
        });
        // And behind them that name waits under the id of another, and leaves before it has its turn.
        scope.spawn(|| {
            let mut before: Option<Client> = None;
            while !over.load(Ordering::Relaxed) {
                let (number, count) = (name.load(Ordering::Relaxed), parked.load(Ordering::Relaxed));
                let mut next = Client::open(broker.port(), Protocol::V5);
                drop(before.take());
                let login = Connect::v5("x").login(format!("made-up-{number}"), format!("x-{count}"));
                next.send(&login.packet());
                match next.connack(Duration::from_millis(120)) {
                    Some(code) => assert_ne!(code, reason::SUCCESS),
                    None if next.is_closed() => {}
                    None => {
                        parked.fetch_add(1, Ordering::Relaxed);
                        before = Some(next);
                    }
                }
            }
        });
        thread::sleep(Duration::from_secs(4));
        for _ in 0..ROUNDS {
            let (got_in, waited) = timed(|| {
                eventually(ENOUGH, || {
                    tries.fetch_add(1, Ordering::Relaxed);
                    let got_in = owner.attempt(broker.port()).is_ok();
                    thread::sleep(Duration::from_millis(if got_in { 0 } else { 50 }));
                    got_in
                })
            });
            waits.push(waited);
            if !got_in {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let asked = api.logins().iter().filter(|request| request.field("password").starts_with("x-")).count();
    let got_in = waits.iter().filter(|wait| **wait < ENOUGH).count();
    assert_eq!(
        got_in, ROUNDS,
        "the owner got in {got_in} times with {tries:?} tries, and waited {waits:?}; the id was busy {parked:?} times, \
         which cost {asked} questions"
    );
}

/// The passwords of one network that wait for their turn leave room for those of others.
#[test]
fn passwords_that_wait_leave_room_for_those_of_other_networks() {
    const LATENCY: Duration = Duration::from_millis(1500);
    const FLEET: usize = 20;
    let api = api_after(LATENCY);
    let broker = broker_asking(Version::V2_1, &api).start();
    // Long ones first, and then what fits into what they leave.
    let lengths = [(200, 65_000), (12, 8_000), (12, 1_000), (24, 100), (48, 10)];
    let lengths: Vec<_> = lengths.iter().flat_map(|(count, length)| vec![*length; *count]).collect();
    let attack = |(n, length): (usize, &usize)| {
        let connect = Connect::v5(format!("attacker-{n}"));
        let password = format!("{n}{}", "x".repeat(*length));
        connect.login(format!("made-up-{}", n / 25), &password[..*length]).send(broker.port())
    };
    let crowd: Vec<_> = lengths.iter().enumerate().map(attack).collect();
    broker.wait_for_log("too many clients wait", PATIENCE);
    // Each has a password of its own, and so needs a turn of its own.
    api.answer_with(move |request| {
        let is_right = request.field("password").starts_with("secret");
        Reply::status(if is_right { 200 } else { 403 }).after(LATENCY)
    });
    let device = |n| {
        let connect = Connect::v5(format!("device-{n}")).login("fleet", format!("secret-{n}"));
        connect.coming_from(ELSEWHERE).send(broker.port())
    };
    let mut fleet: Vec<_> = (0..FLEET).map(device).collect();
    let codes: Vec<_> = fleet.iter_mut().map(|client| client.connack(PATIENCE)).collect();
    drop(crowd);
    let refused = codes.iter().filter(|code| **code != Some(reason::SUCCESS)).count();
    assert_eq!(refused, 0, "of {FLEET} devices with right passwords so many were refused: {codes:?}");
}

/// What one network asks about behind its own flood does not wait there for another that asks the same.
#[test]
fn a_question_of_two_networks_does_not_wait_behind_the_flood_of_one() {
    const FLOOD: u32 = 500;
    const AT_ONCE: u32 = 4;
    const LATENCY: Duration = Duration::from_millis(40);
    let api = api_after(LATENCY);
    let setup = broker_asking(Version::V2_1, &api).option("max_requests", AT_ONCE);
    let broker = setup.option("throttle_after", 0).start();
    let attack =
        |n| Connect::v5(format!("attacker-{n}")).login(format!("made-up-{n}"), "wrong").send(broker.port());
    let crowd: Vec<_> = (0..FLOOD).map(attack).collect();
    api.wait_for_requests(4, PATIENCE);
    // One of the fleet that all have one password.
    let first = Connect::v5("mallory").login("fleet", "secret").send(broker.port());
    thread::sleep(Duration::from_millis(100));
    let ((code, _), waited) = timed(|| {
        let mut client =
            Connect::v5("honest").login("fleet", "secret").coming_from(ELSEWHERE).send(broker.port());
        (client.connack(PATIENCE), client)
    });
    drop((crowd, first));
    let takes = LATENCY * (FLOOD / AT_ONCE);
    let outcome = format!("{waited:?} behind a flood of {takes:?}, alone {LATENCY:?}");
    assert_eq!(code, Some(reason::SUCCESS), "{outcome}");
    assert!(waited < takes / 4, "{outcome}");
}

/// The one look in each pause is not always that of whoever tries most often.
#[test]
#[ignore = "found: who tries fastest takes the one look of each pause"]
fn a_right_password_gets_in_beside_somebody_who_guesses_without_a_rest() {
    const LIMIT: Duration = Duration::from_secs(12);
    on_every_broker(|version| {
        let api = api_after(Duration::from_millis(10));
        let broker = broker_asking(version, &api)
            .option("throttle_pause", "100ms")
            .option("throttle_longest", "1s")
            .start();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for guesser in 0..2 {
                let (over, broker) = (&over, &broker);
                scope.spawn(move || {
                    for n in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let guess = Connect::v5(format!("guesser-{guesser}-{n}"));
                        let _ = guess.login("alice", format!("guess-{guesser}-{n}")).attempt(broker.port());
                    }
                });
            }
            thread::sleep(Duration::from_secs(3));
            let mut tries = 0;
            let (got_in, waited) = timed(|| {
                eventually(LIMIT, || {
                    tries += 1;
                    let is_in = Connect::v5("owner").login("alice", "secret").attempt(broker.port()).is_ok();
                    thread::sleep(Duration::from_millis(if is_in { 0 } else { 200 }));
                    is_in
                })
            });
            over.store(true, Ordering::Relaxed);
            let asked = api.logins().len();
            assert!(got_in, "kept out for {waited:?} with {tries} tries; {asked} were looked at");
            assert!(waited < Duration::from_secs(3), "got in after {waited:?} with {tries} tries");
        });
    });
}

/// The same wrong password many times costs no more computing than different ones.
#[test]
fn one_wrong_password_is_not_compared_again_and_again_at_a_slow_hash() {
    const GUESSES: usize = 100;
    let api = api_after(Duration::ZERO);
    let broker = broker_asking(Version::V2_1, &api)
        .file("passwords", slow_user())
        .option("password_file", "passwords")
        .start();
    let name = "command";
    let right = || {
        let connect = Connect::v5("owner").login(name, PASSWORD);
        timed(|| connect.send(broker.port()).connack(PATIENCE))
    };
    let (code, alone) = right();
    assert_eq!(code, Some(reason::SUCCESS));
    let before = broker.computed();
    let guess = |n| Connect::v5(format!("guesser-{n}")).login(name, "wrong").send(broker.port());
    let crowd: Vec<_> = (0..GUESSES).map(guess).collect();
    let (code, waited) = right();
    let computed = broker.computed() - before;
    drop(crowd);
    let outcome = format!(
        "waited {waited:?} behind {GUESSES} times one guess ({computed:?} of computing), alone {alone:?}"
    );
    assert_eq!(code, Some(reason::SUCCESS), "{outcome}");
    assert!(waited < 14 * alone + Duration::from_millis(200), "{outcome}");
}

/// What a client of that id has subscribed to implies nothing for requests to the HTTP listener.
#[test]
fn a_subscription_implies_nothing_for_requests_to_the_http_listener() {
    let api = api("");
    api.answer_with(|request: &Request| {
        let is_forbidden = request.path != "/auth" && request.field("topic").starts_with("/api");
        Reply::status(if is_forbidden { 403 } else { 200 })
    });
    let broker = broker_asking(Version::V2_1, &api)
        .option("acl_checks", "write,subscribe")
        .listener(["protocol http_api"])
        .start();
    let status = || {
        let mut stream = TcpStream::connect(("127.0.0.1", broker.ports()[1])).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let login = STANDARD.encode("alice:secret");
        let head = format!("Host: localhost\r\nAuthorization: Basic {login}\r\nConnection: close\r\n\r\n");
        stream.write_all(format!("GET /api/v1/version HTTP/1.1\r\n{head}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status(), "401");
    let mut alice = Connect::v5("http-api").login("alice", "secret").accepted(broker.port());
    assert!(alice.may_subscribe("#"));
    assert_eq!(status(), "401", "after alice has subscribed to # under the id http-api");
}

/// A way from a port to a Unix socket. It lasts as long as the test's process.
fn tunnel_to(path: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(broker) = UnixStream::connect(&path) else { return };
            let (mut from, mut to) = (stream.try_clone().unwrap(), broker.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let (mut from, mut to) = (broker, stream);
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

fn reload(broker: &Broker, watcher: &mut Client) {
    let reloads = || broker.log().matches("Reloading config").count();
    let before = reloads();
    broker.sighup();
    assert!(eventually(PATIENCE, || reloads() > before), "the broker reloads");
    watcher.ping();
}

/// A client of a Unix socket has no address, and no local rights for that.
#[test]
fn what_sleeps_behind_a_unix_socket_has_no_local_rights() {
    on_every_broker(|version| {
        let folder = tempfile::tempdir().unwrap();
        let path: &Path = &folder.path().join("s");
        let api = api("");
        api.answer_with(|request: &Request| {
            let is_forbidden = request.field("topic") == "forbidden" || request.acc() == READ;
            Reply::status(if is_forbidden { 403 } else { 200 })
        });
        let broker = broker_asking(version, &api)
            .file("passwords", format!("{}\n", local_user("watcher")))
            .option("password_file", "passwords")
            .option("acl_cache_ttl", 0)
            .option("deny_cache_ttl", 0)
            .line(format!("listener 0 {}", path.display()))
            .start();
        let port = tunnel_to(path.to_owned());
        let mut watcher = Connect::v5("watcher").login("watcher", PASSWORD).accepted(broker.port());
        assert!(watcher.may_subscribe("forbidden"));
        let will = Will { topic: b"forbidden".to_vec(), payload: b"x".to_vec(), qos: 1, retain: false };
        let connect = Connect::v5("sleeper").login("sleeper", "secret").durable().session_expiry(600);
        let mut sleeper = connect.will(will).will_delay(2).accepted(port);
        assert!(sleeper.may_subscribe("news/#"));
        drop(sleeper);
        broker.wait_for_log("Client sleeper", PATIENCE);
        let users = format!("{}\n{}\n", local_user("watcher"), local_user("sleeper"));
        fs::write(broker.folder().join("passwords"), users).unwrap();
        reload(&broker, &mut watcher);
        api.forget_requests();
        watcher.publish_acknowledged("news/1", "x");
        let reads = || {
            let is_it = |request: &Request| request.acc() == READ && request.field("username") == "sleeper";
            api.topic_checks().into_iter().filter(is_it).count()
        };
        let asked = reads();
        let published = watcher.receive(Duration::from_secs(4)).map(|message| message.topic);
        let log = broker.log();
        let from = log.lines().find(|line| line.contains("as sleeper")).unwrap_or_default();
        assert_eq!((asked, published), (1, None), "questions, and the will; {from}");
    });
}

/// One account stops the broker no longer by many connections than by one.
#[test]
#[ignore = "found: the bound for waits is for each client id, and an account has as many as it likes"]
fn one_account_with_many_ids_does_not_stop_the_broker_for_all_their_retained_messages() {
    const MESSAGES: usize = 200;
    const IDS: usize = 8;
    const TIMEOUT: Duration = Duration::from_millis(500);
    on_every_broker(|version| {
        let api = api_after(Duration::ZERO);
        let broker =
            broker_asking(version, &api).option("timeout", "500ms").option("max_requests", 4).start();
        let mut bystander = log_in(&broker, "bystander");
        let mut writer = log_in(&broker, "writer");
        for number in 0..MESSAGES {
            let packet = writer.publish_packet(format!("kept/{number}").as_bytes(), b"x", 0, true);
            writer.send(&packet);
        }
        writer.ping();
        let id = |n| Connect::v5(format!("mallory-{n}")).login("mallory", "secret").accepted(broker.port());
        let mut crowd: Vec<_> = (0..IDS).map(id).collect();
        api.answer(Reply::status(200).after(Duration::from_millis(40)));
        let (_, stall) = bystander.longest_ping_during(|| {
            broker.signal(libc::SIGSTOP);
            for client in &mut crowd {
                let packet = client.subscribe_packet(&[("kept/#", 0)]);
                client.send(&packet);
            }
            broker.signal(libc::SIGCONT);
            thread::sleep(Duration::from_secs(6));
        });
        assert!(stall < 3 * TIMEOUT, "the broker stood still for {stall:?}, {TIMEOUT:?} for one client");
    });
}

/// Names that are made up behind the address that all share do not open the breaker.
#[test]
fn slow_names_do_not_open_the_breaker_for_those_who_share_their_address() {
    const HONEST: usize = 8;
    on_every_broker(|version| {
        let api = api("");
        let broker = broker_asking(version, &api)
            .option("timeout", "1s")
            .option("auth_cache_ttl", 0)
            .option("breaker_pause", "1m")
            .option("breaker_longest", "1m")
            .start();
        api.answer_with(|request| {
            let is_slow = request.field("username").starts_with("slow");
            if is_slow { Reply::Hang } else { Reply::status(200) }
        });
        let honest = |number: usize| {
            let name = format!("honest-{number}");
            Connect::v5(&name).login(&name, "x").attempt(broker.port()).is_ok()
        };
        let before = (0..HONEST).filter(|number| honest(*number)).count();
        let attack = |number: usize| {
            let name = format!("slow-{number}");
            Connect::v5(&name).login(&name, "x").send(broker.port())
        };
        let mut crowd: Vec<_> = (0..8).map(attack).collect();
        crowd.iter_mut().for_each(|client| assert_ne!(client.connack(PATIENCE), Some(reason::SUCCESS)));
        thread::sleep(Duration::from_millis(700));
        let after = (0..HONEST).filter(|number| honest(*number)).count();
        assert_eq!(
            (before, after),
            (HONEST, HONEST),
            "got in before and after 8 slow names from their address"
        );
    });
}

/// An API that counts logins by account says 429 to whoever tries that one too often, and lets all others in.
#[test]
fn who_draws_a_429_takes_the_api_from_nobody_else() {
    const HONEST: usize = 8;
    on_every_broker(|version| {
        let api = api("");
        let broker = broker_asking(version, &api).option("auth_cache_ttl", 0).start();
        api.answer_with(|request| match request.field("username").starts_with("tried") {
            true => Reply::status(429).header("Retry-After", "30"),
            false => Reply::status(200),
        });
        let try_in = |name: String| Connect::v5(&name).login(&name, "x").attempt(broker.port()).is_ok();
        let all_honest = || (0..HONEST).filter(|n| try_in(format!("honest-{n}"))).count();
        let before = all_honest();
        assert!((0..3).all(|_| !try_in("tried".to_owned())));
        let after_one = all_honest();
        // Nor by names that the API has allowed nothing, from the address that all share here.
        assert!((0..10).all(|n| !try_in(format!("tried-{n}"))));
        let after_many = all_honest();
        let asked = api.logins().iter().filter(|login| login.field("username") == "tried").count();
        assert_eq!((before, after_one, after_many, asked), (HONEST, HONEST, HONEST, 1));
    });
}

/// An account that comes under many ids has no more of a full cache than one that has a single id.
#[test]
fn one_account_with_many_ids_displaces_nobodys_allows() {
    const CACHE: usize = 1000;
    const HONEST: usize = 20;
    const IDS: usize = 60;
    on_every_broker(|version| {
        let api = api_after(Duration::ZERO);
        let remember = |setup: support::Setup, name: &str| setup.option(name, "1h");
        let setup = broker_asking(version, &api).option("cache_size", CACHE);
        let broker = ["acl_cache_ttl", "auth_cache_ttl"].into_iter().fold(setup, remember).start();
        let mut honest: Vec<_> = (0..HONEST).map(|n| log_in(&broker, &format!("honest-{n}"))).collect();
        let mut publish_all = |times| {
            for _ in 0..times {
                for (number, client) in honest.iter_mut().enumerate() {
                    assert!(client.publish_acknowledged(format!("honest/{number}"), "x") < 0x80);
                }
            }
        };
        publish_all(3);
        for id in 0..IDS {
            let connect = Connect::v5(format!("mallory-{id}")).login("mallory", "secret");
            let mut mallory = connect.accepted(broker.port());
            for number in 0..40 {
                for _ in 0..2 {
                    assert!(mallory.publish_acknowledged(format!("m/{id}/{number}"), "x") < 0x80);
                }
            }
        }
        api.forget_requests();
        publish_all(1);
        let lost = api.topic_checks().len();
        assert_eq!(lost, 0, "of {HONEST} allows that were used three times {lost} were lost");
    });
}

/// Addresses that one client makes up are not many that the API is silent to.
#[test]
fn made_up_addresses_do_not_open_the_breaker() {
    const HONEST: usize = 8;
    let api = api("");
    let broker = broker_asking(Version::V2_0_21, &api)
        .option("timeout", "1s")
        .option("auth_cache_ttl", 0)
        .option("breaker_pause", "1m")
        .option("breaker_longest", "1m")
        .listener(["protocol websockets"])
        .start();
    api.answer_with(|request| {
        let is_slow = request.field("username").starts_with("slow");
        if is_slow { Reply::Hang } else { Reply::status(200) }
    });
    let honest = |number: usize| {
        let connect = Connect::v5(format!("honest-{number}")).login(format!("honest-{number}"), "x");
        connect.coming_from(ELSEWHERE).attempt(broker.port()).is_ok()
    };
    let before = (0..HONEST).filter(|number| honest(*number)).count();
    for number in 0..6 {
        let connect = Connect::v5(format!("slow-{number}")).login(format!("slow-{number}"), "x");
        let headers = format!("X-Forwarded-For: 10.{number}.0.1\r\n");
        let mut client = connect.over_websocket_with(headers).send(broker.ports()[1]);
        assert_ne!(client.connack(PATIENCE), Some(reason::SUCCESS));
    }
    let after = (0..HONEST).filter(|number| honest(*number)).count();
    assert_eq!((before, after), (HONEST, HONEST), "got in before and after 6 made-up addresses");
}

/// A file that is half written may have lost the token that the API wants to see. That throws nobody out.
#[test]
fn a_file_that_has_lost_its_token_throws_nobody_out() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request: &Request| {
            Reply::status(if request.header("x-token") == Some("t") { 200 } else { 401 })
        });
        let urls = format!("auth_url = '{}'\nacl_url = '{}'\n", api.auth_url(), api.acl_url());
        let whole = format!("{urls}header = 'X-Token: t'\n");
        let broker = Broker::with(version).file("o.toml", whole).option("config_file", "o.toml").start();
        let mut honest: Vec<_> = (0..5).map(|n| log_in(&broker, &format!("honest-{n}"))).collect();
        fs::write(broker.folder().join("o.toml"), urls).unwrap();
        broker.sighup();
        let thrown_out = honest
            .iter_mut()
            .filter_map(|client| client.wait_until_closed(Duration::from_secs(2)).then_some(()));
        assert_eq!(thrown_out.count(), 0, "of 5 clients with right passwords");
        broker.wait_for_log("or has the configuration file lost it?", PATIENCE);
    });
}

/// Whoever floods the API makes its own tries wait for long, but none of them keeps another's id busy for as long.
#[test]
fn a_try_behind_its_own_flood_keeps_no_client_id_busy() {
    const ENOUGH: Duration = Duration::from_secs(6);
    let api = api_after(Duration::from_millis(40));
    let broker = broker_asking(Version::V2_1, &api).option("max_requests", 4).start();
    let owner = Connect::v5("x").login("alice", "secret").coming_from(ELSEWHERE);
    owner.accepted(broker.port()).disconnect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (over, broker) = (&over, &broker);
        scope.spawn(move || {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    number += 1;
                    let attack =
                        Connect::v5(format!("flood-{number}")).login(format!("made-up-{number}"), "wrong");
                    drop(attack.send(broker.port()));
                }
                thread::sleep(Duration::from_millis(300));
            }
        });
        thread::sleep(Duration::from_secs(3));
        scope.spawn(move || {
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let attack = Connect::v5("x").login(format!("under-x-{number}"), "wrong");
                let mut client = attack.send(broker.port());
                while !over.load(Ordering::Relaxed)
                    && client.connack(Duration::from_millis(100)).is_none()
                    && !client.is_closed()
                {}
            }
        });
        thread::sleep(Duration::from_millis(300));
        let mut tries = 0;
        let (got_in, waited) = timed(|| {
            eventually(ENOUGH, || {
                tries += 1;
                let is_in = owner.attempt(broker.port()).is_ok();
                thread::sleep(Duration::from_millis(if is_in { 0 } else { 100 }));
                is_in
            })
        });
        over.store(true, Ordering::Relaxed);
        let asked =
            api.logins().iter().filter(|request| request.field("username").starts_with("under-x")).count();
        assert!(
            got_in && waited < ENOUGH / 3,
            "in: {got_in} after {waited:?}, {tries} tries; {asked} questions under x"
        );
    });
}

/// An id whose owner has been here before is free again soon, whatever else its guesser has parked.
fn assert_soon_free(broker: &Broker, owner: &Connect) {
    let (got_in, waited) = timed(|| {
        eventually(Duration::from_secs(5), || {
            let is_in = owner.attempt(broker.port()).is_ok();
            thread::sleep(Duration::from_millis(if is_in { 0 } else { 50 }));
            is_in
        })
    });
    assert!(got_in && waited < Duration::from_secs(2), "in: {got_in} after {waited:?}");
}

/// Whoever waits for a turn under somebody else's id is turned away soon.
#[test]
fn who_waits_for_a_turn_leaves_anothers_id_soon() {
    let api = api_after(Duration::ZERO);
    let broker =
        broker_asking(Version::V2_1, &api).option("throttle_after", 1).option("timeout", "30s").start();
    let owner = Connect::v5("x").login("alice", "secret").coming_from(ELSEWHERE);
    owner.accepted(broker.port()).disconnect();
    let _gate = Gate::holding(&api, |_| true, |_| Reply::status(403));
    let guess = |id: &str, password: &str| Connect::v5(id).login("guesser", password).send(broker.port());
    let first = guess("any", "1");
    api.wait_for_requests(1, PATIENCE);
    let second = guess("x", "2");
    assert_soon_free(&broker, &owner);
    drop((first, second));
}

/// A question that somebody else waits for, too, stays in the queue, but keeps no id busy.
#[test]
fn whose_question_is_shared_leaves_anothers_id_soon() {
    let api = api_after(Duration::from_millis(400));
    let broker =
        broker_asking(Version::V2_1, &api).option("max_requests", 1).option("timeout", "30s").start();
    let owner = Connect::v5("x").login("alice", "secret").coming_from(ELSEWHERE);
    owner.accepted(broker.port()).disconnect();
    // The broker has waited for a client that sent more at once, and does not wait for its network for a while.
    let mut early = Client::open(broker.port(), Protocol::V5);
    let more = early.publish_packet(b"t", b"", 0, false);
    early.send(&[Connect::v5("early").login("early", "guess").packet(), more].concat());
    assert!(early.wait_until_closed(PATIENCE));
    let gate = Gate::holding(&api, |_| true, |_| Reply::status(403));
    api.forget_requests();
    let come = |id: &str, name: &str| Connect::v5(id).login(name, "guess").send(broker.port());
    let first = come("any", "first");
    api.wait_for_requests(1, PATIENCE);
    let mut shares = come("mine", "guesser");
    let mut guesser = come("x", "guesser");
    assert_soon_free(&broker, &owner);
    assert!(guesser.connack(PATIENCE) != Some(reason::SUCCESS));
    // Its question goes on for the other one.
    gate.open();
    assert_eq!(shares.connack(PATIENCE), Some(reason::NOT_AUTHORIZED));
    drop(first);
}
