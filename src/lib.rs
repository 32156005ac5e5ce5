//! A Mosquitto plugin that lets an HTTP API decide who may do what.

pub mod api;
pub mod brake;
mod broker;
pub mod cache;
pub mod config;
pub mod errands;
pub mod host;
pub mod local;
pub mod log;
pub mod lookahead;
pub mod panics;
pub mod parking;
pub mod plugin;
pub mod question;
mod random;
pub mod sessions;
pub mod subscriptions;
pub mod topic;
pub mod verdicts;
