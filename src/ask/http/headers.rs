//! What the headers of a response say about how long it holds.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CACHE_CONTROL, RETRY_AFTER};

/// The longest lifetime that an answer may set in place of the configured one: a day.
const LONGEST_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// How long the API wants to be left alone, if the response says it in seconds.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map(Duration::from_secs)
}

/// The lifetime that a response sets by `Cache-Control: max-age`, `no-cache` or `no-store`, if it does.
pub(super) fn lifetime(response: &Response) -> Option<Duration> {
    let mut lifetime = None;
    for value in response.headers().get_all(CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or("no-store").split(',') {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                "max-age" => {
                    let argument = argument.trim().trim_matches('"');
                    let is_number =
                        !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_digit());
                    // A number that is too large counts as the largest. What is no number is read as "do not remember",
                    // as RFC 9111, section 4.2.1 recommends.
                    let seconds = argument.parse().unwrap_or(if is_number { u64::MAX } else { 0 });
                    lifetime = Some(Duration::from_secs(seconds).min(LONGEST_MAX_AGE));
                }
                _ => {}
            }
        }
    }
    lifetime
}
