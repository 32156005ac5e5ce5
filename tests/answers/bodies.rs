//! The body of an answer: what it says, and that nothing is let in by what cannot be understood.

use std::time::Duration;

use serde_json::json;

use super::support::{
    Broker, Connect, PATIENCE, Reply, api, broker_asking, eventually, friendly_api, on_every_broker,
};
use super::{is_login, log_in, may_publish, reading, saying, says};

#[test]
fn a_result_decides() {
    on_every_broker(|version| {
        for (body, is_let_in) in [
            (json!({"result": "allow"}), true),
            (json!({}), true),
            (json!({"result": "deny"}), false),
            (json!({"result": "ignore"}), false),
        ] {
            let api = saying(body.clone());
            let broker = reading(version, &api).start();
            let result = Connect::v5("c").login("alice", "secret").attempt(broker.port());
            assert_eq!(result.is_ok(), is_let_in, "{body}");
        }
    });
}

#[test]
fn without_the_option_the_status_alone_decides() {
    on_every_broker(|version| {
        let api = saying(json!({"result": "deny", "is_superuser": true}));
        let broker = broker_asking(version, &api).start();
        let mut client = log_in(&broker, "alice");
        assert!(!may_publish(&mut client, "t"), "nobody is a superuser");
        assert_eq!(api.topic_checks().len(), 1);
    });
}

#[test]
fn other_statuses_and_other_bodies_are_as_ever() {
    on_every_broker(|version| {
        let api = api("");
        let broker = reading(version, &api).option("deny_cache_ttl", 0).option("auth_cache_ttl", 0).start();
        let login = |id: &str| Connect::v5(id).login(id, "secret").attempt(broker.port());
        api.answer(Reply::status(204));
        assert!(login("a").is_err(), "204 says no");
        api.answer(Reply::json(&json!({"result": "allow"})).with_status(403));
        assert!(login("b").is_err(), "403 says no, whatever its body says");
        api.answer(Reply::status(200));
        assert!(login("c").is_ok());
        api.answer(Reply::status(200).header("Content-Type", "text/plain").body(b"{\"result\":\"deny\"}"));
        assert!(login("d").is_ok(), "no JSON: the status has said it");
        let body = b"{\"result\":\"deny\"}";
        api.answer(Reply::status(200).header("content-type", "Application/JSON; charset=utf-8").body(body));
        assert!(login("e").is_err());
    });
}

#[test]
fn a_deny_in_the_body_counts_as_a_wrong_password() {
    on_every_broker(|version| {
        let api = saying(json!({"result": "deny"}));
        let broker = reading(version, &api).option("throttle_after", 2).start();
        for n in 0..6 {
            let _ = Connect::v5("c").login("alice", format!("guess {n}")).attempt(broker.port());
        }
        broker.wait_for_log("too many wrong passwords", PATIENCE);
        assert!(
            broker.log().contains("the API answered 200 with a result that is no allow"),
            "{}",
            broker.log()
        );
    });
}

#[test]
fn a_superuser_is_asked_about_nothing() {
    on_every_broker(|version| {
        let api = saying(json!({"result": "allow", "is_superuser": true}));
        let broker = reading(version, &api).start();
        let mut client = log_in(&broker, "admin");
        assert!(client.may_subscribe("#"));
        assert!(may_publish(&mut client, "anything/at/all"));
        let message = client.receive(PATIENCE).unwrap();
        assert_eq!(message.topic, "anything/at/all");
        assert_eq!(api.topic_checks().len(), 0);
        // Another name has no share in it.
        says(&api, json!({"is_superuser": false}));
        let mut other = log_in(&broker, "other");
        assert!(!may_publish(&mut other, "t"));
    });
}

#[test]
fn what_cannot_be_used_refuses_and_is_named_once_a_minute() {
    on_every_broker(|version| {
        let rule = json!({"permission": "allow", "action": "all", "topic": "t"});
        for (body, named) in [
            (
                json!({"acl": [rule, {"permission": "allow", "action": "pubb", "topic": "t"}]}),
                "rule 2: action: found",
            ),
            (json!({"expire_at": 1_800_000_000_000_u64}), "are these milliseconds?"),
            (json!([]), "expected an object"),
            (json!({"padding": "x".repeat(65_536)}), "more than 65536 bytes"),
        ] {
            let api = saying(body);
            let broker = reading(version, &api).start();
            for id in ["a", "b", "c"] {
                Connect::v5(id).login(id, "secret").refused(broker.port());
            }
            let log = broker.wait_for_log(named, PATIENCE);
            assert_eq!(log.matches("a body that cannot be used, which refuses").count(), 1, "{log}");
            assert!(!log.contains("secret"), "{log}");
        }
    });
}

/// A broken deployment takes back nothing that was allowed, no more than a 404 does; but nobody comes in by it.
#[test]
fn what_cannot_be_used_ends_no_allow() {
    on_every_broker(|version| {
        let api = saying(json!({"is_superuser": true}));
        let broker = reading(version, &api).start();
        let mut client = log_in(&broker, "alice");
        api.answer(Reply::status(200).header("Content-Type", "application/json").body(b"{"));
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
        broker.wait_for_log("a body that cannot be used", PATIENCE);
        assert!(may_publish(&mut client, "t"));
        Connect::v5("b").login("bob", "secret").refused(broker.port());
    });
}

/// Its time is that of the question: whoever does not send the body has given no answer.
#[test]
fn a_body_that_does_not_come_is_no_answer() {
    on_every_broker(|version| {
        let api = api("");
        let start =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{".to_vec();
        api.answer(Reply::Endless { start, again: Vec::new(), every: Duration::from_millis(100) });
        let broker = reading(version, &api).option("timeout", "500ms").start();
        Connect::v5("a").login("alice", "secret").unanswered(broker.port());
        broker.wait_for_log("the API gave no answer: nothing came within 500ms", PATIENCE);
        let cut =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"result\""
                .to_vec();
        api.answer(Reply::Raw(cut));
        Connect::v5("b").login("bob", "secret").unanswered(broker.port());
    });
}

#[test]
fn an_endless_body_is_no_way_in() {
    on_every_broker(|version| {
        let api = api("");
        let start =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"result\":\"allow\",\"x\":\""
                .to_vec();
        api.answer(Reply::Endless { start, again: vec![b'x'; 16 << 10], every: Duration::ZERO });
        let broker = reading(version, &api).start();
        Connect::v5("a").login("alice", "secret").refused(broker.port());
        broker.wait_for_log("more than 65536 bytes", PATIENCE);
    });
}

#[test]
fn connections_are_kept_where_bodies_are_read() {
    on_every_broker(|version| {
        let api = saying(json!({"result": "allow", "acl": []}));
        let broker = reading(version, &api).start();
        for n in 0..5 {
            log_in(&broker, &format!("c{n}"));
            api.wait_until_answered(PATIENCE);
            assert!(eventually(PATIENCE, || api.logins().len() == n + 1));
        }
        assert!(api.connections() <= 2, "{} connections for five logins", api.connections());
    });
}

/// A SIGHUP that switches the option on makes no verdict count that was read without it.
#[test]
fn what_was_remembered_without_the_option_does_not_count_with_it() {
    on_every_broker(|version| {
        let api = saying(json!({"result": "deny"}));
        let toml = |on: bool| {
            format!(
                "auth_url = \"{}\"\nacl_url = \"{}\"\nanswer_rules = {on}\n",
                api.auth_url(),
                api.acl_url()
            )
        };
        let broker = Broker::with(version)
            .file("options.toml", toml(false))
            .option("config_file", "options.toml")
            .start();
        drop(log_in(&broker, "alice"));
        std::fs::write(broker.folder().join("options.toml"), toml(true)).unwrap();
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
        Connect::v5("alice").login("alice", "secret").refused(broker.port());
    });
}

#[test]
fn a_friendly_api_needs_no_body() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = reading(version, &api).start();
        let mut client = log_in(&broker, "alice");
        assert!(may_publish(&mut client, "t"));
        assert!(api.requests().iter().any(|request| !is_login(request)), "topics are asked about");
    });
}
