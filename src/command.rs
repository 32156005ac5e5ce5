//! A command about somebody: its name, whom it is about, who has given it, and what came of it. Whoever gives, tells, carries
//! out or notes one does it by these types; `status` and `explain`, which are about nobody and change nothing, are known to
//! `steer` alone.

use std::fmt;

use crate::fingerprint::{Fingerprinter, Whose};
use crate::log::quoted;

/// What is done to somebody. The numbers are those in the journal of a shared cache, and stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Verb {
    /// What the API has said is forgotten.
    Forget = 1,
    /// Connections are ended.
    Kick = 2,
    /// The API is asked again about sessions.
    Recheck = 3,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Forget, Self::Kick, Self::Recheck];

    /// Its name, behind every door and in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Forget => "forget",
            Verb::Kick => "kick",
            Verb::Recheck => "recheck",
        }
    }
}

/// Who is meant by a name, which is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// All of a username.
    Username(String),
    /// The one of a client id.
    ClientId(String),
}

/// Who is meant by a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Whoever has a name.
    Named(Named),
    /// All.
    Everybody,
}

impl Whom {
    /// All of a username.
    pub const fn username(username: String) -> Self {
        Whom::Named(Named::Username(username))
    }

    /// The one of a client id.
    pub const fn client_id(client_id: String) -> Self {
        Whom::Named(Named::ClientId(client_id))
    }

    /// Whose verdicts these are.
    pub fn whose(&self, keys: &Fingerprinter) -> Whose {
        match self {
            Whom::Named(Named::Username(username)) => Whose::Username(keys.username(username)),
            Whom::Named(Named::ClientId(client_id)) => Whose::ClientId(keys.client_id(client_id)),
            Whom::Everybody => Whose::Everybody,
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Named(Named::Username(username)) => write!(f, "username {}", quoted(username)),
            Whom::Named(Named::ClientId(client_id)) => write!(f, "client id {}", quoted(client_id)),
            Whom::Everybody => f.write_str("everybody"),
        }
    }
}

/// A command about somebody. Brokers that share a cache all carry it out. Nobody can kick everybody, nor have the API asked
/// again about a client id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Forget what the API has said of them.
    Forget(Whom),
    /// End their connections.
    Kick(Named),
    /// Have the API asked again about the sessions of a username, or about all.
    Recheck(Option<String>),
}

impl Command {
    /// A command of this verb for these, if there is one.
    pub fn new(verb: Verb, whom: Whom) -> Option<Self> {
        match (verb, whom) {
            (Verb::Forget, whom) => Some(Command::Forget(whom)),
            (Verb::Kick, Whom::Named(named)) => Some(Command::Kick(named)),
            (Verb::Recheck, Whom::Named(Named::Username(username))) => Some(Command::Recheck(Some(username))),
            (Verb::Recheck, Whom::Everybody) => Some(Command::Recheck(None)),
            (Verb::Kick, Whom::Everybody) | (Verb::Recheck, Whom::Named(Named::ClientId(_))) => None,
        }
    }

    /// What is done.
    pub const fn verb(&self) -> Verb {
        match self {
            Command::Forget(_) => Verb::Forget,
            Command::Kick(_) => Verb::Kick,
            Command::Recheck(_) => Verb::Recheck,
        }
    }

    /// To whom.
    pub fn whom(&self) -> Whom {
        match self {
            Command::Forget(whom) => whom.clone(),
            Command::Kick(named) => Whom::Named(named.clone()),
            Command::Recheck(Some(username)) => Whom::username(username.clone()),
            Command::Recheck(None) => Whom::Everybody,
        }
    }
}

/// What came of a command that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is forgotten.
    Forgotten,
    /// So many are disconnected, or were refused while they waited to be let in.
    Kicked(usize),
    /// The API is asked about so many sessions.
    Rechecked(usize),
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Done::Forgotten => f.write_str("done"),
            Done::Kicked(count) => write!(f, "{count} disconnected"),
            Done::Rechecked(count) => write!(f, "the API is asked about {count} sessions"),
        }
    }
}

/// What came of a command, or why it was not carried out, in words for the operator.
pub type Outcome = Result<Done, String>;

/// Who gives a command, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Giver {
    /// Somebody with the token, from this address.
    Token(String),
    /// A client of the broker, by its username and client id.
    Client(String, String),
    /// A user of this system, by number, over the Unix socket with this path.
    User(Option<u32>, String),
    /// Another broker that shares the cache: it was given the command, and has told this one.
    Broker,
}

impl fmt::Display for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Giver::Token(address) => write!(f, "somebody with the token at {address}"),
            Giver::Client(username, client_id) => {
                write!(f, "{} (client id {}) over $CONTROL", quoted(username), quoted(client_id))
            }
            Giver::User(Some(uid), path) => write!(f, "uid {uid} over {path}"),
            Giver::User(None, path) => write!(f, "somebody over {path}"),
            Giver::Broker => f.write_str("another broker"),
        }
    }
}

/// The line that the log has about a command.
pub fn line(command: &Command, giver: &Giver, outcome: &Outcome) -> String {
    let outcome: &dyn fmt::Display = match outcome {
        Ok(done) => done,
        Err(why) => why,
    };
    format!("Command {} for {}, by {giver}: {outcome}.", command.verb().name(), command.whom())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_by_whom_and_what_came_of_it() {
        let username = "u\n".to_owned();
        let token = Giver::Token("127.0.0.1:9".to_owned());
        assert_eq!(
            line(&Command::Kick(Named::Username(username.clone())), &token, &Ok(Done::Kicked(2))),
            "Command kick for username \"u\\n\", by somebody with the token at 127.0.0.1:9: 2 disconnected."
        );
        assert_eq!(
            line(&Command::Recheck(Some(username)), &Giver::Broker, &Err("too many".to_owned())),
            "Command recheck for username \"u\\n\", by another broker: too many."
        );
        let forget = Command::Forget(Whom::Everybody);
        let user = Giver::User(None, "/s".to_owned());
        assert_eq!(
            line(&forget, &user, &Ok(Done::Forgotten)),
            "Command forget for everybody, by somebody over /s: done."
        );
    }

    #[test]
    fn a_command_means_whom_it_was_made_for_or_is_none() {
        let all = [Whom::username("u".to_owned()), Whom::client_id("c".to_owned()), Whom::Everybody];
        for (verb, are_meant) in [
            (Verb::Forget, [true; 3]),
            (Verb::Kick, [true, true, false]),
            (Verb::Recheck, [true, false, true]),
        ] {
            for (whom, is_meant) in all.iter().zip(are_meant) {
                let command = Command::new(verb, whom.clone());
                let found = command.map(|command| (command.verb(), command.whom()));
                assert_eq!(found, is_meant.then(|| (verb, whom.clone())), "{verb:?} {whom:?}");
            }
        }
    }
}
