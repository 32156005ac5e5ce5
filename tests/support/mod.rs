//! The integration tests' common parts: real brokers ([`broker`]), an MQTT client ([`client`]), an API that does as it
//! is told ([`mock_api`]), the beginnings of many tests ([`scene`]), and ways to show that something does not happen
//! ([`fence`]).
#![allow(dead_code, unused_imports, reason = "every test file uses its own part of this")]

pub mod admin;
pub mod allocator;
pub mod broker;
pub mod client;
pub mod dns;
pub mod fence;
pub mod idle;
pub mod mock_api;
pub mod ports;
pub mod scene;
pub mod servers;
pub mod tls;

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

pub use admin::{Admin, TOKEN};
pub use broker::{Broker, Setup, Usage, Version, on_every_broker};
pub use client::{Client, Connect, Message, Protocol, Refusal, Will, reason};
pub use mock_api::connection::read_some;
pub use mock_api::{MockApi, Reply, Request, Rules};
pub use ports::free_port;
pub use scene::{
    Gate, PASSWORD, api_by_name, by_name, bystander, friendly_api, hash_in, local_user, log_in, login,
    read_by, revocable, side_by_side, timed,
};

/// How long to wait for something that must happen: long enough on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long to watch for something that must *not* happen, where no later event can serve as a [`fence`].
pub const A_WHILE: Duration = Duration::from_millis(300);

/// The longest delay of a client that counts as unnoticed.
pub const UNNOTICED: Duration = Duration::from_millis(300);

/// Asserts that something does not hold up other clients: `measure` returns for how long it did. It is measured three
/// times; each delay may be [`UNNOTICED`], and three times as long again as the machine held up a thread meanwhile. If
/// exactly one is longer, there are three more measurements, of which none may be. So a stall that comes every second
/// or third time is found, and a single one of the machine is forgiven.
pub fn assert_unnoticed(what: &str, mut measure: impl FnMut() -> Duration) {
    let mut measured = Vec::new();
    let mut are_too_long = || {
        let new: Vec<_> = (0..3).map(|_| machine::hold_ups_during(&mut measure)).collect();
        measured.extend_from_slice(&new);
        // A ping is answered by three threads, each of which the machine may hold up.
        new.iter().filter(|(stall, by_the_machine)| *stall > UNNOTICED + 3 * *by_the_machine).count()
    };
    let too_long = are_too_long();
    if too_long > 1 || (too_long == 1 && are_too_long() > 0) {
        panic!("{what} takes too long; how long it took, and what the machine held up: {measured:?}");
    }
}

mod machine {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    /// Runs `action`, and returns its result and the longest time by which a thread that only sleeps was late
    /// meanwhile.
    pub fn hold_ups_during<T>(action: impl FnOnce() -> T) -> (T, Duration) {
        const NAP: Duration = Duration::from_millis(1);
        /// Ends the sleeping thread, also if the action panics.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let over = Over(&is_over);
            let watching = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !is_over.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    thread::sleep(NAP);
                    longest = longest.max(start.elapsed() - NAP);
                }
                longest
            });
            let result = action();
            drop(over);
            (result, watching.join().expect("a thread that sleeps"))
        })
    }
}

/// An address for clients that are not at the attacker's, which is 127.0.0.1.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// An API with these rules, in the format of `examples/api-rules.txt`.
pub fn api(rules: &str) -> MockApi {
    let rules = rules.parse().expect("rules of the mock API");
    MockApi::listen(("127.0.0.1", free_port()), rules).expect("mock API")
}

/// A broker whose plugin asks this API about logins and topics.
pub fn broker_asking(version: Version, api: &MockApi) -> Setup {
    Broker::with(version).option("auth_url", api.auth_url()).option("acl_url", api.acl_url())
}

/// Waits until the condition holds, and returns whether it did in time.
pub fn eventually(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
