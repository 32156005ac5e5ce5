//! A message to many subscribers: the plugin knows who listens, and asks about all of them at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::{
    A_WHILE, Broker, Client, Connect, MockApi, PATIENCE, Reply, Request, Setup, Version, api, broker_asking,
    eventually, on_every_broker, reason,
};

const LISTENERS: usize = 20;

/// An API that holds its answers to WRITE questions until it is told to go on.
struct HeldWrites {
    api: MockApi,
    hold: Arc<AtomicBool>,
}

impl Drop for HeldWrites {
    fn drop(&mut self) {
        self.go_on();
    }
}

impl HeldWrites {
    fn new() -> Self {
        let (api, hold) = (api(""), Arc::new(AtomicBool::new(true)));
        let held = Arc::clone(&hold);
        api.answer_with(move |request| {
            if request.acc() == 2 {
                eventually(3 * PATIENCE, || !held.load(Ordering::Relaxed));
            }
            by_name(request)
        });
        Self { api, hold }
    }

    fn start(&self, version: Version, configure: impl FnOnce(Setup) -> Setup) -> Broker {
        configure(broker_asking(version, &self.api).option("timeout", "60s")).start()
    }

    fn go_on(&self) {
        self.hold.store(false, Ordering::Relaxed);
    }

    /// Who is asked about while the publisher's own question has no answer yet.
    fn asked_when_published(&self, publisher: &mut Client, topic: &str) -> Vec<String> {
        self.api.forget_requests();
        let publish = publisher.publish_packet(topic.as_bytes(), b"x", 1, false);
        publisher.send(&publish);
        assert!(eventually(PATIENCE, || self.api.topic_checks().iter().any(|request| request.acc() == 2)));
        thread::sleep(2 * A_WHILE);
        reads(&self.api)
    }
}

/// Users whose name starts with `no` may read nothing.
fn by_name(request: &Request) -> Reply {
    Reply::status(if request.acc() == 1 && request.field("username").starts_with("no") { 403 } else { 200 })
}

/// The client ids of the READ questions, sorted.
fn reads(api: &MockApi) -> Vec<String> {
    let reads = api.topic_checks().into_iter().filter(|request| request.acc() == 1);
    let mut ids: Vec<_> = reads.map(|request| request.field("clientid").to_owned()).collect();
    ids.sort();
    ids
}

fn log_in(broker: &Broker, name: &str) -> Client {
    Connect::v5(name).login(name, "right").accepted(broker.port())
}

fn listener(broker: &Broker, name: &str, filter: &str) -> Client {
    let mut client = log_in(broker, name);
    assert!(client.may_subscribe(filter));
    client
}

fn listeners(broker: &Broker, count: usize, filter: &str) -> Vec<Client> {
    (0..count).map(|n| listener(broker, &format!("c{n}"), filter)).collect()
}

#[test]
fn all_listeners_are_asked_about_while_the_publisher_waits() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup);
        let (mut yes, mut no) = (listener(&broker, "yes", "t/+"), listener(&broker, "no", "t/#"));
        let mut publisher = log_in(&broker, "publisher");
        assert_eq!(held.asked_when_published(&mut publisher, "t/1"), ["no", "yes"]);

        // What was answered then decides, yes and no alike.
        held.api.answer(Reply::status(500));
        held.go_on();
        assert_eq!(yes.receive(PATIENCE).expect("message").topic, "t/1");
        assert_eq!(no.receive(A_WHILE), None);
        assert_eq!(held.api.topic_checks().len(), 3);
    });
}

#[test]
fn one_message_to_many_takes_a_few_answers_and_each_is_asked_once() {
    let latency = Duration::from_millis(100);
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(200));
        let broker = broker_asking(version, &api).option("timeout", "60s").start();
        let mut clients = listeners(&broker, LISTENERS, "t");
        let mut publisher = log_in(&broker, "publisher");
        api.forget_requests();
        api.answer(Reply::status(200).after(latency));
        let start = Instant::now();
        publisher.publish("t", "x");
        for client in &mut clients {
            assert_eq!(client.receive(PATIENCE).expect("message").topic, "t");
        }
        let last = start.elapsed();
        assert!(last < 8 * latency, "{LISTENERS} listeners, the last after {last:?}");
        assert_eq!(api.topic_checks().len(), 1 + LISTENERS);
        let mut distinct = reads(&api);
        distinct.dedup();
        assert_eq!(distinct.len(), LISTENERS);
    });
}

#[test]
fn filters_match_as_mqtt_says() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup);
        let filters = [
            ("exact", "a/b"),
            ("plus", "a/+"),
            ("deep", "a/b/#"),
            ("all", "#"),
            ("shared", "$share/group/a/+"),
            ("other", "a/c"),
            ("deeper", "a/b/+"),
            ("shorter", "a"),
            ("case", "A/b"),
            ("slash", "/a/b"),
            ("system", "$SYS/a/b"),
        ];
        let _clients: Vec<_> = filters.iter().map(|(name, filter)| listener(&broker, name, filter)).collect();
        let mut publisher = log_in(&broker, "publisher");
        let mut asked = held.asked_when_published(&mut publisher, "a/b");
        // The broker itself answers for one of a shared subscription; asking ahead may or may not.
        asked.retain(|name| name != "shared");
        assert_eq!(asked, ["all", "deep", "exact", "plus"]);
    });
}

#[test]
fn a_client_with_several_matching_filters_is_asked_about_once() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup);
        let mut client = log_in(&broker, "c");
        for filter in ["t/1", "t/+", "t/#", "t/1"] {
            assert!(client.may_subscribe(filter));
        }
        let mut publisher = log_in(&broker, "publisher");
        assert_eq!(held.asked_when_published(&mut publisher, "t/1"), ["c"]);
        held.go_on();
        assert!(client.receive(PATIENCE).is_some());
    });
}

#[test]
fn who_has_dropped_one_of_two_filters_still_listens() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup);
        let mut both = listener(&broker, "both", "t/1");
        assert!(both.may_subscribe("t/#"));
        both.unsubscribe("t/1");
        let mut shared = listener(&broker, "shared", "t/1");
        assert!(shared.may_subscribe("$share/group/t/1"));
        shared.unsubscribe("$share/group/t/1");
        let mut publisher = log_in(&broker, "publisher");
        assert_eq!(held.asked_when_published(&mut publisher, "t/1"), ["both", "shared"]);
    });
}

#[test]
fn who_does_not_listen_any_more_is_not_asked_about() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup);
        let port = broker.port();
        let _stays = listener(&broker, "stays", "t");
        let mut unsubscribed = listener(&broker, "unsubscribed", "t");
        unsubscribed.unsubscribe("t");
        listener(&broker, "disconnected", "t").disconnect();
        drop(listener(&broker, "lost", "t"));
        let mut taken_over = listener(&broker, "taken", "t");
        let _heir = Connect::v5("taken").login("taken", "right").accepted(port);
        assert!(taken_over.wait_until_closed(PATIENCE));
        let mut other_name = listener(&broker, "renamed", "t");
        let _other = Connect::v5("renamed").login("somebody else", "right").accepted(port);
        assert!(other_name.wait_until_closed(PATIENCE));
        let sleeper = Connect::v5("sleeper").login("sleeper", "right");
        let mut asleep = sleeper.clone().durable().accepted(port);
        assert!(asleep.may_subscribe("t"));
        asleep.disconnect();
        // Without its session.
        let _awake = sleeper.accepted(port);
        broker.wait_for_log("Client lost ", PATIENCE);
        let mut publisher = log_in(&broker, "publisher");
        assert_eq!(held.asked_when_published(&mut publisher, "t"), ["stays"]);
    });
}

#[test]
fn who_sleeps_is_still_a_listener() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup);
        let old = Connect::v3("old").login("old", "right").durable();
        let resumed = Connect::v5("resumed").login("resumed", "right").durable();
        for login in [&old, &resumed] {
            let mut client = login.accepted(broker.port());
            assert!(client.may_subscribe("t"));
            client.disconnect();
        }
        let mut publisher = log_in(&broker, "publisher");
        assert_eq!(held.asked_when_published(&mut publisher, "t"), ["old", "resumed"]);
        held.go_on();
        publisher.ping();
        for login in [&old, &resumed] {
            let mut client = login.accepted(broker.port());
            assert_eq!(client.receive(PATIENCE).expect("queued message").topic, "t");
        }
    });
}

/// A session that starts clean may stay, too (MQTT 5). 2.0 does not say whether it does.
#[test]
fn who_starts_clean_and_sleeps_is_still_a_listener() {
    let held = HeldWrites::new();
    let broker = held.start(Version::V2_1, |setup| setup);
    let mut client =
        Connect::v5("clean").login("clean", "right").session_expiry(3600).accepted(broker.port());
    assert!(client.may_subscribe("t"));
    client.disconnect();
    let mut publisher = log_in(&broker, "publisher");
    assert_eq!(held.asked_when_published(&mut publisher, "t"), ["clean"]);
}

impl HeldWrites {
    /// Publishes until nobody is asked about in vain any more, a second after the other. Gives who was.
    fn asked_until_quiet(&self, publisher: &mut Client) -> Vec<String> {
        self.go_on();
        let mut asked = Vec::new();
        for n in 0..10 {
            self.api.forget_requests();
            assert_eq!(publisher.publish_acknowledged(format!("t/{n}"), "x") & 0x80, 0);
            thread::sleep(A_WHILE);
            let ids = reads(&self.api);
            if !asked.is_empty() && ids.is_empty() {
                break;
            }
            asked.extend(ids);
            thread::sleep(Duration::from_secs(1));
        }
        asked
    }
}

#[test]
fn an_expired_session_is_forgotten_sooner_or_later() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup);
        let mut client = Connect::v5("expired")
            .login("expired", "right")
            .durable()
            .session_expiry(1)
            .accepted(broker.port());
        assert!(client.may_subscribe("t/+"));
        client.disconnect();
        let mut publisher = log_in(&broker, "publisher");
        broker.wait_for_log("Expiring client expired", PATIENCE);
        let asked = held.asked_until_quiet(&mut publisher);
        assert!((1..=4).contains(&asked.len()) && asked.iter().all(|name| name == "expired"), "{asked:?}");
    });
}

/// 2.0 does not say that this session does not stay.
#[test]
fn who_resumes_but_leaves_no_session_is_forgotten() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup);
        let mut client =
            Connect::v5("gone").login("gone", "right").durable().session_expiry(0).accepted(broker.port());
        assert!(client.may_subscribe("t/+"));
        client.disconnect();
        let mut publisher = log_in(&broker, "publisher");
        let asked = held.asked_until_quiet(&mut publisher);
        assert!(asked.len() <= 4 && asked.iter().all(|name| name == "gone"), "{asked:?}");
    });
}

/// A verdict that is there when the broker comes is as good a sign of life as one that it waits for; so is one
/// that renews another.
#[test]
fn who_is_there_is_asked_about_time_after_time() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(200));
        let broker =
            broker_asking(version, &api).option("timeout", "60s").option("acl_cache_ttl", "1s").start();
        let sleeper = Connect::v3("sleeper").login("sleeper", "right").durable();
        let mut client = sleeper.accepted(broker.port());
        assert!(client.may_subscribe("t"));
        client.disconnect();
        let mut awake = listener(&broker, "awake", "t");
        let mut publisher = log_in(&broker, "publisher");
        for _ in 0..5 {
            api.forget_requests();
            // The readers' answers are there before the broker can ask.
            api.answer_with(|request| match request.acc() {
                2 => Reply::status(200).after(A_WHILE),
                _ => Reply::status(200),
            });
            assert_eq!(publisher.publish_acknowledged("t", "x") & 0x80, 0);
            assert!(awake.receive(PATIENCE).is_some());
            let asked = api.topic_checks();
            assert_eq!((asked.len(), reads(&api)), (3, vec!["awake".to_owned(), "sleeper".to_owned()]));
            let together = asked[2].at - asked[0].at;
            assert!(together < A_WHILE, "the last question comes {together:?} after the first");
            thread::sleep(Duration::from_secs(1));
        }
    });
}

/// What a publisher is refused reaches nobody, and says nothing about who is there.
#[test]
fn a_refused_publisher_has_nobody_forgotten() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let is_refused = request.acc() == 2 && request.field("username") == "refused";
            Reply::status(if is_refused { 403 } else { 200 })
        });
        let broker = broker_asking(version, &api).option("timeout", "60s").start();
        let _reader = listener(&broker, "reader", "t/+");
        let mut refused = log_in(&broker, "refused");
        for n in 0..5 {
            api.forget_requests();
            assert_eq!(refused.publish_acknowledged(format!("t/{n}"), "x"), reason::NOT_AUTHORIZED);
            thread::sleep(A_WHILE);
            assert_eq!(reads(&api), ["reader"]);
            thread::sleep(Duration::from_secs(1));
        }
    });
}

/// Clients whom somebody else let in are listeners as long as they are there, and no longer.
#[test]
fn a_client_that_another_let_in_is_forgotten_when_it_goes() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let passwords = format!("guest:{RIGHT}\npublisher:{RIGHT}\n");
        let broker = Broker::with(version)
            .global("password_file passwords")
            .global("allow_anonymous false")
            .file("passwords", passwords)
            .option("acl_url", held.api.acl_url())
            .option("timeout", "60s")
            .start();
        let mut guest = Connect::v5("guest").login("guest", "right").accepted(broker.port());
        assert!(guest.may_subscribe("t"));
        guest.disconnect();
        let mut publisher = log_in(&broker, "publisher");
        assert_eq!(held.asked_when_published(&mut publisher, "t"), [""; 0]);
    });
}

/// The hash of `right`.
const RIGHT: &str = "$7$101$MDEyMzQ1Njc4OWFi$oVTkYV/9LKmtx0meTiciG2BkFmKy5yhpM8emDSS4KMeZKfNKWsHNT0OdjZPOTXytWioo\
                     +XuMEP8f6c9a+DB9gw==";

#[test]
fn local_users_who_listen_are_not_asked_about() {
    on_every_broker(|version| {
        let held = HeldWrites::new();
        let broker = held.start(version, |setup| setup.option("user", format!("local:{RIGHT}")));
        let _local = listener(&broker, "local", "t");
        let _other = listener(&broker, "other", "t");
        let mut publisher = log_in(&broker, "publisher");
        assert_eq!(held.asked_when_published(&mut publisher, "t"), ["other"]);
    });
}

/// What the API is asked about one message to so many listeners.
fn questions_about_a_message(
    version: Version,
    configure: impl FnOnce(Setup) -> Setup,
    reply: Reply,
) -> usize {
    let api = api("");
    api.answer(Reply::status(200));
    let broker = configure(broker_asking(version, &api).option("timeout", "60s")).start();
    let _clients = listeners(&broker, LISTENERS, "t");
    let mut publisher = log_in(&broker, "publisher");
    api.forget_requests();
    api.answer_with(move |request| if request.acc() == 1 { reply.clone() } else { Reply::status(200) });
    assert_eq!(publisher.publish_acknowledged("t", "x") & 0x80, 0);
    publisher.ping();
    thread::sleep(A_WHILE);
    reads(&api).len()
}

#[test]
fn where_nothing_is_remembered_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let asked =
            questions_about_a_message(version, |setup| setup.option("acl_cache_ttl", 0), Reply::status(200));
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn where_no_answer_may_be_kept_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let asked = questions_about_a_message(
            version,
            |setup| setup.option("api_cache_control", true),
            Reply::status(200).header("Cache-Control", "no-store"),
        );
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn where_refusals_are_not_remembered_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let asked =
            questions_about_a_message(version, |setup| setup.option("deny_cache_ttl", 0), Reply::status(403));
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn where_there_is_little_room_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let asked =
            questions_about_a_message(version, |setup| setup.option("cache_size", 20), Reply::status(200));
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn an_api_without_answers_is_not_flooded() {
    on_every_broker(|version| {
        let asked =
            questions_about_a_message(version, |setup| setup.option("breaker_after", 0), Reply::status(500));
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn no_more_is_asked_at_once_than_allowed() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(200).after(Duration::from_millis(20)));
        let broker = broker_asking(version, &api).option("timeout", "60s").option("max_requests", 4).start();
        let mut clients = listeners(&broker, LISTENERS, "t");
        log_in(&broker, "publisher").publish_acknowledged("t", "x");
        for client in &mut clients {
            assert!(client.receive(PATIENCE).is_some());
        }
        assert!(api.most_concurrent() <= 5, "{} at once", api.most_concurrent());
    });
}

#[test]
fn reads_that_subscriptions_imply_are_not_asked() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| Reply::status(if request.acc() == 1 { 403 } else { 200 }));
        let broker = broker_asking(version, &api).option("acl_checks", "write,subscribe").start();
        let mut publisher = log_in(&broker, "publisher");
        publisher.publish_retained("t", "kept");
        publisher.ping();
        let mut client = listener(&broker, "c", "t");
        assert_eq!(client.receive(PATIENCE).expect("retained message").payload, b"kept");
        publisher.publish("t", "x");
        assert_eq!(client.receive(PATIENCE).expect("message").payload, b"x");
        assert_eq!(reads(&api), [""; 0]);
        assert_eq!(api.topic_checks().len(), 2);
    });
}

/// A request to the broker's HTTP listener is a READ that no subscription implies.
#[test]
fn reads_of_the_http_listener_are_asked_all_the_same() {
    let api = api("");
    api.answer_with(|request| Reply::status(if request.acc() == 1 { 403 } else { 200 }));
    let broker = broker_asking(Version::V2_1, &api)
        .option("acl_checks", "write,subscribe")
        .listener(["protocol http_api"])
        .start();
    let mut stream = TcpStream::connect(("127.0.0.1", broker.ports()[1])).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // alice:right
    let request = "GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YWxpY2U6cmlnaHQ=\r\n\
                   Connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert_eq!(reads(&api), ["http-api"]);
}
