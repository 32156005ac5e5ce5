//! Questions that wait to be sent: who is served first, and who is told that there is no room.
use std::collections::HashMap;
use std::iter;
use std::time::{Duration, Instant};

use crate::fingerprint::{AlreadyHashed, Fingerprint, Source};
use crate::util::fair::{FairQueue, Handle};

#[cfg(test)]
mod tests;

/// Bytes for logins that wait. A login takes 2 KiB with its body and [`OVERHEAD`]: this has room for 32,000 of them,
/// which is what 64 requests at a time serve in 10 s if each takes 20 ms, a third of the time that they may wait
/// (`max_wait`). A fleet of 20,000 devices finds room when its broker starts, and a machine that runs such a broker has
/// this much to spare.
const LOGINS_BOUND: usize = 64 << 20;

/// Bytes for all questions but logins and those that the broker is stopped for. As they are shed from the kind that
/// holds most, each of the four has a quarter for itself: 8,000 clients to be asked about again, or 8,000 topics,
/// whatever the others do, and four times as many while the others need nothing.
const REST_BOUND: usize = 64 << 20;

/// What a question takes here, beside its own bytes: as the only one of its address it was measured to take 1.4 KiB,
/// with its tables in the queue that is fair, what the allocator adds, and its place in the table of all.
const OVERHEAD: usize = 1536;

/// Of so many questions that are taken, apart from those that the broker is stopped for, one is a [`Priority::Revoke`]
/// and one a [`Priority::Refresh`] at least, as long as there are any.
const TURN: usize = 8;

/// Who waits for an answer. The higher ones are asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Nobody, and nobody will: an old verdict is asked again.
    Refresh,
    /// Nobody yet: the question is asked ahead.
    Speculative,
    /// Nobody, but a client that is connected may have lost its rights.
    Revoke,
    /// A client that is parked, about the topics it will use once it is in.
    Warmup,
    /// A client that is parked until it is let in.
    Login,
    /// The broker, and with it every client.
    Broker,
}

impl Priority {
    /// The highest first.
    const ALL: [Self; 6] =
        [Self::Broker, Self::Login, Self::Warmup, Self::Revoke, Self::Speculative, Self::Refresh];

    /// Those that share [`REST_BOUND`].
    const REST: [Self; 4] = [Self::Warmup, Self::Revoke, Self::Speculative, Self::Refresh];
}

/// A question that can wait here.
pub trait Queued {
    /// What it is known by.
    fn key(&self) -> Fingerprint;
    /// The bytes it takes, what it holds elsewhere included.
    fn bytes(&self) -> usize;
    /// Whom it is asked for. Networks and names take turns.
    fn source(&self) -> Source;
}

/// Questions that wait to be sent, each of them once.
///
/// Whatever is done takes constant time, or grows with the logarithm of the number of sources.
pub struct Queue<J> {
    /// By the number of their priority.
    lanes: [FairQueue<u64, J>; 6],
    places: HashMap<Fingerprint, (Priority, Handle), AlreadyHashed>,
    rest_bound: usize,
    /// How many others were taken since the last revocation or since there was one to take; the same for refreshes.
    passed_over: [usize; 2],
}

/// Those that a share is reserved for, in the order of [`Queue::passed_over`].
const RESERVED: [Priority; 2] = [Priority::Revoke, Priority::Refresh];

impl<J: Queued> Default for Queue<J> {
    fn default() -> Self {
        Self::new(LOGINS_BOUND, REST_BOUND)
    }
}

impl<J: Queued> Queue<J> {
    /// An empty queue for so many bytes of logins, and so many of questions that nobody waits for.
    fn new(logins_bound: usize, rest_bound: usize) -> Self {
        let lane =
            |index| FairQueue::new(if index == Priority::Login as usize { logins_bound } else { usize::MAX });
        Self { lanes: std::array::from_fn(lane), places: HashMap::default(), rest_bound, passed_over: [0; 2] }
    }

    /// Puts a question in, and returns those that there is no room for: it may be one of them itself. One that waits
    /// already is raised, and the second of them returned.
    #[must_use = "somebody may wait for what has no room"]
    pub fn push(&mut self, job: J, priority: Priority, now: Instant) -> Vec<J> {
        if self.places.contains_key(&job.key()) {
            let mut gone = self.raise(job.key(), priority, now);
            gone.push(job);
            return gone;
        }
        let (key, bytes) = (job.key(), job.bytes() + OVERHEAD);
        // What the broker is stopped for is asked in the order in which it came.
        let source = if priority == Priority::Broker { [0; 2] } else { job.source() };
        let (handle, mut gone) = self.lanes[priority as usize].push(source, bytes, job, now);
        self.places.insert(key, (priority, handle));
        while self.rest_bytes() > self.rest_bound
            && let Some(job) = self.shed()
        {
            gone.push(job);
        }
        for job in &gone {
            self.places.remove(&job.key());
        }
        gone
    }

    /// Somebody has come to wait for a question: if it is here and has a lower priority it gets this one. Returns those
    /// that there is no room for then.
    #[must_use = "somebody may wait for what has no room"]
    pub fn raise(&mut self, key: Fingerprint, priority: Priority, now: Instant) -> Vec<J> {
        match self.places.get(&key) {
            Some((old, _)) if *old < priority => {}
            _ => return Vec::new(),
        }
        self.remove(key).map_or_else(Vec::new, |job| self.push(job, priority, now))
    }

    /// Whether a question waits here.
    pub fn contains(&self, key: Fingerprint) -> bool {
        self.places.contains_key(&key)
    }

    /// Takes a question out that nobody needs any more.
    pub fn remove(&mut self, key: Fingerprint) -> Option<J> {
        let (priority, handle) = self.places.remove(&key)?;
        self.lanes[priority as usize].remove(handle)
    }

    /// Takes the logins out that have waited for so long, the oldest first.
    pub fn expired(&mut self, now: Instant, max_wait: Duration) -> impl Iterator<Item = J> {
        iter::from_fn(move || {
            let logins = &mut self.lanes[Priority::Login as usize];
            let (handle, since) = logins.oldest()?;
            let job = (now.saturating_duration_since(since) >= max_wait).then(|| logins.remove(handle))??;
            self.places.remove(&job.key());
            Some(job)
        })
    }

    /// When the next login will have waited for so long.
    pub fn next_expiry(&self, max_wait: Duration) -> Option<Instant> {
        self.lanes[Priority::Login as usize].oldest().map(|(_, since)| since + max_wait)
    }

    /// The next question that may be sent while so many are, if `bound` may be. What the broker is stopped for may go
    /// over the bound by a quarter, so that it never waits for the others.
    pub fn pop(&mut self, in_flight: usize, bound: usize) -> Option<J> {
        let quarter = bound.div_ceil(4);
        if in_flight < bound.saturating_add(quarter)
            && let Some(job) = self.take(Priority::Broker)
        {
            return Some(job);
        }
        if in_flight >= bound {
            return None;
        }
        // What nobody will wait for leaves room for what somebody might, apart from its reserved share.
        let may_go = |priority| priority != Priority::Refresh || in_flight < quarter;
        let lanes = Priority::ALL.into_iter().filter(|priority| !self.lane(*priority).is_empty());
        let priority = self.due().or_else(|| lanes.into_iter().find(|priority| may_go(*priority)))?;
        for (reserved, passed_over) in iter::zip(RESERVED, &mut self.passed_over) {
            let waits = reserved != priority && !self.lanes[reserved as usize].is_empty();
            *passed_over = if waits { *passed_over + 1 } else { 0 };
        }
        self.take(priority)
    }

    /// A kind whose reserved share is due. One is a question early, as both may be due at once.
    fn due(&self) -> Option<Priority> {
        let is_due = |(reserved, passed_over): &(Priority, usize)| {
            *passed_over + RESERVED.len() >= TURN && !self.lane(*reserved).is_empty()
        };
        iter::zip(RESERVED, self.passed_over)
            .filter(is_due)
            .max_by_key(|(_, passed_over)| *passed_over)
            .map(|due| due.0)
    }

    /// How many questions wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none does.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn lane(&self, priority: Priority) -> &FairQueue<u64, J> {
        &self.lanes[priority as usize]
    }

    fn take(&mut self, priority: Priority) -> Option<J> {
        let job = self.lanes[priority as usize].pop()?;
        self.places.remove(&job.key());
        Some(job)
    }

    fn rest_bytes(&self) -> usize {
        Priority::REST.iter().map(|priority| self.lane(*priority).bytes()).sum()
    }

    /// Takes the question that goes where the rest has no room.
    fn shed(&mut self) -> Option<J> {
        // Of two that hold as much the lower one.
        let heaviest = Priority::REST
            .into_iter()
            .max_by_key(|priority| (self.lane(*priority).bytes(), std::cmp::Reverse(*priority)));
        self.lanes[heaviest? as usize].shed()
    }
}
