//! A Mosquitto plugin that lets an HTTP API decide who may do what.

pub mod local;
pub mod question;
