//! Why an API cannot be asked as the options say, in words for the operator.
use std::fmt;
use std::path::PathBuf;

use crate::util::location::{Location, file_name};

/// Why an API cannot be asked as the options say.
#[derive(Debug)]
pub enum TargetError {
    /// A file cannot be read: the option that names it, its path, the system's error.
    Unreadable(String, PathBuf, std::io::Error),
    /// A line of the header file is no header: the option that names the file, its path, the line's number from 1, what
    /// is wrong with it if it can be said.
    NotAHeader(String, PathBuf, usize, Option<String>),
    /// The headers do not go together: the option that names their file, and why.
    NoHeaders(String, &'static str),
    /// A file does not hold what it should: the option that names it, its path, what is wrong.
    File(String, PathBuf, String),
    /// Certificate and key do not go together: the option that names the certificate, and the cause.
    NoPair(String, String),
    /// TLS cannot be set up, for example because no system roots could be loaded: the cause.
    Tls(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetError::Unreadable(option, path, cause) => {
                write!(f, "{option}: {} cannot be read ({cause})", path.display())
            }
            TargetError::NoHeaders(option, what) => write!(f, "{option}: {what}"),
            TargetError::NotAHeader(option, path, line, Some(what)) => {
                write!(f, "{option}: {}: {what}", Location::line(&file_name(path), *line))
            }
            TargetError::NotAHeader(option, path, line, None) => {
                let location = Location::line(&file_name(path), *line);
                write!(
                    f,
                    "{option}: {location}: expected \"Name: value\"; \
                     what was found is not shown, it may be a secret"
                )
            }
            TargetError::File(option, path, what) => {
                write!(f, "{option}: {} {what}", path.display())
            }
            TargetError::NoPair(option, cause) => {
                write!(
                    f,
                    "{option}: the certificate and the key in tls_key_file do not go together ({cause})"
                )
            }
            TargetError::Tls(cause) => write!(f, "TLS towards the API cannot be set up ({cause})"),
        }
    }
}

impl std::error::Error for TargetError {}
