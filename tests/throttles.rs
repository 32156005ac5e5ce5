//! A client that keeps trying wrong passwords is slowed down, and does not keep the owner of a client id out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::broker::Setup;
use support::{
    Broker, Client, Connect, MockApi, PATIENCE, Protocol, Reply, Request, Version, api, eventually,
    on_every_broker, reason,
};

const RULES: &str = "user alice secret\nuser bob secret\nuser carol secret\n";

/// How many wrong passwords the throttle lets pass, unless an option says otherwise.
const AFTER: usize = 5;

fn broker(version: Version, api: &MockApi) -> Setup {
    Broker::with(version).option("auth_url", api.auth_url())
}

/// One pause that no test outlasts.
fn throttled_for_long(setup: Setup) -> Setup {
    setup.option("throttle_pause", "5m").option("throttle_longest", "5m")
}

/// Tries so many different wrong passwords for a name, one after the other.
fn try_wrong(port: u16, name: &str, tries: usize) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..tries {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Connect::v5("attacker").login(name, format!("wrong-{number}")).refused(port);
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
        assert_eq!(asked_about(&api, "alice"), AFTER);
        // Others from the same place are looked at as ever.
        Connect::v5("b").login("bob", "secret").accepted(broker.port());
        try_wrong(broker.port(), "bob", 1);
        assert_eq!(asked_about(&api, "bob"), 2);
        let log = broker.log();
        assert!(log.contains("throttle_after"), "the log names the option: {log}");
        assert!(!log.contains("wrong-"), "a password is in the log");
    });
}

/// Also right passwords wait, if they have not been seen before: or else trying would go on.
#[test]
fn a_guess_that_hits_is_refused_during_a_pause_and_let_in_after_it() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker(version, &api)
            .option("throttle_after", 2)
            .option("throttle_pause", "1s")
            .option("throttle_longest", "1s")
            .start();
        let owner = Connect::v5("owner").login("alice", "secret");
        try_wrong(broker.port(), "alice", 2);
        owner.refused(broker.port());
        assert_eq!(asked_about(&api, "alice"), 2);
        assert!(eventually(PATIENCE, || owner.attempt(broker.port()).is_ok()));
    });
}

#[test]
fn pauses_grow_and_are_bounded() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker(version, &api)
            .option("throttle_after", 3)
            .option("throttle_pause", "200ms")
            .option("throttle_longest", "800ms")
            .start();
        let deadline = Instant::now() + PATIENCE;
        while asked_about(&api, "alice") < 8 {
            assert!(Instant::now() < deadline, "{} tries reach the API", asked_about(&api, "alice"));
            try_wrong(broker.port(), "alice", 1);
        }
        let times: Vec<Instant> = api.logins().iter().map(|request| request.at).collect();
        let pauses: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        for (pause, least) in pauses.iter().zip([0, 0, 200, 400, 800, 800, 800]) {
            assert!(*pause + 5 >= least, "{pauses:?} ms");
        }
        // Without a bound the last would be 3.2 s.
        assert!(pauses[6] < 2_000, "{pauses:?} ms");
    });
}

#[test]
fn credentials_that_were_good_are_asked_about_and_not_refused() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = throttled_for_long(broker(version, &api)).option("auth_cache_ttl", 0).start();
        let owner = Connect::v5("owner").login("alice", "secret");
        owner.accepted(broker.port());
        try_wrong(broker.port(), "alice", 20);
        assert_eq!(asked_about(&api, "alice"), 1 + AFTER);
        for _ in 0..3 {
            owner.accepted(broker.port());
        }
        assert_eq!(asked_about(&api, "alice"), 1 + AFTER + 3, "it is no verdict");
        // Whoever goes on trying is not let off because the owner came in.
        try_wrong(broker.port(), "alice", 2 * AFTER);
        let tries = asked_about(&api, "alice") - (1 + AFTER + 3);
        assert!(tries <= AFTER, "{tries} more tries");
        // An API that fails takes nothing away; one that refuses does.
        api.answer(Reply::status(500));
        owner.refused(broker.port());
        api.answer(Reply::rules());
        assert!(eventually(PATIENCE, || owner.attempt(broker.port()).is_ok()));
        api.answer(Reply::status(403));
        owner.refused(broker.port());
        api.answer(Reply::rules());
        try_wrong(broker.port(), "alice", AFTER);
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
            try_wrong(broker.port(), "alice", 3 * AFTER);
            api.answer(Reply::rules());
            // An API that has failed is left alone for a moment.
            let owner = Connect::v5("owner").login("alice", "secret");
            assert!(eventually(PATIENCE, || owner.attempt(broker.port()).is_ok()), "{status}");
        }
        let broker = throttled_for_long(broker(version, &api)).start();
        api.answer(Reply::status(401));
        try_wrong(broker.port(), "alice", AFTER);
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
        Connect::v5("a").login("sha512", "correct horse").accepted(port);
        try_wrong(port, "sha512", 2 * AFTER);
        try_wrong(port, "default", 2 * AFTER);
        assert!(api.requests().is_empty());
        // The one was let in before, the other was not.
        Connect::v5("a").login("sha512", "correct horse").accepted(port);
        Connect::v5("a").login("default", "correct horse").refused(port);
        Connect::v5("a").login("pbkdf2", "correct horse").accepted(port);
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
        for number in 0..3 * AFTER {
            Connect::v5("attacker").login(format!("user-{number}"), "123456").refused(broker.port());
        }
        assert_eq!(api.logins().len(), AFTER);
        Connect::v5("bob").login("bob", "secret").refused(broker.port());
        assert_eq!(api.logins().len(), AFTER);
        Connect::v5("alice").login("alice", "secret").accepted(broker.port());
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
            let known = ["bob", "carol"].map(|name| Connect::v5(name).login(name, "secret"));
            known.iter().for_each(|client| drop(client.accepted(broker.port())));
            let attack = |number: usize| {
                let name = if by == "address" { format!("user-{number}") } else { "alice".to_owned() };
                Connect::v5(format!("attacker-{number}")).login(name, format!("wrong-{number}"))
            };
            for number in 0..2 * AFTER {
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

// Addresses other than this machine's, by way of the PROXY protocol, which 2.1 speaks.

/// Tries to log in from an address.
fn from(address: &str, port: u16, connect: &Connect) -> Option<u8> {
    let mut client = Client::open(port, Protocol::V5);
    let (family, own) = if address.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    client.send(format!("PROXY {family} {address} {own} 50000 1883\r\n").as_bytes());
    client.send(&connect.packet());
    client.connack(PATIENCE)
}

fn try_wrong_from(address: &str, port: u16, name: &str, tries: usize) {
    for number in 0..tries {
        let attack = Connect::v5("attacker").login(name, format!("{address}-{number}"));
        assert_eq!(from(address, port, &attack), Some(reason::NOT_AUTHORIZED));
    }
}

#[test]
fn another_address_is_not_throttled() {
    let api = api(RULES);
    let broker = throttled_for_long(broker(Version::V2_1, &api)).line("enable_proxy_protocol 1").start();
    let owner = Connect::v5("owner").login("alice", "secret");
    try_wrong_from("192.0.2.7", broker.port(), "alice", 2 * AFTER);
    assert_eq!(api.logins().len(), AFTER);
    assert_eq!(from("192.0.2.7", broker.port(), &owner), Some(reason::NOT_AUTHORIZED));
    assert_eq!(from("192.0.2.8", broker.port(), &owner), Some(reason::SUCCESS));
}

#[test]
fn ipv6_addresses_count_by_their_network() {
    let api = api(RULES);
    let broker = throttled_for_long(broker(Version::V2_1, &api)).line("enable_proxy_protocol 1").start();
    for host in 0..2 * AFTER {
        try_wrong_from(&format!("2001:db8:1:2::{host:x}"), broker.port(), "alice", 1);
    }
    assert_eq!(api.logins().len(), AFTER);
    let owner = Connect::v5("owner").login("alice", "secret");
    assert_eq!(from("2001:db8:1:2:ffff::1", broker.port(), &owner), Some(reason::NOT_AUTHORIZED));
    assert_eq!(from("2001:db8:1:3::1", broker.port(), &owner), Some(reason::SUCCESS));
    // An IPv4 address in IPv6 clothes is one host.
    for host in 1..=2 * AFTER {
        try_wrong_from(&format!("::ffff:192.0.2.{host}"), broker.port(), "bob", 1);
    }
    assert_eq!(asked_about(&api, "bob"), 2 * AFTER);
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
