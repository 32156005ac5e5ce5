//! Topics: which filter covers which topic, what a list of rules says about one, and the places in a filter or topic
//! where a client's names are filled in.
//!
//! Nothing here knows where rules come from. Matching and deciding allocate nothing: they run for every message.

mod filter;
mod rules;
mod template;

pub use filter::{MAX_SEPARATORS, WILDCARDS, has_wildcard, is_valid_filter, matches};
pub use rules::{Grant, Rule, Rules};
pub use template::{Names, Placeholders, Template};
