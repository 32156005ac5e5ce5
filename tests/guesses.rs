//! An attacker who guesses passwords gets few tries, whatever else happens at the same time, and keeps no owner out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

mod support;
use support::scene::Gate;
use support::{
    Broker, Client, Connect, ELSEWHERE, MockApi, PATIENCE, Protocol, Refusal, Reply, Setup, Version, api,
    eventually, on_every_broker, reason,
};

const RULES: &str = "user alice secret\nuser bob secret\nuser fleet new\n";

/// How many wrong passwords the throttle lets pass, unless an option says otherwise.
const AFTER: usize = 5;

fn broker(version: Version, api: &MockApi) -> Setup {
    Broker::with(version).option("auth_url", api.auth_url())
}

/// Point 6. Tries that are open count as well as those that are known to be wrong: they come all at once.
#[test]
fn a_burst_of_guesses_gets_no_more_tries_than_one_after_the_other() {
    const GUESSES: usize = 400;
    on_every_broker(|version| {
        let api = api(RULES);
        api.answer(Reply::rules().after(Duration::from_millis(200)));
        let broker =
            broker(version, &api).option("throttle_pause", "5m").option("throttle_longest", "5m").start();
        let guess = |number: usize| {
            let password =
                if number == GUESSES / 2 { "secret".to_owned() } else { format!("wrong-{number}") };
            Connect::v5(format!("attacker-{number}")).login("alice", password)
        };
        let accepted = || broker.log().matches("New connection from").count();
        let before = accepted();
        let mut crowd: Vec<_> = (0..GUESSES).map(|_| Client::open(broker.port(), Protocol::V5)).collect();
        assert!(eventually(PATIENCE, || accepted() >= before + GUESSES));
        // Or the first would be answered before the last is sent.
        broker.signal(libc::SIGSTOP);
        for (number, client) in crowd.iter_mut().enumerate() {
            client.send(&guess(number).packet());
        }
        broker.signal(libc::SIGCONT);
        let let_in = crowd
            .iter_mut()
            .filter_map(|client| client.connack(PATIENCE))
            .filter(|code| *code == reason::SUCCESS)
            .count();
        let asked = api.logins().len();
        let outcome = format!("of {GUESSES} guesses at once {asked} reached the API, and {let_in} hit");
        // One is looked at in the pause, which outlasts the test. On 2.0 as many as in front of it may be asked ahead, and
        // the broker comes to others.
        let most = if version.is_2_1() { AFTER + 1 } else { 2 * AFTER };
        assert!(asked <= most, "{outcome}");
        assert_eq!(let_in, 0, "{outcome}");
        // Who is not at the attacker's address has nothing to do with it.
        Connect::v5("owner").login("alice", "secret").coming_from(ELSEWHERE).accepted(broker.port());
        Connect::v5("other").login("bob", "secret").accepted(broker.port());
    });
}

/// A password file whose users have this password, with hashes that take some time: a tenth of a second each in a
/// debug build.
fn slow_password_file(names: &[&str]) -> String {
    let (salt, mut hash) = (*b"salt of a test..", [0; 32]);
    let params = argon2::Params::new(4096, 1, 1, Some(hash.len())).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon2.hash_password_into(LOCAL_PASSWORD, &salt, &mut hash).unwrap();
    let [salt, hash] = [&salt[..], &hash[..]].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    names.iter().map(|name| format!("{name}:$argon2id$v=19$m=4096,t=1,p=1${salt}${hash}\n")).collect()
}

const LOCAL_PASSWORD: &[u8] = b"correct horse";

/// Point 7. The thread that compares slow hashes has a queue: one who fills it makes all the others wait.
#[test]
fn guesses_at_one_slow_hash_do_not_keep_other_local_users_waiting() {
    const GUESSES: usize = 190;
    let api = api("");
    let broker = broker(Version::V2_1, &api)
        .file("passwords", slow_password_file(&["attacked", "other"]))
        .option("password_file", "passwords")
        .start();
    let wait = |name: &str, limit: Duration| {
        let start = Instant::now();
        let connect = Connect::v5(name).login(name, LOCAL_PASSWORD).coming_from(ELSEWHERE);
        let code = connect.send(broker.port()).connack(limit);
        (code, start.elapsed())
    };
    // As long as it takes by itself, the slowest of three.
    let alone = (0..3).map(|_| wait("other", PATIENCE).1).max().unwrap();
    // The tries that the throttle lets pass are in front of it, and its own.
    let fair = alone * u32::try_from(2 * (AFTER + 2)).unwrap() + Duration::from_millis(100);
    let guess = |number: usize| {
        let name = format!("attacker-{number}");
        Connect::v5(name).login("attacked", format!("wrong-{number}")).send(broker.port())
    };
    let crowd: Vec<_> = (0..GUESSES).map(guess).collect();
    for name in ["other", "attacked"] {
        let (code, waited) = wait(name, 2 * fair);
        let outcome = format!("{name} waited {waited:?} behind {GUESSES} guesses, alone {alone:?}");
        assert_eq!(code, Some(reason::SUCCESS), "{outcome}");
        assert!(waited <= fair, "{outcome}");
    }
    drop(crowd);
}

/// Long passwords fill that queue. Who finds no room there has given no wrong password, and the API has no part in it.
#[test]
fn who_finds_no_room_for_a_slow_hash_is_told_to_come_again() {
    const CROWD: usize = 40;
    let api = api("");
    let names: Vec<_> = (0..CROWD).map(|number| format!("user-{number}")).collect();
    let broker = broker(Version::V2_1, &api)
        .file("passwords", slow_password_file(&names.iter().map(String::as_str).collect::<Vec<_>>()))
        .option("password_file", "passwords")
        .start();
    let wrong = "x".repeat(60_000);
    let log_in = |name: &String| Connect::v5(name).login(name, &wrong).send(broker.port());
    let mut crowd: Vec<_> = names.iter().map(log_in).collect();
    let codes: Vec<_> = crowd.iter_mut().map(|client| client.connack(PATIENCE)).collect();
    let refused = codes.iter().filter(|code| **code == Some(reason::NOT_AUTHORIZED)).count();
    assert!(refused > 10 && refused < CROWD, "{codes:?}");
    let log = broker.log();
    assert!(log.contains("too many clients wait for an answer already"), "{log}");
    assert!(!log.contains("the API gave no answer"), "{log}");
    Connect::v5("c").login(&names[0], LOCAL_PASSWORD).accepted(broker.port()).disconnect();
}

/// Point 8. What is refused unseen is what is known to be wrong. One device that was forgotten when its fleet got a
/// new password keeps nobody else out.
#[test]
fn a_new_password_gets_in_at_once_although_an_old_device_keeps_trying() {
    /// Times are a tenth of the defaults, and the device tries every 100 ms instead of every second.
    const BEAT: Duration = Duration::from_millis(100);
    const MOST_TRIES: usize = 20;
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker(version, &api)
            .option("throttle_pause", "100ms")
            .option("throttle_longest", "6s")
            .option("deny_cache_ttl", "500ms")
            .option("auth_cache_ttl", "3s")
            .start();
        let (over, wrong) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let old = Connect::v5("old-device").login("fleet", "old").attempt(broker.port());
                    wrong.fetch_add(usize::from(old.is_err()), Ordering::Relaxed);
                    thread::sleep(BEAT);
                }
            });
            // Until the pauses are as long as they get.
            eventually(PATIENCE, || wrong.load(Ordering::Relaxed) >= 50);
            let mut tries = 0;
            let mut got_in = false;
            while !got_in && tries < MOST_TRIES {
                tries += 1;
                got_in = Connect::v5("new-device").login("fleet", "new").attempt(broker.port()).is_ok();
                if !got_in {
                    thread::sleep(BEAT);
                }
            }
            let others: Vec<_> = (0..5)
                .map(|number| Connect::v5(format!("new-{number}")).login("fleet", "new"))
                .map(|connect| connect.attempt(broker.port()).is_ok())
                .collect();
            over.store(true, Ordering::Relaxed);
            assert!(got_in && tries == 1, "in: {got_in}, after {tries} tries, and the others: {others:?}");
            assert_eq!(others, [true; 5]);
        });
        // And guessing has not become cheap by that.
        let asked = api.logins().iter().filter(|request| request.field("password") == "old").count();
        assert!(asked <= wrong.into_inner(), "{asked} questions about the old password");
    });
}

/// Point 9. While an id is parked the broker turns away everybody else who comes with it. Whoever keeps it parked
/// under ever new names is counted by address and id.
#[test]
fn made_up_names_under_a_client_id_do_not_keep_its_owner_out() {
    const SOCKETS: usize = 3;
    const ROUNDS: usize = 3;
    /// The tries before the first pause take 1.5 s; then there are pauses.
    const ENOUGH: Duration = Duration::from_secs(4);
    let api = api(RULES);
    let broker = broker(Version::V2_1, &api).option("auth_cache_ttl", 0).start();
    api.answer_with(|request| {
        let is_made_up = request.field("username").starts_with("made-up");
        Reply::rules().after(Duration::from_millis(if is_made_up { 300 } else { 10 }))
    });
    let owner = Connect::v5("x").login("alice", "secret").coming_from(ELSEWHERE);
    let (over, made_up) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut waits = Vec::new();
    let tries = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..SOCKETS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let number = made_up.fetch_add(1, Ordering::Relaxed);
                    let attack = Connect::v5("x").login(format!("made-up-{number}"), "wrong");
                    let attempt = attack.attempt(broker.port()).map(drop);
                    assert!(attempt.is_err(), "a wrong password is let in");
                    if attempt == Err(Refusal::Closed) {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        assert!(eventually(PATIENCE, || api.logins().len() > 2));
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let got_in = eventually(ENOUGH, || {
                tries.fetch_add(1, Ordering::Relaxed);
                let got_in = owner.attempt(broker.port()).is_ok();
                thread::sleep(Duration::from_millis(if got_in { 0 } else { 50 }));
                got_in
            });
            waits.push(start.elapsed());
            if !got_in {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let got_in = waits.iter().filter(|wait| **wait < ENOUGH).count();
    let tries = tries.into_inner();
    assert_eq!(got_in, ROUNDS, "the owner got in {got_in} times with {tries} tries, and waited {waits:?}");
}

/// Point 9. The broker waits for whoever comes under somebody else's id, if the API answers soon: nobody is parked in front
/// of the owner.
#[test]
fn who_comes_under_anothers_id_is_not_parked_in_front_of_its_owner() {
    let api = api(RULES);
    let broker = broker(Version::V2_1, &api).option("auth_cache_ttl", 0).start();
    let mut bystander = Connect::v5("bob").login("bob", "secret").accepted(broker.port());
    let owner = Connect::v5("device").login("alice", "secret").coming_from(ELSEWHERE);
    owner.accepted(broker.port()).disconnect();
    let under_its_id = |name: &str| Connect::v5("device").login(name, "wrong");
    for name in ["made-up-1", "made-up-2"] {
        let mut crowd = [(); 2].map(|()| Client::open_from(ELSEWHERE, broker.port(), Protocol::V5));
        bystander.ping();
        // Or the first would be answered before the second is sent.
        broker.signal(libc::SIGSTOP);
        for (client, connect) in crowd.iter_mut().zip([&under_its_id(name), &owner]) {
            client.send(&connect.packet());
        }
        broker.signal(libc::SIGCONT);
        let codes = crowd.each_mut().map(|client| client.connack(PATIENCE));
        assert_eq!(codes, [Some(reason::NOT_AUTHORIZED), Some(reason::SUCCESS)], "{name}");
    }
    // But nobody else waits long for that.
    let gate = Gate::in_front_of(&api, Reply::status(403));
    api.forget_requests();
    let mut slow = under_its_id("made-up-3").send(broker.port());
    api.wait_for_requests(1, PATIENCE);
    bystander.ping();
    gate.open();
    assert_eq!(slow.connack(PATIENCE), Some(reason::NOT_AUTHORIZED));
}

/// Point 7. On 2.0 the broker itself computes hashes, in each turn until `login_wait` is used up.
#[test]
fn slow_hashes_hold_up_the_broker_for_login_wait() {
    const LOGINS: usize = 20;
    for version in [Version::V2_0_11, Version::V2_0_21] {
        let names: Vec<_> = (0..LOGINS).map(|number| format!("local-{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let api = api("");
        let broker = broker(version, &api)
            .file("passwords", slow_password_file(&names))
            .option("password_file", "passwords")
            .option("login_wait", "1ms")
            .start();
        let accepted = || broker.log().matches("New connection from").count();
        let mut crowd: Vec<_> = names.iter().map(|_| Client::open(broker.port(), Protocol::V5)).collect();
        assert!(eventually(PATIENCE, || accepted() >= LOGINS));
        // All come in one turn.
        broker.signal(libc::SIGSTOP);
        for (client, name) in crowd.iter_mut().zip(&names) {
            client.send(&Connect::v5(*name).login(*name, "wrong").packet());
        }
        broker.signal(libc::SIGCONT);
        let examined = crowd.iter_mut().filter_map(|client| client.connack(PATIENCE)).count();
        // One uses up `login_wait`. The system may hand the crowd over in a few turns.
        assert!((1..=4).contains(&examined), "{version}: {examined} of {LOGINS} hashes were computed");
        broker.wait_for_log("(plugin_opt_login_wait), so its password was not examined", PATIENCE);
        for name in names {
            Connect::v5(name).login(name, LOCAL_PASSWORD).accepted(broker.port());
        }
    }
}
