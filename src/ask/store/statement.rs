//! What an entry of the journal says, and the bytes that say it.

use crate::command::{Command, Named, Verb, Whom};

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A new journal has begun, since the one from before is not complete any more.
    Begin,
    /// A command was given, which all brokers carry out.
    Told(Command),
    /// Something that this version does not know, by its two numbers. It is passed over.
    Unknown(u8, u8),
}

/// In place of a verb's number.
const BEGIN: u8 = 0;

/// What kind of name follows.
const USERNAME: u8 = 1;
const CLIENT_ID: u8 = 2;
const EVERYBODY: u8 = 3;

impl Statement {
    /// Appends its bytes: two numbers, the length of the name, and the name. `None` if that is too long.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> Option<()> {
        let (numbers, name) = match self {
            Statement::Begin => ([BEGIN, 0], String::new()),
            Statement::Told(command) => {
                let (kind, name) = match command.whom() {
                    Whom::Named(Named::Username(name)) => (USERNAME, name),
                    Whom::Named(Named::ClientId(name)) => (CLIENT_ID, name),
                    Whom::Everybody => (EVERYBODY, String::new()),
                };
                ([command.verb() as u8, kind], name)
            }
            Statement::Unknown(first, second) => ([*first, *second], String::new()),
        };
        bytes.extend_from_slice(&numbers);
        bytes.extend_from_slice(&u32::try_from(name.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
        Some(())
    }

    /// Reads what [`write`](Self::write) has written.
    pub(super) fn read(mut bytes: Numbers<'_>) -> Option<Self> {
        let [first, second] = bytes.take()?;
        let length = u32::from_be_bytes(bytes.take()?) as usize;
        let name = || str::from_utf8(bytes.0.get(..length)?).ok().map(str::to_owned);
        if first == BEGIN {
            return Some(Statement::Begin);
        }
        let whom = match second {
            USERNAME => Whom::username(name()?),
            CLIENT_ID => Whom::client_id(name()?),
            EVERYBODY => Whom::Everybody,
            _ => return Some(Statement::Unknown(first, second)),
        };
        let verb = Verb::ALL.into_iter().find(|verb| *verb as u8 == first);
        let command = verb.and_then(|verb| Command::new(verb, whom));
        Some(command.map_or(Statement::Unknown(first, second), Statement::Told))
    }
}

/// Bytes that are taken from the front.
pub(super) struct Numbers<'a>(pub(super) &'a [u8]);

impl Numbers<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: [u8; 2], name: &str) -> Vec<u8> {
        [&numbers[..], &(name.len() as u32).to_be_bytes(), name.as_bytes()].concat()
    }

    #[test]
    fn what_no_command_is_stays_unknown() {
        let read = |numbers, name| Statement::read(Numbers(&bytes(numbers, name)));
        for says in [
            Statement::Told(Command::Forget(Whom::client_id("c".to_owned()))),
            Statement::Told(Command::Kick(Named::ClientId("c".to_owned()))),
            Statement::Told(Command::Recheck(Some("u".to_owned()))),
            Statement::Told(Command::Recheck(None)),
        ] {
            let mut written = Vec::new();
            says.write(&mut written).unwrap();
            assert_eq!(Statement::read(Numbers(&written)), Some(says));
        }
        for (verb, kind) in [(Verb::Recheck, CLIENT_ID), (Verb::Kick, EVERYBODY), (Verb::Forget, 4)] {
            let numbers = [verb as u8, kind];
            assert_eq!(read(numbers, "c"), Some(Statement::Unknown(numbers[0], numbers[1])), "{numbers:?}");
        }
        assert_eq!(read([9, USERNAME], "c"), Some(Statement::Unknown(9, USERNAME)));
    }
}
