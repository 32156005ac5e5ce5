//! The beginnings of many tests: APIs that allow everything or answer by name, a gate that holds their answers back, local
//! users, a bystander, and functions that run tests side by side and measure times.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::broker::is_absent;
use super::{Broker, Client, Connect, MockApi, PATIENCE, Reply, Request, api, eventually};

/// A password file of `mosquitto_passwd` 2.0.11. All users but `with space` have the password [`PASSWORD`].
pub const PASSWD_2_0_11: &str = include_str!("../fixtures/passwd-2.0.11");
/// A password file of `mosquitto_passwd` 2.0.21, with the users of [`PASSWD_2_0_11`].
pub const PASSWD_2_0_21: &str = include_str!("../fixtures/passwd-2.0.21");
/// A password file of `mosquitto_passwd` 2.1, with the users of [`PASSWD_2_0_11`].
pub const PASSWD_2_1: &str = include_str!("../fixtures/passwd-2.1");
/// A password file with argon2id hashes of [`PASSWORD`].
pub const PASSWD_ARGON2ID: &str = include_str!("../fixtures/passwd-argon2id");

/// The password of the local users in tests.
pub const PASSWORD: &str = "correct horse";

/// The hash of a user in a password file.
pub fn hash_in<'f>(file: &'f str, name: &str) -> &'f str {
    let mut users = file.lines().filter_map(|line| line.rsplit_once(':'));
    users.find_map(|(user, hash)| (user == name).then_some(hash)).expect("a user of the file")
}

/// The `NAME:HASH` of a local user with the password [`PASSWORD`] and a hash that is quick to check. The brokers'
/// password files and the option `user` both take it.
pub fn local_user(name: &str) -> String {
    format!("{name}:{}", hash_in(PASSWD_2_0_11, "sha512"))
}

/// An API that allows everything.
pub fn friendly_api() -> MockApi {
    let api = api("");
    api.answer(Reply::status(200));
    api
}

/// Topics below `no/` are denied, and the password `wrong` is.
pub fn by_name(request: &Request) -> Reply {
    let denied = request.field("topic").starts_with("no/") || request.field("password") == "wrong";
    Reply::status(if denied { 403 } else { 200 })
}

/// An API that answers [`by_name`].
pub fn api_by_name() -> MockApi {
    let api = api("");
    api.answer_with(by_name);
    api
}

/// Holds back answers of an API while it is closed. It is open when it is dropped.
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// From now on the API gives this answer, but not yet.
    pub fn in_front_of(api: &MockApi, reply: Reply) -> Self {
        Self::holding(api, |_| true, move |_| reply.clone())
    }

    /// From now on the API gives these answers, but not yet to the questions that `is_held` is true of.
    pub fn holding(
        api: &MockApi,
        is_held: impl Fn(&Request) -> bool + Send + Sync + 'static,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let is_open = Arc::new(AtomicBool::new(false));
        let gate = Self(Arc::clone(&is_open));
        api.answer_with(move |request| {
            if is_held(request) {
                eventually(3 * PATIENCE, || is_open.load(Ordering::Relaxed));
            }
            reply(request)
        });
        gate
    }

    pub fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn close(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

/// Has an API refuse this username as soon as the flag is set, and as long as it is.
pub fn revocable(api: &MockApi, name: &'static str) -> Arc<AtomicBool> {
    let is_revoked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_revoked);
    api.answer_with(move |request| {
        let is_refused = flag.load(Ordering::Relaxed) && request.field("username") == name;
        Reply::status(if is_refused { 403 } else { 200 })
    });
    is_revoked
}

/// The topics of the READ questions about a client, sorted.
pub fn read_by(api: &MockApi, client_id: &str) -> Vec<String> {
    const READ: u64 = 1;
    let is_it = |request: &&Request| request.acc() == READ && request.field("clientid") == client_id;
    let mut topics: Vec<_> =
        api.topic_checks().iter().filter(is_it).map(|request| request.field("topic").to_owned()).collect();
    topics.sort();
    topics
}

/// How a client connects whose id and username are this name.
pub fn login(name: &str) -> Connect {
    Connect::v5(name).login(name, "secret")
}

/// A client whose id and username are this name.
pub fn log_in(broker: &Broker, name: &str) -> Client {
    login(name).accepted(broker.port())
}

/// A client whose pings show how long the broker stands still.
pub fn bystander(broker: &Broker, username: &str, password: &str) -> Client {
    Connect::v3("bystander").login(username, password).accepted(broker.port())
}

/// Runs `action`, and returns its result and how long it took.
pub fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = action();
    (result, start.elapsed())
}

/// Runs one test with each of these cases, side by side. A failure names the cases that failed. Cases of a broker that
/// is not here are left out, unless there are no others.
pub fn side_by_side<T: Copy + Debug + Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    let failed: Vec<T> = thread::scope(|scope| {
        let start = |case: T| {
            let thread = thread::Builder::new().name(format!("{case:?}"));
            (case, thread.spawn_scoped(scope, move || test(case)).unwrap())
        };
        let (absent, present): (Vec<T>, Vec<T>) =
            cases.into_iter().partition(|case| is_absent(&format!("{case:?}")));
        let run = if present.is_empty() { absent } else { present };
        let runs: Vec<_> = run.into_iter().map(start).collect();
        runs.into_iter().filter_map(|(case, run)| run.join().is_err().then_some(case)).collect()
    });
    assert!(failed.is_empty(), "failed with: {failed:?}");
}
