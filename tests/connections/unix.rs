//! The API behind a Unix socket.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::log_in_many;
use crate::support::servers::UnixFront;
use crate::support::{
    Broker, Connect, PATIENCE, Setup, Version, api, eventually, friendly_api, on_every_broker, reason,
};

/// A folder with a place for a socket.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix("mha-socket-").unwrap();
    let socket = folder.path().join("api.sock");
    (folder, socket)
}

fn broker(version: Version, socket: &std::path::Path) -> Setup {
    let url = |path: &str| format!("http://unix:{}:{path}", socket.display());
    Broker::with(version).option("auth_url", url("/auth")).option("acl_url", url("/acl"))
}

#[test]
fn is_asked_like_any_other() {
    on_every_broker(|version| {
        let (_folder, socket) = place();
        let api = api("user alice secret\nallow write t\n");
        let _front = UnixFront::start(&socket, &api, 128);
        let broker = broker(version, &socket).start();
        broker.wait_for_log(&format!("logins: http://unix:{};", socket.display()), PATIENCE);
        let mut alice = Connect::v5("a").login("alice", "secret").accepted(broker.port());
        assert_eq!(alice.publish_acknowledged("t", "x") & 0x80, 0);
        assert_eq!(alice.publish_acknowledged("other", "x"), reason::NOT_AUTHORIZED);
        Connect::v5("b").login("alice", "guess").refused(broker.port());
        let requests = api.requests();
        assert_eq!(requests[0].path, "/auth");
        assert_eq!(requests[0].header("Host"), Some("localhost"));
        assert!(requests.iter().all(|request| request.connection == 0), "one connection is kept");
    });
}

/// Where the queue of a socket is full, the system refuses at once instead of waiting for room, as it does with TCP.
#[test]
fn a_full_queue_refuses_nobody() {
    let (_folder, socket) = place();
    let api = friendly_api();
    let _front = UnixFront::start(&socket, &api, 1);
    let broker = broker(Version::V2_1, &socket).option("keep_alive", "false").start();
    let refused = log_in_many(&broker, 100, 40);
    assert!(refused.is_empty(), "{} of 100: {:?}", refused.len(), refused.first());
}

#[test]
fn a_socket_that_is_missing_is_named_and_found_when_it_is_there() {
    on_every_broker(|version| {
        let (_folder, socket) = place();
        let api = friendly_api();
        let broker = broker(version, &socket)
            .option("breaker_pause", "100ms")
            .option("breaker_longest", "200ms")
            .start();
        Connect::v5("a").login("alice", "secret").unanswered(broker.port());
        let line = broker.wait_for_log("gave no answer", PATIENCE);
        assert!(line.contains(&format!("the socket {}: No such file", socket.display())), "{line}");
        for _ in 0..2 {
            let front = UnixFront::start(&socket, &api, 128);
            let mut tries = 0;
            let is_in = eventually(PATIENCE, || {
                tries += 1;
                std::thread::sleep(Duration::from_millis(50));
                Connect::v5("a").login(format!("u-{tries}"), "secret").attempt(broker.port()).is_ok()
            });
            assert!(is_in, "it is not found");
            // As a server that is started anew does.
            drop(front);
            fs::remove_file(&socket).unwrap();
        }
    });
}

#[test]
fn what_is_no_socket_is_told_at_the_start() {
    for url in ["https://unix:/run/api.sock:/auth", "http://unix:/run/api.sock:auth", "unix:/run/api.sock"] {
        let failure = Broker::with(Version::V2_1).option("auth_url", url).start_expecting_failure();
        assert!(failure.log.contains("http://unix:/SOCKET:/PATH"), "{}", failure.log);
    }
}
