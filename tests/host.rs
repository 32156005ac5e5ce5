//! Calls of the C interface in orders that a broker could produce and rarely does. `support/fake_broker` loads the
//! plugin and makes them. Whatever comes, only a verdict admits a client or lets a message through.
//!
//! A process has the functions of one broker, and tests look at the state in which a plugin leaves its process. So each
//! test runs this program once more for each broker, with the test's own name, and the scenario is played there, alone.
//! The API stays in this process.
//!
//! `MHA_LAUNCHER` may name a program, with its arguments, that runs the broker, such as valgrind (`make
//! memcheck-host`). Everything may then take ten times as long.

use std::ffi::c_int;
use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

mod support;

#[path = "support/fake_broker/mod.rs"]
mod fake_broker;

#[path = "support/fake_broker/exports.rs"]
mod exports;
#[path = "support/fake_broker/exports_2_1.rs"]
mod exports_2_1;
#[path = "support/fake_broker/library.rs"]
mod library;
#[path = "host/process.rs"]
mod process;

use fake_broker::abi::{
    ACL_CHECK, ACL_DENIED, ALREADY_EXISTS, AUTH, AUTH_DELAYED, BASIC_AUTH, DEFER, DISCONNECT, NO_MEMORY,
    READ, SUBSCRIBE, SUCCESS, TICK, UNKNOWN, UNSUBSCRIBE, WRITE,
};
use fake_broker::step::{
    Connection, NOBODY, Step, THIS, Text, ask, await_completion, check, connect, connection, disconnect,
    empty, log_in, mislabel, reload, tick,
};
use fake_broker::{CallsBack, Instance, Version};
use support::dns::Lookup;
use support::eventually;

use process::{Host, Resources, Stage, in_brokers, paced, seconds, texts};

use Version::{V2_0, V2_1};

const EVERY_VERSION: [Version; 2] = [V2_0, V2_1];

/// A string that an event does not have.
const NULL: Text<'static> = None;

/// A string of an event, of any bytes.
const fn text<const N: usize>(bytes: &'static [u8; N]) -> Text<'static> {
    Some(bytes)
}

/// That the plugin decides as the API does, and no more is open than that.
fn works(stage: &Stage) -> Vec<Step<'static>> {
    let mut steps = vec![
        connect("works good", "good", "good"),
        connect("works no", "no", "no"),
        connect("works gone", "x", "gone"),
        log_in("works good", "secret").gives(SUCCESS),
        log_in("works no", "secret").gives(AUTH),
        log_in("works gone", "secret").gives(no_answer(stage)),
    ];
    for access in [READ, WRITE, SUBSCRIBE] {
        steps.extend([
            check("works good", access, "good").gives(SUCCESS),
            check("works good", access, "no").gives(ACL_DENIED),
            check("works good", access, "gone").gives(ACL_DENIED),
        ]);
    }
    steps.push(disconnect("works good"));
    steps
}

/// What a login ends with that the API gives no answer about. 2.1 lets it wait, and has no other word for its end.
fn no_answer(stage: &Stage) -> c_int {
    if stage.is_2_1() { AUTH } else { UNKNOWN }
}

fn unprepared(host: Host) -> Host {
    host
}

// Starting and stopping.

#[test]
fn it_takes_version_5_of_the_interface_and_no_other() {
    in_brokers(EVERY_VERSION, unprepared, |stage| {
        for (count, list, answer) in [
            (0, &[5][..], -1),
            (-1, &[5], -1),
            (i32::MIN, &[5], -1),
            (1, &[4], -1),
            (1, &[5], 5),
            (2, &[5, 6], 5),
            (2, &[6, 5], 5),
            (1, &[6], -1),
            (4, &[5, 4, 3, 2], 5),
            (4, &[2, 3, 4, 5], 5),
            (3, &[2, 3, 4, 5], -1),
            (4, &[0, -1, i32::MAX, i32::MIN], -1),
        ] {
            assert_eq!(stage.broker.offer(count, Some(list)), answer, "{count} of {list:?}");
        }
        assert_eq!(stage.broker.offer(0, None), -1);
        assert_eq!(stage.broker.offer(3, None), -1);
    });
}

#[test]
fn without_options_it_does_not_start() {
    in_brokers(EVERY_VERSION, unprepared, |stage| {
        let why = "there is nothing to decide with";
        stage.does_not_start(&[], why);
        for (options, count) in [(Some(&[][..]), -1), (None, -1), (None, 0), (None, 1), (None, 2), (None, 3)]
        {
            let (code, instance) = stage.broker.start_with_count(options, count);
            stage.is_left_as_it_was(code, instance, why);
        }
        let (code, instance) = stage.broker.start_without_place(&stage.options());
        assert_ne!(code, SUCCESS);
        assert!(instance.is_nothing());
    });
}

#[test]
fn with_an_option_that_is_wrong_unknown_or_missing_it_does_not_start() {
    in_brokers(EVERY_VERSION, unprepared, |stage| {
        for (name, value, why) in [
            (text(b"no_such_option"), text(b"x"), "no_such_option"),
            (text(b"auth_urll"), text(b"http://127.0.0.1/"), "auth_url"),
            (text(b"acl_checks"), text(b"write,everything"), "everything"),
            (text(b"timeout"), text(b"soon"), "soon"),
            (text(b"timeout"), text(b""), "timeout"),
            (text(b"timeout"), NULL, "timeout"),
            (text(b""), text(b"x"), "plugin_opt_"),
            (NULL, text(b"x"), "plugin_opt_"),
            (NULL, NULL, "plugin_opt_"),
            (text(b"\xff"), text(b"x"), "UTF-8"),
            (text(b"timeout"), text(b"\xff"), "UTF-8"),
            (text(b"password_file"), text(b"/no/such/file"), "/no/such/file"),
        ] {
            let mut options = stage.options();
            options.push((name, value));
            stage.does_not_start(&options, why);
        }
        let instance = stage.start();
        instance.play(works(stage));
        stage.broker.stop(instance);
    });
}

#[test]
fn in_a_broker_without_a_function_that_it_needs_it_does_not_start() {
    for function in [
        "mosquitto_callback_register",
        "mosquitto_callback_unregister",
        "mosquitto_client_address",
        "mosquitto_client_clean_session",
        "mosquitto_client_id",
        "mosquitto_client_username",
    ] {
        in_brokers(
            EVERY_VERSION,
            |host| host.lacking(function),
            |stage| stage.does_not_start(&stage.options(), "has not all functions of a broker"),
        );
    }
}

/// No broker is like these; but nothing is open for it.
#[test]
fn in_a_broker_without_a_function_that_it_can_do_without_it_decides_rightly() {
    for function in [
        "mosquitto_client_protocol_version",
        "mosquitto_kick_client_by_clientid",
        "mosquitto_kick_client_by_username",
        "mosquitto_client",
        "mosquitto_plugin_set_info",
    ] {
        in_brokers(
            [V2_1],
            |host| host.lacking(function),
            |stage| {
                let instance = stage.start();
                instance.play(works(stage).into_iter().chain([reload()]).chain(works(stage)));
                stage.broker.stop(instance);
            },
        );
    }
}

#[test]
fn if_the_broker_refuses_a_callback_nothing_is_left_behind() {
    in_brokers(EVERY_VERSION, unprepared, |stage| {
        let mut refused = 0;
        let events = if stage.is_2_1() { 1..31 } else { 1..11 };
        for event in events {
            stage.broker.refuse(event);
            let (code, instance) = stage.broker.start(&stage.options());
            if stage.broker.has_refused() {
                assert_eq!(code, NO_MEMORY);
                assert!(instance.is_nothing());
                refused += 1;
            } else {
                assert_eq!(code, SUCCESS);
                instance.play(works(stage));
            }
            stage.broker.stop(instance);
        }
        // Logins, topics, reloads, ticks, and who comes and goes.
        assert_eq!(refused, if stage.is_2_1() { 7 } else { 5 });
    });
}

#[test]
fn a_second_line_for_the_same_file_takes_nothing_from_the_first() {
    in_brokers(EVERY_VERSION, unprepared, |stage| {
        let instance = stage.start();
        let (code, user_data) = stage.broker.start_again(instance, &stage.options());
        assert_eq!(code, ALREADY_EXISTS);
        assert!(user_data.is_null() && stage.broker.has_logged("another plugin line names this same file"));
        // The first is none the worse for it.
        instance.play(works(stage));
        stage.broker.stop(instance);
    });
}

fn starts_and_stops_a_hundred_times(stage: &mut Stage, between: impl Fn(&mut Stage)) {
    let mut after_the_first = None;
    for round in 0..100 {
        if round > 0 {
            between(stage);
        }
        let instance = stage.start();
        instance.play([
            connect("good", "good", "good"),
            log_in("good", "secret").gives(SUCCESS),
            check("good", READ, "good").gives(SUCCESS),
            check("good", READ, "no").gives(ACL_DENIED),
        ]);
        stage.broker.stop(instance);
        after_the_first.get_or_insert_with(Resources::now);
        stage.broker.take_log();
    }
    assert_eq!(after_the_first, Some(Resources::now()));
}

#[test]
fn it_starts_and_stops_a_hundred_times_and_leaves_nothing_behind() {
    in_brokers(EVERY_VERSION, unprepared, |stage| starts_and_stops_a_hundred_times(stage, |_| {}));
}

#[test]
fn also_if_the_broker_closes_the_library_each_time() {
    in_brokers(EVERY_VERSION, unprepared, |stage| {
        starts_and_stops_a_hundred_times(stage, Stage::reload_library);
    });
}

#[test]
fn it_stops_with_questions_in_flight_and_is_silent_then() {
    let prepare = |host: Host| host.timeout(Duration::from_millis(300));
    in_brokers(EVERY_VERSION, prepare, |stage| {
        let before = Resources::now();
        let instance = stage.start();
        assert_eq!(Resources::now().threads, before.threads);
        instance.play([connect("good", "good", "good"), log_in("good", "secret").gives(SUCCESS)]);
        // In 2.0 the broker waits for each of them.
        let (waiting, code) = if stage.is_2_1() { (50, AUTH_DELAYED) } else { (2, UNKNOWN) };
        for number in 0..waiting {
            let name = format!("hang-{number}");
            let name = name.as_str();
            instance.play([connect(name, name, name), ask(name, "secret").gives(code)]);
        }
        instance.play([
            check("good", WRITE, "hang").gives(ACL_DENIED),
            // This one is answered when everything is over.
            check("good", WRITE, "slow").gives(ACL_DENIED),
        ]);
        assert!(Resources::now().threads > before.threads);
        let begin = Instant::now();
        stage.broker.stop(instance);
        assert!(begin.elapsed() < paced(seconds(2)), "{:?}", begin.elapsed());
        assert_eq!(Resources::now(), before);
        stage.broker.end();
        thread::sleep(paced(Duration::from_millis(1500)));
    });
}

/// A look-up of the system cannot be ended. What comes of it finds the code still there, though the library is closed,
/// and disturbs nobody.
#[test]
fn it_stops_and_is_unloaded_while_a_name_is_looked_up() {
    let answering_late = Lookup::After(paced(seconds(3)), Ipv4Addr::LOCALHOST);
    let prepare = |host: Host| {
        let host = host.asking("http://api.example/auth", "http://api.example/acl");
        host.asking_for_names(answering_late)
    };
    in_brokers(EVERY_VERSION, prepare, |stage| {
        let before = Resources::now();
        let instance = stage.start();
        instance.play([connect("x", "x", "x"), check("x", WRITE, "news").gives(ACL_DENIED)]);
        let begin = Instant::now();
        stage.broker.stop(instance);
        assert!(begin.elapsed() < paced(seconds(1)), "{:?}", begin.elapsed());
        stage.reload_library();
        // Where there is no name server, there is nothing to wait for.
        let ended = || Resources::now() == before;
        assert!(!ended() || fs::read_to_string("hosts").is_err(), "nothing is looked up any more");
        assert!(eventually(paced(seconds(15)), ended), "{:?}", Resources::now());
    });
}

#[test]
fn two_instances_share_no_verdict_and_no_user() {
    let prepare = |host: Host| {
        let nobody = host.api.auth_url().replace("/auth", "/nobody");
        host.local_user().second().asking(&nobody, &nobody)
    };
    in_brokers(EVERY_VERSION, prepare, |stage| {
        let (one, other) = (stage.start(), stage.start_with(&texts(&stage.given[1])));
        one.play([
            connect("local", "c", "local"),
            connect("same local", "c", "local"),
            connect("good", "d", "good"),
            connect("same good", "d", "good"),
        ]);
        // The second time from memory.
        for _ in 0..2 {
            one.play([log_in("local", "correct horse").gives(SUCCESS)]);
            other.play([log_in("same local", "correct horse").gives(AUTH)]);
            one.play([log_in("good", "secret").gives(SUCCESS)]);
            other.play([log_in("same good", "secret").gives(AUTH)]);
            one.play([check("local", WRITE, "no").gives(SUCCESS)]);
            other.play([check("same local", WRITE, "no").gives(ACL_DENIED)]);
            one.play([check("good", WRITE, "good").gives(SUCCESS), tick()]);
            other.play([check("same good", WRITE, "good").gives(ACL_DENIED), tick()]);
        }
        stage.broker.stop(one);
        other.play([
            log_in("same local", "correct horse").gives(AUTH),
            check("same good", WRITE, "good").gives(ACL_DENIED),
        ]);
        let one = stage.start();
        stage.broker.stop(other);
        one.play(works(stage));
        stage.broker.stop(one);
    });
}

// Reloads.

#[test]
fn after_a_reload_that_fails_everything_is_as_it_was() {
    let prepare = |host: Host| {
        let mut host = host.local_user();
        let config = host.folder.path().join("options.toml");
        fs::write(&config, format!("acl_url = \"{}\"\n", host.api.acl_url())).unwrap();
        host.options.retain(|option| !option.starts_with("acl_url"));
        // Under a memory checker one hash takes longer than the default `login_wait`.
        host.option("config_file", config.display()).option("login_wait", 0)
    };
    in_brokers(EVERY_VERSION, prepare, |stage| {
        let path = stage.option("config_file");
        let good = fs::read_to_string(&path).unwrap();
        let instance = stage.start();
        instance.play([
            reload(),
            connect("local", "c", "local"),
            connect("wrong", "w", "local"),
            log_in("local", "correct horse").gives(SUCCESS),
        ]);
        let mut before = None;
        for round in 0..20 {
            if round % 2 == 0 {
                fs::write(&path, "no_such_option = \"x\"\n").unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            instance.play([reload()]);
            let log = stage.broker.take_log();
            assert!(log.iter().any(|line| line.contains("Nothing was taken over")), "{log:?}");
            instance.play([
                // The broker asks about its session once more; anything but this would disconnect it.
                ask("local", "correct horse").gives(SUCCESS),
                tick(),
                log_in("wrong", "wrong").gives(AUTH),
                check("local", WRITE, "no").gives(SUCCESS),
            ]);
            instance.play(works(stage));
            if round == 1 {
                before = Some(Resources::now());
            }
        }
        assert_eq!(before, Some(Resources::now()));
        // A file that leaves nothing to ask about topics: their checks go, and come back with the next.
        fs::write(&path, "acl_url = \"none\"\n").unwrap();
        instance.play([reload()]);
        assert!(!instance.has_callback(ACL_CHECK));
        fs::write(&path, good).unwrap();
        instance.play([reload()].into_iter().chain(works(stage)));
        stage.broker.stop(instance);
    });
}

// What is in events, and when they come.

#[test]
fn logins_without_a_name_an_id_or_a_password_are_no_way_in() {
    in_brokers(EVERY_VERSION, Host::local_user, |stage| {
        let instance = stage.start();
        let home = text(b"192.0.2.1");
        for (id, username, address, password, code) in [
            (text(b"c"), NULL, home, NULL, DEFER),
            (text(b"c"), text(b""), home, NULL, DEFER),
            (NULL, NULL, NULL, NULL, DEFER),
            (text(b"c"), NULL, home, text(b"secret"), AUTH),
            (text(b"c"), text(b""), home, text(b""), AUTH),
            (text(b"c"), text(b"good"), home, NULL, SUCCESS),
            (text(b"c"), text(b"good"), home, text(b""), SUCCESS),
            (NULL, text(b"good"), NULL, NULL, SUCCESS),
            (NULL, text(b"no"), NULL, NULL, AUTH),
            (text(b""), text(b"no"), text(b""), text(b""), AUTH),
            (NULL, text(b"gone"), NULL, NULL, no_answer(stage)),
            (text(b"c"), text(b"\xff"), home, text(b"secret"), AUTH),
            (text(b"c"), text(b"good"), home, text(b"\xff"), AUTH),
            (text(b"\xff"), text(b"good"), home, text(b"secret"), AUTH),
            (text(b"c"), text(b"good"), text(b"\xff"), text(b"secret"), AUTH),
            // Of a local user nobody is asked.
            (text(b"c"), text(b"local"), home, text(b"correct horse"), SUCCESS),
            (NULL, text(b"local"), NULL, NULL, AUTH),
            (text(b"c"), text(b"local"), home, text(b""), AUTH),
            (text(b"c"), text(b"local"), home, text(b"\xff"), AUTH),
        ] {
            instance.play([
                connection("odd", Connection { id, address, username, ..Connection::default() }),
                log_in("odd", password).gives(code),
            ]);
        }
        instance.play([
            ask(NOBODY, None).gives(AUTH),
            ask(NOBODY, "secret").gives(AUTH),
            empty(BASIC_AUTH).gives(AUTH),
        ]);
        instance.play(works(stage));
        stage.broker.stop(instance);
    });
}

#[test]
fn topic_checks_without_a_name_a_topic_or_a_known_access_are_no_way_through() {
    in_brokers(EVERY_VERSION, Host::local_user, |stage| {
        let instance = stage.start();
        let home = text(b"192.0.2.1");
        for (id, username, address, topic, code) in [
            (text(b"c"), text(b"good"), home, text(b"good"), SUCCESS),
            (text(b"c"), text(b"good"), home, text(b""), SUCCESS),
            (NULL, text(b"good"), NULL, text(b"good"), SUCCESS),
            (NULL, text(b"good"), NULL, text(b"no"), ACL_DENIED),
            (text(b"c"), text(b"good"), home, NULL, ACL_DENIED),
            (text(b"c"), text(b"good"), home, text(b"\xff"), ACL_DENIED),
            (text(b"c"), text(b"good"), text(b"\xff"), text(b"good"), ACL_DENIED),
            (text(b"c"), text(b"\xff"), home, text(b"good"), ACL_DENIED),
            (text(b"\xff"), text(b"good"), home, text(b"good"), ACL_DENIED),
            (text(b"c"), NULL, home, text(b"good"), ACL_DENIED),
            (text(b"c"), text(b""), home, text(b"good"), ACL_DENIED),
            (NULL, NULL, NULL, NULL, ACL_DENIED),
            (text(b"+"), text(b"good"), home, text(b"good"), ACL_DENIED),
            (text(b"c"), text(b"#"), home, text(b"good"), ACL_DENIED),
            // A local user has rights only where the password was checked.
            (text(b"c"), text(b"local"), home, text(b"no"), ACL_DENIED),
        ] {
            instance.play([connection("odd", Connection { id, address, username, ..Connection::default() })]);
            for access in [READ, WRITE, SUBSCRIBE] {
                instance.play([check("odd", access, topic).gives(code)]);
            }
        }
        instance.play([
            check(NOBODY, READ, "good").gives(ACL_DENIED),
            empty(ACL_CHECK).gives(ACL_DENIED),
            connect("good", "c", "good"),
            connect("local", "l", "local"),
            log_in("local", "correct horse").gives(SUCCESS),
        ]);
        for access in [0, 3, 5, 6, 7, 9, 16, 255, 257, -1, i32::MAX, i32::MIN] {
            instance.play(["good", "local"].map(|who| check(who, access, "good").gives(ACL_DENIED)));
        }
        instance.play([
            // Who wants less may.
            check("good", UNSUBSCRIBE, "never subscribed").gives(SUCCESS),
            check("good", UNSUBSCRIBE, None).gives(SUCCESS),
            // But an event without a client is malformed.
            check(NOBODY, UNSUBSCRIBE, None).gives(ACL_DENIED),
        ]);
        instance.play(works(stage));
        stage.broker.stop(instance);
    });
}

/// Callbacks are told which event it is, and none of them may take another's word for an answer of its own.
#[test]
fn numbers_of_events_change_no_answer() {
    in_brokers(EVERY_VERSION, unprepared, |stage| {
        let instance = stage.start();
        instance.play([
            connect("good", "c", "good"),
            connect("no", "n", "no"),
            log_in("good", "secret").gives(SUCCESS),
            log_in("no", "secret").gives(AUTH),
        ]);
        for number in [0, -1, 6, 11, 27, 29, 255, i32::MAX, i32::MIN] {
            instance.play([
                mislabel(Some(number)),
                ask("no", "secret").gives(AUTH),
                check("good", READ, "no").gives(ACL_DENIED),
                disconnect("no"),
                tick(),
            ]);
        }
        instance.play([mislabel(None)].into_iter().chain(works(stage)));
        stage.broker.stop(instance);
    });
}

/// Who goes twice, or was never there; ticks and reloads before anybody has come.
#[test]
fn events_that_come_too_early_twice_or_for_nobody_change_no_answer() {
    in_brokers(EVERY_VERSION, Host::local_user, |stage| {
        let instance = stage.start();
        instance.play([
            tick(),
            empty(TICK).gives(SUCCESS),
            empty(DISCONNECT).gives(SUCCESS),
            disconnect(NOBODY),
            connection("nameless", Connection::default()),
            disconnect("nameless"),
            connect("without username", "x", None),
            disconnect("without username"),
            connect("odd", b"\xff", b"\xff"),
            disconnect("odd"),
            reload(),
            reload(),
            reload(),
        ]);
        instance.play([
            connect("local", "l", "local"),
            // Another connection of that id, let in by nobody.
            connect("same", "l", "local"),
            disconnect("local"),
            log_in("local", "correct horse").gives(SUCCESS),
            check("local", SUBSCRIBE, "no").gives(SUCCESS),
            check("same", SUBSCRIBE, "no").gives(ACL_DENIED),
            disconnect("same"),
            check("local", SUBSCRIBE, "no").gives(SUCCESS),
            disconnect("local"),
            disconnect("local"),
            tick(),
            check("local", SUBSCRIBE, "no").gives(ACL_DENIED),
        ]);
        instance.play(works(stage));
        stage.broker.stop(instance);
    });
}

#[test]
fn a_tick_is_wanted_early_only_where_nothing_else_brings_it_about() {
    let prepare = |host: Host| host.timeout(Duration::from_millis(300));
    in_brokers(EVERY_VERSION, prepare, |stage| {
        for can_wake in [true, false] {
            if !can_wake {
                library::occupy_signal(libc::SIGWINCH);
            }
            let wants_tick_early = |instance: Instance| {
                instance.play([tick()]);
                stage.broker.wants_tick_early()
            };
            let instance = stage.start();
            assert!(!wants_tick_early(instance));
            let code = if stage.is_2_1() { AUTH_DELAYED } else { UNKNOWN };
            instance.play([connect("hang", "hang", "hang"), ask("hang", "secret").gives(code)]);
            assert_eq!(wants_tick_early(instance), stage.is_2_1() && !can_wake);
            if stage.is_2_1() {
                instance.play([await_completion("hang").gives(AUTH)]);
            }
            assert!(!wants_tick_early(instance));
            stage.broker.stop(instance);
        }
    });
}

/// Calls from inside the broker's own functions, which it makes for wills, sessions that end, and its log.
#[test]
fn the_broker_may_call_back_while_it_is_called() {
    in_brokers(EVERY_VERSION, unprepared, |stage| {
        let instance = stage.start();
        instance.play([
            connect("subscriber", "subscriber", "good"),
            log_in("subscriber", "secret").gives(SUCCESS),
        ]);
        let will_and_messages = || {
            vec![
                check(THIS, WRITE, "good").gives(SUCCESS),
                check(THIS, WRITE, "no").gives(ACL_DENIED),
                check("subscriber", READ, "good").gives(SUCCESS),
            ]
        };
        stage.broker.call_back(CallsBack {
            at_each_line: vec![check("subscriber", READ, "$SYS/broker/log/no").gives(ACL_DENIED)],
            at_each_completion: will_and_messages(),
            at_each_kick: will_and_messages(),
        });
        instance.play(works(stage));
        // The API says yes once, and no when it is asked again.
        instance.play([
            connect("revoked", "r", "once"),
            log_in("revoked", "secret").gives(SUCCESS),
            reload(),
            ask("revoked", "secret").gives(SUCCESS),
        ]);
        let deadline = Instant::now() + paced(seconds(20));
        while stage.broker.is_connected("revoked") {
            assert!(Instant::now() < deadline, "{:?}", stage.broker.take_log());
            instance.play([tick()]);
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(stage.broker.kicks(), 1);
        assert_eq!(stage.broker.completions() > 0, stage.is_2_1());
        assert!(stage.broker.take_log().len() > 3);
        // Worse than any broker: each line is the cause of the next.
        stage.broker.call_back(CallsBack {
            at_each_line: vec![check("subscriber", READ, "no").gives(ACL_DENIED)],
            ..CallsBack::default()
        });
        instance.play([check("subscriber", READ, "no more").gives(ACL_DENIED)]);
        let lines = stage.broker.take_log().len();
        assert!((11..200).contains(&lines), "{lines} lines");
        stage.broker.stop(instance);
    });
}

/// The HTTP listener of 2.1 calls on a thread of its own.
#[test]
fn another_thread_that_waits_holds_up_nobody() {
    in_brokers([V2_1], unprepared, |stage| {
        let instance = stage.start();
        let api = stage.broker.http_api(instance);
        let asks = thread::spawn(move || {
            assert_eq!(api.ask("slow", "secret"), SUCCESS);
            assert_eq!(api.ask("no", "secret"), AUTH);
            assert_eq!(api.check("good", READ, "slow/2"), SUCCESS);
            for _ in 0..1000 {
                assert_eq!(api.check("good", READ, "good"), SUCCESS);
                assert_eq!(api.check("good", READ, "no"), ACL_DENIED);
            }
        });
        thread::sleep(Duration::from_millis(100));
        let begin = Instant::now();
        instance.play(works(stage));
        assert!(begin.elapsed() < paced(Duration::from_millis(700)), "{:?}", begin.elapsed());
        instance.play([connect("good", "c", "good"), log_in("good", "secret").gives(SUCCESS)]);
        while !asks.is_finished() {
            instance.play([
                check("good", WRITE, "good").gives(SUCCESS),
                check("good", WRITE, "no").gives(ACL_DENIED),
                tick(),
                reload(),
            ]);
        }
        asks.join().unwrap();
        stage.broker.stop(instance);
    });
}
