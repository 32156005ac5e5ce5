//! What a broker does not start with, and what is said where it does.

use super::support::tls::{Authority, TlsFront, Validity};
use super::support::{Connect, PASSWORD, PATIENCE, Setup, Version, local_user, on_every_broker, reason};
use super::{Broker, broker, friendly, go_auth};

#[test]
fn what_would_open_a_door_is_refused_at_the_start() {
    on_every_broker(|version| {
        let api = friendly();
        let with = |more: &str| broker(version, &api, &go_auth(more));
        let files = go_auth("plugin_opt_files_password_path passwords")
            .replace("backends http", "backends files, http");
        let cases: [(Setup, &str); 7] = [
            (
                broker(version, &api, &go_auth("").replace("backends http", "backends postgres, http")),
                "plugin_opt_backends: found \"postgres\", which nothing here stands for",
            ),
            (
                with("plugin_opt_http_register user"),
                "plugin_opt_http_register: found it without user or without acl",
            ),
            (with("plugin_opt_acl_batch_url http://127.0.0.1:1/"), "beside the options of mosquitto-go-auth"),
            (with("plugin_opt_answer_rules true"), "plugin_opt_answer_rules: found it beside the options"),
            (with("plugin_opt_auth_fields address"), "plugin_opt_auth_fields: found it beside the options"),
            (
                broker(version, &api, &files).file("passwords", local_user("alice")),
                "plugin_opt_files_password_path: found it without rules",
            ),
            (
                broker(version, &api, &(files.clone() + "\nplugin_opt_files_acl_path rules"))
                    .file("passwords", "alice:PBKDF2$sha512$100000$c2FsdHNhbHQ=$aGFzaA==\n")
                    .file("rules", "user alice\ntopic readwrite #\n"),
                "plugin_opt_files_password_path: passwords, line 1: ",
            ),
        ];
        for (setup, expected) in cases {
            let failure = setup.start_expecting_failure();
            assert!(failure.log.contains(expected), "{expected}: {}", failure.log);
        }
    });
}

/// The files in front of the API, with hashes of `mosquitto_passwd`.
#[test]
fn files_go_before_http() {
    on_every_broker(|version| {
        let api = friendly();
        let conf = go_auth("plugin_opt_files_password_path passwords\nplugin_opt_files_acl_path rules")
            .replace("backends http", "backends files, http");
        let broker = broker(version, &api, &conf)
            .file("passwords", local_user("alice"))
            .file("rules", "user alice\ntopic readwrite own/#\n")
            .start();
        let mut alice = Connect::v5("a").login("alice", PASSWORD).accepted(broker.port());
        assert_eq!(alice.publish_acknowledged("own/x", "x") & 0x80, 0);
        assert_ne!(alice.publish_acknowledged("other", "x") & 0x80, 0);
        assert!(api.requests().is_empty());
        let wrong = Connect::v5("a").login("alice", "wrong").refused(broker.port());
        assert_eq!(wrong, reason::NOT_AUTHORIZED);
        let mut joe = Connect::v5("j").login("joe", "p").accepted(broker.port());
        assert!(joe.may_subscribe("other"));
        assert_eq!(api.requests().len(), 2);
        broker.wait_for_log("whoever is in it is decided by it alone, and not by http as well", PATIENCE);
    });
}

/// They did not verify certificates unless told to; here they are always verified, and that is said.
#[test]
fn certificates_are_verified_however_it_was() {
    let authority = Authority::new("Our authority");
    let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
    on_every_broker(|version| {
        let api = friendly();
        let front = TlsFront::start(&api, &server, None);
        let conf = |more: &str| {
            go_auth(&format!("plugin_opt_http_with_tls true\n{more}"))
                .replace("PORT", &front.port().to_string())
        };
        for more in ["", "plugin_opt_http_verify_peer false"] {
            let broker = broker(version, &api, &conf(more)).start();
            Connect::v5("c").login("joe", "p").unanswered(broker.port());
            assert!(api.requests().is_empty());
            let said = if more.is_empty() { "IS VERIFIED" } else { "certificates are always verified" };
            assert!(broker.log().contains(said), "{}", broker.log());
        }
        for more in ["plugin_opt_tls_ca_file ca.pem", "plugin_opt_tls_insecure true"] {
            let broker = broker(version, &api, &conf(more)).file("ca.pem", &authority.certificate).start();
            drop(Connect::v5("c").login("joe", "p").accepted(broker.port()));
        }
    });
}

/// A file of this plugin's own options goes with theirs, and wins.
#[test]
fn own_options_go_with_theirs() {
    on_every_broker(|version| {
        let api = friendly();
        let conf =
            go_auth("plugin_opt_config_file own.toml\nplugin_opt_max_requests 7\nplugin_opt_timeot 3s");
        let broker =
            broker(version, &api, &conf).file("own.toml", "timeout = '3s'\nheader = ['X-Own: 1']\n").start();
        drop(Connect::v5("c").login("joe", "p").accepted(broker.port()));
        assert_eq!(api.requests()[0].header("X-Own"), Some("1"));
        let log = broker.log();
        for expected in [
            "timeout \"3s\"",
            "max_requests \"7\"",
            "knows it: ignored; the nearest of this plugin is timeout",
        ] {
            assert!(log.contains(expected), "{expected}: {log}");
        }
        broker.sighup();
        broker.wait_for_log("Files are re-read", PATIENCE);
        let _: &Broker = &broker;
    });
}

#[test]
fn a_configuration_in_a_file_of_options_is_not_theirs() {
    let api = friendly();
    let setup = Broker::with(Version::V2_1)
        .option("auth_url", api.auth_url())
        .option("config_file", "own.toml")
        .file("own.toml", "backends = 'http'\n");
    let failure = setup.start_expecting_failure();
    assert!(failure.log.contains("backends: this is an option of mosquitto-go-auth"), "{}", failure.log);
}
