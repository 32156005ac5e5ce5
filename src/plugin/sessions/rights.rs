//! Which sessions have the rights of a local user: those that were let in by its hash, as long as they last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{SessionStays, Sessions};
use crate::broker::Client;
use crate::local::PasswordHash;
use crate::question::Access;

/// How long after a connection has ended its will may be written, at most: the broker does both in one go.
pub(super) const WILL_WITHIN: Duration = Duration::from_millis(100);

/// Whether somebody has the rights of a local user.
enum LocalRights {
    Has,
    HasNot,
    /// If it is the session that sleeps, and nobody who got its number.
    IfAsleep,
}

impl Sessions {
    /// Whether this client's rights are those of the local user whose password has this hash.
    ///
    /// After a connection was closed the broker still asks for what arrives for it while its session sleeps
    /// (reads) and for its will (a write; in 2.0 and up to 2.1.2): before its loop comes round or, if the will
    /// is held back, while the session sleeps. Anything else with its number is somebody who got the number
    /// later, without a password that this plugin has seen. Mosquitto 2.0 does not tell when a session that sleeps
    /// ends, so there `has_socket` must say that nobody has the number now.
    pub fn has_local_rights(
        &self,
        client: Client<'_>,
        username: &str,
        hash: &Arc<PasswordHash>,
        access: Access,
        now: Instant,
        has_socket: impl FnOnce() -> Option<bool>,
    ) -> bool {
        match self.local_rights(client, username, hash, access, now) {
            LocalRights::Has => true,
            LocalRights::HasNot => false,
            LocalRights::IfAsleep => match has_socket() {
                Some(false) => true,
                Some(true) => {
                    self.opened(client, username);
                    false
                }
                // To lose what is queued for all that sleep would be worse than what somebody could read who comes
                // under the same id and name, from the same address, and happens to get the same number.
                None => access == Access::Read,
            },
        }
    }

    fn local_rights(
        &self,
        client: Client<'_>,
        username: &str,
        hash: &Arc<PasswordHash>,
        access: Access,
        now: Instant,
    ) -> LocalRights {
        if client.address.is_none() {
            return LocalRights::Has;
        }
        let key = self.key(client, username);
        let mut tables = self.tables.lock();
        let turn = tables.turn;
        let Some(session) = tables.get(key).filter(|session| session.is_by(hash)) else {
            return LocalRights::HasNot;
        };
        if session.current == Some(client.connection) {
            return LocalRights::Has;
        }
        let Some(ended) = session.ended.filter(|ended| ended.connection == client.connection) else {
            return LocalRights::HasNot;
        };
        let just_now = turn == ended.turn && now.saturating_duration_since(ended.at) < WILL_WITHIN;
        let may_sleep = match access {
            Access::Read => ended.stays != SessionStays::No,
            Access::Write if self.hears_of_connections => ended.stays == SessionStays::Yes,
            Access::Write => ended.stays != SessionStays::No,
            Access::Subscribe => false,
        };
        if ended.address == self.address(client) && access != Access::Subscribe {
            if just_now || (may_sleep && self.hears_of_connections) {
                return LocalRights::Has;
            }
            if may_sleep {
                return LocalRights::IfAsleep;
            }
        }
        let may_be_a_will = access == Access::Write && ended.stays != SessionStays::No;
        if !may_be_a_will {
            session.ended = None;
        }
        LocalRights::HasNot
    }
}
