//! An API that was silent, busy or gone is noticed soon after it is back, is asked little until then, and no client is
//! refused afterwards for what happened before.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    AT_ONCE, CLOSED, LOCAL_USER, OPENED, SHORT_TIMEOUT, TIMEOUT, broker_for_logins, broker_with_budget,
    count, exhaust, is_let_in_at_once, login, on_both,
};
use crate::support::{PASSWORD, PATIENCE, Reply, Version, api, bystander, eventually, fence, friendly_api};

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
                login("alice").unanswered(broker.port());
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

#[test]
fn an_api_that_has_enough_is_left_alone_for_as_long_as_it_wants() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::status(429).header("Retry-After", "2"));
        let broker = broker_for_logins(version, &api).start();
        let asked = Instant::now();
        // It says so to two: to one alone it would be about that one.
        for name in ["alice", "carol"] {
            login(name).unanswered(broker.port());
        }
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
        assert_eq!(api.requests().len(), 3);
        let log = broker.log();
        assert_eq!(count(&log, OPENED), 0, "this is no API that does not answer");
        assert!(log.contains("429"), "the operator is told why everybody is refused");
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
        let mut other = bystander(&broker, LOCAL_USER, PASSWORD);
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
        let is_real = |name: &String| name.starts_with("late-") || name.starts_with("exhausting-");
        assert!(names.iter().all(is_real), "copies of real questions: {names:?}");
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

/// Whether somebody comes meanwhile or not: the first who comes is let in.
#[test]
fn an_api_that_is_back_is_found_though_nobody_comes() {
    on_both(|version| {
        for is_gone in [false, true] {
            let api = api("");
            let broker = broker_with_budget(version, SHORT_TIMEOUT)
                .option("auth_url", api.auth_url())
                .option("breaker_after", 2)
                .option("breaker_pause", "100ms")
                .option("breaker_longest", "300ms")
                .start();
            if is_gone {
                api.stop();
            } else {
                api.answer(Reply::Hang);
            }
            exhaust(&broker);
            api.answer(Reply::status(200));
            if is_gone {
                api.restart().unwrap();
            }
            broker.wait_for_log(CLOSED, PATIENCE);
            assert!(is_let_in_at_once(&broker, &login("alice")), "the first one pays");
        }
    });
}

/// One question makes the API hang: the others that it did not answer show that it is back.
#[test]
fn a_question_that_hangs_for_ever_does_not_hide_that_the_api_is_back() {
    let version = Version::V2_1; // where questions are asked side by side
    let api = api("");
    api.answer(Reply::Hang);
    let broker = broker_with_budget(version, SHORT_TIMEOUT)
        .option("auth_url", api.auth_url())
        .option("breaker_pause", "100ms")
        .option("breaker_longest", "300ms")
        .start();
    let mut clients: Vec<_> = (0..8).map(|n| login(format!("u-{n}")).send(broker.port())).collect();
    broker.wait_for_log(OPENED, PATIENCE);
    for client in &mut clients {
        assert!(client.connack(PATIENCE).is_none_or(|code| code != 0));
        assert!(client.wait_until_closed(PATIENCE));
    }
    api.answer_with(|request| match request.field("username") {
        "u-4" | "u-5" | "u-6" => Reply::Hang,
        _ => Reply::status(200),
    });
    broker.wait_for_log(CLOSED, PATIENCE);
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
        for (number, client) in crowd.iter_mut().enumerate() {
            // On a busy machine not everybody in a crowd is answered in time.
            let again = || login(format!("u-{number}")).attempt(broker.port()).is_ok();
            assert!(client.connack(PATIENCE).is_some() || eventually(PATIENCE, again));
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
            login(format!("u-{number}")).unanswered(broker.port());
            let asked = api.requests().len();
            assert!(asked <= 2, "{asked} times");
            // Nor later: somebody else is asked about, and it is not.
            api.answer(Reply::status(200));
            fence::later_logins(broker.port(), &api);
            assert!(api.requests().len() <= 2, "{} times", api.requests().len());
        }
    });
}

#[test]
fn a_broker_starts_without_its_api() {
    on_both(|version| {
        let api = friendly_api();
        api.stop();
        let broker = broker_for_logins(version, &api)
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "500ms")
            .start();
        bystander(&broker, LOCAL_USER, PASSWORD);
        for number in 0..10 {
            login(format!("u-{number}")).unanswered(broker.port());
        }
        bystander(&broker, LOCAL_USER, PASSWORD);
        api.restart().unwrap();
        assert!(eventually(TIMEOUT * 5, || login("alice").attempt(broker.port()).is_ok()), "not found");
    });
}
