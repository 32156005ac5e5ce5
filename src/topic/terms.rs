//! What an answer says beside yes (`answer_rules`).

use std::sync::Arc;
use std::time::Instant;

use super::grants::Room;
use super::{Action, Grants, GrantsPool, Names, Permission, QosSet, RawRule};

/// What stands in a topic for the client id.
const CLIENT_ID: &str = "${clientid}";

/// What came with an allow. It is remembered with the verdict, and lives with the sessions that are let in by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// Whether such a session may do everything.
    pub is_superuser: bool,
    /// Rules about its topics.
    pub rules: Option<TopicRules>,
    /// When the API wants the session to end (`expire_at`).
    pub expires: Option<Instant>,
    /// When the API was asked.
    pub asked: Option<Instant>,
}

/// Rules about topics, as far as they can be made ready before it is known who is let in by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRules {
    /// They are the same for all clients with these credentials.
    Ready(Arc<Grants>),
    /// They hold the client id.
    ByClient(Arc<KeptDraft>),
}

/// Rules that have places for names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Draft {
    /// In the order of the answer.
    pub rules: Vec<DraftRule>,
    /// The texts for `${client_attrs.NAME}`.
    pub attrs: Vec<(String, String)>,
}

/// Rules that wait for a client id, and the room that they take in a [pool](GrantsPool).
#[derive(Debug)]
pub struct KeptDraft {
    /// The rules.
    pub(super) draft: Draft,
    pub(super) _room: Option<Room>,
}

impl PartialEq for KeptDraft {
    fn eq(&self, other: &Self) -> bool {
        self.draft == other.draft
    }
}

impl Eq for KeptDraft {}

/// A rule as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DraftRule {
    /// Whether it allows or denies.
    pub permission: Permission,
    /// What a client does with a topic.
    pub action: Action,
    /// The topics that it is about.
    pub topics: Vec<String>,
    /// The qualities of service that it is about.
    pub qos: QosSet,
    /// The retain flag that it is about, if that matters.
    pub retain: Option<bool>,
}

impl DraftRule {
    fn raw(&self) -> RawRule<'_> {
        let Self { permission, action, ref topics, qos, retain } = *self;
        RawRule { permission, action, topics: topics.iter().map(String::as_str).collect(), qos, retain }
    }
}

/// Why rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// One of them is wrong.
    Bad(String),
    /// There is no room for them beside those of other sessions.
    NoRoom,
}

impl Draft {
    /// Makes the rules ready for all clients of a username, or keeps them until the client id is known.
    ///
    /// # Errors
    /// What is wrong with them, or that there is no room.
    pub fn for_username(self, username: &str, pool: &GrantsPool) -> Result<TopicRules, Unusable> {
        let holds_client_id =
            self.rules.iter().flat_map(|rule| &rule.topics).any(|it| it.contains(CLIENT_ID));
        // Also if they are made ready later: what is wrong with them is to be known now.
        let grants = self.compile(username, "")?;
        if holds_client_id {
            return pool.keep(self, username).map(TopicRules::ByClient).ok_or(Unusable::NoRoom);
        }
        pool.share(grants, username).map(TopicRules::Ready).ok_or(Unusable::NoRoom)
    }

    /// Makes the rules ready for one client.
    ///
    /// # Errors
    /// What is wrong with them, or that there is no room.
    pub fn for_client(
        &self,
        username: &str,
        client_id: &str,
        pool: &GrantsPool,
    ) -> Result<Arc<Grants>, Unusable> {
        pool.share(self.compile(username, client_id)?, username).ok_or(Unusable::NoRoom)
    }

    /// About how many bytes this takes.
    pub(super) fn bytes(&self) -> usize {
        /// What a text takes besides its bytes.
        const TEXT: usize = size_of::<String>() + 2 * size_of::<usize>();
        let text = |text: &String| TEXT + text.capacity();
        let topics: usize = self.rules.iter().flat_map(|rule| &rule.topics).map(text).sum();
        let attrs: usize = self.attrs.iter().map(|(name, value)| text(name) + text(value)).sum();
        size_of::<KeptDraft>() + self.rules.capacity() * size_of::<DraftRule>() + topics + attrs
    }

    fn compile(&self, username: &str, client_id: &str) -> Result<Grants, Unusable> {
        let rules: Vec<_> = self.rules.iter().map(DraftRule::raw).collect();
        let names = Names { client_id, username, attrs: &self.attrs };
        Grants::compile(&rules, &names).map_err(|bad| Unusable::Bad(bad.to_string()))
    }
}

impl Terms {
    /// The rules of a client that is let in with this.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn grants(
        &self,
        username: &str,
        client_id: &str,
        pool: &GrantsPool,
    ) -> Result<Option<Arc<Grants>>, Unusable> {
        match &self.rules {
            None => Ok(None),
            Some(TopicRules::Ready(grants)) => Ok(Some(Arc::clone(grants))),
            Some(TopicRules::ByClient(kept)) => kept.draft.for_client(username, client_id, pool).map(Some),
        }
    }
}
