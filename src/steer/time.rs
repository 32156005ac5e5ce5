//! Times in answers.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::metrics::unix;

/// Seconds, with milliseconds.
pub fn seconds(of: f64) -> Value {
    json!((of * 1000.0).round() / 1000.0)
}

/// A time as answers have it: Unix seconds with milliseconds.
pub fn unix_time(at: SystemTime) -> Value {
    seconds(unix(at))
}
