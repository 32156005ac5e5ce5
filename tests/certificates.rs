//! Certificates that are in a file byte for byte are trusted, and what is wrong with others, or with files, is said with
//! the command that mends it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

mod support;
use support::tls::{
    Authority, Identity, OpensslServer, TlsFront, Validity, assert_no_answer, converted, made_by,
    self_signed_authority,
};
use support::{Broker, Setup, Version, friendly_api, login, on_every_broker, read_some, side_by_side};

const ADDRESS: &str = "IP:127.0.0.1";
const SAN: &str = "subjectAltName=IP:127.0.0.1";

fn broker(version: Version, port: u16, trusted: &str) -> Setup {
    Broker::with(version)
        .option("auth_url", format!("https://127.0.0.1:{port}/auth"))
        .file("ca.pem", trusted)
        .option("tls_ca_file", "ca.pem")
}

#[test]
fn the_very_certificate_that_is_named_is_trusted() {
    on_every_broker(|version| {
        let api = friendly_api();
        let authority = Authority::new("Nobody's authority");
        let leaf = authority.issue(ADDRESS, &Validity::NOW);
        for identity in [self_signed_authority(ADDRESS), leaf] {
            let front = TlsFront::start(&api, &identity, None);
            login("alice").accepted(broker(version, front.port(), &identity.certificate).start().port());
            // Another one is not, whatever it says of itself.
            let other = self_signed_authority(ADDRESS);
            let broker = broker(version, front.port(), &other.certificate).start();
            assert_no_answer(
                &broker,
                "another one",
                &["the API's certificate (https://127.0.0.1:", "tls_ca_file"],
            );
        }
    });
}

#[test]
fn its_name_and_its_dates_still_count() {
    on_every_broker(|version| {
        let api = friendly_api();
        let authority = Authority::new("Nobody's authority");
        for (identity, words) in [
            (self_signed_authority("DNS:other.example"), vec!["name"]),
            (authority.issue("DNS:other.example", &Validity::NOW), vec!["name"]),
            (authority.issue(ADDRESS, &Validity::OVER), vec!["expired"]),
            (authority.issue(ADDRESS, &Validity::NOT_YET), vec!["not valid yet"]),
            (authority.issue_authority(ADDRESS, &Validity::OVER), vec!["expired"]),
        ] {
            let front = TlsFront::start(&api, &identity, None);
            let broker = broker(version, front.port(), &identity.certificate).start();
            assert_no_answer(&broker, "named", &words);
        }
        assert!(api.requests().is_empty(), "a password was sent");
    });
}

/// The identity of a server whose key and certificate these options of openssl make, issued by an authority of its own,
/// and that authority.
fn issued(key: &str, how: &str) -> (Identity, String) {
    made_by(&[
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 3650 -subj /CN=ours",
        &format!("req -new {key} -nodes -keyout leaf.key -out leaf.csr -subj /CN=127.0.0.1 -addext {SAN}"),
        &format!(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out leaf.pem {how}"
        ),
    ])
}

/// The same with a certificate of version 1. What has no extensions is one, until OpenSSL 3.4 asks for it by name.
fn issued_in_version_1() -> (Identity, String) {
    let help = Command::new("openssl").args(["req", "-help"]).output().unwrap();
    if !String::from_utf8_lossy(&help.stderr).contains("-x509v1") {
        return issued("-newkey rsa:2048", "");
    }
    made_by(&[
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 3650 -subj /CN=ours",
        "req -config /dev/null -x509 -x509v1 -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.pem -days 3650 -subj /CN=127.0.0.1 \
         -CA ca.pem -CAkey ca.key",
    ])
}

#[test]
fn what_is_wrong_with_the_apis_certificate_is_said() {
    let rsa = "-newkey rsa:2048";
    let copied = "-copy_extensions copy";
    for (what, (identity, authority), options, words) in [
        (
            "version 1",
            issued_in_version_1(),
            "",
            vec!["X.509 version 1", "openssl x509 -req", "subjectAltName"],
        ),
        ("RSA-1024", issued("-newkey rsa:1024", copied), "", vec!["RSA of fewer than 2048 bits", "openssl"]),
        ("SHA-1", issued(rsa, &format!("{copied} -sha1")), "", vec!["SHA-1", "openssl x509 -req -sha256"]),
        (
            "P-521",
            issued("-newkey ec -pkeyopt ec_paramgen_curve:P-521", copied),
            "",
            vec!["curve P-521", "openssl ecparam"],
        ),
        ("TLS 1.1", issued(rsa, copied), "-tls1_1", vec!["neither TLS 1.2 nor 1.3", "openssl s_client"]),
    ] {
        let server = OpensslServer::start(&identity, options);
        on_every_broker(|version| {
            assert_no_answer(&broker(version, server.port(), &authority).start(), what, &words);
        });
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_the_command_that_mends_it() {
    let (good, authority) = issued("-newkey rsa:2048", "-copy_extensions copy");
    let (first, _) = issued_in_version_1();
    let (weak, _) = issued("-newkey rsa:1024", "-copy_extensions copy");
    let (curve, _) = issued("-newkey ec -pkeyopt ec_paramgen_curve:P-521", "-copy_extensions copy");
    let text = |pem: &str| pem.as_bytes().to_vec();
    let utf_16 = |pem: &str| {
        let units = pem.encode_utf16().flat_map(u16::to_le_bytes);
        [0xff, 0xfe].into_iter().chain(units).collect::<Vec<u8>>()
    };
    let bom = |pem: &str| [b"\xef\xbb\xbf", pem.as_bytes()].concat();
    let der = converted(&authority, "x509 -outform DER");
    let der_key = converted(&good.key, "pkey -outform DER");
    let encrypted = converted(&good.key, "pkey -aes128 -passout pass:hush-hush");
    let old_encrypted = converted(&good.key, "rsa -traditional -aes128 -passout pass:hush-hush");
    let bundle = converted(&format!("{}{}", good.certificate, good.key), "pkcs12 -export -passout pass:");
    let (ca, certificate, key) = (text(&authority), text(&good.certificate), text(&good.key));
    let cases = [
        ("tls_ca_file", [der, certificate.clone(), key.clone()], "openssl x509 -inform DER -in ca.pem"),
        ("tls_ca_file", [bom(&authority), certificate.clone(), key.clone()], "byte order mark"),
        ("tls_ca_file", [utf_16(&authority), certificate.clone(), key.clone()], "iconv -f UTF-16"),
        ("tls_ca_file", [key.clone(), certificate.clone(), key.clone()], "found \"BEGIN PRIVATE KEY\""),
        ("tls_ca_file", [text("nothing"), certificate.clone(), key.clone()], "found no line"),
        ("tls_cert_file", [ca.clone(), bundle, key.clone()], "openssl pkcs12 -nokeys -in client.pem"),
        ("tls_cert_file", [ca.clone(), text(&first.certificate), text(&first.key)], "X.509 version 1"),
        (
            "tls_key_file",
            [ca.clone(), certificate.clone(), der_key],
            "openssl pkey -inform DER -in client.key",
        ),
        ("tls_key_file", [ca.clone(), certificate.clone(), encrypted], "openssl pkey -in client.key"),
        ("tls_key_file", [ca.clone(), certificate.clone(), old_encrypted], "openssl pkey -in client.key"),
        ("tls_key_file", [ca.clone(), certificate.clone(), bom(&good.key)], "byte order mark"),
        (
            "tls_key_file",
            [ca.clone(), text(&weak.certificate), text(&weak.key)],
            "RSA of fewer than 2048 bits",
        ),
        ("tls_key_file", [ca.clone(), text(&curve.certificate), text(&curve.key)], "P-521"),
    ];
    on_every_broker(|version| {
        for (option, [authority, certificate, key], words) in &cases {
            let failure = broker(version, 1, "")
                .file("ca.pem", authority)
                .file("client.pem", certificate)
                .file("client.key", key)
                .option("tls_cert_file", "client.pem")
                .option("tls_key_file", "client.key")
                .start_expecting_failure();
            let told = |line: &str| line.contains(&format!("plugin_opt_{option}: ")) && line.contains(words);
            assert!(failure.log.lines().any(told), "{option}, {words}: {}", failure.log);
            assert!(!failure.log.contains("hush"), "{}", failure.log);
        }
    });
}

/// The two recipes of docs/security.md, for a host of this machine.
#[test]
fn the_documented_recipes_work() {
    let page = include_str!("../docs/security.md");
    let blocks = page.split("\n```sh\n").skip(1).map(|rest| &rest[..rest.find("\n```").unwrap()]);
    let recipes: Vec<_> = blocks.filter(|block| block.contains("openssl req -x509")).collect();
    assert_eq!(recipes.len(), 2);
    for (recipe, trusted) in recipes.into_iter().zip(["api.pem", "ca.pem"]) {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe.replace("api.internal", "localhost");
        let run = Command::new("sh").args(["-ec", &recipe]).current_dir(folder.path()).output().unwrap();
        assert!(run.status.success(), "{recipe}: {run:?}");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let api = friendly_api();
        let front =
            TlsFront::start(&api, &Identity { certificate: read("api.pem"), key: read("api.key") }, None);
        on_every_broker(|version| {
            let broker = Broker::with(version)
                .option("auth_url", format!("https://localhost:{}/auth", front.port()))
                .file("trusted.pem", read(trusted))
                .option("tls_ca_file", "trusted.pem");
            login("alice").accepted(broker.start().port());
        });
    }
}

/// A server that takes TLS alone may hang up on plain HTTP, or answer with an alert.
#[test]
fn http_to_a_port_of_https_is_told() {
    let alert: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];
    for answer in [&[][..], alert] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = read_some(&mut stream, &mut [0; 1024]);
                let _ = stream.write_all(answer);
            }
        });
        side_by_side(Version::ALL, |version| {
            let url = format!("http://127.0.0.1:{port}/auth");
            let broker = Broker::with(version).option("auth_url", url).start();
            assert_no_answer(&broker, "http to https", &["https:// URL"]);
        });
    }
}
