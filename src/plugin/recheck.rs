//! SIGHUP: the broker asks about every session once more, one after the other in front of its loop, and
//! throws out whoever is not answered with success. So everybody stays who was let in before; the API is
//! asked beside the loop, and who is refused by then is disconnected.
use std::time::Instant;

use super::login::Attempt;
use super::sessions::SessionName;
use super::{Plugin, Refusal, Ruling, TopicCheck, Who};
use crate::ask::Listener;
use crate::ask::worker::Class;
use crate::broker::Client;
use crate::log::Level;
use crate::question::Question;

impl Plugin {
    /// Whether this login is the broker checking a session that exists. What tells is the session, never
    /// the time: strangers may connect in the middle of a sweep.
    pub(super) fn is_swept(&self, attempt: &Attempt<'_>, now: Instant) -> bool {
        let Attempt { client, username, password, credentials, .. } = *attempt;
        if !self.host.is_broker_thread() {
            return false;
        }
        if self.host.is_2_1() {
            return self.host.is_session(client.id, client.connection);
        }
        // 2.0 has an address for every client that ever connected to it, so what has none was restored; its
        // password was not.
        let was_restored = client.address.is_none() && password.is_none() && self.sessions.is_sweeping();
        was_restored || self.sessions.is_swept(client, username, credentials, now)
    }

    /// The answer to a sweep.
    pub(super) fn recheck(&self, attempt: &Attempt<'_>, now: Instant) -> Ruling {
        let Attempt { client, username, password, credentials, .. } = *attempt;
        // Who sleeps is left alone until it comes back: it can be asked about then. (2.0 reads freed memory
        // later if a sleeping session is refused here.)
        if !self.sessions.is_connected(client, username) {
            let is_ours = client.address.is_none() || self.sessions.is_known(client, username);
            return if is_ours { Ruling::Allow } else { Ruling::Defer };
        }
        let loaded = self.loaded();
        if let Some(hash) = loaded.users.get(username) {
            let unchanged = !loaded.changed.contains(username)
                && self.sessions.has_credentials(client, username, credentials);
            if unchanged || password.is_some_and(|password| hash.verify(password)) {
                return Ruling::Allow;
            }
            return self.refuse_login(client, Some(username), &Refusal::WrongLocalPassword, now);
        }
        if loaded.config.auth_urls.is_empty() {
            return Ruling::Defer;
        }
        self.ask_again(attempt);
        Ruling::Allow
    }

    /// Asks about a connected client in the background.
    fn ask_again(&self, attempt: &Attempt<'_>) {
        let Ok(password) = std::str::from_utf8(attempt.password.unwrap_or_default()) else { return };
        let question = Question::Connect { username: attempt.username, password };
        let key = attempt.credentials;
        let Ok(worker) = self.worker() else { return };
        // 2.1 without websockets comes round by itself once a day. Without a bell it is rung for once.
        if self.delays {
            let _ = self.errands.hang_up_bell();
        }
        let session = SessionName {
            connection: attempt.client.connection,
            client_id: attempt.client.id.to_owned(),
            username: attempt.username.to_owned(),
            credentials: attempt.credentials,
        };
        self.verdicts.ask(key, &question, Class::Background, Listener::Rechecked(session), worker);
    }

    /// Disconnects a client that the API refuses by now, unless it is gone already.
    pub(super) fn revoke(&self, session: &SessionName, status: u16) {
        let SessionName { connection, client_id, username, credentials } = session;
        let client = Client { connection: *connection, id: client_id, address: None };
        let is_there = self.sessions.is_connected(client, username)
            && self.sessions.has_credentials(client, username, *credentials)
            && (!self.host.is_2_1() || self.host.is_session(client_id, *connection));
        if is_there {
            let who = Who(client, Some(username));
            self.log.write(
                Level::Notice,
                format!("Disconnecting {who}: the API answered {status} when asked again."),
            );
            self.host.kick(client_id, username);
        }
    }

    /// Mosquitto 2.0.11 with `per_listener_settings true` never ticks. There, whoever was revoked goes when
    /// somebody else connects: the one event in which the broker walks through none of its lists, so that
    /// it can stand to lose a client.
    pub(super) fn revoke_without_ticks(&self, attempt: &Attempt<'_>, now: Instant) {
        // A request to the broker's HTTP listener comes on a thread that can disconnect nobody.
        if self.errands.any() && self.host.is_broker_thread() && self.patience().is_tickless(now) {
            for (session, status) in self.errands.take_revoked(|session| session.username != attempt.username)
            {
                self.revoke(&session, status);
            }
        }
    }

    /// And whoever publishes before that happens goes by that.
    pub(super) fn is_overdue_to_leave(&self, check: &TopicCheck<'_>, now: Instant) -> bool {
        let is_meant = |session: &SessionName| {
            session.connection == check.client.connection
                && session.client_id == check.client.id
                && self.sessions.has_credentials(check.client, &session.username, session.credentials)
        };
        self.patience().is_tickless(now) && !self.errands.take_revoked(is_meant).is_empty()
    }
}
