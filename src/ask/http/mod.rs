//! Asks the API over HTTP: a question in, an answer out, or many at once. Knows nothing of brokers and caches.
mod batch;
pub mod breaker;
mod cause;
mod client;
mod connections;
mod gauge;
mod headers;
mod hints;
mod lanes;
mod limit;
mod names;
mod pace;
mod prepare;
mod probing;
mod rest;
mod second_try;
mod sharing;
mod target;
mod tls;

pub(super) use batch::{Crowd, Told};
pub use client::Reply;
pub(super) use client::{Exchange, Request};
pub(super) use hints::Hint;
pub use names::Names;
pub use prepare::TargetError;
pub(super) use target::Asks;
pub use target::Target;
