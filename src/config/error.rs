//! Mistakes in options, in words for the operator.

use std::fmt;

use crate::log::quoted;
use crate::util::Location;

/// A value that its option does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unexpected;

/// A value that its option does not take, where more can be said than what the option takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not what the option takes.
    Value,
    /// What is wrong with it, without a secret.
    Because(String),
}

impl Wrong {
    /// What is wrong, if more can be said than what the option takes.
    pub(super) fn reason(self) -> Option<String> {
        match self {
            Self::Value => None,
            Self::Because(reason) => Some(reason),
        }
    }
}

impl From<Unexpected> for Wrong {
    fn from(_: Unexpected) -> Self {
        Self::Value
    }
}

/// A mistake in the configuration: where it stands, what was found, what was expected.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No option has this name.
    UnknownOption {
        /// Where the name stands.
        location: Location,
        /// The name that was given.
        name: String,
        /// The option with the most similar name, if one is similar enough.
        nearest: Option<&'static str>,
    },
    /// An option was given by its former name.
    Renamed {
        /// Where the name stands.
        location: Location,
        /// The name that was given.
        name: String,
        /// The name that the option has now.
        now: &'static str,
    },
    /// An option of another plugin was given where these are not understood.
    Foreign {
        /// Where the name stands.
        location: Location,
        /// The name that was given.
        name: String,
        /// The plugins that know it.
        plugins: String,
        /// What becomes of it where it is understood.
        here: &'static str,
    },
    /// An option was given twice that takes one value.
    Repeated {
        /// Where the option stands for the second time.
        location: Location,
        /// The name of the option.
        name: &'static str,
    },
    /// An option does not take this value.
    Value {
        /// Where the value stands.
        location: Location,
        /// The name of the option.
        name: &'static str,
        /// The value that was given; `None` where it may be a secret.
        found: Option<String>,
        /// A description of the values that the option takes.
        expected: &'static str,
    },
    /// There is something wrong with an option's value that can be said.
    Slip {
        /// Where the value stands.
        location: Location,
        /// The name of the option.
        name: &'static str,
        /// What is wrong, without a secret.
        what: String,
    },
    /// Two options contradict each other, or one is missing that another needs.
    Combination(String),
    /// A configuration file cannot be read, is not TOML, or holds something that cannot be an option's value.
    File(String),
}

/// The name by which messages call an option of mosquitto.conf.
pub(super) fn called_in_broker(name: &str) -> String {
    format!("plugin_opt_{name}")
}

/// The name by which messages call an option, with its location. In a file it may be any text, so it is escaped.
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
                    None => write!(f, "; docs/configuration.md lists them all"),
                }
            }
            ConfigError::Renamed { location, name, now } => {
                let now = match location {
                    Location::Option(_) => called_in_broker(now),
                    Location::Line { .. } => (*now).to_owned(),
                };
                write!(f, "{}: is called {now} now", called(location, name))
            }
            ConfigError::Foreign { location, name, plugins, here } => write!(
                f,
                "{}: this is an option of {plugins}, understood only in mosquitto.conf beside plugin_opt_backends; what becomes of it \
                 there: {here}",
                called(location, name),
            ),
            ConfigError::Slip { location, name, what } => write!(f, "{}: {what}", called(location, name)),
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
