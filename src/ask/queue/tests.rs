use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::fingerprint::{Domain, Fingerprinter, Source};

/// Bytes that each question in these tests is charged.
const EACH: usize = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    number: u32,
    road: Road,
    source: Source,
    bytes: usize,
}

fn key(number: u32) -> Fingerprint {
    Fingerprinter::with_key(&[7; 16]).fields(Domain::Client, [&number.to_le_bytes()])
}

impl Queued for Job {
    fn key(&self) -> Fingerprint {
        key(self.number)
    }
    fn bytes(&self) -> usize {
        self.bytes - OVERHEAD
    }
    fn road(&self) -> Road {
        self.road
    }
    fn sent_bytes(&self) -> usize {
        self.bytes - OVERHEAD
    }
    fn source(&self) -> Source {
        self.source
    }
    fn ask_for(&mut self, source: Source) {
        self.source = source;
    }
}

fn source(network: u64, username: u64) -> Source {
    Source { network, username }
}

fn job(number: u32, address: u64, name: u64) -> Job {
    Job { number, road: Road::Login, source: source(address, name), bytes: EACH }
}

/// So many are being asked, all of them logins, and so many may be.
fn within(in_flight: usize, bound: usize) -> Room {
    Room {
        in_flight: (in_flight, bound),
        asked: [in_flight, 0, 0],
        limits: [bound; 3],
        broker_waits: false,
        together: None,
    }
}

/// Room for ten logins and twenty others.
fn small() -> Queue<Job> {
    Queue::new(10 * EACH, 20 * EACH)
}

fn numbers(jobs: impl IntoIterator<Item = Job>) -> Vec<u32> {
    jobs.into_iter().map(|job| job.number).collect()
}

/// Takes the next one, which goes alone.
fn pop(queue: &mut Queue<Job>, room: &Room) -> Option<Job> {
    let (job, others) = queue.pop(room)?;
    assert!(others.is_empty(), "{others:?}");
    Some(job)
}

fn taken(queue: &mut Queue<Job>) -> Vec<u32> {
    numbers(iter::from_fn(|| pop(queue, &within(0, 8))))
}

#[test]
fn the_higher_priority_goes_first() {
    let now = Instant::now();
    let mut queue = small();
    for (number, priority) in Priority::ALL.into_iter().rev().enumerate() {
        assert!(queue.push(job(number as u32, 1, 1), priority, now).is_empty());
    }
    assert_eq!(taken(&mut queue), [6, 5, 4, 3, 2, 1, 0]);
    assert!(queue.is_empty());
}

#[test]
fn what_the_broker_is_stopped_for_waits_for_nobody() {
    let now = Instant::now();
    let mut queue = small();
    for number in 0..10 {
        assert!(queue.push(job(number, 1, 1), Priority::Login, now).is_empty());
    }
    // In the order in which they came, whatever their source.
    for (number, address) in [(20, 1), (21, 1), (22, 2)] {
        assert!(queue.push(job(number, address, 1), Priority::Broker, now).is_empty());
    }
    assert_eq!(pop(&mut queue, &within(8, 8)).map(|job| job.number), Some(20));
    assert_eq!(pop(&mut queue, &within(9, 8)).map(|job| job.number), Some(21));
    assert_eq!(pop(&mut queue, &within(10, 8)), None, "a quarter more than the bound, and no more");
    assert_eq!(pop(&mut queue, &within(9, 8)).map(|job| job.number), Some(22));
    assert_eq!(pop(&mut queue, &within(8, 8)), None, "others keep the bound");
    assert_eq!(pop(&mut queue, &within(7, 8)).map(|job| job.number), Some(0));
}

#[test]
fn what_the_broker_will_be_stopped_for_next_goes_before_those_who_can_wait() {
    let now = Instant::now();
    let mut queue = small();
    for number in 0..4 {
        assert!(queue.push(job(number, 1, 1), Priority::Login, now).is_empty());
        assert!(queue.push(job(10 + number, 1, 1), Priority::Reader, now).is_empty());
    }
    assert!(queue.push(job(20, 1, 1), Priority::Broker, now).is_empty());
    let mut pop = |in_flight| pop(&mut queue, &within(in_flight, 16)).map(|job| job.number);
    assert_eq!(pop(19), Some(20));
    assert_eq!(pop(17), Some(10), "an eighth more than the bound");
    assert_eq!(pop(18), None, "the rest of the quarter is for what it is stopped for");
    assert_eq!([pop(15), pop(15), pop(15), pop(15)], [Some(11), Some(12), Some(13), Some(0)]);
}

/// What may be sent while so many are asked of an API for logins and one for topics that take so many.
fn of_each(asked: [usize; 2], limits: [usize; 2]) -> Room {
    let [asked, limits] = [asked, limits].map(|[logins, topics]| [logins, topics, 0]);
    Room { in_flight: (asked[0] + asked[1], 64), asked, limits, broker_waits: false, together: None }
}

#[test]
fn what_waits_for_one_api_does_not_hold_up_the_other() {
    let now = Instant::now();
    let topic = |number| Job { road: Road::Topic, ..job(number, 1, 1) };
    for priority in [Priority::Speculative, Priority::Refresh] {
        let mut queue = small();
        for number in 0..4 {
            assert!(queue.push(job(number, 1, 1), priority, now).is_empty());
            assert!(queue.push(topic(10 + number), priority, now).is_empty());
        }
        let mut pop = |asked| pop(&mut queue, &of_each(asked, [4, 64])).map(|job| job.number);
        assert_eq!(pop([4, 0]), Some(10), "{priority:?}");
        assert_eq!(pop([4, 1]), Some(11), "{priority:?}");
        assert_eq!(pop([4, 64]), None, "{priority:?}");
        // The one that has waited longest goes first, where there is room for both.
        assert_eq!(pop([0, 2]), Some(0), "{priority:?}");
    }
}

#[test]
fn what_the_broker_is_stopped_for_heeds_no_limit_of_an_api() {
    let now = Instant::now();
    let mut queue = small();
    assert!(queue.push(job(1, 1, 1), Priority::Login, now).is_empty());
    for number in 10..20 {
        assert!(queue.push(job(number, 1, 1), Priority::Broker, now).is_empty());
    }
    for asked in 4..14 {
        let sent = pop(&mut queue, &of_each([asked, 0], [4, 64])).map(|job| job.number);
        assert_eq!(sent, Some(asked as u32 + 6));
    }
    assert_eq!(pop(&mut queue, &of_each([4, 0], [4, 64])), None);
    assert_eq!(pop(&mut queue, &of_each([3, 0], [4, 64])).map(|job| job.number), Some(1));
}

#[test]
fn addresses_take_turns_and_so_do_names() {
    for priority in Priority::ALL.into_iter().skip(1) {
        let now = Instant::now();
        let mut queue = small();
        for number in 0..8 {
            assert!(queue.push(job(number, 1, u64::from(number / 7)), priority, now).is_empty());
        }
        assert!(queue.push(job(20, 2, 0), priority, now).is_empty());
        assert_eq!(taken(&mut queue)[..4], [0, 20, 7, 1], "{priority:?}");
    }
}

#[test]
fn revocations_and_refreshes_do_not_starve() {
    let now = Instant::now();
    let mut queue: Queue<Job> = Queue::default();
    for number in 0..1_000 {
        let priority = [Priority::Login, Priority::Speculative, Priority::Revoke, Priority::Refresh];
        assert!(queue.push(job(number, 1, 1), priority[number as usize % 4], now).is_empty());
    }
    // Also while most of the bound is in flight.
    let taken: Vec<u32> =
        iter::from_fn(|| pop(&mut queue, &within(63, 64))).map(|job| job.number % 4).collect();
    let waiting = |kind| taken.iter().rposition(|other| *other == kind).unwrap();
    for kind in [2, 3] {
        assert!(taken[..waiting(kind)].windows(RESERVED_EVERY).all(|turn| turn.contains(&kind)), "{taken:?}");
    }
    // The reserved shares take no more than they should from logins.
    let logins = taken[..300].iter().filter(|kind| **kind == 0).count();
    assert!(logins >= 300 * (RESERVED_EVERY - 3) / (RESERVED_EVERY - 1), "{logins}");
}

#[test]
fn while_the_broker_waits_what_it_asks_next_goes_before_logins() {
    let now = Instant::now();
    let mut queue: Queue<Job> = Queue::default();
    for number in 0..100 {
        let priority = [Priority::Login, Priority::Speculative][number as usize % 2];
        assert!(queue.push(job(number, 1, 1), priority, now).is_empty());
    }
    let mut logins = |broker_waits, count| {
        let room = Room { broker_waits, ..within(0, 64) };
        let taken = iter::from_fn(|| pop(&mut queue, &room)).take(count);
        taken.filter(|job| job.number % 2 == 0).count()
    };
    assert_eq!(logins(false, 8), 8);
    assert_eq!(logins(true, 3 * RESERVED_EVERY), 3, "and they do not starve");
    assert_eq!(logins(false, 8), 8);
}

#[test]
fn a_flood_of_logins_is_told_that_there_is_no_room() {
    let now = Instant::now();
    let mut queue = small();
    assert!(queue.push(job(100, 2, 1), Priority::Login, now).is_empty());
    let gone: Vec<Job> =
        (0..50).flat_map(|number| queue.push(job(number, 1, number.into()), Priority::Login, now)).collect();
    assert_eq!(gone.len(), 41);
    assert!(gone.iter().all(|job| job.source.network == 1), "nobody else goes for it");
    assert_eq!(queue.len(), 10);
    assert!(gone.iter().all(|job| queue.remove(job.key()).is_none()));
}

#[test]
fn each_kind_has_its_part_of_the_room_for_what_nobody_waits_for() {
    let now = Instant::now();
    let mut queue = small();
    for number in 0..5 {
        assert!(queue.push(job(number, 1, 1), Priority::Revoke, now).is_empty());
    }
    let flood =
        (100..150).flat_map(|number| queue.push(job(number, number.into(), 1), Priority::Warmup, now));
    assert_eq!(flood.count(), 35, "what others do not need is free to use");
    for number in 10..15 {
        let gone = queue.push(job(number, 1, 1), Priority::Refresh, now);
        assert!(gone.len() == 1 && gone[0].number >= 100, "and is given back");
    }
    assert_eq!(queue.len(), 20);
}

#[test]
fn a_question_is_raised_and_never_lowered() {
    let now = Instant::now();
    let mut queue = small();
    for number in 0..3 {
        assert!(queue.push(job(number, 1, 1), Priority::Speculative, now).is_empty());
    }
    assert!(queue.raise(key(2), Priority::Broker, now).is_empty());
    assert!(queue.raise(key(2), Priority::Login, now).is_empty());
    assert!(queue.raise(key(9), Priority::Login, now).is_empty(), "is not here");
    // A question that comes a second time raises the first one.
    assert_eq!(numbers(queue.push(job(1, 1, 1), Priority::Login, now)), [1]);
    assert_eq!(queue.len(), 3);
    assert_eq!(taken(&mut queue), [2, 1, 0]);
}

#[test]
fn whoever_has_waited_too_long_goes_in_order() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let mut queue = small();
    assert_eq!(queue.next_expiry(second), None);
    for number in 0..5 {
        assert!(
            queue.push(job(number, number.into(), 1), Priority::Login, start + second * number).is_empty()
        );
        assert!(queue.push(job(10 + number, 1, 1), Priority::Warmup, start).is_empty());
    }
    assert!(queue.remove(key(1)).is_some());
    assert_eq!(queue.next_expiry(3 * second), Some(start + 3 * second));
    assert_eq!(numbers(queue.expired(start + 6 * second, 3 * second)), [0, 2, 3]);
    assert_eq!(queue.next_expiry(3 * second), Some(start + 7 * second));
    assert_eq!(queue.len(), 6);
}

#[test]
fn what_was_forgotten_is_not_asked() {
    let now = Instant::now();
    let mut queue = small();
    for number in 0..3 {
        assert!(queue.push(job(number, 1, 1), Priority::Login, now).is_empty());
    }
    assert_eq!(queue.remove(key(1)).map(|job| job.number), Some(1));
    assert_eq!(queue.remove(key(1)), None);
    assert_eq!(taken(&mut queue), [0, 2]);
}

/// A search through all questions for each raise would take minutes.
#[test]
fn a_hundred_thousand_are_raised_in_no_time() {
    let now = Instant::now();
    let mut queue: Queue<Job> = Queue::new(usize::MAX, usize::MAX);
    for number in 0..100_000 {
        assert!(
            queue
                .push(job(number, u64::from(number % 1_000), number.into()), Priority::Speculative, now)
                .is_empty()
        );
    }
    let start = Instant::now();
    for number in (0..100_000).rev() {
        assert!(queue.raise(key(number), Priority::Login, now).is_empty());
    }
    // It takes some 100 ms on a quiet machine in a release build.
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 3 });
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    assert_eq!(queue.expired(now + Duration::from_secs(30), Duration::from_secs(30)).count(), 100_000);
    assert!(queue.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Push(Job, Priority),
    Raise(u32, Priority),
    Remove(u32),
    Pop(usize),
    Expire(u64),
}

const BOUND: usize = 8;

fn step() -> impl Strategy<Value = Step> {
    let priority = || prop::sample::select(&Priority::ALL[..]);
    let job = (0..60u32, 1..4u64, 0..3u64, OVERHEAD..2 * EACH);
    let job = job.prop_map(|(number, address, name, bytes)| Job {
        number,
        road: Road::Login,
        source: source(address, name),
        bytes,
    });
    prop_oneof![
        8 => (job, priority()).prop_map(|(job, priority)| Step::Push(job, priority)),
        2 => (0..60u32, priority()).prop_map(|(number, priority)| Step::Raise(number, priority)),
        1 => (0..60u32).prop_map(Step::Remove),
        5 => (0..12usize).prop_map(Step::Pop),
        1 => (0..40u64).prop_map(Step::Expire),
    ]
}

/// A question in the plain model.
#[derive(Debug, Clone, Copy)]
struct Item {
    job: Job,
    priority: Priority,
    since: Instant,
}

/// The plain model: questions in the order in which they came to their priority, and when each network and each
/// username in it had its last turn there.
#[derive(Default)]
struct Model {
    items: Vec<Item>,
    turns: HashMap<(Priority, Vec<u64>), u64>,
    clock: u64,
    /// The priorities that were taken, and for each reserved one whether a question of it waited then.
    history: Vec<(Priority, [bool; 2])>,
}

impl Model {
    fn source(item: &Item) -> [u64; 2] {
        if item.priority == Priority::Broker { [0; 2] } else { item.job.source.into() }
    }

    fn of(&self, priority: Priority, prefix: &[u64]) -> impl Iterator<Item = &Item> {
        self.items
            .iter()
            .filter(move |item| item.priority == priority && Self::source(item).starts_with(prefix))
    }

    fn bytes(&self, priority: Priority, prefix: &[u64]) -> usize {
        self.of(priority, prefix).map(|item| item.job.bytes).sum()
    }

    fn rest(&self) -> usize {
        Priority::REST.iter().map(|priority| self.bytes(*priority, &[])).sum()
    }

    fn add(&mut self, job: Job, priority: Priority, since: Instant) {
        self.clock += 1;
        let item = Item { job, priority, since };
        for length in 1..=2 {
            self.turns.entry((priority, Self::source(&item)[..length].to_vec())).or_insert(self.clock);
        }
        self.items.push(item);
    }

    fn remove(&mut self, number: u32) -> Option<Item> {
        let at = self.items.iter().position(|item| item.job.number == number)?;
        let item = self.items.remove(at);
        let items = &self.items;
        // A source without questions keeps no turn.
        self.turns.retain(|(priority, prefix), _| {
            items.iter().any(|item| item.priority == *priority && Self::source(item).starts_with(prefix))
        });
        Some(item)
    }

    /// Checks that these were the right ones to go, and removes them.
    fn shed(&mut self, gone: &[Job], logins_bound: usize, rest_bound: usize) {
        for job in gone {
            let item = *self.items.iter().find(|item| item.job == *job).unwrap();
            let priority = item.priority;
            if priority == Priority::Login {
                assert!(self.bytes(priority, &[]) > logins_bound);
            } else if priority == Priority::Reader {
                assert!(self.bytes(priority, &[]) > rest_bound / 2);
            } else {
                assert!(self.rest() > rest_bound);
                let most = Priority::REST.map(|other| self.bytes(other, &[])).into_iter().max();
                assert_eq!(Some(self.bytes(priority, &[])), most);
            }
            let [address, name] = job.source.into();
            assert_eq!(
                Some(self.bytes(priority, &[address])),
                (0..4).map(|a| self.bytes(priority, &[a])).max()
            );
            let names = (0..3).map(|name| self.bytes(priority, &[address, name]));
            assert_eq!(Some(self.bytes(priority, &[address, name])), names.max());
            assert_eq!(self.of(priority, &[address, name]).last().unwrap().job, *job, "the newest");
            self.remove(job.number);
        }
        assert!(self.bytes(Priority::Login, &[]) <= logins_bound && self.rest() <= rest_bound);
    }

    /// Takes the question of this priority whose turn it is.
    fn take(&mut self, priority: Priority) -> Option<Job> {
        self.clock += 1;
        let mut prefix: Vec<u64> = Vec::new();
        for length in 1..=2 {
            let of_prefix = |(kind, key): &&(Priority, Vec<u64>)| {
                *kind == priority && key.len() == length && key.starts_with(&prefix)
            };
            let next = self.turns.keys().filter(of_prefix).min_by_key(|key| self.turns[*key])?.clone();
            self.turns.insert(next.clone(), self.clock);
            prefix = next.1;
        }
        let job = self.of(priority, &prefix).next()?.job;
        self.remove(job.number);
        Some(job)
    }

    /// Checks that this was the right priority to take from, or that it was right to take none.
    fn check(&mut self, kind: Option<Priority>, in_flight: usize) {
        let waits = |priority| self.of(priority, &[]).next().is_some();
        let may_go = |priority| match priority {
            Priority::Broker => in_flight < BOUND + BOUND / 4,
            Priority::Reader => in_flight < BOUND + BOUND / 8,
            Priority::Refresh => in_flight < BOUND / 4,
            _ => in_flight < BOUND,
        };
        let first = Priority::ALL.into_iter().find(|priority| waits(*priority) && may_go(*priority));
        let reserved = [Priority::Revoke, Priority::Refresh];
        if kind != first {
            // It is a reserved share, which goes before all but the broker's questions.
            assert!(
                first != Some(Priority::Broker) && in_flight < BOUND && reserved.contains(&kind.unwrap())
            );
            let before = self.history.iter().rev().take_while(|(other, waited)| {
                Some(*other) != kind && waited[usize::from(kind == Some(Priority::Refresh))]
            });
            assert!(before.count() >= RESERVED_EVERY - 2);
        }
        let counts = |kind: &Priority| match kind {
            Priority::Broker => false,
            Priority::Reader => in_flight < BOUND,
            _ => true,
        };
        if let Some(kind) = kind.filter(counts) {
            self.history.push((kind, reserved.map(waits)));
        }
        for (index, reserved) in reserved.into_iter().enumerate() {
            let in_vain = |turn: &[(Priority, [bool; 2])]| {
                turn.iter().all(|(kind, waited)| *kind != reserved && waited[index])
            };
            assert!(
                !self.history.last_chunk::<RESERVED_EVERY>().is_some_and(|turn| in_vain(turn)),
                "starves"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Order, bounds and what is pushed out are as in a model that searches a list for everything.
    #[test]
    fn behaves_like_a_plain_list(steps in prop::collection::vec(step(), 0..300)) {
        let (logins, rest) = (10 * EACH, 30 * EACH);
        let mut queue = Queue::new(logins, rest);
        let mut model = Model::default();
        let mut now = Instant::now();
        let max_wait = Duration::from_secs(30);
        for step in steps {
            match step {
                Step::Push(job, priority) => {
                    let mut gone = queue.push(job, priority, now);
                    if let Some(known) = model.items.iter().find(|item| item.job.number == job.number).copied() {
                        prop_assert_eq!(gone.pop(), Some(job));
                        if known.priority < priority {
                            model.remove(job.number);
                            model.add(known.job, priority, now);
                        }
                    } else {
                        model.add(job, priority, now);
                    }
                    model.shed(&gone, logins, rest);
                }
                Step::Raise(number, priority) => {
                    let gone = queue.raise(key(number), priority, now);
                    let known = model.items.iter().find(|item| item.job.number == number).copied();
                    if let Some(known) = known.filter(|known| known.priority < priority) {
                        model.remove(number);
                        model.add(known.job, priority, now);
                    }
                    model.shed(&gone, logins, rest);
                }
                Step::Remove(number) => {
                    prop_assert_eq!(queue.remove(key(number)), model.remove(number).map(|item| item.job));
                }
                Step::Pop(in_flight) => {
                    let job = pop(&mut queue, &within(in_flight, BOUND));
                    let kind = job.map(|job| model.items.iter().find(|item| item.job == job).unwrap().priority);
                    model.check(kind, in_flight);
                    prop_assert_eq!(kind.and_then(|kind| model.take(kind)), job);
                }
                Step::Expire(seconds) => {
                    now += Duration::from_secs(seconds);
                    let expired: Vec<Job> = queue.expired(now, max_wait).collect();
                    let late: Vec<Job> = model
                        .of(Priority::Login, &[])
                        .filter(|item| now - item.since >= max_wait)
                        .map(|item| item.job)
                        .collect();
                    prop_assert_eq!(&expired, &late);
                    for job in late {
                        model.remove(job.number);
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.items.len());
            let next = model.of(Priority::Login, &[]).next().map(|item| item.since + max_wait);
            prop_assert_eq!(queue.next_expiry(max_wait), next);
        }
    }
}

#[test]
#[ignore]
#[allow(clippy::print_stdout, reason = "what it measures is read by people")]
fn oneoff_memory() {
    let rss = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    for (what, addresses) in [("own address each", 100_000u64), ("one address, own name each", 1)] {
        let before = rss();
        let now = Instant::now();
        let mut queue: Queue<Job> = Queue::new(usize::MAX, usize::MAX);
        for number in 0..100_000u32 {
            assert!(
                queue
                    .push(job(number, u64::from(number) % addresses, number.into()), Priority::Login, now)
                    .is_empty()
            );
        }
        println!("{what}: {} bytes each", (rss() - before) / 100_000);
        let start = Instant::now();
        for number in (0..100_000).rev() {
            assert!(queue.raise(key(number), Priority::Broker, now).is_empty());
        }
        println!("raised in {:?}", start.elapsed());
        let start = Instant::now();
        while pop(&mut queue, &within(0, 64)).is_some() {}
        println!("popped in {:?}", start.elapsed());
    }
}

#[test]
fn who_joins_a_question_does_not_wait_behind_the_flood_of_who_asked_first() {
    let now = Instant::now();
    let mut queue = small();
    for number in 0..5 {
        assert!(queue.push(job(number, 1, number.into()), Priority::Login, now).is_empty());
    }
    // Where no more waits from elsewhere it stays, and so it does the second time.
    assert!(queue.join(key(4), Priority::Login, source(1, 9), now).is_empty());
    for _ in 0..2 {
        assert!(queue.join(key(4), Priority::Login, source(2, 4), now).is_empty());
        assert!(queue.join(key(4), Priority::Login, source(3, 4), now).is_empty());
    }
    assert!(queue.join(key(7), Priority::Login, source(2, 4), now).is_empty(), "it has gone out already");
    assert_eq!(taken(&mut queue), [0, 4, 1, 2, 3]);
}

/// A topic that may go with others.
fn companion(number: u32, name: u64) -> Job {
    Job { road: Road::Together, ..job(number, 1, name) }
}

/// What may be sent where ten questions go together at most.
fn together(are_coming: bool, is_crowded: bool) -> Room {
    let together = Some(Together { most: 10, are_coming, is_crowded });
    Room { in_flight: (0, 64), asked: [0; 3], limits: [64; 3], broker_waits: false, together }
}

fn crowd(queue: &mut Queue<Job>, room: &Room) -> Vec<u32> {
    numbers(queue.pop(room).into_iter().flat_map(|(first, others)| iter::once(first).chain(others)))
}

#[test]
fn what_is_ready_goes_together_the_urgent_first_and_names_in_turn() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for (number, name) in [(0, 1), (1, 1), (2, 1), (3, 2)] {
        assert!(queue.push(companion(number, name), Priority::Speculative, now).is_empty());
    }
    assert!(queue.push(companion(4, 1), Priority::Refresh, now).is_empty());
    assert!(queue.push(companion(5, 1), Priority::Reader, now).is_empty());
    assert!(queue.push(companion(6, 1), Priority::Broker, now).is_empty());
    assert!(queue.push(Job { road: Road::Topic, ..job(7, 1, 1) }, Priority::Speculative, now).is_empty());
    assert!(queue.push(job(8, 1, 1), Priority::Login, now).is_empty());
    let room = together(false, false);
    assert_eq!(crowd(&mut queue, &room), [6], "the broker waits for nobody else's answer");
    assert_eq!(crowd(&mut queue, &room), [5, 0, 3, 1, 2, 4]);
    assert_eq!(crowd(&mut queue, &room), [8]);
    assert_eq!(crowd(&mut queue, &room), [7]);
    assert!(queue.is_empty());
}

#[test]
fn as_many_go_together_as_there_is_room_for() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for number in 0..25 {
        assert!(queue.push(companion(number, 1), Priority::Speculative, now).is_empty());
    }
    let room = together(false, false);
    let sizes = [(); 4].map(|()| crowd(&mut queue, &room).len());
    assert_eq!(sizes, [10, 10, 5, 0]);
    // And in bytes.
    let room = Room { together: Some(Together { most: 1_000, ..room.together.unwrap() }), ..room };
    for number in 0..100 {
        let question = Job { bytes: OVERHEAD + 4_000, ..companion(number, 1) };
        assert!(queue.push(question, Priority::Speculative, now).is_empty());
    }
    while !queue.is_empty() {
        let bytes = crowd(&mut queue, &room).len() * 4_000;
        assert!(
            bytes <= TOGETHER_BYTES && (bytes > TOGETHER_BYTES - 2 * LONGEST_TOGETHER || queue.is_empty())
        );
    }
}

#[test]
fn each_goes_alone_where_none_go_together_and_one_alone_takes_the_usual_road() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for number in 0..3 {
        assert!(queue.push(companion(number, 1), Priority::Speculative, now).is_empty());
    }
    let full = |road| Room { asked: road, limits: [4; 3], ..together(false, false) };
    assert!(crowd(&mut queue, &full([0, 0, 4])).is_empty(), "there is no room for a crowd");
    assert!(crowd(&mut queue, &Room { together: None, ..full([0, 4, 0]) }).is_empty());
    assert_eq!(crowd(&mut queue, &Room { together: None, ..full([0, 3, 4]) }), [0]);
    assert_eq!(crowd(&mut queue, &full([0, 4, 3])), [1, 2]);
    assert!(queue.push(companion(9, 1), Priority::Speculative, now).is_empty());
    assert!(crowd(&mut queue, &full([0, 4, 0])).is_empty());
    assert_eq!(crowd(&mut queue, &full([0, 3, 4])), [9]);
}

#[test]
fn questions_gather_while_more_come_or_a_few_requests_are_on_their_way() {
    let now = Instant::now();
    let mut queue = Queue::default();
    assert!(queue.push(companion(0, 1), Priority::Speculative, now).is_empty());
    assert!(queue.push(companion(1, 1), Priority::Warmup, now).is_empty());
    for room in [together(true, false), together(false, true)] {
        assert!(crowd(&mut queue, &room).is_empty());
    }
    assert!(queue.push(companion(2, 1), Priority::Reader, now).is_empty());
    assert!(crowd(&mut queue, &together(true, false)).is_empty(), "a reader comes with others");
    assert_eq!(crowd(&mut queue, &together(false, true)), [2, 1, 0], "but the broker comes to it next");
    for number in 0..10 {
        assert!(crowd(&mut queue, &together(true, true)).is_empty());
        assert!(queue.push(companion(number, 1), Priority::Refresh, now).is_empty());
    }
    assert_eq!(crowd(&mut queue, &together(true, true)).len(), 10, "they fill a request");
}
