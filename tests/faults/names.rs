//! The API's name is looked up within the question's budget, and again when the name gets another address.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use super::{LOCAL_USER, TIMEOUT, broker, login, on_both};
use crate::support::dns::{Lookup, NameServer};
use crate::support::{PASSWORD, bystander, eventually, friendly_api};

/// Slow is not wrong: what comes within the budget counts.
#[test]
fn a_name_that_is_looked_up_within_the_budget_is_used() {
    on_both(|version| {
        let slowly = Lookup::After(TIMEOUT / 4, Ipv4Addr::LOCALHOST);
        let Some(server) = NameServer::start(slowly) else { return };
        let api = friendly_api();
        let url = format!("http://api.example:{}/auth", api.address().port());
        let broker = server.serves(broker(version)).option("auth_url", url).start();
        login("alice").accepted(broker.port());
    });
}

/// At boot a name server may be silent, or not yet be configured.
#[test]
fn a_broker_starts_without_its_name_server() {
    on_both(|version| {
        let Some(silent) = NameServer::start(Lookup::Silence) else { return };
        let Some(other) = NameServer::start(Lookup::Address(Ipv4Addr::LOCALHOST)) else { return };
        let api = friendly_api();
        let broker = silent
            .serves(broker(version))
            .option("auth_url", format!("http://api.example:{}/auth", api.address().port()))
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "500ms")
            .start();
        bystander(&broker, LOCAL_USER, PASSWORD);
        login("alice").unanswered(broker.port());
        std::fs::write(broker.folder().join("resolv.conf"), other.resolv_conf()).unwrap();
        let is_in = eventually(TIMEOUT * 8, || {
            thread::sleep(Duration::from_millis(100));
            login("alice").attempt(broker.port()).is_ok()
        });
        assert!(is_in, "the new name server is not asked");
        drop(silent);
    });
}

/// An API that moves is found at its new address.
#[test]
fn a_name_that_gets_another_address_is_followed() {
    on_both(|version| {
        let Some(server) = NameServer::start(Lookup::Address(Ipv4Addr::new(127, 1, 1, 1))) else { return };
        let api = friendly_api();
        let broker = server
            .serves(broker(version))
            .option("auth_url", format!("http://api.example:{}/auth", api.address().port()))
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "500ms")
            .start();
        login("alice").unanswered(broker.port()); // nobody listens there
        server.answer(Lookup::Address(Ipv4Addr::LOCALHOST));
        assert!(eventually(TIMEOUT * 8, || {
            thread::sleep(Duration::from_millis(100));
            login("alice").attempt(broker.port()).is_ok()
        }));
    });
}

/// The same with the file that names are looked up in first.
#[test]
fn a_name_that_gets_another_address_in_the_hosts_file_is_followed() {
    on_both(|version| {
        let Some(server) = NameServer::start(Lookup::NoSuchName) else { return };
        let api = friendly_api();
        let broker = server
            .serves_with_hosts(broker(version), "127.1.1.1 api.example\n")
            .option("auth_url", format!("http://api.example:{}/auth", api.address().port()))
            .option("breaker_pause", "200ms")
            .option("breaker_longest", "500ms")
            .start();
        login("alice").unanswered(broker.port()); // nobody listens there
        std::fs::write(broker.folder().join("hosts"), "127.0.0.1 api.example\n").unwrap();
        let mut tries = 0;
        assert!(eventually(TIMEOUT * 8, || {
            tries += 1;
            thread::sleep(Duration::from_millis(100));
            login(format!("u-{tries}")).attempt(broker.port()).is_ok()
        }));
    });
}
