//! Logins: the API is asked exactly as promised, and its answer decides.

mod support;
use support::{
    Broker, Connect, MockApi, PATIENCE, Reply, api, broker_asking, eventually, friendly_api, on_every_broker,
    reason,
};

const RULES: &str = "user sensor secret\nallow all #\n";

#[test]
fn the_question_is_as_promised() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api)
            .option("header", "X-Tenant: blue")
            .option("header", "Authorization: Bearer not-for-the-log")
            .start();
        Connect::v3("client-1").login("sensor", "secret").accepted(broker.port());

        let [request] = &api.requests()[..] else { panic!("one request: {:?}", api.requests()) };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/auth"));
        let body = br#"{"username":"sensor","password":"secret"}"#;
        assert_eq!(request.body, body);
        assert_eq!(request.header("host"), Some(api.address().to_string().as_str()));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(
            request.header("user-agent"),
            Some(concat!("mosquitto-http-auth/", env!("CARGO_PKG_VERSION")))
        );
        assert_eq!(request.header("x-tenant"), Some("blue"));
        assert_eq!(request.header("authorization"), Some("Bearer not-for-the-log"));
        let mut names: Vec<_> = request.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.sort();
        let unasked = ["accept", "accept-encoding"];
        names.retain(|name| !unasked.contains(&name.as_str()));
        let expected = ["authorization", "content-length", "content-type", "host", "user-agent", "x-tenant"];
        assert_eq!(names, expected, "nothing else, and nothing twice");
        assert!(!broker.log().contains("not-for-the-log"));
        assert!(!broker.log().contains("secret"));
    });
}

#[test]
fn the_url_is_used_as_it_is() {
    on_every_broker(|version| {
        let api = friendly_api();
        let url = format!("http://joe:pass%20word@{}/v1/login?tenant=a%20b&x", api.address());
        let broker = Broker::with(version).option("auth_url", url).start();
        Connect::v3("client").login("sensor", "secret").accepted(broker.port());
        let request = &api.requests()[0];
        assert_eq!(request.path, "/v1/login?tenant=a%20b&x");
        assert_eq!(request.header("authorization"), Some("Basic am9lOnBhc3Mgd29yZA=="));
    });
}

#[test]
fn connections_are_kept() {
    on_every_broker(|version| {
        let api = api("");
        let broker = broker_asking(version, &api).start();
        // A refusal must not cost a connection either.
        for (number, status) in [200, 403, 500, 200, 404, 503, 200].into_iter().enumerate() {
            api.answer(Reply::status(status).body(b"{\"reason\": \"some text\"}"));
            let login =
                Connect::v3("client").login(format!("user-{number}"), "secret").attempt(broker.port());
            assert_eq!(login.is_ok(), status == 200, "{status}");
        }
        assert_eq!(api.requests().len(), 7);
        assert_eq!(api.connections(), 1);
    });
}

#[test]
fn only_200_lets_in() {
    on_every_broker(|version| {
        let api = api("");
        let broker = broker_asking(version, &api).start();
        // A 429 comes last: the plugin may leave the API alone for a while.
        let no_answers = [408, 500, 502, 503, 504, 599, 429];
        let denials =
            [201, 202, 204, 206, 226, 300, 301, 302, 304, 307, 400, 401, 402, 403, 404, 405, 410, 418, 499];
        for status in denials.into_iter().chain(no_answers) {
            api.forget_requests();
            api.answer(Reply::status(status).header("Location", "/elsewhere"));
            let login = Connect::v5("client").login(format!("user-{status}"), "secret");
            let is_no_answer = no_answers.contains(&status);
            let try_in_vain = || match is_no_answer {
                true => drop(login.unanswered(broker.port())),
                false => assert_eq!(login.refused(broker.port()), reason::NOT_AUTHORIZED, "{status}"),
            };
            try_in_vain();
            assert_eq!(api.requests().len(), 1, "one question for {status}");
            if status == 429 {
                break;
            }
            // What was no answer is not remembered.
            try_in_vain();
            let questions = if is_no_answer { 2 } else { 1 };
            assert_eq!(api.requests().len(), questions, "questions after a second try for {status}");
        }
        assert!(api.requests().iter().all(|request| request.path == "/auth"), "no redirect is followed");
    });
}

#[test]
fn redirects_are_not_followed() {
    on_every_broker(|version| {
        let elsewhere = api("");
        elsewhere.answer(Reply::status(200));
        let api = api("");
        let broker = broker_asking(version, &api).start();
        for status in [301, 302, 303, 307, 308] {
            api.answer(Reply::status(status).header("Location", &elsewhere.auth_url()));
            Connect::v3("client").login(format!("user-{status}"), "secret").refused(broker.port());
        }
        assert!(elsewhere.requests().is_empty());
    });
}

#[test]
fn proxies_of_the_environment_are_ignored() {
    on_every_broker(|version| {
        let proxy = api("");
        let api = api(RULES);
        let proxy_url = format!("http://{}", proxy.address());
        let mut setup = broker_asking(version, &api);
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            setup = setup.environment(name, &proxy_url);
        }
        let broker = setup.environment("no_proxy", "").environment("NO_PROXY", "").start();
        Connect::v3("client").login("sensor", "secret").accepted(broker.port());
        assert_eq!(proxy.connections(), 0);
    });
}

#[test]
fn anonymous_clients_are_the_brokers_business() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api).line("allow_anonymous true").start();
        Connect::v3("client").accepted(broker.port());
        Connect::v5("client").accepted(broker.port());
        let broker = broker_asking(version, &api).line("allow_anonymous false").start();
        Connect::v3("client").refused(broker.port());
        Connect::v5("client").refused(broker.port());
        assert!(api.logins().is_empty());
    });
}

#[test]
fn a_missing_password_is_an_empty_one() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("auth_cache_ttl", 0).start();
        Connect::v3("client").username("sensor").accepted(broker.port());
        Connect::v3("client").login("sensor", "").accepted(broker.port());
        for request in api.requests() {
            assert_eq!(request.body, br#"{"username":"sensor","password":""}"#);
        }
        assert_eq!(api.requests().len(), 2);
    });
}

#[test]
fn a_password_without_a_username_is_refused() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).line("allow_anonymous true").start();
        Connect::v5("client").password("secret").refused(broker.port());
        Connect::v5("client").login("", "secret").refused(broker.port());
        Connect::v3("client").login("", "secret").refused(broker.port());
        assert!(api.requests().is_empty());
    });
}

#[test]
fn a_password_that_is_no_text_is_refused() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).start();
        Connect::v3("client").login("sensor", b"abcdef\xff\xfe").refused(broker.port());
        let log = broker.log();
        assert!(log.lines().any(|line| line.contains("UTF-8") && line.contains("sensor")), "{log}");
        assert!(!log.contains("abcdef"));
        assert!(api.requests().is_empty());
        Connect::v3("client").login("sensor", "abcdef").accepted(broker.port());
    });
}

/// What broker and API see of a name or a password must be the same thing, whatever is in it.
#[test]
fn hostile_names_and_passwords_arrive_as_they_are_or_not_at_all() {
    let long = "x".repeat(65_535);
    let long_emoji = "\u{1f600}".repeat(16_383);
    let quotes = "\"".repeat(65_535);
    let texts = [
        r#"a"b"#,
        r#"","password":"","x":""#,
        r"back\slash\",
        r"\u0041\n",
        "line\nbreak\r\n",
        "\u{1}\u{7f}\u{9f}\t\u{1b}[31m",
        "{}[]<>&'`$(id);--",
        "emoji \u{1f600} \u{1f468}\u{200d}\u{1f469}",
        "\u{202e}right to left",
        "\u{feff}mark, \u{2028}separator, \u{fffd}replacement",
        "%s%n%x%%",
        " spaces ",
        "null",
        "/../%2e%2e",
        "+",
        "#",
        &long,
        &long_emoji,
        &quotes,
    ];
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = broker_asking(version, &api).option("auth_cache_ttl", 0).start();
        for text in texts {
            assert_faithful(&api, &broker, text, "the-password", "client");
            assert_faithful(&api, &broker, "name", text, "client");
            assert_faithful(&api, &broker, "the-name", "password", text);
        }
        assert!(broker.is_running());
        Connect::v3("client").login("plain", "secret").accepted(broker.port());
        assert!(!broker.log().contains("the-password"));
    });
}

fn assert_faithful(api: &MockApi, broker: &Broker, username: &str, password: &str, client_id: &str) {
    api.forget_requests();
    let outcome = Connect::v3(client_id).login(username, password).attempt(broker.port());
    let context = format!("{:.60?} {:.60?} {:.60?}", username, password, client_id);
    let refused_by_the_broker = api.requests().is_empty();
    // Control characters in names are against MQTT; the broker does not even ask.
    assert_eq!(outcome.is_err(), refused_by_the_broker, "{context}");
    for request in api.requests() {
        assert_eq!(request.path, "/auth");
        assert_eq!(request.field("username"), username, "{context}");
        assert_eq!(request.field("password"), password, "{context}");
        assert_eq!(request.json.as_object().map(|fields| fields.len()), Some(2), "{context}");
    }
}

#[test]
fn a_random_password_is_asked_about_as_it_is_or_refused() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).start();
        let mut random = std::hash::RandomState::new();
        for number in 0..100 {
            let password = random_bytes(&mut random, number);
            api.forget_requests();
            let outcome =
                Connect::v3("client").login(format!("user-{number}"), &password).attempt(broker.port());
            // The broker hands on what is in front of a null byte.
            let visible = password.split(|byte| *byte == 0).next().unwrap();
            let asked = api.requests();
            match std::str::from_utf8(visible) {
                Ok(text) => {
                    assert!(outcome.is_ok() || password.contains(&0), "{password:?} is refused");
                    assert!(asked.iter().all(|request| request.field("password") == text), "{password:?}");
                }
                Err(_) => {
                    assert!(outcome.is_err(), "{password:?} is let in");
                    assert!(asked.is_empty());
                }
            }
        }
    });
}

fn random_bytes(random: &mut std::hash::RandomState, seed: usize) -> Vec<u8> {
    use std::hash::BuildHasher;
    let length = seed % 12;
    let bytes = (0..length).map(|index| random.hash_one((seed, index)).to_le_bytes()[0]);
    // Every other one is text, or nearly all would be refused.
    bytes.map(|byte| if seed.is_multiple_of(2) { byte & 0x7f } else { byte }).collect()
}

#[test]
fn a_refusal_has_its_line_in_the_log() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api).start();
        Connect::v3("client-7").login("mallory", "guess-1").refused(broker.port());
        let line = refusal(&broker, "mallory");
        for fact in ["mallory", "client-7", "127.0.0.1", "403"] {
            assert!(line.contains(fact), "{fact:?} is not in {line:?}");
        }
        api.answer(Reply::status(503));
        Connect::v3("client-8").login("somebody", "guess-2").unanswered(broker.port());
        let line = refusal(&broker, "somebody");
        for fact in ["somebody", "client-8", "127.0.0.1", "503", "no answer"] {
            assert!(line.contains(fact), "{fact:?} is not in {line:?}");
        }
        assert!(!broker.log().contains("guess"));
    });
}

#[test]
fn a_flood_of_refusals_cannot_fill_the_disk() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api).start();
        for number in 0..500 {
            Connect::v3("client").login(format!("user-{number}"), "wrong").refused(broker.port());
        }
        let lines = broker.log().lines().filter(|line| line.contains("Refused to let")).count();
        assert!((1..250).contains(&lines), "{lines} lines for 500 refusals");
    });
}

fn refusal(broker: &Broker, username: &str) -> String {
    let mut found = None;
    eventually(PATIENCE, || {
        let log = broker.log();
        found = log
            .lines()
            .find(|line| line.contains("mosquitto-http-auth") && line.contains(username))
            .map(str::to_owned);
        found.is_some()
    });
    found.expect("a line about the refusal")
}
