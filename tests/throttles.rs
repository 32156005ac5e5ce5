//! A client that keeps trying wrong passwords is slowed down, and keeps nobody out by it who has the right one.
//!
//! Where a pause must not end within a test it lasts five minutes; where it must, nothing is said about how soon. Each
//! try has a client id of its own, unless the test is about ids: those are counted, too.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use serde_json::json;
use support::broker::Setup;
use support::{
    Admin, Broker, Client, Connect, ELSEWHERE, Gate, MockApi, PATIENCE, Protocol, Reply, Request, Version,
    api, eventually, login, on_every_broker, reason,
};

const RULES: &str = "user alice secret\nuser bob secret\nuser carol secret\n";

/// How many wrong passwords the throttle lets pass before the first pause, unless an option says otherwise.
const AFTER: usize = 5;

/// How many wrong passwords are looked at until the first pause is over, and so in all of a test whose pause outlasts
/// it: those before it, and the one that each pause has room for.
const LOOKED_AT: usize = AFTER + 1;

fn broker(version: Version, api: &MockApi) -> Setup {
    Broker::with(version).option("auth_url", api.auth_url())
}

/// One pause that no test outlasts.
fn throttled_for_long(setup: Setup) -> Setup {
    setup.option("throttle_pause", "5m").option("throttle_longest", "5m")
}

/// A number that no other try has.
fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A try with a wrong password that nobody has tried before.
fn guess(name: &str) -> Connect {
    let number = next();
    Connect::v5(format!("attacker-{number}")).login(name, format!("wrong-{number}"))
}

/// Tries so many different wrong passwords for a name, one after the other.
fn try_wrong(port: u16, name: &str, tries: usize) {
    for _ in 0..tries {
        guess(name).refused(port);
    }
}

fn asked_about(api: &MockApi, name: &str) -> usize {
    api.logins().iter().filter(|request| request.field("username") == name).count()
}

#[test]
fn tries_beyond_a_few_do_not_reach_the_api() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).start();
        try_wrong(broker.port(), "alice", 30);
        assert_eq!(asked_about(&api, "alice"), LOOKED_AT);
        // Others from the same place are looked at as ever.
        Connect::v5("b").login("bob", "secret").accepted(broker.port());
        try_wrong(broker.port(), "bob", 1);
        assert_eq!(asked_about(&api, "bob"), 2);
        let log = broker.log();
        assert!(log.contains("throttle_after"), "the log names the option: {log}");
        assert!(!log.contains("wrong-"), "a password is in the log");
    });
}

/// The room that a pause has is for whoever comes first with a password that is not known to be wrong.
#[test]
fn a_right_password_that_nobody_has_seen_before_gets_in_during_a_pause() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).start();
        try_wrong(broker.port(), "alice", AFTER);
        Connect::v5("owner").login("alice", "secret").accepted(broker.port());
        // That has not ended the pause, nor used up its room.
        try_wrong(broker.port(), "alice", 10);
        assert_eq!(asked_about(&api, "alice"), LOOKED_AT + 1);
    });
}

/// If right ones were looked at all the same, guessing would go on.
#[test]
fn a_guess_that_hits_is_refused_unseen_in_a_pause_that_has_seen_a_wrong_one() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).start();
        try_wrong(broker.port(), "alice", LOOKED_AT);
        for _ in 0..3 {
            Connect::v5("owner").login("alice", "secret").refused(broker.port());
        }
        assert_eq!(asked_about(&api, "alice"), LOOKED_AT);
        // Not being looked at says nothing about a password: elsewhere it is as good as before.
        Connect::v5("owner").login("alice", "secret").coming_from(ELSEWHERE).accepted(broker.port());
    });
}

#[test]
fn who_is_refused_unseen_gets_in_when_the_pause_is_over() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker(version, &api)
            .option("throttle_after", 2)
            .option("throttle_pause", "300ms")
            .option("throttle_longest", "300ms")
            .start();
        try_wrong(broker.port(), "alice", 3);
        let owner = Connect::v5("owner").login("alice", "secret");
        assert!(eventually(PATIENCE, || owner.attempt(broker.port()).is_ok()));
    });
}

/// A device that was forgotten when its fleet got a new password is refused unseen, and that is all that comes of it.
#[test]
fn a_password_that_is_known_to_be_wrong_uses_up_nothing() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).option("deny_cache_ttl", 0).start();
        let old = || Connect::v5(format!("old-{}", next())).login("alice", "old password");
        for _ in 0..10 * AFTER {
            old().refused(broker.port());
        }
        assert_eq!(asked_about(&api, "alice"), AFTER);
        for device in ["new-1", "new-2"] {
            Connect::v5(device).login("alice", "secret").accepted(broker.port());
            old().refused(broker.port());
        }
        assert_eq!(asked_about(&api, "alice"), AFTER + 1, "what the API allows is remembered for the second");
        // The one guess of this pause is still to be had, and no more.
        try_wrong(broker.port(), "alice", 10);
        assert_eq!(asked_about(&api, "alice"), LOOKED_AT + 1);
    });
}

/// Times are taken so that a slow machine makes no pause look too short: from before a try is sent until the API has
/// it.
#[test]
fn pauses_grow_and_are_bounded() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker(version, &api)
            .option("throttle_after", 3)
            .option("throttle_pause", "200ms")
            .option("throttle_longest", "800ms")
            .start();
        try_wrong(broker.port(), "alice", 2);
        let start = Instant::now();
        let deadline = start + PATIENCE;
        while asked_about(&api, "alice") < 9 {
            assert!(Instant::now() < deadline, "{} tries reach the API", asked_about(&api, "alice"));
            try_wrong(broker.port(), "alice", 1);
        }
        let times: Vec<u128> =
            api.logins()[2..].iter().map(|request| (request.at - start).as_millis()).collect();
        // The last before the first pause, its own, and then one at the end of each.
        let ends = [0, 0, 200, 600, 1_400, 2_200, 3_000];
        for (time, least) in times.iter().zip(ends) {
            assert!(*time + 10 >= least, "{times:?} ms, expected {ends:?} at least");
        }
        // Without a bound this would be 3.2 s.
        assert!(times[6] - times[5] < 2_400, "{times:?} ms");
    });
}

#[test]
fn credentials_that_were_good_are_always_looked_at() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api))
            .option("auth_cache_ttl", 0)
            .option("deny_cache_ttl", 0)
            .start();
        let owner = Connect::v5("owner").login("alice", "secret");
        owner.accepted(broker.port());
        try_wrong(broker.port(), "alice", 20);
        assert_eq!(asked_about(&api, "alice"), 1 + LOOKED_AT);
        for _ in 0..3 {
            owner.accepted(broker.port());
        }
        assert_eq!(asked_about(&api, "alice"), 1 + LOOKED_AT + 3, "it is no verdict");
        // Whoever goes on trying is not let off because the owner came in.
        try_wrong(broker.port(), "alice", 2 * AFTER);
        assert_eq!(asked_about(&api, "alice"), 1 + LOOKED_AT + 3);
        // An API that fails takes nothing away; one that refuses does.
        api.answer(Reply::status(500));
        let _ = owner.attempt(broker.port()).map(drop).expect_err("no answer lets nobody in");
        api.answer(Reply::rules());
        assert!(eventually(PATIENCE, || owner.attempt(broker.port()).is_ok()));
        api.answer(Reply::status(403));
        owner.refused(broker.port());
        api.answer(Reply::rules());
        api.forget_requests();
        owner.refused(broker.port());
        assert_eq!(asked_about(&api, "alice"), 0);
    });
}

/// An API that answers 404 or 500 to everybody must not lock everybody out for longer than that.
#[test]
fn only_wrong_passwords_count() {
    on_every_broker(|version| {
        let api = api(RULES);
        for status in [404, 302, 400, 500, 503, 429] {
            let broker = throttled_for_long(broker(version, &api)).start();
            api.answer(Reply::status(status));
            for _ in 0..3 * LOOKED_AT {
                assert!(guess("alice").attempt(broker.port()).is_err());
            }
            api.answer(Reply::rules());
            // An API that has failed is left alone for a moment.
            let owner = Connect::v5("owner").login("alice", "secret");
            assert!(eventually(PATIENCE, || owner.attempt(broker.port()).is_ok()), "{status}");
        }
        let broker = throttled_for_long(broker(version, &api)).start();
        api.answer(Reply::status(401));
        try_wrong(broker.port(), "alice", LOOKED_AT);
        api.answer(Reply::rules());
        Connect::v5("owner").login("alice", "secret").refused(broker.port());
    });
}

#[test]
fn a_device_with_an_old_password_is_not_throttled_by_being_refused_from_memory() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).option("deny_cache_ttl", "5m").start();
        for _ in 0..10 * AFTER {
            Connect::v5("old").login("alice", "old password").refused(broker.port());
        }
        assert_eq!(asked_about(&api, "alice"), 1);
        Connect::v5("new").login("alice", "secret").accepted(broker.port());
        assert!(!broker.log().contains("throttle_after"), "refused from memory is not refused unseen");
    });
}

#[test]
fn local_users_are_throttled_too() {
    on_every_broker(|version| {
        let api = api("");
        let passwords = include_str!("fixtures/passwd-2.0.11");
        let broker = throttled_for_long(broker(version, &api))
            .file("passwords", passwords)
            .option("password_file", "passwords")
            .start();
        let port = broker.port();
        let log_in = |name: &str| Connect::v5(format!("client-{name}")).login(name, "correct horse");
        log_in("sha512").accepted(port);
        for name in ["sha512", "default"] {
            try_wrong(port, name, 2 * LOOKED_AT);
        }
        assert_eq!(broker.log().matches("wrong password for a local user").count(), 2 * LOOKED_AT);
        assert!(api.requests().is_empty());
        // The one was let in before, the other was not.
        log_in("sha512").accepted(port);
        log_in("default").refused(port);
        log_in("pbkdf2").accepted(port);
    });
}

#[test]
fn the_throttle_can_be_taken_off() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).option("throttle_after", 0).start();
        try_wrong(broker.port(), "alice", 10 * AFTER);
        assert_eq!(asked_about(&api, "alice"), 10 * AFTER);
        Connect::v5("owner").login("alice", "secret").accepted(broker.port());
    });
}

#[test]
fn by_address_all_names_count_together() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).option("throttle_by", "address").start();
        Connect::v5("alice").login("alice", "secret").accepted(broker.port());
        api.forget_requests();
        for number in 0..3 * LOOKED_AT {
            let attacker = Connect::v5(format!("attacker-{number}"));
            attacker.login(format!("user-{number}"), "123456").refused(broker.port());
        }
        assert_eq!(api.logins().len(), LOOKED_AT);
        Connect::v5("bob").login("bob", "secret").refused(broker.port());
        assert_eq!(api.logins().len(), LOOKED_AT);
        Connect::v5("alice").login("alice", "secret").accepted(broker.port());
    });
}

/// Each try under an id keeps it parked on 2.1, so that its owner is turned away.
#[test]
fn made_up_names_under_one_client_id_count_together() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).start();
        for number in 0..3 * LOOKED_AT {
            Connect::v5("x").login(format!("user-{number}"), "wrong").refused(broker.port());
        }
        assert_eq!(api.logins().len(), LOOKED_AT);
        // The id elsewhere, and other ids from here, are not held up.
        Connect::v5("x").login("alice", "secret").coming_from(ELSEWHERE).accepted(broker.port());
        Connect::v5("y").login("bob", "secret").accepted(broker.port());
    });
}

/// What is beyond the tries that may be open waits for its turn, it is not refused. On 2.0 the broker itself takes one
/// after the other.
#[test]
fn a_crowd_with_right_passwords_from_one_address_gets_in() {
    const CROWD: usize = 30;
    on_every_broker(|version| {
        let users: String = (0..CROWD).map(|number| format!("user u{number} secret-{number}\n")).collect();
        let api = api(&users);
        api.answer(Reply::rules().after(Duration::from_millis(30)));
        // Nobody is turned away for the time that all of them take together.
        let setup = throttled_for_long(broker(version, &api)).option("login_wait", 0);
        let broker = setup.option("throttle_by", "address").start();
        let log_in = |number: usize| {
            let connect = Connect::v5(format!("c{number}"));
            connect.login(format!("u{number}"), format!("secret-{number}")).send(broker.port())
        };
        let mut crowd: Vec<_> = (0..CROWD).map(log_in).collect();
        let in_time = crowd.iter_mut().filter_map(|client| client.connack(PATIENCE));
        assert_eq!(in_time.filter(|code| *code == reason::SUCCESS).count(), CROWD);
    });
}

/// While 2.0 waits for one answer the plugin asks about others whose CONNECT waits unread.
#[test]
fn throttled_tries_are_not_asked_about_ahead_either() {
    on_every_broker(|version| {
        for by in ["address", "address+username"] {
            let api = api(RULES);
            // Where nothing is remembered, nothing is asked ahead.
            let setup = throttled_for_long(broker(version, &api)).option("auth_cache_ttl", "500ms");
            let broker = setup.option("throttle_by", by).start();
            let known = ["bob", "carol"].map(login);
            known.iter().for_each(|client| drop(client.accepted(broker.port())));
            let attack = |number: usize| {
                let name = if by == "address" { format!("user-{number}") } else { "alice".to_owned() };
                Connect::v5(format!("attacker-{number}")).login(name, format!("wrong-{number}"))
            };
            for number in 0..2 * LOOKED_AT {
                attack(number).refused(broker.port());
            }
            thread::sleep(Duration::from_millis(600));
            api.forget_requests();
            // While the broker waits for the one, the other comes, and behind it the attackers: their packets
            // lie in its sockets when it waits for the other.
            api.answer(Reply::rules().after(Duration::from_millis(300)));
            let mut bob = known[0].send(broker.port());
            api.wait_for_requests(1, PATIENCE);
            let mut carol = known[1].send(broker.port());
            let mut attackers: Vec<_> = (100..105).map(|number| attack(number).send(broker.port())).collect();
            assert_eq!(bob.connack(PATIENCE), Some(reason::SUCCESS));
            assert_eq!(carol.connack(PATIENCE), Some(reason::SUCCESS));
            for attacker in &mut attackers {
                assert_eq!(attacker.connack(PATIENCE), Some(reason::NOT_AUTHORIZED));
            }
            let asked: Vec<_> =
                api.logins().iter().map(|request| request.field("username").to_owned()).collect();
            assert_eq!(asked, ["bob", "carol"], "throttle_by {by}");
        }
    });
}

#[test]
fn a_bad_value_keeps_the_broker_from_starting() {
    on_every_broker(|version| {
        for (option, value) in [
            ("throttle_after", "-1"),
            ("throttle_after", "often"),
            ("throttle_pause", "0"),
            ("throttle_pause", "soon"),
            ("throttle_longest", "1y"),
            ("throttle_by", "username"),
        ] {
            let failure = Broker::with(version)
                .option("auth_url", "http://127.0.0.1:9/auth")
                .option(option, value)
                .start_expecting_failure();
            assert!(failure.code.is_some_and(|code| code != 0), "{option} {value}: {failure:?}");
            assert!(failure.log.contains(option) && failure.log.contains(value), "{}", failure.log);
        }
    });
}

#[test]
fn another_address_is_not_throttled() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).start();
        let owner = Connect::v5("owner").login("alice", "secret");
        try_wrong(broker.port(), "alice", 2 * LOOKED_AT);
        assert_eq!(api.logins().len(), LOOKED_AT);
        owner.refused(broker.port());
        owner.coming_from(ELSEWHERE).accepted(broker.port());
    });
}

// Addresses of other networks, by way of the PROXY protocol, which 2.1 speaks.

/// Tries to log in from an address.
fn from(address: &str, port: u16, connect: &Connect) -> Option<u8> {
    let mut client = Client::open(port, Protocol::V5);
    let (family, own) = if address.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    client.send(format!("PROXY {family} {address} {own} 50000 1883\r\n").as_bytes());
    client.send(&connect.packet());
    client.connack(PATIENCE)
}

#[test]
fn ipv6_addresses_count_by_their_network() {
    let api = api(RULES);
    let broker = throttled_for_long(broker(Version::V2_1, &api)).line("enable_proxy_protocol 1").start();
    let try_wrong_from = |address: String, name: &str| {
        assert_eq!(from(&address, broker.port(), &guess(name)), Some(reason::NOT_AUTHORIZED), "{address}");
    };
    for host in 0..2 * LOOKED_AT {
        try_wrong_from(format!("2001:db8:1:2::{host:x}"), "alice");
    }
    assert_eq!(api.logins().len(), LOOKED_AT);
    let owner = Connect::v5("owner").login("alice", "secret");
    assert_eq!(from("2001:db8:1:2:ffff::1", broker.port(), &owner), Some(reason::NOT_AUTHORIZED));
    assert_eq!(from("2001:db8:1:3::1", broker.port(), &owner), Some(reason::SUCCESS));
    // An IPv4 address in IPv6 clothes is one host.
    for host in 1..=2 * LOOKED_AT {
        try_wrong_from(format!("::ffff:192.0.2.{host}"), "bob");
    }
    assert_eq!(asked_about(&api, "bob"), 2 * LOOKED_AT);
}

// The lock-out.

/// While an id is parked the broker turns away everybody else who comes with it: two sockets that keep trying
/// wrong passwords used to keep the owner out.
fn assert_the_owner_gets_in(attacker: impl Fn(usize) -> Connect + Sync) {
    let api = api(RULES);
    let broker = broker(Version::V2_1, &api).option("auth_cache_ttl", 0).start();
    let owner = Connect::v5("x").login("alice", "secret");
    owner.accepted(broker.port());
    api.answer(Reply::rules().after(Duration::from_millis(300)));
    let (over, tries) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let attempt = attacker(tries.fetch_add(1, Ordering::Relaxed)).attempt(broker.port());
                    assert!(attempt.is_err(), "a wrong password is let in");
                }
            });
        }
        // The attack is under way.
        assert!(eventually(PATIENCE, || api.logins().len() > 2));
        let mut waits = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            let got_in = eventually(PATIENCE, || owner.attempt(broker.port()).is_ok());
            waits.push(start.elapsed());
            if !got_in {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(waits.len(), 5);
        assert!(waits.iter().all(|wait| *wait < PATIENCE / 2), "the owner waited {waits:?}");
    });
    assert!(tries.into_inner() > 10, "there was hardly an attack");
    let wrong = |request: &Request| request.field("password") != "secret";
    let asked = api.logins().into_iter().filter(wrong).count();
    assert!(asked < 8 * AFTER, "{asked} wrong passwords reached the API");
}

#[test]
fn wrong_passwords_do_not_keep_the_owner_of_an_id_out() {
    assert_the_owner_gets_in(|number| Connect::v5("x").login("alice", format!("wrong-{number}")));
}

/// The attacker needs the owner's client id, not the username. An address alone is counted for that.
#[test]
fn wrong_passwords_for_changing_names_do_not_either() {
    let api = api(RULES);
    let broker =
        broker(Version::V2_1, &api).option("auth_cache_ttl", 0).option("throttle_by", "address").start();
    let owner = Connect::v5("x").login("alice", "secret");
    owner.accepted(broker.port());
    api.answer(Reply::rules().after(Duration::from_millis(300)));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for socket in 0..2 {
            let (broker, over) = (&broker, &over);
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("user-{socket}-{number}");
                    assert!(Connect::v5("x").login(name, "wrong").attempt(broker.port()).is_err());
                }
            });
        }
        assert!(eventually(PATIENCE, || api.logins().len() > 2));
        let got_in = eventually(PATIENCE, || owner.attempt(broker.port()).is_ok());
        over.store(true, Ordering::Relaxed);
        assert!(got_in, "the owner is kept out");
    });
}

/// Asserts that guesses about alice are not looked at any more, once the last one's answer is counted.
fn assert_is_throttled(broker: &Broker, api: &MockApi) {
    api.forget_requests();
    let is_throttled = || {
        assert!(guess("alice").attempt(broker.port()).is_err());
        broker.log().contains("too many wrong passwords")
    };
    assert!(eventually(PATIENCE, is_throttled));
    assert!(asked_about(api, "alice") <= 1);
}

/// Brokers whose logins are in one another's way, and what makes guesses about alice be turned away for that.
fn on_busy_brokers(check: impl Fn(&Broker, &MockApi, &dyn Fn(usize) -> Connect)) {
    for version in [Version::V2_0_11, Version::V2_0_21] {
        let api = api("");
        let freezes = |request: &Request| request.field("username").starts_with("freezes-");
        let gate = Gate::holding(&api, freezes, |request| match request.field("username") {
            "alice" => Reply::status(403),
            name if name.starts_with("slow-") => Reply::status(200).after(Duration::from_millis(200)),
            _ => Reply::status(200),
        });
        let broker = throttled_for_long(broker(version, &api))
            .option("login_wait", "100ms")
            .option("lookahead", false)
            .option("timeout", "10s")
            .start();
        check(&broker, &api, &|round| {
            gate.close();
            let [mut freezes, mut slow, mut guesses] =
                [(); 3].map(|()| Client::open(broker.port(), Protocol::V5));
            let guess = Connect::v5(format!("a-{round}")).login("alice", format!("guess-{round}"));
            api.forget_requests();
            freezes.send(&Connect::v5("f").login(format!("freezes-{round}"), "x").packet());
            api.wait_for_requests(1, PATIENCE);
            // Both wait for the broker's next turn, in this order.
            slow.send(&Connect::v5("s").login(format!("slow-{round}"), "x").packet());
            guesses.send(&guess.packet());
            gate.open();
            assert!(guesses.is_turned_away(), "{round}");
            api.wait_for_requests(3, PATIENCE);
            api.wait_until_answered(PATIENCE);
            guess
        });
    }
}

/// Who is turned away because others hold up the broker (`login_wait`) learns nothing by that: the guess is asked about
/// beside, and counts, once.
#[test]
fn a_guess_that_is_answered_beside_counts_once() {
    on_busy_brokers(|broker, api, turned_away| {
        for round in 0..AFTER {
            turned_away(round).refused(broker.port());
            assert_eq!(api.logins().len(), 3, "the guess is known");
        }
        api.forget_requests();
        guess("alice").refused(broker.port());
        assert_eq!(asked_about(api, "alice"), 1, "each pause has room for one");
        guess("alice").refused(broker.port());
        broker.wait_for_log("too many wrong passwords", PATIENCE);
        assert_eq!(asked_about(api, "alice"), 1);
    });
}

/// The same where nobody comes again.
#[test]
fn a_guess_that_is_answered_beside_counts_although_nobody_comes_back() {
    on_busy_brokers(|broker, api, turned_away| {
        for round in 0..=AFTER {
            turned_away(round);
        }
        assert_is_throttled(broker, api);
    });
}

/// Whoever gives up before the answer is there has guessed all the same, and may come again only for what was right.
#[test]
fn a_guess_that_is_answered_too_late_counts_at_once() {
    on_every_broker(|version| {
        let api = api("");
        let gate = Gate::holding(&api, |_| true, |_| Reply::status(403));
        let broker = throttled_for_long(broker(version, &api))
            .option("timeout", "1s")
            .option("breaker_after", 0)
            .start();
        for round in 0..=AFTER {
            gate.close();
            let guess = Connect::v5(format!("a-{round}")).login("alice", format!("guess-{round}"));
            assert!(guess.attempt(broker.port()).is_err());
            gate.open();
            api.wait_until_answered(PATIENCE);
        }
        assert_is_throttled(&broker, &api);
    });
}

/// Also whoever is kicked while the answer is on its way.
#[test]
fn a_guess_counts_although_its_client_is_kicked() {
    let api = api("");
    let gate = Gate::holding(&api, |_| true, |_| Reply::status(403));
    let admin = Admin::somewhere();
    let broker = admin.of(throttled_for_long(broker(Version::V2_1, &api))).option("timeout", "30s").start();
    for _ in 0..=AFTER {
        gate.close();
        api.forget_requests();
        let mut client = Client::open(broker.port(), Protocol::V5);
        client.send(&guess("alice").packet());
        api.wait_for_requests(1, PATIENCE);
        assert_eq!(admin.carries_out("kick", &json!({"username": "alice"})), json!({"kicked": 1}));
        assert_eq!(client.connack(PATIENCE), Some(reason::NOT_AUTHORIZED));
        gate.open();
        api.wait_until_answered(PATIENCE);
    }
    assert_is_throttled(&broker, &api);
}
