//! Asks the API over HTTP: a question in, an answer out, or many at once. Knows clients only as keyed hashes, to be fair to
//! them, and remembers no verdict. It needs the broker only to start threads that look up names. It also reads the options of the
//! shared cache, since both tell APIs apart by what is made of the options here.
mod ask_endpoint;
mod ask_together;
mod batches;
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
mod on_their_way;
mod pace;
mod prepare;
mod probing;
mod request;
mod rest;
mod samples;
mod second_tries;
mod send;
mod shared_cache;
mod target;
mod target_error;
mod tls;

pub(super) use ask_together::{BatchReplies, Crowd};
pub(super) use breaker::AskedFor;
pub(super) use client::{DRAIN_LIMIT, Exchange};
pub use request::Reply;
pub(super) use request::Request;
pub(super) use rest::Party;
pub use target::Target;
pub use target_error::TargetError;
