//! https: the plugin accepts only the API's own certificate, shows its own, and the log tells why a connection failed.

use std::sync::LazyLock;

mod support;
use support::tls::{
    Authority, Identity, TlsFront, Validity, assert_no_answer, self_signed, self_signed_authority,
};
use support::{
    Broker, Connect, MockApi, PATIENCE, Setup, Version, api, friendly_api, login, on_every_broker, reason,
};

/// The authority that the operator trusts, and one that nobody does.
static OURS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Our authority"));
static THEIRS: LazyLock<Authority> = LazyLock::new(|| Authority::new("Their authority"));

const ADDRESS: &str = "IP:127.0.0.1";

fn good_certificate() -> Identity {
    OURS.issue(ADDRESS, &Validity::NOW)
}

/// A broker that asks about everything behind this port, and trusts our authority.
fn broker(version: Version, port: u16) -> Setup {
    untrusting_broker(version, port).file("ca.pem", &OURS.certificate).option("tls_ca_file", "ca.pem")
}

fn untrusting_broker(version: Version, port: u16) -> Setup {
    Broker::with(version)
        .option("auth_url", format!("https://127.0.0.1:{port}/auth"))
        .option("acl_url", format!("https://127.0.0.1:{port}/acl"))
}

fn assert_works(broker: &Broker) {
    let mut alice = login("alice").accepted(broker.port());
    assert_eq!(alice.publish_acknowledged("t", "x") & 0x80, 0);
}

/// Nobody is let in, the API hears of nothing, and one line of the log has all of these words.
fn assert_refused(broker: &Broker, api: &MockApi, what: &str, words: &[&str]) {
    assert_no_answer(broker, what, words);
    assert!(api.requests().is_empty(), "{what}: the password was sent");
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    on_every_broker(|version| {
        let api = friendly_api();
        let front = TlsFront::start(&api, &good_certificate(), None);
        assert_works(&broker(version, front.port()).start());
        assert_eq!(api.requests().len(), 2);
        api.forget_requests();
        let words = ["authority", "not trusted", "tls_ca_file"];
        assert_refused(&untrusting_broker(version, front.port()).start(), &api, "no authority", &words);
        let others = untrusting_broker(version, front.port())
            .file("ca.pem", &THEIRS.certificate)
            .option("tls_ca_file", "ca.pem");
        assert_refused(&others.start(), &api, "another authority", &words);
        // A file may hold several.
        let both = untrusting_broker(version, front.port())
            .file("ca.pem", format!("{}{}", THEIRS.certificate, OURS.certificate))
            .option("tls_ca_file", "ca.pem");
        assert_works(&both.start());
    });
}

#[test]
fn a_name_is_as_good_as_an_address() {
    on_every_broker(|version| {
        let api = friendly_api();
        let front = TlsFront::start(&api, &OURS.issue("DNS:localhost", &Validity::NOW), None);
        let by_name = Broker::with(version)
            .option("auth_url", format!("https://localhost:{}/auth", front.port()))
            .file("ca.pem", &OURS.certificate)
            .option("tls_ca_file", "ca.pem");
        login("alice").accepted(by_name.start().port());
        api.forget_requests();
        assert_refused(&broker(version, front.port()).start(), &api, "a name for an address", &["name"]);
    });
}

/// What is wrong with a certificate, and what the log must say.
fn bad_certificates() -> Vec<(&'static str, Identity, Vec<&'static str>)> {
    let ours = |name, validity: Validity| OURS.issue(name, &validity);
    vec![
        ("expired", ours(ADDRESS, Validity::OVER), vec!["expired"]),
        ("of the future", ours(ADDRESS, Validity::NOT_YET), vec!["not valid yet"]),
        ("for another name", ours("DNS:other.example", Validity::NOW), vec!["name"]),
        ("for another address", ours("IP:127.0.0.2", Validity::NOW), vec!["name"]),
        ("of another authority", THEIRS.issue(ADDRESS, &Validity::NOW), vec!["authority", "tls_ca_file"]),
        ("self-signed", self_signed(ADDRESS), vec!["self-signed"]),
        ("self-signed by openssl's defaults", self_signed_authority(ADDRESS), vec!["self-signed"]),
    ]
}

#[test]
fn bad_certificates_are_refused_and_the_log_says_which() {
    on_every_broker(|version| {
        let mut wrong = Vec::new();
        for (what, identity, words) in bad_certificates() {
            let api = friendly_api();
            let front = TlsFront::start(&api, &identity, None);
            let broker = broker(version, front.port()).start();
            let checked = std::panic::catch_unwind(|| assert_refused(&broker, &api, what, &words));
            wrong.extend(checked.err().map(|_| what));
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    });
}

#[test]
fn insecure_takes_them_all_and_warns_at_every_start() {
    on_every_broker(|version| {
        for (what, identity, _) in bad_certificates() {
            let api = friendly_api();
            let front = TlsFront::start(&api, &identity, None);
            let mut broker = broker(version, front.port()).option("tls_insecure", "true").start();
            let warnings = |broker: &Broker| broker.log().matches("tls_insecure is true").count();
            assert_eq!(warnings(&broker), 1, "{what}");
            assert_works(&broker);
            if what == "expired" {
                broker.restart();
                assert_eq!(warnings(&broker), 2);
                broker.sighup();
                broker.wait_for_log("Files are re-read", PATIENCE);
                assert_eq!(warnings(&broker), 3);
            }
        }
    });
}

/// A certificate that vouches for itself is its own authority, if the operator names it as one.
#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_named() {
    on_every_broker(|version| {
        let api = friendly_api();
        let identity = self_signed(ADDRESS);
        let front = TlsFront::start(&api, &identity, None);
        let broker = untrusting_broker(version, front.port())
            .file("ca.pem", &identity.certificate)
            .option("tls_ca_file", "ca.pem");
        assert_works(&broker.start());
    });
}

#[test]
fn a_server_may_want_a_certificate_too() {
    on_every_broker(|version| {
        let api = friendly_api();
        let front = TlsFront::start(&api, &good_certificate(), Some(&OURS));
        let with = |identity: &Identity| {
            broker(version, front.port())
                .file("client.pem", &identity.certificate)
                .file("client.key", &identity.key)
                .option("tls_cert_file", "client.pem")
                .option("tls_key_file", "client.key")
        };
        assert_works(&with(&OURS.issue("DNS:broker", &Validity::NOW)).start());
        api.forget_requests();
        let words = ["client certificate", "tls_cert_file"];
        assert_refused(&broker(version, front.port()).start(), &api, "no certificate", &words);
        let theirs = with(&THEIRS.issue("DNS:broker", &Validity::NOW));
        assert_refused(&theirs.start(), &api, "another authority's", &["client certificate"]);
        let expired = with(&OURS.issue("DNS:broker", &Validity::OVER));
        assert_refused(&expired.start(), &api, "an expired one", &["client certificate"]);
    });
}

#[test]
fn a_certificate_and_a_key_that_do_not_go_together_are_a_mistake() {
    on_every_broker(|version| {
        let [one, other] = [(); 2].map(|()| OURS.issue("DNS:broker", &Validity::NOW));
        let failure = broker(version, 1)
            .file("client.pem", &one.certificate)
            .file("client.key", &other.key)
            .option("tls_cert_file", "client.pem")
            .option("tls_key_file", "client.key")
            .start_expecting_failure();
        assert!(failure.code.is_some_and(|code| code != 0), "{}", failure.log);
        let named =
            failure.log.lines().any(|line| line.contains("tls_cert_file") || line.contains("tls_key_file"));
        assert!(named, "{}", failure.log);
        assert!(!failure.log.contains("PRIVATE KEY"));
    });
}

#[test]
fn http_and_https_mixed_up_are_told() {
    on_every_broker(|version| {
        // https to a server that talks plain HTTP.
        let api = friendly_api();
        let plain = broker(version, api.address().port()).start();
        assert_refused(&plain, &api, "https to http", &["TLS"]);
        // http to a server that talks TLS.
        let front = TlsFront::start(&api, &good_certificate(), None);
        let url = format!("http://127.0.0.1:{}/auth", front.port());
        let mixed_up = Broker::with(version).option("auth_url", url).start();
        assert_refused(&mixed_up, &api, "http to https", &["https"]);
    });
}

/// TLS changes nothing about what an answer means.
#[test]
fn an_api_behind_tls_says_no_as_well() {
    on_every_broker(|version| {
        let api = api("user alice secret\nallow write t\n");
        let front = TlsFront::start(&api, &good_certificate(), None);
        let broker = broker(version, front.port()).start();
        assert_works(&broker);
        Connect::v5("m").login("alice", "guess").refused(broker.port());
        let mut alice = login("alice").accepted(broker.port());
        assert_eq!(alice.publish_acknowledged("other", "x"), reason::NOT_AUTHORIZED);
    });
}
