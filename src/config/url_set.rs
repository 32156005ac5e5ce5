//! Which URLs are asked about what.

use reqwest::Url;

use super::{ApiUrl, Config};
use crate::question::Kind;

/// The URLs that are asked about the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlSet {
    /// Those of `auth_url`: about one login.
    Login,
    /// Those of `acl_url`: about one topic.
    Topic,
    /// Those of `acl_batch_url`: about many topics in one request.
    Batch,
    /// That of a dialect, if it has one: about whether a user may do everything.
    Superuser,
}

impl From<Kind> for UrlSet {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Connect => UrlSet::Login,
            Kind::Access => UrlSet::Topic,
        }
    }
}

impl UrlSet {
    /// All, in the order of the options.
    pub const ALL: [Self; 4] = [Self::Login, Self::Topic, Self::Batch, Self::Superuser];

    /// What they are asked about, for people.
    pub fn in_words(self) -> &'static str {
        match self {
            UrlSet::Login => "logins",
            UrlSet::Topic => "topics",
            UrlSet::Batch => "many topics at once",
            UrlSet::Superuser => "superusers",
        }
    }
}

impl Config {
    /// The URLs of a set, in the order of the option.
    pub fn urls_of(&self, set: UrlSet) -> &[ApiUrl] {
        match set {
            UrlSet::Login => &self.auth_urls,
            UrlSet::Topic => &self.acl_urls,
            UrlSet::Batch => &self.acl_batch_urls,
            UrlSet::Superuser => &self.dialect.superuser_urls,
        }
    }

    /// All URLs.
    pub fn urls(&self) -> impl Iterator<Item = &Url> {
        UrlSet::ALL.into_iter().flat_map(|set| self.urls_of(set)).map(|api| &api.url)
    }
}
