//! The plugin is seen and steered from outside, by those who may, and nobody else notices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic, and what it says is read by people"
)]

mod commands;
mod control;
mod dashboard;
mod doors;
mod examples;
mod explaining;
mod hostile;
mod metrics;
mod page;
mod prometheus;
#[path = "../support/mod.rs"]
mod support;
