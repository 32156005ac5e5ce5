//! The plugin is seen and steered from outside, by those who may, and nobody else notices.

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
