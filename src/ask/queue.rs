//! Questions that wait to be sent: which is sent next, and which goes where there is no room for all.
use std::collections::HashMap;
use std::iter;
use std::time::{Duration, Instant};

use crate::fingerprint::{AlreadyHashed, Fingerprint, Source};
use crate::util::fair::{FairQueue, Handle};

#[cfg(test)]
mod tests;

/// Bytes for logins that wait: room for 32,000, since a login takes 2 KiB with its texts and [`OVERHEAD`]. As many are
/// served in 10 s by 64 requests at a time that take 20 ms each, which is a third of the time that they may wait
/// (`max_wait`). A fleet of 20,000 devices finds room when its broker starts, and a machine that runs such a broker has
/// this much to spare.
const LOGINS_BOUND: usize = 64 << 20;

/// Bytes for the four priorities in [`Priority::REST`] together. Where room is short, the one that holds most gives it
/// up, so each is sure of a quarter: 8,000 clients to recheck, or 8,000 topics. It may hold four times as many while
/// the others hold nothing.
const REST_BOUND: usize = 64 << 20;

/// Bytes that a question takes here besides its own: 1.4 KiB were measured for the only question of its address, with
/// its tables in [`FairQueue`], its entry in [`Queue::places`] and what the allocator adds.
const OVERHEAD: usize = 1536;

/// One in this many questions that are sent is a [`Priority::Revoke`], and one a [`Priority::Refresh`], as long as such
/// wait. Questions that the broker waits for are not counted.
const RESERVED_EVERY: usize = 8;

/// How urgent a question is, by what waits for its answer. The higher ones are sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Nothing waits: the answer is for the next time that the question comes up.
    Refresh,
    /// Nothing waits yet: the broker is expected to ask this.
    Speculative,
    /// Nothing waits, but a connected client may have lost its rights.
    Revoke,
    /// A parked client waits, for answers about the topics that it will use once it is let in.
    Warmup,
    /// A parked client waits to be let in.
    Login,
    /// The broker waits, and with it every client.
    Broker,
}

impl Priority {
    /// All priorities, the highest first.
    const ALL: [Self; 6] =
        [Self::Broker, Self::Login, Self::Warmup, Self::Revoke, Self::Speculative, Self::Refresh];

    /// The priorities that share [`REST_BOUND`].
    const REST: [Self; 4] = [Self::Warmup, Self::Revoke, Self::Speculative, Self::Refresh];
}

/// A question that can wait in a [`Queue`].
pub trait Queued {
    /// The fingerprint that tells it from all others.
    fn key(&self) -> Fingerprint;
    /// The bytes that it takes, including what it holds on the heap.
    fn bytes(&self) -> usize;
    /// The network and username that it is asked for. Networks take turns, and the names within one.
    fn source(&self) -> Source;
    /// Has it asked for somebody else.
    fn ask_for(&mut self, source: Source);
}

/// Questions that wait to be sent, each of them once.
///
/// Every operation takes constant time for each question that it moves, or the logarithm of the number of sources.
pub struct Queue<J> {
    /// One queue for each priority, by its number.
    lanes: [FairQueue<u64, J>; 6],
    /// The priority and the handle of each question.
    places: HashMap<Fingerprint, (Priority, Handle), AlreadyHashed>,
    rest_bound: usize,
    /// For each priority in [`RESERVED`], how many others were sent while such a question waited, since the last one.
    passed_over: [usize; 2],
}

/// The priorities that have a reserved share, in the order of [`Queue::passed_over`].
const RESERVED: [Priority; 2] = [Priority::Revoke, Priority::Refresh];

impl<J: Queued> Default for Queue<J> {
    fn default() -> Self {
        Self::new(LOGINS_BOUND, REST_BOUND)
    }
}

impl<J: Queued> Queue<J> {
    /// An empty queue for `logins_bound` bytes of logins, and `rest_bound` bytes of the priorities in
    /// [`Priority::REST`].
    fn new(logins_bound: usize, rest_bound: usize) -> Self {
        let lane =
            |index| FairQueue::new(if index == Priority::Login as usize { logins_bound } else { usize::MAX });
        Self { lanes: std::array::from_fn(lane), places: HashMap::default(), rest_bound, passed_over: [0; 2] }
    }

    /// Puts a question in, and returns those that have no room any more, which may include the new one. If it waits
    /// here already, the one that waits is raised to this priority and the new one returned.
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

    /// Raises a question to this priority, if it waits here with a lower one. Returns those that have no room any more.
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

    /// Somebody else has come to wait for a question: it is raised to this priority and asked for them, or if it has this
    /// priority already, it is asked for them if less waits from their network than from where it was asked first. Returns
    /// those that there is no room for then.
    #[must_use = "somebody may wait for what has no room"]
    pub fn join(&mut self, key: Fingerprint, priority: Priority, source: Source, now: Instant) -> Vec<J> {
        let Some(&(old, handle)) = self.places.get(&key) else { return Vec::new() };
        let has_less = || priority != Priority::Broker && self.lane(old).has_less(source[0], handle);
        if old > priority || (old == priority && !has_less()) {
            return Vec::new();
        }
        let Some(mut job) = self.remove(key) else { return Vec::new() };
        job.ask_for(source);
        self.push(job, priority, now)
    }

    /// Takes a question out that nobody needs any more.
    pub fn remove(&mut self, key: Fingerprint) -> Option<J> {
        let (priority, handle) = self.places.remove(&key)?;
        self.lanes[priority as usize].remove(handle)
    }

    /// Takes out the logins that have waited for `max_wait` or longer, the oldest first.
    pub fn expired(&mut self, now: Instant, max_wait: Duration) -> impl Iterator<Item = J> {
        iter::from_fn(move || {
            let logins = &mut self.lanes[Priority::Login as usize];
            let (handle, since) = logins.oldest()?;
            let job = (now.saturating_duration_since(since) >= max_wait).then(|| logins.remove(handle))??;
            self.places.remove(&job.key());
            Some(job)
        })
    }

    /// When the oldest login will have waited for `max_wait`.
    pub fn next_expiry(&self, max_wait: Duration) -> Option<Instant> {
        self.lanes[Priority::Login as usize].oldest().map(|(_, since)| since + max_wait)
    }

    /// Takes the next question to send while `in_flight` others are being asked and `bound` may be. Questions that the
    /// broker waits for may exceed the bound by a quarter, so that they never wait for others to end.
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
        // Beyond their reserved share, refreshes leave three quarters of the bound to questions that a client may need
        // soon.
        let may_go = |priority| priority != Priority::Refresh || in_flight < quarter;
        let lanes = Priority::ALL.into_iter().filter(|priority| !self.lane(*priority).is_empty());
        let priority = self.due().or_else(|| lanes.into_iter().find(|priority| may_go(*priority)))?;
        for (reserved, passed_over) in iter::zip(RESERVED, &mut self.passed_over) {
            let waits = reserved != priority && !self.lanes[reserved as usize].is_empty();
            *passed_over = if waits { *passed_over + 1 } else { 0 };
        }
        self.take(priority)
    }

    /// The priority whose reserved share is due, if one is. It is due one question early, as both may be due at once.
    fn due(&self) -> Option<Priority> {
        let is_due = |(reserved, passed_over): &(Priority, usize)| {
            *passed_over + RESERVED.len() >= RESERVED_EVERY && !self.lane(*reserved).is_empty()
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

    /// Whether no question waits.
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

    /// Takes out the question that makes room within [`REST_BOUND`]: one of the priority that holds most bytes.
    fn shed(&mut self) -> Option<J> {
        // Of two that hold as much, the lower one.
        let heaviest = Priority::REST
            .into_iter()
            .max_by_key(|priority| (self.lane(*priority).bytes(), std::cmp::Reverse(*priority)));
        self.lanes[heaviest? as usize].shed()
    }
}
