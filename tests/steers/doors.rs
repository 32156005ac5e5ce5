//! Who may come in, and who may not.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use serde_json::json;
use tempfile::TempDir;

use crate::support::admin::socket_in;
use crate::support::broker::{plugin, plugin_line};
use crate::support::{
    Admin, Broker, Connect, MockApi, PATIENCE, Reply, TOKEN, Version, broker_asking, eventually,
    friendly_api, on_every_broker,
};

const AS_JSON: &str = "Content-Type: application/json\r\n";

fn steered(api: &MockApi) -> (Broker, Admin) {
    let admin = Admin::somewhere();
    let broker = admin.of(broker_asking(Version::V2_1, api)).start();
    (broker, admin)
}

#[test]
fn only_the_token_steers_over_tcp() {
    let api = friendly_api();
    let (broker, admin) = steered(&api);
    let mut client = Connect::v5("c").login("u", "secret").accepted(broker.port());
    for header in [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        "Authorization: Bearer wrong\r\n".to_owned(),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {}\r\n", &TOKEN[1..]),
        format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n"),
        format!("Cookie: token={TOKEN}\r\n"),
    ] {
        for (method, name) in [("POST", "kick"), ("GET", "status"), ("POST", "nonsense")] {
            let headers = format!("{header}{AS_JSON}");
            let answer = admin.request(method, &format!("/v1/{name}"), &headers, r#"{"username":"u"}"#);
            assert_eq!(answer.status, 401, "{header} {answer:?}");
            assert!(answer.header("WWW-Authenticate").is_some());
        }
    }
    assert!(client.try_ping(PATIENCE).is_some());
    assert!(!broker.log().contains("Command"), "{}", broker.log());
}

#[test]
fn no_page_of_another_site_steers_or_reads() {
    let api = friendly_api();
    let (_broker, admin) = steered(&api);
    let Admin::Tcp(port) = admin else { panic!("over TCP") };
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let forget = |headers: &str| admin.request("POST", "/v1/forget", headers, r#"{"username":"u"}"#).status;
    assert_eq!(forget(&format!("{token}{AS_JSON}")), 200);
    assert_eq!(forget(&format!("{token}{AS_JSON}Origin: http://127.0.0.1:{port}\r\n")), 200);
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1", &format!("https://127.0.0.1:{port}")]
    {
        assert_eq!(forget(&format!("{token}{AS_JSON}Origin: {origin}\r\n")), 403, "{origin}");
        for path in ["/metrics", "/figures", "/", "/healthz"] {
            let answer = admin.request("GET", path, &format!("Origin: {origin}\r\n"), "");
            assert_eq!(answer.status, 403, "{origin} {path}");
            assert!(!answer.head.to_ascii_lowercase().contains("access-control"), "{}", answer.head);
        }
    }
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        assert_eq!(forget(&format!("{token}{kind}")), 415, "{kind}");
    }
    assert_eq!(forget(&format!("{token}Content-Type: application/JSON; charset=utf-8\r\n")), 200);
    // A name that leads here, as a name server of somebody else's could say.
    for (host, path, status) in [
        ("evil.example", "/figures", 403),
        ("evil.example:9465", "/v1/status", 403),
        ("127.0.0.1.evil.example", "/", 403),
        ("evil.example", "/metrics", 200),
        ("LOCALHOST:9465", "/figures", 200),
        ("[::1]:9465", "/figures", 200),
        ("10.1.2.3", "/", 200),
        ("", "/figures", 403),
    ] {
        let answer = admin.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{token}\r\n").as_bytes());
        assert_eq!(answer.unwrap().status, status, "{host} {path}");
    }
    let options =
        admin.request("OPTIONS", "/v1/kick", &format!("{token}Origin: http://evil.example\r\n"), "");
    assert_eq!(options.status, 403);
    let page = admin.get("/");
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.body.contains("<title>mosquitto-http-auth</title>"));
}

#[test]
fn what_makes_no_sense_is_told_so() {
    let api = friendly_api();
    let (_broker, admin) = steered(&api);
    let headers = format!("Authorization: Bearer {TOKEN}\r\n{AS_JSON}");
    let command =
        |method: &str, name: &str, body: &str| admin.request(method, &format!("/v1/{name}"), &headers, body);
    for (method, name, body, status) in [
        ("POST", "forget", "", 400),
        ("POST", "forget", "[]", 400),
        ("POST", "forget", "{\"username\":", 400),
        ("POST", "forget", r#"{"username":"u","username":"v"}"#, 200),
        ("POST", "forget", r#"{"user":"u"}"#, 400),
        ("POST", "kick", r#"{"everything":true}"#, 400),
        ("GET", "forget", "", 405),
        ("PUT", "forget", "{}", 405),
        ("DELETE", "status", "", 405),
        ("GET", "status", "", 200),
        ("POST", "status", "", 200),
        ("POST", "reboot", "{}", 404),
        ("POST", "", "{}", 404),
        ("POST", "forget/", "{}", 404),
    ] {
        let answer = command(method, name, body);
        assert_eq!(answer.status, status, "{method} {name} {body}: {answer:?}");
        assert!(status == 200 || answer.json()["error"].is_string(), "{answer:?}");
        assert_eq!(answer.header("Connection"), Some("close"));
    }
    let large = format!(r#"{{"username":"{}"}}"#, "u".repeat(20_000));
    assert_eq!(command("POST", "forget", &large).status, 413);
    assert_eq!(command("POST", "forget", &"[".repeat(10_000)).status, 400);
    assert_eq!(admin.get("/nothing").status, 404);
    assert_eq!(admin.request("POST", "/metrics", "", "").status, 405);
    assert_eq!(admin.request("HEAD", "/healthz", "", "").body, "");
}

#[test]
fn a_unix_socket_needs_no_token_and_is_for_the_brokers_group() {
    on_every_broker(|version| {
        let (api, folder) = (friendly_api(), TempDir::new().unwrap());
        let path = socket_in(folder.path());
        // What a broker left behind that was killed.
        drop(UnixListener::bind(&path).unwrap());
        let admin = Admin::Unix(path.clone());
        let mut broker = admin.of(broker_asking(version, &api)).start();
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, 0o660);
        let mut client = Connect::v5("c").login("u", "secret").accepted(broker.port());
        assert_eq!(admin.carries_out("kick", &json!({"username": "u"})), json!({"kicked": 1}));
        assert!(client.wait_until_closed(PATIENCE));
        broker.wait_for_log("Command kick for username \"u\", by uid", PATIENCE);
        assert_eq!(
            admin.request("POST", "/v1/kick", &format!("{AS_JSON}Origin: http://localhost\r\n"), "{}").status,
            403
        );
        assert!(broker.terminate().0.success());
        assert!(!path.exists(), "it is taken away");
    });
}

#[test]
fn without_a_token_nobody_steers_over_tcp() {
    let api = friendly_api();
    let admin = Admin::somewhere();
    let Admin::Tcp(port) = admin else { panic!("over TCP") };
    let broker =
        broker_asking(Version::V2_1, &api).option("admin_listen", format!("127.0.0.1:{port}")).start();
    assert_eq!(admin.command("status", &json!({})).status, 403);
    assert_eq!(admin.get("/metrics").status, 200);
    drop(broker);
}

#[test]
fn a_reload_reads_the_token_again() {
    let api = friendly_api();
    let (broker, admin) = steered(&api);
    assert_eq!(admin.command("status", &json!({})).status, 200);
    fs::write(broker.folder().join("admin.token"), "another token is no token\n").unwrap();
    broker.sighup();
    broker.wait_for_log("holds no token: found a blank, or what is no ASCII; expected", PATIENCE);
    assert_eq!(admin.command("status", &json!({})).status, 200, "what was read before stays");
    assert_eq!(admin.carries_out("status", &json!({}))["reload"]["ok"], false);
    fs::write(broker.folder().join("admin.token"), "another-token-for-the-tests\n").unwrap();
    broker.sighup();
    assert!(eventually(PATIENCE, || admin.command("status", &json!({})).status == 401));
}

#[test]
fn a_place_that_is_taken_is_told_at_the_start() {
    on_every_broker(|version| {
        let api = friendly_api();
        let (taken, folder) = (TcpListener::bind("127.0.0.1:0").unwrap(), TempDir::new().unwrap());
        let path = socket_in(folder.path());
        let _taken_too = UnixListener::bind(&path).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        let tcp = taken.local_addr().unwrap().to_string();
        for (place, said) in [
            (tcp, "another program is there"),
            (format!("unix:{}", path.display()), "another program is there"),
            (format!("unix:{}", file.display()), "a file that is no socket is there"),
            ("unix:/nowhere/at/all".to_owned(), "there is no such folder"),
            ("203.0.113.7:9465".to_owned(), "this machine does not have the address"),
        ] {
            let failure =
                broker_asking(version, &api).option("admin_listen", &place).start_expecting_failure();
            let begins = format!("plugin_opt_admin_listen: cannot listen at {place} (");
            let is_said = failure.log.contains(&begins) && failure.log.contains(said);
            assert!(is_said, "mosquitto {version}: {}", failure.log);
        }
        let failure =
            broker_asking(version, &api).option("admin_listen", "localhost").start_expecting_failure();
        assert!(failure.log.contains("admin_listen"), "{}", failure.log);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    });
}

#[test]
fn a_second_copy_says_that_it_cannot_be_steered() {
    on_every_broker(|version| {
        let api = friendly_api();
        let admin = Admin::somewhere();
        let Admin::Tcp(port) = admin else { panic!("over TCP") };
        let broker = admin
            .of(broker_asking(version, &api))
            .global("per_listener_settings true")
            .listener([
                plugin_line(&plugin()),
                format!("plugin_opt_auth_url {}", api.auth_url()),
                format!("plugin_opt_admin_listen 127.0.0.1:{port}"),
            ])
            .start();
        broker.wait_for_log(
            "another copy of the plugin, or a listener of this broker, is there already",
            PATIENCE,
        );
        assert_eq!(admin.get("/healthz").status, 200);
        Connect::v5("c").login("u", "secret").accepted(broker.ports()[1]);
    });
}

/// Who connects there is no client of the broker, whatever it sends.
#[test]
fn nothing_is_asked_ahead_for_those_who_come_there() {
    on_every_broker(|version| {
        let api = friendly_api();
        let admin = Admin::somewhere();
        let Admin::Tcp(port) = admin else { panic!("over TCP") };
        let broker = admin.of(broker_asking(version, &api)).start();
        let mut client = Connect::v5("c").login("u", "secret").accepted(broker.port());
        let _strangers: Vec<_> = (0..5)
            .map(|n| {
                let mut stranger = crate::support::Client::open(port, crate::support::Protocol::V3_1_1);
                stranger.send(&Connect::v3(format!("s{n}")).login(format!("stranger{n}"), "x").packet());
                stranger
            })
            .collect();
        api.answer_with(|_| Reply::status(200).after(std::time::Duration::from_millis(100)));
        client.publish_acknowledged("t", "x");
        let asked = api.requests().iter().filter(|it| it.field("username").starts_with("stranger")).count();
        assert_eq!(asked, 0, "mosquitto {version}");
    });
}
