//! What many tests begin with: an API that says yes, local users, somebody who stands by, and ways to run tests side by
//! side and to take their time.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use super::{Broker, Client, Connect, MockApi, Reply, api};

/// Password files as `mosquitto_passwd` of that version writes them, and one whose hashes are of argon2id. Their users
/// have the password [`PASSWORD`], but for `with space`.
pub const PASSWD_2_0_11: &str = include_str!("../fixtures/passwd-2.0.11");
pub const PASSWD_2_0_21: &str = include_str!("../fixtures/passwd-2.0.21");
pub const PASSWD_2_1: &str = include_str!("../fixtures/passwd-2.1");
pub const PASSWD_ARGON2ID: &str = include_str!("../fixtures/passwd-argon2id");

/// The password of the local users.
pub const PASSWORD: &str = "correct horse";

/// The hash of a user in a password file.
pub fn hash_in<'f>(file: &'f str, name: &str) -> &'f str {
    let mut users = file.lines().filter_map(|line| line.rsplit_once(':'));
    users.find_map(|(user, hash)| (user == name).then_some(hash)).expect("a user of the file")
}

/// `NAME:HASH` of a local user whose password is [`PASSWORD`] and takes no time to check. Every broker can read it, and
/// the option `user`.
pub fn local_user(name: &str) -> String {
    format!("{name}:{}", hash_in(PASSWD_2_0_11, "sha512"))
}

/// An API that says yes to everything.
pub fn friendly_api() -> MockApi {
    let api = api("");
    api.answer(Reply::status(200));
    api
}

/// A client from whose pings it is seen how long the broker stands still.
pub fn bystander(broker: &Broker, username: &str, password: &str) -> Client {
    Connect::v3("bystander").login(username, password).accepted(broker.port())
}

/// Runs `action` and says how long it took.
pub fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = action();
    (result, start.elapsed())
}

/// Runs one test with each of these, side by side; a failure names which.
pub fn side_by_side<T: Copy + Debug + Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    let failed: Vec<T> = thread::scope(|scope| {
        let start = |case: T| {
            let thread = thread::Builder::new().name(format!("{case:?}"));
            (case, thread.spawn_scoped(scope, move || test(case)).unwrap())
        };
        let runs: Vec<_> = cases.into_iter().map(start).collect();
        runs.into_iter().filter_map(|(case, run)| run.join().is_err().then_some(case)).collect()
    });
    assert!(failed.is_empty(), "failed with: {failed:?}");
}
