//! What can be wrong with the files of local users, in words for the operator.
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::text;

/// Where something was written: a file and the line in it, or an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<str>,
    line: Option<usize>,
}

impl Place {
    /// A source that has no lines, such as an option.
    pub fn new(source: &str) -> Self {
        Self { source: source.into(), line: None }
    }

    /// A line of the same source; the first is 1.
    pub(super) fn at_line(&self, line: usize) -> Self {
        Self { source: Arc::clone(&self.source), line: Some(line) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// Something that has no place where it stands. Neither field quotes what may be a password or its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What stands there.
    pub found: Cow<'static, str>,
    /// What would be right.
    pub expected: Cow<'static, str>,
}

impl Mismatch {
    pub(super) fn new(found: impl Into<Cow<'static, str>>, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { found: found.into(), expected: expected.into() }
    }

    pub(super) fn at(self, place: &Place) -> LocalError {
        LocalError::Mismatch { place: place.clone(), mismatch: self }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

impl std::error::Error for Mismatch {}

/// Why local users or their topic rules could not be taken over. No password and no hash is in any of the texts.
#[derive(Debug)]
pub enum LocalError {
    /// The file is missing, is none, or the broker's user may not read it.
    Unreadable {
        /// The file as it was named.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The file is larger than any such file should be.
    TooLarge {
        /// The file as it was named.
        path: PathBuf,
        /// The largest file that is read, in bytes.
        limit: u64,
    },
    /// A line, or the value of an option, is not what it should be.
    Mismatch {
        /// Which one.
        place: Place,
        /// What is wrong with it.
        mismatch: Mismatch,
    },
    /// A user has two hashes, and which one counts would be a guess.
    Duplicate {
        /// The user's name.
        name: String,
        /// Where the name was seen first.
        first: Place,
        /// Where it was seen again.
        second: Place,
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
            Self::Mismatch { place, mismatch } => write!(f, "{place}: {mismatch}"),
            Self::Duplicate { name, first, second } => {
                let name = text::quote(name);
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
