//! A Mosquitto plugin that lets an HTTP API decide who may do what.

pub mod api;
mod broker;
pub mod cache;
pub mod config;
pub mod local;
pub mod log;
pub mod panics;
pub mod plugin;
pub mod question;
pub mod sessions;
pub mod topic;
pub mod verdicts;
