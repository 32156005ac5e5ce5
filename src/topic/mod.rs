//! Topics: matching filters (`filter`), deciding by a list of rules (`rules`), and filling a client's names into
//! filters and topics (`template`).
//!
//! Nothing here knows where rules come from. Matching and deciding allocate nothing, since they run for every message.

mod filter;
mod rules;
mod template;

pub use filter::{MAX_SEPARATORS, WILDCARDS, has_wildcard, is_valid_filter, matches};
pub use rules::{Grant, Rule, Rules};
pub use template::{Names, Placeholders, Template};
