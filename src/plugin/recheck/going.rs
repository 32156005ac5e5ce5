//! Whoever has to go is disconnected: refused when the API was asked again, or at the end of its time.

use std::time::{Duration, Instant};

use super::Recheck;
use super::belief::Change;
use crate::broker::BrokerThread;
use crate::log::Level;
use crate::plugin::attempt::Attempt;
use crate::plugin::decision::{By, LoggedClient};
use crate::plugin::event::{Event, TopicCheck};
use crate::plugin::sessions::SessionName;
use crate::plugin::tasks::{AT_A_TICK, Task};
use crate::question::Grounds;

impl Recheck {
    /// Disconnects those whom the API refuses by now, as many as there is time for at a tick.
    pub fn revoke_all(&self, thread: &BrokerThread, now: Instant) {
        self.leaving.clear_notice();
        let mut left = self.take(|_| true, now);
        let gone = self.revoke_those(&left, thread, now, Some(AT_A_TICK));
        left.drain(..gone);
        if !left.is_empty() {
            self.leaving.add(left);
            if self.leaving.claim_notice() {
                self.tasks.push(Task::SomebodyLeaves);
            }
        }
    }

    /// Takes those who have to go by now and whom `chosen` chooses. Where the broker never ticks, only time tells whether
    /// everybody was asked about.
    fn take(&self, chosen: impl Fn(&SessionName) -> bool, now: Instant) -> Vec<(SessionName, Grounds)> {
        if self.belief.settle(now) == Change::Disbelieved {
            self.stop();
        }
        self.leaving.take(chosen)
    }

    /// Disconnects these, or as many as there is time for. Returns how many.
    fn revoke_those(
        &self,
        sessions: &[(SessionName, Grounds)],
        thread: &BrokerThread,
        now: Instant,
        time: Option<Duration>,
    ) -> usize {
        // Read once for all of them: what is closed meanwhile is known to be.
        let with_sockets = (!self.broker.is_2_1() && !sessions.is_empty())
            .then(|| self.broker.connections(thread))
            .flatten()
            .unwrap_or_default();
        let begun = Instant::now();
        for (index, (session, grounds)) in sessions.iter().enumerate() {
            if index > 0 && time.is_some_and(|time| begun.elapsed() >= time) {
                return index;
            }
            let has_socket = with_sockets.binary_search(&session.connection).is_ok();
            self.revoke(thread, session, *grounds, has_socket, now);
        }
        sessions.len()
    }

    /// Disconnects a client that the API refuses by now, unless it is gone already. `has_socket`: it is known to have one.
    fn revoke(
        &self,
        thread: &BrokerThread,
        session: &SessionName,
        grounds: Grounds,
        has_socket: bool,
        now: Instant,
    ) {
        let SessionName { connection, client_id, username, credentials, .. } = session;
        let client = session.client();
        let is_there = self.sessions.is_connected(client, username)
            && self.sessions.has_credentials(client, username, *credentials)
            && self.still_has_to_go(session, grounds, now)
            && (!self.broker.is_2_1() || self.broker.is_session(thread, client_id, *connection))
            // 2.0 finds one without a username by its id alone, and must not find one that sleeps.
            && (!username.is_empty() || self.broker.is_2_1() || has_socket);
        if is_there {
            let who = LoggedClient(client, Some(username));
            self.log.write(Level::Notice, revoked(&who, grounds));
            self.metrics.kicked(1);
            if has_socket {
                self.broker.kick_client_id(thread, client_id);
            } else {
                // On 2.0 others of its username go with it.
                self.broker.kick(thread, client_id, username);
            }
        }
    }

    /// Disconnects refused clients when another client connects, on a broker that never ticks (2.0.11 with
    /// `per_listener_settings true`). A login is the one event during which the broker walks through none of its lists,
    /// so that a client may be removed. The broker disconnects by username, so clients with the username that is just
    /// connecting stay for now.
    pub fn revoke_without_ticks(&self, attempt: &Attempt<'_>, event: &Event<'_>) {
        // A request to the broker's HTTP listener comes on a thread that can disconnect nobody.
        let Some(thread) = event.broker_thread() else { return };
        if self.belief.any() && self.ticks.is_tickless(event.now) {
            let others = self.take(|session| session.username != attempt.username, event.now);
            self.revoke_those(&others, thread, event.now, None);
        }
    }

    /// Whether the reason for which a session has to go is still one: its time may have been made longer.
    fn still_has_to_go(&self, session: &SessionName, grounds: Grounds, now: Instant) -> bool {
        grounds != Grounds::Expired || self.sessions.is_over(session.client(), &session.username, now)
    }

    /// Why a client that publishes has to leave, if it has to and is still there because no tick has come. Costs two loads
    /// where nobody has to.
    pub fn take_overdue(&self, check: &TopicCheck<'_>, now: Instant) -> Option<By> {
        if !self.belief.any() || !self.ticks.is_tickless(now) {
            return None;
        }
        let is_meant = |session: &SessionName| {
            session.connection == check.client.connection
                && session.client_id == check.client.id
                && self.sessions.has_credentials(check.client, &session.username, session.credentials)
        };
        let mut left = self.take(is_meant, now);
        left.retain(|(session, grounds)| self.still_has_to_go(session, *grounds, now));
        for (session, grounds) in &left {
            let who = LoggedClient(check.client, Some(&session.username));
            self.log.write(Level::Notice, revoked(&who, *grounds));
        }
        let (_, grounds) = left.first()?;
        self.metrics.kicked(1);
        Some(if *grounds == Grounds::Expired { By::Expired } else { By::Recheck })
    }
}

fn revoked(who: &LoggedClient<'_>, grounds: Grounds) -> String {
    match grounds {
        Grounds::Expired => format!("Disconnecting {who}: its time is over (expire_at in the API's answer)."),
        _ => format!("Disconnecting {who}: the API answered {grounds} when asked again."),
    }
}
