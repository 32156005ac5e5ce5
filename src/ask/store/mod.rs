//! A cache that several brokers share (`shared_cache`): a Valkey or Redis that is asked before the API. A verdict there can
//! only be a yes: whatever is missing, old, forged or late is asked of the API. The journal can only take back, and what was
//! learnt can only cause questions.
//!
//! `seal` is what stands there, and `statement` what an entry of the journal says; `learnt` what is no verdict; `link`, `cluster` and
//! `servers` the way there; `journal` what was taken back, and `tell` how others learn of it; `keeper` holds the connection, and
//! is the breaker: while the store is slow or away, nobody waits for it. `sharing` has the store that is in use, and `listener`
//! says who hears what comes from there.

mod cluster;
mod journal;
mod keeper;
mod learnt;
mod link;
mod listener;
mod seal;
mod servers;
mod sharing;
mod statement;
mod tell;
mod time;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{Value as Reply, cmd};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

use crate::command::Command;
use crate::fingerprint::{About, Fingerprinter, Whose};
use crate::log::Log;
use crate::metrics::{Metrics, SharedLookup};
use crate::question::{Grounds, Kind};
use crate::util::{Lock, OnceAMinute, random};
use journal::Journal;
pub use link::Way;
pub use listener::{Listener, Peer};
pub use seal::Secrets;
use seal::{Keys, Name, Position, VALUE, Value};
use servers::{Failed, Servers};
pub(super) use sharing::Sharing;
use statement::Statement;
use time::StoreClock;

/// How far ahead of the store's clock a verdict may have been sent: when another server takes over, its clock may be
/// behind.
const AHEAD: Duration = Duration::from_secs(5);

/// Verdicts that are on their way into the store. Further ones are not stored.
const WRITES: usize = 256;

/// What the options say of a shared cache.
#[derive(Clone)]
pub struct StoreOptions {
    /// The way there.
    pub way: Way,
    /// The secrets of its brokers.
    pub secrets: Secrets,
    /// How long a question may wait for it.
    pub timeout: Duration,
}

/// Whether the store can be asked.
#[derive(Clone)]
enum State {
    /// Not yet. Questions wait for it as they do for an answer.
    Connecting,
    /// It can.
    Up(Arc<Servers>),
    /// It cannot.
    Down,
}

/// A shared cache.
pub struct Store {
    options: StoreOptions,
    /// The keys of each secret, and the journal that goes with them.
    keys: Vec<Keys>,
    fingerprints: Fingerprinter,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    /// By which the others know this plugin.
    sender: u64,
    state: watch::Sender<State>,
    journals: Lock<Vec<Journal>>,
    clock: Lock<Option<StoreClock>>,
    /// When the journals were last known to be read to their ends. Nothing that is remembered here is older than what was
    /// missed before, or it is forgotten already.
    in_step: Lock<Instant>,
    /// What the other brokers are yet to be told.
    outbox: Lock<VecDeque<Command>>,
    outbox_filled: Notify,
    /// The number of the last command that was told.
    number: AtomicU64,
    /// The command that was told last, or is yet to be.
    telling: Lock<Option<Command>>,
    /// How many journals were begun.
    begun: AtomicU64,
    /// Why the connection is not to be used any longer.
    trouble: Lock<Option<String>>,
    troubled: Notify,
    writes: Arc<Semaphore>,
    refusals: OnceAMinute,
    failures: OnceAMinute,
    foreigners: OnceAMinute,
    gaps: OnceAMinute,
    /// How many foreign values the log has told of.
    foreign_told: AtomicU64,
    /// The log has told that it is away.
    is_missed: AtomicBool,
    is_kept: AtomicBool,
    is_over: AtomicBool,
}

/// A question as the store knows it.
pub struct StoreQuestion {
    names: Vec<Name>,
    about: About,
    /// How far the journal was read when it was made, and which that was: nothing that is taken back from now on can be
    /// undone by its answer.
    mark: Option<(u64, Position)>,
}

/// An allow that was found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// When the question was sent to the API.
    pub sent: Instant,
    /// How long the allow holds from then on.
    pub lifetime: Duration,
    /// What the API said.
    pub grounds: Grounds,
}

/// What becomes of a look-up.
enum Looked {
    Found(Value),
    Nothing,
    /// Something that no broker has put there.
    Foreign,
}

impl Store {
    /// A store that is not connected to yet, which may take the place of one `before`. `None` if the system gives no random
    /// numbers.
    pub fn new(
        options: StoreOptions,
        fingerprints: Fingerprinter,
        log: Arc<Log>,
        metrics: Arc<Metrics>,
        before: Option<&Self>,
    ) -> Option<Self> {
        let sender = random::number()?;
        let keys = options.secrets.keys();
        Some(Self {
            journals: Lock::new(keys.iter().map(|_| Journal::default()).collect()),
            options,
            keys,
            fingerprints,
            log,
            metrics,
            sender,
            state: watch::Sender::new(State::Connecting),
            clock: Lock::default(),
            in_step: Lock::new(before.map_or_else(Instant::now, |before| *before.in_step.lock())),
            outbox: Lock::new(
                before.map(|before| std::mem::take(&mut *before.outbox.lock())).unwrap_or_default(),
            ),
            outbox_filled: Notify::new(),
            number: AtomicU64::new(0),
            telling: Lock::default(),
            begun: AtomicU64::new(0),
            trouble: Lock::default(),
            troubled: Notify::new(),
            writes: Arc::new(Semaphore::new(WRITES)),
            refusals: OnceAMinute::default(),
            failures: OnceAMinute::default(),
            foreigners: OnceAMinute::default(),
            gaps: OnceAMinute::default(),
            foreign_told: AtomicU64::new(0),
            is_missed: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        })
    }

    /// Where it is, for the log and for figures.
    pub fn shown(&self) -> String {
        self.options.way.url.shown()
    }

    /// Whether it can be asked now.
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// A question to this API as the store knows it: by the request as it is sent.
    pub fn asked(&self, api: &[u8], kind: Kind, request: &[u8], about: About) -> StoreQuestion {
        let names = self.keys.iter().map(|keys| keys.name(api, kind, request)).collect();
        let mark =
            self.is_up().then(|| self.journals.lock().first().map(|journal| (journal.epoch, journal.read)));
        StoreQuestion { names, about, mark: mark.flatten() }
    }

    /// The allow that is stored for a question. Takes `shared_cache_timeout` at most, and no time while the store is
    /// known to be slow or away.
    pub async fn look_up(&self, asked: &StoreQuestion) -> Option<Found> {
        let began = Instant::now();
        let limit = self.options.timeout;
        let Ok(connected) = timeout(limit, self.connected()).await else {
            // The next questions do not wait for that.
            self.state.send_if_modified(|state| {
                let is_connecting = matches!(state, State::Connecting);
                if is_connecting {
                    *state = State::Down;
                }
                is_connecting
            });
            return None;
        };
        let servers = connected?;
        let looked = timeout(limit.saturating_sub(began.elapsed()), self.look_at(&servers, asked)).await;
        let result = looked.unwrap_or_else(|_| match asked.names.first() {
            Some(name) if !servers.is_lost(&name.text) => Err(Failed::Away),
            _ => Err(Failed::Lost(format!("no answer within {limit:?} (shared_cache_timeout)"))),
        });
        let (result, found) = match result {
            Ok(Looked::Found(value)) => match self.judged(&value, asked.about) {
                Some(found) => (SharedLookup::Hit, Some(found)),
                None => (SharedLookup::Old, None),
            },
            Ok(Looked::Nothing) => (SharedLookup::Miss, None),
            Ok(Looked::Foreign) | Err(Failed::Foreign) => (SharedLookup::Foreign, None),
            Err(Failed::Away) => (SharedLookup::Error, None),
            Err(failed) => {
                self.give_up(&servers, failed.why());
                (SharedLookup::Error, None)
            }
        };
        self.metrics.shared.looked_up(result, began.elapsed());
        found
    }

    /// The connection, once it is known whether there is one.
    async fn connected(&self) -> Option<Arc<Servers>> {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Connecting)).await.ok()?;
        match &*known {
            State::Up(servers) => Some(Arc::clone(servers)),
            State::Connecting | State::Down => None,
        }
    }

    async fn look_at(&self, servers: &Servers, asked: &StoreQuestion) -> Result<Looked, Failed> {
        let mut looked = Looked::Nothing;
        for (keys, name) in self.keys.iter().zip(&asked.names) {
            // No more than a verdict has bytes, whatever stands there.
            let command = cmd("GETRANGE").arg(&name.text).arg(0).arg(VALUE).take();
            match servers.ask(&name.text, &command).await? {
                Reply::BulkString(bytes) if bytes.is_empty() => {}
                Reply::BulkString(bytes) => match keys.open(name, &bytes) {
                    Some(value) => return Ok(Looked::Found(value)),
                    None => looked = Looked::Foreign,
                },
                _ => looked = Looked::Foreign,
            }
        }
        Ok(looked)
    }

    /// What a stored verdict is worth now.
    fn judged(&self, value: &Value, about: About) -> Option<Found> {
        if !self.journals.lock().iter().any(|journal| journal.lets_count(value, about)) {
            return None;
        }
        let (now, clock) = (Instant::now(), (*self.clock.lock())?);
        let milliseconds = clock.at(now);
        if value.sent > milliseconds + AHEAD.as_millis() as u64
            || milliseconds >= value.sent.checked_add(value.lifetime)?
        {
            return None;
        }
        let age = Duration::from_millis(milliseconds.saturating_sub(value.sent));
        let lifetime = Duration::from_millis(value.lifetime);
        Some(Found { sent: now.checked_sub(age)?, lifetime, grounds: value.grounds })
    }

    /// Stores an allow that the API has given, unless the store has been away since it was asked. Nobody waits for that.
    pub fn keep(self: &Arc<Self>, asked: StoreQuestion, sent: Instant, lifetime: Duration, grounds: Grounds) {
        let State::Up(servers) = self.state.borrow().clone() else { return };
        let (Some((epoch, position)), Some(clock)) = (asked.mark, *self.clock.lock()) else { return };
        let (Some(keys), Some(name)) = (self.keys.first(), asked.names.into_iter().next()) else { return };
        let (sent, now) = (clock.at(sent), clock.at(Instant::now()));
        let lifetime = lifetime.as_millis() as u64;
        let left = (sent + lifetime).saturating_sub(now);
        let (Ok(permit), true) = (Arc::clone(&self.writes).try_acquire_owned(), left > 0) else { return };
        let value = Value { epoch, position, sent, lifetime, grounds };
        let command = cmd("SET").arg(&name.text).arg(keys.seal(&name, &value)).arg("PX").arg(left).take();
        let store = Arc::clone(self);
        tokio::spawn(async move {
            let stored = servers.ask_at_leisure(&name.text, &command).await;
            store.metrics.shared.stored(stored.is_ok());
            if let Err(failed) = stored {
                store.note_write(&servers, failed);
            }
            drop(permit);
        });
    }

    /// Removes what is stored for a question, since the API refuses it now. Nobody waits for that.
    pub fn remove(self: &Arc<Self>, asked: StoreQuestion) {
        let State::Up(servers) = self.state.borrow().clone() else { return };
        let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else { return };
        let store = Arc::clone(self);
        tokio::spawn(async move {
            for name in &asked.names {
                let command = cmd("DEL").arg(&name.text).take();
                if let Err(failed) = servers.ask_at_leisure(&name.text, &command).await {
                    store.note_write(&servers, failed);
                }
            }
            drop(permit);
        });
    }

    /// Ends the connection for good: another store takes its place.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.state.send_replace(State::Down);
        self.troubled.notify_one();
    }

    /// Uses this connection no longer.
    fn give_up(&self, servers: &Arc<Servers>, why: String) {
        // At once, so that nobody else waits for it.
        let is_news = self.state.send_if_modified(|state| {
            let is_it = matches!(state, State::Up(current) if Arc::ptr_eq(current, servers));
            if is_it {
                *state = State::Down;
            }
            is_it
        });
        if is_news {
            *self.trouble.lock() = Some(why);
            self.troubled.notify_one();
        }
    }

    /// Says in the log, once a minute, that the store takes no verdicts.
    fn note_write(&self, servers: &Arc<Servers>, failed: Failed) {
        match failed {
            Failed::Lost(why) => self.give_up(servers, why),
            Failed::Away => {}
            failed if self.refusals.claim(Instant::now()) => {
                let (place, why) = (self.shown(), failed.why());
                self.log.warn(&format!(
                    "The shared cache at {place} takes no verdicts: {why}. The other brokers ask the API themselves."
                ));
            }
            _ => {}
        }
    }

    /// Whose verdicts an entry takes back.
    fn whose(&self, says: &Statement) -> Option<Whose> {
        match says {
            Statement::Told(Command::Forget(whom)) => Some(whom.whose(&self.fingerprints)),
            Statement::Told(_) | Statement::Begin | Statement::Unknown(..) => None,
        }
    }
}

impl PartialEq for StoreOptions {
    fn eq(&self, other: &Self) -> bool {
        self.way.url == other.way.url
            && self.way.connect_timeout == other.way.connect_timeout
            && self.secrets == other.secrets
            && self.timeout == other.timeout
    }
}
