//! The queues of sleeping sessions: when a client comes back, the broker asks about each message that waits for it, one
//! after the other, before it does anything else. So the plugin asks about them side by side. What is delivered is
//! decided by the API's answer about each of them, as ever.

use std::thread;
use std::time::Duration;

mod support;
use support::{
    Broker, Connect, Gate, MockApi, PATIENCE, Reply, Setup, Version, broker_asking, eventually, fence,
    friendly_api, log_in, on_every_broker, read_by, reason,
};

const READ: u64 = 1;

/// So many messages take four seconds one after the other.
const MESSAGES: usize = 200;
const LATENCY: Duration = Duration::from_millis(20);

/// Topics are remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(1);

fn forgetful(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api)
        .option("timeout", "30s")
        .option("acl_cache_ttl", "1s")
        .option("stale_ttl", 0)
        .option("auth_cache_ttl", "5m")
        .global("max_inflight_messages 0")
        .global("max_queued_messages 0")
}

fn sleeper() -> Connect {
    Connect::v5("sleeper").login("sleeper", "secret").durable()
}

/// Has a session sleep, messages come for it on these topics, and their verdicts end.
fn fall_asleep(broker: &Broker, topics: &[String]) {
    let mut sleeper = sleeper().accepted(broker.port());
    assert_eq!(sleeper.subscribe(&[("news/#", 1)]), [1]);
    sleeper.disconnect();
    let mut writer = log_in(broker, "writer");
    for topic in topics {
        assert_eq!(writer.publish_acknowledged(topic, "x") & 0x80, 0);
    }
    thread::sleep(REMEMBERED);
}

fn topics() -> Vec<String> {
    (0..MESSAGES).map(|number| format!("news/{number}")).collect()
}

#[test]
fn a_queue_is_asked_about_side_by_side() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = forgetful(version, &api).start();
        let mut expected = topics();
        fall_asleep(&broker, &expected);
        api.forget_requests();
        api.answer(Reply::status(200).after(LATENCY));
        let (delivered, at_once) = api.most_concurrent_during(|| {
            let mut sleeper = sleeper().accepted(broker.port());
            fence::topics_received(&mut sleeper, MESSAGES)
        });
        // On a busy machine answers are late, and then fewer are asked at a time.
        assert!(at_once >= 8, "no more than {at_once} questions were on their way at once");
        expected.sort();
        assert_eq!(delivered.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(read_by(&api, "sleeper"), expected, "each once");
    });
}

#[test]
fn on_2_1_the_connack_waits_for_the_answers_and_nobody_else_does() {
    let api = friendly_api();
    let broker = forgetful(Version::V2_1, &api).start();
    // No more are asked at once until it is known what the API can do.
    const FEW: usize = 6;
    fall_asleep(&broker, &topics()[..FEW]);
    let mut bystander = log_in(&broker, "bystander");
    api.forget_requests();
    let gate = Gate::holding(&api, |request| request.acc() == READ, |_| Reply::status(200));
    let mut sleeper = sleeper().send(broker.port());
    let all_are_asked = eventually(PATIENCE, || read_by(&api, "sleeper").len() == FEW);
    bystander.ping();
    let connack = sleeper.connack(Duration::ZERO);
    gate.open();
    assert!(all_are_asked, "{:?}", read_by(&api, "sleeper"));
    assert_eq!(connack, None);
    assert_eq!(sleeper.connack(PATIENCE), Some(reason::SUCCESS));
    assert_eq!(fence::topics_received(&mut sleeper, FEW).len(), FEW);
}

#[test]
fn who_may_not_read_any_more_gets_nothing() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = forgetful(version, &api).start();
        let topics = &topics()[..10];
        fall_asleep(&broker, topics);
        api.answer_with(|request| {
            let is_denied =
                request.acc() == READ && request.field("topic").ends_with(['1', '3', '5', '7', '9']);
            Reply::status(if is_denied { 403 } else { 200 })
        });
        let mut sleeper = sleeper().accepted(broker.port());
        assert_eq!(fence::topics_received(&mut sleeper, 5), topics.iter().step_by(2).cloned().collect());
    });
}

/// Nothing waits for whoever starts anew, nor for another name under the same id.
#[test]
fn for_who_starts_anew_nothing_is_asked() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = forgetful(version, &api).start();
        fall_asleep(&broker, &topics()[..10]);
        api.forget_requests();
        let mut anew = log_in(&broker, "sleeper");
        fence::later_questions(&mut anew, &api);
        assert_eq!(read_by(&api, "sleeper"), [""; 0]);
        anew.disconnect();
        let mut back = sleeper().accepted(broker.port());
        fence::later_questions(&mut back, &api);
        assert_eq!(read_by(&api, "sleeper"), [""; 0], "it was forgotten");
    });
}
