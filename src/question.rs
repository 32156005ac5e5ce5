//! What is asked, and what can come back: the words that every other module shares.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a client wants to do with a topic, numbered as the API sees it in `acc`.
///
/// The numbers are Mosquitto's `MOSQ_ACL_*` (`mosquitto_broker.h`). Its `MOSQ_ACL_UNSUBSCRIBE` (8) is
/// no question for the API, and 3 (read and write) is never asked by a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Access {
    /// A message is about to be delivered to the client.
    Read = 1,
    /// The client publishes, or its will is sent.
    Write = 2,
    /// The client subscribes; the topic is the filter as it was sent.
    Subscribe = 4,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Subscribe => "subscribe",
        })
    }
}

/// A decision. There is no third value: what is not known is an [`Answer`] without a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client may.
    Allow,
    /// The client may not.
    Deny,
}

/// A question as the API gets it. The fields are the request's fields, no more and no fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// May somebody with this name and password connect?
    Connect {
        /// The username of the CONNECT packet.
        username: &'a str,
        /// Its password; empty where the client sent none.
        password: &'a str,
    },
    /// May this client touch this topic?
    Access {
        /// The username the client was let in with.
        username: &'a str,
        /// Its client id.
        client_id: &'a str,
        /// A topic, or for [`Access::Subscribe`] the filter as it was sent.
        topic: &'a str,
        /// What the client wants to do with it.
        access: Access,
    },
}

/// A [`Question`] for longer than an event lasts. It takes the bytes of its texts and few more; the request's body is
/// made of it when it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedQuestion {
    /// As in [`Question::Connect`].
    Connect {
        /// The username of the CONNECT packet.
        username: Box<str>,
        /// Its password.
        password: Box<str>,
    },
    /// As in [`Question::Access`].
    Access {
        /// The username the client was let in with.
        username: Box<str>,
        /// Its client id.
        client_id: Box<str>,
        /// The topic or filter, which the questions about all readers of one message share.
        topic: Arc<str>,
        /// What the client wants to do with it.
        access: Access,
    },
}

impl OwnedQuestion {
    /// What its texts take, in bytes. A topic that is shared counts as if it were not: who has many asked about one
    /// message has the room of many.
    pub fn bytes(&self) -> usize {
        match self {
            OwnedQuestion::Connect { username, password } => username.len() + password.len(),
            OwnedQuestion::Access { username, client_id, topic, .. } => {
                username.len() + client_id.len() + topic.len()
            }
        }
    }

    /// The question, to look at.
    pub fn as_question(&self) -> Question<'_> {
        match self {
            OwnedQuestion::Connect { username, password } => Question::Connect { username, password },
            OwnedQuestion::Access { username, client_id, topic, access } => {
                Question::Access { username, client_id, topic, access: *access }
            }
        }
    }
}

impl Question<'_> {
    /// A copy that outlives the event.
    pub fn to_owned(&self) -> OwnedQuestion {
        match *self {
            Question::Connect { username, password } => {
                OwnedQuestion::Connect { username: username.into(), password: password.into() }
            }
            Question::Access { topic, .. } => self.to_owned_about(&topic.into()),
        }
    }

    /// A copy that shares its topic, which must be the same, with others.
    pub fn to_owned_about(&self, shared: &Arc<str>) -> OwnedQuestion {
        match *self {
            Question::Connect { .. } => self.to_owned(),
            Question::Access { username, client_id, access, .. } => OwnedQuestion::Access {
                username: username.into(),
                client_id: client_id.into(),
                topic: Arc::clone(shared),
                access,
            },
        }
    }

    /// Whose question it is.
    pub fn username(&self) -> &str {
        match self {
            Question::Connect { username, .. } | Question::Access { username, .. } => username,
        }
    }

    /// Which of the API's two questions this is.
    pub fn kind(&self) -> Kind {
        match self {
            Question::Connect { .. } => Kind::Connect,
            Question::Access { .. } => Kind::Access,
        }
    }
}

/// Which of the API's two questions: each has its own URLs and its own cache times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `auth_url`.
    Connect,
    /// `acl_url`.
    Access,
}

/// What came back for a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The API decided.
    Verdict {
        /// Its decision.
        verdict: Verdict,
        /// The HTTP status that said so.
        status: u16,
    },
    /// The API did not decide: the client is refused this time and nothing is remembered.
    None(NoAnswer),
}

/// Why there is no verdict, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing came in time.
    TimedOut(Duration),
    /// The request or its answer was lost; the text has no secret in it.
    Transport(String),
    /// The API said that it cannot answer: 408, 429 or 5xx.
    Status(u16),
    /// Too many others waited before it, or for too long.
    Busy,
    /// The broker has waited enough in this turn of its loop; the question goes on without it.
    BudgetSpent,
    /// The circuit breaker is open, or the API asked for a pause itself (429).
    Open,
    /// The broker is stopping, or the worker could not be started.
    NotAsked(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::TimedOut(limit) => {
                write!(f, "nothing came within {:?}", Duration::from_millis(limit.as_millis() as u64))
            }
            NoAnswer::Transport(cause) => f.write_str(cause),
            NoAnswer::Status(status) => write!(f, "status {status}"),
            NoAnswer::Busy => f.write_str("too many questions wait to be asked"),
            NoAnswer::BudgetSpent => f.write_str("the broker has waited long enough for it just now"),
            NoAnswer::Open => {
                f.write_str("it was silent, or wants to be left alone, and is not asked for a while")
            }
            NoAnswer::NotAsked(cause) => write!(f, "it could not be asked ({cause})"),
        }
    }
}
