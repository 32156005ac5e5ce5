//! No client waits for the login of another, or for a verdict that is known, and every wait is bounded.

use std::time::{Duration, Instant};

use super::{RULES, SLOW, broker};
use crate::support::scene::{PASSWD_2_1, PASSWD_ARGON2ID};
use crate::support::{
    Broker, Connect, PASSWORD, PATIENCE, Refusal, Reply, Version, api, assert_unnoticed, bystander,
    eventually, friendly_api, local_user, reason, timed,
};

#[test]
fn nobody_else_waits_for_a_slow_answer() {
    let api = api(RULES);
    let broker = broker(&api).option("auth_cache_ttl", 0).option("deny_cache_ttl", 0).start();
    let mut bystander = bystander(&broker, "bob", "secret");
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
    let api = friendly_api();
    let broker = broker(&api).option("max_requests", 64).start();
    let mut bystander = bystander(&broker, "bob", "secret");
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
    let passwords = PASSWD_2_1;
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
    at_once(Connect::v5("local").login("default", PASSWORD), reason::SUCCESS);
    at_once(Connect::v5("local").login("sha512", PASSWORD), reason::SUCCESS);
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
        .file("passwords", PASSWD_ARGON2ID)
        .option("password_file", "passwords")
        .option("user", local_user("bystander"))
        .start();
    let mut bystander = Connect::v3("b").login("bystander", PASSWORD).accepted(broker.port());
    let login =
        |name: &str, password: &str| Connect::v3(name).login(name, password).attempt(broker.port()).is_ok();
    let shares = (0..3).map(|_| {
        let ((_, waited), stall) = bystander.longest_ping_during(|| {
            timed(|| {
                assert!(login("argon2id", PASSWORD));
                assert!(login("lanes", PASSWORD));
                assert!(!login("argon2id", "correct horsf"));
                assert!(!login("command", ""));
            })
        });
        (stall * 3 < waited).then_some(()).ok_or((stall, waited))
    });
    let shares: Vec<Result<_, _>> = shares.collect();
    assert!(shares.iter().any(Result::is_ok), "longest ping, and four checks beside it: {shares:?}");
    // It is a local user like any other.
    let mut client = Connect::v3("argon2id").login("argon2id", PASSWORD).accepted(broker.port());
    assert!(client.may_subscribe("news"));
    client.publish("news", "hello");
    assert_eq!(client.receive(PATIENCE).expect("message").payload, b"hello");
    assert!(api.requests().is_empty());
}

#[test]
fn a_client_without_keepalive_is_told_when_no_answer_comes() {
    let timeout = Duration::from_secs(1);
    let api = api("");
    api.answer(Reply::Hang);
    let broker = broker(&api).option("timeout", "1s").start();
    let (refusal, waited) =
        timed(|| Connect::v5("a").keepalive(0).login("alice", "secret").unanswered(broker.port()));
    assert_eq!(refusal, Refusal::Closed, "nothing tells it that it is not authorised");
    assert!(waited >= timeout, "refused after {waited:?}");
    assert!(waited < timeout * 3, "refused after {waited:?}");
}

/// Whose question cannot be sent in time, or not at all, does not wait for ever.
#[test]
fn the_queue_is_bounded_in_time() {
    let api = friendly_api();
    api.answer(Reply::status(200).after(Duration::from_millis(500)));
    let broker = broker(&api).option("max_requests", 1).option("max_wait", "1s").start();
    let (codes, waited) = timed(|| {
        let clients: Vec<_> = (0..10)
            .map(|n| Connect::v5(format!("c{n}")).login(format!("u{n}"), "x").send(broker.port()))
            .collect();
        clients.into_iter().map(|mut client| client.connack(PATIENCE)).collect::<Vec<_>>()
    });
    let accepted = codes.iter().filter(|code| **code == Some(reason::SUCCESS)).count();
    assert!((1..=4).contains(&accepted), "{codes:x?}");
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 10 - accepted, "{codes:x?}");
    assert!(waited < Duration::from_secs(4), "the last waited {waited:?}");
    assert_eq!(api.logins().len(), accepted, "nobody is asked about who is gone");
}

/// Mosquitto 2.1 leaves such a client alone in silence, with an open connection.
#[test]
fn whom_the_broker_does_not_take_is_hung_up_on() {
    let api = friendly_api();
    let broker = Broker::with(Version::V2_1)
        .option("auth_url", api.auth_url())
        .option("auth_cache_ttl", 0)
        .global("global_max_clients 1")
        .start();
    let login = |name: &str| Connect::v3(name).login(name, "secret");
    let first = login("first").accepted(broker.port());
    let mut second = login("second").send(broker.port());
    assert_eq!(second.connack(PATIENCE), None);
    assert!(second.wait_until_closed(PATIENCE));
    broker.wait_for_log(
        "Let \"second\" (client id \"second\", 127.0.0.1) in, but the broker did not take it",
        PATIENCE,
    );
    first.disconnect();
    assert!(eventually(PATIENCE, || login("second").attempt(broker.port()).is_ok()));
}
