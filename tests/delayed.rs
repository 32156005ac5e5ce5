//! Mosquitto 2.1: clients wait beside the broker's loop, an answer wakes it, and lets in whom it is about.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

mod support;
use support::broker::{plugin, plugin_line};
use support::{
    A_WHILE, Broker, Client, Connect, MockApi, PATIENCE, Refusal, Reply, Request, Setup, Version, Will, api,
    assert_unnoticed, broker_asking, eventually, on_every_broker, reason,
};

const RULES: &str = "user alice secret\nallow all #\nuser bob secret\nallow all #\n";

/// An API that is slow, but well within its time.
const SLOW: Duration = Duration::from_secs(1);

/// The loop of an idle broker comes round by itself as often as this.
const TICK: Duration = Duration::from_millis(100);

fn open_api() -> MockApi {
    let api = api("");
    api.answer(Reply::status(200));
    api
}

/// A 2.1 that asks this API about logins only.
fn broker(api: &MockApi) -> Setup {
    Broker::with(Version::V2_1).option("auth_url", api.auth_url())
}

fn bystander(broker: &Broker) -> Client {
    Connect::v3("bystander").login("bob", "secret").accepted(broker.port())
}

/// Runs `action` and says how long it took.
fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = action();
    (result, start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

// Waiting.

#[test]
fn nobody_else_waits_for_a_slow_answer() {
    let api = api(RULES);
    let broker = broker(&api).option("auth_cache_ttl", 0).option("deny_cache_ttl", 0).start();
    let mut bystander = bystander(&broker);
    api.answer(Reply::rules().after(SLOW));
    for (password, is_right) in [("secret", true), ("guess", false)] {
        assert_unnoticed("a ping beside a slow login", || {
            let ((outcome, waited), stall) = bystander.longest_ping_during(|| {
                timed(|| Connect::v3("a").login("alice", password).attempt(broker.port()))
            });
            assert_eq!(outcome.is_ok(), is_right);
            assert!(waited >= SLOW, "decided before the API has answered, after {waited:?}");
            stall
        });
    }
}

#[test]
fn a_crowd_waits_side_by_side() {
    const CROWD: u32 = 256;
    let latency = Duration::from_millis(50);
    let api = open_api();
    let broker = broker(&api).option("max_requests", 64).start();
    let mut bystander = bystander(&broker);
    api.answer(Reply::status(200).after(latency));
    let mut round = 0;
    assert_unnoticed("a ping beside a crowd", || {
        round += 1;
        let (waited, stall) = bystander.longest_ping_during(|| {
            let start = Instant::now();
            let mut crowd: Vec<_> = (0..CROWD)
                .map(|n| Connect::v3(format!("c{n}")).login(format!("u{n}-{round}"), "x").send(broker.port()))
                .collect();
            assert!(crowd.iter_mut().all(|client| client.connack(PATIENCE) == Some(reason::SUCCESS)));
            start.elapsed()
        });
        assert!(waited < latency * CROWD / 3, "{CROWD} logins of {latency:?} took {waited:?}");
        stall
    });
    assert!((2..=64).contains(&api.most_concurrent()), "{} requests at once", api.most_concurrent());
}

#[test]
fn what_is_known_is_answered_at_once() {
    let passwords = include_str!("fixtures/passwd-2.1");
    let api = api(RULES);
    let broker = broker(&api)
        .line("allow_anonymous true")
        .option("throttle_after", 0)
        .option("auth_cache_ttl", "1h")
        .option("deny_cache_ttl", "1h")
        .file("passwords", passwords)
        .option("password_file", "passwords")
        .start();
    let port = broker.port();
    let cached = Connect::v5("cached").login("alice", "secret");
    let denied = Connect::v5("denied").login("alice", "wrong");
    cached.accepted(port);
    denied.refused(port);
    api.answer(Reply::Hang);
    api.forget_requests();
    let at_once = |connect: Connect, expected: u8| {
        assert_unnoticed(&format!("{connect:?}"), || {
            let (outcome, waited) = timed(|| connect.attempt(port));
            let code = outcome.map_or_else(|refusal| refusal, |_| Refusal::Code(reason::SUCCESS));
            assert_eq!(code, Refusal::Code(expected), "{connect:?}");
            waited
        });
    };
    at_once(cached, reason::SUCCESS);
    at_once(denied, reason::NOT_AUTHORIZED);
    at_once(Connect::v5("local").login("default", "correct horse"), reason::SUCCESS);
    at_once(Connect::v5("local").login("sha512", "correct horse"), reason::SUCCESS);
    at_once(Connect::v5("local").login("default", "wrong"), reason::NOT_AUTHORIZED);
    at_once(Connect::v5("local").username("default"), reason::NOT_AUTHORIZED);
    at_once(Connect::v5("binary").login("alice", b"\xff\xfe"), reason::NOT_AUTHORIZED);
    at_once(Connect::v5("nameless").password("secret"), reason::NOT_AUTHORIZED);
    at_once(Connect::v5("anonymous"), reason::SUCCESS);
    assert!(api.requests().is_empty(), "{:?}", api.requests());
}

/// The hash is made to take long: tens of milliseconds each, and more in a debug build.
#[test]
fn a_costly_password_hash_is_checked_beside_the_loop() {
    let api = api("");
    let broker = broker(&api)
        .file("passwords", include_str!("fixtures/passwd-argon2id"))
        .option("password_file", "passwords")
        .option("user", quick_local_user("bystander"))
        .start();
    let mut bystander = Connect::v3("b").login("bystander", "correct horse").accepted(broker.port());
    let login =
        |name: &str, password: &str| Connect::v3(name).login(name, password).attempt(broker.port()).is_ok();
    let shares = (0..3).map(|_| {
        let ((_, waited), stall) = bystander.longest_ping_during(|| {
            timed(|| {
                assert!(login("argon2id", "correct horse"));
                assert!(login("lanes", "correct horse"));
                assert!(!login("argon2id", "correct horsf"));
                assert!(!login("command", ""));
            })
        });
        (stall * 3 < waited).then_some(()).ok_or((stall, waited))
    });
    let shares: Vec<Result<_, _>> = shares.collect();
    assert!(shares.iter().any(Result::is_ok), "longest ping, and four checks beside it: {shares:?}");
    // It is a local user like any other.
    let mut client = Connect::v3("argon2id").login("argon2id", "correct horse").accepted(broker.port());
    assert!(client.may_subscribe("news"));
    client.publish("news", "hello");
    assert_eq!(client.receive(PATIENCE).expect("message").payload, b"hello");
    assert!(api.requests().is_empty());
}

/// A local user whose password is "correct horse" and quick to check, for the option `user`.
fn quick_local_user(name: &str) -> String {
    let line = include_str!("fixtures/passwd-2.0.11").lines().next().unwrap();
    format!("{name}:{}", line.split_once(':').unwrap().1)
}

#[test]
fn a_client_without_keepalive_is_told_when_no_answer_comes() {
    let timeout = Duration::from_secs(1);
    let api = api("");
    api.answer(Reply::Hang);
    let broker = broker(&api).option("timeout", "1s").start();
    let (code, waited) =
        timed(|| Connect::v5("a").keepalive(0).login("alice", "secret").refused(broker.port()));
    assert_ne!(code, reason::SUCCESS);
    assert!(waited >= timeout, "refused after {waited:?}");
    assert!(waited < timeout * 3, "refused after {waited:?}");
}

/// Whose question cannot be sent in time, or not at all, does not wait for ever.
#[test]
fn the_queue_is_bounded_in_time() {
    let api = open_api();
    api.answer(Reply::status(200).after(Duration::from_millis(500)));
    let broker = broker(&api).option("max_requests", 1).option("max_wait", "1s").start();
    let (codes, waited) = timed(|| {
        let clients: Vec<_> = (0..10)
            .map(|n| Connect::v5(format!("c{n}")).login(format!("u{n}"), "x").send(broker.port()))
            .collect();
        clients.into_iter().map(|mut client| client.connack(PATIENCE).expect("CONNACK")).collect::<Vec<_>>()
    });
    let accepted = codes.iter().filter(|code| **code == reason::SUCCESS).count();
    assert!((1..=4).contains(&accepted), "{codes:x?}");
    assert!(waited < Duration::from_secs(4), "the last waited {waited:?}");
    assert_eq!(api.logins().len(), accepted, "nobody is asked about who is gone");
}

/// 2.1 disconnects a parked client that does not wait for its CONNACK. It heals with the next try.
#[test]
fn packets_in_front_of_the_connack_work_once_the_verdict_is_known() {
    let api = open_api();
    let broker = broker(&api).start();
    let connect = Connect::v3("eager").login("alice", "secret");
    let eager = || {
        let mut client = Client::open(broker.port(), support::Protocol::V3_1_1);
        let subscribe = client.subscribe_packet(&[("news", 0)]);
        client.send(&[connect.packet(), subscribe].concat());
        client.connack(PATIENCE).map(|_| client)
    };
    assert!(eager().is_none(), "the broker has changed: say so in the README");
    api.wait_for_requests(1, PATIENCE);
    assert!(eventually(PATIENCE, || eager().is_some_and(|mut client| client.suback() == [0])));
    assert_eq!(api.logins().len(), 1);
}

// Which mode.

#[test]
fn the_log_says_which_mode_and_why() {
    on_every_broker(|version| {
        let said = |mode: Option<&str>| {
            let setup = Broker::with(version).option("auth_url", "http://127.0.0.1:9/auth");
            let setup = match mode {
                Some(mode) => setup.option("auth_mode", mode),
                None => setup,
            };
            let log = setup.start().log();
            let own = log.lines().filter(|line| line.contains("mosquitto-http-auth: "));
            own.collect::<Vec<_>>().join("\n").to_lowercase()
        };
        for mode in [None, Some("auto")] {
            let log = said(mode);
            if version.is_2_1() {
                assert!(log.contains("delayed mode"), "{log}");
            } else {
                assert!(log.contains("blocking mode") && log.contains("2.0"), "{log}");
            }
        }
        let log = said(Some("blocking"));
        assert!(log.contains("blocking mode") && log.contains("auth_mode"), "{log}");
        if version.is_2_1() {
            let log = said(Some("delayed"));
            assert!(log.contains("delayed mode"), "{log}");
        }
    });
}

#[test]
fn a_broker_that_cannot_let_clients_wait_does_not_start_in_delayed_mode() {
    for version in [Version::V2_0_11, Version::V2_0_21] {
        let failure = Broker::with(version)
            .option("auth_url", "http://127.0.0.1:9/auth")
            .option("auth_mode", "delayed")
            .start_expecting_failure();
        assert!(failure.code.is_some_and(|code| code != 0), "{failure:?}");
        let line = failure.log.lines().find(|line| line.contains("plugin_opt_auth_mode"));
        let line = line.unwrap_or_else(|| panic!("{}", failure.log));
        for word in ["delayed", "2.1", "auto", "blocking"] {
            assert!(line.contains(word), "{word:?} is not in {line:?}");
        }
    }
}

#[test]
fn blocking_mode_blocks_on_2_1_too() {
    let api = api(RULES);
    let broker = broker(&api).option("auth_mode", "blocking").start();
    let mut bystander = bystander(&broker);
    api.answer(Reply::rules().after(SLOW));
    let (_, stall) = bystander
        .longest_ping_during(|| drop(Connect::v3("a").login("alice", "secret").accepted(broker.port())));
    assert!(stall > SLOW * 3 / 4, "bob waited only {stall:?} for a ping");
    Connect::v3("m").login("mallory", "guess").refused(broker.port());
}

// Waking.

/// The time that logins take on an otherwise idle broker, as a rule, is not that of the broker's own tick.
fn assert_wakes(port: u16, name: &str) {
    let login = |number: usize| {
        let client = Connect::v3(format!("{name}-{number}")).login(format!("{name}-{number}"), "secret");
        let (_client, waited) = timed(|| client.accepted(port));
        assert!(waited >= QUICK, "{waited:?}");
        // The connection's end and whatever else is left to do.
        thread::sleep(TICK / 5);
        waited
    };
    let medians: Vec<_> =
        (0..3).map(|round| median((round * 11..(round + 1) * 11).map(login).collect())).collect();
    let quickest = medians.iter().min().unwrap();
    assert!(*quickest < (QUICK + TICK) / 2, "{name}: {medians:?} for an answer of {QUICK:?}");
}

const QUICK: Duration = Duration::from_millis(20);

#[test]
fn an_answer_wakes_an_idle_broker() {
    let api = open_api();
    api.answer(Reply::status(200).after(QUICK));
    let broker = broker(&api).start();
    assert_wakes(broker.port(), "user");
}

#[test]
fn every_instance_wakes_the_broker() {
    let api = open_api();
    api.answer(Reply::status(200).after(QUICK));
    let mut broker = broker(&api)
        .global("per_listener_settings true")
        .listener([plugin_line(&plugin()), format!("plugin_opt_auth_url {}", api.auth_url())])
        .start();
    for (number, port) in broker.ports().iter().enumerate() {
        assert_wakes(*port, &format!("listener-{number}"));
    }
    assert!(broker.terminate().0.success());
}

/// A plugin that does nothing but handle SIGWINCH, or look who does.
struct OtherPlugin {
    folder: TempDir,
}

impl OtherPlugin {
    const HANDLER: &str = r#"
        #include <signal.h>
        #include <stdio.h>
        static volatile sig_atomic_t runs;
        static void handler(int number) { (void)number; runs++; }
        int mosquitto_plugin_version(int count, const int *versions) { (void)count; (void)versions; return 5; }
        int mosquitto_plugin_init(void *id, void **data, void *options, int count)
        {
            struct sigaction action = { .sa_handler = handler };
            (void)id; (void)data; (void)options; (void)count;
            return sigaction(SIGWINCH, &action, NULL);
        }
        int mosquitto_plugin_cleanup(void *data, void *options, int count)
        {
            struct sigaction action;
            (void)data; (void)options; (void)count;
            sigaction(SIGWINCH, NULL, &action);
            fprintf(stderr, "other plugin: handler %s, ran %d times\n",
                action.sa_handler == handler ? "kept" : "replaced", (int)runs);
            return 0;
        }"#;

    const WITNESS: &str = r#"
        #include <signal.h>
        #include <stdio.h>
        int mosquitto_plugin_version(int count, const int *versions) { (void)count; (void)versions; return 5; }
        int mosquitto_plugin_init(void *id, void **data, void *options, int count)
        { (void)id; (void)data; (void)options; (void)count; return 0; }
        int mosquitto_plugin_cleanup(void *data, void *options, int count)
        {
            struct sigaction action;
            (void)data; (void)options; (void)count;
            sigaction(SIGWINCH, NULL, &action);
            fprintf(stderr, "other plugin: SIGWINCH is %s\n", action.sa_handler == SIG_IGN ? "ignored" : "not ignored");
            raise(SIGWINCH);
            return 0;
        }"#;

    fn compile(source: &str) -> Self {
        let folder = TempDir::with_prefix("mha-plugin-").unwrap();
        let plugin = Self { folder };
        let c = plugin.folder.path().join("other.c");
        fs::write(&c, source).unwrap();
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(plugin.path()).arg(&c).output();
        let compiled = compiled.expect("cc, a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        plugin
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("other.so")
    }
}

#[test]
fn somebody_else_who_handles_the_signal_keeps_it() {
    let other = OtherPlugin::compile(OtherPlugin::HANDLER);
    let api = open_api();
    api.answer(Reply::status(200).after(QUICK));
    let mut broker = Broker::with(Version::V2_1)
        .plugin(other.path())
        .line(plugin_line(&plugin()))
        .option("auth_url", api.auth_url())
        .start();
    let log = broker.log();
    let told = log.lines().find(|line| line.contains("mosquitto-http-auth") && line.contains("SIGWINCH"));
    assert!(told.is_some_and(|line| line.contains("delayed mode")), "{log}");
    for number in 0..5 {
        let connect = Connect::v3("client").login(format!("user-{number}"), "secret");
        let (_client, waited) = timed(|| connect.accepted(broker.port()));
        assert!(waited < TICK * 20, "the loop comes round by itself, but a login took {waited:?}");
    }
    broker.signal(libc::SIGWINCH);
    thread::sleep(A_WHILE);
    assert!(broker.terminate().0.success());
    // The one signal that this test has sent.
    broker.wait_for_log("other plugin: handler kept, ran 1 times", PATIENCE);
}

#[test]
fn the_signal_is_left_ignored() {
    let other = OtherPlugin::compile(OtherPlugin::WITNESS);
    let api = open_api();
    let mut broker = broker(&api).line(plugin_line(&other.path())).start();
    Connect::v3("client").login("alice", "secret").accepted(broker.port());
    broker.signal(libc::SIGWINCH);
    Connect::v3("client").login("bob", "secret").accepted(broker.port());
    assert!(broker.terminate().0.success());
    broker.wait_for_log("other plugin: SIGWINCH is ignored", PATIENCE);
}

#[test]
fn no_thread_of_the_plugin_takes_signals() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api)
            .file("passwords", include_str!("fixtures/passwd-argon2id"))
            .option("password_file", "passwords")
            .start();
        Connect::v3("a").login("alice", "secret").accepted(broker.port());
        Connect::v3("b").login("argon2id", "correct horse").accepted(broker.port());
        // A signal that some thread does not block may go to it, and then does not wake the loop.
        let threads = blocked_signals(broker.pid());
        let main = broker.pid();
        let own: Vec<_> = threads.iter().filter(|(thread, _)| *thread != main).collect();
        assert!(!own.is_empty());
        for (thread, blocked) in &own {
            let open = (1..=64).filter(|signal| blocked >> (signal - 1) & 1 == 0);
            let mut open = open.filter(|signal| !UNBLOCKABLE.contains(signal));
            assert_eq!(open.next(), None, "a signal that thread {thread} takes; it blocks {blocked:x}");
        }
    });
}

/// SIGKILL, SIGSTOP, and the two that the C library keeps for itself.
const UNBLOCKABLE: [i32; 4] = [9, 19, 32, 33];

/// For each thread of a process the set of signals that it blocks.
fn blocked_signals(pid: u32) -> Vec<(u32, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status_of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let thread = task.file_name().to_str().unwrap().parse().unwrap();
        (thread, u64::from_str_radix(blocked.trim(), 16).unwrap())
    };
    tasks.map(|task| status_of(task.unwrap())).collect()
}

// Identities.

/// Right passwords are answered at once or late, wrong ones late, so that every order comes about.
fn answer_in_every_order(request: &Request) -> Reply {
    let password = request.field("password");
    let milliseconds = password.bytes().map(u64::from).sum::<u64>() % 7 * 20;
    let status = if password.starts_with("right") { 200 } else { 403 };
    Reply::status(status).after(Duration::from_millis(100 + milliseconds))
}

/// Good client X hangs up while it is parked, somebody else comes as X, and then the old "yes" arrives.
fn assert_nobody_profits_from_a_late_yes(broker: &Broker, owner_port: u16, attacker_port: u16) {
    thread::scope(|scope| {
        for id in 0..12 {
            scope.spawn(move || {
                let name = format!("x-{owner_port}-{id}");
                for round in 0..6 {
                    let owner = Connect::v5(&name).login(&name, format!("right-{id}-{round}"));
                    let gone = owner.send(owner_port);
                    thread::sleep(Duration::from_millis(round * 15));
                    drop(gone);
                    // The broker turns the attacker away until it has noticed that X is gone.
                    let deadline = Instant::now() + PATIENCE;
                    let outcome = loop {
                        let attack = Connect::v5(&name).login(&name, format!("wrong-{id}-{round}"));
                        match attack.attempt(attacker_port) {
                            Err(Refusal::Closed) if Instant::now() < deadline => {}
                            outcome => break outcome,
                        }
                    };
                    assert!(outcome.is_err(), "round {round}: a wrong password lets {name} in");
                }
                Connect::v5(&name).login(&name, "right").accepted(owner_port);
            });
        }
    });
    let admissions = broker.log().lines().filter(|line| line.contains("New client connected")).count();
    assert!(admissions >= 12);
}

#[test]
fn a_late_yes_lets_nobody_else_in() {
    let api = api("");
    api.answer_with(answer_in_every_order);
    let broker = broker(&api).option("throttle_after", 0).option("auth_cache_ttl", 0).start();
    assert_nobody_profits_from_a_late_yes(&broker, broker.port(), broker.port());
}

/// The broker's table of parked clients is one for all listeners.
#[test]
fn a_late_yes_of_one_instance_lets_nobody_in_at_another() {
    let api = api("");
    api.answer_with(answer_in_every_order);
    let broker = broker(&api)
        .option("throttle_after", 0)
        .option("auth_cache_ttl", 0)
        .global("per_listener_settings true")
        .listener([
            plugin_line(&plugin()),
            format!("plugin_opt_auth_url {}", api.auth_url()),
            "plugin_opt_throttle_after 0".to_owned(),
            "plugin_opt_auth_cache_ttl 0".to_owned(),
        ])
        .start();
    let [one, other] = *broker.ports() else { panic!("two ports") };
    assert_nobody_profits_from_a_late_yes(&broker, one, other);
    assert_nobody_profits_from_a_late_yes(&broker, other, one);
}

/// Copies of the file have nothing in common by which to tell whose client is waiting: the second lets nobody wait.
#[test]
fn a_late_yes_of_one_copy_of_the_file_lets_nobody_in_at_another() {
    let api = api("");
    api.answer_with(answer_in_every_order);
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("copy.so");
    fs::copy(plugin(), &copy).unwrap();
    let lines = |mode: &str| {
        [
            plugin_line(&copy),
            format!("plugin_opt_auth_url {}", api.auth_url()),
            "plugin_opt_throttle_after 0".to_owned(),
            "plugin_opt_auth_cache_ttl 0".to_owned(),
            format!("plugin_opt_auth_mode {mode}"),
        ]
    };
    let setup = broker(&api)
        .option("throttle_after", 0)
        .option("auth_cache_ttl", 0)
        .global("per_listener_settings true");
    let broker = setup.clone().listener(lines("auto")).start();
    assert!(broker.log().contains("blocking mode, since another copy of the plugin's file is loaded"));
    let [one, other] = *broker.ports() else { panic!("two ports") };
    assert_nobody_profits_from_a_late_yes(&broker, one, other);
    assert_nobody_profits_from_a_late_yes(&broker, other, one);
    let failure = setup.listener(lines("delayed")).start_expecting_failure();
    assert!(failure.log.contains("another copy of the plugin's file is loaded"), "{}", failure.log);
}

/// The same, where a password check of a local user is what comes late.
#[test]
fn a_late_local_yes_lets_nobody_else_in() {
    let api = api("");
    api.answer(Reply::status(403).after(Duration::from_secs(2)));
    let broker = broker(&api)
        .file("passwords", include_str!("fixtures/passwd-argon2id"))
        .option("password_file", "passwords")
        .option("timeout", "10s")
        .option("throttle_after", 0)
        .start();
    for round in 0..3 {
        drop(Connect::v5("x").login("argon2id", "correct horse").send(broker.port()));
        let outcome = loop {
            let attack = Connect::v5("x").login("mallory", format!("wrong-{round}"));
            match attack.attempt(broker.port()) {
                Err(Refusal::Closed) => {}
                outcome => break outcome,
            }
        };
        assert!(outcome.is_err(), "round {round}: mallory is let in");
    }
}

#[test]
fn the_same_id_in_parallel_ends_with_one_session() {
    let api = open_api();
    api.answer(Reply::status(200).after(Duration::from_millis(100)));
    let broker = broker(&api).option("auth_cache_ttl", 0).start();
    for round in 0..5 {
        let user = |n: usize| format!("user-{}", if round % 2 == 0 { n } else { 0 });
        let mut clients: Vec<_> =
            (0..10).map(|n| Connect::v3("x").login(user(n), "secret").send(broker.port())).collect();
        let codes: Vec<_> = clients.iter_mut().map(|client| client.connack(PATIENCE)).collect();
        let accepted = codes.iter().filter(|code| **code == Some(reason::SUCCESS)).count();
        assert!(accepted >= 1, "{codes:?}");
        thread::sleep(Duration::from_millis(50));
        let alive = clients.iter_mut().map(Client::is_closed).filter(|closed| !closed).count();
        assert_eq!(alive, 1, "{codes:?}");
    }
}

#[test]
fn a_storm_of_reconnects_leaves_a_client_that_works() {
    let api = open_api();
    api.answer(Reply::status(200).after(Duration::from_millis(10)));
    let broker = broker_asking(Version::V2_1, &api).option("auth_cache_ttl", "1s").start();
    let connect = Connect::v3("x").login("alice", "secret");
    for number in 0..300 {
        let client = connect.send(broker.port());
        thread::sleep(Duration::from_millis(number % 13));
        drop(client);
    }
    let mut client = None;
    assert!(eventually(PATIENCE, || {
        client = connect.attempt(broker.port()).ok();
        client.is_some()
    }));
    let mut client = client.unwrap();
    assert!(client.may_subscribe("news"));
    client.publish("news", "hello");
    assert_eq!(client.receive(PATIENCE).expect("message").payload, b"hello");
    broker.sighup();
    broker.wait_for_log("Reloading config", PATIENCE);
    thread::sleep(A_WHILE);
    client.ping();
}

#[test]
fn clients_that_hang_up_while_parked_leave_nothing_behind() {
    let api = open_api();
    let broker =
        broker(&api).option("timeout", "1s").option("max_wait", "2s").option("max_requests", 8).start();
    let mut bystander = bystander(&broker);
    Connect::v3("first").login("first", "x").accepted(broker.port());
    let (threads, files) = (broker.threads(), broker.open_files());
    api.answer(Reply::Hang);
    let mut memory_after = |rounds: Range<usize>| {
        for round in rounds {
            let name = |client: usize| format!("c-{round}-{client}");
            let parked = (0..300).map(|c| Connect::v3(name(c)).login(name(c), "x").send(broker.port()));
            drop(parked.collect::<Vec<_>>());
            bystander.ping();
        }
        broker.resident_bytes()
    };
    let (early, late) = (memory_after(0..4), memory_after(4..12));
    assert!(late < early * 2, "{} kB, then {} kB", early >> 10, late >> 10);
    api.restart().unwrap();
    api.answer(Reply::status(200));
    let again = Connect::v3("c-0-0").login("c-0-0", "x");
    assert!(eventually(PATIENCE, || again.attempt(broker.port()).is_ok()), "its id is free");
    assert!(eventually(PATIENCE, || broker.open_files() <= files + 10), "{} files", broker.open_files());
    assert!(eventually(PATIENCE, || broker.threads() <= threads), "{} threads", broker.threads());
}

#[test]
fn a_reload_leaves_parked_clients_parked() {
    let api = api(RULES);
    let broker = broker(&api).start();
    let mut old = Connect::v3("old").login("alice", "secret").accepted(broker.port());
    api.answer(Reply::rules().after(SLOW));
    let mut parked: Vec<_> =
        (0..20).map(|n| Connect::v3(format!("c{n}")).login("bob", "secret").send(broker.port())).collect();
    let mut wrong: Vec<_> =
        (0..20).map(|n| Connect::v3(format!("w{n}")).login("bob", "wrong").send(broker.port())).collect();
    // Somebody waits under the id of a session that is about to be swept.
    let mut pretender = Connect::v3("old").login("alice", "wrong").send(broker.port());
    api.wait_for_requests(3, PATIENCE);
    for _ in 0..3 {
        broker.sighup();
        thread::sleep(TICK);
    }
    assert!(parked.iter_mut().all(|client| client.connack(PATIENCE) == Some(reason::SUCCESS)));
    assert!(wrong.iter_mut().all(|client| client.connack(PATIENCE) == Some(reason::NOT_AUTHORIZED_V3)));
    assert_eq!(pretender.connack(PATIENCE), Some(reason::NOT_AUTHORIZED_V3));
    thread::sleep(A_WHILE);
    old.ping();
    assert!(parked.iter_mut().all(|client| client.try_ping(PATIENCE).is_some()));
}

/// "Locals by the files as just re-read": also those whose password is being checked meanwhile.
#[test]
fn a_password_that_is_no_longer_good_when_its_check_ends_lets_nobody_in() {
    let before = include_str!("fixtures/passwd-argon2id");
    let other_password =
        include_str!("fixtures/passwd-2.1").lines().find_map(|line| line.strip_prefix("with space:"));
    let api = api("");
    let broker = broker(&api)
        .file("passwords", before)
        .option("password_file", "passwords")
        .option("throttle_after", 0)
        .start();
    let mut clients: Vec<_> = (0..16)
        .map(|n| Connect::v3(format!("c{n}")).login("argon2id", "correct horse").send(broker.port()))
        .collect();
    assert_eq!(clients[0].connack(PATIENCE), Some(reason::SUCCESS), "they are being checked");
    let after = format!("argon2id:{}\n", other_password.unwrap());
    fs::write(broker.folder().join("passwords"), after).unwrap();
    broker.sighup();
    broker.wait_for_log("re-read", PATIENCE);
    let answered_before: Vec<bool> =
        clients.iter_mut().skip(1).map(|client| client.connack(Duration::ZERO).is_some()).collect();
    assert!(answered_before.contains(&false), "all were checked before the reload was done");
    for (client, answered_before) in clients[1..].iter_mut().zip(answered_before) {
        if !answered_before {
            assert_ne!(client.connack(PATIENCE), Some(reason::SUCCESS), "let in by a file that is gone");
        }
    }
    // Those let in before are out, as they would be after any reload.
    assert!(eventually(PATIENCE, || clients.iter_mut().all(|client| client.try_ping(PATIENCE).is_none())));
}

/// A local user is decided by its hash; what the API says of the name counts no more.
#[test]
fn an_answer_of_the_api_is_void_for_a_name_that_has_become_local() {
    let api = open_api();
    let broker = broker(&api).file("passwords", "").option("password_file", "passwords").start();
    api.answer(Reply::status(200).after(SLOW));
    let mut parked = Connect::v5("x").login("alice", "another password").send(broker.port());
    let mut other = Connect::v5("y").login("bob", "secret").send(broker.port());
    api.wait_for_requests(2, PATIENCE);
    fs::write(broker.folder().join("passwords"), quick_local_user("alice")).unwrap();
    broker.sighup();
    broker.wait_for_log("re-read", PATIENCE);
    assert_ne!(parked.connack(PATIENCE), Some(reason::SUCCESS), "let in with a password that is not its own");
    assert_eq!(other.connack(PATIENCE), Some(reason::SUCCESS));
    Connect::v5("x").login("alice", "correct horse").accepted(broker.port());
}

/// Somebody comes with an id that has a session, with the right password, and is gone before he is let in.
fn come_and_go(connect: &Connect, broker: &Broker) {
    drop(connect.send(broker.port()));
    thread::sleep(SLOW * 2);
}

#[test]
fn who_hangs_up_while_parked_takes_no_rights_from_the_session_under_its_id() {
    let api = api("");
    let broker = broker_asking(Version::V2_1, &api)
        .file("passwords", include_str!("fixtures/passwd-argon2id"))
        .option("password_file", "passwords")
        .start();
    let connect = Connect::v5("x").login("argon2id", "correct horse");
    let mut client = connect.accepted(broker.port());
    for _ in 0..3 {
        drop(connect.send(broker.port()));
        // Passwords are checked one after the other.
        Connect::v5("y").login("argon2id", "wrong").refused(broker.port());
        thread::sleep(A_WHILE);
        assert_eq!(client.publish_acknowledged("news", "x") & 0x80, 0, "a local user may do everything");
        assert!(client.may_subscribe("news"));
    }
    assert!(api.requests().is_empty());
}

#[test]
fn who_hangs_up_while_parked_does_not_end_the_session_that_sleeps_under_its_id() {
    let api = open_api();
    let broker = broker(&api).option("auth_cache_ttl", 0).start();
    let sleeper = Connect::v5("x").login("alice", "secret").durable();
    let mut asleep = sleeper.accepted(broker.port());
    assert!(asleep.may_subscribe("news"));
    asleep.disconnect();
    api.answer(Reply::status(200).after(SLOW));
    come_and_go(&sleeper, &broker);
    broker.sighup();
    broker.wait_for_log("Reloading config", PATIENCE);
    bystander(&broker).publish_acknowledged("news", "kept");
    let mut awake = sleeper.accepted(broker.port());
    assert_eq!(awake.receive(PATIENCE).expect("the queued message").payload, b"kept");
}

#[test]
fn who_hangs_up_while_parked_does_not_save_the_session_under_its_id() {
    let api = open_api();
    let broker = broker(&api).option("auth_cache_ttl", 0).start();
    let connect = Connect::v5("x").login("alice", "secret");
    let mut revoked = connect.accepted(broker.port());
    api.answer(Reply::status(200).after(SLOW));
    come_and_go(&connect, &broker);
    api.answer(Reply::status(403));
    broker.sighup();
    assert!(revoked.wait_until_closed(PATIENCE), "the API refuses it by now");
}

// Completions.

/// Taking a session over, the broker sends the old will, gives the queued messages out, and asks about all
/// of them while the plugin lets the new client in.
#[test]
fn letting_a_client_in_may_raise_further_questions() {
    let api = api(RULES);
    let broker = broker_asking(Version::V2_1, &api)
        .option("auth_cache_ttl", 0)
        .option("acl_cache_ttl", 0)
        .global("log_dest topic")
        .start();
    let mut watcher = bystander(&broker);
    assert!(watcher.may_subscribe("wills/#"));
    let mut reader = Connect::v3("log").login("bob", "secret").accepted(broker.port());
    reader.subscribe(&[("$SYS/broker/log/#", 0)]);
    let will = Will { topic: b"wills/x".to_vec(), payload: b"gone".to_vec(), qos: 1, retain: false };
    let connect = Connect::v3("x").login("alice", "secret").durable().will(will);
    let mut first = connect.accepted(broker.port());
    assert!(first.may_subscribe("queue/#"));
    for round in 0..5 {
        // Twice over: the session is taken from a client that is there, and from one that is asleep.
        let second = connect.accepted(broker.port());
        assert!(first.wait_until_closed(PATIENCE));
        drop(second);
        assert_eq!(watcher.receive(PATIENCE).expect("the will").payload, b"gone");
        for number in 0..20 {
            assert_eq!(watcher.publish_acknowledged(format!("queue/{number}"), "x"), reason::SUCCESS);
        }
        first = connect.accepted(broker.port());
        for number in 0..20 {
            let message = first.receive(PATIENCE).unwrap_or_else(|| panic!("round {round}: {number}"));
            assert_eq!(message.topic, format!("queue/{number}"));
        }
    }
    // Refused now, with as much to be asked.
    drop(first);
    watcher.publish_acknowledged("queue/0", "x");
    Connect::v3("x").login("alice", "wrong").durable().refused(broker.port());
    let mut first = connect.accepted(broker.port());
    assert_eq!(first.receive(PATIENCE).expect("it is still there").topic, "queue/0");
}

/// The broker itself may refuse who was let in; that must not be taken for a session.
#[test]
fn a_refusal_by_the_broker_itself_is_survived() {
    let api = open_api();
    let broker = broker_asking(Version::V2_1, &api).global("max_keepalive 60").start();
    for _ in 0..3 {
        let _ = Connect::v3("x").keepalive(600).login("alice", "secret").attempt(broker.port());
    }
    let mut client = Connect::v3("x").keepalive(30).login("alice", "secret").accepted(broker.port());
    assert!(client.may_subscribe("news"));
    client.ping();
}

// Stopping.

#[test]
fn a_broker_stops_while_a_hundred_clients_wait() {
    let timeout = Duration::from_secs(2);
    let api = open_api();
    let mut broker = broker(&api)
        .option("timeout", "2s")
        .file("passwords", include_str!("fixtures/passwd-argon2id"))
        .option("password_file", "passwords")
        .start();
    Connect::v3("first").login("first", "x").accepted(broker.port());
    api.answer(Reply::Hang);
    let parked: Vec<_> = (0..100)
        .map(|n| Connect::v3(format!("c{n}")).login(format!("u{n}"), "x").send(broker.port()))
        .chain((0..20).map(|n| Connect::v3(format!("l{n}")).login("argon2id", "x").send(broker.port())))
        .collect();
    api.wait_for_requests(30, PATIENCE);
    let (status, waited) = broker.terminate();
    assert!(status.success(), "{status}");
    assert!(waited < timeout + Duration::from_secs(1), "{waited:?} to stop");
    drop(parked);
}
