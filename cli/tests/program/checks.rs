//! `check`.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::tls::{Authority, TlsFront, Validity};
use crate::support::{
    Broker, Gate, MockApi, Reply, Version, api, broker_asking, free_port, friendly_api, local_user,
    on_every_broker,
};
use crate::support::{broker::plugin, servers};
use crate::{json, run};

/// A configuration that loads the plugin with these lines behind it.
fn conf(folder: &Path, lines: &str) -> String {
    let path = folder.join("mosquitto.conf");
    fs::write(&path, format!("user root\nlistener 1883\nplugin {}\n{lines}", plugin().display())).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The findings about a configuration with these lines, as `level: text -> cure`.
fn findings(lines: &str) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    found(&json(&run(&["check", &conf(folder.path(), lines), "--json"])))
}

fn found(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let shown = |finding: &Value| {
        let [level, text, cure] =
            ["level", "text", "cure"].map(|name| finding[name].as_str().unwrap_or_default());
        format!("{level}: {text} -> {cure}")
    };
    findings.map(shown).collect()
}

fn has(findings: &[String], level: &str, text: &str) -> bool {
    findings.iter().any(|finding| finding.starts_with(level) && finding.contains(text))
}

#[track_caller]
fn assert_finds(lines: &str, level: &str, text: &str) {
    let findings = findings(lines);
    assert!(has(&findings, level, text), "{lines}: {findings:#?}");
}

fn urls(api: &MockApi) -> String {
    format!("plugin_opt_auth_url {}\nplugin_opt_acl_url {}\n", api.auth_url(), api.acl_url())
}

#[test]
fn what_works_is_well_and_asks_about_nobody_who_exists() {
    on_every_broker(|version| {
        let api = api("user sensor-1 secret-1\nallow all #\n");
        let broker = broker_asking(version, &api).start();
        let file = broker.folder().join("mosquitto.conf");
        let program = version.program("mosquitto");
        let output = run(&[
            "check",
            file.to_str().unwrap(),
            "--broker",
            program.to_str().unwrap(),
            "--json",
            "--strict",
        ]);
        let report = json(&output);
        assert_eq!((output.status.code(), &report["ok"]), (Some(0), &Value::Bool(true)), "{report:#}");
        let findings = found(&report);
        assert!(has(&findings, "ok", &format!("mosquitto {version}")), "{findings:#?}");
        assert!(has(&findings, "ok", "A made-up user gets 403, a no"), "{findings:#?}");
        assert!(has(&findings, "ok", "Answers took"), "{findings:#?}");
        let asked = api.requests();
        assert!(asked.len() == 6 && asked.iter().all(|request| request.field("username").contains("check")));
    });
}

#[test]
fn people_read_words_and_no_colours_where_there_is_no_terminal() {
    let folder = TempDir::new().unwrap();
    let api = api("");
    let output = run(&["check", &conf(folder.path(), &urls(&api))]);
    let text = crate::stdout(&output);
    assert!(text.contains("  ok ") && text.contains("no mistake, ") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_mistake_in_an_option_is_found_with_its_line_as_the_broker_says_it() {
    let folder = TempDir::new().unwrap();
    let file = conf(folder.path(), "plugin_opt_acl_uri http://127.0.0.1/\nplugin_opt_timeout 2 sec\n");
    let output = run(&["check", &file, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings = found(&json(&output));
    assert!(
        has(&findings, "error", "mosquitto.conf, line 4: plugin_opt_acl_uri: there is no option"),
        "{findings:#?}"
    );
    assert!(has(&findings, "error", "line 5: plugin_opt_timeout: found \"2 sec\""), "{findings:#?}");
    let failure =
        Broker::with(Version::V2_0_21).line("plugin_opt_acl_uri http://127.0.0.1/").start_expecting_failure();
    assert!(failure.log.contains("plugin_opt_acl_uri: there is no option"), "{}", failure.log);
}

#[test]
fn an_open_door_is_found() {
    let open = friendly_api();
    assert_finds(
        &urls(&open),
        "error",
        "A made-up user with a made-up password gets 200: everybody is let in",
    );
    open.answer(Reply::status(200).body(b"{\"result\":\"deny\"}"));
    assert_finds(&urls(&open), "error", "its body says no, which does not count");
    assert_finds(&urls(&open), "warning", "A made-up user may read a made-up topic");
    let api = api("");
    assert_finds(
        &urls(&api).replace("/acl\n", "/acl\nallow_anonymous true\n"),
        "warning",
        "allow_anonymous true",
    );
}

/// Without a listener's line brokers let in who has no name, unless told otherwise, and 2.0.11 even then.
/// Starts a broker in a network of its own, where nobody has its port, and says who gets in: somebody with a wrong password,
/// and whoever gives neither username nor password.
fn who_gets_in(version: Version, file: &str) -> [bool; 2] {
    const SCRIPT: &str = r#"
        ip link set lo up
        "$0/mosquitto" -c "$1" >&2 & broker=$!
        come() {
            while "$0/mosquitto_pub" -t t -m m "$@" >&2; code=$?; [ $code = 1 ] && kill -0 $broker; do sleep 0.05; done
            echo $code
        }
        come -u joe -P wrong; come
        kill $broker
    "#;
    let programs = version.program("mosquitto");
    let mut inside = Command::new("unshare");
    inside.args(["-n", "sh", "-c", SCRIPT]).arg(programs.parent().unwrap()).arg(file);
    let output = inside.output().unwrap();
    let codes = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    let codes: Vec<_> = codes.lines().map(|code| code == "0").collect();
    codes.try_into().unwrap_or_else(|codes| panic!("{codes:?}: {log}"))
}

#[test]
fn who_gets_in_where_there_is_no_listener_is_found() {
    let has_own_networks = Command::new("unshare").args(["-n", "ip", "link", "set", "lo", "up"]).output();
    let has_own_networks = has_own_networks.is_ok_and(|output| output.status.success());
    if !has_own_networks {
        eprintln!("the brokers themselves skipped: there are no network namespaces here (unshare(1), ip(8))");
    }
    on_every_broker(|version| {
        let api = api("");
        let folder = TempDir::new().unwrap();
        let finds = |lines: &str| {
            let file = conf(folder.path(), "");
            // Above the plugin's line, where they count for the broker.
            let text = fs::read_to_string(&file).unwrap().replace("listener 1883\n", lines) + &urls(&api);
            fs::write(&file, text).unwrap();
            let program = version.program("mosquitto");
            let output = run(&["check", &file, "--broker", program.to_str().unwrap(), "--offline", "--json"]);
            let findings = found(&json(&output));
            let found = [("error", "asks no plugin then"), ("warning", "There is no listener line")];
            let found = found.map(|(level, text)| has(&findings, level, text));
            if has_own_networks {
                let [stranger, anonymous] = who_gets_in(version, &file);
                assert!(
                    found[0] >= stranger,
                    "{version:?}, {lines}: a wrong password is enough, {findings:#?}"
                );
                assert!(found[0] || found[1] == anonymous, "{version:?}, {lines}: {findings:#?}");
                // Before, it asked; later, it does not start.
                let is_open = lines.contains("per_listener_settings true") && version == Version::V2_0_21;
                assert_eq!(stranger, is_open, "{version:?}, {lines}");
            }
            found
        };
        assert_eq!(finds("per_listener_settings true\nallow_anonymous false\n"), [true, false]);
        assert_eq!(finds(""), [false, true]);
        assert_eq!(finds("allow_anonymous false\n"), [false, version == Version::V2_0_11]);
        let as_a_listener = finds("bind_address 127.0.0.1\n");
        assert_eq!(as_a_listener, [false; 2], "the broker does as with a listener's line");
    });
}

#[test]
fn what_a_broker_loses_by_itself_is_found() {
    on_every_broker(|version| {
        let api = api("");
        let folder = TempDir::new().unwrap();
        let finds = |above: &str, option: &str, text: &str| {
            let file = conf(folder.path(), &format!("{}{option}", urls(&api)));
            let text_of = fs::read_to_string(&file).unwrap();
            fs::write(&file, format!("{above}{text_of}")).unwrap();
            let program = version.program("mosquitto");
            let output = run(&["check", &file, "--broker", program.to_str().unwrap(), "--offline", "--json"]);
            has(&found(&json(&output)), "warning", text)
        };
        let keeps_nothing = "keeps no messages for clients that are away";
        assert_eq!(finds("per_listener_settings true\n", "", keeps_nothing), version == Version::V2_0_21);
        assert!(!finds("", "", keeps_nothing));
        let disconnects = "disconnects all clients without a username at each SIGHUP";
        assert!(finds("", "plugin_opt_username_missing ask\n", disconnects));
        assert!(!finds("allow_anonymous true\n", "plugin_opt_username_missing ask\n", disconnects));
        assert!(!finds("", "plugin_opt_username_missing refuse\n", disconnects));
    });
}

#[test]
fn the_address_for_many_questions_is_asked_too() {
    let api = api("");
    let urls = format!("{}plugin_opt_acl_batch_url {}\n", urls(&api), api.batch_url());
    assert_finds(&urls, "ok", "in one request get a no each");
    let batch = |reply: Reply| {
        api.answer_with(
            move |request| {
                if request.checks().is_empty() { Reply::rules() } else { reply.clone() }
            },
        );
    };
    batch(Reply::results([false, true]));
    assert_finds(&urls, "warning", "true among the results");
    batch(Reply::results([false]));
    assert_finds(&urls, "error", "status 200 with 1 results for 2 questions");
    batch(Reply::status(404));
    assert_finds(&urls, "error", "status 404, as for a path that it does not have");
}

#[test]
fn what_an_api_says_that_is_no_plain_no_is_explained() {
    let api = api("");
    for (status, level, text) in [
        (404, "warning", "as for a path that it does not have"),
        (301, "warning", "a redirect, which is not followed"),
        (405, "warning", "takes no POST"),
        (503, "error", "which is no answer"),
        (401, "ok", "a no"),
    ] {
        api.answer(Reply::status(status));
        assert_finds(&urls(&api), level, text);
    }
    assert_finds(&format!("{}plugin_opt_defer_status 404\n", urls(&api)), "ok", "401");
}

#[test]
fn a_body_that_says_no_or_cannot_be_used_is_explained() {
    let api = api("");
    let lines = format!("{}plugin_opt_answer_rules true\n", urls(&api));
    api.answer(Reply::json(&serde_json::json!({"result": "deny"})));
    assert_finds(&lines, "ok", "200 with a result that is no allow, a no");
    assert_finds(&urls(&api), "error", "everybody is let in");
    api.answer(Reply::json(&serde_json::json!({"acl": 1})));
    assert_finds(&lines, "error", "with a body that cannot be used");
}

#[test]
fn a_way_that_leads_nowhere_is_found_at_its_step() {
    let url = |url: &str| format!("plugin_opt_auth_url {url}\n");
    assert_finds(
        &url(&format!("http://127.0.0.1:{}/auth", free_port())),
        "error",
        "No connection: 127.0.0.1",
    );
    assert_finds(&url("http://no-such-host.invalid/auth"), "error", "no-such-host.invalid");
    assert_finds(&url("http://unix:/nowhere/api.sock:/auth"), "error", "the socket /nowhere/api.sock");
    let authority = Authority::new("Somebody's authority");
    let api = api("");
    let front = TlsFront::start(&api, &authority.issue("IP:127.0.0.1", &Validity::NOW), None);
    let https = url(&format!("https://127.0.0.1:{}/auth", front.port()));
    assert_finds(&https, "error", "from an authority that is not trusted here");
    let folder = TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &authority.certificate).unwrap();
    assert_finds(&format!("{https}plugin_opt_tls_ca_file {}\n", ca.display()), "ok", "TLS 1.3 in");
    assert_finds(
        &url(&format!("https://{}/auth", api.address())),
        "error",
        "does it speak TLS on this port? -> write http://",
    );
    let talker = servers::Server::talker(b"SSH-2.0-x\r\n", b"");
    assert_finds(&url(&format!("http://{}/auth", talker.address)), "error", "got no answer");
}

#[test]
fn an_api_that_is_slower_than_its_time_is_found() {
    let api = api("");
    let gate = Gate::in_front_of(&api, Reply::status(403));
    let slow = format!("{}plugin_opt_timeout 10ms\n", urls(&api).lines().next().unwrap().to_owned() + "\n");
    let waiting = std::thread::spawn(move || findings(&slow));
    api.wait_for_requests(1, crate::support::PATIENCE);
    // Longer than the plugin would have waited.
    std::thread::sleep(std::time::Duration::from_millis(50));
    drop(gate);
    let findings = waiting.join().unwrap();
    assert!(
        has(&findings, "error", "the plugin would not have waited. -> make the API faster"),
        "{findings:#?}"
    );
}

#[test]
fn included_files_and_plugins_of_listeners_are_found() {
    let (folder, api) = (TempDir::new().unwrap(), api(""));
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("conf.d")).unwrap();
    fs::write(path("conf.d/b.conf"), format!("plugin {}\n{}", plugin().display(), urls(&api))).unwrap();
    fs::write(path("conf.d/c.bak"), "plugin /nowhere\n").unwrap();
    fs::write(path("m.conf"), format!("user root\ninclude_dir {}\n", path("conf.d").display())).unwrap();
    let findings = found(&json(&run(&["check", path("m.conf").to_str().unwrap(), "--json"])));
    assert!(
        has(&findings, "ok", "conf.d/b.conf, line 1: the plugin is loaded for every listener"),
        "{findings:#?}"
    );

    let listeners = format!(
        "user root\nper_listener_settings true\nlistener 1883\nlistener 8883\nplugin_load http {}\n{}plugin_use http\n",
        plugin().display(),
        urls(&api)
    );
    fs::write(path("m.conf"), listeners).unwrap();
    let findings = found(&json(&run(&["check", path("m.conf").to_str().unwrap(), "--json"])));
    assert!(has(&findings, "ok", "the plugin is loaded for listener 8883"), "{findings:#?}");
    assert!(has(&findings, "warning", "Listener 1883 has no mosquitto-http-auth"), "{findings:#?}");
}

#[test]
fn a_configuration_without_the_plugin_is_told_what_to_add() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("m.conf");
    fs::write(&file, "listener 1883\nplugin /usr/lib/mosquitto_dynamic_security.so\n").unwrap();
    let output = run(&["check", file.to_str().unwrap(), "--json"]);
    let findings = found(&json(&output));
    assert_eq!(output.status.code(), Some(1));
    assert!(has(&findings, "error", "add two lines: plugin /"), "{findings:#?}");
    let output = run(&["check", "/nowhere/mosquitto.conf", "--json"]);
    assert!(has(&found(&json(&output)), "error", "/nowhere/mosquitto.conf cannot be read"));
}

#[test]
fn files_are_seen_as_the_brokers_user_sees_them() {
    // Nobody else can become another user.
    if std::env::var("USER").is_ok_and(|user| user != "root") || fs::metadata("/root/.").is_err() {
        return;
    }
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let users = folder.path().join("users");
    fs::write(&users, local_user("alice")).unwrap();
    fs::set_permissions(&users, Permissions::from_mode(0o600)).unwrap();
    let file = conf(folder.path(), &format!("plugin_opt_password_file {}\n", users.display()));
    let text = fs::read_to_string(&file).unwrap().replace("user root", "user nobody");
    fs::write(&file, text).unwrap();
    let findings = found(&json(&run(&["check", &file, "--json"])));
    let refused = findings.iter().find(|finding| finding.contains("Permission denied")).unwrap();
    assert!(
        refused.starts_with("error: plugin_opt_password_file") && refused.contains("chown root:nobody"),
        "{refused}"
    );
    fs::set_permissions(&users, Permissions::from_mode(0o644)).unwrap();
    let findings = found(&json(&run(&["check", &file, "--json"])));
    assert!(has(&findings, "ok", "1 local users"), "{findings:#?}");
    assert!(has(&findings, "warning", "can be read by everybody"), "{findings:#?}");
}

/// Rules in the answers about logins decide, too.
#[test]
fn whether_topics_are_checked_is_said_as_the_plugin_does_it() {
    let api = friendly_api();
    let login = format!("plugin_opt_auth_url {}\n", api.auth_url());
    assert_finds(&login, "note", "No acl_url: this plugin checks no topics");
    let by_rules = login + "plugin_opt_answer_rules true\n";
    assert_finds(&by_rules, "note", "No acl_url: topics are decided by the rules in a login's answer");
    assert!(!has(&findings(&by_rules), "note", "No acl_url: this plugin checks no topics"));
}

/// Each option that names a file, whichever it is.
#[test]
fn files_that_are_not_named_from_the_root_on_are_found() {
    let lines = "plugin_opt_admin_listen 127.0.0.1:9001\nplugin_opt_admin_token_file token\n\
                 plugin_opt_shared_cache redis://127.0.0.1:1\nplugin_opt_shared_cache_secret_file secret\n\
                 plugin_opt_password_file users\n";
    for (option, file) in
        [("admin_token_file", "token"), ("shared_cache_secret_file", "secret"), ("password_file", "users")]
    {
        let text = format!("{option}: {file} is found only from the folder");
        assert_finds(lines, "warning", &text);
    }
}

/// All of these keep the broker from starting.
#[test]
fn what_only_the_plugin_itself_reads_is_found_too() {
    let folder = TempDir::new().unwrap();
    let (short, nowhere) = (folder.path().join("short"), folder.path().join("nowhere"));
    fs::write(&short, "short\n").unwrap();
    let api = friendly_api();
    let urls = urls(&api);
    let with = |lines: String| format!("{urls}{lines}");
    for (name, file, text) in [
        ("admin_token_file", &nowhere, "cannot be read (No such file"),
        ("admin_token_file", &short, "holds no token: found 5 characters"),
        ("shared_cache_secret_file", &nowhere, "cannot be read (No such file"),
        ("shared_cache_secret_file", &short, "holds no secret: found a line of 5 characters"),
    ] {
        let shared = "plugin_opt_shared_cache redis://127.0.0.1:1\n";
        let shared = if name.starts_with("shared") { shared } else { "" };
        let lines = with(format!("{shared}plugin_opt_{name} {}\n", file.display()));
        assert_finds(&lines, "error", &format!("plugin_opt_{name}: {} {text}", file.display()));
    }
    let places = [
        (format!("unix:{}/admin.sock", nowhere.display()), "No such file or directory"),
        (format!("unix:{}", short.display()), "a file that is no socket is there"),
        ("192.0.2.1:9465".to_owned(), "Cannot assign requested address"),
    ];
    for (place, text) in places {
        let lines = with(format!("plugin_opt_admin_listen {place}\n"));
        assert_finds(&lines, "error", &format!("plugin_opt_admin_listen: cannot listen at {place} ("));
        assert_finds(&lines, "error", text);
    }
    // A running broker is there itself.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let lines = with(format!("plugin_opt_admin_listen {}\n", taken.local_addr().unwrap()));
    assert!(!has(&findings(&lines), "error", "admin_listen"), "{lines}");
}

#[test]
fn what_only_2_1_can_do_is_found_for_2_0() {
    on_every_broker(|version| {
        let api = friendly_api();
        let more = "plugin_opt_auth_mode delayed\nplugin_opt_auth_fields listener_port\n";
        let folder = TempDir::new().unwrap();
        let file = conf(folder.path(), &format!("{}{more}", urls(&api)));
        let program = version.program("mosquitto");
        let report = json(&run(&["check", &file, "--broker", program.to_str().unwrap(), "--json"]));
        let findings = found(&report);
        for text in ["plugin_opt_auth_mode: delayed, but", "plugin_opt_auth_fields: listener_port, which"] {
            assert_eq!(has(&findings, "error", text), !version.is_2_1(), "{findings:#?}");
        }
    });
}

#[test]
fn what_is_no_library_is_found() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("m.conf");
    let library = folder.path().join("mosquitto_http_auth.so");
    fs::write(&file, format!("user root\nplugin {}\n", library.display())).unwrap();
    let findings = |content: &str| {
        fs::write(&library, content).unwrap();
        found(&json(&run(&["check", file.to_str().unwrap(), "--json"])))
    };
    assert!(has(&findings("mosquitto-http-auth/0.1.0"), "error", "it is no program or library"));
    fs::remove_file(&library).unwrap();
    let gone = found(&json(&run(&["check", file.to_str().unwrap(), "--json"])));
    assert!(has(&gone, "error", "cannot be loaded (No such file"), "{gone:#?}");
}
