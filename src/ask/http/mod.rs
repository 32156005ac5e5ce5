//! Asks the API over HTTP: a question in, an answer out, or many at once. Knows clients only as keyed hashes, to be fair to
//! them, and remembers no verdict. It needs the broker only to start threads that look up names. It also reads the options of the
//! shared cache, since both tell APIs apart by what is made of the options here.
mod ask_endpoint;
mod batch;
pub mod breaker;
mod cause;
mod client;
mod connections;
mod endpoint;
mod headers;
mod hints;
mod known_names;
mod lanes;
mod limit;
mod limiter;
mod names;
mod pace;
mod prepare;
mod probing;
mod rest;
mod second_try;
mod sharing;
mod target;
mod tls;

pub(super) use batch::{BatchReplies, Crowd};
pub(super) use breaker::AskedFor;
pub use client::Reply;
pub(super) use client::{DRAIN_LIMIT, Exchange, Request};
pub(super) use hints::Hint;
pub use names::Names;
pub use prepare::TargetError;
pub(super) use rest::Party;
pub use target::Target;
