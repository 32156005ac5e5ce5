//! Waiting until there is something to do.

use std::future::pending;
use std::time::Instant;

use tokio::time;

/// Sleeps until then, or for ever.
pub async fn sleep_until(then: Option<Instant>) {
    match then {
        Some(then) => time::sleep_until(then.into()).await,
        None => pending().await,
    }
}
