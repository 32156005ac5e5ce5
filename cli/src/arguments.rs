//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::question::Access;

/// Where Debian and most others have the broker's configuration.
pub const BROKER_CONF: &str = "/etc/mosquitto/mosquitto.conf";

/// Checks, tries out and steers the Mosquitto plugin mosquitto-http-auth.
#[derive(Debug, Parser)]
#[command(
    name = "mosquitto-http-auth",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 yes or all well, 1 no or something is wrong, 2 the command line cannot be used, 3 there is \
                  no answer."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the plugin's lines in the broker's configuration, its files, and the way to the API.
    Check(Check),
    /// Ask about a login as the plugin would, and show what goes over the wire.
    Login(Login),
    /// Ask about a topic as the plugin would, and show what goes over the wire.
    Topic(Topic),
    /// Make a line for plugin_opt_user or a password file.
    Hash(Hash),
    /// Print what a configuration of mosquitto-go-auth or mosquitto-auth-plug comes to in the plugin's own options.
    Migrate(Migrate),
    #[command(flatten)]
    Admin(crate::admin::Command),
    /// Write man pages and completions for shells into a folder.
    #[command(hide = true)]
    Generate(Generate),
}

/// Which configuration, and which plugin in it.
#[derive(Debug, Args)]
pub struct Which {
    /// The broker's configuration.
    #[arg(short, long, value_name = "FILE", default_value = BROKER_CONF)]
    pub config: PathBuf,
    /// Of several plugins in it, that of this listener (its port).
    #[arg(long, value_name = "PORT")]
    pub listener: Option<String>,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The broker's configuration.
    #[arg(value_name = "FILE", default_value = BROKER_CONF)]
    pub config: PathBuf,
    /// Only read: look nothing up, connect nowhere, ask nobody.
    #[arg(long)]
    pub offline: bool,
    /// Warnings count as mistakes: exit with 1 for them, too.
    #[arg(long)]
    pub strict: bool,
    /// The broker's program. Otherwise it is looked for where it usually is.
    #[arg(long, value_name = "FILE")]
    pub broker: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Login {
    /// The username.
    pub username: String,
    /// The client id, where auth_fields has the API told it.
    #[arg(long, value_name = "ID", default_value = "")]
    pub client_id: String,
    /// Read the password from standard input, up to the first line's end. Otherwise it is asked for on the terminal.
    #[arg(long)]
    pub password_stdin: bool,
    /// Show passwords and the values of headers, too.
    #[arg(long)]
    pub show_secrets: bool,
    #[command(flatten)]
    pub which: Which,
}

#[derive(Debug, Args)]
pub struct Topic {
    /// The username.
    pub username: String,
    /// What is to be done.
    pub access: Wanted,
    /// The topic, or the filter of a subscription.
    pub topic: String,
    /// The client id.
    #[arg(long, value_name = "ID", default_value = "")]
    pub client_id: String,
    /// Show the values of headers, too.
    #[arg(long)]
    pub show_secrets: bool,
    #[command(flatten)]
    pub which: Which,
}

/// What a client wants to do with a topic.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Wanted {
    /// Be sent a message of this topic.
    Read,
    /// Publish on it.
    Write,
    /// Subscribe to it.
    Subscribe,
}

impl From<Wanted> for Access {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Read => Self::Read,
            Wanted::Write => Self::Write,
            Wanted::Subscribe => Self::Subscribe,
        }
    }
}

#[derive(Debug, Args)]
pub struct Hash {
    /// The username.
    pub username: String,
    /// Read the password from standard input, up to the first line's end. Otherwise it is asked for on the terminal.
    #[arg(long)]
    pub password_stdin: bool,
    /// How many times the password is hashed. From 20000 on the plugin checks it on a thread of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=2_000_000))]
    pub iterations: u32,
}

#[derive(Debug, Args)]
pub struct Migrate {
    /// The broker's configuration that loads the other plugin.
    #[arg(value_name = "FILE", default_value = BROKER_CONF)]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Generate {
    /// The folder, which is made where there is none.
    pub folder: PathBuf,
}
