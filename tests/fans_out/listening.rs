//! The API is asked about every subscriber of a message, and about no other client.

use std::thread;
use std::time::{Duration, Instant};

use super::{HeldReads, LISTENERS, listener, listeners, log_in, reads};
use crate::support::{
    Connect, PASSWORD, PATIENCE, Reply, Version, api, broker_asking, fence, friendly_api, local_user,
    on_every_broker, reason,
};

#[test]
fn all_listeners_are_asked_about_while_the_publisher_waits() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let broker = held.start(version, |setup| setup);
        let (mut yes, mut no) = (listener(&broker, "yes", "t/+"), listener(&broker, "no", "t/#"));
        let mut publisher = log_in(&broker, "publisher");
        held.assert_asked_when_published(&mut publisher, "t/1", ["no", "yes"]);
        // What was answered then decides, yes and no alike.
        assert_eq!(yes.receive(PATIENCE).expect("message").topic, "t/1");
        assert_eq!(fence::received(&mut no), []);
        assert_eq!(held.api.topic_checks().len(), 3);
    });
}

#[test]
fn one_message_to_many_takes_a_few_answers_and_each_is_asked_once() {
    let latency = Duration::from_millis(100);
    on_every_broker(|version| {
        let api = friendly_api();
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
        let held = HeldReads::new();
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
        let expected = ["all", "deep", "exact", "plus"];
        let mut asked = held.asked_when_published(&mut publisher, "a/b", expected);
        // The broker itself answers for one of a shared subscription; asking ahead may or may not.
        asked.retain(|name| name != "shared");
        assert_eq!(asked, expected);
    });
}

#[test]
fn a_client_with_several_matching_filters_is_asked_about_once() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let broker = held.start(version, |setup| setup);
        let mut client = log_in(&broker, "c");
        for filter in ["t/1", "t/+", "t/#", "t/1"] {
            assert!(client.may_subscribe(filter));
        }
        let mut publisher = log_in(&broker, "publisher");
        held.assert_asked_when_published(&mut publisher, "t/1", ["c"]);
        assert!(client.receive(PATIENCE).is_some());
    });
}

#[test]
fn who_has_dropped_one_of_two_filters_still_listens() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let broker = held.start(version, |setup| setup);
        let mut both = listener(&broker, "both", "t/1");
        assert!(both.may_subscribe("t/#"));
        both.unsubscribe("t/1");
        let mut shared = listener(&broker, "shared", "t/1");
        assert!(shared.may_subscribe("$share/group/t/1"));
        shared.unsubscribe("$share/group/t/1");
        let mut publisher = log_in(&broker, "publisher");
        held.assert_asked_when_published(&mut publisher, "t/1", ["both", "shared"]);
    });
}

#[test]
fn who_does_not_listen_any_more_is_not_asked_about() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let broker = held.start(version, |setup| setup);
        let port = broker.port();
        let _stays = listener(&broker, "stays", "t");
        let mut unsubscribed = listener(&broker, "unsubscribed", "t");
        unsubscribed.unsubscribe("t");
        listener(&broker, "disconnected", "t").disconnect();
        drop(listener(&broker, "lost", "t"));
        let mut taken_over = listener(&broker, "taken", "t");
        let _heir = Connect::v5("taken").login("taken", PASSWORD).accepted(port);
        assert!(taken_over.wait_until_closed(PATIENCE));
        let mut other_name = listener(&broker, "renamed", "t");
        let _other = Connect::v5("renamed").login("somebody else", PASSWORD).accepted(port);
        assert!(other_name.wait_until_closed(PATIENCE));
        let sleeper = Connect::v5("sleeper").login("sleeper", PASSWORD);
        let mut asleep = sleeper.clone().durable().accepted(port);
        assert!(asleep.may_subscribe("t"));
        asleep.disconnect();
        // Without its session.
        let _awake = sleeper.accepted(port);
        broker.wait_for_log("Client lost ", PATIENCE);
        let mut publisher = log_in(&broker, "publisher");
        held.assert_asked_when_published(&mut publisher, "t", ["stays"]);
    });
}

#[test]
fn who_sleeps_is_still_a_listener() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let broker = held.start(version, |setup| setup);
        let old = Connect::v3("old").login("old", PASSWORD).durable();
        let resumed = Connect::v5("resumed").login("resumed", PASSWORD).durable();
        for login in [&old, &resumed] {
            let mut client = login.accepted(broker.port());
            assert!(client.may_subscribe("t"));
            client.disconnect();
        }
        let mut publisher = log_in(&broker, "publisher");
        held.assert_asked_when_published(&mut publisher, "t", ["old", "resumed"]);
        for login in [&old, &resumed] {
            let mut client = login.accepted(broker.port());
            assert_eq!(client.receive(PATIENCE).expect("queued message").topic, "t");
        }
    });
}

/// A session that starts clean may stay, too (MQTT 5). 2.0 does not say whether it does.
#[test]
fn who_starts_clean_and_sleeps_is_still_a_listener() {
    let held = HeldReads::new();
    let broker = held.start(Version::V2_1, |setup| setup);
    let mut client =
        Connect::v5("clean").login("clean", PASSWORD).session_expiry(3600).accepted(broker.port());
    assert!(client.may_subscribe("t"));
    client.disconnect();
    let mut publisher = log_in(&broker, "publisher");
    held.assert_asked_when_published(&mut publisher, "t", ["clean"]);
}

/// A verdict that is there when the broker comes is as good a sign of life as one that it waits for; so is one
/// that renews another.
#[test]
fn who_is_there_is_asked_about_time_after_time() {
    const LATER: Duration = Duration::from_millis(500);
    // So long that nothing is remembered in the next round, however late a busy machine took this one's answers.
    const BETWEEN: Duration = Duration::from_secs(3);
    on_every_broker(|version| {
        let api = friendly_api();
        let broker =
            broker_asking(version, &api).option("timeout", "60s").option("acl_cache_ttl", "1s").start();
        let sleeper = Connect::v3("sleeper").login("sleeper", PASSWORD).durable();
        let mut client = sleeper.accepted(broker.port());
        assert!(client.may_subscribe("t"));
        client.disconnect();
        let mut awake = listener(&broker, "awake", "t");
        let mut publisher = log_in(&broker, "publisher");
        for round in 0..4 {
            api.forget_requests();
            // The readers' answers are there before the broker can ask.
            api.answer_with(|request| match request.acc() {
                2 => Reply::status(200).after(LATER),
                _ => Reply::status(200),
            });
            assert_eq!(publisher.publish_acknowledged("t", "x") & 0x80, 0);
            assert!(awake.receive(PATIENCE).is_some());
            let asked = api.topic_checks();
            assert_eq!((asked.len(), reads(&api)), (3, vec!["awake".to_owned(), "sleeper".to_owned()]));
            // A publisher's first message may be refused: its readers are asked about once it is allowed.
            let first = usize::from(round == 0);
            let together = asked[2].at - asked[first].at;
            assert!(together < LATER, "the last question comes {together:?} after the first");
            thread::sleep(BETWEEN);
        }
    });
}

/// What a publisher is refused reaches nobody, and says nothing about who is there.
#[test]
fn a_refused_publisher_has_nobody_asked_about_and_nobody_forgotten() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let is_refused = request.acc() == 2 && request.field("username") == "refused";
            Reply::status(if is_refused { 403 } else { 200 })
        });
        let broker = broker_asking(version, &api).option("timeout", "60s").start();
        let mut reader = listener(&broker, "reader", "t/+");
        let mut refused = log_in(&broker, "refused");
        api.forget_requests();
        for n in 0..5 {
            assert_eq!(refused.publish_acknowledged(format!("t/{n}"), "x"), reason::NOT_AUTHORIZED);
        }
        fence::later_questions(&mut refused, &api);
        assert_eq!(reads(&api), [""; 0]);
        log_in(&broker, "publisher").publish_acknowledged("t/5", "x");
        assert_eq!(reader.receive(PATIENCE).expect("message").topic, "t/5");
        assert_eq!(reads(&api), ["reader"]);
    });
}

#[test]
fn local_users_who_listen_are_not_asked_about() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let broker = held.start(version, |setup| setup.option("user", local_user("local")));
        let _local = listener(&broker, "local", "t");
        let _other = listener(&broker, "other", "t");
        let mut publisher = log_in(&broker, "publisher");
        held.assert_asked_when_published(&mut publisher, "t", ["other"]);
    });
}
