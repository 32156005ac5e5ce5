//! The HTTP side: requests in, answers out, nothing about brokers or caches.
pub mod breaker;
mod cause;
mod client;
mod connections;
mod resolver;
mod target;

pub use client::Reply;
pub(super) use client::{Request, drain};
pub use target::{Target, TargetError};
