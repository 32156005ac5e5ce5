//! `config_file`: every option in TOML, read as a whole and read again on SIGHUP.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use mosquitto_http_auth::internals::{Config, OPTIONS};
use tempfile::NamedTempFile;

mod support;
use support::tls::{Authority, Identity, TlsFront, Validity};
use support::{
    A_WHILE, Broker, Client, Connect, PASSWORD, PATIENCE, Reply, Setup, Version, api, eventually, free_port,
    friendly_api, login, on_every_broker, reason,
};

/// Its name in the broker's folder.
const FILE: &str = "plugin.toml";

/// How the log says that a reload is done, one way or the other.
const TAKEN: &str = "Files are re-read";
const NOT_TAKEN: &str = "Nothing was taken over";

/// A broker with these lines of TOML for all configuration.
fn broker(version: Version, toml: &str) -> Setup {
    Broker::with(version).option("config_file", FILE).file(FILE, toml)
}

/// Changes the file, has it read again, and gives what is logged about that.
fn reload(broker: &Broker, toml: &str) -> String {
    fs::write(broker.folder().join(FILE), toml).unwrap();
    reload_as_it_is(broker)
}

fn reload_as_it_is(broker: &Broker) -> String {
    // A broker listens before its loop runs. Only then is it ready for a SIGHUP.
    let _ = Connect::v5("anonymous").attempt(broker.port());
    let before = broker.log().len();
    broker.sighup();
    let done = eventually(PATIENCE, || {
        let log = broker.log();
        log[before..].contains(TAKEN) || log[before..].contains(NOT_TAKEN)
    });
    assert!(done, "the reload comes to no end");
    // The broker forgets a SIGHUP that comes while it is at the one before: wait for its loop to come round.
    let _ = Connect::v5("anonymous").attempt(broker.port());
    broker.log().split_off(before)
}

fn must_take(broker: &Broker, toml: &str) {
    let log = reload(broker, toml);
    assert!(log.contains(TAKEN), "{toml}: {log}");
}

/// A hash of [`PASSWORD`], as `mosquitto_passwd` writes it.
fn hash() -> &'static str {
    let line = include_str!("fixtures/passwd-2.1").lines().find(|line| line.starts_with("sha512:"));
    line.expect("a user in the fixture").trim_start_matches("sha512:")
}

fn local(name: &str) -> Connect {
    Connect::v5(format!("local-{name}")).login(name, PASSWORD)
}

/// A value for each option other than its default, in the notation of mosquitto.conf; several for those that
/// may be given several times.
fn values(option: &str) -> Vec<String> {
    let values: &[&str] = match option {
        "auth_url" => &["http://127.0.0.1:1/auth http://127.0.0.1:2/auth"],
        "acl_url" => &["http://127.0.0.1:1/acl"],
        "acl_batch_url" => &["http://127.0.0.1:1/acl-batch"],
        "password_file" | "acl_file" | "header_file" => &["/some/file"],
        "tls_ca_file" | "tls_cert_file" | "tls_key_file" => &["/some/file.pem"],
        "admin_listen" => &["127.0.0.1:9465", "unix:/some/socket"],
        "admin_token_file" => &["/some/file"],
        "user" => &["carol:$7$1$a$b", "dave:$7$1$c$d"],
        "header" => &["X-One: 1", "X-Two: a \"quoted\" \\ value"],
        "timeout" | "max_wait" | "login_wait" | "connect_timeout" => &["1234ms"],
        "shared_cache" => &["rediss://user:password@cache:6380/1"],
        "shared_cache_secret_file" => &["/some/file"],
        "shared_cache_timeout" => &["77ms"],
        "auth_cache_ttl" | "acl_cache_ttl" | "deny_cache_ttl" | "stale_ttl" => &["7m"],
        "max_requests" | "cache_size" | "acl_batch_size" => &["77"],
        "tls_insecure" | "api_cache_control" | "control" | "sys_topics" => &["true"],
        "lookahead" | "acl_learn" | "keep_alive" | "reload_checks" => &["false"],
        "acl_no_answer" => &["deny"],
        "answer_rules" => &["true"],
        "acl_no_match" => &["deny"],
        "acl_prefetch" => &["subscribe a/%c/#", "read b/%u"],
        "acl_checks" => &["write"],
        "auth_fields" | "acl_fields" => &["address,tls_serial"],
        "special_chars" | "anonymous" => &["allow"],
        "auth_mode" => &["blocking"],
        "throttle_after" | "breaker_after" => &["9"],
        "throttle_pause" | "throttle_longest" | "breaker_pause" | "breaker_longest" => &["17s"],
        "throttle_by" => &["address"],
        "breaker_percent" => &["50"],
        "defer_status" => &["404,410"],
        "username_missing" => &["ask"],
        other => panic!("a new option, {other}: add a value for it here"),
    };
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An option as a line of TOML: numbers and truth values may, lists must go without quotes.
fn line(option: &str, values: &[String]) -> String {
    let value = match values {
        [value] if value.parse::<u32>().is_ok() || value.parse::<bool>().is_ok() => value.clone(),
        [value] if value.contains(" http") => {
            let urls: Vec<_> = value.split(' ').map(quoted).collect();
            format!("[{}]", urls.join(", "))
        }
        [value] => quoted(value),
        values => format!("[{}]", values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ")),
    };
    format!("{option} = {value}\n")
}

#[test]
fn every_option_means_the_same_in_a_file() {
    // Of these two only one may be set.
    for left_out in ["acl_fields", "acl_prefetch"] {
        let (mut options, mut toml) = (Vec::new(), String::new());
        for spec in OPTIONS.iter().filter(|spec| !["config_file", left_out].contains(&spec.name)) {
            let values = values(spec.name);
            toml += &line(spec.name, &values);
            options.extend(values.into_iter().map(|value| (spec.name.to_owned(), value)));
        }
        let (mut expected, _) = Config::read(&options).expect("options of mosquitto.conf");
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), toml).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let (found, in_both) =
            Config::read(&vec![("config_file".to_owned(), path)]).expect("options of a file");
        expected.config_file.clone_from(&found.config_file);
        assert_eq!(found, expected);
        assert!(in_both.is_empty(), "{in_both:?}");
    }
}

#[test]
fn a_broker_works_with_nothing_but_a_file() {
    on_every_broker(|version| {
        let [logins, topics] = [(); 2].map(|()| friendly_api());
        let toml = format!(
            "# what a file is good for\n\
             auth_url = ['http://127.0.0.1:1/', '{}']\nacl_url = '{}'\n\
             header = ['X-One: 1', 'X-Two: 2']\nheader_file = 'headers'\nacl_checks = ['read', 'write']\n\
             user = ['carol:{}']\nacl_cache_ttl = 0\nanonymous = \"allow\"\n",
            logins.auth_url(),
            topics.acl_url(),
            hash()
        );
        let broker = broker(version, &toml).file("headers", "X-Three: 3\n").start();
        let mut alice = login("alice").accepted(broker.port());
        for _ in 0..2 {
            assert_eq!(alice.publish_acknowledged("t", "x") & 0x80, 0);
        }
        let asked = topics.requests();
        assert_eq!((logins.requests().len(), asked.len()), (1, 2));
        for (name, value) in [("X-One", "1"), ("X-Two", "2"), ("X-Three", "3")] {
            assert_eq!(asked[0].header(name), Some(value));
        }
        local("carol").accepted(broker.port());
        assert_eq!(logins.requests().len(), 1);
    });
}

/// A file with a mistake in it: what it says, the line, and what the log has to name besides file and line.
const MISTAKES: &[(&str, usize, &[&str])] = &[
    ("\n\ntimout = '1s'", 3, &["timout", "timeout"]),
    ("TIMEOUT = '1s'", 1, &["TIMEOUT", "the nearest is timeout"]),
    ("# old\nbrake_after = 9", 2, &["brake_after", "is called throttle_after now"]),
    ("timeout = 'soon'", 1, &["timeout", "soon", "such as"]),
    ("timeout = 1.5", 1, &["timeout"]),
    ("timeout = 0", 1, &["timeout", "0", "10ms"]),
    ("timeout = ['1s', '2s']", 1, &["timeout"]),
    ("timeout = []", 1, &["timeout"]),
    ("timeout = ''", 1, &["timeout"]),
    ("\ntimeout = 2000-01-01", 2, &["timeout"]),
    ("timeout = '1s'\ntimeout = '2s'", 2, &["duplicate"]),
    ("auth_url = []", 1, &["auth_url"]),
    ("auth_url = ['http://127.0.0.1:1/', 7]", 1, &["auth_url"]),
    ("acl_url = 'ftp://127.0.0.1/'", 1, &["acl_url"]),
    ("cache_size = -1", 1, &["cache_size", "-1"]),
    ("cache_size = 'big'", 1, &["cache_size", "big"]),
    ("tls_insecure = 'maybe'", 1, &["tls_insecure", "maybe"]),
    ("tls_insecure = 1", 1, &["tls_insecure"]),
    ("header = ['Good: 1', 'no colon']", 1, &["header"]),
    ("# one\n[breaker]\nafter = 5", 2, &["breaker"]),
    ("breaker.after = 5", 1, &["breaker"]),
    ("config_file = 'other.toml'", 1, &["config_file"]),
    ("anonymous = 'allow'\nanonymous", 2, &[]),
    ("anonymous = allow", 1, &[]),
    ("\u{feff}\n\u{0}", 2, &[]),
    ("acl_prefetch = 'own a/b'", 1, &["acl_prefetch", "own a/b"]),
    ("auth_mode = 'sometimes'", 1, &["auth_mode", "sometimes"]),
    ("\nuser = 'carol:no hash'", 2, &["user"]),
    ("\npassword_file = 'nowhere'", 2, &["password_file", "nowhere"]),
    ("\n\nacl_file = 'nowhere'", 3, &["acl_file", "nowhere"]),
    ("\nheader_file = 'nowhere'", 2, &["header_file", "nowhere"]),
    ("\ntls_ca_file = 'nowhere'", 2, &["tls_ca_file", "nowhere"]),
    ("\ntls_ca_file = 'plugin.toml'", 2, &["tls_ca_file", "PEM"]),
    ("\ntls_cert_file = 'plugin.toml'", 2, &["tls_cert_file", "tls_key_file"]),
];

/// Whether a log names a mistake; if not, its lines about it.
fn names(log: &str, line: usize, words: &[&str]) -> Result<(), Vec<String>> {
    let place = format!("{FILE}, line {line}");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("mosquitto-http-auth: ")).collect();
    let told = |text: &&&str| text.contains(&place) && words.iter().all(|word| text.contains(word));
    if lines.iter().any(|line| told(&line)) {
        Ok(())
    } else {
        Err(lines.into_iter().map(str::to_owned).collect())
    }
}

fn assert_all_named(untold: &[String]) {
    assert!(untold.is_empty(), "not named with file, line and option:\n{}", untold.join("\n"));
}

#[test]
fn a_mistake_keeps_the_broker_from_starting_and_is_named() {
    on_every_broker(|version| {
        let api = friendly_api();
        let mut untold = Vec::new();
        for (toml, line, words) in MISTAKES {
            let needs_url = !toml.contains("auth_url");
            let setup = broker(version, toml);
            let setup = if needs_url { setup.option("auth_url", api.auth_url()) } else { setup };
            let failure = setup.start_expecting_failure();
            assert_ne!(failure.code, Some(0), "{toml:?}");
            assert!(failure.code.is_some(), "{toml:?} ends the broker with a signal");
            if let Err(lines) = names(&failure.log, *line, words) {
                untold.push(format!("{toml:?}: {lines:?}"));
            }
        }
        assert_all_named(&untold);
    });
}

#[test]
fn a_mistake_on_sighup_is_named_and_changes_nothing() {
    on_every_broker(|version| {
        let [old, new] = [(); 2].map(|()| friendly_api());
        let (auth, acl) = (old.auth_url(), old.acl_url());
        let good = format!("auth_url = '{auth}'\nacl_url = '{acl}'\nuser = 'carol:{}'\n", hash());
        let mut broker = broker(version, &good).start();
        let mut alice = login("alice").accepted(broker.port());
        let mut untold = Vec::new();
        for (number, (toml, line, words)) in MISTAKES.iter().enumerate() {
            // Behind the mistake stands something that would be seen.
            let mut text = format!("{toml}\n");
            for (option, url) in [("auth_url", new.auth_url()), ("acl_url", new.acl_url())] {
                text += &if toml.contains(option) { String::new() } else { format!("{option} = '{url}'\n") };
            }
            let before = new.requests().len();
            let log = reload(&broker, &text);
            if !log.contains(NOT_TAKEN) {
                untold.push(format!("{toml:?} is taken over"));
                must_take(&broker, &good);
                continue;
            }
            if let Err(lines) = names(&log, *line, words) {
                untold.push(format!("{toml:?}: {lines:?}"));
            }
            assert_eq!(alice.publish_acknowledged(format!("t/{number}"), "x") & 0x80, 0, "{toml:?}");
            assert_eq!(new.requests().len(), before, "{toml:?} is taken over in part");
            local("carol").accepted(broker.port());
        }
        assert!(broker.is_running());
        assert_all_named(&untold);
        // And when all is mended it is as if nothing had been.
        must_take(&broker, &good.replace(&acl, &new.acl_url()));
        assert_eq!(alice.publish_acknowledged("t", "x") & 0x80, 0);
        assert_eq!(new.topic_checks().len(), 1);
    });
}

#[test]
fn a_file_that_is_gone_changes_nothing() {
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = broker(version, &format!("auth_url = '{}'\n", api.auth_url())).start();
        fs::remove_file(broker.folder().join(FILE)).unwrap();
        let log = reload_as_it_is(&broker);
        assert!(log.contains(NOT_TAKEN) && log.contains(FILE), "{log}");
        fs::write(broker.folder().join(FILE), "x".repeat(2 << 20)).unwrap();
        let log = reload_as_it_is(&broker);
        assert!(log.contains(NOT_TAKEN) && log.contains(FILE), "{log}");
        login("alice").accepted(broker.port());
        assert!(broker.is_running());

        let missing = Broker::with(version).option("config_file", "nowhere.toml").start_expecting_failure();
        assert!(missing.log.contains("nowhere.toml"), "{}", missing.log);
    });
}

/// To open a named pipe would be to wait for its other end, in front of all clients.
#[test]
fn a_named_pipe_is_no_file() {
    on_every_broker(|version| {
        let api = friendly_api();
        let good = format!("auth_url = '{}'\n", api.auth_url());
        let mut broker = broker(version, &good).start();
        let make_pipe = |name: &str| {
            let path = broker.folder().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let pipe = make_pipe("pipe");
        for option in ["header_file", "tls_ca_file"] {
            let log = reload(&broker, &format!("{good}{option} = '{}'\n", pipe.display()));
            assert!(log.contains(NOT_TAKEN) && log.contains("not a regular file"), "{option}: {log}");
        }
        fs::remove_file(broker.folder().join(FILE)).unwrap();
        make_pipe(FILE);
        let log = reload_as_it_is(&broker);
        assert!(log.contains(NOT_TAKEN) && log.contains("not a regular file"), "{log}");
        login("alice").accepted(broker.port());
        assert!(broker.is_running());
    });
}

#[test]
fn no_secret_of_a_file_is_logged() {
    on_every_broker(|version| {
        let api = friendly_api();
        let good = format!("auth_url = '{}'\n", api.auth_url());
        let broker = broker(version, &good).start();
        for mistake in [
            "header = 'Authorization Bearer t0psecret'",
            "header = Authorization: Bearer t0psecret",
            "header = 'Authorization: Bearer t0psecret",
            "header = ['Authorization: Bearer t0psecret'",
            "auth_url = 'ftp://someone:t0psecret@127.0.0.1/'",
            "auth_url = 'http://someone:t0psecret@127.0.0.1:port/'",
            "user = 't0psecret'",
            "user = 'carol:t0psecret'",
            "header = { Authorization = 't0psecret' }",
            "headr = 't0psecret'",
            "t0psecret",
        ] {
            let log = reload(&broker, &format!("{mistake}\n"));
            assert!(log.contains(NOT_TAKEN), "{mistake}: {log}");
        }
        must_take(
            &broker,
            "auth_url = 'http://someone:t0psecret@127.0.0.1:1/?t0psecret'\nheader = 'X: t0psecret'\n",
        );
        login("alice").unanswered(broker.port());
        assert!(!broker.log().contains("t0psecret"), "a secret is in the log");
    });
}

#[test]
fn options_of_the_broker_win_and_say_so() {
    on_every_broker(|version| {
        let [in_conf, in_file] = [(); 2].map(|()| friendly_api());
        let toml = format!("auth_url = '{}'\nheader = 'X-Where: file'\n", in_file.auth_url());
        let broker = broker(version, &toml)
            .option("auth_url", in_conf.auth_url())
            .option("header", "X-Where: conf")
            .start();
        let told = |log: &str, option: &str| {
            log.lines().any(|line| line.contains(option) && line.contains("mosquitto.conf counts"))
        };
        let log = broker.log();
        assert!(told(&log, "auth_url") && told(&log, "header"), "{log}");
        let log = reload(&broker, &toml);
        assert!(told(&log, "auth_url") && told(&log, "header"), "{log}");
        login("alice").accepted(broker.port());
        assert!(in_file.requests().is_empty());
        let asked = in_conf.requests();
        assert_eq!((asked.len(), asked[0].header("X-Where")), (1, Some("conf")));
        let where_ = asked[0].headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-where"));
        assert_eq!(where_.count(), 1);
        let log = reload(&broker, "max_requests = 3\n");
        assert!(log.contains(TAKEN) && !told(&log, "auth_url"), "{log}");
    });
}

#[test]
fn a_reload_says_what_has_changed_and_what_is_not_re_read() {
    on_every_broker(|version| {
        let api = friendly_api();
        let url = format!("auth_url = '{}'\n", api.auth_url());
        let broker = broker(version, &format!("{url}header = 'X: t0psecret'\n")).start();
        let log = reload(&broker, &format!("{url}header = 'X: t0psecret, too'\ntimeout = '3s'\n"));
        for part in ["timeout \"2s\" -> \"3s\"", "header (not shown", "plugin_opt_ in mosquitto.conf are not"]
        {
            assert!(log.contains(part), "{part}: {log}");
        }
        assert!(!log.contains("t0psecret"), "{log}");
        assert!(reload_as_it_is(&broker).contains("No option has changed"));
    });
}

#[test]
fn a_reload_says_what_counts_from_the_next_start_on() {
    on_every_broker(|version| {
        let (api, port) = (friendly_api(), free_port());
        let url = format!("auth_url = '{}'\n", api.auth_url());
        let told = |log: &str, what: &str| log.contains(what);
        let of_names = "A first shared_cache lets other brokers disconnect a client by its id from";
        let cache =
            format!("shared_cache = 'redis://127.0.0.1:{port}'\nshared_cache_secret_file = 'cache.secret'\n");
        let start = || broker(version, &url).file("cache.secret", "s".repeat(32)).start();

        let broker = start();
        let log = reload(&broker, &format!("{url}timeout = '3s'\n"));
        assert!(!told(&log, "next start on"), "{log}");
        let listen = format!("admin_listen = '127.0.0.1:{port}'\n");
        let log = reload(&broker, &format!("{url}{listen}control = true\nauth_mode = 'blocking'\n"));
        for name in ["auth_mode", "admin_listen", "control"] {
            let line = format!("A new {name} counts from the broker's next start on.");
            assert!(told(&log, &line), "mosquitto {version}: {name}: {log}");
        }

        // 2.0 knows client ids only where that was wanted from its start on.
        let broker = start();
        let log = reload(&broker, &format!("{url}{cache}"));
        assert_eq!(told(&log, of_names), !version.is_2_1(), "{log}");
        assert!(!told(&reload(&broker, &format!("{url}{cache}timeout = '3s'\n")), of_names));
    });
}

// What a reload changes.

#[test]
fn another_url_is_asked_and_what_the_old_one_said_is_forgotten() {
    on_every_broker(|version| {
        let [old, new] = [(); 2].map(|()| friendly_api());
        let broker = broker(version, &format!("auth_url = '{}'\n", old.auth_url())).start();
        login("alice").accepted(broker.port());
        new.answer_with(|request| Reply::status(if request.field("username") == "bob" { 200 } else { 403 }));
        must_take(&broker, &format!("auth_url = '{}'\n", new.auth_url()));
        login("alice").refused(broker.port());
        login("bob").accepted(broker.port());
        assert_eq!(old.requests().len(), 1);
    });
}

#[test]
fn headers_times_and_sizes_change() {
    on_every_broker(|version| {
        let api = friendly_api();
        let url = format!("auth_url = '{}'\n", api.auth_url());
        let broker = broker(version, &format!("{url}header = 'X: 1'\nauth_cache_ttl = '1h'\n")).start();
        // Another name each time: of those who were connected, a reload has the API asked by itself.
        let mut phase = 0;
        let mut asked = |count: usize| {
            phase += 1;
            let name = format!("u-{phase}");
            for _ in 0..3 {
                login(&name).accepted(broker.port());
            }
            let mut requests = api.requests();
            requests.retain(|request| request.field("username") == name);
            assert_eq!(requests.len(), count);
            requests.last().and_then(|request| request.header("X").map(str::to_owned))
        };
        assert_eq!(asked(1).as_deref(), Some("1"));
        must_take(&broker, &format!("{url}header = 'X: 2'\nauth_cache_ttl = '1h'\n"));
        assert_eq!(asked(1).as_deref(), Some("2"));
        must_take(&broker, &format!("{url}auth_cache_ttl = 0\n"));
        assert_eq!(asked(3), None);
        must_take(&broker, &url);
        asked(1);
        must_take(&broker, &format!("{url}cache_size = 0\n"));
        asked(3);
        must_take(&broker, &format!("{url}timeout = '300ms'\ncache_size = 0\n"));
        api.answer(Reply::status(200).after(Duration::from_secs(1)));
        login("alice").unanswered(broker.port());
        must_take(&broker, &format!("{url}timeout = '5s'\n"));
        login("bob").accepted(broker.port());
    });
}

#[test]
fn local_users_change() {
    on_every_broker(|version| {
        let api = api("");
        let url = format!("auth_url = '{}'\n", api.auth_url());
        let user = |name: &str| format!("user = '{name}:{}'\n", hash());
        let broker = broker(version, &format!("{url}{}", user("carol"))).start();
        let mut carol = local("carol").accepted(broker.port());
        local("dave").refused(broker.port());
        must_take(&broker, &format!("{url}{}", user("dave")));
        local("dave").accepted(broker.port());
        local("carol").refused(broker.port());
        assert!(carol.wait_until_closed(PATIENCE), "carol stays though neither file nor API know her");
        let passwords = include_str!("fixtures/passwd-2.1");
        fs::write(broker.folder().join("passwords"), passwords).unwrap();
        must_take(&broker, &format!("{url}password_file = 'passwords'\n"));
        local("sha512").accepted(broker.port());
    });
}

#[test]
fn tls_files_change() {
    on_every_broker(|version| {
        let [old, new] = ["old", "new"].map(Authority::new);
        let api = friendly_api();
        let issue = |by: &Authority| by.issue("IP:127.0.0.1", &Validity::NOW);
        let front = TlsFront::start(&api, &issue(&old), None);
        let toml = format!("auth_url = 'https://127.0.0.1:{}/auth'\ntls_ca_file = 'ca.pem'\n", front.port());
        let broker = broker(version, &toml).file("ca.pem", &old.certificate).start();
        login("alice").accepted(broker.port());
        let identity: Identity = issue(&new);
        front.show(&identity);
        fs::write(broker.folder().join("ca.pem"), &new.certificate).unwrap();
        assert!(reload_as_it_is(&broker).contains(TAKEN));
        login("bob").accepted(broker.port());
        // What was known through the old way is not known through the new one.
        api.answer(Reply::status(403));
        login("alice").refused(broker.port());
    });
}

fn may_publish(client: &mut Client) -> bool {
    client.publish_acknowledged("t", "x") & 0x80 == 0
}

#[test]
fn topic_checks_come_and_go() {
    on_every_broker(|version| {
        let api = api("user alice secret\n");
        let logins = format!("auth_url = '{}'\nacl_cache_ttl = 0\ndeny_cache_ttl = 0\n", api.auth_url());
        let both = format!("{logins}acl_url = '{}'\n", api.acl_url());
        let mut broker = broker(version, &logins).start();
        let mut alice = login("alice").accepted(broker.port());
        for _ in 0..3 {
            assert!(may_publish(&mut alice), "nobody is asked about topics");
            assert!(api.topic_checks().is_empty());
            must_take(&broker, &both);
            assert!(!may_publish(&mut alice), "the API forbids it");
            assert!(!alice.may_subscribe("t"));
            assert_eq!(api.topic_checks().len(), 2);
            must_take(&broker, &format!("{logins}acl_url = 'none'\n"));
            api.forget_requests();
        }
        assert!(alice.may_subscribe("t"));
        assert!(broker.is_running());
        let (status, _) = broker.terminate();
        assert!(status.success(), "{status}");
    });
}

/// Who is parked when the URL changes is the new API's to decide, whatever the old one still says.
#[test]
fn questions_in_flight_go_to_the_new_url() {
    let version = Version::V2_1;
    for new_status in [200, 403] {
        let [old, new] = [(); 2].map(|()| api(""));
        let old_status = if new_status == 200 { 403 } else { 200 };
        old.answer(Reply::status(old_status).after(Duration::from_secs(1)));
        new.answer(Reply::status(new_status));
        let broker = broker(version, &format!("auth_url = '{}'\n", old.auth_url())).start();
        let mut alice = login("alice").send(broker.port());
        old.wait_for_requests(1, PATIENCE);
        must_take(&broker, &format!("auth_url = '{}'\n", new.auth_url()));
        let expected = if new_status == 200 { reason::SUCCESS } else { reason::NOT_AUTHORIZED };
        assert_eq!(alice.connack(PATIENCE), Some(expected));
        assert_eq!(new.requests().len(), 1);
        // And that is what is remembered.
        assert_eq!(login("alice").attempt(broker.port()).is_ok(), new_status == 200);
        assert_eq!(new.requests().len(), 1);
    }
}

#[test]
fn questions_in_flight_are_not_disturbed_by_other_changes() {
    let version = Version::V2_1;
    let api = friendly_api();
    // So long that a question of a second is not sent once more.
    let url = format!("auth_url = '{}'\ntimeout = '10s'\n", api.auth_url());
    let broker = broker(version, &url).start();
    login("bob").accepted(broker.port());
    api.answer(Reply::status(200).after(Duration::from_secs(1)));
    let mut alice = login("alice").send(broker.port());
    api.wait_for_requests(2, PATIENCE);
    must_take(&broker, &format!("{url}deny_cache_ttl = '1s'\n"));
    assert_eq!(alice.connack(PATIENCE), Some(reason::SUCCESS));
    thread::sleep(A_WHILE);
    assert_eq!(api.requests().len(), 2, "asked twice");
}

/// The connections to the API and what is known of its health survive a reload that changes nothing about it.
#[test]
fn a_reload_without_a_change_keeps_connections() {
    on_every_broker(|version| {
        let api = friendly_api();
        let toml = format!("auth_url = '{}'\nauth_cache_ttl = 0\n", api.auth_url());
        let broker = broker(version, &toml).start();
        for comment in ["", "", "# Another line, and nothing else.\n", "\n\n", ""] {
            login("alice").accepted(broker.port());
            must_take(&broker, &format!("{comment}{toml}"));
        }
        assert_eq!(api.connections(), 1);
    });
}

/// Neither a file that names nothing nor one that is empty leaves the plugin without anything to decide with.
#[test]
fn a_file_that_leaves_nothing_to_decide_with_is_a_mistake() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker(version, &format!("auth_url = '{}'\n", api.auth_url())).start();
        for nothing in ["", "# nothing\n", "timeout = '1s'\n"] {
            let log = reload(&broker, nothing);
            assert!(log.contains(NOT_TAKEN), "{log}");
            login("alice").accepted(broker.port());
        }
        let failure = Broker::with(version).option("config_file", FILE).file(FILE, "");
        assert_ne!(failure.start_expecting_failure().code, Some(0));
    });
}
