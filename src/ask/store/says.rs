//! What an entry of the journal says, and the bytes that say it.

use super::seal::Numbers;
use crate::command::{Command, Verb, Whom};

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
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

impl Says {
    /// Appends its bytes: two numbers, the length of the name, and the name. `None` if that is too long.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> Option<()> {
        let (numbers, name) = match self {
            Says::Begin => ([BEGIN, 0], ""),
            Says::Told(Command { verb, whom }) => {
                let (kind, name) = match whom {
                    Whom::Username(name) => (USERNAME, &**name),
                    Whom::ClientId(name) => (CLIENT_ID, &**name),
                    Whom::Everybody => (EVERYBODY, ""),
                };
                ([*verb as u8, kind], name)
            }
            Says::Unknown(first, second) => ([*first, *second], ""),
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
            return Some(Says::Begin);
        }
        let whom = match second {
            USERNAME => Whom::Username(name()?),
            CLIENT_ID => Whom::ClientId(name()?),
            EVERYBODY => Whom::Everybody,
            _ => return Some(Says::Unknown(first, second)),
        };
        let verb = Verb::ALL.into_iter().find(|verb| *verb as u8 == first);
        Some(verb.map_or(Says::Unknown(first, second), |verb| Says::Told(Command { verb, whom })))
    }
}
