//! `auth_mode`: who waits for a login, the client or the broker.

use super::{RULES, SLOW, broker};
use crate::support::{Broker, Connect, Reply, Version, api, bystander, on_every_broker};

#[test]
fn the_log_says_which_mode_and_why() {
    on_every_broker(|version| {
        let said = |mode: Option<&str>| {
            let setup = Broker::with(version).option("auth_url", "http://127.0.0.1:9/auth");
            let setup = match mode {
                Some(mode) => setup.option("auth_mode", mode),
                None => setup,
            };
            let log = setup.start().log();
            let own = log.lines().filter(|line| line.contains("mosquitto-http-auth: "));
            own.collect::<Vec<_>>().join("\n").to_lowercase()
        };
        for mode in [None, Some("auto")] {
            let log = said(mode);
            if version.is_2_1() {
                assert!(log.contains("delayed mode"), "{log}");
            } else {
                assert!(log.contains("blocking mode") && log.contains("2.0"), "{log}");
            }
        }
        let log = said(Some("blocking"));
        assert!(log.contains("blocking mode") && log.contains("auth_mode"), "{log}");
        if version.is_2_1() {
            let log = said(Some("delayed"));
            assert!(log.contains("delayed mode"), "{log}");
        }
    });
}

#[test]
fn a_broker_that_cannot_let_clients_wait_does_not_start_in_delayed_mode() {
    for version in [Version::V2_0_11, Version::V2_0_21] {
        let failure = Broker::with(version)
            .option("auth_url", "http://127.0.0.1:9/auth")
            .option("auth_mode", "delayed")
            .start_expecting_failure();
        assert!(failure.code.is_some_and(|code| code != 0), "{failure:?}");
        let line = failure.log.lines().find(|line| line.contains("plugin_opt_auth_mode"));
        let line = line.unwrap_or_else(|| panic!("{}", failure.log));
        for word in ["delayed", "2.1", "auto", "blocking"] {
            assert!(line.contains(word), "{word:?} is not in {line:?}");
        }
    }
}

#[test]
fn blocking_mode_blocks_on_2_1_too() {
    let api = api(RULES);
    let broker = broker(&api).option("auth_mode", "blocking").start();
    let mut bystander = bystander(&broker, "bob", "secret");
    api.answer(Reply::rules().after(SLOW));
    let (_, stall) = bystander
        .longest_ping_during(|| drop(Connect::v3("a").login("alice", "secret").accepted(broker.port())));
    assert!(stall > SLOW * 3 / 4, "bob waited only {stall:?} for a ping");
    Connect::v3("m").login("mallory", "guess").refused(broker.port());
}
