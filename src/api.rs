//! The HTTP side: requests in, answers out, nothing about brokers or caches.
#![forbid(unsafe_code)]

pub mod breaker;
mod client;
mod connections;
mod resolver;
mod target;
mod wire;
pub mod worker;

pub use client::Reply;
pub use target::{Target, TargetError};
pub use wire::body;
