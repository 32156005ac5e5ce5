//! Several brokers share what the API has allowed, over a real Valkey or Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic, and what it says is read by people"
)]

mod endures;
mod faults;
mod many;
mod partition;
mod refusing;
mod sharing;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod telling;
mod tls;
