//! A client that came a moment ago, and what it has asked since.

use std::time::Instant;

use lru::LruCache;

use super::group::Group;
use super::membership::Membership;
use super::pattern::{self, Telling, Who};
use crate::fingerprint::{AlreadyHashed, Fingerprint, Source};
use crate::prefetch::wish::Wish;
use crate::question::{Access, Question};

/// What the learner has to know of questions.
pub struct Ask<'a> {
    /// What a question is known by.
    pub key: &'a dyn Fn(&Question<'_>) -> Fingerprint,
    /// Whether asking it would be news: no verdict is remembered, and it is not on its way.
    pub is_news: &'a dyn Fn(Fingerprint) -> bool,
    /// Whether this kind of access is asked about at all, for this client.
    pub may_ask: &'a dyn Fn(Access, &str, Who<'_>) -> bool,
}

/// Which of its groups a client is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circle {
    /// The group of clients whose names look like its own.
    Names,
    /// The group of those among them that ask the same first.
    First,
    /// A group of its own.
    Own,
}

impl Circle {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Names, Self::First, Self::Own];
}

/// A client that came a moment ago.
pub struct Arrival {
    pub client_id: Box<str>,
    pub username: Box<str>,
    pub source: Source,
    pub since: Instant,
    /// No other visit has this number.
    pub number: u64,
    pub in_groups: [Option<Membership>; 3],
}

impl Arrival {
    /// Its names.
    pub fn who(&self) -> Who<'_> {
        Who { client_id: &self.client_id, username: &self.username }
    }

    /// Its place in a group.
    pub fn member(&mut self, key: Fingerprint) -> Option<&mut Membership> {
        self.in_groups.iter_mut().flatten().find(|member| member.key() == key)
    }
}

/// Clients that came a moment ago, the first one first.
pub type Arrivals = LruCache<Fingerprint, Arrival, AlreadyHashed>;

/// What a client asks, as it is learnt.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    pub client: Visitor<'a>,
    pub access: Access,
    pub pattern: &'a str,
    pub telling: Telling,
}

/// One event of the broker: what is asked because of it.
pub struct Round<'a> {
    pub ask: &'a Ask<'a>,
    pub now: Instant,
    pub wishes: Vec<Wish>,
}

/// Whose question it is: what the client is known by, its names and its source.
#[derive(Debug, Clone, Copy)]
pub struct Visitor<'a> {
    pub key: Fingerprint,
    /// Tells it from other clients, also once it was forgotten.
    pub witness: u64,
    pub who: Who<'a>,
    pub source: Source,
}

/// The question of a template about a client, if it may be asked and would be news.
pub fn wish(
    group: &Group,
    slot: usize,
    arrival: &Arrival,
    ask: &Ask<'_>,
    topic: &mut String,
) -> Option<Wish> {
    let template = &group.templates()[slot];
    let (access, who) = (template.access, arrival.who());
    if !pattern::fill_in(&template.pattern, who, topic) || !(ask.may_ask)(access, topic, who) {
        return None;
    }
    let question = Question::Access {
        username: who.username,
        client_id: who.client_id,
        topic: &*topic,
        access,
        more: "",
    };
    let key = (ask.key)(&question);
    let is_news = (ask.is_news)(key);
    is_news.then(|| Wish { key, question: question.to_owned(), source: arrival.source })
}
