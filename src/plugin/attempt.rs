//! A login, as it is decided about: at once, or when its client has waited beside the broker's loop. And the order in which
//! that is done, which logins and explanations share.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::api::Inquiry;
use super::decision::{By, Decision};
use super::event::Login;
use super::sessions::SessionName;
use super::settings::Settings;
use super::throttle::Try;
use crate::broker::Client;
use crate::config::Field;
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
    /// See [`as_text`].
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
    pub more: Cow<'a, str>,
    /// The fingerprint of the question, by which the API's verdict is remembered: that of username and password, unless
    /// there is more.
    pub key: Fingerprint,
    /// The network and username that it comes from, once they are known.
    pub source: OnceCell<Source>,
}

/// A password as text, if it can be written in JSON. No password is an empty text.
pub fn as_text(password: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(password.unwrap_or_default()).ok()
}

impl<'a> Attempt<'a> {
    /// A login, and what decides about it by these settings. `more` gives what fields add to the question about it. `None`
    /// of an anonymous client, which has neither a username nor a password.
    pub fn new(
        login: &Login<'a>,
        settings: &Settings,
        keys: &Fingerprinter,
        more: impl FnOnce(&[Field]) -> String,
    ) -> Option<Self> {
        let Login { client, username, password, starts_clean, level, .. } = *login;
        let username = match (username, password) {
            (None, None) => return None,
            (None, Some(_)) => NO_USERNAME,
            (Some(username), _) => username,
        };
        let credentials = keys.credentials(username, password.unwrap_or_default());
        let hash = settings.users.get(username).cloned();
        let more = more(if hash.is_none() { &settings.config.auth_fields } else { &[] });
        Some(Self {
            client,
            username,
            password,
            text: as_text(password),
            starts_clean,
            level,
            hash,
            credentials,
            key: keys.with(credentials, &more),
            more: Cow::Owned(more),
            source: Default::default(),
        })
    }

    /// The network and username that it comes from, as [`super::api::Api::source`] gives them for its question.
    pub fn source(&self, keys: &Fingerprinter) -> Source {
        *self.source.get_or_init(|| keys.source(self.client.address, self.username))
    }

    /// The question about it, if its password can be written in JSON.
    pub fn inquiry(&self) -> Option<Inquiry<'_>> {
        let question = Question::Connect { username: self.username, password: self.text?, more: &self.more };
        Some(Inquiry { key: self.key, question, client: self.client, source: &self.source })
    }

    /// What its session is called for longer than this event, if it is let in.
    pub fn session_name(&self) -> SessionName {
        let Self { client, username, credentials, .. } = *self;
        SessionName {
            connection: client.connection,
            client_id: client.id.to_owned(),
            username: username.to_owned(),
            address: client.address.map(str::to_owned),
            credentials,
        }
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

/// What the steps of a decision about a login do: for real, or to explain it.
pub trait LoginSteps {
    /// What is decided in the end.
    type Outcome;
    /// An open try of the throttle.
    type Try;

    /// Neither a local user's hash nor the API is to decide, but this.
    fn unasked(&self, decision: Decision) -> Self::Outcome;

    /// What a remembered verdict decides, if there is one. It is not called for local users.
    fn remembered(&self, attempt: &Attempt<'_>) -> Option<Self::Outcome>;

    /// Has it pass the throttle: its open try if its password is to be examined now, else what becomes of it.
    fn admit(&self, attempt: &Attempt<'_>) -> ControlFlow<Self::Outcome, Self::Try>;

    /// What the hash of a local user decides, or the API.
    fn examine(&self, attempt: &Attempt<'_>, open: Self::Try) -> Self::Outcome;
}

/// Decides in the order of the list in docs/deciding.md.
pub fn decide<S: LoginSteps>(attempt: &Attempt<'_>, settings: &Settings, steps: &S) -> S::Outcome {
    if let Some(decision) = attempt.unasked(settings) {
        return steps.unasked(decision);
    }
    if attempt.hash.is_none()
        && let Some(outcome) = steps.remembered(attempt)
    {
        return outcome;
    }
    match steps.admit(attempt) {
        ControlFlow::Continue(open) => steps.examine(attempt, open),
        ControlFlow::Break(outcome) => outcome,
    }
}
