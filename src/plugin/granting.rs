//! What came with the API's answers (`answer_rules`), from the answer to the session: when a client is let in, when the API
//! was asked about it again, when an answer about a topic has rules with it, and when the session's time is over.

use std::sync::Arc;
use std::time::Instant;

use super::api::Inquiry;
use super::decision::{By, Decision, LoggedClient};
use super::expiry::Expiry;
use super::sessions::{Granted, SessionName, Sessions};
use crate::ask::{Asker, Waiter};
use crate::broker::{Client, Connection};
use crate::fingerprint::{About, Fingerprint, Fingerprinter};
use crate::log::Log;
use crate::question::{Answer, NoAnswer, Verdict};
use crate::topic::{Terms, TopicRules, Unusable};

/// Hands out what came with answers.
pub struct Granting {
    /// Remembers answers, and has the pool of their rules.
    asker: Arc<Asker>,
    /// Who was let in, and by what.
    sessions: Arc<Sessions>,
    /// Makes fingerprints.
    keys: Fingerprinter,
    /// Ends sessions when their time is over.
    expiry: Arc<Expiry>,
    /// The log.
    log: Arc<Log>,
}

impl Granting {
    /// Has granted nothing yet.
    pub fn new(
        asker: Arc<Asker>,
        sessions: Arc<Sessions>,
        keys: Fingerprinter,
        expiry: Arc<Expiry>,
        log: Arc<Log>,
    ) -> Self {
        Self { asker, sessions, keys, expiry, log }
    }

    /// A connection has ended, and with it what it was granted for a time.
    pub fn ended(&self, connection: Connection) {
        self.expiry.remove(connection);
    }

    /// What a client is granted that is let in with these terms, which were good at `since`: whoever is forgotten later has
    /// them no more.
    ///
    /// # Errors
    /// Why it cannot be let in with them.
    pub fn granted(
        &self,
        username: &str,
        client_id: &str,
        terms: Option<&Terms>,
        since: Instant,
    ) -> Result<Box<Granted>, By> {
        let nothing = Terms::default();
        let terms = terms.unwrap_or(&nothing);
        if terms.expires.is_some_and(|expires| expires <= Instant::now()) {
            return Err(By::Expired);
        }
        let grants = terms.grants(username, client_id, self.asker.pool()).map_err(|why| match why {
            Unusable::NoRoom => By::NoAnswer(NoAnswer::NoRoomForRules),
            Unusable::Bad(_) => By::BadRules,
        })?;
        let about = self.about(username, client_id);
        Ok(Box::new(Granted::new(about, since, terms.is_superuser, grants, terms.expires)))
    }

    fn about(&self, username: &str, client_id: &str) -> About {
        About { username: self.keys.username(username), client_id: self.keys.client_id(client_id) }
    }

    /// Gives a session what it was granted, if its client is still the one that was let in with these credentials, and sees
    /// to its end. `name` is asked only if there is one.
    pub fn give(
        &self,
        client: Client<'_>,
        username: &str,
        credentials: Fingerprint,
        granted: Box<Granted>,
        name: impl FnOnce() -> SessionName,
    ) {
        let expires = granted.expires();
        if !self.sessions.grant(client, username, credentials, granted) {
            return;
        }
        match expires {
            Some(at) => self.expiry.set(name(), at, &self.asker),
            None => self.expiry.remove(client.connection),
        }
    }

    /// The API was asked again about a session that was let in here. If it has allowed that, what it says now counts, also
    /// where there is no room to keep it: what it said before does not.
    pub fn renew(&self, session: &SessionName, answer: &Answer, now: Instant) {
        let SessionName { client_id, username, credentials, .. } = session;
        let terms = match answer {
            Answer::Verdict { verdict: Verdict::Allow, terms, .. } => terms,
            Answer::None(NoAnswer::NoRoomForRules) => return self.take_back(session, now),
            _ => return,
        };
        let since = terms.as_ref().and_then(|terms| terms.asked).unwrap_or(now);
        let granted = match self.granted(username, client_id, terms.as_deref(), since) {
            Ok(granted) => granted,
            Err(By::NoAnswer(_)) => {
                self.take_back(session, now);
                let expires = terms.as_ref().and_then(|terms| terms.expires);
                Box::new(Granted::end_alone(self.about(username, client_id), now, expires))
            }
            // What cannot be used ends it.
            Err(_) => Box::new(Granted::new(self.about(username, client_id), now, false, None, Some(now))),
        };
        self.give(session.client(), username, *credentials, granted, || session.clone());
    }

    /// Takes what a session was granted, since there is no room for what it should be granted now.
    fn take_back(&self, session: &SessionName, now: Instant) {
        if !self.sessions.take_back(session.client(), &session.username, session.credentials) {
            return;
        }
        let by = By::NoAnswer(NoAnswer::NoRoomForRules);
        self.log.refusal(now, &by.as_refusal(session.client()), || {
            let who = LoggedClient(session.client(), Some(&session.username));
            format!(
                "Took back what the API had granted to {who}: {by}. Its topics are decided without rules until the API is asked \
                 about it once more."
            )
        });
    }

    /// Hears of the answer about a session that is asked about again in the background.
    pub fn renewer(self: &Arc<Self>, session: SessionName) -> Waiter {
        let granting = Arc::clone(self);
        Waiter::however_late(move |answer| granting.renew(&session, answer, Instant::now()))
    }

    /// Widens a session by the rules that came with the answer about one of its topics, for as long as that is remembered.
    pub fn widen(&self, inquiry: &Inquiry<'_>, decision: &Decision, now: Instant) {
        let Inquiry { key, question, client, .. } = *inquiry;
        let Some(TopicRules::Ready(grants)) = decision.terms.as_ref().and_then(|terms| terms.rules.as_ref())
        else {
            return;
        };
        if let Some(allow) = self.asker.allow(key, now) {
            self.sessions.widen(client, question.username(), Arc::clone(grants), allow.ends, now);
        }
    }
}
