//! Sessions that sleep lose nothing, and end as they should.

use std::fs;
use std::thread;
use std::time::Duration;

use super::Way::{PerListener, Plain};
use super::{Way, assert_all_stay, leaves, on_every_way_to_every_broker, refuse, reload};
use crate::support::scene::PASSWD_2_0_11;
use crate::support::{
    Connect, PASSWORD, PATIENCE, Reply, Version, Will, api, eventually, fence, friendly_api, hash_in,
    local_user, on_every_broker,
};

/// A session that is kept while its client is away: forever, or for a finite time.
fn durable(way: Way, name: &str, session_expiry: u32) -> Connect {
    way.login(name, "secret").durable().session_expiry(session_expiry)
}

/// Leaves a session that subscribes to `news/#`.
fn fall_asleep(connect: &Connect, port: u16) {
    let mut client = connect.accepted(port);
    assert!(client.subscribe(&[("news/#", 1)])[0] < 0x80);
    client.disconnect();
}

fn assert_gets_queued(connect: &Connect, port: u16, payload: &str, context: &str) {
    let mut client = connect.accepted(port);
    let message = client.receive(PATIENCE).unwrap_or_else(|| panic!("nothing was kept: {context}"));
    assert_eq!(message.payload, payload.as_bytes(), "{context}");
    client.disconnect();
}

#[test]
fn sessions_that_sleep_are_left_alone() {
    on_every_way_to_every_broker(|version, way| {
        // There the broker refuses them itself, without asking anybody.
        if version == Version::V2_0_21 && way == PerListener {
            return;
        }
        let api = friendly_api();
        let broker = way.to(version, &api).start();
        let names: Vec<_> = (0..way.many() / 2).map(|n| format!("sleeper-{n}")).collect();
        let expiry = |n: usize| if n.is_multiple_of(2) { u32::MAX } else { 600 };
        let sleepers: Vec<_> =
            names.iter().enumerate().map(|(n, name)| durable(way, name, expiry(n))).collect();
        sleepers.iter().for_each(|sleeper| fall_asleep(sleeper, way.port(&broker)));
        let mut writer = way.login("writer", "secret").accepted(way.port(&broker));
        for (round, status) in [200, 403, 500, 403].into_iter().enumerate() {
            api.answer_with(move |request| {
                Reply::status(if request.field("username") == "writer" { 200 } else { status })
            });
            reload(&broker);
            fence::later_logins(broker.port(), &api);
            writer.publish_acknowledged("news/1", format!("round {round}"));
            api.answer(Reply::status(200));
            for sleeper in &sleepers {
                let context = format!("{way:?}, the API says {status}");
                assert_gets_queued(sleeper, way.port(&broker), &format!("round {round}"), &context);
            }
        }
        assert_all_stay([&mut writer], "it was never refused");
    });
}

/// 2.0 reads freed memory when a session ends that was refused while it slept.
#[test]
fn sessions_end_as_they_should_after_a_reload() {
    on_every_way_to_every_broker(|version, way| {
        if version == Version::V2_0_21 && way == PerListener {
            return;
        }
        let api = friendly_api();
        let passwords = PASSWD_2_0_11;
        let mut broker =
            way.to(version, &api).file("passwords", passwords).option("password_file", "passwords").start();
        let local = |n: usize| {
            let connect = Connect::v5(format!("local-{n}")).login("sha512", PASSWORD);
            way.over(connect).durable().session_expiry(2)
        };
        for n in 0..way.many() {
            fall_asleep(&durable(way, &format!("sleeper-{n}"), 2), way.port(&broker));
            fall_asleep(&local(n), way.port(&broker));
        }
        // Everybody is refused from now on, as far as anybody knows.
        api.answer(Reply::status(403));
        let removed = passwords.lines().filter(|line| !line.starts_with("sha512:"));
        fs::write(broker.folder().join("passwords"), removed.collect::<Vec<_>>().join("\n")).unwrap();
        reload(&broker);
        reload(&broker);
        let ended = || broker.log().matches("Expiring client").count();
        assert!(eventually(PATIENCE, || ended() == 2 * way.many()), "{way:?}: {} sessions ended", ended());
        reload(&broker);
        api.answer(Reply::status(200));
        for n in 0..way.many() {
            way.login(&format!("sleeper-{n}"), "secret").accepted(way.port(&broker));
        }
        assert!(broker.is_running());
        assert!(broker.terminate().0.success());
    });
}

/// So it does with sessions of which this plugin does not know: those that it left to others (`defer_status`).
#[test]
fn sessions_that_others_let_in_end_as_they_should_after_a_reload() {
    on_every_way_to_every_broker(|version, way| {
        // Without ticks a new login cannot be told from the check of such a session.
        if way == PerListener && !version.is_2_1() {
            return;
        }
        let api = api("");
        api.answer_with(|request| Reply::status(if request.field("username") == "new" { 200 } else { 404 }));
        let mut broker = way.to_beside_others(version, &api).start();
        for n in 0..way.many() {
            let connect = Connect::v5(format!("sleeper-{n}")).login("sha512", PASSWORD);
            fall_asleep(&way.over(connect).durable().session_expiry(2), way.port(&broker));
        }
        // Whoever asked now would be refused.
        api.answer_with(|request| Reply::status(if request.field("username") == "new" { 200 } else { 403 }));
        reload(&broker);
        reload(&broker);
        let ended = || broker.log().matches("Expiring client").count();
        assert!(eventually(PATIENCE, || ended() == way.many()), "{way:?}: {} sessions ended", ended());
        reload(&broker);
        for n in 0..way.many() {
            way.over(Connect::v5(format!("new-{n}")).login("new", "secret")).accepted(way.port(&broker));
        }
        assert!(broker.is_running());
        assert!(broker.terminate().0.success());
    });
}

#[test]
fn a_sleeping_local_user_is_judged_when_it_comes_back() {
    on_every_broker(|version| {
        let api = friendly_api();
        let before = PASSWD_2_0_11;
        let broker =
            Plain.to(version, &api).file("passwords", before).option("password_file", "passwords").start();
        let sleeper = Connect::v5("sleeper").login("sha512", PASSWORD).durable().session_expiry(600);
        fall_asleep(&sleeper, broker.port());
        let mut writer = Plain.login("writer", "secret").accepted(broker.port());
        let password_of = |name: &str, other: &str| {
            let hash = hash_in(before, other);
            fs::write(broker.folder().join("passwords"), format!("{name}:{hash}\n")).unwrap();
        };
        password_of("sha512", "with space");
        reload(&broker);
        writer.publish_acknowledged("news/1", "kept");
        sleeper.refused(broker.port());
        password_of("sha512", "sha512");
        reload(&broker);
        assert_gets_queued(&sleeper, broker.port(), "kept", "the old password is good again");
    });
}

/// A will that is held back is sent, and checked, when its session has slept for a while.
#[test]
fn a_will_that_is_held_back_costs_a_session_nothing() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Plain
            .to(version, &api)
            .file("passwords", PASSWD_2_0_11)
            .option("password_file", "passwords")
            .option("acl_file", "rules")
            .file("rules", "user sha512\ntopic readwrite #\n")
            .start();
        let mut watcher = Connect::v5("watcher").login("sha512", PASSWORD).accepted(broker.port());
        assert!(watcher.may_subscribe("wills/#"));
        let will = Will { topic: b"wills/x".to_vec(), payload: b"gone".to_vec(), qos: 1, retain: false };
        let connect = Connect::v5("x").login("sha512", PASSWORD).durable().session_expiry(600);
        let mut client = connect.clone().will(will).will_delay(1).accepted(broker.port());
        assert!(client.may_subscribe("news/#"));
        drop(client);
        let will = watcher.receive(PATIENCE / 2);
        reload(&broker);
        watcher.publish_acknowledged("news/1", "kept");
        assert_gets_queued(&connect, broker.port(), "kept", "after a reload");
        assert_eq!(will.expect("the will").payload, b"gone");
    });
}

/// Mosquitto 2.0 does not say whether a session stays that started clean.
#[test]
fn a_will_that_is_held_back_is_sent_also_where_the_session_started_clean() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Plain
            .to(version, &api)
            .file("passwords", PASSWD_2_0_11)
            .option("password_file", "passwords")
            .start();
        let mut watcher = Connect::v5("watcher").login("sha512", PASSWORD).accepted(broker.port());
        assert!(watcher.may_subscribe("wills/#"));
        let will = Will { topic: b"wills/x".to_vec(), payload: b"gone".to_vec(), qos: 1, retain: false };
        let connect = Connect::v5("x").login("sha512", PASSWORD).session_expiry(600);
        drop(connect.will(will).will_delay(1).accepted(broker.port()));
        assert_eq!(watcher.receive(PATIENCE / 2).expect("the will").payload, b"gone");
    });
}

#[test]
fn restored_sessions_are_left_alone() {
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = Plain
            .to(version, &api)
            .global("persistence true")
            .global("persistence_location ./")
            .option("user", local_user("local"))
            .start();
        let sleepers: Vec<_> = (0..10)
            .map(|n| durable(Plain, &format!("sleeper-{n}"), if n < 5 { u32::MAX } else { 600 }))
            .chain([Connect::v3("local").login("local", PASSWORD).durable()])
            .collect();
        sleepers.iter().for_each(|sleeper| fall_asleep(sleeper, broker.port()));
        fall_asleep(&durable(Plain, "short", 3), broker.port());
        broker.restart();
        let mut writer = Plain.login("writer", "secret").accepted(broker.port());
        api.answer_with(|request| {
            Reply::status(if request.field("username") == "writer" { 200 } else { 403 })
        });
        reload(&broker);
        fence::later_logins(broker.port(), &api);
        writer.publish_acknowledged("news/1", "kept");
        // Long enough for one of them to end, of which 2.0.11 says nothing.
        thread::sleep(Duration::from_secs(4));
        reload(&broker);
        api.answer(Reply::status(200));
        for sleeper in &sleepers {
            assert_gets_queued(sleeper, broker.port(), "kept", "restored from disk");
        }
        // Now they have connected, and are as any other.
        let mut revoked = sleepers[0].accepted(broker.port());
        refuse(&api, &["sleeper-0"], 403);
        reload(&broker);
        assert!(leaves(&broker, Plain, &mut revoked));
        assert!(broker.terminate().0.success());
    });
}
