//! Rules of an answer as they were written, until it is known whose they are.

use super::room::Room;
use super::{Action, Grants, Permission, QosSet, RawRule};
use crate::topic::Names;

/// What stands in a topic for the client id.
const CLIENT_ID: &str = "${clientid}";

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
    draft: Draft,
    _room: Option<Room>,
}

impl KeptDraft {
    /// Rules that take no room yet.
    pub(super) fn new(draft: Draft) -> Self {
        Self { draft, _room: None }
    }

    /// The same in this room.
    pub(super) fn in_room(self, room: Room) -> Self {
        Self { _room: Some(room), ..self }
    }

    /// The rules.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }
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
    /// About how many bytes this takes.
    pub(super) fn bytes(&self) -> usize {
        /// What a text takes besides its bytes.
        const TEXT: usize = size_of::<String>() + 2 * size_of::<usize>();
        let text = |text: &String| TEXT + text.capacity();
        let topics: usize = self.rules.iter().flat_map(|rule| &rule.topics).map(text).sum();
        let attrs: usize = self.attrs.iter().map(|(name, value)| text(name) + text(value)).sum();
        size_of::<KeptDraft>() + self.rules.capacity() * size_of::<DraftRule>() + topics + attrs
    }

    /// Whether one of the rules has a place for the client id.
    pub(in crate::topic) fn holds_client_id(&self) -> bool {
        self.rules.iter().flat_map(|rule| &rule.topics).any(|it| it.contains(CLIENT_ID))
    }

    /// Makes the rules ready for one client, or for all of a username where they hold no client id.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn compile(&self, username: &str, client_id: &str) -> Result<Grants, Unusable> {
        let rules: Vec<_> = self.rules.iter().map(DraftRule::raw).collect();
        let names = Names { client_id, username, attrs: &self.attrs };
        Grants::compile(&rules, &names).map_err(|bad| Unusable::Bad(bad.to_string()))
    }
}
