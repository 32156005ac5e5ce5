//! The question whether a user may do everything: asked first, once, remembered by itself, and no yes by failure.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{
    Admin, Broker, Client, Connect, MockApi, PATIENCE, Reply, Version, eventually, on_every_broker,
};
use super::{about_superusers, auth_plug, broker, friendly, go_auth, sent};

const CACHED: &str = "plugin_opt_http_superuser_uri /superuser\nplugin_opt_cache true";

/// An API whose answers about superusers and topics can be changed. All logins are good.
struct Api {
    api: MockApi,
    superuser: Arc<AtomicU16>,
    topic: Arc<AtomicU16>,
}

impl Api {
    fn saying(superuser: u16, topic: u16) -> Self {
        let (superuser, topic) = (Arc::new(superuser.into()), Arc::new(topic.into()));
        let (of_superusers, of_topics) =
            (Arc::<AtomicU16>::clone(&superuser), Arc::<AtomicU16>::clone(&topic));
        let api = friendly();
        api.answer_with(move |request| {
            Reply::status(match request.path.as_str() {
                "/superuser" => of_superusers.load(Ordering::Relaxed),
                "/acl" => of_topics.load(Ordering::Relaxed),
                _ => 200,
            })
        });
        Self { api, superuser, topic }
    }

    /// How often it was asked about superusers and topics since the last time.
    fn asked(&self) -> (usize, usize) {
        let asked = (about_superusers(&self.api).len(), self.api.topic_checks().len());
        self.api.forget_requests();
        asked
    }
}

fn joe(broker: &Broker) -> Client {
    Connect::v5("c").login("joe", "p").accepted(broker.port())
}

#[test]
fn a_superuser_may_do_everything_and_is_asked_about_once() {
    on_every_broker(|version| {
        for conf in [go_auth(CACHED), auth_plug("")] {
            let api = Api::saying(200, 403);
            let broker = broker(version, &api.api, &conf).start();
            let mut client = joe(&broker);
            for topic in ["a", "b/#", "c/+/d"] {
                assert!(client.may_subscribe(topic));
            }
            assert_eq!(client.publish_acknowledged("a", "x") & 0x80, 0);
            let mut other = Connect::v5("other").login("joe", "p").accepted(broker.port());
            assert!(other.may_subscribe("e"));
            assert_eq!(api.asked(), (1, 0));
            // Nobody else is one.
            api.superuser.store(403, Ordering::Relaxed);
            let mut stranger = Connect::v5("stranger").login("stranger", "p").accepted(broker.port());
            assert!(!stranger.may_subscribe("a") && !stranger.may_subscribe("b"));
            assert_eq!(api.asked(), (1, 2));
        }
    });
}

#[test]
fn nobody_is_asked_about_superusers_where_it_is_switched_off() {
    on_every_broker(|version| {
        for more in ["plugin_opt_disable_superuser true", "plugin_opt_http_register user,acl"] {
            let api = Api::saying(200, 403);
            let broker = broker(version, &api.api, &go_auth(&format!("{CACHED}\n{more}"))).start();
            assert!(!joe(&broker).may_subscribe("a"));
            assert_eq!(api.asked(), (0, 1), "{more}");
        }
    });
}

/// An error does not end the chain there, and it is reported unless somebody said yes.
#[test]
fn without_an_answer_a_topic_goes_by_a_yes_and_by_no_no() {
    on_every_broker(|version| {
        for no_answer in [Reply::status(500), Reply::Reset, Reply::status(200).body(b"nonsense")] {
            let api = friendly();
            let reply = no_answer.clone();
            api.answer_with(move |request| match (request.path.as_str(), &*request.body) {
                ("/superuser", _) => reply.clone(),
                ("/acl", body) if String::from_utf8_lossy(body).contains("forbidden") => {
                    Reply::status(403).body(b"{\"ok\":false}")
                }
                _ => Reply::status(200).body(b"{\"ok\":true}"),
            });
            let conf =
                go_auth(&format!("{CACHED}\nplugin_opt_http_response_mode json\nplugin_opt_breaker_after 0"));
            let broker = broker(version, &api, &conf).start();
            let mut client = Connect::v3("c").login("joe", "p").accepted(broker.port());
            assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
            for _ in 0..2 {
                let mut client = Connect::v3("c").login("joe", "p").accepted(broker.port());
                let packet = client.publish_packet(b"forbidden", b"x", 1, false);
                client.send(&packet);
                assert!(client.wait_until_closed(PATIENCE), "a no counts for nothing: {no_answer:?}");
            }
            // And is not remembered.
            let asked = sent(&api.topic_checks());
            assert!(asked.iter().filter(|body| body.contains("forbidden")).count() >= 2, "{asked:?}");
        }
    });
}

#[test]
fn a_hanging_question_leaves_time_for_that_about_the_topic() {
    on_every_broker(|version| {
        let api = friendly();
        api.answer_with(|request| match request.path.as_str() {
            "/superuser" => Reply::Hang,
            _ => Reply::status(200),
        });
        let conf = go_auth(&format!("{CACHED}\nplugin_opt_http_timeout 2"));
        let broker = broker(version, &api, &conf).start();
        let mut client = Connect::v3("c").login("joe", "p").accepted(broker.port());
        assert!(client.may_subscribe("t"), "the topic's own yes comes in time");
    });
}

/// Many topics at once share the question.
#[test]
fn questions_that_come_together_share_it() {
    on_every_broker(|version| {
        for (superuser, may) in [(200, true), (403, false)] {
            let api = friendly();
            api.answer_with(move |request| match request.path.as_str() {
                "/superuser" => Reply::status(superuser).after(Duration::from_millis(300)),
                "/acl" => Reply::status(403),
                _ => Reply::status(200),
            });
            let broker = broker(version, &api, &go_auth(CACHED)).start();
            let mut client = Connect::v5("c").login("joe", "p").accepted(broker.port());
            let topics: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
            let filters: Vec<_> = topics.iter().map(|topic| (topic.as_str(), 0)).collect();
            let granted = client.subscribe(&filters);
            assert!(granted.iter().all(|code| (code & 0x80 == 0) == may), "{granted:?}");
            assert_eq!(about_superusers(&api).len(), 1, "{version}");
        }
    });
}

/// What was said of a user ends with its time, and at once by a command.
#[test]
fn what_was_said_of_a_user_is_taken_back() {
    on_every_broker(|version| {
        let api = Api::saying(200, 403);
        let admin = Admin::somewhere();
        let broker = admin.of(broker(version, &api.api, &go_auth(CACHED))).start();
        let mut client = joe(&broker);
        assert!(client.may_subscribe("a"));
        assert_eq!(api.asked(), (1, 0));
        api.superuser.store(403, Ordering::Relaxed);
        assert!(client.may_subscribe("b"), "it is remembered");
        for whom in [json!({"username": "joe"}), json!({"clientid": "c"}), json!({"everything": true})] {
            api.superuser.store(200, Ordering::Relaxed);
            admin.carries_out("forget", &json!({"everything": true}));
            assert!(eventually(PATIENCE, || client.may_subscribe("a")), "{whom}");
            api.superuser.store(403, Ordering::Relaxed);
            admin.carries_out("forget", &whom);
            // What is asked in the moment of forgetting is asked once more.
            assert!(!client.may_subscribe("a"), "{whom}");
            assert!(!client.may_subscribe("b"), "{whom}");
        }
    });
}

#[test]
fn a_right_that_is_in_use_is_asked_for_again_before_it_ends() {
    let api = Api::saying(200, 403);
    let conf = go_auth(&format!("{CACHED}\nplugin_opt_acl_cache_seconds 2"));
    let broker = broker(Version::V2_1, &api.api, &conf).start();
    let mut client = joe(&broker);
    assert_eq!(client.publish_acknowledged("a", "x") & 0x80, 0);
    let is_renewed = eventually(PATIENCE, || {
        client.publish_acknowledged("a", "x");
        about_superusers(&api.api).len() >= 3
    });
    assert!(is_renewed && api.api.topic_checks().is_empty(), "{:?}", sent(&api.api.requests()));
    // Whoever is one no more has no more rights than others.
    api.superuser.store(403, Ordering::Relaxed);
    assert!(eventually(PATIENCE, || client.publish_acknowledged("a", "x") & 0x80 != 0));
    // And the other way round.
    api.topic.store(200, Ordering::Relaxed);
    assert!(eventually(PATIENCE, || client.publish_acknowledged("a", "x") & 0x80 == 0));
}

/// Nobody was asked about those whose name says enough, so there is nobody to be asked anew.
#[test]
fn whose_name_says_enough_is_in_use_for_longer_than_is_remembered() {
    on_every_broker(|version| {
        let api = Api::saying(403, 200);
        let conf = auth_plug("auth_opt_superusers adm*\nauth_opt_acl_cacheseconds 1");
        let broker = broker(version, &api.api, &conf).start();
        let mut client = Connect::v5("c").login("admin", "p").accepted(broker.port());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            assert_eq!(client.publish_acknowledged("a", "x") & 0x80, 0);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(api.asked(), (0, 0), "{version}");
        // And others still get answers.
        assert_eq!(joe(&broker).publish_acknowledged("a", "x") & 0x80, 0);
        assert_eq!(api.asked(), (1, 1), "{version}");
    });
}

/// What one API has said of a user is nothing that another one has said.
#[test]
fn another_api_is_asked_anew() {
    on_every_broker(|version| {
        let api = Api::saying(200, 403);
        let conf = go_auth(&format!("{CACHED}\nplugin_opt_config_file own.toml"));
        let site = |number| format!("header = ['X-Site: {number}']\n");
        let broker = broker(version, &api.api, &conf).file("own.toml", site(1)).start();
        let mut client = joe(&broker);
        assert!(client.may_subscribe("a"));
        api.superuser.store(403, Ordering::Relaxed);
        assert!(client.may_subscribe("b"), "it is remembered");
        std::fs::write(broker.folder().join("own.toml"), site(2)).unwrap();
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
        assert!(!client.may_subscribe("c"));
        assert!(about_superusers(&api.api).iter().any(|request| request.header("X-Site") == Some("2")));
    });
}

/// What would be decided, by whom, and what was found about the user.
fn explained(admin: &Admin, name: &str, topic: &str) -> (String, String, String) {
    let asked = json!({"username": name, "clientid": "c", "topic": topic, "acc": "write"});
    let told = admin.carries_out("explain", &asked);
    let steps = told["steps"].as_array().unwrap();
    let found =
        steps.iter().find(|step| step["step"] == "superuser").map_or(&told["nothing"], |it| &it["found"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&told["decision"]), text(&told["by"]), text(found))
}

#[test]
fn an_explanation_tells_what_is_known_of_the_user_and_changes_nothing() {
    on_every_broker(|version| {
        let api = Api::saying(200, 403);
        let admin = Admin::somewhere();
        let broker = admin.of(broker(version, &api.api, &go_auth(CACHED))).start();
        let mut client = joe(&broker);
        let (decision, by, found) = explained(&admin, "joe", "a");
        assert_eq!((&*decision, &*by), ("ask", "api"), "{found}");
        assert!(found.contains("would be asked whether"), "{found}");
        assert_eq!(api.asked(), (0, 0), "{version}: it asks nobody");

        assert!(client.may_subscribe("a"));
        assert_eq!(api.asked(), (1, 0));
        let figures = || {
            let text = admin.get("/metrics").body;
            text.lines().filter(|line| !line.contains("held_up")).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = figures();
        let (decision, by, found) = explained(&admin, "joe", "b");
        assert_eq!((&*decision, &*by), ("allow", "api"), "{found}");
        assert!(found.contains("answered 200") && found.contains("it is one"), "{found}");
        assert_eq!(figures(), before, "{version}: it counts nothing");
        assert_eq!(client.publish_acknowledged("b", "x") & 0x80, 0);
        assert_eq!(api.asked(), (0, 0), "{version}: and it was so");

        // Taken back for this client, the user is asked about once more.
        admin.carries_out("forget", &json!({"clientid": "c"}));
        assert!(explained(&admin, "joe", "b").2.contains("would be asked whether"));
        api.superuser.store(403, Ordering::Relaxed);
        assert!(!client.may_subscribe("c") && !client.may_subscribe("c"));
        let (decision, by, found) = explained(&admin, "joe", "d");
        assert_eq!((&*decision, &*by), ("ask", "api"), "{found}");
        assert!(found.contains("answered 403") && found.contains("it is none"), "{found}");
    });
}

#[test]
fn an_explanation_knows_whose_name_says_enough_and_who_cannot_be_asked() {
    on_every_broker(|version| {
        let api = friendly();
        let admin = Admin::somewhere();
        let broker = admin.of(broker(version, &api, &auth_plug("auth_opt_superusers adm*"))).start();
        let (decision, _, found) = explained(&admin, "admin", "a");
        assert_eq!(decision, "allow");
        assert_eq!(found, "its username is one of plugin_opt_superusers");

        api.answer_with(|request| match request.path.as_str() {
            "/superuser" => Reply::Reset,
            _ => Reply::status(200),
        });
        let is_alone = eventually(PATIENCE, || {
            // Of several networks, so that it is left alone.
            for network in 0..3 {
                let address = Ipv4Addr::new(127, network, 0, 1);
                let mut client =
                    Connect::v5("c").login("joe", "p").coming_from(address).accepted(broker.port());
                client.publish_acknowledged("t", "x");
                admin.carries_out("forget", &json!({"everything": true}));
            }
            explained(&admin, "joe", "a").2.contains("left alone")
        });
        assert!(is_alone, "{version}: {:?}", explained(&admin, "joe", "a"));
        assert_eq!(explained(&admin, "joe", "a").0, "ask", "the topic may get a yes all the same");
    });
}
