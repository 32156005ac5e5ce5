//! SIGHUP: the broker asks about every session once more. Nobody loses anything by that but who is refused
//! by now.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

mod support;
use support::broker::{plugin, plugin_line};
use support::{
    A_WHILE, Broker, Client, Connect, MockApi, PATIENCE, Protocol, Reply, Setup, Version, Will, api,
    assert_unnoticed, broker_asking, eventually, on_every_broker, reason,
};

/// The ways to a broker in which a reload goes differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    /// 2.0 serves these clients between the reload and its next tick.
    WebSockets,
    /// 2.0.11 never ticks.
    PerListener,
}

use Way::{PerListener, Plain, WebSockets};

const WAYS: [Way; 3] = [Plain, WebSockets, PerListener];

impl Way {
    /// How many clients are many. 2.0 needs about a tick for each over WebSockets.
    fn many(self) -> usize {
        if self == WebSockets { 5 } else { 20 }
    }

    /// A broker that remembers no login, so that it has to ask.
    fn to(self, version: Version, api: &MockApi) -> Setup {
        let setup = Broker::with(version).option("auth_url", api.auth_url()).option("auth_cache_ttl", 0);
        match self {
            Plain => setup,
            // 2.0.11 does not start with nothing but such a listener.
            WebSockets => setup.listener(["protocol websockets"]),
            PerListener => setup.global("per_listener_settings true"),
        }
    }

    fn port(self, broker: &Broker) -> u16 {
        if self == WebSockets { broker.ports()[1] } else { broker.port() }
    }

    fn login(self, name: &str, password: &str) -> Connect {
        self.over(Connect::v5(name).login(name, password))
    }

    fn over(self, connect: Connect) -> Connect {
        if self == WebSockets { connect.over_websocket() } else { connect }
    }
}

/// Runs one test for every broker and every way, side by side; a failure names both.
fn on_every_way_to_every_broker(test: impl Fn(Version, Way) + Sync) {
    let test = &test;
    on_every_broker(|version| {
        thread::scope(|scope| {
            for way in WAYS {
                let thread = thread::Builder::new().name(format!("broker {version}, {way:?}"));
                thread.spawn_scoped(scope, move || test(version, way)).unwrap();
            }
        });
    });
}

fn open_api() -> MockApi {
    let api = api("");
    api.answer(Reply::status(200));
    api
}

/// An API that refuses these users with this status from now on.
fn refuse(api: &MockApi, names: &'static [&'static str], status: u16) {
    api.answer_with(move |request| {
        Reply::status(if names.contains(&request.field("username")) { status } else { 200 })
    });
}

/// Sends SIGHUP and waits until the broker reloads. It asks about its sessions before it does anything else.
fn reload(broker: &Broker) {
    let reloads = || broker.log().matches("Reloading config").count();
    let before = reloads();
    // While it is at it, the broker hears no further signal.
    let reloaded = (0..50).any(|_| {
        broker.sighup();
        eventually(PATIENCE / 50, || reloads() > before)
    });
    assert!(reloaded, "mosquitto {} does not reload", broker.version());
}

fn assert_all_stay<'a>(clients: impl IntoIterator<Item = &'a mut Client>, context: &str) {
    for (number, client) in clients.into_iter().enumerate() {
        assert!(client.try_ping(PATIENCE).is_some(), "client {number} is disconnected: {context}");
    }
}

/// Waits until a client is disconnected. 2.0.11 with `per_listener_settings` does nothing by itself, so
/// somebody else comes meanwhile.
fn leaves(broker: &Broker, way: Way, client: &mut Client) -> bool {
    eventually(PATIENCE, || {
        let _ = way.login("somebody else", "x").attempt(way.port(broker));
        client.wait_until_closed(Duration::from_millis(50))
    })
}

// Everybody stays.

#[test]
fn everybody_stays_whatever_the_api_does() {
    on_every_way_to_every_broker(|version, way| {
        let api = open_api();
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

#[test]
fn a_crowd_does_not_make_the_broker_stand_still() {
    on_every_broker(|version| {
        let api = open_api();
        let broker = Plain.to(version, &api).option("max_requests", 16).start();
        let mut bystander = Plain.login("bystander", "secret").accepted(broker.port());
        let mut crowd: Vec<_> =
            (0..400).map(|n| Plain.login(&format!("u{n}"), "secret").accepted(broker.port())).collect();
        api.answer(Reply::status(200).after(Duration::from_millis(20)));
        // In a row it would be 8 s.
        assert_unnoticed("a ping beside a reload with 400 sessions", || {
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
        let api = open_api();
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
        let api = open_api();
        let broker = Plain.to(version, &api).line("allow_anonymous true").start();
        let mut anonymous =
            [Connect::v3("a").accepted(broker.port()), Connect::v5("b").accepted(broker.port())];
        api.answer(Reply::status(403));
        reload(&broker);
        assert_all_stay(&mut anonymous, "anonymous");
    });
}

// Who is refused by now goes.

#[test]
fn who_is_refused_by_now_goes_and_nobody_else() {
    on_every_way_to_every_broker(|version, way| {
        for status in [401, 403] {
            let api = open_api();
            let broker = way.to(version, &api).start();
            let mut revoked = way.login("revoked", "secret").accepted(way.port(&broker));
            let mut others: Vec<_> =
                (0..5).map(|n| way.login(&format!("u{n}"), "secret").accepted(way.port(&broker))).collect();
            refuse(&api, &["revoked"], status);
            reload(&broker);
            assert!(leaves(&broker, way, &mut revoked), "{way:?}: {status}");
            way.login("revoked", "secret").refused(way.port(&broker));
            assert_all_stay(&mut others, &format!("{way:?}"));
            assert!(broker.log().contains("revoked"));
        }
    });
}

/// A 404 or a 500 to everybody is a deployment gone wrong, not a word about this client.
#[test]
fn other_answers_disconnect_nobody() {
    on_every_way_to_every_broker(|version, way| {
        let api = open_api();
        let broker = way.to(version, &api).start();
        let mut client = way.login("alice", "secret").accepted(way.port(&broker));
        for status in [404, 301, 400, 500, 429] {
            api.forget_requests();
            api.answer(Reply::status(status));
            reload(&broker);
            thread::sleep(A_WHILE);
            assert_all_stay([&mut client], &format!("{way:?}, {status}"));
            let _ = way.login("somebody else", "x").attempt(way.port(&broker));
            assert_all_stay([&mut client], &format!("{way:?}, {status}"));
        }
    });
}

/// "Everybody else who was let in before is asked about": whoever takes a device's rights away and then
/// reloads means it.
#[test]
fn a_reload_asks_also_where_an_allow_is_remembered() {
    on_every_broker(|version| {
        let api = open_api();
        let broker = Broker::with(version).option("auth_url", api.auth_url()).start();
        let mut revoked = Plain.login("revoked", "secret").accepted(broker.port());
        refuse(&api, &["revoked"], 403);
        reload(&broker);
        assert!(leaves(&broker, Plain, &mut revoked));
    });
}

/// Many a device has a token for a username and no password.
#[test]
fn who_has_no_password_is_asked_about_too() {
    on_every_way_to_every_broker(|version, way| {
        let api = open_api();
        let broker = way.to(version, &api).start();
        let mut revoked = way.over(Connect::v3("a").username("revoked")).accepted(way.port(&broker));
        let mut other = way.over(Connect::v3("b").username("other")).accepted(way.port(&broker));
        refuse(&api, &["revoked"], 403);
        reload(&broker);
        assert!(leaves(&broker, way, &mut revoked), "{way:?}");
        assert_all_stay([&mut other], &format!("{way:?}"));
    });
}

/// On 2.0.11 with `per_listener_settings` the plugin hears of nothing but this.
#[test]
fn who_is_refused_by_now_goes_by_publishing() {
    on_every_way_to_every_broker(|version, way| {
        let api = open_api();
        let broker = way.to(version, &api).option("acl_url", api.acl_url()).start();
        let mut revoked = way.login("revoked", "secret").accepted(way.port(&broker));
        refuse(&api, &["revoked"], 403);
        reload(&broker);
        api.wait_for_requests(2, PATIENCE);
        // As long as it takes to see that a broker does not tick.
        thread::sleep(Duration::from_secs(3));
        let gone = eventually(PATIENCE, || {
            revoked.publish("news", "x");
            revoked.wait_until_closed(Duration::from_millis(50))
        });
        assert!(gone, "{way:?}");
    });
}

/// Two devices with one name and passwords of their own.
#[test]
fn a_namesake_stays() {
    let api = open_api();
    // 2.0 knows no safe way to disconnect by anything but the username.
    let broker = Plain.to(Version::V2_1, &api).start();
    let mut one = Connect::v3("one").login("device", "old").accepted(broker.port());
    let mut other = Connect::v3("other").login("device", "new").accepted(broker.port());
    api.answer_with(|request| Reply::status(if request.field("password") == "old" { 403 } else { 200 }));
    reload(&broker);
    assert!(one.wait_until_closed(PATIENCE));
    assert_all_stay([&mut other], "it has another password");
}

/// The broker likes to give a new client the place in memory of one that has gone.
#[test]
fn who_came_back_meanwhile_with_a_new_password_stays() {
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
                    Reply::status(403).after(A_WHILE)
                } else {
                    Reply::status(200)
                }
            });
            api.forget_requests();
            reload(&broker);
            api.wait_for_requests(1, PATIENCE);
            drop(client);
            let mut client = device("new").accepted(broker.port());
            thread::sleep(A_WHILE * 2);
            assert_all_stay([&mut client], "it has a good password by now");
        }
    });
}

// Sessions that sleep.

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
        let api = open_api();
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
            thread::sleep(A_WHILE);
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
        let api = open_api();
        let passwords = include_str!("fixtures/passwd-2.0.11");
        let mut broker =
            way.to(version, &api).file("passwords", passwords).option("password_file", "passwords").start();
        let local = |n: usize| {
            let connect = Connect::v5(format!("local-{n}")).login("sha512", "correct horse");
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
        thread::sleep(Duration::from_secs(4));
        reload(&broker);
        api.answer(Reply::status(200));
        for n in 0..way.many() {
            way.login(&format!("sleeper-{n}"), "secret").accepted(way.port(&broker));
        }
        assert!(broker.is_running());
        assert!(broker.terminate().0.success());
    });
}

#[test]
fn a_sleeping_local_user_is_judged_when_it_comes_back() {
    on_every_broker(|version| {
        let api = open_api();
        let before = include_str!("fixtures/passwd-2.0.11");
        let broker =
            Plain.to(version, &api).file("passwords", before).option("password_file", "passwords").start();
        let sleeper = Connect::v5("sleeper").login("sha512", "correct horse").durable().session_expiry(600);
        fall_asleep(&sleeper, broker.port());
        let mut writer = Plain.login("writer", "secret").accepted(broker.port());
        let password_of = |name: &str, other: &str| {
            let hash = before.lines().find_map(|line| line.strip_prefix(&format!("{other}:"))).unwrap();
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
        let api = open_api();
        let broker = Plain
            .to(version, &api)
            .file("passwords", include_str!("fixtures/passwd-2.0.11"))
            .option("password_file", "passwords")
            .option("acl_file", "rules")
            .file("rules", "user sha512\ntopic readwrite #\n")
            .start();
        let mut watcher = Connect::v5("watcher").login("sha512", "correct horse").accepted(broker.port());
        assert!(watcher.may_subscribe("wills/#"));
        let will = Will { topic: b"wills/x".to_vec(), payload: b"gone".to_vec(), qos: 1, retain: false };
        let connect = Connect::v5("x").login("sha512", "correct horse").durable().session_expiry(600);
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

#[test]
fn restored_sessions_are_left_alone() {
    on_every_broker(|version| {
        let api = open_api();
        let mut broker = Plain
            .to(version, &api)
            .global("persistence true")
            .global("persistence_location ./")
            .option("user", local_user("local"))
            .start();
        let sleepers: Vec<_> = (0..10)
            .map(|n| durable(Plain, &format!("sleeper-{n}"), if n < 5 { u32::MAX } else { 600 }))
            .chain([Connect::v3("local").login("local", "correct horse").durable()])
            .collect();
        sleepers.iter().for_each(|sleeper| fall_asleep(sleeper, broker.port()));
        fall_asleep(&durable(Plain, "short", 3), broker.port());
        broker.restart();
        let mut writer = Plain.login("writer", "secret").accepted(broker.port());
        api.answer_with(|request| {
            Reply::status(if request.field("username") == "writer" { 200 } else { 403 })
        });
        reload(&broker);
        reload(&broker);
        thread::sleep(A_WHILE);
        writer.publish_acknowledged("news/1", "kept");
        // Long enough for one of them to end.
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

/// A local user whose password is "correct horse", for the option `user`.
fn local_user(name: &str) -> String {
    let line = include_str!("fixtures/passwd-2.0.11").lines().next().unwrap();
    format!("{name}:{}", line.split_once(':').unwrap().1)
}

// Local users.

#[test]
fn local_users_are_judged_by_the_files_as_just_re_read() {
    on_every_way_to_every_broker(|version, way| {
        let lines = include_str!("fixtures/passwd-2.0.11");
        let hash =
            |name: &str| lines.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        let (good, other) = (hash("sha512"), hash("with space"));
        let api = open_api();
        let before = ["changed", "unchanged", "rehashed", "removed-good", "removed-bad"]
            .map(|name| format!("{name}:{good}\n"))
            .concat();
        let broker =
            way.to(version, &api).file("passwords", before).option("password_file", "passwords").start();
        let mut log_in = |name: &str| way.login(name, "correct horse").accepted(way.port(&broker));
        let mut changed = log_in("changed");
        let mut stay = ["unchanged", "rehashed", "removed-good", "new-good"].map(&mut log_in);
        let mut removed_bad = log_in("removed-bad");
        let mut new_bad = log_in("new-bad");
        assert_eq!(api.logins().len(), 2, "two of them are not local yet");
        let after = format!(
            "unchanged:{good}\nchanged:{other}\nrehashed:{}\nnew-good:{good}\nnew-bad:{other}\n",
            hash("pbkdf2")
        );
        refuse(&api, &["removed-bad", "unchanged", "rehashed", "new-good"], 403);
        api.forget_requests();
        fs::write(broker.folder().join("passwords"), after).unwrap();
        reload(&broker);
        assert!(changed.wait_until_closed(PATIENCE), "{way:?}: the password is another");
        assert!(
            new_bad.wait_until_closed(PATIENCE),
            "{way:?}: it is a local user now, with another password"
        );
        assert!(leaves(&broker, way, &mut removed_bad), "{way:?}: the API refuses it");
        assert_all_stay(&mut stay, &format!("{way:?}"));
        let asked = api.logins();
        for name in ["unchanged", "changed", "rehashed", "new-good", "new-bad"] {
            assert!(!asked.iter().any(|request| request.field("username") == name), "{name} is local");
        }
        reload(&broker);
        assert_all_stay(&mut stay, &format!("{way:?}, the second time"));
    });
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing() {
    on_every_way_to_every_broker(|version, way| {
        let api = open_api();
        let passwords = include_str!("fixtures/passwd-2.0.11");
        let broker =
            way.to(version, &api).file("passwords", passwords).option("password_file", "passwords").start();
        let mut clients = [
            way.login("sha512", "correct horse").accepted(way.port(&broker)),
            way.login("alice", "secret").accepted(way.port(&broker)),
        ];
        fs::write(broker.folder().join("passwords"), "sha512\n").unwrap();
        reload(&broker);
        broker.wait_for_log("passwords", PATIENCE);
        fs::remove_file(broker.folder().join("passwords")).unwrap();
        reload(&broker);
        thread::sleep(A_WHILE);
        assert_all_stay(&mut clients, &format!("{way:?}"));
        way.login("sha512", "correct horse").accepted(way.port(&broker));
        way.login("sha512", "wrong").refused(way.port(&broker));
    });
}

// Strangers.

#[test]
fn strangers_are_asked_about_also_during_a_reload() {
    on_every_way_to_every_broker(|version, way| {
        let api = api("");
        api.answer_with(|request| {
            Reply::status(if request.field("password") == "secret" { 200 } else { 403 })
        });
        let broker = way.to(version, &api).option("throttle_after", 0).option("deny_cache_ttl", 0).start();
        let mut sessions: Vec<_> = (0..way.many())
            .map(|n| way.login(&format!("u{n}"), "secret").accepted(way.port(&broker)))
            .collect();
        for round in 0..way.many() {
            // Both arrive while the broker is at it, or right after.
            let known_name = way.login("u0", "wrong");
            let stranger = way.login(&format!("stranger-{round}"), "wrong");
            let newcomer = way.login(&format!("newcomer-{round}"), "secret");
            broker.sighup();
            let mut pending = [known_name, stranger, newcomer].map(|connect| connect.send(way.port(&broker)));
            let codes = pending.each_mut().map(|client| client.connack(PATIENCE));
            let refused = Some(reason::NOT_AUTHORIZED);
            assert_eq!(codes, [refused, refused, Some(reason::SUCCESS)], "{way:?}, round {round}");
        }
        let asked = |name: String| api.logins().iter().any(|request| request.field("username") == name);
        for round in 0..way.many() {
            assert!(asked(format!("newcomer-{round}")) && asked(format!("stranger-{round}")), "{way:?}");
        }
        assert_all_stay(&mut sessions, &format!("{way:?}"));
    });
}

/// A client may get the place in memory of one that has gone, and in a plugin's eyes 2.0 then tells no more of
/// it than of that one. On 2.0.11 with `per_listener_settings` no tick ends a reload, so it matters for ever.
#[test]
fn who_left_before_a_reload_is_a_stranger_after_it() {
    const CROWD: usize = 100;
    on_every_way_to_every_broker(|version, way| {
        if way == WebSockets {
            return; // 2.0 takes a tick for each of these, and is like Plain then.
        }
        let api = open_api();
        let broker = way.to(version, &api).option("throttle_after", 0).option("deny_cache_ttl", 0).start();
        let port = broker.port();
        // 2.0 does not say whether a session of MQTT 5 is kept: some doubt right after a reload is excused.
        for (connect, protocol, pause) in [
            (Connect::v3 as fn(String) -> Connect, Protocol::V3_1_1, Duration::ZERO),
            (Connect::v5, Protocol::V5, Duration::from_secs(2)),
        ] {
            api.answer(Reply::status(200));
            let logins: Vec<_> =
                (0..CROWD).map(|n| connect(format!("u{n}")).login(format!("u{n}"), "secret")).collect();
            drop(logins.iter().map(|login| login.accepted(port)).collect::<Vec<_>>());
            thread::sleep(A_WHILE);
            reload(&broker);
            api.answer(Reply::status(403));
            thread::sleep(pause);
            // Everybody comes again, in ever other places.
            for shift in 0..20 {
                let mut sockets: Vec<_> = (0..CROWD).map(|_| Client::open(port, protocol)).collect();
                for (place, socket) in sockets.iter_mut().enumerate() {
                    let number = (place + CROWD - 10 + shift) % CROWD;
                    socket.send(&logins[number].packet());
                    let code = socket.connack(PATIENCE);
                    assert_ne!(code, Some(reason::SUCCESS), "{way:?}, {protocol:?}: u{number} is let in");
                }
            }
        }
    });
}

/// A restored session has no address; a client of 2.0.21 has the one that it claims to have.
#[test]
fn nobody_passes_for_a_restored_session() {
    on_every_broker(|version| {
        let api = api("");
        let broker = WebSockets.to(version, &api).option("user", local_user("local")).start();
        let port = WebSockets.port(&broker);
        for claim in
            [&b"X-Forwarded-For: \xff\xfe\r\n"[..], b"X-Forwarded-For: \r\n", b"X-Forwarded-For: x\r\n"]
        {
            for name in ["mallory", "local"] {
                let connect = Connect::v3("x").login(name, "wrong").over_websocket_with(claim);
                let outcome = connect.attempt(port);
                assert!(outcome.is_err(), "{name} is let in with {:?}", String::from_utf8_lossy(claim));
            }
        }
    });
}

/// A connection that is over before the broker takes it has no address, either, and yet its CONNECT is read.
#[test]
fn who_has_hung_up_does_not_pass_for_a_restored_session() {
    on_every_way_to_every_broker(|version, way| {
        if way == WebSockets {
            return; // A connection has to last until the broker has answered its request to upgrade.
        }
        let api = open_api();
        let setup = way.to(version, &api).option("acl_url", api.acl_url());
        let broker = setup.option("user", local_user("local")).option("throttle_after", 0).start();
        let mut watcher = way.login("watcher", "secret").accepted(broker.port());
        assert!(watcher.may_subscribe("#"));
        reload(&broker);
        api.answer_with(|request| Reply::status(if request.path == "/auth" { 403 } else { 200 }));
        for name in ["mallory", "local"] {
            let will = Will { topic: name.into(), payload: b"forged".to_vec(), qos: 0, retain: false };
            let packet = Connect::v3(name).username(name).will(will).packet();
            broker.signal(libc::SIGSTOP);
            for _ in 0..20 {
                let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
                stream.write_all(&packet).unwrap();
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(); // ends it at once
            }
            broker.signal(libc::SIGCONT);
            let message = watcher.receive(A_WHILE);
            assert!(message.is_none(), "{way:?}: somebody speaks for {name}: {message:?}");
        }
    });
}

/// `blocking` on 2.1 is about logins, not about reloads.
#[test]
fn blocking_mode_makes_no_difference() {
    let api = open_api();
    let broker =
        Plain.to(Version::V2_1, &api).option("auth_mode", "blocking").option("deny_cache_ttl", 0).start();
    let mut bystander = Plain.login("bystander", "secret").accepted(broker.port());
    let mut other = Plain.login("other", "secret").accepted(broker.port());
    assert_unnoticed("a ping beside a reload", || {
        api.answer(Reply::status(200));
        let mut revoked = Plain.login("revoked", "secret").accepted(broker.port());
        api.answer_with(|request| {
            let status = if request.field("username") == "revoked" { 403 } else { 200 };
            Reply::status(status).after(Duration::from_secs(1))
        });
        let (is_gone, stall) = bystander.longest_ping_during(|| {
            reload(&broker);
            revoked.wait_until_closed(PATIENCE)
        });
        assert!(is_gone);
        stall
    });
    assert_all_stay([&mut other], "it is allowed");
}

/// Each instance knows its own sessions.
#[test]
fn two_instances_judge_their_own() {
    on_every_broker(|version| {
        let (inside, outside) = (open_api(), open_api());
        let broker = broker_asking(version, &inside)
            .option("auth_cache_ttl", 0)
            .global("per_listener_settings true")
            .listener([
                plugin_line(&plugin()),
                format!("plugin_opt_auth_url {}", outside.auth_url()),
                "plugin_opt_auth_cache_ttl 0".to_owned(),
            ])
            .start();
        let [inner, outer] = *broker.ports() else { panic!("two ports") };
        let mut stays = Connect::v3("a").login("alice", "secret").accepted(inner);
        let mut goes = Connect::v3("b").login("bob", "secret").accepted(outer);
        outside.answer(Reply::status(403));
        reload(&broker);
        assert!(eventually(PATIENCE, || {
            let _ = Connect::v3("c").login("carol", "secret").attempt(outer);
            goes.wait_until_closed(Duration::from_millis(50))
        }));
        assert_all_stay([&mut stays], "its API says yes");
    });
}
