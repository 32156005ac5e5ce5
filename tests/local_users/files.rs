//! Password files: every hash that Mosquitto writes is understood, SIGHUP re-reads the file, and a bad file is refused.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::password_file;
use crate::support::scene::{PASSWD_2_0_11, PASSWD_2_0_21, PASSWD_2_1, PASSWD_ARGON2ID};
use crate::support::{
    Broker, Client, Connect, PASSWORD, PATIENCE, Setup, api, eventually, on_every_broker, reason,
};

#[test]
fn every_hash_that_mosquitto_passwd_writes_lets_its_user_in() {
    const OF_THE_TOOL: &[(&str, &str)] = &[
        ("sha512", PASSWORD),
        ("pbkdf2", PASSWORD),
        ("iterated", PASSWORD),
        ("default", PASSWORD),
        ("with space", "pä ss:w$rd"),
    ];
    const OF_LIBARGON2: &[(&str, &str)] =
        &[("argon2id", PASSWORD), ("command", PASSWORD), ("lanes", PASSWORD)];
    on_every_broker(|version| {
        for (file, users) in [
            (PASSWD_2_0_11, OF_THE_TOOL),
            (PASSWD_2_0_21, OF_THE_TOOL),
            (PASSWD_2_1, OF_THE_TOOL),
            (PASSWD_ARGON2ID, OF_LIBARGON2),
        ] {
            let api = api("");
            let broker = Broker::with(version)
                .file("passwd", file)
                .option("auth_url", api.auth_url())
                .option("password_file", "passwd")
                .start();
            for &(name, password) in users {
                Connect::v5("c").login(name, password).accepted(broker.port()).disconnect();
                let code = Connect::v5("c").login(name, "wrong horse").refused(broker.port());
                assert_eq!(code, reason::NOT_AUTHORIZED, "{name}");
            }
            assert!(api.requests().is_empty());
        }
    });
}

#[test]
fn the_api_is_not_asked_about_local_users() {
    on_every_broker(|version| {
        // The API knows another alice, whose password must not open for the local one.
        let api = api("user alice theirs\nallow all #\nuser remote theirs\nallow all #\n");
        let broker = Broker::with(version)
            .file("passwd", password_file(&["alice"]))
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("password_file", "passwd")
            .option("user", password_file(&["bob"]).trim())
            .option("user", password_file(&["carol"]).trim())
            .start();
        let port = broker.port();
        let locals_are_decided = || {
            for name in ["alice", "bob", "carol"] {
                let mut client = Connect::v5(name).login(name, PASSWORD).accepted(port);
                assert!(client.may_subscribe("any/#"));
                client.publish("any/topic", "hello");
                assert_eq!(client.receive(PATIENCE).expect("message").topic, "any/topic");
                client.disconnect();
                for wrong in ["theirs", "", "Correct horse", "correct horse "] {
                    assert_eq!(Connect::v5(name).login(name, wrong).refused(port), reason::NOT_AUTHORIZED);
                }
                assert_eq!(Connect::v5(name).username(name).refused(port), reason::NOT_AUTHORIZED);
                let v3 = Connect::v3(name).login(name, "theirs").refused(port);
                assert_eq!(v3, reason::NOT_AUTHORIZED_V3);
                Connect::v3(name).login(name, PASSWORD).accepted(port).disconnect();
            }
            // Passwords are bytes, and no bytes but the right ones will do.
            let code = Connect::v5("alice").login("alice", b"\xff\xfe").refused(port);
            assert_eq!(code, reason::NOT_AUTHORIZED);
        };
        locals_are_decided();
        assert!(api.requests().is_empty(), "{:?}", api.requests());
        api.stop();
        locals_are_decided();
        api.restart().unwrap();
        Connect::v5("remote").login("remote", "theirs").accepted(port).disconnect();
        assert_eq!(api.logins().len(), 1);
    });
}

#[test]
fn a_bad_file_keeps_the_broker_from_starting() {
    const HASH: &str = "$6$oKo/iXbCv7L29hWq$4eI4gM7pmoFi7t+2SvzRz7lv8fo3NAe51kv560BNI0EL8wLSmCfxf\
                        /5fakUXOfNzGn0rOcyfziVg9DuGsQyUZA==";
    let alice = format!("alice:{HASH}");
    // Option, content of the file it names (or its value), what the log says.
    let cases: &[(&str, Vec<u8>, &str)] = &[
        (
            "password_file",
            b"# users\n\nbob:\n".into(),
            "file, line 3: found a line without a hash, expected name:hash",
        ),
        ("password_file", b"hunter2\n".into(), "file, line 1: found text without a colon"),
        (
            "password_file",
            b"bob:hunter2\n".into(),
            "file, line 1: found something that is no hash, expected $6$",
        ),
        ("password_file", b"bob:$2y$05$hunter2\n".into(), "file, line 1: found a bcrypt hash"),
        ("password_file", b"bob:$6$hunter2$hunter2\n".into(), "file, line 1: found a salt that is no base64"),
        ("password_file", b"\r\n:hunter2\r\n".into(), "file, line 2: found an empty name"),
        ("password_file", b"bob:hunter2\xff\n".into(), "file, line 1: found bytes that are not UTF-8"),
        ("password_file", b"a\0b:hunter2\n".into(), "file, line 1: found a NUL character"),
        ("password_file", b"\xef\xbb\xbf# users\n".into(), "file, line 1: found a byte order mark"),
        ("password_file", format!("{alice}\n{alice}\n").into(), "file, line 2: found user \"alice\" again"),
        ("user", b"hunter2".into(), "found text without a colon"),
        ("user", b"bob:hunter2".into(), "found something that is no hash"),
        ("acl_file", b"user bob\ntopik read a\n".into(), "file, line 2: found \"topik\", expected"),
        ("acl_file", b"user bob\ntopik read a\n".into(), "(did you mean topic?)"),
        ("acl_file", b"user bob\ntopic wirte a\n".into(), "(did you mean write?)"),
        ("acl_file", b"user bob\n\ttopic a\n".into(), "file, line 2: found a line that starts with a tab"),
        ("acl_file", b"topic a/#/b\n".into(), "file, line 1: found the bad topic \"a/#/b\""),
        ("acl_file", b"bob:hunter2\n".into(), "file, line 1: found a colon (is this a password file?)"),
    ];
    on_every_broker(|version| {
        let start = |option: &str, value: &str, setup: Setup| {
            let failure = setup
                .option("auth_url", "http://127.0.0.1:9/auth")
                .option("user", alice.replace("alice", "carol"))
                .option(option, value)
                .start_expecting_failure();
            assert_ne!(failure.code, Some(0), "{version} {option} {value}");
            assert!(!failure.log.contains("hunter2"), "{version} {option} {value}: {}", failure.log);
            failure.log
        };
        for (option, content, expected) in cases {
            let setup = Broker::with(version);
            let log = match *option {
                "user" => start(option, std::str::from_utf8(content).unwrap(), setup),
                _ => start(option, "file", setup.file("file", content)),
            };
            assert!(log.contains(expected), "{version}: {expected:?} is not in {log}");
        }
        for option in ["password_file", "acl_file"] {
            let log = start(option, "/nonexistent/file", Broker::with(version));
            assert!(log.contains("/nonexistent/file: cannot be read"), "{version}: {log}");
        }
        let log =
            start("password_file", "file", Broker::with(version).file("file", format!("carol:{HASH}\n")));
        assert!(log.contains("found user \"carol\" again"), "{version}: {log}");
    });
}

#[test]
fn sighup_reads_both_files_again_and_keeps_the_old_ones_on_error() {
    on_every_broker(|version| {
        let api = api("");
        let mut broker = Broker::with(version)
            .file("passwd", password_file(&["alice", "bob"]))
            .file("acl", "user alice\ntopic old\n")
            .option("auth_url", api.auth_url())
            .option("password_file", "passwd")
            .option("acl_file", "acl")
            .start();
        let port = broker.port();
        let rewrite = |broker: &Broker, name: &str, content: &str| {
            fs::write(broker.folder().join(name), content).unwrap();
        };
        let let_in = |name: &str| Connect::v5(name).login(name, PASSWORD).attempt(port).is_ok();
        let may_write = |client: &mut Client, topic: &str| {
            client.publish_acknowledged(topic, "x") != reason::NOT_AUTHORIZED
        };
        let mut alice = Connect::v5("watching").login("alice", PASSWORD).accepted(port);
        let mut bob = Connect::v5("leaving").login("bob", PASSWORD).accepted(port);
        assert!(may_write(&mut alice, "old") && !may_write(&mut alice, "new"));
        bob.ping();

        rewrite(&broker, "passwd", &password_file(&["alice", "carol"]));
        rewrite(&broker, "acl", "user alice\ntopic new\n");
        broker.sighup();
        assert!(eventually(PATIENCE, || let_in("carol")), "a new user is known");
        assert!(!let_in("bob"), "a removed one is not");
        assert!(bob.wait_until_closed(PATIENCE), "nor does he stay");
        assert!(
            may_write(&mut alice, "new") && !may_write(&mut alice, "old"),
            "rules change under a session"
        );

        for (name, content, expected) in [
            ("passwd", "alice:\n", "passwd, line 1: found a line without a hash"),
            ("acl", "user alice\ntopic a+\n", "acl, line 2: found the bad topic"),
        ] {
            let good = fs::read_to_string(broker.folder().join(name)).unwrap();
            // The other file changes, too: both are taken over, or neither.
            let (other, changed) = match name {
                "passwd" => ("acl", "user alice\ntopic other\n".to_owned()),
                _ => ("passwd", password_file(&["alice", "dave"])),
            };
            let other_good = fs::read_to_string(broker.folder().join(other)).unwrap();
            rewrite(&broker, name, content);
            rewrite(&broker, other, &changed);
            broker.sighup();
            broker.wait_for_log(expected, PATIENCE);
            assert!(broker.is_running());
            assert!(let_in("alice") && let_in("carol") && !let_in("dave"), "{name} is bad");
            assert!(may_write(&mut alice, "new") && !may_write(&mut alice, "other"), "{name} is bad");
            rewrite(&broker, name, &good);
            rewrite(&broker, other, &other_good);
        }
        // A file that is gone is an error like others.
        fs::remove_file(broker.folder().join("passwd")).unwrap();
        broker.sighup();
        broker.wait_for_log("passwd: cannot be read", PATIENCE);
        assert!(let_in("alice") && broker.is_running());
    });
}

#[test]
fn a_password_file_that_everybody_may_read_gets_a_warning() {
    on_every_broker(|version| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passwd");
        fs::write(&file, password_file(&["alice"])).unwrap();
        for (mode, expected) in [(0o644, true), (0o640, false)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let broker = Broker::with(version)
                .option("auth_url", "http://127.0.0.1:9/auth")
                .option("password_file", file.display())
                .start();
            let log = broker.log();
            let mut lines = log.lines();
            let warned =
                lines.any(|line| line.contains(file.to_str().unwrap()) && line.contains("read by everybody"));
            assert_eq!(warned, expected, "{version}, mode {mode:o}: {log}");
        }
    });
}
