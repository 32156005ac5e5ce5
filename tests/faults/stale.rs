//! `stale_ttl`: an allow serves past its time while the API gives no answer. No other verdict does.

use std::thread;
use std::time::{Duration, Instant};

use super::{broker_for_logins, exhaust, is_let_in_at_once, login, on_both};
use crate::support::{
    Client, Connect, MockApi, PATIENCE, Protocol, Reply, Setup, Version, api, eventually, fence,
    friendly_api, reason, side_by_side,
};

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

/// Who is turned away for want of time has no answer, but the API has not failed: it may have taken the right back.
#[test]
fn it_does_not_serve_who_is_turned_away_while_the_api_is_well() {
    for version in [Version::V2_0_11, Version::V2_0_21] {
        let api = friendly_api();
        let broker = broker_with_stale(version, &api, "1h")
            .option("login_wait", "1ms")
            .option("lookahead", false)
            .start();
        login("alice").accepted(broker.port());
        api.answer(Reply::status(403).after(Duration::from_millis(200)));
        thread::sleep(SHORT_TTL);
        // Both in one turn: the first is waited for.
        let connections = || broker.log().matches("New connection from").count();
        let before = connections();
        let mut clients = ["bob", "alice"].map(|_| Client::open(broker.port(), Protocol::V5));
        assert!(eventually(PATIENCE, || connections() >= before + 2));
        broker.signal(libc::SIGSTOP);
        for (client, name) in clients.iter_mut().zip(["bob", "alice"]) {
            client.send(&Connect::v5(name).login(name, "secret").packet());
        }
        broker.signal(libc::SIGCONT);
        let [bob, alice] = clients.map(|mut client| client.connack(PATIENCE));
        assert_eq!((bob, alice), (Some(reason::NOT_AUTHORIZED), None), "{}", broker.log());
        assert!(eventually(PATIENCE, || api.logins().len() == 3));
        login("alice").refused(broker.port());
    }
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
        fence::later_logins(broker.port(), &api);
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
            login("alice").unanswered(broker.port());
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
        login("alice").unanswered(broker.port());
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
