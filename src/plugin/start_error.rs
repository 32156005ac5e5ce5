//! Why the plugin cannot start, or cannot take over what a reload has read.
use std::fmt;
use std::path::PathBuf;

use crate::ask::http::TargetError;
use crate::config::ConfigError;
use crate::local::{self, LocalError};

/// Why the plugin cannot start.
#[derive(Debug)]
pub enum StartError {
    /// An option is wrong.
    Config(ConfigError),
    /// The local users or their rules cannot be read: the option that names them, and what is wrong.
    Local(String, LocalError),
    /// The way to the API cannot be set up.
    Target(TargetError),
    /// The file of the admin token cannot be used: the option that names it, its path, and why.
    Token(String, PathBuf, String),
    /// `auth_mode delayed` on a broker that cannot let clients wait.
    CannotDelay,
    /// `auth_mode delayed` beside another copy of the plugin's file, which may park clients under the same ids.
    NotOnlyCopy,
    /// `auth_mode delayed` with `defer_status`: nobody else can decide about a client that waits.
    CannotDefer,
    /// The system gives no random numbers, so there is no key for the cache.
    NoRandomness,
    /// An option wants a field that this broker does not tell. Holds the option.
    Untold(String),
    /// A reload, by a slip maybe, would end a check that is made now. Holds the whole message.
    UnsaidEnd(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => write!(f, "{error}"),
            StartError::Local(option, error) => write!(f, "{option}: {error}"),
            StartError::Target(error) => write!(f, "{error}"),
            StartError::Token(option, path, what) => write!(f, "{option}: {} {what}", path.display()),
            StartError::CannotDelay => f.write_str(
                "plugin_opt_auth_mode: found \"delayed\", but clients cannot wait beside the loop of this \
                 broker; expected Mosquitto 2.1 or later, or auto or blocking",
            ),
            StartError::NotOnlyCopy => f.write_str(
                "plugin_opt_auth_mode: found \"delayed\", but another copy of the plugin's file is loaded, and neither \
                 knows whom the other lets wait; expected one file for all listeners, or auto or blocking",
            ),
            StartError::CannotDefer => f.write_str(
                "plugin_opt_auth_mode: found \"delayed\", but defer_status leaves logins to other plugins, which cannot \
                 decide about clients that wait; expected auto or blocking",
            ),
            StartError::Untold(option) => write!(
                f,
                "{option}: found listener_port, which this broker does not tell; expected Mosquitto 2.1 or later, or a list \
                 without it"
            ),
            StartError::UnsaidEnd(what) => f.write_str(what),
            StartError::NoRandomness => f.write_str("the system gives no random numbers for the cache's key"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<local::Wrong> for StartError {
    fn from((option, error): local::Wrong) -> Self {
        StartError::Local(option, error)
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        StartError::Config(error)
    }
}

impl From<TargetError> for StartError {
    fn from(error: TargetError) -> Self {
        StartError::Target(error)
    }
}

/// A list of one error.
pub fn one(error: impl Into<StartError>) -> Vec<StartError> {
    vec![error.into()]
}

/// The mistakes in options, as errors of a start.
pub fn each(errors: Vec<ConfigError>) -> Vec<StartError> {
    errors.into_iter().map(StartError::from).collect()
}
