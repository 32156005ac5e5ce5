//! What the integration tests share: real brokers, an MQTT client and an API that does as it is told.
#![allow(dead_code, unused_imports)] // every test file uses its own part of this
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod broker;
pub mod client;
pub mod mock_api;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use broker::{Broker, Setup, Version, on_every_broker};
pub use client::{Client, Connect, Message, Protocol, Refusal, Will, reason};
pub use mock_api::{MockApi, Reply, Request, Rules};

/// Long enough for anything that must happen, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long to watch for something that must *not* happen.
pub const A_WHILE: Duration = Duration::from_millis(300);

/// A loopback port that nobody listens on.
///
/// It lies below the range the kernel takes the ports of outgoing connections from (`ip_local_port_range`), so
/// that it stays free while a server is stopped, and no client meets itself on it.
pub fn free_port() -> u16 {
    const FIRST: u16 = 16_000;
    const COUNT: u16 = 16_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run side by side start at different places.
    let start = process::id().wrapping_mul(101) % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + ((start + step) % u32::from(COUNT)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// An API with these rules, in the format of `examples/api-rules.txt`.
pub fn api(rules: &str) -> MockApi {
    let rules: Rules = rules.parse().expect("rules of the mock API");
    loop {
        match MockApi::listen(("127.0.0.1", free_port()), rules.clone()) {
            Ok(api) => return api,
            // Another test program looked at the same port just now.
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => panic!("mock API: {error}"),
        }
    }
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
