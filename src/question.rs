//! Questions and answers: the types that every other module shares.
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::topic::Access;
use crate::topic::Terms;

/// A yes or no of the API. There is no third value: where the API did not decide, the `Answer` has no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client may.
    Allow,
    /// The client may not.
    Deny,
}

impl From<bool> for Verdict {
    fn from(may: bool) -> Self {
        if may { Verdict::Allow } else { Verdict::Deny }
    }
}

/// A question for the API. Its fields are those of the request, no more and no fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// May a client with this username and password connect?
    Connect {
        /// The username of the CONNECT packet.
        username: &'a str,
        /// The password of the CONNECT packet; empty where the client sent none.
        password: &'a str,
        /// What `auth_fields` adds to the request: JSON that goes behind the other fields, such as `,"clientid":"c"`.
        more: &'a str,
    },
    /// May this client access this topic?
    Access {
        /// The username with which the client was admitted.
        username: &'a str,
        /// The client id.
        client_id: &'a str,
        /// A topic, or for [`Access::Subscribe`] the filter as it was sent.
        topic: &'a str,
        /// What the client wants to do with the topic.
        access: Access,
        /// What `acl_fields` adds to the request, as above.
        more: &'a str,
    },
}

/// A [`Question`] that outlives its event. It takes few bytes beside its texts: the request's body is made only when it
/// is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedQuestion {
    /// [`Question::Connect`], owned.
    Connect {
        /// The username of the CONNECT packet.
        username: Box<str>,
        /// The password of the CONNECT packet; empty where the client sent none.
        password: Box<str>,
        /// What `auth_fields` adds to the request.
        more: Box<str>,
    },
    /// [`Question::Access`], owned.
    Access {
        /// The username with which the client was admitted.
        username: Box<str>,
        /// The client id.
        client_id: Box<str>,
        /// The topic or filter. The questions about all readers of one message share it.
        topic: Arc<str>,
        /// What the client wants to do with the topic.
        access: Access,
        /// What `acl_fields` adds to the request.
        more: Box<str>,
    },
}

impl OwnedQuestion {
    /// Bytes of the question's texts. A shared topic counts for each question, so that a client that has many readers
    /// asked about one message takes the room of many questions.
    pub fn bytes(&self) -> usize {
        match self {
            OwnedQuestion::Connect { username, password, more } => {
                username.len() + password.len() + more.len()
            }
            OwnedQuestion::Access { username, client_id, topic, more, .. } => {
                username.len() + client_id.len() + topic.len() + more.len()
            }
        }
    }

    /// This question, borrowed.
    pub fn as_question(&self) -> Question<'_> {
        match self {
            OwnedQuestion::Connect { username, password, more } => {
                Question::Connect { username, password, more }
            }
            OwnedQuestion::Access { username, client_id, topic, access, more } => {
                Question::Access { username, client_id, topic, access: *access, more }
            }
        }
    }
}

impl Question<'_> {
    /// A copy of the question that outlives the event.
    pub fn to_owned(&self) -> OwnedQuestion {
        match *self {
            Question::Connect { username, password, more } => OwnedQuestion::Connect {
                username: username.into(),
                password: password.into(),
                more: more.into(),
            },
            Question::Access { topic, .. } => self.to_owned_about(&topic.into()),
        }
    }

    /// A copy of the question that outlives the event and shares its topic with other questions. `shared` must be the
    /// topic of this question.
    pub fn to_owned_about(&self, shared: &Arc<str>) -> OwnedQuestion {
        match *self {
            Question::Connect { .. } => self.to_owned(),
            Question::Access { username, client_id, access, more, .. } => OwnedQuestion::Access {
                username: username.into(),
                client_id: client_id.into(),
                topic: Arc::clone(shared),
                access,
                more: more.into(),
            },
        }
    }

    /// The username of the client that the question is about.
    pub fn username(&self) -> &str {
        match self {
            Question::Connect { username, .. } | Question::Access { username, .. } => username,
        }
    }

    /// Whether this question is about a login or about a topic.
    pub fn kind(&self) -> Kind {
        match self {
            Question::Connect { .. } => Kind::Connect,
            Question::Access { .. } => Kind::Access,
        }
    }
}

/// The two kinds of questions. Each has its own URLs and its own cache times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A login, sent to `auth_url`.
    Connect,
    /// A topic, sent to `acl_url`.
    Access,
}

impl Kind {
    /// Both, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::Connect, Self::Access];
}

/// The outcome of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The API decided.
    Verdict {
        /// The API's yes or no.
        verdict: Verdict,
        /// What the verdict was read from.
        grounds: Grounds,
        /// What an allow says besides, if it was read (`answer_rules`).
        terms: Option<Arc<Terms>>,
    },
    /// The API did not decide: nothing is remembered, and the client is refused unless an older verdict still serves.
    None(NoAnswer),
}

impl Answer {
    /// What a status means (the contract): 200 allows; 408, 429 and 5xx are no answer; all others deny.
    pub fn of_status(status: u16) -> Self {
        match status {
            200 => Self::verdict(Verdict::Allow, Grounds::Status(status)),
            408 | 429 | 500..=599 => Answer::None(NoAnswer::Status(status)),
            _ => Self::verdict(Verdict::Deny, Grounds::Status(status)),
        }
    }

    /// A verdict that says nothing besides.
    pub const fn verdict(verdict: Verdict, grounds: Grounds) -> Self {
        Answer::Verdict { verdict, grounds, terms: None }
    }

    /// This answer to a question that was asked then: what it says besides is from that time.
    pub fn asked_at(mut self, at: Instant) -> Self {
        if let Answer::Verdict { terms: Some(terms), .. } = &mut self {
            Arc::make_mut(terms).asked = Some(at);
        }
        self
    }
}

/// What the API said, by which a verdict was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grounds {
    /// This HTTP status.
    Status(u16),
    /// A `result` in the body that is no allow (`answer_rules`). As good as a 403.
    BodyDenies,
    /// An `expire_at` in the body that is over.
    Expired,
    /// A body that cannot be used.
    BadBody,
    /// Nothing: nobody was asked, since the username is one that may do everything (`superusers` of mosquitto-auth-plug).
    NamedSuperuser,
    /// This, among the results about many questions (`acl_batch_url`). As good as a 200 or a 403.
    InBatch(Verdict),
}

impl Grounds {
    /// A number that stands for it where each byte counts.
    pub const fn number(self) -> u16 {
        match self {
            // It has three digits; those below have one.
            Grounds::Status(status) => status,
            Grounds::BodyDenies => 1,
            Grounds::Expired => 2,
            Grounds::BadBody => 3,
            Grounds::NamedSuperuser => 4,
            Grounds::InBatch(Verdict::Allow) => 5,
            Grounds::InBatch(Verdict::Deny) => 6,
        }
    }

    /// The grounds for which this number stands.
    pub const fn of_number(number: u16) -> Self {
        match number {
            1 => Grounds::BodyDenies,
            2 => Grounds::Expired,
            3 => Grounds::BadBody,
            4 => Grounds::NamedSuperuser,
            5 => Grounds::InBatch(Verdict::Allow),
            6 => Grounds::InBatch(Verdict::Deny),
            status => Grounds::Status(status),
        }
    }

    /// Whether a deny by this says that the password is wrong.
    pub const fn is_about_the_password(self) -> bool {
        matches!(self, Grounds::Status(401 | 403) | Grounds::BodyDenies)
    }

    /// Whether a deny by this is about the client and not only about the question: it ends what the client was allowed, and
    /// has it go when it is asked about again.
    pub const fn is_about_the_client(self) -> bool {
        self.is_about_the_password() || matches!(self, Grounds::Expired | Grounds::InBatch(Verdict::Deny))
    }
}

/// What the API said in the words of the log, as it follows "the API answered".
impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grounds::Status(status) => write!(f, "{status}"),
            Grounds::BodyDenies => f.write_str("200 with a result that is no allow"),
            Grounds::Expired => f.write_str("200 with an expire_at that is over"),
            Grounds::BadBody => f.write_str("200 with a body that cannot be used"),
            Grounds::NamedSuperuser => f.write_str("nothing (its username is one of plugin_opt_superusers)"),
            Grounds::InBatch(Verdict::Allow) => {
                f.write_str("200 with an allow among its results (acl_batch_url)")
            }
            Grounds::InBatch(Verdict::Deny) => {
                f.write_str("200 with a deny among its results (acl_batch_url)")
            }
        }
    }
}

/// Why there is no verdict, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// No answer came within this time.
    TimedOut(Duration),
    /// The request or its answer was lost; the text has no secret in it.
    Transport(String),
    /// The API answered that it cannot decide: 408, 429 or 5xx.
    Status(u16),
    /// The queue was full, or the question waited in it for too long.
    Busy,
    /// Nobody waited for the answer any more, so the question was not asked, or its answer was not kept.
    Unheard,
    /// The broker has used up its wait budget. The question goes on, but nobody waits for its answer.
    BudgetSpent,
    /// Logins have held up the broker for long enough in this turn. The question goes on in the background.
    LoginWaitSpent,
    /// The circuit breaker is open, or the API asked for a pause itself (429).
    BreakerOpen,
    /// Messages wait for the client that cannot be asked about now, since the breaker of `acl_url` is open: they would be
    /// lost if it were let in.
    WouldLose,
    /// The rules in the answer have no room beside those of other sessions.
    NoRoomForRules,
    /// The broker is stopping, or the worker could not be started.
    NotAsked(String),
}

impl NoAnswer {
    /// Whether it was not asked, or not waited for, for want of room or time here: nothing is wrong with the API.
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            NoAnswer::Busy
            | NoAnswer::Unheard
            | NoAnswer::BudgetSpent
            | NoAnswer::LoginWaitSpent
            | NoAnswer::NoRoomForRules => true,
            NoAnswer::TimedOut(_)
            | NoAnswer::Transport(_)
            | NoAnswer::Status(_)
            | NoAnswer::BreakerOpen
            | NoAnswer::WouldLose
            | NoAnswer::NotAsked(_) => false,
        }
    }
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
            NoAnswer::Unheard => f.write_str("nobody waits for it any more"),
            NoAnswer::BudgetSpent => f.write_str("the broker has waited long enough for it just now"),
            NoAnswer::LoginWaitSpent => f.write_str(
                "other logins have held up the broker for long enough just now (plugin_opt_login_wait); it is being \
                 asked about, and gets in when it comes again",
            ),
            NoAnswer::BreakerOpen => {
                f.write_str("it was silent, or wants to be left alone, and is not asked for a while")
            }
            NoAnswer::WouldLose => f.write_str(
                "what waits for it in its session would be lost, since topics cannot be asked about for a while",
            ),
            NoAnswer::NoRoomForRules => {
                f.write_str("its rules have no room beside those of other sessions (see docs/answers.md)")
            }
            NoAnswer::NotAsked(cause) => write!(f, "it could not be asked ({cause})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_allows_and_trouble_is_no_answer() {
        for status in 100..1000 {
            let expected = match status {
                200 => Answer::verdict(Verdict::Allow, Grounds::Status(status)),
                408 | 429 | 500..=599 => Answer::None(NoAnswer::Status(status)),
                _ => Answer::verdict(Verdict::Deny, Grounds::Status(status)),
            };
            assert_eq!(Answer::of_status(status), expected);
        }
    }

    #[test]
    fn grounds_come_back_from_their_number() {
        for number in 0..1000 {
            assert_eq!(Grounds::of_number(number).number(), number);
        }
        let statuses = (100..1000).map(Grounds::of_number);
        assert!(statuses.into_iter().all(|grounds| matches!(grounds, Grounds::Status(_))));
        assert_eq!(size_of::<Grounds>(), 4);
    }

    #[test]
    fn only_what_is_about_the_client_ends_what_it_was_allowed() {
        let about = |grounds: Grounds| (grounds.is_about_the_password(), grounds.is_about_the_client());
        for grounds in [Grounds::Status(401), Grounds::Status(403), Grounds::BodyDenies] {
            assert_eq!(about(grounds), (true, true));
        }
        for grounds in [Grounds::Expired, Grounds::InBatch(Verdict::Deny)] {
            assert_eq!(about(grounds), (false, true));
        }
        for grounds in [Grounds::Status(404), Grounds::BadBody] {
            assert_eq!(about(grounds), (false, false));
        }
    }
}
