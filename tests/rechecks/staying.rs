//! A client that is not refused stays, whatever else the API does, and no client waits for a recheck.

use std::thread;
use std::time::Duration;

use super::Way::{PerListener, Plain};
use super::{assert_all_stay, on_every_way_to_every_broker, reload};
use crate::support::{
    Connect, PASSWORD, PATIENCE, Reply, Version, api, assert_unnoticed, eventually, fence, friendly_api,
    on_every_broker,
};

#[test]
fn everybody_stays_whatever_the_api_does() {
    on_every_way_to_every_broker(|version, way| {
        let api = friendly_api();
        let broker = way.to(version, &api).start();
        let mut clients: Vec<_> = (0..way.many())
            .map(|n| way.login(&format!("u{n}"), "secret").accepted(way.port(&broker)))
            .collect();
        let mut survive = |state: &str| {
            let mut bystander = clients.pop().unwrap();
            let what = format!("{way:?}, {state}: a ping beside a reload");
            assert_unnoticed(&what, || {
                let while_it_reloads = || {
                    reload(&broker);
                    thread::sleep(Duration::from_millis(100));
                };
                bystander.longest_ping_during(while_it_reloads).1
            });
            reload(&broker);
            clients.push(bystander);
            assert_all_stay(&mut clients, &format!("{way:?}, {state}"));
        };
        survive("the API says yes");
        api.answer(Reply::status(500));
        survive("the API fails");
        api.answer(Reply::Hang);
        survive("the API never answers");
        api.stop();
        survive("the API is gone");
    });
}

/// On 2.0 the check of a session that others have let in (`defer_status`) looks like a new login.
#[test]
fn whoever_was_left_to_others_is_theirs_at_a_sighup_too() {
    on_every_way_to_every_broker(|version, way| {
        // Without ticks a round never ends, and whoever came later would be taken for such a session.
        if version == Version::V2_0_11 && way == PerListener {
            return;
        }
        let api = api("");
        api.answer_with(|request| {
            Reply::status(if request.field("username") == "known" { 200 } else { 404 })
        });
        let broker = way.to_beside_others(version, &api).start();
        let log_in = |n| way.over(Connect::v5(format!("u{n}")).login("sha512", PASSWORD));
        let mut clients: Vec<_> = (0..way.many()).map(|n| log_in(n).accepted(way.port(&broker))).collect();
        clients.push(way.login("known", "secret").accepted(way.port(&broker)));
        let asked = |name: &str| api.logins().iter().filter(|login| login.field("username") == name).count();
        way.over(Connect::v5("new").login("sha512", "wrong")).refused(way.port(&broker));
        let before = asked("sha512");
        reload(&broker);
        assert!(eventually(PATIENCE, || asked("known") == 2), "{way:?}");
        assert_all_stay(&mut clients, &format!("{way:?}, the API goes on"));
        api.stop();
        reload(&broker);
        assert_all_stay(&mut clients, &format!("{way:?}, the API is gone"));
        assert_eq!(asked("sha512"), before, "{way:?}");
    });
}

#[test]
fn a_crowd_does_not_make_the_broker_stand_still() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Plain.to(version, &api).option("max_requests", 16).start();
        let mut bystander = Plain.login("bystander", "secret").accepted(broker.port());
        let mut crowd: Vec<_> =
            (0..400).map(|n| Plain.login(&format!("u{n}"), "secret").accepted(broker.port())).collect();
        api.answer(Reply::status(200).after(Duration::from_millis(20)));
        // In a row it would be 8 s.
        assert_unnoticed("a ping beside a reload with 400 sessions", || {
            // None of the questions of the reload before is on its way any more, to be joined.
            fence::later_logins(broker.port(), &api);
            api.forget_requests();
            let while_it_reloads = || {
                reload(&broker);
                api.wait_for_requests(401, PATIENCE);
            };
            let ((), stall) = bystander.longest_ping_during(while_it_reloads);
            assert_eq!(api.logins().len(), 401, "everybody is asked about once");
            stall
        });
        let most = api.most_concurrent();
        assert!(most <= 16, "{most} questions at once");
        assert_all_stay(&mut crowd, "400 of them");
    });
}

#[test]
fn reloads_in_a_row_are_no_worse_than_one() {
    on_every_way_to_every_broker(|version, way| {
        let api = friendly_api();
        let broker = way.to(version, &api).start();
        let mut clients: Vec<_> = (0..way.many())
            .map(|n| way.login(&format!("u{n}"), "secret").accepted(way.port(&broker)))
            .collect();
        api.answer(Reply::status(200).after(Duration::from_millis(100)));
        for _ in 0..20 {
            broker.sighup();
            thread::sleep(Duration::from_millis(20));
        }
        reload(&broker);
        assert_all_stay(&mut clients, &format!("{way:?}"));
    });
}

#[test]
fn who_has_no_username_stays_as_the_broker_says() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Plain.to(version, &api).line("allow_anonymous true").start();
        let mut anonymous =
            [Connect::v3("a").accepted(broker.port()), Connect::v5("b").accepted(broker.port())];
        api.answer(Reply::status(403));
        reload(&broker);
        assert_all_stay(&mut anonymous, "anonymous");
    });
}

/// A 404 or a 500 to everybody is a deployment gone wrong, not a word about this client.
#[test]
fn other_answers_disconnect_nobody() {
    on_every_way_to_every_broker(|version, way| {
        let api = friendly_api();
        let broker = way.to(version, &api).start();
        let mut client = way.login("alice", "secret").accepted(way.port(&broker));
        for status in [404, 301, 400, 500, 429] {
            api.forget_requests();
            api.answer(Reply::status(status));
            reload(&broker);
            api.wait_for_requests(1, PATIENCE);
            assert_all_stay([&mut client], &format!("{way:?}, {status}"));
            fence::later_logins(broker.port(), &api);
            assert_all_stay([&mut client], &format!("{way:?}, {status}"));
        }
    });
}

/// Two devices with one name and passwords of their own.
#[test]
fn a_namesake_stays() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Plain.to(version, &api).start();
        let mut one = Connect::v3("one").login("device", "old").accepted(broker.port());
        let mut other = Connect::v3("other").login("device", "new").accepted(broker.port());
        api.answer_with(|request| Reply::status(if request.field("password") == "old" { 403 } else { 200 }));
        reload(&broker);
        assert!(one.wait_until_closed(PATIENCE));
        assert_all_stay([&mut other], "it has another password");
    });
}

/// The broker likes to give a new client the place in memory of one that has gone.
#[test]
fn who_came_back_meanwhile_with_a_new_password_stays() {
    const LATER: Duration = Duration::from_millis(300);
    on_every_broker(|version| {
        let api = api("");
        let broker = Plain.to(version, &api).start();
        for round in 0..5 {
            let device = |password: &str| Connect::v3(format!("device-{round}")).login("device", password);
            let old = format!("old-{round}");
            api.answer(Reply::status(200));
            let client = device(&old).accepted(broker.port());
            api.answer_with(move |request| {
                if request.field("password") == old {
                    Reply::status(403).after(LATER)
                } else {
                    Reply::status(200)
                }
            });
            api.forget_requests();
            reload(&broker);
            api.wait_for_requests(1, PATIENCE);
            drop(client);
            let mut client = device("new").accepted(broker.port());
            fence::later_logins(broker.port(), &api);
            assert_all_stay([&mut client], "it has a good password by now");
        }
    });
}
