//! What an answer says beside yes (`answer_rules`).

use std::sync::Arc;
use std::time::Instant;

use super::grants::{Draft, Grants, GrantsPool, KeptDraft, Unusable};

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

impl TopicRules {
    /// Makes rules ready for all clients of a username, or keeps them until the client id is known.
    ///
    /// # Errors
    /// What is wrong with them, or that there is no room.
    pub fn of(draft: Draft, username: &str, pool: &GrantsPool) -> Result<Self, Unusable> {
        // Also if they are made ready later: what is wrong with them is to be known now.
        let grants = draft.compile(username, "")?;
        if draft.holds_client_id() {
            return pool.keep(draft, username).map(Self::ByClient).ok_or(Unusable::NoRoom);
        }
        pool.share(grants, username).map(Self::Ready).ok_or(Unusable::NoRoom)
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
            Some(TopicRules::ByClient(kept)) => pool.ready(kept.draft(), username, client_id).map(Some),
        }
    }
}
