//! Topics: matching filters (`filter`), deciding by a list of rules (`rules` of ACL files, `grants` of the API's answers),
//! and filling a client's names into filters and topics (`template`; `grants` has the placeholders of its own format).
//!
//! Nothing here knows where rules come from. Matching and deciding allocate nothing, since they run for every message.

mod access;
mod filter;
mod grants;
mod rules;
mod template;
mod terms;

pub use access::Access;
pub use filter::{MAX_SEPARATORS, WILDCARDS, behind_group, has_wildcard, is_valid_filter, matches};
pub use grants::{
    Action, BadRule, Draft, DraftRule, Grants, GrantsPool, Permission, QosSet, RawRule, Unusable, Wanted,
};
pub use rules::{Grant, Rule, Rules};
pub use template::{Names, Placeholders, Template};
pub use terms::{Terms, TopicRules};
