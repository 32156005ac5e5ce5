//! The circuit breaker: an API that gives no answers is not asked for a while, and the log says so once. Neither a
//! single client nor any answer can open the breaker.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use super::{
    AT_ONCE, CLOSED, LOCAL_USER, OPENED, SHORT_TIMEOUT, TIMEOUT, broker, broker_for_logins,
    broker_with_budget, count, exhaust, is_let_in_at_once, login, number_in, on_both,
};
use crate::support::servers::Server;
use crate::support::{
    Connect, PASSWORD, PATIENCE, Reply, Version, api, bystander, eventually, friendly_api, reason, timed,
};

/// An API that never answers costs a few time-outs, not one for each question.
#[test]
fn a_dead_api_is_left_alone() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::Hang);
        let broker = broker_for_logins(version, &api).option("breaker_pause", "1h").start();
        let mut other = bystander(&broker, LOCAL_USER, PASSWORD);
        let ((_, spent), stall) = other.longest_ping_during(|| timed(|| exhaust(&broker)));
        assert!(spent < TIMEOUT * 8, "{spent:?}");
        // The next client can be served before the ping that the one before it held up.
        assert!(stall < TIMEOUT * 3, "another client waited {stall:?} for a ping");
        let asked = api.requests().len();
        let ((), stall) = other.longest_ping_during(|| {
            for number in 0..50 {
                assert!(!is_let_in_at_once(&broker, &login(format!("late-{number}"))));
            }
        });
        assert!(stall < AT_ONCE, "another client waited {stall:?} for a ping");
        assert_eq!(api.requests().len(), asked, "the API is asked all the same");
        assert_eq!(count(&broker.log(), OPENED), 1);
    });
}

#[test]
fn an_api_that_answers_two_of_three_questions_is_left_alone() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match number_in(request) % 3 {
            0 => Reply::Hang,
            _ => Reply::status(200),
        });
        let setup = broker_with_budget(version, TIMEOUT / 4).option("auth_url", api.auth_url());
        let broker = setup.start();
        for number in 0..40 {
            let _ = login(format!("u-{number}")).attempt(broker.port());
            if broker.log().contains(OPENED) {
                return;
            }
        }
        panic!("forty questions, a third of them without an answer, did not open the breaker");
    });
}

/// While it goes on, such an API must not make the broker stand still most of the time, nor fill its log.
#[test]
fn an_api_that_answers_two_of_three_questions_costs_a_part_of_the_time() {
    const WATCHED: Duration = Duration::from_secs(7);
    let api = api("");
    api.answer_with(|request| match number_in(request) % 3 {
        0 => Reply::Hang,
        _ => Reply::status(200),
    });
    let timeout = Duration::from_millis(200);
    let setup = broker_with_budget(Version::V2_0_11, timeout).option("auth_url", api.auth_url());
    let broker = setup.start();
    let start = Instant::now();
    let mut stalled = Duration::ZERO;
    for number in 0.. {
        let (_, waited) = timed(|| login(format!("u-{number}")).attempt(broker.port()).is_ok());
        stalled += if waited > timeout / 2 { waited } else { Duration::ZERO };
        if start.elapsed() > WATCHED {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(stalled < WATCHED / 2, "the broker stood still for {stalled:?} of {WATCHED:?}");
    let lines = count(&broker.log(), OPENED) + count(&broker.log(), CLOSED);
    assert!(lines <= 8, "{lines} lines about it in {WATCHED:?}");
}

/// An answer to a question from before says nothing about whether the API is well now.
#[test]
fn an_answer_to_an_old_question_does_not_close_it() {
    let version = Version::V2_1; // where questions are asked side by side
    let api = api("");
    let broker = broker_for_logins(version, &api).option("breaker_pause", "1h").start();
    // An API that has answered is asked as many questions at once as may be.
    api.answer(Reply::status(200));
    login("first").accepted(broker.port());
    api.forget_requests();
    api.answer_with(|request| match request.field("username").starts_with("slow") {
        true => Reply::status(200).after(TIMEOUT * 3 / 4),
        false => Reply::Hang,
    });
    let mut hanging: Vec<_> =
        (0..10).map(|number| login(format!("hang-{number}")).send(broker.port())).collect();
    api.wait_for_requests(10, PATIENCE);
    thread::sleep(TIMEOUT / 2);
    let mut slow: Vec<_> = (0..3).map(|number| login(format!("slow-{number}")).send(broker.port())).collect();
    api.wait_for_requests(13, PATIENCE);
    broker.wait_for_log(OPENED, PATIENCE);
    for client in &mut slow {
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS), "it was asked, and is answered in time");
    }
    for client in &mut hanging {
        assert!(client.is_turned_away());
    }
    let asked = api.requests().len();
    assert!(!is_let_in_at_once(&broker, &login("slow-stranger")));
    assert_eq!(api.requests().len(), asked, "the API is asked again before its time");
    assert_eq!(count(&broker.log(), CLOSED), 0);
}

/// The same question again and again, and nobody else has anything to ask: one client must not be able to take the
/// API from the others.
#[test]
fn one_bad_question_does_not_open_it() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("username") {
            "mallory" => Reply::Hang,
            _ => Reply::status(200),
        });
        let broker = broker_with_budget(version, SHORT_TIMEOUT).option("auth_url", api.auth_url()).start();
        for _ in 0..8 {
            login("mallory").unanswered(broker.port());
        }
        assert!(is_let_in_at_once(&broker, &login("alice")), "mallory's questions cost alice her login");
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

/// The same with another password each time, and a topic.
#[test]
fn one_client_does_not_open_it() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("username") {
            "mallory" if request.path == "/auth" && request.field("password") != "secret" => Reply::Hang,
            "mallory" if request.path == "/acl" => Reply::Hang,
            _ => Reply::status(200),
        });
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("throttle_after", 0)
            .start();
        for number in 0..7 {
            Connect::v5("m").login("mallory", format!("guess-{number}")).unanswered(broker.port());
        }
        assert!(is_let_in_at_once(&broker, &login("alice")), "mallory's guesses cost alice her login");
        // (She may have to wait for it herself.)
        assert!(eventually(PATIENCE, || login("mallory").attempt(broker.port()).is_ok()));
        let mut mallory = login("mallory").accepted(broker.port());
        for number in 0..7 {
            mallory.publish_acknowledged(format!("t/{number}"), "x");
        }
        let mut alice = login("alice").accepted(broker.port());
        assert_eq!(alice.publish_acknowledged("t", "x") & 0x80, 0, "mallory's topics cost alice hers");
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

/// Often all devices have one username, and only their client ids differ: then it is those that count.
#[test]
fn a_dead_api_is_left_alone_by_clients_with_one_name_too() {
    on_both(|version| {
        let (logins, topics) = (friendly_api(), api(""));
        topics.answer(Reply::Hang);
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", logins.auth_url())
            .option("acl_url", topics.acl_url())
            .start();
        for number in 0..20 {
            let device = Connect::v5(format!("device-{number}")).login("fleet", "secret");
            let code = device.accepted(broker.port()).publish_acknowledged("t", "x");
            assert_eq!(code, reason::NOT_AUTHORIZED);
        }
        assert!(broker.log().contains(OPENED), "{} questions", topics.requests().len());
    });
}

#[test]
fn one_client_takes_no_time_from_others_of_its_name() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("topic").starts_with("bad") {
            true => Reply::Hang,
            false => Reply::status(200),
        });
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .start();
        let device = |id: &str| Connect::v5(id).login("fleet", "secret").accepted(broker.port());
        let (mut mallory, mut alice) = (device("mallory"), device("alice"));
        for number in 0..6 {
            mallory.publish_acknowledged(format!("bad/{number}"), "x");
        }
        for number in 0..10 {
            let code = alice.publish_acknowledged(format!("good/{number}"), "x");
            assert_eq!(code & 0x80, 0, "mallory's topics cost alice good/{number}");
        }
    });
}

/// An API that answers is there; and what the answer is, clients can decide.
#[test]
fn no_status_of_the_api_itself_opens_it() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("username") {
            "alice" => Reply::status(200),
            _ => Reply::status([401, 403, 404, 400, 413, 500, 501, 408][number_in(request) % 8]),
        });
        let broker = broker_for_logins(version, &api).option("throttle_after", 0).start();
        for number in 0..80 {
            let outcome = login(format!("mallory-{number}")).attempt(broker.port());
            assert!(outcome.is_err(), "mallory-{number} is let in");
        }
        assert!(is_let_in_at_once(&broker, &login("alice")));
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

/// A proxy that takes half a second to find nobody behind it does not cost each login that much.
#[test]
fn gateway_failures_open_it() {
    on_both(|version| {
        for status in [502, 503, 504] {
            let api = api("");
            api.answer(Reply::status(status));
            let broker = broker_for_logins(version, &api).option("breaker_pause", "1h").start();
            for number in 0..5 {
                assert_eq!(count(&broker.log(), OPENED), 0, "after {number}");
                let address = Ipv4Addr::new(127, 0, 0, 2 + number);
                assert!(login(format!("u-{number}")).coming_from(address).attempt(broker.port()).is_err());
            }
            broker.wait_for_log(OPENED, PATIENCE);
            // (One is kept to probe with.)
            assert!(login("late-0").attempt(broker.port()).is_err());
            let asked = api.requests().len();
            for number in 1..10 {
                assert!(login(format!("late-{number}")).attempt(broker.port()).is_err());
            }
            assert_eq!(api.requests().len(), asked, "the API is asked all the same");
        }
    });
}

/// What a client sends can be the reason: a proxy says so when the API behind it takes too long.
#[test]
fn gateway_failures_of_one_address_do_not_take_the_api_from_others() {
    on_both(|version| {
        let api = api("");
        api.answer_with(|request| match request.field("username").starts_with("mallory") {
            true => Reply::status(504),
            false => Reply::status(200),
        });
        let broker = broker_for_logins(version, &api).option("throttle_after", 0).start();
        let mallory = |number| {
            let mallory = login(format!("mallory-{number}")).coming_from(Ipv4Addr::new(127, 0, 0, 9));
            assert!(mallory.attempt(broker.port()).is_err());
        };
        for number in 0..40 {
            mallory(number);
            if number % 8 == 0 {
                assert!(is_let_in_at_once(&broker, &login(format!("alice-{number}"))), "{number}");
            }
        }
    });
}

/// What is said of the questions is so: with `stale_ttl` not all of them are refused.
#[test]
fn the_log_says_what_becomes_of_questions() {
    on_both(|version| {
        for (stale, expected) in
            [("0s", "questions to it are refused at once"), ("7m", "goes on for up to 420s")]
        {
            let api = friendly_api();
            api.stop();
            let broker = broker_for_logins(version, &api).option("stale_ttl", stale).start();
            exhaust(&broker);
            let line = broker.wait_for_log(OPENED, PATIENCE);
            assert!(line.contains(expected), "{line}");
        }
    });
}

/// A password can be 64 KiB long, many times that as JSON. Servers refuse such a request before they have read it
/// and hang up, which can arrive as a reset.
#[test]
fn a_request_that_is_too_long_for_the_api_does_not_open_it() {
    on_both(|version| {
        let picky = Server::picky_api(16 << 10);
        let broker = broker(version)
            .option("auth_url", format!("http://{}/auth", picky.address))
            .option("throttle_after", 0)
            .start();
        for number in 0..10 {
            let password = [b'a' + number; 65_000];
            Connect::v5("mallory").login("mallory", password).refused(broker.port());
        }
        assert!(is_let_in_at_once(&broker, &login("alice")), "mallory's passwords cost alice her login");
        assert_eq!(count(&broker.log(), OPENED), 0);
    });
}

#[test]
fn questions_about_topics_have_a_breaker_of_their_own() {
    on_both(|version| {
        let (logins, topics) = (friendly_api(), api(""));
        topics.stop();
        let broker = broker_for_logins(version, &logins).option("acl_url", topics.acl_url()).start();
        for number in 0..10 {
            let mut client = login(format!("u-{number}")).accepted(broker.port());
            assert_eq!(client.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
        }
        broker.wait_for_log(OPENED, PATIENCE);
        assert!(is_let_in_at_once(&broker, &login("alice")));
    });
}

#[test]
fn the_log_says_once_what_an_operator_must_know_and_no_secret() {
    on_both(|version| {
        let api = friendly_api();
        let url = format!("http://someone:pa55word@{}/auth?token=t0ken", api.address());
        let broker = broker_with_budget(version, SHORT_TIMEOUT)
            .option("auth_url", url)
            .option("header", "X-Key: b3arer")
            .option("breaker_pause", "100ms")
            .option("breaker_longest", "300ms")
            .start();
        let mut number = 0;
        let mut attempt = || {
            number += 1;
            Connect::v5("c").login(format!("u-{number}"), "s3cret").attempt(broker.port()).is_ok()
        };
        for reply in [Reply::Hang, Reply::garbage(), Reply::Reset] {
            let before = broker.log();
            api.answer(reply.clone());
            for _ in 0..300 {
                assert!(!attempt());
            }
            let log = broker.log().split_off(before.len());
            assert_eq!(count(&log, OPENED), 1, "{reply:?}");
            assert_eq!(count(&log, CLOSED), 0, "{reply:?}");
            api.answer(Reply::status(200));
            assert!(eventually(PATIENCE, &mut attempt));
            let log = broker.log().split_off(before.len());
            assert_eq!((count(&log, OPENED), count(&log, CLOSED)), (1, 1), "{reply:?}");
        }
        let log = broker.log();
        // What it means, and where: not with which password.
        let opened = log.lines().find(|line| line.contains(OPENED)).unwrap();
        assert!(opened.contains(&format!("http://{} (logins)", api.address())), "{opened}");
        let lines = count(&log, "Refused to let");
        assert!(lines < 300, "{lines} lines about 900 refusals");
        for secret in ["pa55word", "t0ken", "b3arer", "s3cret"] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    });
}
