//! A login, as it is decided about: at once, or when its client has waited beside the broker's loop.

use std::cell::OnceCell;
use std::sync::Arc;

use super::api::Inquiry;
use super::decision::{By, Decision};
use super::delayed::Parked;
use super::settings::Settings;
use super::throttle::Try;
use crate::broker::Client;
use crate::fingerprint::{Fingerprint, Fingerprinter, Source};
use crate::local::PasswordHash;
use crate::question::Question;

/// The username by which the API is asked about a client without one (`username_missing`).
pub const NO_USERNAME: &str = "";

/// A login that has a username, and so can be decided here.
pub struct Attempt<'a> {
    /// The client.
    pub client: Client<'a>,
    /// Its username.
    pub username: &'a str,
    /// Its password: any bytes. `None` if it sent none, or if it is parked and its password was not kept.
    pub password: Option<&'a [u8]>,
    /// The password as text, if it can be written in JSON. No password is an empty text.
    pub text: Option<&'a str>,
    /// Whether it starts without the session that it had before.
    pub starts_clean: bool,
    /// The protocol's level, as in [`super::event::Login`].
    pub level: u8,
    /// The hash of a local user that decides about it, if one does.
    pub hash: Option<Arc<PasswordHash>>,
    /// The fingerprint of username and password.
    pub credentials: Fingerprint,
    /// What `auth_fields` adds to the question.
    pub more: &'a str,
    /// The fingerprint of the question, by which the API's verdict is remembered: that of username and password, unless
    /// there is more.
    pub key: Fingerprint,
    /// The network and username that it comes from, once they are known.
    pub source: OnceCell<Source>,
}

/// A password as text.
pub fn as_text(password: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(password.unwrap_or_default()).ok()
}

impl<'a> Attempt<'a> {
    /// The login of a parked client. Its password is kept only while it waits for its turn.
    pub fn of(parked: &'a Parked, password: Option<&'a [u8]>) -> Self {
        Self {
            client: parked.client(),
            username: &parked.username,
            password,
            text: as_text(password),
            starts_clean: parked.starts_clean,
            level: parked.level,
            hash: parked.hash.clone(),
            credentials: parked.credentials,
            more: &parked.more,
            key: parked.key,
            source: Default::default(),
        }
    }

    /// The network and username that it comes from, as [`super::api::Api::source`] gives them for its question.
    pub fn source(&self, keys: &Fingerprinter) -> Source {
        *self.source.get_or_init(|| keys.source(self.client.address, self.username))
    }

    /// The question about it, if its password can be written in JSON.
    pub fn inquiry(&self) -> Option<Inquiry<'_>> {
        let Self { username, more, .. } = *self;
        let question = Question::Connect { username, password: self.text?, more };
        Some(Inquiry { key: self.key, question, client: self.client, source: &self.source })
    }

    /// The login as the throttle counts it: a password that is wrong with some fields may be right with others.
    pub fn as_try(&self) -> Try<'_> {
        let Self { client, username, key, .. } = *self;
        let is_shared = self.hash.is_none();
        Try { address: client.address, username, client_id: client.id, credentials: key, is_shared }
    }

    /// The decision where neither a local user's hash nor the API is to decide.
    pub fn unasked(&self, settings: &Settings) -> Option<Decision> {
        if self.username == NO_USERNAME && !settings.config.asks_without_username {
            return Some(Decision::deny(By::NoUsername));
        }
        if self.hash.is_some() {
            return None;
        }
        if settings.config.auth_urls.is_empty() {
            return Some(Decision::defer(By::NotOurs));
        }
        self.text.is_none().then(|| Decision::deny(By::PasswordIsNoText))
    }
}
