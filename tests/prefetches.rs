//! `acl_prefetch`: once a client is admitted, the questions that it is expected to raise go out side by side. Where it
//! can wait beside the broker's loop, its CONNACK comes after their answers.

use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::{
    A_WHILE, Broker, Client, Connect, Gate, MockApi, PASSWORD, PATIENCE, Reply, Request, Setup, Version, api,
    api_by_name, broker_asking, by_name, eventually, fence, local_user, on_every_broker, reason,
};

/// A broker that asks ahead for what a device does: take commands, and tell its state.
fn prefetching(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api)
        .option("acl_prefetch", "subscribe cmd/%c/#")
        .option("acl_prefetch", "read cmd/%c/on")
        .option("acl_prefetch", "write state/%u")
        .option("acl_prefetch", "write no/%u")
}

/// The topic questions in a line each, sorted.
fn asked(api: &MockApi) -> Vec<String> {
    let line = |request: &Request| {
        let (username, client_id) = (request.field("username"), request.field("clientid"));
        format!("{username}/{client_id} {} {}", request.acc(), request.field("topic"))
    };
    let mut asked: Vec<_> = api.topic_checks().iter().map(line).collect();
    asked.sort();
    asked
}

const OF_A_DEVICE: [&str; 4] =
    ["user/dev 1 cmd/dev/on", "user/dev 2 no/user", "user/dev 2 state/user", "user/dev 4 cmd/dev/#"];

fn device() -> Connect {
    Connect::v5("dev").login("user", "right")
}

/// Waits until this is asked, and sees that nothing else is.
fn assert_asked_about(device: &mut Client, api: &MockApi, expected: &[&str]) {
    eventually(PATIENCE, || asked(api).len() >= expected.len());
    fence::later_questions(device, api);
    assert_eq!(asked(api), expected);
}

/// Whatever was asked until now has been asked about a device that comes now.
fn assert_next_asked_is_a_device(broker: &Broker, api: &MockApi) {
    let mut device = device().accepted(broker.port());
    assert_asked_about(&mut device, api, &OF_A_DEVICE);
}

/// What was asked ahead needs no API any more.
fn assert_works_without_api(device: &mut Client, api: &MockApi) {
    api.stop();
    assert!(device.may_subscribe("cmd/dev/#"));
    assert_eq!(device.publish_acknowledged("state/user", "x") & 0x80, 0);
    assert_eq!(device.publish_acknowledged("no/user", "x"), reason::NOT_AUTHORIZED);
}

#[test]
fn what_a_device_will_want_is_known_when_it_wants_it() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = prefetching(version, &api).start();
        let mut device = device().accepted(broker.port());
        assert_asked_about(&mut device, &api, &OF_A_DEVICE);
        assert_eq!(api.logins().len(), 1);
        assert_works_without_api(&mut device, &api);
    });
}

/// An API that holds its answers about topics until the gate is opened.
fn held_topics() -> (MockApi, Gate) {
    let api = api("");
    let gate = Gate::holding(&api, |request| request.path == "/acl", by_name);
    (api, gate)
}

#[test]
fn on_2_1_the_connack_waits_for_the_answers_and_nobody_else_does() {
    let (api, gate) = held_topics();
    let broker = prefetching(Version::V2_1, &api)
        .option("timeout", "60s")
        .option("user", local_user("bystander"))
        .start();
    let mut bystander = Connect::v5("bystander").login("bystander", PASSWORD).accepted(broker.port());
    let mut device = device().send(broker.port());
    assert!(eventually(PATIENCE, || asked(&api) == OF_A_DEVICE), "side by side");
    bystander.ping();
    assert!(bystander.may_subscribe("x"));
    bystander.ping();
    assert_eq!(device.connack(Duration::ZERO), None);

    gate.open();
    assert_eq!(device.connack(PATIENCE), Some(reason::SUCCESS));
    assert_works_without_api(&mut device, &api);
    assert_eq!(asked(&api), OF_A_DEVICE);
}

#[test]
fn where_the_broker_waits_for_logins_it_does_not_wait_for_more() {
    on_every_broker(|version| {
        let (api, gate) = held_topics();
        let broker =
            prefetching(version, &api).option("timeout", "60s").option("auth_mode", "blocking").start();
        let mut device = device().accepted(broker.port());
        assert!(eventually(PATIENCE, || asked(&api) == OF_A_DEVICE), "side by side");
        // The broker joins the question that is on its way.
        let subscribe = device.subscribe_packet(&[("cmd/dev/#", 0)]);
        device.send(&subscribe);
        // It does so in silence: nothing shows that it waits.
        thread::sleep(A_WHILE);
        gate.open();
        assert_eq!(device.suback(), [0]);
        fence::later_questions(&mut device, &api);
        assert_works_without_api(&mut device, &api);
        assert_eq!(asked(&api), OF_A_DEVICE);
    });
}

const TIMEOUT: Duration = Duration::from_secs(1);

fn time_to_connack(configure: impl FnOnce(Setup) -> Setup) -> Duration {
    let api = api("");
    api.answer_with(|request| if request.path == "/acl" { Reply::Hang } else { by_name(request) });
    let broker = configure(prefetching(Version::V2_1, &api).option("timeout", "1s")).start();
    let start = Instant::now();
    device().accepted(broker.port());
    start.elapsed()
}

#[test]
fn an_api_that_hangs_on_topics_keeps_nobody_out() {
    let waited = time_to_connack(|setup| setup);
    assert!(waited < 2 * TIMEOUT, "{waited:?}");
}

#[test]
fn the_connack_waits_no_longer_than_one_question_may_take() {
    let waited = time_to_connack(|setup| setup.option("max_requests", 1));
    assert!(waited < 2 * TIMEOUT, "{waited:?}");
}

#[test]
fn who_is_known_waits_for_nothing() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = prefetching(version, &api).start();
        let mut before = device().accepted(broker.port());
        assert_asked_about(&mut before, &api, &OF_A_DEVICE);
        before.disconnect();
        api.stop();
        let mut device = device().accepted(broker.port());
        assert!(device.may_subscribe("cmd/dev/#"));
        assert_eq!(api.requests().len(), 1 + OF_A_DEVICE.len());
    });
}

#[test]
fn who_was_let_in_by_the_cache_is_asked_about_too() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = prefetching(version, &api).start();
        device().accepted(broker.port());
        assert!(eventually(PATIENCE, || asked(&api).len() == OF_A_DEVICE.len()));
        api.forget_requests();
        // The same credentials under another client id: other topics.
        let _other = Connect::v5("other").login("user", "right").accepted(broker.port());
        let expected = [
            "user/other 1 cmd/other/on",
            "user/other 2 no/user",
            "user/other 2 state/user",
            "user/other 4 cmd/other/#",
        ];
        assert!(eventually(PATIENCE, || asked(&api) == expected), "{:?}", asked(&api));
        assert_eq!(api.logins().len(), 0);
    });
}

#[test]
fn for_who_is_refused_nothing_is_asked() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = prefetching(version, &api)
            .line("allow_anonymous true")
            .option("user", local_user("local"))
            .start();
        Connect::v5("dev").login("user", "wrong").refused(broker.port());
        // Nor for whom the API has no say about.
        Connect::v5("local").login("local", PASSWORD).accepted(broker.port());
        Connect::v5("nobody").accepted(broker.port());
        assert_next_asked_is_a_device(&broker, &api);
    });
}

#[test]
fn what_the_api_is_not_asked_about_is_not_asked_ahead() {
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = prefetching(version, &api).option("acl_checks", "write,subscribe").start();
        let mut device = device().accepted(broker.port());
        assert_asked_about(&mut device, &api, &OF_A_DEVICE[1..]);
    });
}

#[test]
fn names_do_not_become_wildcards() {
    for special_chars in ["deny", "allow"] {
        on_every_broker(|version| {
            let api = api_by_name();
            let broker = prefetching(version, &api).option("special_chars", special_chars).start();
            Connect::v5("+").login("#", "right").accepted(broker.port());
            assert_next_asked_is_a_device(&broker, &api);
        });
    }
}

#[test]
fn who_goes_while_it_waits_leaves_its_id_to_others() {
    let (api, gate) = held_topics();
    let broker = prefetching(Version::V2_1, &api).option("timeout", "60s").start();
    let later = || {
        Connect::v5("later").login("stranger", "wrong").refused(broker.port());
    };
    for _ in 0..3 {
        let gone = device().send(broker.port());
        assert!(eventually(PATIENCE, || asked(&api).len() == OF_A_DEVICE.len()));
        drop(gone);
        // The broker takes note of it before it answers who comes later.
        later();
    }
    let mut stranger = Connect::v5("dev").login("stranger", "wrong").send(broker.port());
    assert_eq!(stranger.connack(PATIENCE), Some(reason::NOT_AUTHORIZED));
    let mut back = device().send(broker.port());
    later();
    gate.open();
    assert_eq!(back.connack(PATIENCE), Some(reason::SUCCESS));
    assert!(back.may_subscribe("cmd/dev/#"));
}

#[test]
fn many_devices_at_once_respect_the_bound_and_ask_once() {
    const DEVICES: usize = 20;
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| by_name(request).after(Duration::from_millis(10)));
        let broker = prefetching(version, &api).option("max_requests", 4).option("timeout", "60s").start();
        let mut devices: Vec<_> = (0..DEVICES)
            .map(|n| Connect::v5(format!("d{n}")).login(format!("u{n}"), "right").send(broker.port()))
            .collect();
        for (n, device) in devices.iter_mut().enumerate() {
            assert_eq!(device.connack(PATIENCE), Some(reason::SUCCESS));
            assert!(device.may_subscribe(&format!("cmd/d{n}/#")));
            assert_eq!(device.publish_acknowledged(format!("state/u{n}"), "x") & 0x80, 0);
        }
        assert!(eventually(PATIENCE, || api.topic_checks().len() >= 4 * DEVICES));
        fence::later_questions(&mut devices[0], &api);
        let mut distinct = asked(&api);
        distinct.dedup();
        assert_eq!((distinct.len(), api.topic_checks().len()), (4 * DEVICES, 4 * DEVICES));
        assert!(api.most_concurrent() <= 5, "{} at once", api.most_concurrent());
    });
}

/// Answers that nobody uses leave what is in use alone.
#[test]
fn what_was_prefetched_pushes_out_nothing_that_is_used() {
    const USED: usize = 40;
    on_every_broker(|version| {
        let api = api_by_name();
        let broker = prefetching(version, &api).option("cache_size", 100).start();
        let mut user = Connect::v5("user").login("user", "right").accepted(broker.port());
        let use_all = |user: &mut Client| {
            for n in 0..USED {
                assert_eq!(user.publish_acknowledged(format!("used/{n}"), "x") & 0x80, 0);
            }
        };
        use_all(&mut user);
        for n in 0..30 {
            Connect::v5(format!("d{n}")).login("fleet", "right").accepted(broker.port());
        }
        assert!(eventually(PATIENCE, || asked(&api).len() >= USED + 3 * 30));
        api.forget_requests();
        use_all(&mut user);
        let again: Vec<_> = asked(&api).into_iter().filter(|asked| asked.contains("used/")).collect();
        assert_eq!(again, [""; 0]);
    });
}
