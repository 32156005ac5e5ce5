//! What the integration tests share: real brokers, an MQTT client and an API that does as it is told.
#![allow(dead_code, unused_imports)] // every test file uses its own part of this
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod allocator;
pub mod broker;
pub mod client;
pub mod dns;
pub mod idle;
pub mod mock_api;
pub mod ports;
pub mod tls;

use std::thread;
use std::time::{Duration, Instant};

pub use broker::{Broker, Setup, Usage, Version, on_every_broker};
pub use client::{Client, Connect, Message, Protocol, Refusal, Will, reason};
pub use mock_api::{MockApi, Reply, Request, Rules};
pub use ports::free_port;

/// Long enough for anything that must happen, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long to watch for something that must *not* happen.
pub const A_WHILE: Duration = Duration::from_millis(300);

/// What a client may feel of something that goes on beside it.
pub const UNNOTICED: Duration = Duration::from_millis(300);

/// Measures until something takes no longer than [`UNNOTICED`]. What the machine does beside comes and goes;
/// what the plugin does comes every time.
pub fn assert_unnoticed(what: &str, mut measure: impl FnMut() -> Duration) {
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        shortest = shortest.min(measure());
        if shortest < UNNOTICED {
            return;
        }
    }
    panic!("{what} takes {shortest:?} at best");
}

/// An API with these rules, in the format of `examples/api-rules.txt`.
pub fn api(rules: &str) -> MockApi {
    let rules = rules.parse().expect("rules of the mock API");
    MockApi::listen(("127.0.0.1", free_port()), rules).expect("mock API")
}

/// A broker whose plugin asks this API about logins and topics.
pub fn broker_asking(version: Version, api: &MockApi) -> Setup {
    Broker::with(version).option("auth_url", api.auth_url()).option("acl_url", api.acl_url())
}

/// Waits until the condition holds; says whether it did in time.
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
