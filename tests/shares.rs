//! Clients share resources fairly: one that takes all it can get leaves the others their shares.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::{
    Broker, Client, Connect, ELSEWHERE, MockApi, PATIENCE, Protocol, Reply, Setup, Version, broker_asking,
    eventually, friendly_api, log_in, on_every_broker, reason,
};

const READ: u64 = 1;

/// Runs a flood beside something, and ends it with that.
fn beside<T>(mut flood: impl FnMut() + Send, action: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                flood();
            }
        });
        let result = panic::catch_unwind(AssertUnwindSafe(action));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}

/// Point 12. Taking rights away has a share of its own of what is asked. The flood is one client's, which comes under
/// ever new ids: what is asked ahead for each is more than the API can answer.
#[test]
fn who_is_refused_after_a_reload_goes_soon_whatever_else_waits() {
    const PREFETCHED: usize = 8;
    const SOON: Duration = Duration::from_secs(3);
    on_every_broker(|version| {
        let api = friendly_api();
        let setup = broker_asking(version, &api).option("max_requests", 8).option("auth_cache_ttl", "1h");
        let topic = |setup: Setup, n| setup.option("acl_prefetch", format!("subscribe {n}/%c"));
        let broker = (0..PREFETCHED).fold(setup, topic).start();
        let mut revoked = log_in(&broker, "revoked");
        log_in(&broker, "mallory");
        api.answer_with(|request| {
            let is_revoked = request.field("username") == "revoked";
            Reply::status(if is_revoked { 403 } else { 200 }).after(Duration::from_millis(20))
        });
        let mut number = 0;
        let flood = || {
            let crowd: Vec<_> = (0..20)
                .map(|n| Connect::v5(format!("mallory-{number}-{n}")).login("mallory", "secret"))
                .map(|connect| connect.send(broker.port()))
                .collect();
            number += 1;
            thread::sleep(Duration::from_millis(50));
            drop(crowd);
        };
        let waited = beside(flood, || {
            thread::sleep(Duration::from_secs(1));
            let start = Instant::now();
            broker.sighup();
            revoked.wait_until_closed(2 * SOON);
            start.elapsed()
        });
        assert!(waited < SOON, "a client that the API refuses was connected {waited:?} after the reload");
    });
}

/// How long a login takes, and whether it got in.
fn timed_login(broker: &Broker, connect: &Connect, limit: Duration) -> (Option<u8>, Duration) {
    let start = Instant::now();
    let mut client = connect.send(broker.port());
    (client.connack(limit), start.elapsed())
}

/// The logins of a flood, all sent and none answered yet: so many seconds of work for the API.
const FLOOD: usize = 500;
const LATENCY: Duration = Duration::from_millis(40);
const AT_ONCE: usize = 4;

/// What the API takes for the flood. Who does not belong to it must not wait for more than a part of that.
fn flood_takes() -> Duration {
    LATENCY * u32::try_from(FLOOD / AT_ONCE).unwrap()
}

fn assert_not_behind_the_flood(honest: &Connect, attacker: impl Fn(usize) -> Connect) {
    let api = friendly_api();
    let setup = broker_asking(Version::V2_1, &api).option("max_requests", AT_ONCE);
    let broker = setup.option("throttle_after", 0).start();
    api.answer_with(|request| {
        Reply::status(if request.field("password") == "secret" { 200 } else { 403 }).after(LATENCY)
    });
    let crowd: Vec<_> = (0..FLOOD).map(|number| attacker(number).send(broker.port())).collect();
    api.wait_for_requests(AT_ONCE, PATIENCE);
    let (code, waited) = timed_login(&broker, honest, 2 * flood_takes());
    drop(crowd);
    let outcome = format!("{waited:?} behind a flood of {:?}, alone {LATENCY:?}", flood_takes());
    assert_eq!(code, Some(reason::SUCCESS), "{outcome}");
    assert!(waited < flood_takes() / 4, "{outcome}");
}

/// Point 13. Addresses take turns.
#[test]
fn a_flood_of_logins_from_one_address_does_not_delay_another() {
    let honest = Connect::v5("honest").login("honest", "secret").coming_from(ELSEWHERE);
    assert_not_behind_the_flood(&honest, |number| {
        Connect::v5(format!("attacker-{number}")).login(format!("made-up-{number}"), "wrong")
    });
}

/// Point 13. And behind one address names do.
#[test]
fn a_flood_of_logins_of_one_name_does_not_delay_another() {
    let honest = Connect::v5("honest").login("honest", "secret");
    assert_not_behind_the_flood(&honest, |number| {
        Connect::v5(format!("attacker-{number}")).login("mallory", format!("wrong-{number}"))
    });
}

/// Point 14. An API that is silent about what one address asks is not silent for all.
#[test]
fn names_that_the_api_is_slow_about_do_not_open_the_breaker_for_others() {
    const SLOW_NAMES: usize = 8;
    const HONEST: usize = 8;
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api)
            .option("timeout", "300ms")
            .option("breaker_pause", "1m")
            .option("breaker_longest", "1m")
            .start();
        api.answer_with(|request| {
            if request.field("username").starts_with("slow") { Reply::Hang } else { Reply::status(200) }
        });
        let attack = |number: usize| {
            let name = format!("slow-{number}");
            Connect::v5(&name).login(&name, "x").send(broker.port())
        };
        let mut crowd: Vec<_> = (0..SLOW_NAMES).map(attack).collect();
        let codes: Vec<_> = crowd.iter_mut().map(|client| client.connack(PATIENCE)).collect();
        assert!(codes.iter().all(|code| *code != Some(reason::SUCCESS)), "{codes:?}");
        // Those that the broker had no time for are still being asked about.
        thread::sleep(Duration::from_millis(700));
        let honest = |number: usize| {
            let connect = Connect::v5(format!("honest-{number}")).login(format!("honest-{number}"), "x");
            connect.coming_from(ELSEWHERE).attempt(broker.port()).is_ok()
        };
        let got_in = (0..HONEST).filter(|number| honest(*number)).count();
        assert_eq!(got_in, HONEST, "after {SLOW_NAMES} slow names from one address");
    });
}

/// The time in which so many clients from elsewhere are let in at once, where a question takes so long.
fn time_of_logins(broker: &Broker, count: usize, round: usize) -> Duration {
    let accepted = || broker.log().matches("New connection from").count();
    let before = accepted();
    let open = |_| Client::open_from(ELSEWHERE, broker.port(), Protocol::V5);
    let mut clients: Vec<_> = (0..count).map(open).collect();
    assert!(eventually(PATIENCE, || accepted() >= before + count));
    let start = Instant::now();
    for (number, client) in clients.iter_mut().enumerate() {
        let name = format!("honest-{round}-{number}");
        client.send(&Connect::v5(&name).login(&name, "secret").packet());
    }
    for client in &mut clients {
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
    }
    start.elapsed()
}

/// Point 15. Looking ahead that was led astray by one peer goes on for the others.
#[test]
fn wrong_guesses_of_one_peer_do_not_end_looking_ahead_for_others() {
    const HONEST: u32 = 20;
    const CROWD: usize = 100;
    const WRONG: usize = 600;
    const MOST_ROUNDS: usize = 60;
    let latency = Duration::from_millis(80);
    let on_2_0 = |version: Version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("throttle_after", 0).start();
        api.answer(Reply::status(200).after(latency));
        let before = time_of_logins(&broker, HONEST as usize, 0);
        api.answer(Reply::status(200).after(Duration::from_millis(20)));
        let made_up = || {
            let names = api.logins();
            names.iter().filter(|request| request.field("username").starts_with("made-up")).count()
        };
        // The broker refuses these by itself, since MQTT 3.1.1 wants an id of whoever keeps a session: what was asked
        // about them was asked in vain.
        let mut rounds = 0;
        while made_up() < WRONG && rounds < MOST_ROUNDS {
            rounds += 1;
            let asked = made_up();
            let log = broker.log().matches("New connection from").count();
            let mut first = Client::open(broker.port(), Protocol::V5);
            let mut crowd: Vec<_> =
                (0..CROWD).map(|_| Client::open(broker.port(), Protocol::V3_1_1)).collect();
            let accepted = || broker.log().matches("New connection from").count() > log + CROWD;
            assert!(eventually(PATIENCE, accepted));
            broker.signal(libc::SIGSTOP);
            // The broker waits for this one, and looks at the others.
            first.send(&Connect::v5("first").login(format!("first-{rounds}"), "x").packet());
            for (number, client) in crowd.iter_mut().enumerate() {
                let name = format!("made-up-{rounds}-{number}");
                client.send(&Connect::v3("").login(name, "x").durable().packet());
            }
            broker.signal(libc::SIGCONT);
            assert_eq!(first.connack(PATIENCE), Some(reason::SUCCESS));
            for client in &mut crowd {
                assert!(client.wait_until_closed(PATIENCE));
            }
            // It has stopped looking.
            if made_up() == asked && rounds > 3 {
                break;
            }
        }
        api.answer(Reply::status(200).after(latency));
        let after = time_of_logins(&broker, HONEST as usize, 1);
        let one_by_one = latency * HONEST;
        let outcome = format!(
            "{HONEST} logins at once took {before:?} before {} wrong guesses and {after:?} after them, one by one {one_by_one:?}",
            made_up()
        );
        assert!(before < one_by_one / 2, "it does not look ahead at all: {outcome}");
        assert!(after < one_by_one / 2, "{outcome}");
    };
    thread::scope(|scope| {
        for version in [Version::V2_0_11, Version::V2_0_21] {
            scope.spawn(move || on_2_0(version));
        }
    });
}

/// Point 16. Who is refused under somebody's id takes nothing from them.
#[test]
fn a_refused_login_under_anothers_id_does_not_take_it_out_of_the_fan_out() {
    const READERS: u32 = 20;
    let latency = Duration::from_millis(80);
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("timeout", "60s").start();
        let mut readers: Vec<_> = (0..READERS).map(|n| log_in(&broker, &format!("reader-{n}"))).collect();
        readers.iter_mut().for_each(|reader| assert!(reader.may_subscribe("news/#")));
        let mut writer = log_in(&broker, "writer");
        let mut bystander = log_in(&broker, "bystander");
        api.answer_with(move |request| match (request.field("password"), request.acc()) {
            ("wrong", _) => Reply::status(403),
            (_, READ) => Reply::status(200).after(latency),
            _ => Reply::status(200),
        });
        let mut stall_of = |topic: &str| {
            // The first question about a topic is that of its writer, and the readers' go with it.
            let stall = bystander.longest_ping_during(|| {
                writer.publish(topic, "x");
                for reader in &mut readers {
                    assert_eq!(reader.receive(PATIENCE).expect("message").topic, topic);
                }
            });
            stall.1
        };
        let before = stall_of("news/1");
        for number in 0..READERS {
            let attack = Connect::v5(format!("reader-{number}")).login(format!("mallory-{number}"), "wrong");
            attack.refused(broker.port());
        }
        let after = stall_of("news/2");
        let one_by_one = latency * READERS;
        let outcome =
            format!("a message stops the broker for {before:?}, and after the attack for {after:?}");
        assert!(after < one_by_one / 2, "{outcome}; one by one {one_by_one:?}");
    });
}

const CACHE: usize = 200;
const HONEST: usize = 20;

/// A broker that remembers for long, and honest clients each of which has published three times on a topic.
fn with_honest_verdicts(version: Version, api: &MockApi) -> (Broker, Vec<Client>) {
    let remember = |setup: Setup, name: &str| setup.option(name, "1h");
    let setup = broker_asking(version, api).option("cache_size", CACHE);
    let setup = ["acl_cache_ttl", "auth_cache_ttl", "stale_ttl"].into_iter().fold(setup, remember);
    let broker = setup.start();
    let mut honest: Vec<_> = (0..HONEST).map(|n| log_in(&broker, &format!("honest-{n}"))).collect();
    publish_all(&mut honest, 3);
    (broker, honest)
}

fn publish_all(honest: &mut [Client], times: usize) {
    for _ in 0..times {
        for (number, client) in honest.iter_mut().enumerate() {
            assert!(client.publish_acknowledged(format!("honest/{number}"), "x") < 0x80);
        }
    }
}

/// How many honest clients lose what was remembered for them while one client uses so many topics of its own, each
/// so often.
fn assert_displaces_nothing(topics: usize, uses: usize) {
    on_every_broker(|version| {
        let api = friendly_api();
        let (broker, mut honest) = with_honest_verdicts(version, &api);
        let mut mallory = log_in(&broker, "mallory");
        for number in 0..topics {
            for _ in 0..uses {
                // Allowed, though nobody listens.
                assert!(mallory.publish_acknowledged(format!("mallory/{number}"), "x") < 0x80);
            }
        }
        api.forget_requests();
        publish_all(&mut honest, 1);
        let asked = api.topic_checks().len();
        assert_eq!(
            asked, 0,
            "of {HONEST} allows that were used three times {asked} were lost to {topics} topics"
        );
    });
}

/// Point 17. A flood of verdicts that are used once displaces nothing that was used twice.
#[test]
fn topics_that_one_client_uses_once_displace_nobodys_allows() {
    assert_displaces_nothing(5 * CACHE, 1);
}

/// Point 17. And no client has more than its share of a full cache.
#[test]
fn topics_that_one_client_uses_twice_displace_nobodys_allows() {
    assert_displaces_nothing(5 * CACHE, 2);
}
