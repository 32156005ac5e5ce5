//! The API's name is looked up within the question's budget, and again when the name gets another address.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use super::{LOCAL_USER, TIMEOUT, broker, login, on_both};
use crate::support::dns::{Lookup, NameServer};
use crate::support::{MockApi, PASSWORD, Reply, Rules, bystander, eventually, friendly_api};

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

/// What stands there is found whether name servers answer or not, also names that no certificate could be for.
#[test]
fn a_name_in_the_hosts_file_needs_no_name_server() {
    on_both(|version| {
        let Some(silent) = NameServer::start(Lookup::Silence) else { return };
        let api = friendly_api();
        for name in ["localhost", "my_api"] {
            let broker = silent
                .serves_with_hosts(broker(version), "127.0.0.1 localhost\n127.0.0.1 my_api\n")
                .option("auth_url", format!("http://{name}:{}/auth", api.address().port()))
                .start();
            login("alice").accepted(broker.port());
        }
    });
}

/// Some providers answer for whatever name, so a short name with their search domain behind it would lead passwords to
/// a stranger.
#[test]
fn the_hosts_file_comes_before_the_search_domain() {
    on_both(|version| {
        let elsewhere = Ipv4Addr::new(127, 1, 1, 1);
        let Some(server) = NameServer::start(Lookup::Address(elsewhere)) else { return };
        let api = friendly_api();
        let stranger = MockApi::listen((elsewhere, api.address().port()), Rules::default()).unwrap();
        stranger.answer(Reply::status(200));
        let broker = server
            .serves_with_hosts(broker(version), "127.0.0.1 api\n")
            .file("resolv.conf", format!("search example.org\n{}", server.resolv_conf()))
            .option("auth_url", format!("http://api:{}/auth", api.address().port()))
            .start();
        login("alice").accepted(broker.port());
        assert_eq!((api.requests().len(), stranger.requests().len()), (1, 0));
    });
}

#[test]
fn names_are_looked_for_in_the_search_domains() {
    on_both(|version| {
        let only = Lookup::Only("my_api.two.example", Ipv4Addr::LOCALHOST);
        let Some(server) = NameServer::start(only) else { return };
        let api = friendly_api();
        let broker = server
            .serves(broker(version))
            .file("resolv.conf", format!("search one.example two.example\n{}", server.resolv_conf()))
            .option("auth_url", format!("http://my_api:{}/auth", api.address().port()))
            .start();
        login("alice").accepted(broker.port());
    });
}

/// The system waits many seconds for it; nobody else does.
#[test]
fn a_name_server_that_says_nothing_about_ipv6_costs_nobody_anything() {
    on_both(|version| {
        let Some(server) = NameServer::start(Lookup::NothingAboutIpv6(Ipv4Addr::LOCALHOST)) else { return };
        let api = friendly_api();
        let broker = server
            .serves(broker(version))
            .option("auth_url", format!("http://api.example:{}/auth", api.address().port()))
            .start();
        login("alice").accepted(broker.port());
    });
}
