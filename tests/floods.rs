//! A client that floods the broker takes no more than its share of the API, the broker's memory and its log.

use std::thread;
use std::time::Duration;

mod support;
use support::{
    Broker, Client, Connect, ELSEWHERE, MockApi, PATIENCE, Reply, Request, Version, api, broker_asking,
    eventually, friendly_api, log_in, on_every_broker, reason,
};

/// What a flood may add to the memory of the broker: room for a byte budget of each queue and table, and for what an
/// allocator keeps. The floods here are made to need several times as much.
const MOST_GROWTH: usize = 64 << 20;

const READ: u64 = 1;
const WRITE: u64 = 2;

/// Everybody may do everything, but mallory may write nothing.
fn mallory_writes_nothing(request: &Request) -> u16 {
    if request.acc() == WRITE && request.field("username") == "mallory" { 403 } else { 200 }
}

fn readers(broker: &Broker, count: usize, filter: &str) -> Vec<Client> {
    let reader = |number| {
        let mut reader = log_in(broker, &format!("reader-{number}"));
        assert!(reader.may_subscribe(filter));
        reader
    };
    (0..count).map(reader).collect()
}

fn reads(api: &MockApi) -> usize {
    api.topic_checks().iter().filter(|request| request.acc() == READ).count()
}

/// Point 10. Who may not write makes nobody ask about those who would read.
#[test]
fn a_refused_message_costs_no_question_for_its_readers() {
    const READERS: usize = 100;
    const MESSAGES: usize = 20;
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| Reply::status(mallory_writes_nothing(request)));
        let broker = broker_asking(version, &api).start();
        let _readers = readers(&broker, READERS, "news/#");
        let mut mallory = log_in(&broker, "mallory");
        api.forget_requests();
        for number in 0..MESSAGES {
            let code = mallory.publish_acknowledged(format!("news/{number}"), "x");
            assert_eq!(code, reason::NOT_AUTHORIZED);
        }
        // Whatever was asked about them, it was asked before this.
        log_in(&broker, "somebody");
        let (asked, all) = (reads(&api), MESSAGES * READERS);
        assert_eq!(asked, 0, "{MESSAGES} refused messages cost {asked} of {all} questions about readers");
    });
}

/// Point 10. Questions that wait are counted by what they take. The API answers the publisher at once, and nobody
/// about the readers.
#[test]
fn refused_messages_with_long_topics_do_not_fill_the_memory() {
    const READERS: usize = 100;
    const MESSAGES: usize = 400;
    const LENGTH: usize = 30_000;
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| match request.acc() {
            READ => Reply::status(200).after(Duration::from_secs(20)),
            _ => Reply::status(mallory_writes_nothing(request)),
        });
        let broker = broker_asking(version, &api).option("timeout", "30s").start();
        let _readers = readers(&broker, READERS, "news/#");
        let mut mallory = log_in(&broker, "mallory");
        let before = broker.resident_bytes();
        for number in 0..MESSAGES {
            let topic = format!("news/{number}/{}", "x".repeat(LENGTH));
            assert_eq!(mallory.publish_acknowledged(topic, ""), reason::NOT_AUTHORIZED);
        }
        // One client, which has room for a share.
        assert_grew_little(&broker, before, MOST_GROWTH / 8, MESSAGES * LENGTH);
    });
}

/// Point 11. What is kept of a login whose client has hung up is bounded in bytes: it takes more than was sent, since
/// some bytes are written as six in JSON.
#[test]
fn logins_of_clients_that_hang_up_do_not_fill_the_memory() {
    const CLIENTS: usize = 600;
    const LENGTH: usize = 60_000;
    let api = api("");
    api.answer_with(|request| match request.field("username") {
        "honest" => Reply::status(200),
        _ => Reply::status(403).after(Duration::from_secs(20)),
    });
    let broker = broker_asking(Version::V2_1, &api).option("timeout", "30s").start();
    log_in(&broker, "honest");
    let before = broker.resident_bytes();
    for number in 0..CLIENTS {
        let password = [format!("{number}").into_bytes(), vec![1; LENGTH]].concat();
        let name = format!("made-up-{number}");
        drop(Connect::v5(&name).login(&name, password).send(broker.port()));
    }
    // The broker has read what came before this.
    let bystander = Connect::v5("honest").login("honest", "secret").coming_from(ELSEWHERE);
    bystander.accepted(broker.port());
    assert_grew_little(&broker, before, MOST_GROWTH, CLIENTS * LENGTH);
}

/// Watches the memory for a moment: what was sent may still be on its way.
fn assert_grew_little(broker: &Broker, before: usize, at_most: usize, sent: usize) {
    let grown = (0..50).map(|_| {
        thread::sleep(Duration::from_millis(10));
        broker.resident_bytes().saturating_sub(before)
    });
    let most = grown.max().unwrap();
    assert!(most <= at_most, "{} KiB were sent, and the broker grew by {} KiB", sent >> 10, most >> 10);
}

/// Point 18. The broker asks about the retained messages of one SUBSCRIBE one after the other, and is bound to wait
/// for each. Also answers that come in time add up.
#[test]
fn one_subscription_does_not_stop_the_broker_for_each_retained_message() {
    const MESSAGES: u32 = 200;
    const LATENCY: Duration = Duration::from_millis(15);
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).start();
        let mut writer = log_in(&broker, "writer");
        for number in 0..MESSAGES {
            writer.publish_retained(format!("news/{number}"), "x");
        }
        writer.ping();
        let mut bystander = log_in(&broker, "bystander");
        let mut mallory = log_in(&broker, "mallory");
        api.answer_with(|request| match request.acc() {
            READ => Reply::status(200).after(LATENCY),
            _ => Reply::status(200),
        });
        let (_, stall) = bystander.longest_ping_during(|| {
            assert!(mallory.may_subscribe("news/#"));
            mallory.ping();
        });
        let all = MESSAGES * LATENCY;
        assert!(stall < all / 3, "a ping took {stall:?}, the answers one after the other {all:?}");
    });
}

/// Point 20. An API that has too much to do and says "come back at once" is left alone all the same, and the log has
/// a line for that, not for each question.
#[test]
fn an_api_that_says_retry_at_once_fills_no_log() {
    const LOGINS: usize = 60;
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(429).header("Retry-After", "0"));
        let broker = broker_asking(version, &api).start();
        for number in 0..LOGINS {
            let name = format!("made-up-{number}");
            Connect::v5(&name).login(&name, "x").unanswered(broker.port());
        }
        let lines = broker.log().matches("answered 429 (too many requests)").count();
        let asked = api.logins().len();
        // One a second, and the machine may be slow.
        assert!(lines <= 10, "{LOGINS} logins in a moment: {lines} lines, {asked} questions");
    });
}

/// Point 20. The path of a URL may hold a token.
#[test]
fn no_path_of_a_url_is_logged() {
    const TOKEN: &str = "s3cr3t-t0k3n";
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(429));
        let url = |what: &str| format!("http://{}/{TOKEN}/{what}", api.address());
        let broker = Broker::with(version)
            .option("auth_url", url("auth"))
            .option("acl_url", url("acl"))
            .option("breaker_after", 1)
            .start();
        let try_in = |name: &str| drop(Connect::v5(name).login(name, "x").attempt(broker.port()));
        // All that is said about an API: too busy, silent, back again.
        try_in("too-busy");
        thread::sleep(Duration::from_millis(1100));
        api.stop();
        try_in("refused");
        broker.wait_for_log("It is left alone", PATIENCE);
        api.restart().unwrap();
        api.answer(Reply::status(200));
        let is_back = || Connect::v5("back").login("back", "x").attempt(broker.port()).is_ok();
        assert!(eventually(PATIENCE, is_back));
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
        let log = broker.log();
        let own = log.lines().filter(|line| line.contains("mosquitto-http-auth: "));
        let told: Vec<_> = own.filter(|line| line.contains(TOKEN)).collect();
        assert!(told.is_empty(), "{} lines tell the path, such as {:?}", told.len(), told[0]);
    });
}

/// Where READs are implied by subscriptions, the broker asks about each reader of a message, and what one client has
/// subscribed to makes that no slower for the others.
#[test]
fn filters_of_one_client_do_not_make_readers_of_others_slow() {
    const LEVELS: usize = 10;
    const READERS: usize = 100;
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("acl_checks", "write").start();
        let mut listeners = readers(&broker, READERS, &["+"; LEVELS].join("/"));
        let durable = Connect::v3("mallory").login("mallory", "secret").durable();
        let mut mallory = durable.accepted(broker.port());
        let combined = |n: usize| {
            let levels: Vec<_> = (0..LEVELS).map(|bit| if n >> bit & 1 == 1 { "+" } else { "a" }).collect();
            levels.join("/")
        };
        let filters: Vec<_> = (0..1 << LEVELS).map(combined).collect();
        for some in filters.chunks(64) {
            let some: Vec<_> = some.iter().map(|filter| (filter.as_str(), 0)).collect();
            mallory.subscribe(&some);
        }
        // The broker keeps them.
        mallory.disconnect();
        let mut bystander = log_in(&broker, "bystander");
        let mut publisher = log_in(&broker, "publisher");
        // The shortest of three, since the machine has other things to do.
        let mut stall_for = |level: &str| {
            let topic = [level; LEVELS].join("/");
            let stalls = (0..3).map(|_| {
                let ((), stall) = bystander.longest_ping_during(|| {
                    publisher.publish(topic.as_str(), "x");
                    publisher.ping();
                });
                assert!(listeners.iter_mut().all(|listener| listener.receive(PATIENCE).is_some()));
                stall
            });
            stalls.min().unwrap()
        };
        let (matched_by_one, matched_by_all) = (stall_for("b"), stall_for("a"));
        let most = 5 * matched_by_one + Duration::from_millis(50);
        assert!(matched_by_all < most, "{matched_by_all:?}, and {matched_by_one:?} where one filter matches");
    });
}
