//! Which sessions this plugin let in, and how: the broker gives a username to the plugin that a certificate or
//! another plugin may have given to the client, and asks about clients that are gone.

mod deferred;
mod granted;
mod known;
mod name;
mod named;
mod rights;
mod steered;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use lru::LruCache;

use crate::broker::{Client, Connection};
use crate::cache::Forgotten;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint, Fingerprinter};
use crate::local::PasswordHash;
use crate::util::{Lock, bounded};
use deferred::Deferred;
use granted::Before;
pub use granted::{Granted, RulesSay};
pub use name::SessionName;
use named::Named;
use steered::Connected;

/// Sessions that are remembered in each table; the ones that have not been used for longest go first. No more are ever
/// connected: a process has about a million descriptors at most.
const BOUND: NonZeroUsize = NonZeroUsize::new(1_000_000).unwrap();

/// Sessions that ended for good and are remembered until the turn is over, where no turn ever ends.
const GONE: usize = 1_000;

/// Whether a session is kept when its client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStays {
    /// It sleeps until the client comes again, or its time is over.
    Yes,
    /// It is gone.
    No,
    /// Mosquitto 2.0 does not tell.
    Unknown,
}

/// What a session was let in by. Its rights go by this record, never by what a name means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetInBy {
    /// The API said so, when it was asked this: the same username and password may have other rights elsewhere (`auth_fields`).
    Api(Fingerprint),
    /// Its password fits this hash of a local user.
    Local(Arc<PasswordHash>),
}

/// What is known of a session.
#[derive(Clone)]
pub struct Session {
    /// The username and password it was let in with.
    credentials: Fingerprint,
    by: LetInBy,
    address: Fingerprint,
    /// The connection that was let in last.
    current: Option<Connection>,
    /// The one before it, or the same after it was closed.
    ended: Option<Ended>,
    /// The round of rechecks in which it was last recognised.
    last_round: Option<u32>,
    /// Whether messages wait for it that the API could not be asked about.
    has_unasked: bool,
    /// What came with the API's answers (`answer_rules`).
    granted: Option<Box<Granted>>,
    /// What came with those about the connection before it.
    before: Before,
}

/// A connection that was closed. Its will may still be written, and what it subscribed to may still be queued.
///
/// Its number may have been given to somebody else since. So it has no rights but those that a closed connection can
/// use, only for its own address, and on Mosquitto 2.1, which tells of each new connection, only until that.
#[derive(Clone, Copy)]
struct Ended {
    connection: Connection,
    address: Fingerprint,
    /// The turn in which it was closed.
    turn: u64,
    at: Instant,
    stays: SessionStays,
}

/// Sessions by client id and username.
pub struct Sessions {
    keys: Fingerprinter,
    /// Whether the broker tells of each new connection (`MOSQ_EVT_CONNECT`).
    hears_of_connections: bool,
    tables: Lock<Tables>,
}

type Table = LruCache<Fingerprint, Session, AlreadyHashed>;

/// Sessions that sleep have tables of their own, since a client can make any number of them: they push out neither
/// those that are connected nor those of local users.
struct Tables {
    connected: Table,
    asleep: Table,
    local_asleep: Table,
    named: Named,
    deferred: Deferred,
    /// Sessions that ended in this turn of the broker's loop for good.
    gone: HashSet<Fingerprint, AlreadyHashed>,
    /// When it was looked through without a turn.
    gone_looked_through: Option<Instant>,
    /// Whose grants were forgotten.
    forgotten: Forgotten,
    /// Until when whoever was forgotten is not kept by name any more.
    forgotten_until: Option<Instant>,
    /// Becomes false when another API is asked.
    api_is_the_same: Arc<AtomicBool>,
    /// Counts the turns of the broker's loop.
    turn: u64,
    /// Sessions that are connected, by client id alone, where commands name them by it.
    by_client_id: Option<HashMap<Fingerprint, Connected, AlreadyHashed>>,
}

impl Tables {
    fn get(&mut self, key: Fingerprint) -> Option<&mut Session> {
        self.get_beside_forgotten(key).map(|(session, _)| session)
    }

    fn get_beside_forgotten(&mut self, key: Fingerprint) -> Option<(&mut Session, &Forgotten)> {
        let Self { connected, asleep, local_asleep, forgotten, .. } = self;
        let all = [connected, local_asleep, asleep];
        let table = all.into_iter().find(|table| table.contains(&key))?;
        table.get_mut(&key).map(|session| (session, &*forgotten))
    }

    fn take(&mut self, key: Fingerprint) -> Option<Session> {
        let Self { connected, asleep, local_asleep, .. } = self;
        connected.pop(&key).or_else(|| local_asleep.pop(&key)).or_else(|| asleep.pop(&key))
    }

    /// Forgets those that ended for good, as far as `is_over` says so of the connection that ended.
    fn forget_gone(&mut self, is_over: impl Fn(&Ended) -> bool) {
        for key in std::mem::take(&mut self.gone) {
            match self.get(key).filter(|session| session.current.is_none()).and_then(|session| session.ended)
            {
                Some(ended) if ended.stays != SessionStays::No => {}
                Some(ended) if !is_over(&ended) => drop(self.gone.insert(key)),
                Some(_) => drop(self.take(key)),
                None => {}
            }
        }
    }

    fn put(&mut self, key: Fingerprint, session: Session) {
        let table = match (session.current, &session.by) {
            (Some(_), _) => &mut self.connected,
            (None, LetInBy::Local(_)) => &mut self.local_asleep,
            (None, LetInBy::Api(_)) => &mut self.asleep,
        };
        table.put(key, session);
    }
}

impl Sessions {
    /// No session yet.
    pub fn new(keys: Fingerprinter, hears_of_connections: bool) -> Self {
        let tables = Tables {
            connected: bounded(BOUND),
            asleep: bounded(BOUND),
            local_asleep: bounded(BOUND),
            named: Named::new(),
            deferred: Deferred::new(),
            gone: HashSet::default(),
            gone_looked_through: None,
            forgotten: Forgotten::default(),
            forgotten_until: None,
            api_is_the_same: Arc::new(true.into()),
            turn: 0,
            by_client_id: None,
        };
        Self { keys, hears_of_connections, tables: Lock::new(tables) }
    }

    /// Notes that this plugin has let a client in, and by what. `level`: that of the protocol that it speaks, if
    /// its names are to be kept. Returns what was known of the session before.
    pub fn admit(
        &self,
        client: Client<'_>,
        username: &str,
        credentials: Fingerprint,
        by: LetInBy,
        level: Option<u8>,
        now: Instant,
    ) -> Option<Session> {
        let key = self.key(client, username);
        let mut tables = self.tables.lock();
        tables.named.put(client, username, credentials, level);
        tables.deferred.remove(client.connection);
        tables.note_client_id(&self.keys, client, username);
        if let Some(session) = tables.connected.get_mut(&key)
            && session.current == Some(client.connection)
        {
            let before = session.clone();
            (session.credentials, session.by, session.granted) = (credentials, by, None);
            return Some(before);
        }
        let before = tables.take(key);
        let turn = tables.turn;
        // The connection that is taken over may still write its will.
        let ended = before.as_ref().and_then(|before| match before.current {
            Some(connection) => {
                Some(Ended { connection, address: before.address, turn, at: now, stays: SessionStays::No })
            }
            None => before.ended,
        });
        let before_it = Before::of(before.as_ref(), credentials, &by);
        let session = Session {
            credentials,
            by,
            address: self.address(client),
            current: Some(client.connection),
            ended: ended.filter(|ended| ended.connection != client.connection),
            last_round: before.as_ref().and_then(|before| before.last_round),
            has_unasked: false,
            granted: None,
            before: before_it,
        };
        tables.put(key, session);
        before
    }

    /// Notes that a connection is closed. The event says no more than that somebody with this client id
    /// is gone (a refused login fires it too): only the connection tells whether it was the one let in.
    /// Returns whether it does.
    pub fn close(&self, client: Client<'_>, username: &str, stays: SessionStays, now: Instant) -> bool {
        let key = self.key(client, username);
        let tables = &mut *self.tables.lock();
        tables.named.remove(client.connection);
        tables.deferred.remove(client.connection);
        tables.forget_client_id(&self.keys, client);
        if tables.connected.peek(&key).is_none_or(|session| session.current != Some(client.connection)) {
            return false;
        }
        let Some(mut session) = tables.take(key) else { return false };
        session.current = None;
        session.ended = Some(Ended {
            connection: client.connection,
            address: session.address,
            turn: tables.turn,
            at: now,
            stays,
        });
        tables.put(key, session);
        if stays == SessionStays::No {
            // Where no turn ever comes they are forgotten once their wills are written.
            let is_over = |since: Instant| now.saturating_duration_since(since) >= rights::WILL_WITHIN;
            if tables.gone.len() >= GONE && tables.gone_looked_through.is_none_or(is_over) {
                tables.gone_looked_through = Some(now);
                tables.forget_gone(|ended| is_over(ended.at));
            }
            tables.gone.insert(key);
        }
        true
    }

    /// A connection was opened, by whomever it was let in: what a closed one with its number left behind is over.
    pub fn opened(&self, client: Client<'_>, username: &str) {
        let key = self.key(client, username);
        if let Some(session) = self.tables.lock().get(key) {
            session.ended = session.ended.filter(|ended| ended.connection != client.connection);
        }
    }

    /// Takes an admission back that came to nothing, because the client had gone by then: the session is what
    /// it was `before`, if its connection is still that of a session.
    pub fn withdraw(&self, client: Client<'_>, username: &str, before: Option<Session>) {
        let key = self.key(client, username);
        let tables = &mut *self.tables.lock();
        if tables.connected.peek(&key).is_none_or(|session| session.current != Some(client.connection)) {
            return;
        }
        tables.named.remove(client.connection);
        tables.take(key);
        if let Some(before) = before {
            tables.put(key, before);
        }
    }

    /// The broker's loop has come round: connections that were closed may be gone.
    pub fn new_turn(&self) {
        let tables = &mut *self.tables.lock();
        tables.turn += 1;
        tables.forget_gone(|_| true);
    }

    /// Whether a login in this round of rechecks is about a session that was let in here, and which was not yet
    /// recognised in it. `is_going_on` says that the round cannot be over.
    ///
    /// A connection that is open cannot be anybody else's. The number of one that was closed may be by now,
    /// unless the session stays; where the broker does not say that, the round tells.
    pub fn recheck(
        &self,
        client: Client<'_>,
        username: &str,
        credentials: Fingerprint,
        round: u32,
        is_going_on: bool,
    ) -> bool {
        let key = self.key(client, username);
        let mut tables = self.tables.lock();
        let Some(session) = tables.get(key) else { return false };
        let may_sleep =
            |ended: Ended| ended.connection == client.connection && ended.stays != SessionStays::No;
        let is_asleep = is_going_on && session.ended.is_some_and(may_sleep);
        let is_it = (session.current == Some(client.connection) || is_asleep)
            && session.credentials == credentials
            && session.last_round != Some(round);
        if is_it {
            session.last_round = Some(round);
        }
        is_it
    }

    fn is(&self, client: Client<'_>, username: &str, condition: impl FnOnce(&Session) -> bool) -> bool {
        let key = self.key(client, username);
        self.tables.lock().get(key).is_some_and(|session| condition(session))
    }

    fn key(&self, client: Client<'_>, username: &str) -> Fingerprint {
        self.key_of(client.id, username)
    }

    fn key_of(&self, client_id: &str, username: &str) -> Fingerprint {
        self.keys.fields(Domain::Session, [client_id.as_bytes(), username.as_bytes()])
    }

    fn address(&self, client: Client<'_>) -> Fingerprint {
        self.keys.fields(Domain::Address, [client.address.unwrap_or_default().as_bytes()])
    }
}

impl Session {
    /// The connection that it is connected on.
    pub fn connection(&self) -> Option<Connection> {
        self.current
    }

    /// Whether it was let in with these credentials, and by the same.
    pub fn was_let_in(&self, credentials: Fingerprint, by: &LetInBy) -> bool {
        self.credentials == credentials && self.by == *by
    }

    fn is_by(&self, hash: &Arc<PasswordHash>) -> bool {
        matches!(&self.by, LetInBy::Local(by) if Arc::ptr_eq(by, hash) || by == hash)
    }
}

#[cfg(test)]
mod tests;
