//! Calls in orders that a broker could produce and rarely does: `host/host.c` is that broker, and loads the plugin
//! through its C interface. Whatever comes, nothing but a verdict lets anybody in or through.
//!
//! `MHA_LAUNCHER` may name a program, with its arguments, that runs it (`make memcheck-host`: valgrind). Then everything
//! may take ten times as long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

mod support;
use support::broker::plugin;
use support::{MockApi, Reply, api};

/// What only 2.1 has.
const OF_2_1: [&str; 3] = ["mosquitto_client", "mosquitto_complete_basic_auth", "mosquitto_plugin_set_info"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V2_0,
    V2_1,
}

use Version::{V2_0, V2_1};

fn launcher() -> String {
    env::var("MHA_LAUNCHER").unwrap_or_default()
}

/// So much time, or what it is where another program runs the host.
fn paced(time: Duration) -> Duration {
    if launcher().is_empty() { time } else { time * 10 }
}

fn milliseconds(time: Duration) -> String {
    format!("{}ms", paced(time).as_millis())
}

/// One run of the C program.
struct Host {
    version: Version,
    folder: TempDir,
    api: MockApi,
    /// Functions that this broker has not.
    lacks: Vec<&'static str>,
    options: Vec<String>,
}

impl Host {
    /// A broker whose plugin asks an API that answers by what stands in a username or topic.
    fn new(version: Version) -> Self {
        let api = api("");
        let asked_once = Mutex::new(HashSet::new());
        api.answer_with(move |request| {
            let (path, username) = (request.path.as_str(), request.field("username"));
            let what = if path == "/acl" { request.field("topic") } else { username };
            let is_first = || asked_once.lock().unwrap().insert(username.to_owned());
            match what {
                _ if path == "/nobody" => Reply::status(403),
                what if what.starts_with("hang") => Reply::Hang,
                what if what.starts_with("slow") => Reply::status(200).after(paced(Duration::from_secs(1))),
                what if what.starts_with("gone") => Reply::status(503),
                what if what.starts_with("once") && is_first() => Reply::status(200),
                "" | "good" => Reply::status(200),
                _ => Reply::status(403),
            }
        });
        let host = Self {
            version,
            folder: TempDir::with_prefix("mha-host-").unwrap(),
            lacks: if version == V2_0 { OF_2_1.to_vec() } else { Vec::new() },
            options: Vec::new(),
            api,
        };
        let (auth_url, acl_url) = (host.api.auth_url(), host.api.acl_url());
        host.asking(&auth_url, &acl_url).option("throttle_after", 0)
    }

    fn asking(self, auth_url: &str, acl_url: &str) -> Self {
        let connect_timeout = milliseconds(Duration::from_millis(500));
        self.option("auth_url", auth_url)
            .option("acl_url", acl_url)
            .option("connect_timeout", connect_timeout)
            .timeout(Duration::from_secs(2))
    }

    fn timeout(self, timeout: Duration) -> Self {
        self.option("timeout", milliseconds(timeout))
    }

    fn lacking(mut self, function: &'static str) -> Self {
        self.lacks.push(function);
        self
    }

    /// An option of this instance; the last one of a name counts.
    fn option(mut self, name: &str, value: impl ToString) -> Self {
        let instance = self.options.iter().rposition(|option| option == "--").unwrap_or_default();
        let prefix = format!("{name}=");
        let place = self.options.iter().skip(instance).position(|option| option.starts_with(&prefix));
        let option = prefix + &value.to_string();
        match place {
            Some(place) => self.options[instance + place] = option,
            None => self.options.push(option),
        }
        self
    }

    /// The options that follow are those of a second instance.
    fn second(mut self) -> Self {
        self.options.push("--".to_owned());
        self
    }

    /// "local", whose password is "correct horse".
    fn local_user(self) -> Self {
        let line = include_str!("fixtures/passwd-2.0.11").lines().next().unwrap();
        self.option("user", format!("local:{}", line.split_once(':').unwrap().1))
    }

    fn run(self, scenario: &str) {
        let program = self.compile();
        let launcher = launcher();
        let mut words = launcher.split_whitespace().map(Path::new).chain([program.as_path()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg(scenario).arg(plugin()).args(&self.options);
        let output = command.current_dir(self.folder.path()).output().unwrap();
        assert!(
            output.status.success(),
            "{scenario} with {:?} ends with {}:\n{}",
            self.version,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn compile(&self) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = self.folder.path().join("host");
        let output = Command::new("cc")
            .args(["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-rdynamic", "-o"])
            .arg(&program)
            .arg(root.join("tests/host/host.c"))
            .arg(format!("-DIS_2_1={}", u8::from(self.version == V2_1)))
            .args(self.lacks.iter().map(|function| format!("-D{function}=no_{function}")))
            .arg("-I")
            .arg(root.join("include"))
            .arg("-idirafter")
            .arg(root.join(".brokers/2.0.11/include"))
            .args(["-ldl", "-pthread"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        program
    }
}

fn on_every_host(prepare: impl Fn(Host) -> Host, scenario: &str) {
    for version in [V2_0, V2_1] {
        prepare(Host::new(version)).run(scenario);
    }
}

// Starting and stopping.

#[test]
fn it_takes_version_5_of_the_interface_and_no_other() {
    on_every_host(|host| host, "versions");
}

#[test]
fn without_options_it_does_not_start() {
    on_every_host(|host| host, "no_options");
}

#[test]
fn with_an_option_that_is_wrong_unknown_or_missing_it_does_not_start() {
    on_every_host(|host| host, "bad_options");
}

#[test]
fn in_a_broker_without_a_function_that_it_needs_it_does_not_start() {
    for function in [
        "mosquitto_callback_register",
        "mosquitto_callback_unregister",
        "mosquitto_client_address",
        "mosquitto_client_clean_session",
        "mosquitto_client_id",
        "mosquitto_client_username",
    ] {
        on_every_host(|host| host.lacking(function), "lacks_a_function");
    }
}

/// No broker is like these; but nothing is open for it.
#[test]
fn in_a_broker_without_a_function_that_it_can_do_without_it_decides_rightly() {
    for function in [
        "mosquitto_client_protocol_version",
        "mosquitto_kick_client_by_clientid",
        "mosquitto_kick_client_by_username",
        "mosquitto_client",
        "mosquitto_plugin_set_info",
    ] {
        Host::new(V2_1).lacking(function).run("works_all_the_same");
    }
}

#[test]
fn if_the_broker_refuses_a_callback_nothing_is_left_behind() {
    on_every_host(|host| host, "refused_callbacks");
}

#[test]
fn a_second_line_for_the_same_file_takes_nothing_from_the_first() {
    on_every_host(|host| host, "the_same_file_twice");
}

#[test]
fn it_starts_and_stops_a_hundred_times_and_leaves_nothing_behind() {
    on_every_host(|host| host, "starts_and_stops");
}

#[test]
fn also_if_the_broker_closes_the_library_each_time() {
    on_every_host(|host| host, "starts_and_stops_with_dlclose");
}

#[test]
fn it_stops_with_questions_in_flight_and_is_silent_then() {
    on_every_host(|host| host.timeout(Duration::from_millis(300)), "stops_with_questions_in_flight");
}

#[test]
fn two_instances_share_no_verdict_and_no_user() {
    on_every_host(
        |host| {
            let nobody = host.api.auth_url().replace("/auth", "/nobody");
            host.local_user().second().asking(&nobody, &nobody)
        },
        "two_instances",
    );
}

// Reloads.

#[test]
fn after_a_reload_that_fails_everything_is_as_it_was() {
    for version in [V2_0, V2_1] {
        let mut host = Host::new(version).local_user();
        let config = host.folder.path().join("options.toml");
        fs::write(&config, format!("acl_url = \"{}\"\n", host.api.acl_url())).unwrap();
        host.options.retain(|option| !option.starts_with("acl_url"));
        host.option("config_file", config.display()).run("failed_reloads");
    }
}

// What is in events, and when they come.

#[test]
fn logins_without_a_name_an_id_or_a_password_are_no_way_in() {
    on_every_host(Host::local_user, "odd_logins");
}

#[test]
fn topic_checks_without_a_name_a_topic_or_a_known_access_are_no_way_through() {
    on_every_host(Host::local_user, "odd_topic_checks");
}

#[test]
fn numbers_of_events_change_no_answer() {
    on_every_host(|host| host, "odd_event_numbers");
}

#[test]
fn events_that_come_too_early_twice_or_for_nobody_change_no_answer() {
    on_every_host(Host::local_user, "odd_orders");
}

#[test]
fn a_tick_is_wanted_early_only_where_nothing_else_brings_it_about() {
    on_every_host(|host| host.timeout(Duration::from_millis(300)), "ticks");
}

#[test]
fn the_broker_may_call_back_while_it_is_called() {
    on_every_host(|host| host, "calls_back");
}

#[test]
fn another_thread_that_waits_holds_up_nobody() {
    Host::new(V2_1).run("two_threads");
}
