//! An API that is slow, wrong or gone admits nobody, and holds up the broker no longer than the options allow.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::servers::DeafListener;
use support::tls::{Authority, Validity};
use support::{
    Broker, Client, Connect, MockApi, PATIENCE, Refusal, Reply, Setup, Version, api, broker_asking,
    eventually, on_every_broker, reason, timed,
};

/// Everybody would be allowed everything, if only the API could say so.
const RULES: &str =
    "user alice secret\nallow all #\nuser bob secret\nallow all #\nuser carol secret\nallow all #\n";

const TIMEOUT: Duration = Duration::from_secs(1);

/// What a client may feel of one question, on a machine that has other things to do.
const LONGEST: Duration = Duration::from_secs(3);

fn broker_with_limit(version: Version, api: &MockApi) -> Setup {
    // Who publishes in vain stays, and can be asked what else she may.
    broker_asking(version, api)
        .option("timeout", format!("{}ms", TIMEOUT.as_millis()))
        .option("acl_no_answer", "deny")
}

fn log_in(broker: &Broker, username: &str) -> Client {
    Connect::v5(format!("client-{username}")).login(username, "secret").accepted(broker.port())
}

/// With this fault nobody gets in, nothing gets through, nobody is lost, nobody waits too long, and all is
/// well again when the API is.
fn assert_fails_closed(version: Version, fault: &str, break_api: impl Fn(&MockApi)) {
    let api = api(RULES);
    let mut broker = broker_with_limit(version, &api).start();
    let mut alice = log_in(&broker, "alice");
    assert!(alice.may_subscribe("news/#"));
    let mut bystander = log_in(&broker, "bob");
    break_api(&api);

    thread::scope(|scope| {
        let stall = scope.spawn(|| {
            // The first question is under way, or has just failed.
            thread::sleep(Duration::from_millis(50));
            bystander.ping()
        });
        let (outcome, waited) =
            timed(|| Connect::v5("client-carol").login("carol", "secret").attempt(broker.port()));
        assert!(outcome.is_err(), "{fault}: carol is let in");
        assert!(waited < LONGEST, "{fault}: carol waited {waited:?}");
        let stall = stall.join().unwrap();
        assert!(stall < LONGEST, "{fault}: bob waited {stall:?} for his ping");
    });
    let (published, waited) = timed(|| alice.publish_acknowledged("news/1", "x"));
    assert_eq!(published, reason::NOT_AUTHORIZED, "{fault}");
    assert!(waited < LONGEST, "{fault}: alice waited {waited:?}");
    let (subscribed, waited) = timed(|| alice.may_subscribe("other/#"));
    assert!(!subscribed, "{fault}");
    assert!(waited < LONGEST, "{fault}: alice waited {waited:?}");
    assert_eq!(alice.receive(Duration::ZERO), None, "{fault}: the message is delivered");
    alice.ping();

    api.restart().unwrap();
    api.answer(Reply::rules());
    let back = eventually(PATIENCE, || {
        thread::sleep(Duration::from_millis(100));
        Connect::v5("client-carol").login("carol", "secret").attempt(broker.port()).is_ok()
    });
    assert!(back, "{fault}: carol is not let in when all is well");
    let published = eventually(PATIENCE, || alice.publish_acknowledged("news/2", "x") & 0x80 == 0);
    assert!(published, "{fault}");
    assert_eq!(alice.receive(PATIENCE).expect("message").topic, "news/2");
    assert!(broker.is_running());
}

/// One test for each fault, so that they run side by side.
macro_rules! faults {
    ($($name:ident: $break_api:expr;)+) => {
        $(#[test]
        fn $name() {
            on_every_broker(|version| assert_fails_closed(version, stringify!($name), $break_api));
        })+
    };
}

faults! {
    an_api_that_never_answers: |api| api.answer(Reply::Hang);
    an_api_that_answers_a_byte_a_second: |api| api.answer(Reply::byte_a_second());
    an_api_that_never_finishes_its_headers: |api| api.answer(Reply::endless_headers());
    an_api_with_endless_headers_in_a_hurry: |api| api.answer(Reply::Endless {
        start: b"HTTP/1.1 200 OK\r\n".to_vec(),
        again: b"X-Filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(100),
        every: Duration::ZERO,
    });
    an_api_with_huge_headers: |api| api.answer(Reply::huge_headers());
    an_api_that_resets: |api| api.answer(Reply::Reset);
    an_api_that_hangs_up: |api| api.answer(Reply::Close);
    an_api_that_talks_nonsense: |api| api.answer(Reply::garbage());
    an_api_that_fails: |api| api.answer(Reply::status(500));
    an_api_that_is_gone: MockApi::stop;
    an_api_that_fails_after_its_time: |api| api.answer(Reply::status(500).after(TIMEOUT * 3 / 2));
}

/// A complete head with the status 200 is a yes; everything else that breaks off or breaks the rules is none.
#[test]
fn a_malformed_answer_lets_nobody_in() {
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let truncated = (0..good.len()).map(|length| good[..length].to_owned());
    let malformed = [
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 +200 OK\r\n\r\n",
        "HTTP/1.1 -200 OK\r\n\r\n",
        "HTTP/1.1 2OO OK\r\n\r\n",
        "HTTP/1.1 0x200 OK\r\n\r\n",
        "HTTP/1.1 OK 200\r\n\r\n",
        "HTTP/1.1200 OK\r\n\r\n",
        "HTTP/11.1 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/3 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTPS/1.1 200 OK\r\n\r\n",
        "200 OK\r\n\r\n",
        "ok",
        "{\"result\": \"allow\"}",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: minus one\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nnull: \0\r\n\r\n",
        "POST /auth HTTP/1.1\r\n\r\n",
        "\u{feff}HTTP/1.1 200 OK\r\n\r\n",
    ];
    let answers: Vec<String> = truncated.chain(malformed.map(str::to_owned)).collect();
    on_every_broker(|version| {
        let api = api("");
        let broker = broker_with_limit(version, &api).option("breaker_longest", "1s").start();
        let attempt =
            |username: String| Connect::v3("client").login(username, "secret").attempt(broker.port());
        for (number, answer) in answers.iter().enumerate() {
            // Good answers in between keep the plugin from leaving the API alone.
            api.answer(Reply::status(200));
            for round in 0..3 {
                assert!(eventually(PATIENCE, || attempt(format!("good-{number}-{round}")).is_ok()));
            }
            api.forget_requests();
            api.answer(Reply::Raw(answer.as_bytes().to_vec()));
            assert!(attempt(format!("user-{number}")).is_err(), "{answer:?} let somebody in");
            assert!(!api.requests().is_empty(), "{answer:?} was not put to the test");
        }
    });
}

/// The status says it all; what comes behind it must not hold anybody up, nor fill the memory.
#[test]
fn a_yes_with_a_body_without_end_is_a_yes() {
    on_every_broker(|version| {
        let api = api("");
        let broker = broker_with_limit(version, &api).start();
        api.answer(Reply::endless_body());
        for number in 0..5 {
            let login = Connect::v3("client").login(format!("endless-{number}"), "secret");
            let (_, waited) = timed(|| login.accepted(broker.port()));
            assert!(waited < LONGEST, "{waited:?}");
        }
        api.answer(Reply::huge_body());
        Connect::v3("client").login("huge", "secret").accepted(broker.port());
        api.answer(Reply::status(200));
        Connect::v3("client").login("plain", "secret").accepted(broker.port());
        let megabytes = broker.resident_bytes() >> 20;
        assert!(megabytes < 100, "the broker holds {megabytes} MB");
    });
}

#[test]
fn an_api_that_comes_up_after_the_broker_is_found() {
    on_every_broker(|version| {
        let api = api(RULES);
        api.stop();
        let broker = broker_with_limit(version, &api).start();
        let login = Connect::v3("client").login("alice", "secret");
        login.unanswered(broker.port());
        api.restart().unwrap();
        assert!(eventually(PATIENCE, || {
            thread::sleep(Duration::from_millis(50));
            login.attempt(broker.port()).is_ok()
        }));
    });
}

#[test]
fn a_name_without_an_address_is_no_answer() {
    on_every_broker(|version| {
        let broker = Broker::with(version)
            .option("auth_url", "http://no-such-host.invalid/auth")
            .option("timeout", "1s")
            .start();
        let login = Connect::v3("client").login("alice", "secret");
        let (_, waited) = timed(|| login.unanswered(broker.port()));
        assert!(waited < LONGEST, "{waited:?}");
        broker.wait_for_log("no answer", PATIENCE);
    });
}

#[test]
fn an_api_that_does_not_take_the_connection_is_no_answer() {
    on_every_broker(|version| {
        let deaf = DeafListener::open();
        let broker = Broker::with(version)
            .option("auth_url", format!("http://{}/auth", deaf.address))
            .option("timeout", "1s")
            .start();
        let (_, waited) = timed(|| Connect::v3("client").login("alice", "secret").unanswered(broker.port()));
        assert!(waited < LONGEST, "{waited:?}");
    });
}

/// In some plugins the failed check of one subscriber ended the delivery to all that came behind it.
#[test]
fn a_reader_who_cannot_be_decided_about_does_not_cost_others_their_message() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_with_limit(version, &api).start();
        let mut readers: Vec<_> = ["alice", "bob", "carol"].map(|name| log_in(&broker, name)).into();
        for reader in &mut readers {
            assert!(reader.may_subscribe("news/#"));
        }
        api.answer_with(|request| match (request.acc(), request.field("username")) {
            (1, "alice") => Reply::status(500),
            (1, "bob") => Reply::Hang,
            _ => Reply::rules(),
        });
        let mut writer = Connect::v3("writer").login("carol", "secret").accepted(broker.port());
        writer.publish("news/1", "x");
        assert_eq!(readers[2].receive(PATIENCE).expect("message").topic, "news/1");
        for reader in &mut readers[..2] {
            reader.ping();
            assert_eq!(reader.receive(Duration::ZERO), None);
        }
    });
}

/// Several questions that get no answer: the broker waits for them together, not for one after the other.
#[test]
fn many_logins_at_a_dead_api_do_not_add_up() {
    on_every_broker(|version| {
        let api = api("user bob secret\nallow all #\n");
        let broker = broker_with_limit(version, &api).start();
        let mut bystander = log_in(&broker, "bob");
        api.answer(Reply::Hang);
        let start = Instant::now();
        let mut clients: Vec<_> = (0..20)
            .map(|number| {
                Connect::v3(format!("c-{number}")).login(format!("user-{number}"), "x").send(broker.port())
            })
            .collect();
        let stall = bystander.ping();
        assert!(stall < LONGEST, "bob waited {stall:?} for his ping");
        for client in &mut clients {
            assert!(client.is_turned_away());
        }
        let waited = start.elapsed();
        assert!(waited < TIMEOUT * 8, "twenty logins took {waited:?}");
    });
}

/// A device that is told that its password is wrong may give up for good, so nobody hears that for want of an answer.
#[test]
fn no_answer_is_told_apart_from_no() {
    on_every_broker(|version| {
        let api = api("");
        let broker = broker_with_limit(version, &api)
            .option("throttle_after", 0)
            .option("deny_cache_ttl", 0)
            .option("breaker_pause", "1h")
            .start();
        let (old, new) =
            (Connect::v3("old").login("alice", "secret"), Connect::v5("new").login("bob", "secret"));
        api.answer(Reply::status(503));
        assert_eq!(old.unanswered(broker.port()), Refusal::Closed);
        // Who waits beside the loop of 2.1 is past the point where the broker would say more.
        assert_eq!(new.unanswered(broker.port()), Refusal::Closed);
        api.answer(Reply::status(403));
        assert_eq!(old.refused(broker.port()), reason::NOT_AUTHORIZED_V3);
        assert_eq!(new.refused(broker.port()), reason::NOT_AUTHORIZED);
        // The API is not asked any more once it has said so to both, so that nobody waits for it.
        api.answer(Reply::status(429).header("Retry-After", "30"));
        new.unanswered(broker.port());
        assert_eq!(old.unanswered(broker.port()), Refusal::Closed);
        let told = if version.is_2_1() { Refusal::Code(reason::SERVER_UNAVAILABLE) } else { Refusal::Closed };
        assert_eq!(new.unanswered(broker.port()), told);
        assert_eq!(api.logins().len(), 6);
    });
}

/// The same where the broker's socket is not the client's alone to read: behind TLS, and in WebSocket frames.
#[test]
fn no_answer_is_told_apart_from_no_behind_tls_and_in_websockets() {
    let authority = Authority::new("test");
    let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(503));
        let broker = broker_with_limit(version, &api)
            .listener(["protocol websockets"])
            .tls_listener(&server, &[])
            .start();
        let connect = Connect::v3("c").login("alice", "secret");
        assert_eq!(connect.clone().over_websocket().unanswered(broker.ports()[1]), Refusal::Closed);
        let mut stream = authority.connect(broker.ports()[2]);
        stream.write_all(&connect.packet()).unwrap();
        let mut answer = Vec::new();
        // The broker may or may not say in TLS's way that it closes the connection.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "it hears something");
        assert_eq!(api.logins().len(), 2);
    });
}
