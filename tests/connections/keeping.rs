//! Keeping connections may be turned off, and servers that serve few connections at once, each until it ends, are put
//! up with.

use std::time::Duration;

use crate::support::servers::Server;
use crate::support::{Broker, PATIENCE, Reply, Version, friendly_api, side_by_side};
use crate::{OPENED, log_in_many};

/// The log's words for a server that leaves new connections waiting.
const NO_ROOM: &str = "leaves new connections waiting";

#[test]
fn without_keep_alive_each_question_has_a_connection_of_its_own() {
    side_by_side([Version::V2_0_21, Version::V2_1], |version| {
        let api = friendly_api();
        let setup = Broker::with(version).option("auth_url", api.auth_url()).option("login_wait", 0);
        assert!(log_in_many(&setup.clone().option("keep_alive", "false").start(), 20, 4).is_empty());
        assert_eq!((api.requests().len(), api.connections()), (20, 20));
        assert!(api.requests().iter().all(|request| request.header("Connection") == Some("close")));
        api.forget_requests();
        assert!(log_in_many(&setup.start(), 20, 1).is_empty());
        assert_eq!((api.requests().len(), api.connections()), (20, 20 + 1));
        assert!(api.requests().iter().all(|request| request.header("Connection").is_none()));
    });
}

/// Who comes while the one connection is in use waits for it, gets in, and the log says once what to do.
#[test]
fn a_server_that_serves_one_connection_at_a_time_refuses_nobody() {
    let version = Version::V2_1; // where questions are asked side by side
    let api = Server::one_at_a_time();
    let setup =
        Broker::with(version).option("auth_url", format!("http://{}/", api.address)).option("timeout", "3s");
    let broker = setup.clone().start();
    for _ in 0..2 {
        let refused = log_in_many(&broker, 8, 8);
        assert!(refused.is_empty(), "{refused:?}");
    }
    let line = broker.wait_for_log(NO_ROOM, PATIENCE);
    assert!(line.contains("plugin_opt_keep_alive to false"), "{line}");
    assert_eq!(broker.log().matches(NO_ROOM).count(), 1);
    assert!(!broker.log().contains(OPENED));
    drop(broker);
    // As it says.
    let broker = setup.option("keep_alive", "false").start();
    for _ in 0..2 {
        let refused = log_in_many(&broker, 32, 8);
        assert!(refused.is_empty(), "{refused:?}");
    }
    assert!(!broker.log().contains(NO_ROOM));
}

/// As most servers are, also where many connections are new at once and some are slow.
#[test]
fn a_server_with_room_is_not_blamed() {
    let api = friendly_api();
    api.answer_with(|request| {
        let is_slow = request.field("username").ends_with('7');
        let time = Duration::from_millis(if is_slow { 800 } else { 20 });
        Reply::status(200).after(time)
    });
    let setup = Broker::with(Version::V2_1).option("auth_url", api.auth_url());
    let broker = setup.option("timeout", "2s").start();
    assert!(log_in_many(&broker, 100, 20).is_empty());
    assert!(!broker.log().contains(NO_ROOM), "{}", broker.log());
}
