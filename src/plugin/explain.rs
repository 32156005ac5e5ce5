//! Tells what would be decided now, by which step, and why. It asks nobody, counts nothing and changes nothing.

mod login;
mod superuser;
mod would;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::api::no_answer;
use super::decision::{By, Decision};
use super::sessions::{LetInBy, RulesSay};
use super::settings::Settings;
use super::steering::Steering;
use super::unasked::{Facts, TopicRequest, Unasked, unasked};
use crate::broker::{Client, Connection};
use crate::cache::Remembered;
use crate::config::Field;
use crate::fingerprint::Fingerprint;
use crate::local::PasswordHash;
use crate::question::{Access, Kind, NoAnswer, Question};

/// What is to be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    /// The username; empty for a client without one.
    pub username: String,
    /// The password, if it is known.
    pub password: Option<String>,
    /// The client id, if it is known.
    pub client_id: String,
    /// The address, if it is known.
    pub address: Option<String>,
    /// A topic and what is wanted of it; a login otherwise.
    pub topic: Option<(String, Access)>,
}

/// What would be decided.
#[derive(Debug)]
pub enum Would {
    /// This.
    Decide(Decision),
    /// The API would be asked, for this reason.
    Ask(&'static str),
    /// It cannot be told, for this reason.
    Unknown(&'static str),
}

/// A step of the decision, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub step: &'static str,
    /// What was found, as the end of a sentence.
    pub found: String,
}

/// The whole explanation.
#[derive(Debug)]
pub struct Explanation {
    /// What would be decided.
    pub would: Would,
    /// From when on the remembered answer holds that decides, and until when.
    pub holds: Option<(SystemTime, SystemTime)>,
    /// How it came to that.
    pub steps: Vec<Step>,
}

/// The steps that were taken.
#[derive(Default)]
struct Steps(RefCell<Vec<Step>>);

impl Steps {
    fn note(&self, step: &'static str, found: impl Into<String>) {
        self.0.borrow_mut().push(Step { step, found: found.into() });
    }
}

/// What is so about a client as far as it is known without an event: of its session, if one is connected.
struct ExplainedClient<'a> {
    steering: &'a Steering,
    request: TopicRequest<'a>,
    session: Option<(Connection, LetInBy)>,
    steps: &'a Steps,
    now: Instant,
}

impl Facts for ExplainedClient<'_> {
    fn is_let_in_without_username(&self) -> bool {
        self.session.is_some()
    }

    fn has_local_rights(&self, _: &str, hash: &Arc<PasswordHash>) -> bool {
        match &self.session {
            Some((_, LetInBy::Local(by))) => by == hash,
            Some((_, LetInBy::Api(_))) => false,
            // As it would be once it had logged in.
            None => true,
        }
    }

    fn rules_say(&self, username: &str) -> Option<RulesSay> {
        let Self { steering, request, now, .. } = self;
        steering.sessions.would_say(request.client_id, username, &request.wanted(), *now)
    }

    fn has_subscribed(&self, username: &str) -> bool {
        self.steering.prefetch.covers(self.request.client_id, username, self.request.topic)
    }

    fn note(&self, step: &'static str, found: impl FnOnce() -> String) {
        self.steps.note(step, found());
    }
}

impl Steering {
    /// Explains what would be decided. Comparing a password with a local user's hash may take some 50 ms.
    pub fn explain(&self, explain: &Explain, now: Instant) -> Explanation {
        let (settings, steps) = (self.settings.now(), Steps::default());
        let (would, look) = match &explain.topic {
            Some((topic, access)) => self.explain_topic(explain, topic, *access, &settings, &steps, now),
            None => self.explain_login(explain, &settings, &steps, now),
        };
        let would = match would {
            Would::Decide(decision) => {
                let deferred = decision.clone().or_deferred(&settings.config.defer_status);
                if deferred.ruling != decision.ruling {
                    steps.note("defer_status", "such an answer means that others decide");
                }
                Would::Decide(deferred)
            }
            other => other,
        };
        let at = SystemTime::now();
        let holds = look.map(|look| (at - look.age, at + look.holds));
        Explanation { would, holds, steps: steps.0.into_inner() }
    }

    fn explain_topic(
        &self,
        explain: &Explain,
        topic: &str,
        access: Access,
        settings: &Settings,
        steps: &Steps,
        now: Instant,
    ) -> (Would, Option<Remembered>) {
        let Explain { username, client_id, .. } = explain;
        let session = self.sessions.inspect(client_id, username);
        steps.note(
            "session",
            match &session {
                Some((_, LetInBy::Api(_))) => "it is connected, and the API let it in",
                Some((_, LetInBy::Local(_))) => "it is connected, and the password of a local user let it in",
                None => "nobody is connected under this client id and username whom this plugin let in",
            },
        );
        let name = (!username.is_empty()).then_some(&**username);
        let request = TopicRequest { username: name, client_id, topic, access, qos: None, retain: None };
        let facts = ExplainedClient { steering: self, request, session, steps, now };
        match unasked(&request, settings, &facts) {
            Unasked::Decided(decision) => (Would::Decide(decision), None),
            Unasked::Unchecked(_) => (Would::Decide(Decision::allow(By::Option("acl_checks"))), None),
            Unasked::ToBeAsked(username) => {
                let more = self.more(("acl_fields", &settings.config.acl_fields), explain, steps);
                let question = Question::Access { username, client_id, topic, access, more: &more };
                self.by_api(self.asker.key(&question), Some(&question), explain, steps, now)
            }
        }
    }

    /// What an option adds to the question, as far as that is known here.
    fn more(&self, (option, fields): (&'static str, &[Field]), explain: &Explain, steps: &Steps) -> String {
        let is_unknown = |field: &&Field| match field {
            Field::ClientId => explain.client_id.is_empty(),
            Field::Address => explain.address.is_none(),
            _ => true,
        };
        let unknown = fields.iter().filter(is_unknown);
        let unknown: Vec<_> = unknown.map(|field| field.name()).collect();
        if !unknown.is_empty() {
            let unknown = unknown.join(", ");
            steps.note(option, format!("not known here, so that nothing remembered is found: {unknown}"));
        }
        let client = Client { connection: 0, id: &explain.client_id, address: explain.address.as_deref() };
        self.api.more(fields, client, &(), None)
    }

    /// The API's part: a remembered answer, or whether it would be asked. `topic`: the question, if it is about one.
    fn by_api(
        &self,
        key: Fingerprint,
        topic: Option<&Question<'_>>,
        explain: &Explain,
        steps: &Steps,
        now: Instant,
    ) -> (Would, Option<Remembered>) {
        // For a login it was told before.
        let silent = Steps::default();
        let steps_here = if topic.is_some() { steps } else { &silent };
        let look = self.remembered(key, steps_here, now);
        if let Some(look) = look.filter(|look| !look.holds.is_zero()) {
            return (Would::Decide(by_memory(&look)), Some(look));
        }
        let serves_stale = look.is_some_and(|look| !look.serves_stale.is_zero());
        match self.by_asking(topic, serves_stale, explain, steps, now) {
            (Would::Decide(decision), _) if decision.is_no_answer() && serves_stale => {
                (Would::Decide(Decision::allow(By::Stale)), look)
            }
            would => would,
        }
    }

    fn remembered(&self, key: Fingerprint, steps: &Steps, now: Instant) -> Option<Remembered> {
        let look = self.asker.look(key, now);
        steps.note(
            "memory",
            match &look {
                None => "no answer is remembered".to_owned(),
                Some(look) if look.holds.is_zero() => format!(
                    "the API answered {} {} s ago; that has ended, and serves for another {} s while the API gives no \
                     answer (stale_ttl)",
                    look.grounds,
                    seconds(look.age),
                    seconds(look.serves_stale)
                ),
                Some(look) => format!(
                    "the API answered {} {} s ago{}; that holds for another {} s",
                    look.grounds,
                    seconds(look.age),
                    if look.is_unused { " (asked for early)" } else { "" },
                    seconds(look.holds)
                ),
            },
        );
        look
    }

    /// What is not remembered, or has ended but may still serve: whether the API would be asked, or could not be.
    fn by_asking(
        &self,
        topic: Option<&Question<'_>>,
        serves_stale: bool,
        explain: &Explain,
        steps: &Steps,
        now: Instant,
    ) -> (Would, Option<Remembered>) {
        let source = self.asker.source(explain.address.as_deref(), &explain.username);
        let kind = if topic.is_some() { Kind::Access } else { Kind::Connect };
        // Who has an allow that may still serve does not wait to find out whether the API is silent to strangers alone.
        let refused = if serves_stale { source.of_stranger() } else { source };
        let is_refused = self.asker.refuses(kind, refused, now);
        let shared = self.asker.shared_cache();
        if let Some((place, is_up)) = &shared {
            let found = if *is_up {
                format!(
                    "what other brokers have been told would be looked for at {place} first; it is not looked for here"
                )
            } else {
                format!("{place} is left alone, since it is slow or away")
            };
            steps.note("shared cache", found);
        }
        // Where no topic can be asked about, nobody is looked at either.
        if (!is_refused || shared.is_some_and(|(_, is_up)| is_up))
            && let Some((decision, look)) =
                topic.and_then(|topic| self.by_superuser(topic, source, steps, now))
        {
            return (Would::Decide(decision), look);
        }
        let found = if is_refused { "it is left alone for now" } else { "it would be asked" };
        steps.note("API", found);
        (
            if is_refused {
                Would::Decide(no_answer(NoAnswer::BreakerOpen))
            } else {
                Would::Ask(NOT_REMEMBERED)
            },
            None,
        )
    }
}

/// Why the API would be asked.
const NOT_REMEMBERED: &str = "no answer is remembered, and the API can be asked";

fn by_memory(look: &Remembered) -> Decision {
    Decision::remembered(look.verdict, look.grounds, look.is_unused)
}

fn seconds(time: Duration) -> u64 {
    time.as_secs()
}
