//! Mistakes in the files of local users, in words for the operator.
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::log::quoted;
use crate::util::Location;

/// A mistake in a text: what was found, and what was expected. Neither quotes a text that may be a password or its
/// hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What the text holds, as in "found a salt of 7 bytes".
    pub found: Cow<'static, str>,
    /// What it should hold, as in "expected 8 to 64 bytes".
    pub expected: Cow<'static, str>,
}

impl Mismatch {
    pub(super) fn new(found: impl Into<Cow<'static, str>>, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { found: found.into(), expected: expected.into() }
    }

    pub(super) fn at(self, location: &Location) -> LocalError {
        LocalError::Mismatch { location: location.clone(), mismatch: self }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

impl std::error::Error for Mismatch {}

/// Why local users or their topic rules could not be read. No message holds a password or a hash.
#[derive(Debug)]
pub enum LocalError {
    /// The file is missing, is not a regular file, or the broker's user may not read it.
    Unreadable {
        /// The path as the operator wrote it.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The file is larger than any such file should be.
    TooLarge {
        /// The path as the operator wrote it.
        path: PathBuf,
        /// The largest file that is read, in bytes.
        limit: u64,
    },
    /// A line, or the value of an option, is not what it should be.
    Mismatch {
        /// The line or option.
        location: Location,
        /// The mistake in it.
        mismatch: Mismatch,
    },
    /// A user has two hashes: choosing one would be a guess.
    Duplicate {
        /// The user's name.
        name: String,
        /// Where the name stands first.
        first: Location,
        /// Where the name stands again.
        second: Location,
    },
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, cause } => {
                write!(f, "{}: cannot be read by the broker's user ({cause})", path.display())
            }
            Self::TooLarge { path, limit } => {
                write!(
                    f,
                    "{}: found a file of more than {limit} bytes, expected a smaller one",
                    path.display()
                )
            }
            Self::Mismatch { location, mismatch } => write!(f, "{location}: {mismatch}"),
            Self::Duplicate { name, first, second } => {
                let name = quoted(name);
                write!(
                    f,
                    "{second}: found user {name} again, expected one hash for each name ({first} has one)"
                )
            }
        }
    }
}

impl std::error::Error for LocalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
