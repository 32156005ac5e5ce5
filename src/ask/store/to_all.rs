//! Commands that all brokers carry out, as they are given and as the journal has them.

use super::seal::Says;
use crate::question::Whom;

/// A command that all brokers carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToAll {
    /// Forget what was said of somebody.
    Forget(Whom),
    /// Disconnect somebody.
    Kick(Whom),
    /// Ask the API again about somebody.
    Recheck(Whom),
}

impl ToAll {
    /// As the journal has it.
    pub(super) fn says(self) -> Says {
        let (command, whom) = match self {
            ToAll::Forget(whom) => (1, whom),
            ToAll::Kick(whom) => (2, whom),
            ToAll::Recheck(whom) => (3, whom),
        };
        let (tag, name) = match whom {
            Whom::Username(name) => (1, name),
            Whom::ClientId(name) => (2, name),
            Whom::Everybody => (3, String::new()),
        };
        Says::Told(command, tag, name)
    }

    /// What an entry of the journal has all brokers do, if it has.
    pub(super) fn of(says: &Says) -> Option<Self> {
        let Says::Told(command, tag, name) = says else { return None };
        let whom = match tag {
            1 => Whom::Username(name.clone()),
            2 => Whom::ClientId(name.clone()),
            3 => Whom::Everybody,
            _ => return None,
        };
        match command {
            1 => Some(ToAll::Forget(whom)),
            2 => Some(ToAll::Kick(whom)),
            3 => Some(ToAll::Recheck(whom)),
            _ => None,
        }
    }
}
