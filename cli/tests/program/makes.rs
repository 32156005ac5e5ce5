//! `hash`, man pages and completions.

use std::fs;

use tempfile::TempDir;

use crate::support::{Broker, Connect, on_every_broker};
use crate::{run, run_with, stderr, stdout};

#[test]
fn a_line_that_it_makes_lets_that_user_in() {
    let line = |more: &[&str]| {
        let output = run_with("pä ss:w$rd\n", &[&["hash", "alice", "--password-stdin"], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim_end().to_owned()
    };
    let (first, second, slow) = (line(&[]), line(&[]), line(&["--iterations", "30000"]));
    assert!(first != second && first.starts_with("alice:$7$1000$"), "{first}");
    on_every_broker(|version| {
        for line in [&first, &slow] {
            let broker = Broker::with(version).option("user", line).start();
            Connect::v5("c").login("alice", "pä ss:w$rd").accepted(broker.port());
            assert!(Connect::v5("c").login("alice", "other").attempt(broker.port()).is_err());
        }
    });
}

#[test]
fn no_line_is_made_that_would_not_work() {
    for (name, password) in [("al:ice", "x"), ("", "x"), ("# alice", "x"), ("alice", "")] {
        let output = run_with(password, &["hash", name, "--password-stdin"]);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()), "{name}");
    }
}

#[test]
fn man_pages_and_completions_tell_of_every_command() {
    let folder = TempDir::new().unwrap();
    assert!(run(&["generate", folder.path().to_str().unwrap()]).status.success());
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    for command in ["check", "login", "topic", "hash", "status", "explain", "forget", "kick", "recheck"] {
        for file in [
            "mosquitto-http-auth.1",
            "mosquitto-http-auth.bash",
            "mosquitto-http-auth.fish",
            "_mosquitto-http-auth",
        ] {
            assert!(read(file).contains(command), "{file}: {command}");
        }
        assert!(read(&format!("mosquitto-http-auth-{command}.1")).contains("SYNOPSIS"));
    }
}

#[test]
fn program_and_plugin_have_one_version() {
    let plugin =
        include_str!("../../../Cargo.toml").lines().find(|line| line.starts_with("version = ")).unwrap();
    assert_eq!(plugin, format!("version = \"{}\"", env!("CARGO_PKG_VERSION")));
}
