//! Questions that wait to be sent: which is sent next, and which goes where there is no room for all.
use std::collections::HashMap;
use std::iter;
use std::time::{Duration, Instant};

use crate::fingerprint::{AlreadyHashed, Fingerprint, Source};
use crate::util::fair::{FairQueue, Handle, OVERHEAD};

mod room;
#[cfg(test)]
mod tests;

use room::{Door, all, eighth, quarter};
pub use room::{FEW, Road, Room, Together};

/// Bytes for logins that wait: room for 32,000, since a login takes 2 KiB with its texts and [`OVERHEAD`]. As many are
/// served in 10 s by 64 requests at a time that take 20 ms each, which is a third of the time that they may wait
/// (`max_wait`). A fleet of 20,000 devices finds room when its broker starts, and a machine that runs such a broker has
/// this much to spare.
const LOGINS_BOUND: usize = 64 << 20;

/// Bytes for the four priorities in [`Priority::REST`] together. Where room is short, the one that holds most gives it
/// up, so each is sure of a quarter: 8,000 clients to recheck, or 8,000 topics. It may hold four times as many while
/// the others hold nothing.
const REST_BOUND: usize = 64 << 20;

/// Bytes of the questions in one request: many servers take 100 kB of JSON (Express, for example) or 1 MB (nginx) unless
/// they are told otherwise.
const TOGETHER_BYTES: usize = 64 << 10;

/// A question that is longer than this goes alone: with it, nobody can fill a request for others.
pub const LONGEST_TOGETHER: usize = 4 << 10;

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
    /// The broker is at a message, and comes to this reader of it next or after others: every client waits for that.
    Reader,
    /// The broker waits, and with it every client.
    Broker,
}

impl Priority {
    /// All priorities, the highest first.
    const ALL: [Self; 7] = [
        Self::Broker,
        Self::Reader,
        Self::Login,
        Self::Warmup,
        Self::Revoke,
        Self::Speculative,
        Self::Refresh,
    ];

    /// All priorities, highest first, while the broker waits for the answer about a topic: nobody can be let in then, and what it asks next would
    /// make it wait once more. One in [`RESERVED_EVERY`] is a login all the same.
    const WHILE_BROKER_WAITS: [Self; 7] = [
        Self::Broker,
        Self::Reader,
        Self::Speculative,
        Self::Login,
        Self::Warmup,
        Self::Revoke,
        Self::Refresh,
    ];

    /// The priorities that share [`REST_BOUND`].
    const REST: [Self; 4] = [Self::Warmup, Self::Revoke, Self::Speculative, Self::Refresh];
}

/// A question that can wait in a [`Queue`].
pub trait Queued {
    /// The fingerprint that tells it from all others.
    fn key(&self) -> Fingerprint;
    /// The bytes that it takes, including what it holds on the heap.
    fn bytes(&self) -> usize;
    /// By which road it is asked.
    fn road(&self) -> Road;
    /// The bytes that it takes in a request. Counts only for those that go together.
    fn sent_bytes(&self) -> usize;
    /// The network and username that it is asked for. Networks take turns, and the names within one.
    fn source(&self) -> Source;
    /// Has it asked for somebody else.
    fn ask_for(&mut self, source: Source);
}

/// Questions that wait to be sent, each of them once.
///
/// Every operation takes constant time for each question that it moves, or the logarithm of the number of sources.
pub struct Queue<J> {
    /// A row for each priority and road, by their numbers: what waits for one API must not hold up what the other
    /// could answer.
    rows: [[FairQueue<J>; 3]; 7],
    /// Where each question waits.
    places: HashMap<Fingerprint, (Row, Handle), AlreadyHashed>,
    rest_bound: usize,
    /// For each priority in [`RESERVED`], how many others were sent while such a question waited, since the last one.
    passed_over: [usize; 2],
    /// How many guesses went before logins that waited, since the last login.
    before_logins: usize,
}

/// The priority and the road of a row.
type Row = (Priority, Road);

/// Where logins of parked clients wait.
const LOGINS: Row = (Priority::Login, Road::Login);

/// The priorities that have a reserved share, in the order of [`Queue::passed_over`].
const RESERVED: [Priority; 2] = [Priority::Revoke, Priority::Refresh];

impl<J: Queued> Default for Queue<J> {
    fn default() -> Self {
        Self::new(LOGINS_BOUND, REST_BOUND)
    }
}

impl<J: Queued> Queue<J> {
    /// An empty queue for `logins_bound` bytes of logins, and `rest_bound` bytes of the priorities in
    /// [`Priority::REST`]. Those about readers, of which there are only so many at once, have half as much as these.
    fn new(logins_bound: usize, rest_bound: usize) -> Self {
        let rows = std::array::from_fn(|priority| {
            let bound = match priority {
                _ if priority == Priority::Login as usize => logins_bound,
                _ if priority == Priority::Reader as usize => rest_bound / 2,
                _ => usize::MAX,
            };
            Road::ALL.map(|_| FairQueue::new(bound))
        });
        Self { rows, places: HashMap::default(), rest_bound, passed_over: [0; 2], before_logins: 0 }
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
        let source = if priority == Priority::Broker { Source::default() } else { job.source() };
        let row = (priority, job.road());
        let (handle, mut gone) = self.row_mut(row).push(source.into(), bytes, job, now);
        self.places.insert(key, (row, handle));
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
            Some(((old, _), _)) if *old < priority => {}
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
        let Some(&(row @ (old, _), handle)) = self.places.get(&key) else { return Vec::new() };
        let has_less = || priority != Priority::Broker && self.row(row).has_less(source.network, handle);
        if old > priority || (old == priority && !has_less()) {
            return Vec::new();
        }
        let Some(mut job) = self.remove(key) else { return Vec::new() };
        job.ask_for(source);
        self.push(job, priority, now)
    }

    /// Takes a question out that nobody needs any more.
    pub fn remove(&mut self, key: Fingerprint) -> Option<J> {
        let (row, handle) = self.places.remove(&key)?;
        self.row_mut(row).remove(handle)
    }

    /// Takes out the logins that have waited for `max_wait` or longer, the oldest first.
    pub fn expired(&mut self, now: Instant, max_wait: Duration) -> impl Iterator<Item = J> {
        iter::from_fn(move || {
            let logins = self.row_mut(LOGINS);
            let (handle, since) = logins.oldest()?;
            let job = (now.saturating_duration_since(since) >= max_wait).then(|| logins.remove(handle))??;
            self.places.remove(&job.key());
            Some(job)
        })
    }

    /// When the oldest login will have waited for `max_wait`.
    pub fn next_expiry(&self, max_wait: Duration) -> Option<Instant> {
        self.row(LOGINS).oldest().map(|(_, since)| since + max_wait)
    }

    /// Takes the next question to send, and those that go with it. Questions that the broker waits for go alone, heed no
    /// limit of their API, and may exceed the bound of all by a quarter, so that they never wait for others to end. Those
    /// about readers, which it will wait for next, may exceed both by half of that.
    pub fn pop(&mut self, room: &Room) -> Option<(J, Vec<J>)> {
        let (in_flight, bound) = room.in_flight;
        if in_flight < bound.saturating_add(quarter(bound))
            && let Some(row) = self.oldest(Priority::Broker, |_| true)
        {
            return Some((self.take(row)?, Vec::new()));
        }
        let door = &Door { room, gathered: self.gathered() };
        if in_flight >= bound {
            let is_room = in_flight < bound.saturating_add(eighth(bound));
            let may_go = |road| {
                !door.gathers(Priority::Reader, road) && door.has_room(road, |limit| limit + eighth(limit))
            };
            let row = self.oldest(Priority::Reader, may_go).filter(|_| is_room)?;
            return self.take_with_others(row, door);
        }
        let may_go = |priority, road| {
            !door.gathers(priority, road)
                && match priority {
                    Priority::Refresh => in_flight < quarter(bound) && door.has_room(road, quarter),
                    Priority::Reader => door.has_room(road, |limit| limit + eighth(limit)),
                    _ => door.has_room(road, all),
                }
        };
        let row @ (priority, _) = self.due(door).or_else(|| {
            let guesses_first = room.broker_waits && self.before_logins + 1 < RESERVED_EVERY;
            let order = if guesses_first { Priority::WHILE_BROKER_WAITS } else { Priority::ALL };
            order.into_iter().find_map(|priority| self.oldest(priority, |road| may_go(priority, road)))
        })?;
        for (index, reserved) in RESERVED.into_iter().enumerate() {
            let waits = reserved != priority && !self.is_empty_at(reserved);
            self.passed_over[index] = if waits { self.passed_over[index] + 1 } else { 0 };
        }
        self.before_logins = match priority {
            Priority::Login => 0,
            Priority::Speculative if !self.is_empty_at(Priority::Login) => self.before_logins + 1,
            _ => self.before_logins,
        };
        self.take_with_others(row, door)
    }

    /// Takes the next question of a row, and if those on its road go together now, as many others as may go with it: the
    /// more urgent ones first.
    fn take_with_others(&mut self, row: Row, door: &Door<'_>) -> Option<(J, Vec<J>)> {
        let first = self.take(row)?;
        let mut others = Vec::new();
        let Some(together) = door.room.together.filter(|_| door.taken(row.1) == Road::Together) else {
            return Some((first, others));
        };
        let mut bytes = first.sent_bytes();
        // The broker does not wait for a crowd.
        for priority in Priority::ALL.into_iter().filter(|priority| *priority != Priority::Broker) {
            while others.len() + 1 < together.most
                && bytes + LONGEST_TOGETHER <= TOGETHER_BYTES
                && let Some(other) = self.take((priority, Road::Together))
            {
                bytes += other.sent_bytes();
                others.push(other);
            }
        }
        Some((first, others))
    }

    /// How many questions wait that may go together.
    fn gathered(&self) -> usize {
        let priorities = Priority::ALL.into_iter().filter(|priority| *priority != Priority::Broker);
        priorities.map(|priority| self.row((priority, Road::Together)).len()).sum()
    }

    /// Where a reserved share is due, if one is and there is room. It is due one question early, as both may be due at
    /// once.
    fn due(&self, door: &Door<'_>) -> Option<Row> {
        iter::zip(RESERVED, self.passed_over)
            .filter(|(_, passed_over)| *passed_over + RESERVED.len() >= RESERVED_EVERY)
            .filter_map(|(reserved, passed_over)| {
                let may_go = |road| !door.gathers(reserved, road) && door.has_room(road, all);
                Some((passed_over, self.oldest(reserved, may_go)?))
            })
            .max_by_key(|(passed_over, _)| *passed_over)
            .map(|(_, row)| row)
    }

    /// Of the roads that may be taken with this priority, the one whose oldest question has waited longest.
    fn oldest(&self, priority: Priority, may_go: impl Fn(Road) -> bool) -> Option<Row> {
        let since = |road| Some((self.row((priority, road)).oldest()?.1, road));
        let waiting = Road::ALL.into_iter().filter(|road| may_go(*road)).filter_map(since);
        waiting.min_by_key(|(since, _)| *since).map(|(_, road)| (priority, road))
    }

    /// How many questions wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no question waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn row(&self, (priority, road): Row) -> &FairQueue<J> {
        &self.rows[priority as usize][road as usize]
    }

    fn row_mut(&mut self, (priority, road): Row) -> &mut FairQueue<J> {
        &mut self.rows[priority as usize][road as usize]
    }

    fn is_empty_at(&self, priority: Priority) -> bool {
        self.rows[priority as usize].iter().all(FairQueue::is_empty)
    }

    fn take(&mut self, row: Row) -> Option<J> {
        let job = self.row_mut(row).pop()?;
        self.places.remove(&job.key());
        Some(job)
    }

    fn bytes(&self, priority: Priority) -> usize {
        self.rows[priority as usize].iter().map(FairQueue::bytes).sum()
    }

    fn rest_bytes(&self) -> usize {
        Priority::REST.iter().map(|priority| self.bytes(*priority)).sum()
    }

    /// Takes out the question that makes room within [`REST_BOUND`]: one of the priority that holds most bytes.
    fn shed(&mut self) -> Option<J> {
        // Of two that hold as much, the lower one.
        let heaviest = Priority::REST
            .into_iter()
            .max_by_key(|priority| (self.bytes(*priority), std::cmp::Reverse(*priority)))?;
        let road = Road::ALL.into_iter().max_by_key(|road| self.row((heaviest, *road)).bytes())?;
        self.row_mut((heaviest, road)).shed()
    }
}
