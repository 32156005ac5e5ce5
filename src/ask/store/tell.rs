//! Writes the journal: what the other brokers are told.

use std::sync::atomic::Ordering;

use redis::cmd;

use super::Store;
use super::seal::Entry;
use super::servers::{Failed, Servers};
use super::statement::Statement;
use crate::command::{Command, Whom};
use crate::util::random;

/// Entries that the journal keeps, or a few more.
const ENTRIES: usize = 10_000;

/// Commands that wait to be told to the other brokers. When there are more, they are told to forget everything instead, and to
/// ask about everybody.
const TOLD: usize = 1_024;

impl Store {
    /// Tells the other brokers of a command. What they cannot be told now they are told later.
    pub fn tell_others(&self, command: Command) {
        let mut outbox = self.outbox.lock();
        if outbox.len() >= TOLD {
            // Whoever has lost a right is asked about there with all others. Kicks stay, since they may be about somebody of
            // whom no API decides.
            outbox.retain(|told| matches!(told, Command::Kick(_)));
            if outbox.len() >= TOLD / 2 {
                self.log.warn(
                    "The other brokers cannot be told of so many commands: they will not hear of all kicks.",
                );
                outbox.clear();
            }
            outbox.push_front(Command::Recheck(None));
            outbox.push_front(Command::Forget(Whom::Everybody));
        }
        outbox.push_back(command);
        drop(outbox);
        self.outbox_filled.notify_one();
    }

    /// Begins a journal anew.
    pub(super) async fn begin(&self, servers: &Servers, index: usize) -> Result<(), Failed> {
        let epoch = random::number().ok_or_else(no_randomness)?.max(1);
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.append(servers, index, epoch, number, Statement::Begin).await
    }

    /// Tells the others what waits to be told, in every journal.
    pub(super) async fn tell(&self, servers: &Servers) -> Result<(), Failed> {
        loop {
            let Some(told) = self.outbox.lock().front().cloned() else { return Ok(()) };
            let number = self.number_of(&told);
            for index in 0..self.keys.len() {
                let epoch = self.journals.lock()[index].epoch;
                let appended =
                    self.append(servers, index, epoch, number, Statement::Told(told.clone())).await;
                if let Err(Failed::Refused(why)) = appended {
                    return Err(self.tell_by_silence(servers, why).await);
                }
                appended?;
            }
            self.metrics.shared.told();
            *self.telling.lock() = None;
            let mut outbox = self.outbox.lock();
            // It may have been emptied meanwhile.
            if outbox.front() == Some(&told) {
                outbox.pop_front();
            }
        }
    }

    /// The store takes no entries: it is full, or somebody has spoilt the journal. The others would go on by what was
    /// taken back. So the journal is taken away: then they know that they miss something, and forget everything.
    async fn tell_by_silence(&self, servers: &Servers, why: String) -> Failed {
        let is_forget = |told: &Command| matches!(told, Command::Forget(_));
        if self.outbox.lock().iter().any(is_forget) {
            for keys in &self.keys {
                if let Err(failed) = servers.ask_journal(cmd("DEL").arg(&keys.journal)).await {
                    return failed;
                }
            }
            self.outbox.lock().retain(|told| !is_forget(told));
        }
        Failed::Lost(format!("it takes no commands for the other brokers: {why}"))
    }

    async fn append(
        &self,
        servers: &Servers,
        index: usize,
        epoch: u64,
        number: u64,
        says: Statement,
    ) -> Result<(), Failed> {
        let keys = &self.keys[index];
        let at = self.now().unwrap_or_default();
        let entry = Entry { epoch, sender: self.sender, number, at, says };
        let sealed = keys.encrypt(&entry).ok_or_else(no_randomness)?;
        let mut command = cmd("XADD");
        command.arg(&keys.journal).arg("MAXLEN").arg("~").arg(ENTRIES).arg("*").arg("m").arg(sealed);
        servers.ask_at_leisure(&keys.journal, &command).await.map(drop)
    }

    /// The number of the command that is told next. One that may have been told in vain is told again under the number that
    /// it had: a number without a command would tell the others that they miss one, as it does where the command was
    /// dropped meanwhile.
    fn number_of(&self, told: &Command) -> u64 {
        let mut telling = self.telling.lock();
        if telling.as_ref() != Some(told) {
            *telling = Some(told.clone());
            self.number.fetch_add(1, Ordering::Relaxed);
        }
        self.number.load(Ordering::Relaxed)
    }
}

fn no_randomness() -> Failed {
    Failed::Lost("the system gives no random numbers".to_owned())
}
