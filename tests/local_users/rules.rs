//! Rules and patterns mean the same to the plugin as to the broker, except where the broker's meaning is a security
//! hole.

use super::tables::Deed::{self, ReadRetained, Subscribe, Write};
use super::tables::{ADMIN, Case, OWN_CASES, OWN_RULES, PATTERN_CASES, PATTERNS, USERS, read};
use super::{arrived, password_file};
use crate::support::{Broker, Client, Connect, PASSWORD, Setup, Will, api, on_every_broker, reason};

/// One broker on which a table is gone through.
struct Stage {
    broker: Broker,
    admin: Client,
}

impl Stage {
    fn new(setup: &Setup) -> Self {
        let broker = setup.start();
        let admin = Connect::v5("admin").login("admin", PASSWORD).accepted(broker.port());
        Self { broker, admin }
    }

    fn client(username: &str, client_id: &str) -> Connect {
        Connect::v5(client_id).login(username, PASSWORD)
    }

    /// Whether the deed comes to pass.
    fn play(&mut self, username: &str, client_id: &str, deed: Deed) -> bool {
        let port = self.broker.port();
        let connect = Self::client(username, client_id);
        match deed {
            Write(topic) => {
                let mut client = connect.accepted(port);
                let code = client.publish_acknowledged(topic, "x");
                client.disconnect();
                code != reason::NOT_AUTHORIZED
            }
            Subscribe(filter) => {
                let mut client = connect.accepted(port);
                let granted = client.may_subscribe(filter);
                client.disconnect();
                granted
            }
            Deed::Read { filter, topic } => {
                let mut client = connect.accepted(port);
                assert!(client.may_subscribe(filter), "{filter}");
                assert_ne!(self.admin.publish_acknowledged(topic, "x"), reason::NOT_AUTHORIZED, "{topic}");
                let arrived = arrived(&mut client, topic);
                client.disconnect();
                arrived
            }
            ReadRetained { filter, topic } => {
                if !topic.starts_with("$SYS/") {
                    self.admin.publish_retained(topic, "x");
                    self.admin.ping();
                }
                let mut client = connect.accepted(port);
                assert!(client.may_subscribe(filter), "{filter}");
                let arrived = arrived(&mut client, topic);
                client.disconnect();
                self.admin.publish_retained(topic, "");
                arrived
            }
            Deed::Will(topic) => {
                assert!(self.admin.may_subscribe(topic));
                let will = Will { topic: topic.into(), payload: b"gone".to_vec(), qos: 0, retain: false };
                drop(connect.clone().will(will).accepted(port));
                // The broker sends it before it gives the client's id to the next.
                connect.accepted(port).disconnect();
                let arrived = arrived(&mut self.admin, topic);
                self.admin.unsubscribe(topic);
                arrived
            }
        }
    }
}

/// Goes through a table twice, with the broker's own files and with the plugin's.
fn same_outcome(rules: &str, cases: &[Case]) {
    on_every_broker(|version| {
        let setup =
            |setup: Setup| setup.file("passwd", password_file(&USERS)).file("acl", format!("{rules}{ADMIN}"));
        let broker_alone = setup(Broker::with(version))
            .without_plugin()
            .global("allow_anonymous false")
            .global("password_file passwd")
            .global("acl_file acl");
        let api = api("");
        let with_plugin = setup(Broker::with(version))
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("password_file", "passwd")
            .option("acl_file", "acl")
            .option("special_chars", "allow");
        let mut stages =
            [("the broker", Stage::new(&broker_alone)), ("the plugin", Stage::new(&with_plugin))];
        let mut wrong = Vec::new();
        for (who, stage) in &mut stages {
            for &(username, client_id, deed, expected) in cases {
                let allowed = stage.play(username, client_id, deed);
                if allowed != expected.on(version) {
                    wrong.push(format!("{who} has {allowed} for {username:?} {client_id:?} {deed:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{version}:\n{}", wrong.join("\n"));
        assert!(api.requests().is_empty(), "{version}: local users are not the API's business");
    });
}

#[test]
fn rules_of_users_mean_what_they_mean_to_the_broker() {
    same_outcome(OWN_RULES, OWN_CASES);
}

#[test]
fn patterns_mean_what_they_mean_to_the_broker() {
    same_outcome(PATTERNS, PATTERN_CASES);
}

/// In 2.0 itself this opens `$CONTROL` to a client that calls itself so. The plugin is stricter, on purpose.
#[test]
fn a_client_id_is_no_way_to_the_servers_topics() {
    on_every_broker(|version| {
        let api = api("");
        let setup = Broker::with(version)
            .file("passwd", password_file(&USERS))
            .file("acl", format!("pattern %c/#\n{ADMIN}"))
            .option("auth_url", api.auth_url())
            .option("password_file", "passwd")
            .option("acl_file", "acl");
        let mut stage = Stage::new(&setup);
        assert!(stage.play("u", "c", Write("c/x")));
        assert!(!stage.play("u", "$CONTROL", Write("$CONTROL/x/v1")));
        assert!(!stage.play("u", "$x", read("$x/a")));
    });
}
