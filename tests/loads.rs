//! One file loads into every broker, logs what it will do, and refuses to start with a faulty configuration.

use std::process::Command;

mod support;
use support::broker::{plugin, plugin_line};
use support::{Broker, Connect, PATIENCE, Reply, Version, api, broker_asking, on_every_broker};

const RULES: &str = "user sensor secret\nallow all #\n";

#[test]
fn exports_the_plugin_interface_and_nothing_else() {
    let mut exported: Vec<String> = readelf("--dyn-syms")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(
            |fields| matches!(fields[..], [_, _, _, _, "GLOBAL" | "WEAK", _, section, _] if section != "UND"),
        )
        .map(|fields| fields[7].to_owned())
        .collect();
    exported.sort();
    // The first is by what copies of the file find each other.
    let expected = [
        "mosquitto_http_auth",
        "mosquitto_plugin_cleanup",
        "mosquitto_plugin_init",
        "mosquitto_plugin_version",
    ];
    assert_eq!(exported, expected);
}

#[test]
fn needs_no_library_but_the_c_library() {
    let dynamic = readelf("--dynamic");
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let names: Vec<&str> = needed.filter_map(|line| line.split(['[', ']']).nth(1)).collect();
    assert!(names.contains(&"libc.so.6"), "{dynamic}");
    let of_the_system = ["libc.so.", "ld-linux", "libm.so."];
    let others: Vec<_> =
        names.iter().filter(|name| !of_the_system.iter().any(|own| name.starts_with(own))).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn says_at_the_start_what_it_will_do() {
    on_every_broker(|version| {
        let broker = Broker::with(version)
            .option("auth_url", "http://joe:hush-hush@127.0.0.1:9/auth")
            .option("acl_url", "http://127.0.0.1:9/acl?key=hush-hush")
            .option("header", "X-Token: hush-hush")
            .option("cache_size", 4321)
            .start();
        let log = broker.log();
        let own: Vec<&str> = log.lines().filter(|line| line.contains("mosquitto-http-auth: ")).collect();
        assert_eq!(own.len(), 3, "what is asked, who waits, and the options: {own:?}");
        let mode = if version.is_2_1() { " mode" } else { "blocking mode" };
        for fact in [
            env!("CARGO_PKG_VERSION"),
            "logins: http://127.0.0.1:9",
            "topics: http://127.0.0.1:9",
            "4321",
            mode,
        ] {
            assert!(own.iter().any(|line| line.contains(fact)), "{fact:?} is not in {own:?}");
        }
        assert!(!log.contains("hush"), "a secret is in the log");
    });
}

#[test]
fn tells_the_broker_its_name() {
    let broker = Broker::with(Version::V2_1).option("auth_url", "http://127.0.0.1:9/").start();
    broker.wait_for_log(concat!("Plugin mosquitto-http-auth version ", env!("CARGO_PKG_VERSION")), PATIENCE);
}

#[test]
fn a_bad_option_keeps_the_broker_from_starting() {
    on_every_broker(|version| {
        let failure =
            Broker::with(version).option("auth_ulr", "http://127.0.0.1:9/").start_expecting_failure();
        assert!(failure.code.is_some_and(|code| code != 0), "{failure:?}");
        for word in ["auth_ulr", "auth_url"] {
            assert!(failure.log.contains(word), "{word:?} is not in the log: {}", failure.log);
        }
    });
}

/// What can be known to be wrong at the start is said at the start, with its file and line, and without its secrets.
#[test]
fn what_cannot_work_keeps_the_broker_from_starting() {
    let cases = [
        (
            "auth_url http://a/hush, http://b/hush",
            "plugin_opt_auth_url: URL 1 of 2, \"http://a/...\": found a comma",
        ),
        ("auth_url http:///hush", "plugin_opt_auth_url: \"http:///...\": there is no host in it"),
        (
            "auth_url http://u:hush@a..b/hush",
            "plugin_opt_auth_url: \"http://...@a..b/...\": no machine can have",
        ),
        ("auth_url \"http://a/hush\"", "plugin_opt_auth_url: found \" in front of the value"),
        ("auth_url http://a/hush # hush", "plugin_opt_auth_url: found a # behind the value"),
        ("auth_url http://a/${PATH}", "plugin_opt_auth_url: found \"${PATH}\", expected its value"),
        (
            "header Transfer-Encoding: hush",
            "plugin_opt_header: transfer-encoding is the request's own business",
        ),
        ("header_file two-hosts", "plugin_opt_header_file: Host is set twice"),
        ("header_file variable", "plugin_opt_header_file: variable, line 2: found \"${TOKEN}\""),
        ("acl_prefetch write a/#", "plugin_opt_acl_prefetch: found \"write a/#\", which no broker asks"),
        (
            "AUTH_URL http://a/hush",
            "plugin_opt_AUTH_URL: there is no option of this name; the nearest is auth_url",
        ),
        ("http_getuser_uri /hush", "plugin_opt_http_getuser_uri: this is an option of mosquitto-go-auth"),
        ("config_file behind.toml", "behind.toml, line 1: timeout: found \"abc\""),
    ];
    on_every_broker(|version| {
        for (line, words) in cases {
            let own = if line.starts_with("auth_url") { "acl_url" } else { "auth_url" };
            let failure = Broker::with(version)
                .option(own, "http://127.0.0.1:9/")
                .option("timeout", "1s")
                .line(format!("plugin_opt_{line}"))
                .file("two-hosts", "Host: hush\nHost: hush\n")
                .file("variable", "A: b\nX-Token: ${TOKEN}\n")
                .file("behind.toml", "timeout = 'abc'\n")
                .start_expecting_failure();
            assert!(failure.code.is_some_and(|code| code != 0), "{line}: {failure:?}");
            let own_lines: Vec<_> =
                failure.log.lines().filter(|line| line.contains("mosquitto-http-auth")).collect();
            assert!(own_lines.iter().any(|line| line.contains(words)), "{line}: {own_lines:#?}");
            assert!(!own_lines.iter().any(|line| line.contains("hush")), "{line}: {own_lines:#?}");
        }
    });
}

/// Such a plugin has nothing to decide with: whoever configured it meant something else.
#[test]
fn without_users_and_without_an_api_the_broker_does_not_start() {
    on_every_broker(|version| {
        let failure = Broker::with(version).start_expecting_failure();
        assert!(failure.code.is_some_and(|code| code != 0), "{failure:?}");
        assert!(failure.log.contains("auth_url"), "{}", failure.log);
    });
}

/// 2.0 registers a callback once for each library, and 2.1 once for each instance.
#[test]
fn a_second_plugin_line_for_the_same_file_works_or_is_explained() {
    on_every_broker(|version| {
        let api = api(RULES);
        let setup = broker_asking(version, &api)
            .line(plugin_line(&plugin()))
            .line(format!("plugin_opt_auth_url {}", api.auth_url()));
        if version.is_2_1() {
            let broker = setup.start();
            Connect::v3("client").login("sensor", "secret").accepted(broker.port());
            Connect::v3("client").login("sensor", "wrong").refused(broker.port());
        } else {
            let failure = setup.start_expecting_failure();
            assert!(failure.code.is_some_and(|code| code != 0), "{failure:?}");
            let explained = failure.log.lines().find(|line| line.contains("code 31)"));
            assert!(explained.is_some_and(|line| line.contains("same file")), "{}", failure.log);
        }
    });
}

#[test]
fn two_listeners_have_two_independent_instances() {
    on_every_broker(|version| {
        let inside = api("user inside secret\nallow all #\n");
        let outside = api("user outside secret\nallow all #\n");
        let mut broker = broker_asking(version, &inside)
            .global("per_listener_settings true")
            .listener([
                plugin_line(&plugin()),
                format!("plugin_opt_auth_url {}", outside.auth_url()),
                format!("plugin_opt_acl_url {}", outside.acl_url()),
            ])
            .start();
        let [inner_port, outer_port] = *broker.ports() else { panic!("two ports") };

        let mut inner = Connect::v3("a").login("inside", "secret").accepted(inner_port);
        let mut outer = Connect::v3("b").login("outside", "secret").accepted(outer_port);
        Connect::v3("c").login("inside", "secret").refused(outer_port);
        Connect::v3("d").login("outside", "secret").refused(inner_port);

        assert!(inner.may_subscribe("news"));
        outer.publish("news", "hello");
        assert_eq!(inner.receive(PATIENCE).expect("message").payload, b"hello");
        let names = |requests: Vec<support::Request>| {
            requests.iter().map(|request| request.field("username").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(inside.topic_checks()), ["inside", "inside"], "subscribe and read");
        assert_eq!(names(outside.topic_checks()), ["outside"], "write");

        inside.answer(Reply::Hang);
        Connect::v3("e").login("outside", "secret").accepted(outer_port);
        assert!(broker.terminate().0.success());
    });
}

fn readelf(part: &str) -> String {
    let output =
        Command::new("readelf").args(["--wide", part]).arg(plugin()).output().expect("readelf, of binutils");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
