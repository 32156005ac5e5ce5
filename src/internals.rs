//! What tests, benchmarks and fuzz targets call directly. It is no interface for anybody else, and changes at will.

pub use crate::ask::answer::{Body, MOST_BYTES, Now, read as read_answer};
pub use crate::ask::wire::{body, results};
pub use crate::broker::{Broker, BrokerThread, Caller, Client, Connection, Look, Retain, Unread, Until};
pub use crate::cache::{Cache, Fresh};
pub use crate::config::moving_in::table::{Row, TABLE as THEIRS};
pub use crate::config::{BrokerOptions, Config, ConfigError, OPTIONS, option_as_markdown};
pub use crate::fingerprint::{About, Domain, Fingerprint, Fingerprinter};
pub use crate::local::{AclFile, Placeholders, Users};
pub use crate::metrics::metrics_as_markdown;
pub use crate::plugin::{By, Decision, Login, Plugin, Ruling, SessionStays, TopicCheck};
pub use crate::prefetch::packet::{Packet, packets};
pub use crate::prefetch::peek::{Guess, Identity, Peeked};
pub use crate::prefetch::queues::Queues;
pub use crate::prefetch::retained::{Retained, Whose};
pub use crate::prefetch::subscriptions::Subscriptions;
pub use crate::question::{Access, Answer, Grounds, Kind, Question, Verdict};
pub use crate::topic::{
    Action, BadRule, Grants, GrantsPool, Names, Permission, QosSet, RawRule, WILDCARDS, Wanted, behind_group,
    is_valid_filter, matches,
};
pub use crate::util::panics::{caught, install_hook};
