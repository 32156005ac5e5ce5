//! A client with a username from its certificate is not the local user of that name.

use std::path::Path;
use std::process::Command;

use super::{arrived, password_file};
use crate::support::{Broker, Client, Connect, MockApi, PASSWORD, PATIENCE, Version, api, on_every_broker};

/// A certificate authority, and certificates of it: `NAME.crt` and `NAME.key` in a folder.
fn make_certificates(folder: &Path, names: &[&str]) {
    let make = |name: &str, signed_by: &[&str]| {
        let (key, certificate, subject) =
            (format!("{name}.key"), format!("{name}.crt"), format!("/CN={name}"));
        let made = Command::new("openssl")
            .current_dir(folder)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate])
            .args(signed_by)
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    make("ca", &[]);
    for name in names {
        make(name, &["-CA", "ca.crt", "-CAkey", "ca.key"]);
    }
}

/// A broker with a second listener, where the certificate names the user.
struct CertificateStage {
    broker: Broker,
    folder: tempfile::TempDir,
    watcher: Client,
}

impl CertificateStage {
    fn new(version: Version, api: &MockApi) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path(), &["server", "alice"]);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let broker = Broker::with(version)
            .file("passwd", password_file(&["alice", "watcher"]))
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("password_file", "passwd")
            .listener([
                format!("cafile {}", path("ca.crt")),
                format!("certfile {}", path("server.crt")),
                format!("keyfile {}", path("server.key")),
                "require_certificate true".to_owned(),
                "use_identity_as_username true".to_owned(),
            ])
            .start();
        let mut watcher = Connect::v5("watcher").login("watcher", PASSWORD).accepted(broker.port());
        assert!(watcher.may_subscribe("t/#"));
        Self { broker, folder, watcher }
    }

    /// The local user, by her password.
    fn alice(&self, client_id: &str) -> Connect {
        Connect::v5(client_id).login("alice", PASSWORD)
    }

    /// One of Mosquitto's clients, with alice's certificate and no password.
    fn with_certificate(&self, program: &str, client_id: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.broker.version().program(program))
            .current_dir(self.folder.path())
            .args(["-h", "127.0.0.1", "-p", &self.broker.ports()[1].to_string(), "-V", "5", "-i", client_id])
            .args(["--cafile", "ca.crt", "--cert", "alice.crt", "--key", "alice.key", "--insecure"])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether a message that is published with the certificate gets through.
    fn certificate_may_write(&mut self, client_id: &str) -> bool {
        let arguments = ["-q", "1", "-t", "t/x", "-m", "by certificate"];
        self.with_certificate("mosquitto_pub", client_id, &arguments);
        arrived(&mut self.watcher, "t/x")
    }

    fn password_may_write(&mut self, client: &mut Client) -> bool {
        client.publish_acknowledged("t/x", "by password");
        arrived(&mut self.watcher, "t/x")
    }
}

#[test]
fn a_certificate_with_a_local_users_name_inherits_nothing() {
    on_every_broker(|version| {
        let api = api("");
        let mut stage = CertificateStage::new(version, &api);
        let port = stage.broker.port();
        let mut inherited = Vec::new();

        // A client id that nobody had before.
        assert!(!stage.certificate_may_write("fresh"));
        let asked = api.topic_checks();
        assert!(
            asked.iter().any(|request| request.field("username") == "alice" && request.acc() == 2),
            "the API decides about her: {asked:?}"
        );

        // One that the local user has used, and left. The broker may reuse the memory of her connection for
        // the next, so once is not enough.
        for round in 0..5 {
            let mut alice = stage.alice("left").accepted(port);
            assert!(stage.password_may_write(&mut alice));
            alice.disconnect();
            if stage.certificate_may_write("left") {
                inherited.push(format!("a session that was left, round {round}"));
            }
        }

        // One that she is connected with.
        let mut alice = stage.alice("taken").accepted(port);
        assert!(stage.password_may_write(&mut alice));
        if stage.certificate_may_write("taken") {
            inherited.push("a session that was taken over".to_owned());
        }
        drop(alice);

        // One whose session sleeps, also after a reload has gone through all sessions.
        for reload in [false, true] {
            stage.alice("asleep").durable().accepted(port).disconnect();
            if reload {
                stage.broker.sighup();
                stage.broker.wait_for_log("Reloading config", PATIENCE);
                stage.watcher.ping();
            }
            if stage.certificate_may_write("asleep") {
                inherited.push(format!("a sleeping session, reloaded: {reload}"));
            }
        }

        // One whose session the broker has given up meanwhile.
        for round in 0..3 {
            let client_id = format!("expired-{round}");
            stage.alice(&client_id).session_expiry(1).accepted(port).disconnect();
            stage.broker.wait_for_log(&format!("Expiring client {client_id}"), PATIENCE);
            for attempt in 0..4 {
                if stage.certificate_may_write(&client_id) {
                    inherited.push(format!("an expired session, round {round}, attempt {attempt}"));
                }
            }
        }
        assert!(inherited.is_empty(), "mosquitto {version}: {inherited:?}");

        // With her password, she has her rights wherever she was.
        for client_id in ["fresh", "left", "taken", "asleep"] {
            let mut alice = stage.alice(client_id).accepted(port);
            assert!(stage.password_may_write(&mut alice), "{client_id}");
            alice.disconnect();
        }
    });
}

#[test]
fn a_certificate_does_not_read_what_was_kept_for_a_local_user() {
    on_every_broker(|version| {
        let api = api("");
        let mut stage = CertificateStage::new(version, &api);
        let mut alice = stage.alice("reader").durable().accepted(stage.broker.port());
        assert!(alice.may_subscribe("t/#"));
        alice.disconnect();
        stage.watcher.publish_acknowledged("t/kept", "secret");
        let arguments = ["-c", "-q", "1", "-t", "nothing", "-W", "1"];
        let read = stage.with_certificate("mosquitto_sub", "reader", &arguments);
        assert_eq!(read, "");
    });
}
