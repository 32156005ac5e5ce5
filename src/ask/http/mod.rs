//! Asks the API over HTTP: a question in, an answer out, or many at once. Knows clients only as keyed hashes, to be fair to
//! them, and remembers no verdict.
//!
//! `target` is one API, and `endpoint` one URL of it; `prepare`, `tls` and `shared_cache` read what they are made of, and
//! `identity` tells one API from another. `ask_alone` asks one question (`request`) endpoint by endpoint (`ask_endpoint`), and
//! `ask_together` asks many (`batches`, `rest`). `send` uses a lane (`lanes`, `connections`), and another where that is mute
//! (`second_tries`). `breaker` spares `known_names`; `probing` asks `samples`. `limiter` keeps to `limit`, and `pace` tells of
//! slowness; `headers`, `hints` and `cause` read what comes back, and `notes` is what is made of it.

mod ask_alone;
mod ask_endpoint;
mod ask_together;
mod batches;
pub mod breaker;
mod cause;
mod connections;
mod endpoint;
mod headers;
mod hints;
mod identity;
mod known_names;
mod lanes;
mod limit;
mod limiter;
mod notes;
mod pace;
mod prepare;
mod probing;
mod request;
mod rest;
mod samples;
mod second_tries;
mod send;
mod shared_cache;
mod single_flight;
mod target;
mod target_error;
mod tls;

pub(super) use ask_alone::Exchange;
pub(super) use ask_together::{BatchReplies, Crowd};
pub(super) use breaker::AskedFor;
pub(super) use notes::DRAIN_LIMIT;
pub use request::Reply;
pub(super) use request::{Request, spread};
pub(super) use rest::Party;
pub use target::Target;
pub use target_error::TargetError;
