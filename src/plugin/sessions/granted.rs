//! What sessions may do by what came with the API's answers (`answer_rules`): rules about topics, or everything, and until
//! when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::rights::IsClient;
use super::{LetInBy, Session, Sessions, Tables};
use crate::broker::{Client, Connection};
use crate::cache::{Forgotten, LONGEST_QUESTION};
use crate::fingerprint::{About, Fingerprint, Whose};
use crate::topic::{Grants, Wanted};

/// Answers about topics whose rules widen a session at a time. The oldest goes first, which costs no more than a question.
const WIDER: usize = 8;

/// What a session was granted.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Whose session it is, to be forgotten by.
    about: About,
    /// When the API said so.
    since: Instant,
    is_superuser: bool,
    /// The rules that came with the login.
    grants: Option<Arc<Grants>>,
    /// When the session ends.
    expires: Option<Instant>,
    /// The rules that came with answers about topics, the latest last.
    wider: Vec<Wider>,
    /// All of it was forgotten.
    is_forgotten: bool,
}

/// Rules that came with the answer about a topic. They hold as long as its verdict, and as long as the API is the same.
#[derive(Debug, Clone)]
struct Wider {
    grants: Arc<Grants>,
    until: Instant,
    is_good: Arc<AtomicBool>,
}

impl Wider {
    fn holds(&self, now: Instant) -> bool {
        now < self.until && self.is_good.load(Ordering::Relaxed)
    }
}

/// What the connection has that a session had before. Its will may still be written.
#[derive(Debug, Clone)]
pub(super) enum Before {
    /// It was let in with the same credentials, by the same answer: the same as the session has now.
    Same,
    /// What came with another answer.
    Other(Option<Box<Granted>>),
}

impl Before {
    /// What a session was granted before, which is now let in with these credentials, and by this.
    pub(super) fn of(before: Option<&Session>, credentials: Fingerprint, by: &LetInBy) -> Self {
        match before {
            Some(session) if !session.was_let_in(credentials, by) => Self::Other(session.granted.clone()),
            _ => Self::Same,
        }
    }
}

/// What a session's rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulesSay {
    /// It may do everything.
    Superuser,
    /// A rule allows it, or denies it.
    Rule(bool),
    /// No rule is about it.
    Nothing,
    /// Its time is over.
    Expired,
}

impl Granted {
    /// What came with an answer about a login.
    pub fn new(
        about: About,
        since: Instant,
        is_superuser: bool,
        grants: Option<Arc<Grants>>,
        expires: Option<Instant>,
    ) -> Self {
        Self { about, since, is_superuser, grants, expires, wider: Vec::new(), is_forgotten: false }
    }

    /// What is left where there is no room for the rules of an answer: when the session ends.
    pub fn end_alone(about: About, since: Instant, expires: Option<Instant>) -> Self {
        Self { is_forgotten: true, ..Self::new(about, since, false, None, expires) }
    }

    /// When the session ends.
    pub fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// What the rules say: those of the login first, then those that came with answers about topics, the latest first.
    pub fn says(&self, wanted: &Wanted<'_>, now: Instant) -> RulesSay {
        if self.expires.is_some_and(|expires| expires <= now) {
            return RulesSay::Expired;
        }
        if self.is_superuser {
            return RulesSay::Superuser;
        }
        let by_login = self.grants.iter();
        let by_topics = self.wider.iter().rev().filter(|wider| wider.holds(now)).map(|wider| &wider.grants);
        let decided = by_login.chain(by_topics).find_map(|grants| grants.decide(wanted));
        decided.map_or(RulesSay::Nothing, RulesSay::Rule)
    }

    fn widen(&mut self, with: Wider, now: Instant) {
        self.wider.retain(|wider| wider.holds(now) && !Arc::ptr_eq(&wider.grants, &with.grants));
        if self.wider.len() >= WIDER {
            self.wider.remove(0);
        }
        self.wider.push(with);
    }

    /// Gives up all that came with answers but the end.
    fn forget(&mut self) {
        (self.is_forgotten, self.is_superuser, self.grants) = (true, false, None);
        self.wider.clear();
    }
}

impl Session {
    /// What its rules say; `None` if it was not let in by the API, or if that was forgotten.
    fn says(
        &self,
        connection: Option<Connection>,
        wanted: &Wanted<'_>,
        forgotten: &Forgotten,
        now: Instant,
    ) -> Option<RulesSay> {
        let granted = self.granted_to(connection)?;
        let is_forgotten = granted.is_forgotten
            || !forgotten.is_empty() && forgotten.latest(granted.about).is_some_and(|at| granted.since <= at);
        (matches!(self.by, LetInBy::Api(_)) && !is_forgotten).then(|| granted.says(wanted, now))
    }

    /// Whether it is connected on a connection of this number, from this address: the number may be another one's by now.
    fn is_that_of(&self, connection: Connection, address: Fingerprint) -> bool {
        self.current == Some(connection) && self.address == address
    }

    /// What a connection was granted: the last one, or the one before it.
    fn granted_to(&self, connection: Option<Connection>) -> Option<&Granted> {
        let has_left = || connection.is_some() && self.ended.map(|ended| ended.connection) == connection;
        match &self.before {
            Before::Other(granted) if self.current.is_some() && has_left() => granted.as_deref(),
            _ => self.granted.as_deref(),
        }
    }
}

impl Sessions {
    /// Keeps what came with the answer that has let a client in, or with a later one about it. Only for the connection that
    /// was let in with these credentials.
    pub fn grant(
        &self,
        client: Client<'_>,
        username: &str,
        credentials: Fingerprint,
        mut granted: Box<Granted>,
    ) -> bool {
        let mut tables = self.tables.lock();
        // Answers that are older may be about somebody who was forgotten since.
        if tables.forgotten_until.is_some_and(|until| granted.since <= until) {
            *granted = Granted::end_alone(granted.about, granted.since, granted.expires);
        }
        let session = self.connected_as(&mut tables, client, username, credentials);
        let is_there = session.is_some();
        let before = session.and_then(|session| session.granted.replace(granted));
        drop(tables);
        drop(before);
        is_there
    }

    /// Takes from a session what it was granted, but not its end: the API has answered about it, and there is no room to keep
    /// what it said. Its topics are asked about from now on, or left to the broker. Returns whether it had anything.
    pub fn take_back(&self, client: Client<'_>, username: &str, credentials: Fingerprint) -> bool {
        let mut tables = self.tables.lock();
        let session = self.connected_as(&mut tables, client, username, credentials);
        let granted = session.and_then(|session| session.granted.as_deref_mut());
        let Some(granted) = granted.filter(|granted| !granted.is_forgotten) else { return false };
        let end = Granted::end_alone(granted.about, granted.since, granted.expires);
        let before = std::mem::replace(granted, end);
        drop(tables);
        drop(before);
        true
    }

    /// The session of a client that is still the one that was let in with these credentials.
    fn connected_as<'t>(
        &self,
        tables: &'t mut Tables,
        client: Client<'_>,
        username: &str,
        credentials: Fingerprint,
    ) -> Option<&'t mut Session> {
        let address = self.address(client);
        tables.get(self.key(client, username)).filter(|session| {
            session.is_that_of(client.connection, address) && session.credentials == credentials
        })
    }

    /// Adds rules that came with an answer about a topic, until that is no longer remembered.
    pub fn widen(
        &self,
        client: Client<'_>,
        username: &str,
        grants: Arc<Grants>,
        until: Instant,
        now: Instant,
    ) {
        let key = self.key(client, username);
        let mut tables = self.tables.lock();
        let is_it = |session: &&mut Session| session.current == Some(client.connection);
        let is_good = Arc::clone(&tables.api_is_the_same);
        if let Some(granted) = tables.get(key).filter(is_it).and_then(|session| session.granted.as_mut()) {
            granted.widen(Wider { grants, until, is_good }, now);
        }
    }

    /// Another API is asked from now on: what came with answers about topics holds no more.
    pub fn unwiden(&self) {
        let before = std::mem::replace(&mut self.tables.lock().api_is_the_same, Arc::new(true.into()));
        before.store(false, Ordering::Relaxed);
    }

    /// What the rules of a client say: `None` where nothing is known of it, or where it cannot be told from somebody who
    /// came later under its number (as with the rights of local users).
    pub fn says(
        &self,
        client: Client<'_>,
        username: &str,
        wanted: &Wanted<'_>,
        now: Instant,
        has_socket_since: impl FnOnce(Instant) -> Option<bool>,
    ) -> Option<RulesSay> {
        let key = self.key(client, username);
        let mut tables = self.tables.lock();
        let turn = tables.turn;
        let (session, forgotten) = tables.get_beside_forgotten(key)?;
        let says = session.says(Some(client.connection), wanted, forgotten, now)?;
        let is_client = match client.address {
            // A message that is kept, or a session that sleeps: nobody else has come under its number.
            None => IsClient::Yes,
            Some(_) => self.is_client(session, turn, client, wanted.access, now),
        };
        drop(tables);
        self.confirm_client(is_client, client, username, wanted.access, has_socket_since).then_some(says)
    }

    /// Whether the time of a client's session is over.
    pub fn is_over(&self, client: Client<'_>, username: &str, now: Instant) -> bool {
        let expires = |session: &Session| session.granted.as_ref().and_then(|granted| granted.expires);
        self.is(client, username, |session| expires(session).is_some_and(|expires| expires <= now))
    }

    /// What the rules of a session would say, whoever asks. Changes nothing.
    pub fn would_say(
        &self,
        client_id: &str,
        username: &str,
        wanted: &Wanted<'_>,
        now: Instant,
    ) -> Option<RulesSay> {
        let key = self.key_of(client_id, username);
        let tables = self.tables.lock();
        let session = tables.connected.peek(&key).or_else(|| tables.asleep.peek(&key))?;
        session.says(None, wanted, &tables.forgotten, now)
    }

    /// Forgets what came with the API's answers for somebody, in constant time, but for once in some ten thousand times.
    pub fn forget(&self, whose: Whose, now: Instant) {
        let tables = &mut *self.tables.lock();
        // Sessions last for any time, and names are kept for some.
        if tables.forgotten.is_full() {
            tables.forget_for_good();
            tables.forgotten_until = tables.forgotten.drop_older_half();
        }
        let _ = tables.forgotten.note(whose, now, LONGEST_QUESTION);
    }
}

impl Tables {
    /// Takes from all sessions what was forgotten, so that the names need not be kept for them.
    fn forget_for_good(&mut self) {
        let Self { connected, asleep, forgotten, .. } = self;
        for (_, session) in connected.iter_mut().chain(asleep.iter_mut()) {
            let Session { granted, before, .. } = session;
            let before = match before {
                Before::Other(Some(granted)) => Some(granted),
                _ => None,
            };
            for granted in granted.iter_mut().chain(before) {
                if forgotten.latest(granted.about).is_some_and(|at| granted.since <= at) {
                    granted.forget();
                }
            }
        }
    }
}
