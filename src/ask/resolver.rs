//! Names and their addresses, as the system finds them (getaddrinfo(3)) and as they are remembered.
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::broker::{Family, LookUp};
use crate::util::{Lock, sleep_until};

/// How long addresses count, and how old they are when a use of them has them looked up again beside it: who asks all
/// the time never waits.
const REMEMBERED: Duration = Duration::from_secs(30);
const RENEWED: Duration = Duration::from_secs(20);

/// How long new addresses are waited for where there are old ones.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long both families of addresses are waited for before IPv4 is looked up alone beside them: some name servers
/// never answer about IPv6, for which the system waits many seconds. The sources and their order are the same.
const BOTH_FAMILIES: Duration = Duration::from_millis(150);

/// How long a look-up is waited for before it is begun once more beside it: name servers may have been set up meanwhile,
/// as while a machine boots, and one that began before asks the old ones to the end.
const ONCE_MORE: Duration = Duration::from_secs(1);

/// The most threads that are at look-ups of one name.
const MOST_THREADS: usize = 4;

/// The shortest time between look-ups of one name for connections that could not be made, and between one choice of its addresses
/// and the next.
const DISTRUST: Duration = Duration::from_secs(1);

/// Addresses of each family that are tried for one connection: they share its time. A name may have twenty of them.
const AT_ONCE: usize = 2;

type Spawn = dyn Fn(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> + Send + Sync;

/// Names that are kept. APIs have a handful, but whoever speaks for a shared cache can name a new server each time.
const KEPT: usize = 256;

/// The names that were looked up, each by a few threads at most. They cannot be stopped: a thread may be at it when the
/// plugin has ended. That is sound, since the library stays mapped (`-z nodelete` in build.rs), and the
/// thread uses nothing but the name's own [`HostName`].
#[derive(Clone)]
pub struct Resolver {
    spawn: Arc<Spawn>,
    look_up: LookUp,
    known: Arc<Lock<HashMap<String, Arc<HostName>>>>,
}

#[derive(Default)]
struct HostName {
    state: Lock<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What was found last, and when.
    found: Option<(Vec<IpAddr>, Instant)>,
    /// The addresses may be out of date: no connection to them came about.
    is_distrusted: bool,
    /// How often others were chosen among the addresses since that was so, and when last.
    choice: usize,
    chosen: Option<Instant>,
    /// The look-ups until now.
    round: u64,
    /// When the last began.
    began: Option<Instant>,
    /// The threads that are at it.
    running: usize,
    /// Whether IPv4 is looked up alone, too.
    has_split: bool,
    /// Whether it has found addresses of both families, if it has found any.
    has_both: bool,
    /// Why it has found nothing.
    failure: Option<String>,
}

/// What there is for somebody who wants addresses.
#[derive(Debug, PartialEq, Eq)]
enum Now {
    These(Vec<IpAddr>),
    None(String),
    /// Nothing before this moment, unless something changes.
    Wait(Option<Instant>),
}

impl Resolver {
    /// Knows none yet, and will look them up on threads that `spawn` starts.
    pub fn new(
        spawn: impl Fn(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> + Send + Sync + 'static,
        look_up: LookUp,
    ) -> Self {
        Self { spawn: Arc::new(spawn), look_up, known: Arc::default() }
    }

    /// The addresses of a name. Ones that are old serve while a look-up fails or takes long.
    ///
    /// # Errors
    /// Why there are none, in words for the operator.
    pub(in crate::ask) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let entry = self.entry(name);
        let came = Instant::now();
        let mut awaited = None;
        loop {
            let mut changed = std::pin::pin!(entry.changed.notified());
            changed.as_mut().enable();
            let next = match self.look(name, &entry, &mut awaited, came, Instant::now()) {
                Now::These(addresses) => return Ok(addresses),
                Now::None(why) => return Err(why),
                Now::Wait(next) => next,
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// A connection to the addresses of this name, which `began` then, could not be made: they are looked up again, and others
    /// of them are tried.
    pub(in crate::ask) fn distrust(&self, name: &str, began: Instant) {
        let entry = self.known.lock().get(name).map(Arc::clone);
        if let Some(entry) = entry {
            entry.state.lock().distrust(began, Instant::now());
        }
    }

    /// The same for other names, which take no room from these.
    pub(super) fn apart(&self) -> Self {
        Self { known: Arc::default(), ..self.clone() }
    }

    fn entry(&self, name: &str) -> Arc<HostName> {
        let mut known = self.known.lock();
        if known.len() >= KEPT && !known.contains_key(name) {
            // Where somebody waits, or a thread is at it, there is another holder.
            known.retain(|_, name| Arc::strong_count(name) > 1 || name.state.lock().found.is_some());
            if known.len() >= KEPT {
                known.retain(|_, name| Arc::strong_count(name) > 1);
            }
        }
        Arc::clone(known.entry(name.to_owned()).or_default())
    }

    /// What there is `now` for somebody who `came` then and has `awaited` this look-up.
    fn look(
        &self,
        name: &str,
        entry: &Arc<HostName>,
        awaited: &mut Option<u64>,
        came: Instant,
        now: Instant,
    ) -> Now {
        let mut state = entry.state.lock();
        let age = state.found.as_ref().map(|(_, at)| now.saturating_duration_since(*at));
        let is_good = |age| age < if state.is_distrusted { DISTRUST } else { REMEMBERED };
        let is_known = age.is_some_and(is_good);
        let is_over = state.running == 0 && *awaited == Some(state.round);
        if state.running == 0 && !is_over && age.is_none_or(|age| !is_known || age >= RENEWED) {
            state.begin(now);
            if !self.start(name, entry, Family::Any) {
                state.running = 0;
                state.failure = Some("no thread to look names up with".to_owned());
            }
        }
        *awaited = Some(state.round);
        let in_vain_until = came + PATIENCE;
        if let Some((addresses, _)) = &state.found
            && (is_known || state.running == 0 || now >= in_vain_until)
        {
            return Now::These(chosen(addresses, state.choice));
        }
        if state.running == 0 {
            return Now::None(state.failure.clone().unwrap_or_default());
        }
        if let Some(began) = state.began {
            if !state.has_split && now >= began + BOTH_FAMILIES {
                state.has_split = true;
                state.running += usize::from(self.start(name, entry, Family::V4));
            }
            if now >= began + ONCE_MORE && state.running < MOST_THREADS {
                state.began = Some(now);
                state.running += usize::from(self.start(name, entry, Family::Any));
            }
        }
        let in_vain_until = state.found.as_ref().map(|_| in_vain_until);
        Now::Wait(state.next_start().into_iter().chain(in_vain_until).min())
    }

    /// Starts a thread that looks a name up. Returns whether there is one.
    fn start(&self, name: &str, entry: &Arc<HostName>, family: Family) -> bool {
        let (look_up, entry, name) = (self.look_up, Arc::clone(entry), name.to_owned());
        let looking_up = move || {
            let result = look_up(&name, family);
            entry.state.lock().end(family, result, Instant::now());
            entry.changed.notify_waiters();
        };
        // Nobody waits for the thread's end.
        (self.spawn)(Box::new(looking_up)).is_ok()
    }
}

/// The addresses that are tried for one connection: a few of each family, others with each choice.
fn chosen(addresses: &[IpAddr], choice: usize) -> Vec<IpAddr> {
    let of_first = |address: &IpAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let (preferred, others): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(of_first);
    let some_of = |family: Vec<IpAddr>| {
        let start = (choice * AT_ONCE) % family.len().max(1);
        let count = family.len().min(AT_ONCE);
        family.into_iter().cycle().skip(start).take(count)
    };
    some_of(preferred).chain(some_of(others)).collect()
}

impl State {
    /// No connection came about that `began` then. Those that are tried by now may be others, so they have some time, and what
    /// began before says nothing of them.
    fn distrust(&mut self, began: Instant, now: Instant) {
        self.is_distrusted = true;
        let is_of_these = |at: Instant| began >= at && now.saturating_duration_since(at) >= DISTRUST;
        if self.chosen.is_none_or(is_of_these) {
            self.choice = self.choice.wrapping_add(1);
            self.chosen = Some(now);
        }
    }

    /// A look-up begins.
    fn begin(&mut self, now: Instant) {
        self.round += 1;
        self.began = Some(now);
        self.running = 1;
        (self.has_split, self.has_both, self.failure) = (false, false, None);
    }

    /// When another thread is to start, if none ends before.
    fn next_start(&self) -> Option<Instant> {
        let began = self.began?;
        match (self.has_split, self.running < MOST_THREADS) {
            (false, _) => Some(began + BOTH_FAMILIES),
            (true, true) => Some(began + ONCE_MORE),
            (true, false) => None,
        }
    }

    /// A thread has ended its look-up.
    fn end(&mut self, family: Family, result: Result<Vec<IpAddr>, String>, now: Instant) {
        self.running = self.running.saturating_sub(1);
        match result {
            Ok(addresses) if !addresses.is_empty() => {
                if family == Family::Any || !self.has_both {
                    self.found = Some((addresses, now));
                }
                self.has_both |= family == Family::Any;
                self.is_distrusted = false;
            }
            Ok(_) => {}
            // What is said of both says more.
            Err(why) if family == Family::Any || self.failure.is_none() => self.failure = Some(why),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A name whose look-ups end when the test says so.
    struct Book {
        resolver: Resolver,
        entry: Arc<HostName>,
        threads: Arc<Lock<usize>>,
        start: Instant,
    }

    impl Book {
        fn new() -> Self {
            let threads = Arc::new(Lock::new(0));
            let started = Arc::clone(&threads);
            let spawn = move |_| {
                *started.lock() += 1;
                std::thread::Builder::new().spawn(|| {})
            };
            let resolver = Resolver::new(spawn, |_, _| Err("is not called".to_owned()));
            Self { resolver, entry: Arc::default(), threads, start: Instant::now() }
        }

        /// What somebody gets at this time who comes then.
        fn ask(&self, after: Duration) -> Now {
            self.ask_again(after, after, &mut None)
        }

        fn ask_again(&self, came: Duration, after: Duration, awaited: &mut Option<u64>) -> Now {
            self.resolver.look("api", &self.entry, awaited, self.start + came, self.start + after)
        }

        fn end(&self, family: Family, result: Result<Vec<IpAddr>, String>, after: Duration) {
            self.entry.state.lock().end(family, result, self.start + after);
        }

        fn threads(&self) -> usize {
            *self.threads.lock()
        }
    }

    fn one() -> Vec<IpAddr> {
        vec![IpAddr::from([192, 0, 2, 1])]
    }

    fn other() -> Vec<IpAddr> {
        vec![IpAddr::from([192, 0, 2, 2])]
    }

    fn failure() -> Result<Vec<IpAddr>, String> {
        Err("no name server".to_owned())
    }

    #[test]
    fn of_many_addresses_a_few_are_tried_and_others_when_none_of_these_answers() {
        let v4 = |n: u8| IpAddr::from([192, 0, 2, n]);
        let v6 = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        let few = [v6(1), v4(1), v4(2)];
        assert_eq!([chosen(&few, 0), chosen(&few, 1)], [few.to_vec(), few.to_vec()]);
        let many: Vec<_> = (1..=5).map(v4).chain([v6(1)]).collect();
        let tried = |choice| chosen(&many, choice);
        assert_eq!(tried(0), [v4(1), v4(2), v6(1)]);
        assert_eq!(tried(1), [v4(3), v4(4), v6(1)]);
        assert_eq!(tried(2), [v4(5), v4(1), v6(1)]);
        assert!(chosen(&[], 1).is_empty());
        // Those who fail together choose once.
        let (mut state, start) = (State::default(), Instant::now());
        (0..64).for_each(|_| state.distrust(start, start));
        assert_eq!((state.choice, state.is_distrusted), (1, true));
        let before = start.checked_sub(DISTRUST).unwrap();
        state.distrust(before, start + DISTRUST);
        assert_eq!(state.choice, 1, "that one was on its way to the ones before");
        state.distrust(start, start + DISTRUST);
        assert_eq!(state.choice, 2);
    }

    #[test]
    fn all_who_want_a_name_share_a_look_up() {
        let book = Book::new();
        for _ in 0..100 {
            assert!(matches!(book.ask(Duration::ZERO), Now::Wait(Some(_))));
        }
        assert_eq!(book.threads(), 1);
        book.end(Family::Any, Ok(one()), SECOND);
        assert_eq!(book.ask(SECOND), Now::These(one()));
    }

    #[test]
    fn nobody_waits_for_a_name_that_is_in_use() {
        let book = Book::new();
        book.ask(Duration::ZERO);
        book.end(Family::Any, Ok(one()), Duration::ZERO);
        assert_eq!(book.ask(19 * SECOND), Now::These(one()));
        assert_eq!(book.threads(), 1);
        assert_eq!(book.ask(21 * SECOND), Now::These(one()));
        assert_eq!(book.ask(22 * SECOND), Now::These(one()));
        assert_eq!(book.threads(), 2, "it is looked up again meanwhile");
        book.end(Family::Any, Ok(other()), 23 * SECOND);
        assert_eq!(book.ask(23 * SECOND), Now::These(other()));
    }

    #[test]
    fn what_is_old_is_looked_up_first_and_serves_while_that_fails() {
        let book = Book::new();
        book.ask(Duration::ZERO);
        book.end(Family::Any, Ok(one()), Duration::ZERO);
        let came = 100 * SECOND;
        let mut awaited = None;
        assert!(matches!(book.ask_again(came, came, &mut awaited), Now::Wait(Some(_))));
        // While it takes long, and when it has failed.
        assert_eq!(book.ask_again(came, came + PATIENCE, &mut awaited), Now::These(one()));
        book.end(Family::Any, failure(), came + SECOND);
        assert_eq!(book.ask_again(came, came + SECOND, &mut awaited), Now::These(one()));
        // The next has it looked up once more.
        let before = book.threads();
        assert!(matches!(book.ask(came + 2 * SECOND), Now::Wait(_)));
        assert_eq!(book.threads(), before + 1);
        book.end(Family::Any, Ok(other()), came + 3 * SECOND);
        assert_eq!(book.ask(came + 3 * SECOND), Now::These(other()));
    }

    #[test]
    fn a_name_without_an_address_is_told_and_looked_up_again() {
        let book = Book::new();
        let mut awaited = None;
        book.ask_again(Duration::ZERO, Duration::ZERO, &mut awaited);
        book.end(Family::Any, failure(), SECOND);
        assert_eq!(
            book.ask_again(Duration::ZERO, SECOND, &mut awaited),
            Now::None("no name server".to_owned())
        );
        assert!(matches!(book.ask(SECOND), Now::Wait(_)));
        assert_eq!(book.threads(), 2);
    }

    #[test]
    fn ipv4_alone_is_looked_up_where_both_take_long_and_counts_until_both_are_there() {
        let book = Book::new();
        let mut awaited = None;
        let split = BOTH_FAMILIES;
        assert_eq!(
            book.ask_again(Duration::ZERO, Duration::ZERO, &mut awaited),
            Now::Wait(Some(book.start + split))
        );
        assert_eq!(
            book.ask_again(Duration::ZERO, split, &mut awaited),
            Now::Wait(Some(book.start + ONCE_MORE))
        );
        assert_eq!(book.threads(), 2);
        book.end(Family::V4, Ok(one()), split);
        assert_eq!(book.ask_again(Duration::ZERO, split, &mut awaited), Now::These(one()));
        book.end(Family::Any, Ok(other()), 10 * SECOND);
        assert_eq!(book.ask(10 * SECOND), Now::These(other()));
        assert_eq!(book.threads(), 2);
    }

    #[test]
    fn a_look_up_that_takes_long_is_begun_again_and_not_without_end() {
        let book = Book::new();
        for number in 0..100 {
            assert!(matches!(book.ask(number * SECOND), Now::Wait(_)));
        }
        assert_eq!(book.threads(), MOST_THREADS);
        book.end(Family::Any, Ok(one()), 100 * SECOND);
        assert_eq!(book.ask(100 * SECOND), Now::These(one()));
        for _ in 1..MOST_THREADS {
            book.end(Family::Any, failure(), 101 * SECOND);
        }
        assert_eq!(book.ask(102 * SECOND), Now::These(one()));
    }

    #[test]
    fn an_address_that_does_not_connect_is_looked_up_again_soon() {
        let book = Book::new();
        book.ask(Duration::ZERO);
        book.end(Family::Any, Ok(one()), Duration::ZERO);
        book.entry.state.lock().is_distrusted = true;
        assert_eq!(book.ask(SECOND / 2), Now::These(one()), "not at every failure");
        assert_eq!(book.threads(), 1);
        assert!(matches!(book.ask(2 * SECOND), Now::Wait(_)));
        assert_eq!(book.threads(), 2);
    }

    #[test]
    fn no_more_names_are_kept_than_there_is_room_for() {
        let Book { resolver, .. } = Book::new();
        let (awaited, good) = (resolver.entry("awaited"), "good".to_owned());
        resolver.entry(&good).state.lock().found = Some((Vec::new(), Instant::now()));
        (0..2 * KEPT).for_each(|number| drop(resolver.entry(&number.to_string())));
        let known = resolver.known.lock();
        assert!(known.len() <= KEPT && known.contains_key(&good), "{} are kept", known.len());
        assert!(known.get("awaited").is_some_and(|known| Arc::ptr_eq(known, &awaited)));
    }
}
