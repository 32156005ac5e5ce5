//! Sessions whose time the API has set (`expire_at`). A timer on the worker's thread has them disconnected, the way those
//! are whom the API refuses when it is asked again: at the tick, and where none comes, with the next event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use super::leaving::Leaving;
use super::sessions::SessionName;
use super::tasks::{Task, Tasks};
use crate::ask::Asker;
use crate::broker::Connection;
use crate::question::Grounds;
use crate::util::{Lock, sleep_until};

/// Bytes that the names of such sessions may take: room for a million with usual names. Sessions beyond that are not
/// disconnected; everything that they ask for is denied once their time is over.
const BYTES: usize = 256 << 20;

/// Bytes for each besides its names.
const OVERHEAD: usize = 256;

/// Knows whose time ends when.
pub struct Expiry {
    leaving: Arc<Leaving>,
    tasks: Arc<Tasks>,
    /// Whether there was ever one. Spares the lock where that is not so.
    any: AtomicBool,
    state: Lock<State>,
    /// Notified when the earliest end changes.
    news: Notify,
}

#[derive(Default)]
struct State {
    by_time: BTreeMap<(Instant, Connection), SessionName>,
    by_connection: HashMap<Connection, Instant>,
    bytes: usize,
    has_timer: bool,
}

fn bytes(session: &SessionName) -> usize {
    let SessionName { client_id, username, address, .. } = session;
    OVERHEAD + client_id.len() + username.len() + address.as_ref().map_or(0, String::len)
}

impl State {
    fn remove(&mut self, connection: Connection) -> Option<SessionName> {
        let at = self.by_connection.remove(&connection)?;
        let session = self.by_time.remove(&(at, connection))?;
        self.bytes -= bytes(&session);
        Some(session)
    }

    fn first(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    fn take_due(&mut self, now: Instant) -> Option<SessionName> {
        let (at, connection) = *self.by_time.first_key_value()?.0;
        (at <= now).then(|| self.remove(connection)).flatten()
    }
}

impl Expiry {
    /// Knows nobody.
    pub fn new(leaving: Arc<Leaving>, tasks: Arc<Tasks>) -> Self {
        let (any, state, news) = (AtomicBool::new(false), Lock::default(), Notify::new());
        Self { leaving, tasks, any, state, news }
    }

    /// Has a session end then, and not at another time that was said before.
    pub fn set(self: &Arc<Self>, session: SessionName, at: Instant, asker: &Asker) {
        self.any.store(true, Ordering::Release);
        self.tasks.start_waking_if_possible();
        let mut state = self.state.lock();
        let (connection, before) = (session.connection, state.first());
        state.remove(connection);
        if state.bytes + bytes(&session) <= BYTES {
            state.bytes += bytes(&session);
            state.by_connection.insert(connection, at);
            state.by_time.insert((at, connection), session);
        }
        let (is_first, has_timer) = (state.first() != before, std::mem::replace(&mut state.has_timer, true));
        drop(state);
        if !has_timer {
            let timer = Arc::clone(self);
            // Without a thread there was no answer, either.
            let _ = asker.run_in_background(async move { timer.run().await });
        } else if is_first {
            self.news.notify_one();
        }
    }

    /// Forgets the end of a connection: it has none any more, or is closed.
    pub fn remove(&self, connection: Connection) {
        if self.any.load(Ordering::Acquire) {
            self.state.lock().remove(connection);
        }
    }

    async fn run(&self) {
        loop {
            while let Some(session) = self.take_due() {
                self.leaving.add([(session, Grounds::Expired)]);
                if self.leaving.claim_notice() {
                    self.tasks.push(Task::SomebodyLeaves);
                }
            }
            let first = self.state.lock().first();
            tokio::select! {
                () = sleep_until(first) => {}
                () = self.news.notified() => {}
            }
        }
    }

    fn take_due(&self) -> Option<SessionName> {
        self.state.lock().take_due(Instant::now())
    }
}
