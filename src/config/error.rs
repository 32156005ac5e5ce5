//! What can be wrong with options, in words for the operator.

use std::fmt;

use crate::log::quoted;
use crate::util::Location;

/// A value that is not what its option wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unexpected;

/// A mistake in the configuration: where, what was found, what was expected.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No option has this name.
    UnknownOption {
        /// Where it stands.
        location: Location,
        /// The name that was given.
        name: String,
        /// The known name that is nearest to it, if one is near.
        nearest: Option<&'static str>,
    },
    /// An option was given by a name that it had once.
    Renamed {
        /// Where it stands.
        location: Location,
        /// The name that was given.
        name: String,
        /// The name that it has now.
        now: &'static str,
    },
    /// An option was given twice that can be given once.
    Repeated {
        /// Where it stands for the second time.
        location: Location,
        /// The option.
        name: &'static str,
    },
    /// The value is not what the option wants.
    Value {
        /// Where it stands.
        location: Location,
        /// The option.
        name: &'static str,
        /// The value; `None` where it may be a secret.
        found: Option<String>,
        /// What the option wants.
        expected: &'static str,
    },
    /// Two options do not go together, or one lacks another.
    Combination(String),
    /// A configuration file cannot be read, is no TOML, or holds what no option can be.
    File(String),
}

/// What messages call an option of mosquitto.conf.
pub(super) fn called_in_broker(name: &str) -> String {
    format!("plugin_opt_{name}")
}

/// What messages call an option where it stands. In a file its name may be any text, so it is escaped.
pub(super) fn called(location: &Location, name: &str) -> String {
    match location {
        Location::Option(called) => called.to_string(),
        Location::Line { .. } => format!("{location}: {}", name.escape_debug()),
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::UnknownOption { location, name, nearest } => {
                write!(f, "{}: there is no option of this name", called(location, name))?;
                match nearest {
                    Some(nearest) => write!(f, "; the nearest is {nearest}"),
                    None => write!(f, "; the README lists them all"),
                }
            }
            ConfigError::Renamed { location, name, now } => {
                let now = match location {
                    Location::Option(_) => called_in_broker(now),
                    Location::Line { .. } => (*now).to_owned(),
                };
                write!(f, "{}: is called {now} now", called(location, name))
            }
            ConfigError::Repeated { location, name } => {
                write!(f, "{}: found it twice, expected it once at most", called(location, name))
            }
            ConfigError::Value { location, name, found: Some(found), expected } => {
                write!(f, "{}: found {}, expected {expected}", called(location, name), quoted(found))
            }
            ConfigError::Value { location, name, found: None, expected } => {
                let name = called(location, name);
                write!(f, "{name}: expected {expected}; what was found is not shown, it may be a secret")
            }
            ConfigError::Combination(what) | ConfigError::File(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ConfigError {}
