//! The program `mosquitto-http-auth`: checks the plugin's configuration, asks the API as the plugin would, and speaks to
//! a running plugin's admin listener.
//!
//! What the plugin knows is not known a second time here: the rooms below are the plugin's own files, compiled into this
//! program as they stand. They are those that need no broker, so that the program builds without its headers.
//!
//! Exit codes: 0 yes or all well; 1 no or something is wrong; 2 the command line cannot be used; 3 there is no answer.

mod admin;
mod arguments;
mod ask;
mod broker_conf;
mod broker_user;
mod check;
mod generate;
mod hash;
mod http;
mod migrate;
mod output;
mod plugin_conf;

#[allow(dead_code, unused_imports, reason = "the program uses a part of what the plugin has")]
#[path = "../../src/config/mod.rs"]
mod config;
#[allow(dead_code, unused_imports, reason = "the program uses a part of what the plugin has")]
#[path = "../../src/local/mod.rs"]
mod local;
#[allow(dead_code, reason = "the program uses a part of what the plugin has")]
#[path = "../../src/log.rs"]
mod log;
#[allow(dead_code, clippy::wrong_self_convention, reason = "the program uses a part of what the plugin has")]
#[path = "../../src/question.rs"]
mod question;
#[allow(dead_code, unused_imports, reason = "the program uses a part of what the plugin has")]
#[path = "../../src/topic/mod.rs"]
mod topic;
#[allow(dead_code, unused_imports, reason = "the program uses a part of what the plugin has")]
#[path = "../../src/util/mod.rs"]
mod util;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Yes, or all is well.
    Yes,
    /// No, or something is wrong.
    No,
    /// The command line, or a file that it names, cannot be used.
    Unusable,
    /// Whom it asks gives no answer.
    NoAnswer,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Yes => 0,
            Outcome::No => 1,
            Outcome::Unusable => 2,
            Outcome::NoAnswer => 3,
        })
    }
}

fn main() -> ExitCode {
    let Arguments { command, json } = Arguments::parse();
    // It is asked for where no TLS is spoken, too. That another is there already cannot be.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match command {
        Command::Check(how) => check::run(&how, json),
        Command::Login(login) => ask::login(&login, json),
        Command::Topic(topic) => ask::topic(&topic, json),
        Command::Hash(hash) => hash::run(&hash),
        Command::Migrate(migrate) => migrate::run(&migrate, json),
        Command::Admin(command) => admin::run(&command, json),
        Command::Generate(what) => generate::run(&what),
    };
    done.unwrap_or_else(|what| {
        output::complain(&what);
        Outcome::Unusable
    })
    .into()
}
