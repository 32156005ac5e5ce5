//! Every example in the pages does what it is there for: configurations, requests, JSON, commands.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use mosquitto_http_auth::internals::{Config, ConfigError, OPTIONS};

use crate::servers::Server;
use crate::support::broker::{Setup, plugin};
use crate::support::{
    Broker, Connect, PASSWORD, PATIENCE, Reply, Version, api, broker_asking, local_user, on_every_broker,
    reason,
};
use crate::{blocks, pages, read};

const EXAMPLE: &str = "mosquitto.conf.example";

/// What the examples assume, and a test puts something else in the place of.
const PLUGIN: &str = "plugin /usr/lib/x86_64-linux-gnu/mosquitto_http_auth.so\n";
const AUTH_URL: &str = "http://127.0.0.1:8080/auth";
const ACL_URL: &str = "http://127.0.0.1:8080/acl";

/// What a PUBACK of MQTT 5 says of an allowed message that nobody receives.
const NO_SUBSCRIBERS: u8 = 0x10;

/// All blocks of a language, with their pages.
fn all_blocks(language: &str) -> Vec<(String, String)> {
    let of_page = |page: String| {
        let text = read(&page);
        let blocks = blocks(&text, language).into_iter().map(str::to_owned).collect::<Vec<_>>();
        blocks.into_iter().map(move |block| (page.clone(), block))
    };
    pages().into_iter().flat_map(of_page).collect()
}

#[test]
fn the_requests_are_shown_byte_for_byte() {
    let api = api("");
    api.answer(Reply::status(200));
    let broker = broker_asking(Version::V2_0_11, &api).start();
    let mut client = Connect::v5("c1").login("sensor-1", "secret-1").accepted(broker.port());
    client.publish_acknowledged("sensors/sensor-1/t", "1");
    let sent = api.wait_for_requests(2, PATIENCE).into_iter().map(|request| {
        let headers: String =
            request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let body = String::from_utf8(request.body).unwrap();
        assert!(
            read("README.md").contains(&format!("| `{body}` |")),
            "README.md shows another body than {body}"
        );
        format!("{} {} HTTP/1.1\n{headers}\n{body}\n", request.method, request.path)
            .replace(&api.address().to_string(), "127.0.0.1:8080")
    });
    assert_eq!(blocks(&read("docs/contract.md"), "http"), sent.collect::<Vec<_>>());
}

/// `NAME VALUE` of the lines that set an option, whether they are on or off.
fn options_of(conf: &str) -> Vec<(String, String)> {
    let lines = conf.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("plugin_opt_"));
    let pairs = lines.map(|line| line.split_once(' ').expect("an option has a value"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_example_configuration_knows_every_option_and_its_default() {
    let text = read(EXAMPLE);
    let shown = options_of(&text);
    for spec in OPTIONS {
        let values: Vec<&str> =
            shown.iter().filter(|(name, _)| *name == spec.name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(values.len(), 1, "{} is in {EXAMPLE} {} times", spec.name, values.len());
        if !spec.default.is_empty() {
            assert_eq!(values[0], spec.default, "the default of {}", spec.name);
        }
    }
    // Whoever takes the # away from all of them finds every name and value understood.
    for option in shown {
        if let Err(errors) = Config::read(&vec![option.clone()]) {
            let bad =
                |error: &ConfigError| !matches!(error, ConfigError::Combination(_) | ConfigError::File(_));
            assert!(!errors.iter().any(bad), "{option:?}: {errors:?}");
        }
    }
}

/// Reads options of a page, with what decides where they leave that out.
fn understand(page: &str, mut options: Vec<(String, String)>) -> Config {
    for (name, value) in [("auth_url", AUTH_URL), ("acl_url", ACL_URL)] {
        if !options.iter().any(|(given, _)| given == name || given == "config_file") {
            options.push((name.to_owned(), value.to_owned()));
        }
    }
    let read = Config::read(&options);
    read.unwrap_or_else(|errors| panic!("{page}: {options:?}: {errors:?}")).0
}

#[test]
fn every_configuration_in_the_pages_is_understood() {
    let all = all_blocks("conf");
    assert!(all.len() > 20, "only {} configurations were found", all.len());
    for (page, block) in all {
        let mut options = options_of(&block);
        // That file is not there, and has tests of its own.
        options.retain(|(name, _)| name != "config_file");
        understand(&page, options);
    }
    let all = all_blocks("toml");
    assert!(!all.is_empty());
    for (page, block) in all {
        let file = tempfile::NamedTempFile::new().unwrap();
        // The files that it names need not exist to be understood: reading them comes later.
        fs::write(file.path(), &block).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let config = understand(&page, vec![("config_file".to_owned(), path)]);
        if block.contains("api-2.example") {
            assert_eq!((config.auth_urls.len(), config.acl_urls.len()), (2, 2));
        }
    }
}

#[test]
fn json_in_the_pages_is_json() {
    for (page, block) in all_blocks("json") {
        let values = serde_json::Deserializer::from_str(&block).into_iter::<serde_json::Value>();
        for value in values {
            value.unwrap_or_else(|error| panic!("{page}: {error} in\n{block}"));
        }
    }
}

#[test]
fn a_shell_understands_the_commands_in_the_pages() {
    for (page, block) in all_blocks("sh") {
        let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(block.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success(), "{page}: {block}");
    }
}

/// A broker with a configuration for operators, in which only plugin and URLs are replaced.
fn broker_with(conf: &str, version: Version, auth_url: &str, acl_url: &str) -> Setup {
    let mut conf = conf.to_owned();
    let plugin = format!("plugin {}\n", plugin().display());
    // A listener would collide with one that exists, and open a broker that was closed.
    assert!(!conf.lines().any(|line| line.starts_with("listener")), "{conf}");
    for (shown, used) in [(PLUGIN, plugin.as_str()), (AUTH_URL, auth_url), (ACL_URL, acl_url)] {
        assert!(conf.matches(shown).count() == 1 || shown == ACL_URL, "{shown:?} in\n{conf}");
        conf = conf.replace(shown, used);
    }
    Broker::with(version).without_plugin().line(conf)
}

#[test]
fn configurations_to_copy_start_every_broker() {
    let api = api("user sensor-1 secret-1\nallow write sensors/%u/#\n");
    let mut confs = vec![read(EXAMPLE)];
    confs.extend(
        all_blocks("conf").into_iter().map(|(_, block)| block).filter(|block| block.contains(PLUGIN)),
    );
    // The same in several pages.
    confs.dedup();
    assert!(confs.len() > 1);
    for conf in confs {
        let checks_topics = conf.contains(ACL_URL);
        on_every_broker(|version| {
            let broker = broker_with(&conf, version, &api.auth_url(), &api.acl_url()).start();
            let mut client = Connect::v5("c").login("sensor-1", "secret-1").accepted(broker.port());
            assert_eq!(client.publish_acknowledged("sensors/sensor-1/t", "1"), NO_SUBSCRIBERS);
            let expected = if checks_topics { reason::NOT_AUTHORIZED } else { NO_SUBSCRIBERS };
            assert_eq!(client.publish_acknowledged("sensors/sensor-2/t", "1"), expected);
            let wrong = Connect::v5("d").login("sensor-1", "secret-2");
            assert_eq!(wrong.refused(broker.port()), reason::NOT_AUTHORIZED);
            assert_eq!(Connect::v5("e").refused(broker.port()), reason::NOT_AUTHORIZED, "anonymous");
        });
    }
}

#[test]
fn the_rules_for_local_users_mean_what_is_said() {
    let text = read("docs/deciding.md");
    let [rules] = blocks(&text, "acl")[..] else { panic!("docs/deciding.md has one list of rules") };
    on_every_broker(|version| {
        let broker = Broker::with(version)
            .option("user", local_user("operator"))
            .file("rules", rules)
            .option("acl_file", "rules")
            .start();
        let mut operator = Connect::v5("c").login("operator", PASSWORD).accepted(broker.port());
        for (topic, expected) in [
            ("plant/valve", NO_SUBSCRIBERS),
            ("plant/secret/valve", reason::NOT_AUTHORIZED),
            ("own/operator/a", NO_SUBSCRIBERS),
            ("own/other/a", reason::NOT_AUTHORIZED),
            ("elsewhere", reason::NOT_AUTHORIZED),
        ] {
            assert_eq!(operator.publish_acknowledged(topic, "1"), expected, "{topic}");
        }
    });
}

/// The way from nothing to a first login: its configuration, its API, and its clients.
#[test]
fn the_first_steps_lead_where_they_say() {
    let Some(server) = Server::start("python3", "examples/api_server.py") else { return };
    let text = read("docs/start.md");
    let [conf] = blocks(&text, "conf")[..] else { panic!("docs/start.md has one configuration") };
    let commands: Vec<&str> = blocks(&text, "sh")
        .into_iter()
        .flat_map(str::lines)
        .filter(|line| line.starts_with("mosquitto_"))
        .collect();
    let [receives, first, wrong, foreign] = commands[..] else { panic!("other commands: {commands:?}") };
    on_every_broker(|version| {
        let broker = broker_with(conf, version, &server.url("/auth"), &server.url("/acl"))
            .line("plugin_opt_timeout 20s") // hashing takes the server its time on a busy machine
            .start();
        let home = tempfile::tempdir().unwrap();
        for program in ["mosquitto_pub", "mosquitto_sub"] {
            let text = format!("-h 127.0.0.1\n-p {}\n", broker.port());
            fs::write(home.path().join(program), text).unwrap();
        }
        let folder = version.program("mosquitto_pub").parent().unwrap().to_owned();
        let command = |line: &str| {
            let mut shell = Command::new("sh");
            let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
            shell.args(["-c", line]).env("PATH", path).env("XDG_CONFIG_HOME", home.path());
            shell
        };
        let subscriber = command(&format!("exec {receives} -C 1 -W {}", PATIENCE.as_secs()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        broker.wait_for_log("sensors/#", PATIENCE);
        let said = |line: &str| {
            let output = command(line).output().unwrap();
            String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
        };
        let refused = said(foreign);
        assert!(refused.contains("Publish 1 failed: Not authorized"), "{refused}");
        let refused = said(wrong);
        assert!(refused.contains("Not authorized"), "{refused}");
        assert_eq!(said(first), "");
        let received = subscriber.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(received.stdout).unwrap(), "sensors/sensor-1/temperature 21.5\n");
    });
}
