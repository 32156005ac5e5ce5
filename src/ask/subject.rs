//! What a question, and so its verdict, is about.

use crate::fingerprint::{About, Fingerprint};
use crate::question::Kind;

/// What a verdict is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// The fingerprint of the question.
    pub key: Fingerprint,
    /// The fingerprint of the client that the question is about.
    pub client: Fingerprint,
    /// Whom the question is about, to be forgotten by.
    pub about: About,
    /// Whether the question is about a login or a topic.
    pub kind: Kind,
}
