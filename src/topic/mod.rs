//! Topics: which filter matches which topic.

mod filter;

pub use filter::{MAX_SEPARATORS, WILDCARDS, is_valid_filter, matches, matches_bytes};
