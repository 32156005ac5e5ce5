//! A Mosquitto plugin that lets an HTTP API decide who may do what. This is the map.
//!
//! # Modules
//!
//! Imports point downwards in this list, apart from the words in [`question`], which all share.
//!
//! - `broker`: the only unsafe code. Exported functions and callbacks, each inside a guard that turns a panic into a
//!   refusal; event structs to typed requests; the process ([`host::Host`]), its client sockets, waking its loop.
//! - [`plugin`]: the decision, one method for each event. Below it `login` (BASIC_AUTH, parking, completing), `sweep`
//!   (SIGHUP), `ahead` (asking ahead), `patience` (how long the broker may wait in one turn), `checker` (a thread for
//!   slow hashes), `setup` (files read and checked whole, then swapped).
//! - [`verdicts`]: what is known and what is being asked, behind one short lock; who waits for which answer.
//! - [`errands`]: what other threads leave for the broker's thread, and the bell that brings its tick about.
//! - [`host`]: what the plugin needs of its process, as a trait; `broker` implements it.
//! - [`parking`]: clients that wait beside the loop, each with a ticket of its own.
//! - [`api`]: `worker` (one thread, four classes of questions), `client` (one question within its budget), `target`
//!   (where and how to ask), `breaker`, `resolver`, `wire` (the JSON). It knows neither cache nor broker.
//! - [`config`]: the table of options; `config::file` reads them from TOML.
//! - [`local`]: password files, hashes, topic rules. It never meets the API.
//! - [`brake`], [`sessions`], [`subscriptions`], [`lookahead`]: wrong passwords; who was let in; who listens to what;
//!   packets that the broker has not read yet. They keep count and ask nobody.
//! - [`cache`]: verdicts with their times, by keyed fingerprints ([`cache::key`]).
//! - [`question`], [`topic`], [`files`], [`log`], [`panics`], `random`: leaves.
//!
//! # The ways data takes
//!
//! **Hot**, a remembered topic check: `broker::entry`, `events`, [`plugin::Plugin::authorise`],
//! [`verdicts::Verdicts::known`], a code. Two short locks, no waiting, no allocation, no system call.
//!
//! **Cold**, where the broker waits: `Plugin::wait_for` has [`verdicts::Verdicts::ask`] send the question, or share one
//! that is on its way; asks ahead what will come next (fan-out, then the other sockets); waits at the question's own
//! [`verdicts::Slot`]. The worker's thread files the reply through [`api::worker::Inbox`]: into the cache, to the slot,
//! and to whoever else listens. When the time is up everybody who waits is told so, and what comes later is
//! still remembered.
//!
//! **Delayed**, where a client waits (2.1): the same question with a [`parking::Ticket`] for a listener. Its answer
//! becomes an errand; the bell wakes the loop; the tick runs errands in batches and completes the client, if that
//! ticket is still the newest for its client id. `acl_prefetch` keeps it parked for one more round.
//!
//! **Beside**: refreshes, SIGHUP's questions, probes of a silent API. Nobody waits; a 401 or 403 may become an errand
//! that disconnects.
//!
//! # Rules
//!
//! - Whatever ends without a clear yes is a refusal, panics included. No answer is never remembered.
//! - Nothing is held while waiting for an answer or calling the broker: its functions call back into the plugin. The
//!   broker is called on its own thread alone; log lines queue until it has let go of everything.
//! - Two threads may ask at once (`http_api` on 2.1). What a reload swaps is an [`Arc`](std::sync::Arc) that each
//!   question takes for itself.
//! - Asking ahead decides nothing: a verdict counts for the exact question that the broker asks.
//! - Everything that clients can make grow has a bound, and the bound says where its number comes from.
//! - Time comes in as `now`. No password, token or header reaches a log.
//! - No mutable state outside the instance, but for what belongs to the process: the signal's handler, and the newest
//!   ticket of each client id, which all instances share as they share the broker's table.

#![deny(unsafe_code)]

pub mod ask;
pub mod broker;
pub mod cache;
pub mod config;
#[allow(unsafe_code)]
mod ffi;
pub mod fingerprint;
pub mod local;
pub mod log;
pub mod main_queue;
pub mod plugin;
pub mod prefetch;
pub mod question;
pub mod topic;
pub mod util;
