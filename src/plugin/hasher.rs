//! A thread for password hashes that take long on purpose: 50 ms of computing in front of the broker's loop would stop
//! every client, and on the worker's thread every request.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::broker::Spawn;
use crate::fingerprint::Source;
use crate::local::PasswordHash;
use crate::util::Lock;
use crate::util::fair::{FairQueue, OVERHEAD};
use crate::util::panics::caught;

/// Bytes that waiting checks may take: some 600 checks with short passwords. At 50 ms each, as many can be made in the
/// 30 s that clients wait.
const BOUND: usize = 1 << 20;

/// A password to compare with the hash of a local user.
pub struct Check<T> {
    /// Names the client that the answer is for.
    pub ticket: T,
    /// The client's network and username. Networks share the thread's time fairly, and so do the usernames within one.
    pub source: Source,
    /// The hash of the local user's password.
    pub hash: Arc<PasswordHash>,
    /// The password that the client has sent.
    pub password: Vec<u8>,
}

impl<T> Check<T> {
    fn bytes(&self) -> usize {
        OVERHEAD + size_of::<Self>() + self.password.capacity()
    }
}

/// The running thread. Dropping it waits for the check that is being made, and drops those that wait.
pub struct Hasher<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    checks: Lock<FairQueue<Check<T>>>,
    stopping: AtomicBool,
}

impl<T: Send + 'static> Hasher<T> {
    /// Starts the thread. It calls `answer` for each check, with the ticket and whether the password matches.
    ///
    /// # Errors
    /// The system's error if it gives no thread.
    pub fn start(spawn: Spawn<'_>, answer: impl Fn(T, bool) + Send + 'static) -> io::Result<Self> {
        Self::start_with(spawn, |check| check.hash.verify(&check.password), answer)
    }

    fn start_with(
        spawn: Spawn<'_>,
        matches: impl Fn(&Check<T>) -> bool + Send + 'static,
        answer: impl Fn(T, bool) + Send + 'static,
    ) -> io::Result<Self> {
        let checks = Lock::new(FairQueue::new(BOUND));
        let shared = Arc::new(Shared { checks, stopping: AtomicBool::new(false) });
        let in_thread = Arc::clone(&shared);
        let thread = spawn(Box::new(move || in_thread.work(matches, answer)))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Queues a check, and returns the checks that have no room any more, which may include the new one.
    pub fn check(&self, check: Check<T>, now: Instant) -> Vec<Check<T>> {
        let (source, bytes) = (check.source, check.bytes());
        let (_, displaced) = self.shared.checks.lock().push(source.into(), bytes, check, now);
        self.wake();
        displaced
    }
}

impl<T> Hasher<T> {
    /// Has the thread look at the queue and at `stopping`, if it sleeps.
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl<T> Drop for Hasher<T> {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<T> Shared<T> {
    /// Makes checks until it is told to stop.
    fn work(&self, matches: impl Fn(&Check<T>) -> bool, answer: impl Fn(T, bool)) {
        while !self.stopping.load(Ordering::Acquire) {
            let next = self.checks.lock().pop();
            let Some(check) = next else {
                // If the thread was woken since it looked, `park` returns at once.
                thread::park();
                continue;
            };
            let matches = caught(|| matches(&check)).unwrap_or(false);
            answer(check.ticket, matches);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    const SPAWN: Spawn<'_> = &|body| thread::Builder::new().spawn(body);

    /// The hash of the password `secret`.
    const HASH: &str = "$7$1$c2FsdHNhbHRzYWx0$\
        eEQE09QBPMVlC6F6I+JOT5AREPxo7WTSC595bdeT7GqK1vngZV1aMKZRgnpzpOxxVdIS7OsQ/GOpQoVDdlPd6Q==";

    fn check(address: u8, name: u8, password: &str) -> Check<String> {
        let source = Source { network: address.into(), username: name.into() };
        let hash = Arc::new(PasswordHash::parse(HASH).unwrap());
        Check { ticket: password.to_owned(), source, hash, password: password.as_bytes().to_owned() }
    }

    /// A hasher that says what it begins and goes on when it is told to.
    struct Scene {
        /// Before the hasher, which waits for the check at hand when it is dropped.
        go_on: Sender<()>,
        hasher: Hasher<String>,
        begun: Receiver<String>,
        answers: Receiver<(String, bool)>,
    }

    impl Scene {
        fn new() -> Self {
            let ((begins, begun), (go_on, may_go_on), (answer, answers)) = (channel(), channel(), channel());
            let matches = move |check: &Check<String>| {
                let _ = begins.send(check.ticket.clone());
                let _ = may_go_on.recv();
                assert_ne!(check.ticket, "panic");
                check.ticket == "right"
            };
            let answer = move |ticket, matches| drop(answer.send((ticket, matches)));
            Self { go_on, hasher: Hasher::start_with(SPAWN, matches, answer).unwrap(), begun, answers }
        }

        /// Has a first check begin, so that others wait.
        fn occupied() -> Self {
            let scene = Self::new();
            scene.push(check(0, 0, "first"));
            assert_eq!(scene.begun.recv().unwrap(), "first");
            scene
        }

        fn push(&self, check: Check<String>) {
            assert!(self.hasher.check(check, Instant::now()).is_empty());
        }

        fn answers(&self, many: usize) -> Vec<(String, bool)> {
            let one = |_| {
                self.go_on.send(()).unwrap();
                self.answers.recv_timeout(Duration::from_secs(10)).unwrap()
            };
            (0..many).map(one).collect()
        }
    }

    #[test]
    fn passwords_are_compared_with_their_hashes() {
        let (answer, answers) = channel();
        let answer = move |ticket, matches| drop(answer.send((ticket, matches)));
        let hasher = Hasher::start(SPAWN, answer).unwrap();
        for (password, matches) in [("secret", true), ("guess", false)] {
            assert!(hasher.check(check(1, 1, password), Instant::now()).is_empty());
            let answer = answers.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(answer, (password.to_owned(), matches));
        }
    }

    #[test]
    fn a_crowd_of_guesses_keeps_nobody_else_waiting_for_more_than_one_of_them() {
        let scene = Scene::occupied();
        for n in 0..200 {
            scene.push(check(1, 1, &format!("guess {n}")));
        }
        scene.push(check(1, 2, "same address"));
        scene.push(check(2, 1, "right"));
        let answers = scene.answers(5);
        let order: Vec<&str> = answers.iter().map(|(ticket, _)| ticket.as_str()).collect();
        assert_eq!(order, ["first", "guess 0", "right", "same address", "guess 1"]);
        assert!(answers.iter().all(|(ticket, matches)| *matches == (ticket == "right")));
    }

    #[test]
    fn a_full_queue_gives_back_the_newest_check_of_whoever_has_most_in_it() {
        let scene = Scene::occupied();
        let big = "x".repeat(BOUND / 10);
        for _ in 0..9 {
            scene.push(check(1, 1, &big));
        }
        let displaced = scene.hasher.check(check(1, 1, &format!("{big} more")), Instant::now());
        assert_eq!(displaced.len(), 1);
        assert!(displaced[0].ticket.ends_with("more"));
        scene.push(check(2, 1, "small"));
        let displaced = scene.hasher.check(check(2, 1, &big), Instant::now());
        assert!(displaced.iter().all(|check| check.source == displaced[0].source));
        assert_eq!(displaced[0].ticket, big);
    }

    #[test]
    fn a_panic_in_a_check_is_no_match_and_the_next_is_made() {
        let scene = Scene::new();
        scene.push(check(1, 1, "panic"));
        scene.push(check(1, 1, "right"));
        let answers = scene.answers(2);
        assert_eq!(answers, [("panic".to_owned(), false), ("right".to_owned(), true)]);
    }

    #[test]
    fn stopping_waits_for_the_check_at_hand_and_drops_the_others() {
        let scene = Scene::occupied();
        scene.push(check(1, 1, "never"));
        scene.hasher.shared.stopping.store(true, Ordering::Release);
        scene.go_on.send(()).unwrap();
        drop(scene.hasher);
        assert_eq!(scene.answers.iter().collect::<Vec<_>>(), [("first".to_owned(), false)]);
        assert!(scene.begun.iter().next().is_none());
    }
}
