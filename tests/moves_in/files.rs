//! The files that their options name: who may read them, and what a SIGHUP makes of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::support::{
    Connect, PASSWORD, PATIENCE, Request, eventually, free_port, local_user, on_every_broker,
};
use super::{Broker, broker, friendly, go_auth, sent};

const FILES: &str = "plugin_opt_files_password_path passwords\nplugin_opt_files_acl_path rules";

/// The files in front of the API, and these lines.
fn with_files(more: &str) -> String {
    go_auth(&format!("{FILES}\n{more}")).replace("backends http", "backends files, http")
}

fn rewrite(broker: &Broker, name: &str, content: &str) {
    // In one go, so that no half of it is read.
    let path = broker.folder().join(name);
    fs::write(path.with_extension("new"), content).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

/// Each file in which secrets may stand, however its option is called.
#[test]
fn who_may_read_secrets_is_said_at_the_start() {
    on_every_broker(|version| {
        let api = friendly();
        let secrets = tempfile::tempdir().unwrap();
        let place = |name: &str| secrets.path().join(name);
        let shared = format!("redis://127.0.0.1:{}", free_port());
        let contents = [
            ("passwords", local_user("alice")),
            ("own.toml", "timeout = '3s'\n".to_owned()),
            ("api.header", "X-Token: secret\n".to_owned()),
            ("admin.token", "0123456789-token-of-the-tests".to_owned()),
            ("shared.secret", "a-secret-of-the-tests-that-is-long-enough".to_owned()),
        ];
        let options = [
            format!("plugin_opt_config_file {}", place("own.toml").display()),
            format!("plugin_opt_header_file {}", place("api.header").display()),
            format!("plugin_opt_admin_token_file {}", place("admin.token").display()),
            format!("plugin_opt_shared_cache {shared}"),
            format!("plugin_opt_shared_cache_secret_file {}", place("shared.secret").display()),
        ];
        let conf = with_files(&options.join("\n"))
            .replace("_path passwords", &format!("_path {}", place("passwords").display()));
        for (mode, is_said) in [(0o644, true), (0o640, false)] {
            for (name, content) in &contents {
                fs::write(place(name), content).unwrap();
                fs::set_permissions(place(name), Permissions::from_mode(mode)).unwrap();
            }
            let setup = broker(version, &api, &conf).file("rules", "user alice\ntopic readwrite own/#\n");
            let broker = setup.start();
            drop(Connect::v5("a").login("alice", PASSWORD).accepted(broker.port()));
            let log = broker.log();
            for (name, _) in &contents {
                let line = format!("{} can be read by everybody", place(name).display());
                assert_eq!(log.contains(&line), is_said, "{version}, {name}, mode {mode:o}: {log}");
            }
        }
    });
}

/// What a SIGHUP reads again are the files. Their own options stay what they were at the start, and with them the words in
/// which the API is asked.
#[test]
fn a_sighup_reads_their_files_again_and_keeps_their_words() {
    on_every_broker(|version| {
        let api = friendly();
        let broker = broker(version, &api, &with_files("plugin_opt_config_file own.toml"))
            .file("own.toml", "header = ['X-Site: 1']\n")
            .file("passwords", format!("{}\n{}\n", local_user("alice"), local_user("carol")))
            .file("rules", "user alice\ntopic readwrite own/#\n")
            .start();
        let reload = |says: &str| {
            broker.sighup();
            broker.wait_for_log(says, PATIENCE);
        };
        let ask = |name: &str| {
            api.forget_requests();
            let mut client = Connect::v5(name).login(name, PASSWORD).accepted(broker.port());
            assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0, "mosquitto {version}: {name}");
            let requests = api.requests();
            // Who is still connected would be asked about at the next SIGHUP.
            let endings = || broker.log().matches(&format!("Client {name} ")).count();
            let before = endings();
            drop(client);
            assert!(eventually(PATIENCE, || endings() > before), "mosquitto {version}: {name} stays");
            let site = |it: &Request| it.header("X-Site").unwrap_or_default().to_owned();
            (sent(&requests), requests.iter().map(site).collect::<Vec<_>>())
        };
        let (before, sites) = ask("joe");
        assert_eq!(sites, ["1", "1"], "{before:?}");

        rewrite(&broker, "own.toml", "header = ['X-Site: 2']\n");
        rewrite(&broker, "passwords", &format!("{}\n{}\n", local_user("carol"), local_user("dave")));
        rewrite(&broker, "rules", "user dave\ntopic readwrite t\n");
        reload("Files are re-read");
        // Nobody is known any more whom the API has let in: it is another one, by its header.
        let (after, sites) = ask("joe");
        assert_eq!((after, sites), (before, vec!["2".to_owned(); 2]), "mosquitto {version}");
        let local = |name: &str| ask(name).0.is_empty();
        assert!(local("dave") && !local("alice"), "mosquitto {version}");
        Connect::v5("d").login("dave", "wrong").refused(broker.port());

        // A mistake changes nothing.
        rewrite(&broker, "passwords", "alice:PBKDF2$sha512$100000$c2FsdHNhbHQ=$aGFzaA==\n");
        rewrite(&broker, "rules", "user dave\ntopic readwrite other\n");
        reload("passwords, line 1: ");
        assert!(local("dave"), "mosquitto {version}");
        Connect::v5("d").login("dave", "wrong").refused(broker.port());
    });
}
