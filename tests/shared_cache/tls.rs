//! A store that is reached by TLS.

use std::sync::LazyLock;

use crate::sharing::{be, wait_for_verdicts};
use crate::store::{Kind, Sharer, Store, shared};
use crate::support::tls::{Authority, Validity};
use crate::support::{MockApi, PATIENCE, Setup, Version, broker_asking, friendly_api, on_every_broker};

static OURS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Our authority"));
static THEIRS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Their authority"));

fn trusting(version: Version, api: &MockApi, url: &str) -> Setup {
    let setup = broker_asking(version, api)
        .option("shared_cache_timeout", "1s")
        .option("lookahead", false)
        .option("acl_learn", false);
    shared(setup, url).file("ca.pem", &OURS.certificate).option("tls_ca_file", "ca.pem")
}

#[test]
fn a_store_is_reached_by_tls() {
    for kind in Kind::BOTH {
        on_every_broker(|version| {
            let api = friendly_api();
            let store = Store::with_tls(kind, &OURS.issue("DNS:localhost", &Validity::NOW), None);
            let url = format!("rediss://localhost:{}", store.port());
            let [one, other] = [(); 2].map(|()| Sharer::of(trusting(version, &api, &url)));
            be("alice", &one);
            wait_for_verdicts(&store, 4);
            be("alice", &other);
            assert_eq!(api.logins().len(), 1, "mosquitto {version}");
        });
    }
}

#[test]
fn a_store_may_want_certificates_of_its_clients() {
    let api = friendly_api();
    let identity = OURS.issue("IP:127.0.0.1", &Validity::NOW);
    let store = Store::with_tls(Kind::Valkey, &identity, Some(&OURS));
    let url = format!("rediss://127.0.0.1:{}", store.port());
    let own = OURS.issue("DNS:broker", &Validity::NOW);
    let showing = || {
        trusting(Version::V2_1, &api, &url)
            .file("cert.pem", &own.certificate)
            .file("key.pem", &own.key)
            .option("tls_cert_file", "cert.pem")
            .option("tls_key_file", "key.pem")
    };
    be("alice", &Sharer::of(showing()));
    let without = Sharer::alone(trusting(Version::V2_1, &api, &url));
    without.broker.wait_for_log("cannot be used now", PATIENCE);
    be("alice", &without);
    assert_eq!(without.metric("up"), 0.0);
}

#[test]
fn a_store_with_another_certificate_hears_nothing() {
    let api = friendly_api();
    for identity in [THEIRS.issue("IP:127.0.0.1", &Validity::NOW), OURS.issue("IP:127.0.0.2", &Validity::NOW)]
    {
        let store = Store::with_tls(Kind::Valkey, &identity, None);
        let url = format!("rediss://:t0psecret@127.0.0.1:{}", store.port());
        let sharer = Sharer::alone(trusting(Version::V2_1, &api, &url));
        let line = sharer.broker.wait_for_log("cannot be used now", PATIENCE);
        assert!(line.contains("certificate"), "{line}");
        be("alice", &sharer);
        assert!(store.verdicts().is_empty());
    }
}
