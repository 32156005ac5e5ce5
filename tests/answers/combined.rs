//! Rules together with everything else that the plugin does: each of these has a line in `docs/answers.md`.

use std::time::Duration;

use serde_json::json;

use super::support::{
    Broker, Client, Connect, MockApi, PATIENCE, Reply, api, eventually, local_user, login, on_every_broker,
    scene::PASSWORD,
};
use super::{READ, allowing, is_login, log_in, may_publish, reading, saying, saying_to, says};

fn durable(broker: &Broker, name: &str) -> Client {
    login(name).durable().accepted(broker.port())
}

fn reads(api: &MockApi) -> usize {
    api.topic_checks().iter().filter(|it| it.acc() == READ).count()
}

/// A SIGHUP has the API asked again about everybody: the rules that it names then take the place of the others.
#[test]
fn a_reload_renews_rules() {
    on_every_broker(|version| {
        let api = saying(allowing(&["old/#"]));
        let broker = reading(version, &api).option("acl_no_match", "deny").start();
        let mut client = log_in(&broker, "alice");
        assert!(may_publish(&mut client, "old/t"));
        says(&api, allowing(&["new/#"]));
        broker.sighup();
        assert!(eventually(PATIENCE, || may_publish(&mut client, "new/t")));
        assert!(!may_publish(&mut client, "old/t"));
        // A refusal in the body ends the session, as a 403 does. Somebody else is still let in, so that it is believed.
        api.answer_with(|request| match request.field("username") {
            "alice" => Reply::json(&json!({"result": "deny"})),
            _ => Reply::json(&json!({})),
        });
        let _other = log_in(&broker, "bob");
        broker.sighup();
        assert!(client.wait_until_closed(PATIENCE));
    });
}

/// Nothing changes for sessions while the API is down: a reload leaves them what they have.
#[test]
fn a_reload_without_an_answer_leaves_rules_as_they_are() {
    on_every_broker(|version| {
        let api = saying(allowing(&["t"]));
        let broker = reading(version, &api).option("acl_no_match", "deny").start();
        let mut client = log_in(&broker, "alice");
        api.answer(Reply::status(503));
        broker.sighup();
        assert!(eventually(PATIENCE, || api.logins().len() >= 2));
        api.wait_until_answered(PATIENCE);
        assert!(may_publish(&mut client, "t"));
    });
}

/// Who comes back while its answer is remembered has its rules without a question, also past its time while there is no
/// answer.
#[test]
fn rules_are_remembered_with_the_login() {
    on_every_broker(|version| {
        let api = saying(allowing(&["t"]));
        let broker = reading(version, &api)
            .option("acl_no_match", "deny")
            .option("auth_cache_ttl", "1s")
            .option("breaker_after", 1)
            .start();
        log_in(&broker, "alice").disconnect();
        let mut client = log_in(&broker, "alice");
        assert!(may_publish(&mut client, "t"));
        assert_eq!(api.logins().len(), 1);
        client.disconnect();
        std::thread::sleep(Duration::from_millis(1100));
        api.stop();
        let mut client = log_in(&broker, "alice");
        assert!(may_publish(&mut client, "t"), "the last answer serves, with its rules");
        assert!(!may_publish(&mut client, "u"));
    });
}

/// An allow that is used near its end is asked about again: the session has the new rules, without a new login.
#[test]
fn a_refresh_in_the_background_renews_rules() {
    on_every_broker(|version| {
        let api = saying(allowing(&["old"]));
        let broker =
            reading(version, &api).option("acl_no_match", "deny").option("auth_cache_ttl", "10s").start();
        log_in(&broker, "alice").disconnect();
        says(&api, allowing(&["new"]));
        // It lasts for 8 to 10 s, and the last fifth of that begins after 6.4 to 8 s.
        let mut client = log_in(&broker, "alice");
        assert!(eventually(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(100));
            client = log_in(&broker, "alice");
            api.logins().len() >= 2
        }));
        assert!(eventually(PATIENCE, || may_publish(&mut client, "new")));
        assert!(!may_publish(&mut client, "old"));
    });
}

/// Whoever takes over a client id has the rules of its own answer.
#[test]
fn who_takes_over_a_client_id_has_its_own_rules() {
    on_every_broker(|version| {
        let api = saying_to(|name| allowing(&[name]), 403);
        let broker = reading(version, &api).start();
        let login = |name: &str| Connect::v5("same").login(name, "secret").accepted(broker.port());
        let mut alice = login("alice");
        assert!(may_publish(&mut alice, "alice"));
        let mut bob = login("bob");
        assert!(alice.wait_until_closed(PATIENCE));
        assert!(may_publish(&mut bob, "bob"));
        assert!(!may_publish(&mut bob, "alice"));
        let mut alice = login("alice");
        assert!(may_publish(&mut alice, "alice"));
        assert!(!may_publish(&mut alice, "bob"));
    });
}

/// What arrives for a session that sleeps goes by the rules of its last answer; what waits, by those of the new one.
#[test]
fn a_sleeping_session_keeps_its_rules() {
    on_every_broker(|version| {
        let api = saying_to(
            |name| match name {
                "writer" => json!({"is_superuser": true}),
                _ => allowing(&["news/#"]),
            },
            403,
        );
        let broker = reading(version, &api).option("acl_no_match", "deny").start();
        let mut reader = durable(&broker, "reader");
        assert_eq!(reader.subscribe(&[("news/#", 1)]), [1]);
        reader.disconnect();
        let mut writer = log_in(&broker, "writer");
        assert!(may_publish(&mut writer, "news/1"));
        let mut reader = durable(&broker, "reader");
        assert_eq!(reader.receive(PATIENCE).unwrap().topic, "news/1");
        reader.disconnect();
        assert!(may_publish(&mut writer, "news/2"));
        says(&api, allowing(&["nothing"]));
        broker.sighup();
        std::thread::sleep(Duration::from_millis(200));
        let changed = Connect::v5("reader").login("reader", "another").durable();
        let mut reader = changed.accepted(broker.port());
        reader.ping();
        assert!(reader.receive(Duration::from_millis(300)).is_none(), "the new rules decide");
        assert_eq!(api.topic_checks().len(), 0);
    });
}

/// Nothing is known of a session that was restored from disk: the API is asked, as ever.
#[test]
fn a_restored_session_is_asked_about() {
    on_every_broker(|version| {
        let api = saying_to(|_| allowing(&["news/#"]), 200);
        let mut broker =
            reading(version, &api).global("persistence true").global("autosave_interval 1").start();
        let mut reader = durable(&broker, "reader");
        assert_eq!(reader.subscribe(&[("news/#", 1)]), [1]);
        reader.disconnect();
        broker.restart();
        assert_eq!(reads(&api), 0);
        let mut writer = log_in(&broker, "writer");
        assert!(may_publish(&mut writer, "news/1"));
        assert_eq!(reads(&api), 1, "what is queued for it");
        let mut reader = durable(&broker, "reader");
        assert_eq!(reader.receive(PATIENCE).unwrap().topic, "news/1");
    });
}

/// What rules decide is not asked ahead: neither by `acl_prefetch`, nor about readers, nor about what waits in sockets.
#[test]
fn nothing_is_asked_ahead_that_rules_decide() {
    on_every_broker(|version| {
        let api = saying(allowing(&["#"]));
        let broker = reading(version, &api)
            .option("acl_prefetch", "subscribe cmd/%c/#")
            .option("acl_prefetch", "write state/%c")
            .start();
        let mut readers: Vec<_> = (0..20).map(|n| log_in(&broker, &format!("r{n}"))).collect();
        for reader in &mut readers {
            assert!(reader.may_subscribe("news/+"));
        }
        let mut writer = log_in(&broker, "writer");
        for n in 0..10 {
            writer.publish_retained(format!("news/{n}"), "x");
        }
        assert!(may_publish(&mut writer, "news/0"));
        for reader in &mut readers {
            assert!(reader.receive(PATIENCE).is_some());
        }
        let mut late = log_in(&broker, "late");
        assert!(late.may_subscribe("news/#"));
        assert!(late.receive(PATIENCE).is_some());
        assert_eq!(api.topic_checks().len(), 0);
    });
}

/// A message of somebody without rules still has all its readers asked about who have none, and only those.
#[test]
fn readers_with_rules_are_left_out_of_a_fan_out() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            match (is_login(request), request.field("username").starts_with("ruled")) {
                (true, true) => Reply::json(&allowing(&["news"])),
                _ => Reply::status(200).after(Duration::from_millis(5)),
            }
        });
        let broker = reading(version, &api).start();
        let mut readers = Vec::new();
        for n in 0..5 {
            for kind in ["ruled", "plain"] {
                let mut reader = log_in(&broker, &format!("{kind}{n}"));
                assert!(reader.may_subscribe("news"));
                readers.push(reader);
            }
        }
        let mut writer = log_in(&broker, "writer");
        assert!(may_publish(&mut writer, "news"));
        for reader in &mut readers {
            assert!(reader.receive(PATIENCE).is_some());
        }
        let asked = api.topic_checks();
        let about: Vec<_> =
            asked.iter().filter(|it| it.acc() == READ).map(|it| it.field("username")).collect();
        assert_eq!(about.len(), 5, "{about:?}");
        assert!(about.iter().all(|name| name.starts_with("plain")), "{about:?}");
    });
}

/// Local users are decided about without the API, and rules of somebody of that name are none of theirs.
#[test]
fn local_users_have_their_own_rights() {
    on_every_broker(|version| {
        let api = saying(json!({"acl": [{"permission": "deny", "action": "all", "topic": "#"}]}));
        let broker = reading(version, &api).option("user", local_user("joe")).start();
        let mut joe = Connect::v5("j").login("joe", PASSWORD).accepted(broker.port());
        assert!(may_publish(&mut joe, "t"));
        let mut alice = log_in(&broker, "alice");
        assert!(!may_publish(&mut alice, "t"));
    });
}

/// `acl_checks` says which accesses the API is asked about; rules decide about all of them.
#[test]
fn accesses_that_are_not_asked_about_go_by_rules_first() {
    on_every_broker(|version| {
        let denying = json!({"acl": [{"permission": "deny", "action": "subscribe", "topic": "a/secret"}]});
        let api = saying_to(move |_| denying.clone(), 200);
        let broker = reading(version, &api).option("acl_checks", "write,subscribe").start();
        let mut reader = log_in(&broker, "reader");
        assert!(!reader.may_subscribe("a/+"), "a deny is below it");
        assert!(reader.may_subscribe("b/+"));
        let mut writer = log_in(&broker, "writer");
        assert!(may_publish(&mut writer, "b/1"));
        assert_eq!(reader.receive(PATIENCE).unwrap().topic, "b/1");
        assert_eq!(reads(&api), 0);
    });
}

/// A retained message is asked about once more when it is handed out: by the rules of whoever has published it, if it is
/// still there, else by the API.
#[test]
fn the_publisher_of_a_retained_message_goes_by_its_rules() {
    on_every_broker(|version| {
        let api = saying_to(|_| allowing(&["news/#"]), 200);
        let broker = reading(version, &api).start();
        let mut writer = log_in(&broker, "writer");
        writer.publish_retained("news/1", "x");
        writer.ping();
        let mut reader = log_in(&broker, "reader");
        assert!(reader.may_subscribe("news/#"));
        assert!(reader.receive(PATIENCE).is_some());
        assert_eq!(api.topic_checks().len(), 0);
        writer.disconnect();
        let mut later = log_in(&broker, "later");
        assert!(later.may_subscribe("news/#"));
        assert!(later.receive(PATIENCE).is_some());
    });
}

/// A reload that would end the checking of topics by a line that is missing is refused; `false` says that it is meant.
#[test]
fn a_lost_line_does_not_open_topics() {
    on_every_broker(|version| {
        let api = saying(allowing(&["mine"]));
        let auth = format!("auth_url = \"{}\"\n", api.auth_url());
        let broker = Broker::with(version)
            .file("options.toml", format!("{auth}answer_rules = true\n"))
            .option("config_file", "options.toml")
            .start();
        let mut client = log_in(&broker, "alice");
        std::fs::write(broker.folder().join("options.toml"), &auth).unwrap();
        broker.sighup();
        broker.wait_for_log(
            "answer_rules is missing, so the rules in the API's answers would not count",
            PATIENCE,
        );
        assert!(!may_publish(&mut client, "others"));
        assert!(may_publish(&mut client, "mine"));
        std::fs::write(broker.folder().join("options.toml"), format!("{auth}answer_rules = false\n"))
            .unwrap();
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
    });
}
