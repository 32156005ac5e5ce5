//! The connections to the API: kept, closed by the other end, mute, or of another kind than TCP. Whatever becomes of
//! them, nobody is refused for it who need not be.

mod closing;
mod keeping;
mod mute;
mod real;
#[path = "../support/mod.rs"]
mod support;
mod unix;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::{Broker, Connect, Refusal};

/// The log's words for an API that is left alone.
const OPENED: &str = "It is left alone now";

/// Has that many clients, each of its own name, log in one after the other on each of `at_once` threads. Returns those
/// who were refused.
fn log_in_many(broker: &Broker, clients: usize, at_once: usize) -> Vec<Refusal> {
    let next = AtomicUsize::new(0);
    let log_in_some = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        let names =
            numbers.take_while(|number| *number < clients).map(|number| format!("{at_once}-{number}"));
        let attempts = names.map(|name| Connect::v5(&name).login(&name, "secret").attempt(broker.port()));
        attempts.filter_map(Result::err).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(log_in_some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
