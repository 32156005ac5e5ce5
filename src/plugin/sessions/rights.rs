//! Which sessions have the rights of a local user: those that were let in by its hash, as long as they last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Session, SessionStays, Sessions};
use crate::broker::Client;
use crate::local::PasswordHash;
use crate::question::Access;

/// How long after a connection has ended its will may be written, at most: the broker does both in one go.
pub(super) const WILL_WITHIN: Duration = Duration::from_millis(100);

/// Whether somebody is the client of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IsClient {
    Yes,
    No,
    /// If it is the session that sleeps since then, and nobody who got its number.
    IfAsleepSince(Instant),
}

impl Sessions {
    /// Whether this client's rights are those of the local user whose password has this hash.
    ///
    /// After a connection was closed the broker still asks for what arrives for it while its session sleeps
    /// (reads) and for its will (a write; in 2.0 and up to 2.1.2): before its loop comes round or, if the will
    /// is held back, while the session sleeps. Anything else with its number is somebody who got the number
    /// later, without a password that this plugin has seen. Mosquitto 2.0 does not tell when a session that sleeps
    /// ends, so there `has_socket_since` must say that nobody has had the number since.
    pub fn has_local_rights(
        &self,
        client: Client<'_>,
        username: &str,
        hash: &Arc<PasswordHash>,
        access: Access,
        now: Instant,
        has_socket_since: impl FnOnce(Instant) -> Option<bool>,
    ) -> bool {
        let is_client = self.local_rights(client, username, hash, access, now);
        self.confirm_client(is_client, client, username, access, has_socket_since)
    }

    /// Whether somebody is the client of the session, by what the tables say. `has_socket_since` tells whether anybody has had
    /// its number since it was closed: then it is noted that this connection has ended. Nothing may be locked.
    pub(super) fn confirm_client(
        &self,
        is_client: IsClient,
        client: Client<'_>,
        username: &str,
        access: Access,
        has_socket_since: impl FnOnce(Instant) -> Option<bool>,
    ) -> bool {
        match is_client {
            IsClient::Yes => true,
            IsClient::No => false,
            IsClient::IfAsleepSince(closed) => match has_socket_since(closed) {
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

    /// For how long a session has been without its client, not at all while that is connected, if whatever waits for it
    /// was allowed when it came. `None` if that is not so, or if nobody of this id and name was let in here.
    pub fn asleep(&self, client: Client<'_>, username: &str, now: Instant) -> Option<Duration> {
        let key = self.key(client, username);
        let tables = self.tables.lock();
        // To look here is no use of the session.
        let all = [&tables.connected, &tables.local_asleep, &tables.asleep];
        let known = all.into_iter().find_map(|table| table.peek(&key));
        let session = known.filter(|session| !session.has_unasked)?;
        let since = session.ended.filter(|_| session.current.is_none());
        Some(since.map_or(Duration::ZERO, |ended| now.saturating_duration_since(ended.at)))
    }

    /// Whether a connection is that of a session that was let in, and was closed.
    pub fn has_ended(&self, client: Client<'_>, username: &str) -> bool {
        let connection = client.connection;
        self.is(client, username, |session| {
            session.current != Some(connection) && session.ended.is_some_and(|it| it.connection == connection)
        })
    }

    /// Lets a message that nobody could be asked about wait for a client until that comes back, and notes that it is to be
    /// asked about then. `false` unless the session sleeps: one that was let in here and closed, or was restored from disk,
    /// and nobody has its number now.
    pub fn let_wait_unasked(
        &self,
        client: Client<'_>,
        username: &str,
        has_socket_since: impl FnOnce(Option<Instant>) -> Option<bool>,
    ) -> bool {
        let key = self.key(client, username);
        let closed = self.tables.lock().get(key).and_then(|session| {
            let ended = session.ended.filter(|_| session.current != Some(client.connection))?;
            (ended.connection == client.connection).then_some(ended.at)
        });
        let was_restored = client.address.is_none();
        if !(was_restored || closed.is_some()) || has_socket_since(closed) != Some(false) {
            return false;
        }
        if let Some(session) = self.tables.lock().get(key) {
            session.has_unasked = true;
        }
        true
    }

    fn local_rights(
        &self,
        client: Client<'_>,
        username: &str,
        hash: &Arc<PasswordHash>,
        access: Access,
        now: Instant,
    ) -> IsClient {
        if client.address.is_none() {
            return IsClient::Yes;
        }
        let key = self.key(client, username);
        let mut tables = self.tables.lock();
        let turn = tables.turn;
        match tables.get(key).filter(|session| session.is_by(hash)) {
            Some(session) => self.is_client(session, turn, client, access, now),
            None => IsClient::No,
        }
    }

    /// Whether a client that has an address is that of a session.
    pub(super) fn is_client(
        &self,
        session: &mut Session,
        turn: u64,
        client: Client<'_>,
        access: Access,
        now: Instant,
    ) -> IsClient {
        if session.current == Some(client.connection) {
            return IsClient::Yes;
        }
        let Some(ended) = session.ended.filter(|ended| ended.connection == client.connection) else {
            return IsClient::No;
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
                return IsClient::Yes;
            }
            if may_sleep {
                return IsClient::IfAsleepSince(ended.at);
            }
        }
        let may_be_a_will = access == Access::Write && ended.stays != SessionStays::No;
        if !may_be_a_will {
            session.ended = None;
        }
        IsClient::No
    }
}
