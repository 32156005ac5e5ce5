//! Holds the connection to the store: connects, reads the journal, tells the others, and begins anew when anything of that
//! fails. Only while all of it works is the store asked.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::cmd;
use tokio::time::{sleep, timeout};

use super::journal::{self, Heard, Journal, Newest, entries, entries_of_streams, kind};
use super::learnt::Learnt;
use super::listener::Listener;
use super::seal::Position;
use super::servers::{AT_ONCE, Failed, Servers};
use super::statement::Statement;
use super::time::{StoreClock, milliseconds};
use super::{State, Store};
use crate::command::Command;
use crate::log::Level;

/// The pause before a store that could not be used is tried again; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long an entry of the journal is waited for before it is made sure that the journal is still there.
const ROUND: Duration = Duration::from_secs(1);

/// How far the store's clock may be from this machine's. Whoever could set it back would have verdicts last longer.
const APART: Duration = Duration::from_secs(60);

/// A command that was told longer ago than this, before this broker was cut off, is not carried out: somebody may have
/// copied it.
const FRESH: u64 = 60_000;

/// What the keeper knows beyond one connection.
struct Keeper {
    listener: Weak<dyn Listener>,
    /// Commands that were carried out.
    heard: Newest,
    /// A journal was lost, and none has been read to its end since.
    is_uncertain: bool,
}

impl Keeper {
    /// A journal is gone, and with it perhaps what was taken back. What is remembered is forgotten at once, since nobody
    /// knows when there will be a journal again, and once more when there is.
    fn lose_track(&mut self) {
        self.is_uncertain = true;
        self.forget_everything();
    }

    fn forget_everything(&self) {
        if let Some(listener) = self.listener.upgrade() {
            listener.forget_everything();
        }
    }
}

impl Store {
    /// Whether nobody holds the connection yet. It is held from now on.
    pub fn wants_keeper(&self) -> bool {
        !self.is_kept.load(Ordering::Relaxed) && !self.is_kept.swap(true, Ordering::Relaxed)
    }

    /// Holds the connection until the store is not to be used any more.
    pub async fn hold(self: Arc<Self>, listener: Weak<dyn Listener>) {
        let mut keeper = Keeper { listener, heard: Newest::default(), is_uncertain: false };
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let why = match self.session(&mut keeper).await {
                Ok(never) => match never {},
                Err(failed) => failed.why(),
            };
            self.state.send_replace(State::Down);
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            // One that fails again and again is left alone for longer.
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            if self.failures.claim(Instant::now()) {
                self.is_missed.store(true, Ordering::Relaxed);
                let line = format!(
                    "The shared cache at {} cannot be used now: {why}. Questions go to the API alone, and nobody waits for \
                     the cache. It is tried again, at least every {LONGEST_PAUSE:?}.",
                    self.shown()
                );
                self.log.write(Level::Warning, line);
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// One connection, from its beginning to its end.
    async fn session(&self, keeper: &mut Keeper) -> Result<Infallible, Failed> {
        *self.trouble.lock() = None;
        let servers = Servers::open(&self.options.way, &self.keys[0].journal).await.map_err(Failed::Lost)?;
        let servers = Arc::new(servers);
        self.read_clock(&servers).await?;
        self.catch_up(&servers, keeper).await?;
        self.tell(&servers).await?;
        self.probe(&servers).await?;
        self.state.send_replace(State::Up(Arc::clone(&servers)));
        if self.is_missed.swap(false, Ordering::Relaxed) {
            self.log.write(Level::Notice, format!("The shared cache at {} is used again.", self.shown()));
        }
        let mut learnt = Learnt::default();
        loop {
            self.share_learnt(&servers, &mut learnt, &keeper.listener).await?;
            self.read_on(&servers, keeper).await?;
            self.read_clock(&servers).await?;
            self.note_foreign();
        }
    }

    /// Says in the log, once a minute, that something was found which no broker of these has written.
    fn note_foreign(&self) {
        let (all, told) = (self.metrics.shared.foreign(), self.foreign_told.load(Ordering::Relaxed));
        if all > told && self.foreigners.claim(Instant::now()) {
            self.foreign_told.store(all, Ordering::Relaxed);
            let line = format!(
                "{} values in the shared cache at {} were not signed with the secret in \
                 plugin_opt_shared_cache_secret_file, and do not count. Has every broker the same secret, and who else \
                 writes there?",
                all - told,
                self.shown()
            );
            self.log.write(Level::Warning, line);
        }
    }

    /// Waits for the next entries, and tells the others what there is to tell meanwhile.
    async fn read_on(&self, servers: &Servers, keeper: &mut Keeper) -> Result<(), Failed> {
        let behind: Vec<_> = {
            let journals = self.journals.lock();
            let names = self.keys.iter().map(|keys| keys.journal.clone());
            names.zip(journals.iter().map(|journal| journal::shown(journal.read))).collect()
        };
        let mut waiting = std::pin::pin!(servers.wait_for_entries(&behind, ROUND));
        let reply = loop {
            tokio::select! {
                reply = &mut waiting => break reply?,
                () = self.outbox_filled.notified() => self.tell(servers).await?,
                () = self.troubled.notified() => {
                    if let Some(why) = self.trouble.lock().clone() {
                        return Err(Failed::Lost(why));
                    }
                }
            }
        };
        let found = kind(&reply);
        let streams =
            entries_of_streams(reply).ok_or_else(|| unexpected("XREAD", found, "entries by streams"))?;
        if streams.is_empty() {
            servers.tend().await?;
            return self.make_sure(servers, keeper).await;
        }
        for (name, raw) in streams {
            if let Some(index) = self.keys.iter().position(|keys| keys.journal == name) {
                self.take(index, raw, keeper, None)?;
            }
        }
        Ok(())
    }

    /// Makes sure that the last entries that were read are still there: nothing was lost, and nothing taken out.
    async fn make_sure(&self, servers: &Servers, keeper: &mut Keeper) -> Result<(), Failed> {
        for index in 0..self.keys.len() {
            let read = self.journals.lock()[index].read;
            if self.range(servers, index, Some(read), Some(read), 1).await?.is_empty() {
                keeper.lose_track();
                return Err(Failed::Lost("its journal of what was taken back is gone".to_owned()));
            }
        }
        self.note_in_step();
        Ok(())
    }

    /// Reads what has been written into the journals since they were read last. A journal that has lost something is
    /// begun anew, and everything that is remembered here forgotten.
    async fn catch_up(&self, servers: &Servers, keeper: &mut Keeper) -> Result<(), Failed> {
        // What was taken back before is nothing that can be remembered here.
        let in_step = *self.in_step.lock();
        let since = self.clock.lock().map(|clock| clock.at(in_step));
        // Each journal has all, but under a new secret only what was told since that one is known.
        let mut is_complete = false;
        for index in 0..self.keys.len() {
            let read = self.journals.lock()[index].read;
            let is_known = read != Position::default();
            if is_known && !self.range(servers, index, Some(read), Some(read), 1).await?.is_empty() {
                self.read_to_end(servers, index, keeper, None).await?;
                is_complete = true;
                continue;
            }
            if is_known {
                keeper.lose_track();
            }
            let first = self.range(servers, index, None, None, 1).await?;
            let goes_on = first.first().is_some_and(|(first, _)| !is_known || *first > read);
            let epoch = self.journals.lock()[index].epoch;
            let from = first.first().map_or(Position::default(), |(first, _)| *first);
            self.journals.lock()[index] = Journal::from(from);
            let since = since.filter(|_| !is_known);
            if goes_on {
                self.read_to_end(servers, index, keeper, since).await?;
            }
            // Entries that were known are gone, while others are there: those who come later would miss them.
            let found = self.journals.lock()[index].epoch;
            if found == 0 || is_known && found == epoch {
                self.begin(servers, index).await?;
                self.read_to_end(servers, index, keeper, since).await?;
            } else {
                is_complete |= since.is_some_and(|since| from.0 < since);
            }
        }
        keeper.is_uncertain |= !is_complete;
        if keeper.is_uncertain {
            keeper.forget_everything();
            keeper.is_uncertain = false;
        }
        self.note_in_step();
        Ok(())
    }

    /// Entries of a journal from one position to another, both included.
    async fn range(
        &self,
        servers: &Servers,
        index: usize,
        from: Option<Position>,
        to: Option<Position>,
        count: usize,
    ) -> Result<Vec<journal::Raw>, Failed> {
        let name = &self.keys[index].journal;
        let bound = |position: Option<Position>, open: &str| position.map_or(open.to_owned(), journal::shown);
        let mut command = cmd("XRANGE");
        command.arg(name).arg(bound(from, "-")).arg(bound(to, "+")).arg("COUNT").arg(count);
        let reply = servers.ask_at_leisure(name, &command).await?;
        let found = kind(&reply);
        entries(reply).ok_or_else(|| unexpected("XRANGE", found, "entries"))
    }

    /// Reads a journal to its end, and carries out what was told `since`.
    async fn read_to_end(
        &self,
        servers: &Servers,
        index: usize,
        keeper: &mut Keeper,
        since: Option<u64>,
    ) -> Result<(), Failed> {
        loop {
            let read = self.journals.lock()[index].read;
            let Some(next) = read.next() else { return Ok(()) };
            let raw = self.range(servers, index, Some(next), None, AT_ONCE).await?;
            let is_end = raw.len() < AT_ONCE;
            self.take(index, raw, keeper, since)?;
            if is_end {
                return Ok(());
            }
        }
    }

    /// Takes entries of a journal, and carries out those that are new: of a journal that was not known before, what was
    /// told `since`, in milliseconds of the store's clock.
    fn take(
        &self,
        index: usize,
        raw: Vec<journal::Raw>,
        keeper: &mut Keeper,
        since: Option<u64>,
    ) -> Result<(), Failed> {
        for (at, entry) in journal::decrypted(raw, &self.keys[index]) {
            // What was read is asked for no more, and what is told again could set back how far that is.
            let read = self.journals.lock()[index].read;
            if at <= read {
                let (found, read) = (journal::shown(at), journal::shown(read));
                return Err(unexpected("XREAD or XRANGE", &found, &format!("what is behind {read}")));
            }
            let Some(entry) = entry else {
                self.journals.lock()[index].pass(at);
                self.metrics.shared.foreign_entry();
                continue;
            };
            let whose = self.whose(&entry.says);
            let heard = self.journals.lock()[index].take(at, &entry, whose);
            let is_old = since.is_some_and(|since| entry.at < since);
            if heard == Heard::NewBehindGap && !is_old {
                self.note_gap();
                keeper.forget_everything();
            }
            // With two secrets each command stands in two journals.
            if heard == Heard::Repetition
                || entry.sender == self.sender
                || keeper.heard.hear(&entry) == Heard::Repetition
            {
                continue;
            }
            // Nor does it say that anything is lost if a journal begins that was not known.
            if is_old || since.is_some() && entry.says == Statement::Begin {
                continue;
            }
            let Some(listener) = keeper.listener.upgrade() else { return Ok(()) };
            if entry.says == Statement::Begin {
                listener.forget_everything();
            }
            let (Statement::Told(command), Some(peer)) = (entry.says, listener.peer()) else { continue };
            if matches!(command, Command::Forget(_)) || self.is_fresh(entry.at) {
                self.metrics.shared.heard();
                peer.told(command);
            }
        }
        self.note_in_step();
        Ok(())
    }

    /// Says in the log, once a minute, that something that was taken back is missing.
    fn note_gap(&self) {
        if self.gaps.claim(Instant::now()) {
            self.log.warn(&format!(
                "The shared cache at {} has lost a command of another broker, or holds it back: nobody knows what was taken \
                 back by it, so everything that is remembered is forgotten. Who else writes there?",
                self.shown()
            ));
        }
    }

    /// Whether a command that was told then is carried out: not if it is older than what this broker can have missed.
    fn is_fresh(&self, at: u64) -> bool {
        let in_step = *self.in_step.lock();
        let Some(clock) = *self.clock.lock() else { return false };
        at + FRESH >= clock.at(in_step) && at <= clock.at(Instant::now()) + FRESH
    }

    /// The journals are read to their ends.
    fn note_in_step(&self) {
        *self.in_step.lock() = Instant::now();
    }

    /// The time of the store's clock.
    pub(super) fn now(&self) -> Option<u64> {
        self.clock.lock().map(|clock| clock.at(Instant::now()))
    }

    /// Reads the store's clock.
    async fn read_clock(&self, servers: &Servers) -> Result<(), Failed> {
        let asked = Instant::now();
        let reply = servers.ask_journal(&cmd("TIME")).await?;
        let milliseconds =
            milliseconds(&reply).ok_or_else(|| unexpected("TIME", kind(&reply), "two numbers"))?;
        let own = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        if own.abs_diff(milliseconds) > APART.as_millis() as u64 {
            let apart = own.abs_diff(milliseconds) / 1000;
            return Err(Failed::Lost(format!(
                "its clock and that of this machine are {apart} s apart, expected at most {} s; have both set by NTP",
                APART.as_secs()
            )));
        }
        let at = asked + asked.elapsed() / 2;
        *self.clock.lock() = Some(StoreClock { milliseconds, at });
        Ok(())
    }

    /// Makes sure that the store answers as fast as it has to.
    async fn probe(&self, servers: &Servers) -> Result<(), Failed> {
        let limit = self.options.timeout;
        let late = |_| Failed::Lost(format!("no answer within {limit:?} (shared_cache_timeout)"));
        timeout(limit, servers.ask(&self.keys[0].journal, &cmd("PING"))).await.map_err(late)?.map(drop)
    }
}

fn unexpected(command: &str, found: &str, expected: &str) -> Failed {
    Failed::Lost(format!("its answer to {command} makes no sense: found {found}, expected {expected}"))
}
