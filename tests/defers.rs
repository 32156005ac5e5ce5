//! Who is not the API's business: statuses that leave a question to others, and clients without a username.

use std::fs;

mod support;
use support::broker::{plugin, plugin_line};
use support::scene::PASSWD_2_0_11;
use support::{
    Broker, Connect, PASSWORD, PATIENCE, Reply, Setup, api, broker_asking, friendly_api, on_every_broker,
    reason,
};

/// A broker whose own files know the user sha512, who may write to own/#.
fn broker_with_files(setup: Setup) -> Setup {
    setup
        .file("passwords", PASSWD_2_0_11)
        .file("rules", "user sha512\ntopic write own/#\n")
        .line("password_file passwords")
        .line("acl_file rules")
}

#[test]
fn what_the_api_calls_not_its_own_is_left_to_the_broker() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(404));
        let broker =
            broker_with_files(broker_asking(version, &api).option("defer_status", "404, 410")).start();
        for _ in 0..2 {
            let mut client = Connect::v5("c").login("sha512", PASSWORD).accepted(broker.port());
            assert_ne!(client.publish_acknowledged("own/t", "x"), reason::NOT_AUTHORIZED);
            assert_eq!(client.publish_acknowledged("other/t", "x"), reason::NOT_AUTHORIZED);
        }
        assert_eq!((api.logins().len(), api.topic_checks().len()), (1, 2), "each is remembered");
        Connect::v5("d").login("sha512", "wrong").refused(broker.port());
        Connect::v5("e").login("nobody", PASSWORD).refused(broker.port());
        // What it does call its own is decided by it alone.
        api.answer(Reply::status(403));
        Connect::v5("f").login("sha512", "another").refused(broker.port());
        Connect::v5("g").login("argon2id", PASSWORD).refused(broker.port());
    });
}

#[test]
fn without_the_option_such_a_status_denies() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(404));
        let broker = broker_with_files(broker_asking(version, &api)).start();
        Connect::v5("c").login("sha512", PASSWORD).refused(broker.port());
    });
}

/// The plugin whose line stands first is asked first, and the second decides what that one defers.
#[test]
fn the_next_plugin_decides_what_the_first_defers() {
    on_every_broker(|version| {
        let (first, second) = (api(""), friendly_api());
        first.answer(Reply::status(404));
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.so");
        fs::copy(plugin(), &copy).unwrap();
        let broker = broker_asking(version, &first)
            .option("defer_status", "404")
            .line(plugin_line(&copy))
            .option("auth_url", second.auth_url())
            .option("acl_url", second.acl_url())
            .start();
        let mut client = Connect::v5("c").login("somebody", "secret").accepted(broker.port());
        assert_ne!(client.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
        assert_eq!((first.logins().len(), second.logins().len()), (1, 1));
        assert_eq!((first.topic_checks().len(), second.topic_checks().len()), (1, 1));
        first.answer(Reply::status(403));
        Connect::v5("d").login("other", "secret").refused(broker.port());
        assert_eq!(second.logins().len(), 1, "the first has decided");
    });
}

/// Nobody but the broker's own loop can ask the next plugin.
#[test]
fn clients_do_not_wait_beside_the_broker_where_others_may_decide() {
    on_every_broker(|version| {
        let setup =
            Broker::with(version).option("auth_url", "http://127.0.0.1:9/").option("defer_status", "404");
        let broker = setup.clone().start();
        let why = if version.is_2_1() { "plugin_opt_defer_status leaves some" } else { "Mosquitto 2.0" };
        broker.wait_for_log(&format!("Logins in blocking mode, since {why}"), PATIENCE);
        let failure = setup.option("auth_mode", "delayed").start_expecting_failure();
        assert!(failure.log.contains("plugin_opt_auth_mode: found \"delayed\""), "{}", failure.log);
    });
}

#[test]
fn a_status_that_has_a_meaning_cannot_mean_another() {
    on_every_broker(|version| {
        for status in ["200", "401", "403", "408", "429", "500", "404,403", "x"] {
            let failure = Broker::with(version)
                .option("auth_url", "http://127.0.0.1:9/")
                .option("defer_status", status)
                .start_expecting_failure();
            assert!(failure.log.contains("plugin_opt_defer_status: found"), "{status}: {}", failure.log);
        }
    });
}

#[test]
fn a_password_without_a_username_is_asked_about_if_that_is_wanted() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let knows = if request.path == "/auth" { request.field("password") == "token" } else { true };
            Reply::status(if knows && request.field("username").is_empty() { 200 } else { 403 })
        });
        let with_token = |id: &str, token: &str| Connect::v5(id).password(token);
        let refuses = broker_asking(version, &api).start();
        with_token("a", "token").refused(refuses.port());
        assert!(api.requests().is_empty(), "the default refuses without asking");

        let broker = broker_asking(version, &api)
            .option("username_missing", "ask")
            .global("allow_anonymous true")
            .start();
        with_token("b", "guess").refused(broker.port());
        let mut client = with_token("c", "token").accepted(broker.port());
        assert_ne!(client.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
        let asked = api.topic_checks();
        assert_eq!((asked[0].field("username"), asked[0].field("clientid")), ("", "c"));
        // Who has no password either is still anonymous, and is not asked about.
        let mut anonymous = Connect::v5("d").accepted(broker.port());
        assert_eq!(anonymous.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
        assert_eq!(api.topic_checks().len(), 1);
        // So it is under the id of one whose token was asked about and who has gone, wherever the broker puts it.
        for _ in 0..20 {
            drop(client);
            let mut anonymous = Connect::v5("c").accepted(broker.port());
            assert_eq!(anonymous.publish_acknowledged("t", "x"), reason::NOT_AUTHORIZED);
            anonymous.disconnect();
            client = with_token("c", "token").accepted(broker.port());
        }
    });
}
