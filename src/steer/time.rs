//! Times in answers.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::metrics::unix;

/// A time as answers have it: Unix seconds with milliseconds.
pub fn time(at: SystemTime) -> Value {
    json!((unix(at) * 1000.0).round() / 1000.0)
}
