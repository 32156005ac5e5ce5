//! The plugin's options, from mosquitto.conf and from the file that `config_file` names.
//!
//! An option is a row of the table in `options`. The struct [`Config`], the defaults, the parser, its error messages
//! and the list in docs/configuration.md are made from the rows, and columns of a row ([`table::OptionSpec`]) say what else
//! has to be done with it: so a new option is a new row, and an example in a
//! `conf` block of docs/configuration.md. What goes with what is checked by `contradictions`. Reading has two stages (`reading`): the
//! first collects all texts with their locations, the second parses them and checks them as a whole.

mod broker_conf;
mod choice;
mod dialect;
mod error;
mod fields;
mod file;
mod header;
mod lookup;
pub mod moving_in;
mod options;
mod reading;
mod shared_cache;
mod table;
mod texts;
mod url;
mod url_set;
mod value;
mod written;

use std::path::PathBuf;
use std::time::Duration;

use crate::question::{Kind, Verdict};
pub use broker_conf::password_file_of_broker;
pub use choice::{AuthMode, CountBy, ListenAt, NoMatch, WithoutAnswer};
pub use dialect::{Dialect, Words, Yes};
pub use error::ConfigError;
use error::Unexpected;
pub use fields::Field;
pub use header::{header_conflict, header_lines};
pub use options::{BreakerLimits, Config, OPTIONS, ThrottleLimits};
pub use reading::BrokerOptions;
pub use shared_cache::{Arrangement, SharedCacheUrl, address};
pub use table::{OptionSpec, option_as_markdown};
pub use url::{ApiUrl, shown_url};
pub use url_set::UrlSet;

/// The part of a lifetime by which it is shortened at most, at random, so that verdicts that were given together do not end
/// together.
pub const LIFETIMES_APART: f64 = 0.2;

impl Config {
    /// The name by which messages call an option: `plugin_opt_NAME`, or the file, line and name where a file sets it.
    pub fn called(&self, option: &'static str) -> String {
        match self.written.location(option) {
            Some(location) => error::called(location, option),
            None => error::called_in_broker(option),
        }
    }

    /// Whether the configuration file sets an option, be it to `none`.
    pub fn is_in_file(&self, option: &'static str) -> bool {
        self.written.line(option).is_some()
    }

    /// The changes since `before`, for the log: the name of each changed option, its old and its new value, without
    /// secrets.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let names = self.differing(before);
        names.into_iter().map(|name| self.written.change(&before.written, name)).collect()
    }

    /// The files that options name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths().into_iter().map(|(_, path)| path)
    }

    /// The files that may hold secrets.
    pub fn secret_files(&self) -> impl Iterator<Item = &PathBuf> {
        let holds_secrets = |name| lookup::find(name).is_some_and(|spec| spec.holds_secrets);
        self.paths().into_iter().filter(move |(name, _)| holds_secrets(name)).map(|(_, path)| path)
    }

    /// The options that mean something else than their defaults.
    pub fn set(&self) -> Vec<&'static str> {
        Self::default_values().iter().flat_map(|defaults| self.differing(defaults)).collect()
    }

    /// The options that mean something else than their defaults, and their values, without secrets.
    pub fn not_at_default(&self) -> Vec<String> {
        self.set().into_iter().map(|name| self.written.value(name)).collect()
    }

    /// The options whose change since `before` counts from the broker's next start on.
    pub fn changed_for_next_start(&self, before: &Self) -> impl Iterator<Item = &'static str> {
        let waits = |name: &&str| lookup::find(name).is_some_and(|spec| spec.at_start);
        self.differing(before).into_iter().filter(waits)
    }

    /// Whether commands may come from anywhere.
    pub fn is_steered(&self) -> bool {
        !self.admin_listen.is_empty() || self.control || self.shared_cache.is_some()
    }

    /// Whether anything is reached by TLS.
    pub fn needs_tls(&self) -> bool {
        self.urls().any(|url| url.scheme() == "https")
            || self.shared_cache.as_ref().is_some_and(|store| store.tls)
    }

    /// Whether the plugin decides about topics at all.
    pub fn checks_topics(&self) -> bool {
        !self.acl_urls.is_empty() || self.acl_file.is_some() || self.has_rules()
    }

    /// Whether rules in the answers about logins decide about topics.
    pub fn has_rules(&self) -> bool {
        self.answer_rules && !self.auth_urls.is_empty()
    }

    /// How long a verdict is remembered, unless the API's answer says otherwise.
    pub fn lifetime(&self, kind: Kind, verdict: Verdict) -> Duration {
        match (verdict, kind) {
            (Verdict::Deny, _) if !self.dialect.remembers_no_like_yes => self.deny_cache_ttl,
            (_, Kind::Connect) => self.auth_cache_ttl,
            (_, Kind::Access) => self.acl_cache_ttl,
        }
    }

    /// The same, shortened by as much as may be.
    pub fn least_lifetime(&self, kind: Kind, verdict: Verdict) -> Duration {
        self.lifetime(kind, verdict).mul_f64(1.0 - LIFETIMES_APART)
    }
}

#[cfg(test)]
mod tests;
