//! A Mosquitto plugin that lets an HTTP API decide who may do what.

pub mod cache;
pub mod config;
pub mod local;
pub mod question;
pub mod topic;
