//! What is kept of a client that waits beside the broker's loop.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::turns::RowPosition;
use crate::broker::{Client, Connection};
use crate::fingerprint::Fingerprint;
use crate::local::PasswordHash;
use crate::plugin::attempt::{Attempt, as_text};
use crate::plugin::decision::{By, Decision};
use crate::plugin::throttle::OpenTry;
use crate::question::Grounds;
use crate::topic::Terms;

/// What a parked client waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// For nothing that is known here: it was just parked, or its answer has come.
    Idle,
    /// For its turn, at this place.
    Turn(RowPosition),
    /// For the outcome of this try.
    Outcome(OpenTry),
    /// For topic questions that were asked ahead for it. It may come in.
    AwaitedTopics(AwaitedTopics),
}

/// What a client that may come in waits for, and is let in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitedTopics {
    /// How many answers are still to come.
    pub answers: usize,
    /// The number of the API when it was decided that it may come in (`Asker::api_number`).
    pub api: u32,
    /// What came with the API's allow.
    pub terms: Option<Arc<Terms>>,
}

/// What there is to know about a parked client when its answer comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Its connection.
    pub connection: Connection,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub address: Option<String>,
    /// Its username.
    pub username: String,
    /// Whether it starts without the session it had before.
    pub starts_clean: bool,
    /// The protocol's level that it speaks.
    pub level: u8,
    /// Its username and password.
    pub credentials: Fingerprint,
    /// What `auth_fields` adds to the question about it.
    pub more: Box<str>,
    /// The fingerprint of that question.
    pub key: Fingerprint,
    /// By what it is known again if it sends more before it is let in.
    pub sender: Fingerprint,
    /// Whether it comes under somebody else's client id: the owner cannot connect meanwhile.
    pub is_under_anothers_id: bool,
    /// The hash of a local user that its password is compared with, if it is not the API that decides.
    pub hash: Option<Arc<PasswordHash>>,
    /// What it waits for.
    pub stage: Stage,
    /// When it has waited long enough, if its wait is bounded here (see `Delayed::deadlines`).
    pub until: Option<Instant>,
    /// It has gone, and only its open try is left. Its names are kept no longer.
    pub has_gone: bool,
    /// It is refused for this reason, once it can leave without a CONNACK.
    pub hangs_up_for: Option<By>,
}

impl Parked {
    /// A client that is parked now. `sender`: by what it is known again.
    pub fn new(attempt: &Attempt<'_>, sender: Fingerprint, is_under_anothers_id: bool) -> Self {
        Self {
            connection: attempt.client.connection,
            client_id: attempt.client.id.to_owned(),
            address: attempt.client.address.map(str::to_owned),
            username: attempt.username.to_owned(),
            starts_clean: attempt.starts_clean,
            level: attempt.level,
            credentials: attempt.credentials,
            more: (&*attempt.more).into(),
            key: attempt.key,
            sender,
            is_under_anothers_id,
            hash: attempt.hash.clone(),
            stage: Stage::Idle,
            until: None,
            has_gone: false,
            hangs_up_for: None,
        }
    }

    /// The allow that lets it in, as far as can be told from here.
    pub fn allow(&self) -> Decision {
        let by =
            if self.hash.is_some() { By::LocalPassword } else { By::Api { grounds: Grounds::Status(200) } };
        Decision::allow(by).with(self.topics().and_then(|topics| topics.terms.clone()))
    }

    /// What it waits for if it may come in.
    pub fn topics(&self) -> Option<&AwaitedTopics> {
        match &self.stage {
            Stage::AwaitedTopics(topics) => Some(topics),
            Stage::Idle | Stage::Turn(_) | Stage::Outcome(_) => None,
        }
    }

    /// Its open try, if it waits for the outcome.
    pub fn open(&self) -> Option<OpenTry> {
        match self.stage {
            Stage::Outcome(open) => Some(open),
            Stage::Idle | Stage::Turn(_) | Stage::AwaitedTopics(_) => None,
        }
    }

    /// Its login. The password is kept only while it waits for its turn.
    pub fn attempt<'a>(&'a self, password: Option<&'a [u8]>) -> Attempt<'a> {
        Attempt {
            client: self.client(),
            username: &self.username,
            password,
            text: as_text(password),
            starts_clean: self.starts_clean,
            level: self.level,
            hash: self.hash.clone(),
            credentials: self.credentials,
            more: Cow::Borrowed(&self.more),
            key: self.key,
            source: Default::default(),
        }
    }

    /// The client, as events show it.
    pub fn client(&self) -> Client<'_> {
        Client { connection: self.connection, id: &self.client_id, address: self.address.as_deref() }
    }
}
