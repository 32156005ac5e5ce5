//! Who has given a command, and the line that the log has about it.

use std::fmt;

use crate::log::{Level, quoted};
use crate::plugin::{Meant, Steering};
use crate::question::Whom;

/// Who gives a command, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Giver {
    /// Somebody with the token, from this address.
    Token(String),
    /// A client of the broker, by its username and client id.
    Client(String, String),
    /// A user of this system, by number, over the Unix socket with this path.
    User(Option<u32>, String),
}

impl fmt::Display for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Giver::Token(address) => write!(f, "somebody with the token at {address}"),
            Giver::Client(username, client_id) => {
                write!(f, "{} (client id {}) over $CONTROL", quoted(username), quoted(client_id))
            }
            Giver::User(Some(uid), path) => write!(f, "user number {uid} over {path}"),
            Giver::User(None, path) => write!(f, "somebody over {path}"),
        }
    }
}

/// Writes the line.
pub fn note(steering: &Steering, command: &str, whom: &Whom, giver: &Giver, outcome: &str) {
    let line = format!("Command {command} for {}, by {giver}: {outcome}.", Meant(whom));
    steering.log().write(Level::Notice, line);
    // The broker's thread writes it, and may sleep for long.
    steering.broker().wake();
}
