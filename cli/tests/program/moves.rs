//! `migrate`: configurations of other plugins in this one's options.

use std::fs;
use std::path::Path;

use mosquitto_http_auth::internals::THEIRS;
use tempfile::TempDir;

use crate::support::broker::plugin;
use crate::support::{Broker, Connect, Reply, Version, api};
use crate::{json, run, run_with, stderr, stdout};

const GO_AUTH: &str = "auth_plugin /mosquitto/go-auth.so\nauth_opt_backends http\n";

/// What `migrate` says of this configuration: its exit code, and its JSON.
fn moved(conf: &str) -> (i32, serde_json::Value) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mosquitto.conf");
    fs::write(&path, conf).unwrap();
    let output = run(&["migrate", path.to_str().unwrap(), "--json"]);
    (output.status.code().unwrap(), json(&output))
}

fn option<'j>(moved: &'j serde_json::Value, name: &str) -> Option<&'j str> {
    let options = moved["options"].as_array().unwrap();
    options.iter().find(|option| option["name"] == name)?["value"].as_str()
}

fn fate<'j>(moved: &'j serde_json::Value, name: &str) -> &'j str {
    let lines = moved["lines"].as_array().unwrap();
    lines.iter().find(|line| line["name"] == name).expect("a line about it")["fate"].as_str().unwrap()
}

#[test]
fn a_configuration_of_go_auth_comes_to_our_options() {
    let (code, moved) = moved(&format!(
        "listener 1883\n{GO_AUTH}auth_opt_http_host api.example\nauth_opt_http_port 8443\n\
         auth_opt_http_getuser_uri /user?x=1\nauth_opt_http_aclcheck_uri /acl\nauth_opt_http_superuser_uri /super\n\
         auth_opt_http_with_tls true\nauth_opt_http_timeout 7\nauth_opt_http_header_X-Key s3cret\n\
         auth_opt_http_method POST\nauth_opt_http_params_mode json\nauth_opt_http_response_mode status\n\
         auth_opt_cache true\nauth_opt_auth_cache_seconds 60\nauth_opt_log_level debug\nauth_opt_http_mode remote\n"
    ));
    assert_eq!(code, 0, "{moved}");
    for (name, value) in [
        ("auth_url", "https://api.example:8443/user?x=1"),
        ("acl_url", "https://api.example:8443/acl"),
        ("auth_fields", "clientid"),
        ("timeout", "7s"),
        ("auth_cache_ttl", "60s"),
        ("acl_cache_ttl", "30s"),
        ("header_file", "/etc/mosquitto/http_auth_headers"),
    ] {
        assert_eq!(option(&moved, name), Some(value), "{moved}");
    }
    assert!(!moved.to_string().contains("s3cret"), "{moved}");
    for (name, expected) in [
        ("http_host", "same"),
        ("http_superuser_uri", "same"),
        ("http_header_X-Key", "same"),
        ("log_level", "different"),
        ("http_mode", "missing"),
    ] {
        assert_eq!(fate(&moved, name), expected, "{name}");
    }
    assert!(moved["notes"].to_string().contains("certificate was not verified"), "{moved}");
}

/// What the API would not understand, or would let everybody in, is not printed ready to be used.
#[test]
fn what_would_not_do_is_switched_off() {
    let urls = "auth_opt_http_host a\nauth_opt_http_port 80\nauth_opt_http_getuser_uri /u\nauth_opt_http_aclcheck_uri /a\n";
    for (line, obstacle) in [
        ("http_response_mode json", "DANGER"),
        ("http_response_mode text", "DANGER"),
        ("http_params_mode form", "forms"),
        ("http_method GET", "POST in place of GET"),
        ("use_clientid_as_username true", "go by clientid"),
    ] {
        let conf = format!("{GO_AUTH}{urls}auth_opt_{line}\n");
        let (code, found) = moved(&conf);
        assert_eq!(code, 1, "{line}");
        assert!(found["obstacles"].to_string().contains(obstacle), "{found}");
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("mosquitto.conf");
        fs::write(&path, conf).unwrap();
        let text = stdout(&run(&["migrate", path.to_str().unwrap()]));
        assert!(text.contains("\n#plugin_opt_auth_url http://a:80/u\n"), "{text}");
        assert!(text.lines().all(|line| !line.starts_with("plugin_opt_")), "{text}");
    }
    let (code, found) = moved(&format!("{}{urls}", GO_AUTH.replace("http", "postgres, http")));
    assert_eq!((code, &found["works_as_it_stands"]), (1, &false.into()), "{found}");
    assert!(found["obstacles"].to_string().contains("which nothing here stands for"), "{found}");
}

#[test]
fn a_configuration_of_auth_plug_is_known_and_so_are_its_forms() {
    let (code, moved) = moved(
        "auth_plugin /usr/lib/auth-plug.so\nauth_opt_backends http\nauth_opt_http_ip 127.0.0.1\n\
         auth_opt_http_getuser_uri /auth\nauth_opt_http_superuser_uri /superuser\nauth_opt_http_aclcheck_uri /acl\n\
         auth_opt_http_basic_auth_key czNjcmV0\nauth_opt_acl_cacheseconds 20\n",
    );
    assert_eq!((code, &moved["works_as_it_stands"]), (1, &true.into()), "{moved}");
    assert_eq!(option(&moved, "auth_url"), Some("http://127.0.0.1:80/auth"));
    assert_eq!(option(&moved, "auth_cache_ttl"), Some("0s"));
    assert_eq!(option(&moved, "acl_cache_ttl"), Some("20s"));
    assert_eq!(option(&moved, "auth_fields"), None);
    assert!(
        moved["obstacles"].to_string().contains("forms") && !moved.to_string().contains("czNjcmV0"),
        "{moved}"
    );
}

/// What is printed is a configuration that works.
#[test]
fn a_broker_starts_with_what_is_printed_and_asks_the_same_api() {
    let api = api("user sensor-1 secret-1\nallow all #\n");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mosquitto.conf");
    let address = api.address();
    fs::write(
        &path,
        format!(
            "{GO_AUTH}auth_opt_http_host {}\nauth_opt_http_port {}\nauth_opt_http_getuser_uri /auth\n\
             auth_opt_http_aclcheck_uri /acl\nauth_opt_cache true\n",
            address.ip(),
            address.port()
        ),
    )
    .unwrap();
    let text = stdout(&run(&["migrate", path.to_str().unwrap()]));
    let options = text.lines().filter_map(|line| line.strip_prefix("plugin_opt_")?.split_once(' '));
    let setup =
        options.fold(Broker::with(Version::V2_0_11), |setup, (name, value)| setup.option(name, value));
    let broker = setup.start();
    let mut client = Connect::v3("c1").login("sensor-1", "secret-1").accepted(broker.port());
    assert!(client.may_subscribe("a/#"));
    let login = &api.logins()[0];
    assert_eq!(
        (login.field("clientid"), login.field("username"), login.field("password")),
        ("c1", "sensor-1", "secret-1")
    );
}

#[test]
fn a_file_without_such_a_plugin_is_said_to_be_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mosquitto.conf");
    fs::write(&path, "listener 1883\n").unwrap();
    let output = run(&["migrate", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no mosquitto-go-auth"), "{output:?}");
}

#[test]
fn the_page_on_moving_in_has_every_option() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/moving-in-options.md");
    let text = fs::read_to_string(&page).unwrap();
    let (begin, end) = ("<!-- theirs -->\n", "<!-- /theirs -->");
    let (before, rest) = text.split_once(begin).expect("where the table begins");
    let (found, behind) = rest.split_once(end).expect("where it ends");
    let mut expected = "| Option | Of | Here | |\n|---|---|---|---|\n".to_owned();
    for row in THEIRS {
        expected += &format!("| `{}` | {} | {} | {} |\n", row.name, row.of, row.fate.word(), row.here);
    }
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(&page, [before, begin, &expected, end, behind].concat()).unwrap();
        return;
    }
    assert!(found == expected, "run UPDATE_README=1 cargo test -p mosquitto-http-auth-cli");
}

/// The program reads such a configuration, and asks by it, as the plugin does.
#[test]
fn a_configuration_that_has_moved_in_is_checked_and_asked_by() {
    let api = api("");
    api.answer_with(|request| {
        let body = String::from_utf8_lossy(&request.body);
        let is_yes = match request.path.as_str() {
            "/super" => body == "username=root",
            _ => body.contains("username=joe") || body.contains("username=root&"),
        };
        Reply::status(200).body(if is_yes { b"ok" } else { b"no" })
    });
    let address = api.address();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mosquitto.conf");
    fs::write(
        &path,
        format!(
            "user root\nlistener 1883\nauth_plugin {}\nauth_opt_backends http\nauth_opt_http_host {}\nauth_opt_http_port {}\n\
             auth_opt_http_getuser_uri /user\nauth_opt_http_aclcheck_uri /acl\nauth_opt_http_superuser_uri /super\n\
             auth_opt_http_params_mode form\nauth_opt_http_response_mode text\nauth_opt_cache true\nauth_opt_log_level info\n",
            plugin().display(),
            address.ip(),
            address.port()
        ),
    )
    .unwrap();
    let file = path.to_str().unwrap();
    let report = json(&run(&["check", file, "--json"]));
    let findings = report["findings"].to_string();
    for expected in [
        "The options are those of mosquitto-go-auth",
        "plugin_opt_log_level: lines go to the broker's log",
        "A made-up user gets 200 with a result that is no allow, a no",
        "A made-up user is no superuser (200)",
    ] {
        assert!(findings.contains(expected), "{expected}: {report:#}");
    }
    assert_eq!(report["ok"], true, "{report:#}");
    let login = |name: &str| {
        run_with("s3cret", &["login", name, "--password-stdin", "--client-id", "c", "--config", file])
    };
    let output = login("joe");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("clientid=c&password=...&username=joe") && !text.contains("s3cret"), "{text}");
    assert_eq!(login("mallory").status.code(), Some(1));
    api.forget_requests();
    let topic = |name: &str| run(&["topic", name, "write", "a/b", "--client-id", "c", "--config", file]);
    let output = topic("root");
    assert!(stdout(&output).contains("the user may do everything"), "{output:?}");
    assert_eq!(topic("joe").status.code(), Some(0));
    let paths: Vec<_> = api.requests().iter().map(|request| request.path.clone()).collect();
    assert_eq!(paths, ["/super", "/super", "/acl"]);
}
