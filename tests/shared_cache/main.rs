//! Several brokers share what the API has allowed, over a real Valkey or Redis.

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
