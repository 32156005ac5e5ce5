//! Whether a user may do everything, which APIs of other plugins are asked before a topic of that user. Its yes or no is remembered
//! for the username beside the verdicts, and is no more than a part of the answer about a topic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dialect;
use super::http::{AskedFor, Exchange, Reply, Request, Target, spread};
use super::inbox::Inbox;
use super::store::Found;
use super::subject::Subject;
use crate::cache::{LAST_PART, PRECISION, Remembered};
use crate::config::{Dialect, UrlSet};
use crate::fingerprint::{About, Domain, Fingerprint};
use crate::question::{Answer, Grounds, Kind, NoAnswer, Question, Verdict};

/// The share of what is left of a question's time that the one about the user may take.
const SHARE: u32 = 2;

/// How long a connection may take to deliver the rest of a no, while the question about the topic waits.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);

/// What is known of a user before anybody is asked.
#[derive(Debug)]
pub enum Beforehand {
    /// By its name it may do everything.
    Named,
    /// Nobody is asked about users.
    NotAsked,
    /// The API has said so.
    Remembered(Remembered),
    /// The API is to be asked.
    ToBeAsked,
}

impl Beforehand {
    /// Decisions and explanations share it. `remembered`: what the API has said of this name, if that still serves.
    pub(super) fn of(dialect: &Dialect, name: &str, remembered: impl FnOnce() -> Option<Remembered>) -> Self {
        if dialect.superusers.as_ref().is_some_and(|pattern| pattern.matches(name)) {
            Self::Named
        } else if dialect.superuser_urls.is_empty() {
            Self::NotAsked
        } else {
            remembered().map_or(Self::ToBeAsked, Self::Remembered)
        }
    }
}

/// What is known of a user by now.
pub(super) enum Finding {
    /// It may do everything, as was found before.
    Known(Found),
    /// It may do everything, as the API has just answered.
    Said(Box<Exchange>),
    /// It may not. A no about its topic counts from when this was asked, if it was, and no longer than this is known.
    No { asked: Option<Instant>, holds: Option<Duration> },
    /// Nobody can tell: a no about its topic would be none.
    Unknown(NoAnswer),
}

/// When what is remembered was asked: rounded so that it was before whatever has taken it back since.
pub(super) fn asked_at(known: &Remembered, now: Instant) -> Instant {
    now.checked_sub(known.age + PRECISION).unwrap_or(now)
}

impl Finding {
    /// Fits the answer about a topic to what is known of the user.
    pub(super) fn temper(self, reply: &mut Reply, configured: impl FnOnce() -> Duration) {
        let is_no = matches!(reply.answer, Answer::Verdict { verdict: Verdict::Deny, .. });
        match self {
            Finding::Unknown(reason) if is_no => reply.answer = Answer::None(reason),
            Finding::No { asked, holds } => {
                reply.sent = asked.map_or(reply.sent, |asked| asked.min(reply.sent));
                if let Some(holds) = holds.filter(|_| is_no) {
                    reply.lifetime = Some(reply.lifetime.unwrap_or_else(configured).min(holds));
                }
            }
            _ => {}
        }
    }
}

/// A question about a topic, and how it is to be answered.
pub(super) struct Topic<'a> {
    pub(super) question: Question<'a>,
    pub(super) subject: Subject,
    /// Whom it is asked for.
    pub(super) asked_for: AskedFor,
    /// Whether what is remembered of the user has to be of late.
    pub(super) asks_anew: bool,
    /// When its time began.
    pub(super) began: Instant,
    /// Whether what is remembered of the user was in vain before, and does not do at all.
    pub(super) is_again: bool,
}

impl Topic<'_> {
    /// Finds out whether its user may do everything.
    pub(super) async fn superuser(&self, inbox: &Inbox, target: &Arc<Target>) -> Finding {
        let Question::Access { username, client_id, .. } = self.question else {
            return Finding::No { asked: None, holds: None };
        };
        let config = &target.config;
        let name = dialect::name(&config.dialect, username, client_id);
        let configured = || config.lifetime(Kind::Access, Verdict::Allow);
        let key = inbox.superuser_key(name);
        let remembered = || {
            let known = (!self.is_again).then(|| inbox.known_superuser(key, target)).flatten();
            known.filter(|known| self.does(known))
        };
        match Beforehand::of(&config.dialect, name, remembered) {
            Beforehand::Named => {
                let (lifetime, grounds) = (spread(configured()), Grounds::NamedSuperuser);
                return Finding::Known(Found { sent: Instant::now(), lifetime, grounds });
            }
            Beforehand::NotAsked => return Finding::No { asked: None, holds: None },
            Beforehand::Remembered(known) => return by_memory(&known),
            Beforehand::ToBeAsked => {}
        }
        let (said, exchange) = match self.ask_about(name, key, inbox, target).await {
            Ok(asked) => asked,
            Err(reason) => return Finding::Unknown(reason),
        };
        match (&said.answer, exchange) {
            (Answer::Verdict { verdict: Verdict::Allow, .. }, Some(exchange)) => {
                Finding::Said(Box::new(exchange))
            }
            (&Answer::Verdict { verdict: Verdict::Allow, grounds, .. }, None) => {
                let lifetime = said.lifetime_or(configured);
                Finding::Known(Found { sent: said.sent, lifetime, grounds })
            }
            (answer, exchange) => {
                // The question about the topic may go over the same connection.
                if let Some(response) = exchange.and_then(|exchange| exchange.response) {
                    target.drain(response, DRAIN_LIMIT).await;
                }
                match answer {
                    Answer::None(reason) => Finding::Unknown(reason.clone()),
                    Answer::Verdict { .. } => Finding::No { asked: Some(said.sent), holds: None },
                }
            }
        }
    }

    /// Asks the API about the user, or waits for whoever is asking already: then there is no exchange of its own.
    async fn ask_about(
        &self,
        name: &str,
        key: Fingerprint,
        inbox: &Inbox,
        target: &Arc<Target>,
    ) -> Result<(Reply, Option<Exchange>), NoAnswer> {
        let flight = match target.superuser_flights.join(key) {
            Ok(flight) => flight,
            Err(mut others) => {
                let said = others.wait_for(Option::is_some).await.ok().and_then(|said| said.clone());
                let ended = || NoAnswer::NotAsked("the question about its user ended".to_owned());
                return said.map(|said| (said, None)).ok_or_else(ended);
            }
        };
        let config = &target.config;
        let request = Request {
            asked_for: self.asked_for,
            urls: UrlSet::Superuser,
            body: dialect::superuser_body(&config.dialect, name).into(),
            credentials: dialect::credentials(&config.dialect, name, ""),
        };
        let time = config.timeout.saturating_sub(self.began.elapsed()) / SHARE;
        let exchange = target.ask_within(&request, time, Duration::ZERO, || ()).await;
        inbox.note_superuser(key, self.subject, &exchange.reply, target);
        flight.tell(&exchange.reply);
        Ok((exchange.reply.clone(), Some(exchange)))
    }

    /// Whether what is remembered of the user does.
    fn does(&self, known: &Remembered) -> bool {
        let Remembered { age, holds, .. } = *known;
        if self.asks_anew { holds > (age + holds) / LAST_PART } else { !holds.is_zero() }
    }
}

/// What is remembered of a user.
fn by_memory(known: &Remembered) -> Finding {
    let Remembered { verdict, grounds, age, holds, .. } = *known;
    match verdict {
        Verdict::Allow => {
            let sent = asked_at(known, Instant::now());
            Finding::Known(Found { sent, lifetime: age + PRECISION + holds, grounds })
        }
        Verdict::Deny => Finding::No { asked: None, holds: Some(holds) },
    }
}

impl Inbox {
    /// The fingerprint of the question about a user.
    pub(super) fn superuser_key(&self, name: &str) -> Fingerprint {
        self.keys.fields(Domain::Superuser, [name.as_bytes()])
    }

    /// What is remembered of a user that this API has said.
    pub(super) fn known_superuser(&self, key: Fingerprint, target: &Target) -> Option<Remembered> {
        let (mut state, now) = (self.state(), Instant::now());
        if !self.target.load().asks_like(target) {
            return None;
        }
        let known = state.cache.look(key, now)?;
        // It counts as a use.
        state.cache.get(key, now);
        Some(known)
    }

    /// Remembers what this API has said of the user of a question.
    pub(super) fn note_superuser(&self, key: Fingerprint, topic: Subject, reply: &Reply, from: &Target) {
        let about = match from.config.dialect.client_id_is_username {
            true => topic.about,
            false => About { client_id: self.keys.client_id(""), ..topic.about },
        };
        let subject = Subject { key, about, ..topic };
        let mut state = self.state();
        if self.target.load().asks_like(from) && !state.cache.has_forgotten(about, reply.sent) {
            self.remember(&mut state, subject, reply, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(verdict: Verdict, sent: Instant) -> Reply {
        Reply { answer: Answer::verdict(verdict, Grounds::Status(200)), sent, lifetime: None }
    }

    #[test]
    fn a_no_about_a_topic_goes_by_what_is_known_of_its_user() {
        let (now, seconds) = (Instant::now(), Duration::from_secs);
        let before = now.checked_sub(seconds(1)).unwrap();
        let configured = || seconds(30);
        let tempered = |finding: Finding, verdict| {
            let mut reply = reply(verdict, now);
            finding.temper(&mut reply, configured);
            reply
        };
        // Nobody can tell: a yes is one, a no is none.
        let unknown = || Finding::Unknown(NoAnswer::BreakerOpen);
        assert_eq!(tempered(unknown(), Verdict::Allow), reply(Verdict::Allow, now));
        assert_eq!(tempered(unknown(), Verdict::Deny).answer, Answer::None(NoAnswer::BreakerOpen));
        // A no counts from the first of both questions, and a yes as well.
        let asked = || Finding::No { asked: Some(before), holds: None };
        assert_eq!(tempered(asked(), Verdict::Deny), reply(Verdict::Deny, before));
        assert_eq!(tempered(asked(), Verdict::Allow), reply(Verdict::Allow, before));
        // And no longer than what is known of the user; a yes has its own time.
        let known = |holds| Finding::No { asked: None, holds: Some(seconds(holds)) };
        assert_eq!(tempered(known(7), Verdict::Deny).lifetime, Some(seconds(7)));
        assert_eq!(tempered(known(70), Verdict::Deny).lifetime, Some(seconds(30)));
        assert_eq!(tempered(known(7), Verdict::Allow), reply(Verdict::Allow, now));
    }
}
