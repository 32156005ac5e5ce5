//! Verdicts are remembered as long as promised, for the client and question that they were given for, and for no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::{
    Broker, Client, Connect, PATIENCE, Reply, api, broker_asking, eventually, friendly_api, on_every_broker,
    reason,
};

fn alice(broker: &Broker) -> Client {
    Connect::v5("a").login("alice", "secret").accepted(broker.port())
}

#[test]
fn the_second_time_nobody_is_asked() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).start();
        for _ in 0..3 {
            let mut alice = alice(&broker);
            assert!(alice.may_subscribe("news/#"));
            alice.publish("news/1", "x");
            assert_eq!(alice.receive(PATIENCE).expect("message").topic, "news/1");
        }
        let mut accesses: Vec<_> = api.topic_checks().iter().map(|request| request.acc()).collect();
        accesses.sort();
        assert_eq!((api.logins().len(), accesses), (1, vec![1, 2, 4]));

        // What was known goes on while the API is away.
        api.stop();
        let mut alice = alice(&broker);
        assert!(alice.may_subscribe("news/#"));
        alice.publish("news/1", "x");
        assert_eq!(alice.receive(PATIENCE).expect("message").topic, "news/1");
    });
}

#[test]
fn a_verdict_serves_no_other_question() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).start();
        // However the fields are cut, what they spell together is the same.
        let logins =
            [("a-b", "c"), ("a", "b-c"), ("a-", "b-c"), ("a-b-c", ""), ("ab", "c"), ("a", "bc"), ("abc", "")];
        for (username, password) in logins {
            Connect::v3("client").login(username, password).accepted(broker.port());
        }
        assert_eq!(api.requests().len(), logins.len());

        api.forget_requests();
        let checks = [
            ("x", "yz", "t/u"),
            ("xy", "z", "t/u"),
            ("x", "y", "zt/u"),
            ("x", "yzt", "/u"),
            ("x", "yz", "t"),
        ];
        for (client_id, username, topic) in checks {
            let login = Connect::v5(client_id).login(username, "secret");
            login.accepted(broker.port()).publish_acknowledged(topic, "x");
        }
        let asked = api.topic_checks().len();
        assert_eq!(asked, checks.len());

        // Nor does one access stand for another.
        let mut client = Connect::v5("x").login("yz", "secret").accepted(broker.port());
        client.may_subscribe("t/u");
        assert_eq!(api.topic_checks().len(), asked + 1);
    });
}

#[test]
fn an_allow_lasts_as_long_as_it_may() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker =
            broker_asking(version, &api).option("auth_cache_ttl", "1s").option("acl_cache_ttl", "1s").start();
        let mut client = alice(&broker);
        assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
        api.answer(Reply::status(403));
        thread::sleep(Duration::from_millis(1100));
        assert_eq!(client.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
        Connect::v5("b").login("alice", "secret").refused(broker.port());
    });
}

#[test]
fn a_denial_lasts_as_long_as_it_may() {
    on_every_broker(|version| {
        let api = api("");
        let broker = broker_asking(version, &api).option("deny_cache_ttl", "2s").start();
        let login = Connect::v3("client").login("alice", "secret");
        let start = Instant::now();
        login.refused(broker.port());
        api.answer(Reply::status(200));
        if login.attempt(broker.port()).is_ok() {
            let remembered = start.elapsed();
            // A fifth of its time may be taken off, and this machine may be slow.
            assert!(
                remembered > Duration::from_millis(1600),
                "the denial was forgotten after {remembered:?}"
            );
        }
        thread::sleep(Duration::from_millis(2100));
        login.accepted(broker.port());
        assert_eq!(api.requests().len(), 2);
    });
}

#[test]
fn with_a_time_of_zero_nothing_is_remembered() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api)
            .option("auth_cache_ttl", 0)
            .option("acl_cache_ttl", "0s")
            .option("deny_cache_ttl", "0ms")
            .start();
        for _ in 0..3 {
            alice(&broker).publish_acknowledged("t", "x");
        }
        assert_eq!((api.logins().len(), api.topic_checks().len()), (3, 3));
        api.answer(Reply::status(403));
        for _ in 0..2 {
            Connect::v3("client").login("bob", "wrong").refused(broker.port());
        }
        assert_eq!(api.logins().len(), 5);
    });
}

#[test]
fn what_was_no_answer_is_not_remembered() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("acl_no_answer", "deny").start();
        let mut alice = alice(&broker);
        api.answer(Reply::status(500));
        assert_eq!(alice.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
        Connect::v3("client").login("bob", "secret").unanswered(broker.port());
        api.answer(Reply::status(200));
        assert_eq!(alice.publish_acknowledged("t", "x") & 0x80, 0);
        Connect::v3("client").login("bob", "secret").accepted(broker.port());
    });
}

#[test]
fn the_same_question_in_flight_is_asked_once() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(200).after(Duration::from_millis(400)));
        let broker = broker_asking(version, &api).start();
        let mut clients: Vec<_> = (0..20)
            .map(|number| Connect::v3(format!("c-{number}")).login("alice", "secret").send(broker.port()))
            .collect();
        for client in &mut clients {
            assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
        }
        assert_eq!(api.logins().len(), 1);
    });
}

/// A question is given up after twice its time-out; nobody waits for its second half, but it is not in vain.
#[test]
fn an_answer_that_is_late_is_remembered() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(200).after(Duration::from_millis(1300)));
        let broker = broker_asking(version, &api).option("timeout", "1s").start();
        let login = Connect::v3("client").login("alice", "secret");
        login.unanswered(broker.port());
        thread::sleep(Duration::from_millis(800));
        login.accepted(broker.port());
        assert_eq!(api.requests().len(), 1);
    });
}

#[test]
fn the_oldest_verdicts_go_when_there_are_too_many() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("cache_size", 10).start();
        let login = |number: usize| {
            Connect::v3("client").login(format!("user-{number}"), "secret").accepted(broker.port());
        };
        (0..30).for_each(login);
        assert_eq!(api.logins().len(), 30);
        (25..30).for_each(login);
        assert_eq!(api.logins().len(), 30, "the newest are remembered");
        (0..5).for_each(login);
        assert_eq!(api.logins().len(), 35, "the oldest are not");
    });
}

#[test]
fn refusals_do_not_push_out_what_is_allowed() {
    on_every_broker(|version| {
        let api = api("user alice secret\n");
        let broker = broker_asking(version, &api).option("cache_size", 10).start();
        alice(&broker);
        for number in 0..50 {
            Connect::v3(format!("client-{number}"))
                .login(format!("mallory-{number}"), "guess")
                .refused(broker.port());
        }
        assert_eq!(api.requests().len(), 51);
        alice(&broker);
        assert_eq!(api.requests().len(), 51);
    });
}

/// An allow that is used in the last fifth of its time is asked about again while it still serves.
#[test]
fn a_busy_client_never_waits_for_its_verdict_to_be_renewed() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker =
            broker_asking(version, &api).option("acl_cache_ttl", "5s").option("timeout", "30s").start();
        let mut client = alice(&broker);
        assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
        api.forget_requests();

        // The API holds its answer back until the client has got on without it.
        let published = Arc::new(AtomicUsize::new(0));
        let had_to_wait = Arc::new(AtomicBool::new(false));
        let (watched, noticed) = (Arc::clone(&published), Arc::clone(&had_to_wait));
        api.answer_with(move |_| {
            let before = watched.load(Ordering::SeqCst);
            let got_on = eventually(Duration::from_secs(3), || watched.load(Ordering::SeqCst) > before + 1);
            noticed.fetch_or(!got_on, Ordering::SeqCst);
            Reply::status(403)
        });
        let denied = eventually(PATIENCE, || {
            let allowed = client.publish_acknowledged("t", "x") & 0x80 == 0;
            published.fetch_add(1, Ordering::SeqCst);
            !allowed
        });
        assert!(denied, "a refusal ends the allow");
        assert!(!had_to_wait.load(Ordering::SeqCst), "the client waited for the API");
        assert_eq!(api.requests().len(), 1, "one question is enough");
    });
}

#[test]
fn an_api_that_is_out_of_order_does_not_end_an_allow() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("acl_cache_ttl", "3s").start();
        let mut clients = [404, 301, 500].map(|status| {
            let login = Connect::v5(format!("c-{status}")).login("alice", "secret");
            (status, login.accepted(broker.port()))
        });
        for (_, client) in &mut clients {
            assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
        }
        api.forget_requests();
        api.answer_with(|request| Reply::status(request.field("clientid")[2..].parse().unwrap()));
        let questions = |status: u16| {
            let requests = api.requests();
            requests.iter().filter(|request| request.field("clientid") == format!("c-{status}")).count()
        };
        let mut publish = || {
            for (status, client) in &mut clients {
                let allowed = client.publish_acknowledged("t", "x") & 0x80 == 0;
                assert!(allowed || questions(*status) > 1, "a {status} ended an allow that was still good");
            }
        };
        let all_were_asked_about = eventually(PATIENCE, || {
            publish();
            [404, 301, 500].into_iter().all(|status| questions(status) > 0)
        });
        assert!(all_were_asked_about);
        thread::sleep(Duration::from_millis(100)); // until the last answer has arrived
        publish();
    });
}

#[test]
fn an_answer_may_set_its_own_time() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api)
            .option("api_cache_control", "true")
            .option("acl_cache_ttl", 0)
            .start();
        let mut client = alice(&broker);
        let mut questions = |cache_control: &str| {
            api.forget_requests();
            api.answer(Reply::status(200).header("Cache-Control", cache_control));
            for _ in 0..2 {
                client.publish_acknowledged(format!("t/{cache_control}"), "x");
            }
            api.requests().len()
        };
        assert_eq!(questions("max-age=60"), 1);
        assert_eq!(questions("private, Max-Age=60"), 1);
        assert_eq!(questions("max-age=0"), 2);
        assert_eq!(questions("no-store"), 2);
        assert_eq!(questions("no-cache"), 2);
        assert_eq!(questions("max-age=60, no-cache"), 2);
        assert_eq!(questions("max-age=99999999999999999999999"), 1, "a day");
        assert_eq!(questions("max-age=-1"), 2);
        assert_eq!(questions("max-age=60, no-store"), 2);
        assert_eq!(questions("public"), 2, "the option's time");
    });
}

#[test]
fn an_answer_may_not_set_its_time_unless_the_operator_says_so() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(200).header("Cache-Control", "no-store"));
        let broker = broker_asking(version, &api).start();
        for _ in 0..2 {
            alice(&broker);
        }
        assert_eq!(api.requests().len(), 1);
    });
}

#[test]
fn what_a_client_is_expected_to_ask_is_asked_ahead() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api)
            .option("acl_prefetch", "subscribe devices/%c/#")
            .option("acl_prefetch", "write users/%u")
            .option("acl_prefetch", "read news")
            .start();
        let mut client = Connect::v5("c-1").login("alice", "secret").accepted(broker.port());
        let requests = api.wait_for_requests(4, PATIENCE);
        let mut asked: Vec<_> =
            requests[1..].iter().map(|request| (request.field("topic"), request.acc())).collect();
        asked.sort();
        assert_eq!(asked, [("devices/c-1/#", 4), ("news", 1), ("users/alice", 2)]);
        assert!(client.may_subscribe("devices/c-1/#"));
        assert_eq!(client.publish_acknowledged("users/alice", "x") & 0x80, 0);
        assert_eq!(api.requests().len(), 4);

        // Who is not let in raises no questions.
        api.answer(Reply::status(403));
        Connect::v5("c-2").login("bob", "secret").refused(broker.port());
        assert_eq!(api.requests().len(), 5);
    });
}
