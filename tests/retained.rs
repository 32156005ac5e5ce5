//! The retained messages that a new subscription matches: the broker asks about them one after the other, so the plugin
//! asks about them side by side. What is delivered is decided by the API's answer about each of them, as ever.

use std::collections::BTreeSet;
use std::time::Duration;

mod support;
use support::{
    Broker, MockApi, PATIENCE, Reply, Setup, Version, api, broker_asking, eventually, fence, friendly_api,
    log_in, on_every_broker, read_by,
};

const READ: u64 = 1;
const WRITE: u64 = 2;

/// What the API takes for an answer.
const LATENCY: Duration = Duration::from_millis(20);

/// So many messages take four seconds one after the other.
const MESSAGES: usize = 200;

/// `at_once` questions waited for their answers at the same time, out of one for each message.
fn assert_side_by_side(at_once: usize) {
    assert!(
        at_once >= MESSAGES / 10,
        "no more than {at_once} of {MESSAGES} questions were on their way at once"
    );
}

/// MQTT 5: no retained messages, please (section 3.8.3.1).
const NO_RETAINED_MESSAGES: u8 = 2 << 4;

/// An API that says yes, and takes its time for questions of one kind.
fn slow_about(access: u64) -> MockApi {
    let api = api("");
    api.answer_with(move |request| {
        let reply = Reply::status(200);
        if request.acc() == access { reply.after(LATENCY) } else { reply }
    });
    api
}

/// A broker that waits for one client as long as it takes on a busy machine.
fn patient(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api).option("timeout", "30s")
}

/// Has these published and retained.
fn publish<T: AsRef<str>>(broker: &Broker, client_id: &str, topics: impl IntoIterator<Item = T>) {
    let mut writer = log_in(broker, client_id);
    for (number, topic) in topics.into_iter().enumerate() {
        let packet = writer.publish_packet(topic.as_ref().as_bytes(), b"kept", number as u8 % 2, true);
        writer.send(&packet);
        // The broker reads no more than some dozen before they are acknowledged.
        if number % 10 == 9 {
            writer.ping();
        }
    }
    writer.ping();
    writer.disconnect();
}

fn numbered(prefix: &str) -> impl Iterator<Item = String> {
    (0..MESSAGES).map(move |number| format!("{prefix}/{number}"))
}

fn set(topics: &[&str]) -> BTreeSet<String> {
    topics.iter().map(|topic| (*topic).to_owned()).collect()
}

#[test]
fn two_hundred_are_there_in_no_time() {
    for qos in [0, 1] {
        on_every_broker(|version| {
            let api = slow_about(READ);
            let broker = patient(version, &api).start();
            publish(&broker, "writer", numbered("news"));
            let mut reader = log_in(&broker, "reader");
            let (topics, at_once) = api.most_concurrent_during(|| {
                assert_eq!(reader.subscribe(&[("news/+", qos)]), [qos]);
                fence::topics_received(&mut reader, MESSAGES)
            });
            assert_eq!(topics, numbered("news").collect());
            assert_side_by_side(at_once);
            let asked = read_by(&api, "reader");
            let twice: Vec<_> =
                asked.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
            assert!(twice.is_empty(), "{twice:?} asked about twice");
        });
    }
}

/// What wildcards match, and nothing else.
#[test]
fn filters_ask_about_what_they_match() {
    const TOPICS: [&str; 7] = ["a", "a/b", "a/b/c", "b/b/c", "a/x/c", "$private/b/c", "ab"];
    for (filter, expected) in [
        ("a/b", &["a/b"][..]),
        ("a/#", &["a", "a/b", "a/b/c", "a/x/c"]),
        ("+/b/c", &["a/b/c", "b/b/c"]),
        ("a/+/c", &["a/b/c", "a/x/c"]),
        ("+/+/c", &["a/b/c", "a/x/c", "b/b/c"]),
        ("#", &["a", "a/b", "a/b/c", "a/x/c", "ab", "b/b/c"]),
        ("$private/#", &["$private/b/c"]),
    ] {
        on_every_broker(|version| {
            let api = slow_about(READ);
            let broker = patient(version, &api).start();
            publish(&broker, "writer", TOPICS);
            let mut reader = log_in(&broker, "reader");
            assert!(reader.may_subscribe(filter));
            assert_eq!(fence::topics_received(&mut reader, expected.len()), set(expected), "{filter}");
            fence::later_questions(&mut reader, &api);
            assert_eq!(read_by(&api, "reader"), expected, "{filter}");
        });
    }
}

#[test]
fn an_ended_topic_is_not_asked_about() {
    on_every_broker(|version| {
        let api = slow_about(READ);
        let broker = patient(version, &api).start();
        publish(&broker, "writer", ["t/ended", "t/kept"]);
        let mut writer = log_in(&broker, "another");
        writer.publish_retained("t/ended", "");
        writer.ping();
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("t/#"));
        assert_eq!(fence::topics_received(&mut reader, 1), set(&["t/kept"]));
        fence::later_questions(&mut reader, &api);
        assert_eq!(read_by(&api, "reader"), ["t/kept"]);
    });
}

#[test]
fn a_refused_message_is_neither_kept_nor_asked_about() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let is_refused = request.acc() == WRITE && request.field("topic") == "t/refused";
            Reply::status(if is_refused { 403 } else { 200 })
        });
        let broker = patient(version, &api).start();
        publish(&broker, "writer", ["t/refused", "t/kept"]);
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("t/#"));
        fence::later_questions(&mut reader, &api);
        assert_eq!(read_by(&api, "reader"), ["t/kept"]);
    });
}

#[test]
fn who_may_not_read_a_message_does_not_get_it() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let is_odd = request.acc() == READ && request.field("topic").ends_with(['1', '3', '5', '7', '9']);
            Reply::status(if is_odd { 403 } else { 200 }).after(Duration::from_millis(1))
        });
        let broker = patient(version, &api).start();
        publish(&broker, "writer", numbered("news"));
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("#"));
        let even = numbered("news").step_by(2).collect();
        assert_eq!(fence::topics_received(&mut reader, MESSAGES / 2), even);
    });
}

/// Nothing is asked for who may not subscribe, nor for who subscribes with others: those get none (MQTT 5.0, section
/// 4.8.2). Only 2.0.11 gives them to the latter.
#[test]
fn who_gets_no_retained_messages_is_not_asked_about() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let is_refused = request.acc() == 4 && request.field("username") == "mallory";
            Reply::status(if is_refused { 403 } else { 200 })
        });
        let broker = patient(version, &api).start();
        publish(&broker, "writer", numbered("news"));
        let mut mallory = log_in(&broker, "mallory");
        assert!(!mallory.may_subscribe("news/#"));
        let mut sharing = log_in(&broker, "sharing");
        assert!(sharing.may_subscribe("$share/group/news/#"));
        for (client, name) in [(&mut mallory, "mallory"), (&mut sharing, "sharing")] {
            fence::later_questions(client, &api);
            let gets_them = version == Version::V2_0_11 && name == "sharing";
            assert_eq!(read_by(&api, name).len(), if gets_them { MESSAGES } else { 0 });
        }
    });
}

/// Some questions are asked in vain for a client that wants no retained messages, and soon none. When the broker comes
/// after all, it is as for everybody.
#[test]
fn who_wants_no_retained_messages_costs_a_few_questions() {
    on_every_broker(|version| {
        let api = slow_about(READ);
        let broker = patient(version, &api).start();
        for group in 0..8 {
            publish(&broker, "writer", numbered(&format!("news/{group}")));
        }
        let mut reader = log_in(&broker, "reader");
        for group in 0..8 {
            reader.subscribe(&[(&format!("news/{group}/#"), 1 | NO_RETAINED_MESSAGES)]);
            reader.ping();
        }
        fence::later_questions(&mut reader, &api);
        let in_vain = read_by(&api, "reader").len();
        assert!(in_vain <= 2 * MESSAGES, "{in_vain}");
        let (topics, at_once) = api.most_concurrent_during(|| {
            assert!(reader.may_subscribe("news/7/+"));
            fence::topics_received(&mut reader, MESSAGES)
        });
        assert_eq!(topics, numbered("news/7").collect());
        assert_side_by_side(at_once);
    });
}

/// By `check_retain_source` the broker asks whether whoever published a message may still do so.
#[test]
fn publishers_are_asked_about_side_by_side_too() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = patient(version, &api).option("acl_cache_ttl", "2s").start();
        publish(&broker, "writer", numbered("news"));
        std::thread::sleep(Duration::from_millis(2100));
        api.answer_with(|request| {
            let is_topic = request.acc() == READ || request.acc() == WRITE;
            if is_topic { Reply::status(200).after(LATENCY) } else { Reply::status(200) }
        });
        let mut reader = log_in(&broker, "reader");
        let (topics, at_once) = api.most_concurrent_during(|| {
            assert!(reader.may_subscribe("news/#"));
            fence::topics_received(&mut reader, MESSAGES)
        });
        assert_eq!(topics, numbered("news").collect());
        assert_side_by_side(at_once);
    });
}

/// The plugin knows nothing of messages that the broker has read from its disk, until somebody reads them.
#[test]
fn messages_from_the_disk_are_known_the_second_time() {
    on_every_broker(|version| {
        let api = friendly_api();
        let on_disk = |setup: Setup| setup.global("persistence true").global("persistence_location ./");
        let mut broker = on_disk(patient(version, &api)).start();
        publish(&broker, "writer", numbered("news"));
        broker.restart();
        let mut first = log_in(&broker, "first");
        assert!(first.may_subscribe("news/#"));
        assert_eq!(fence::topics_received(&mut first, MESSAGES).len(), MESSAGES);
        api.answer_with(|request| {
            if request.acc() == READ { Reply::status(200).after(LATENCY) } else { Reply::status(200) }
        });
        let mut second = log_in(&broker, "second");
        let (topics, at_once) = api.most_concurrent_during(|| {
            assert!(second.may_subscribe("news/#"));
            fence::topics_received(&mut second, MESSAGES)
        });
        assert_eq!(topics.len(), MESSAGES);
        assert_side_by_side(at_once);
    });
}

/// What another API said counts no more, also if it said so ahead.
#[test]
fn another_api_is_asked_anew() {
    on_every_broker(|version| {
        let (old, new) = (slow_about(READ), api(""));
        new.answer_with(|request| Reply::status(if request.acc() == READ { 403 } else { 200 }));
        let config =
            |api: &MockApi| format!("auth_url = '{}'\nacl_url = '{}'\n", api.auth_url(), api.acl_url());
        let broker = Broker::with(version)
            .option("config_file", "plugin.toml")
            .file("plugin.toml", config(&old))
            .start();
        publish(&broker, "writer", numbered("news"));
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("news/1"));
        assert_eq!(fence::topics_received(&mut reader, 1).len(), 1);
        // Asked ahead and not used.
        reader.subscribe(&[("news/#", 1 | NO_RETAINED_MESSAGES)]);
        fence::later_questions(&mut reader, &old);
        std::fs::write(broker.folder().join("plugin.toml"), config(&new)).unwrap();
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
        assert!(reader.may_subscribe("news/+"));
        assert_eq!(fence::topics_received(&mut reader, 0), set(&[]));
        let asked = || read_by(&new, "reader").len();
        assert!(
            eventually(PATIENCE, || asked() == MESSAGES),
            "{} of {MESSAGES} are asked about anew",
            asked()
        );
    });
}

/// Where nothing can be asked side by side, what one client has the broker wait for is bounded all the same, and is no
/// business of others.
#[test]
fn one_client_has_the_broker_wait_for_no_longer_than_one_question_may_take() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    on_every_broker(|version| {
        let api = slow_about(READ);
        let broker = limited(broker_asking(version, &api)).option("timeout", "1s").start();
        publish(&broker, "writer", numbered("news"));
        let mut bystander = log_in(&broker, "bystander");
        let mut reader = log_in(&broker, "reader");
        let (count, stall) = bystander.longest_ping_during(|| {
            assert!(reader.may_subscribe("news/#"));
            reader.ping();
            fence::topics_received(&mut reader, 0).len()
        });
        assert!(stall < 2 * TIMEOUT, "{stall:?}");
        assert!((10..MESSAGES).contains(&count), "{count} of {MESSAGES} are delivered");
        broker.wait_for_log("the broker has waited long enough", PATIENCE);
        let mut other = log_in(&broker, "other");
        assert!(other.may_subscribe("news/1"));
        assert_eq!(fence::topics_received(&mut other, 1), set(&["news/1"]));
    });
}

/// One question at a time, and none for nothing.
fn limited(setup: Setup) -> Setup {
    setup.option("max_requests", 1).option("cache_size", 1)
}

#[test]
fn where_reads_are_not_asked_nothing_is_asked_ahead() {
    on_every_broker(|version: Version| {
        let api = slow_about(READ);
        let broker = broker_asking(version, &api).option("acl_checks", "write,subscribe").start();
        publish(&broker, "writer", numbered("news"));
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("news/#"));
        assert_eq!(fence::topics_received(&mut reader, MESSAGES).len(), MESSAGES);
        fence::later_questions(&mut reader, &api);
        assert_eq!(read_by(&api, "reader"), [""; 0]);
    });
}
