//! Whether a user may do everything, which APIs of other plugins are asked before a topic of that user. Its yes or no is remembered
//! for the username beside the verdicts, and is no more than a part of the answer about a topic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::dialect;
use super::http::{AskedFor, Exchange, Reply, Request, Target};
use super::inbox::{Inbox, spread};
use super::job::{Subject, Try};
use super::store::Found;
use crate::cache::{Look, PRECISION};
use crate::config::{Dialect, UrlSet};
use crate::fingerprint::{About, AlreadyHashed, Domain, Fingerprint};
use crate::question::{Answer, Grounds, Kind, NoAnswer, Question, Verdict};
use crate::util::Lock;

/// The share of what is left of a question's time that the one about the user may take.
const SHARE: u32 = 2;

/// How long a connection may take to deliver the rest of a no, while the question about the topic waits.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);

/// The last part of its time in which an answer does not do for a topic that is asked about anew: as for verdicts.
const LAST: u32 = 5;

/// What is known of a user before anybody is asked.
#[derive(Debug)]
pub enum Beforehand {
    /// By its name it may do everything.
    Named,
    /// Nobody is asked about users.
    NotAsked,
    /// The API has said so.
    Remembered(Look),
    /// The API is to be asked.
    ToBeAsked,
}

impl Beforehand {
    /// Decisions and explanations share it. `remembered`: what the API has said of this name, if that still serves.
    pub(super) fn of(dialect: &Dialect, name: &str, remembered: impl FnOnce() -> Option<Look>) -> Self {
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
pub(super) fn asked_at(known: &Look, now: Instant) -> Instant {
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

/// What the API has said of a user.
#[derive(Debug, Clone)]
struct SuperuserReply {
    answer: Answer,
    sent: Instant,
    /// The time for which it may be remembered, if the API sets that itself.
    lifetime: Option<Duration>,
}

type OnTheirWay = HashMap<Fingerprint, watch::Receiver<Option<SuperuserReply>>, AlreadyHashed>;

/// The questions about users that are on their way to an API. Whoever comes meanwhile shares the answer.
#[derive(Default)]
pub(in crate::ask) struct Superusers(Lock<OnTheirWay>);

/// A question on its way. However it ends, others may ask anew then.
struct Asking<'a> {
    of: &'a Superusers,
    key: Fingerprint,
    tell: watch::Sender<Option<SuperuserReply>>,
}

impl Superusers {
    /// Joins the question about this user, or begins it.
    fn join(&self, key: Fingerprint) -> Result<Asking<'_>, watch::Receiver<Option<SuperuserReply>>> {
        let mut on_their_way = self.0.lock();
        if let Some(receiver) = on_their_way.get(&key) {
            return Err(receiver.clone());
        }
        let (tell, receiver) = watch::channel(None);
        on_their_way.insert(key, receiver);
        Ok(Asking { of: self, key, tell })
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.of.0.lock().remove(&self.key);
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
    /// When it began, and whether what is remembered of the user does not do at all.
    pub(super) this_try: Try,
}

impl Topic<'_> {
    /// Finds out whether its user may do everything.
    pub(super) async fn superuser(&self, inbox: &Inbox, target: &Arc<Target>) -> Finding {
        let Question::Access { username, client_id, .. } = self.question else {
            return Finding::No { asked: None, holds: None };
        };
        let config = &target.config;
        let name = dialect::name(&config.dialect, username, client_id);
        let lifetime = || spread(config.lifetime(Kind::Access, Verdict::Allow));
        let key = inbox.superuser_key(name);
        let remembered = || {
            let known = (!self.this_try.asks_again).then(|| inbox.known_superuser(key, target)).flatten();
            known.filter(|known| self.does(known))
        };
        match Beforehand::of(&config.dialect, name, remembered) {
            Beforehand::Named => {
                let (lifetime, grounds) = (lifetime(), Grounds::NamedSuperuser);
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
        match (said.answer, exchange) {
            (Answer::Verdict { verdict: Verdict::Allow, .. }, Some(exchange)) => {
                Finding::Said(Box::new(exchange))
            }
            (Answer::Verdict { verdict: Verdict::Allow, grounds, .. }, None) => {
                let lifetime = said.lifetime.map_or_else(lifetime, spread);
                Finding::Known(Found { sent: said.sent, lifetime, grounds })
            }
            (answer, exchange) => {
                // The question about the topic may go over the same connection.
                if let Some(response) = exchange.and_then(|exchange| exchange.response) {
                    target.drain(response, DRAIN_LIMIT).await;
                }
                match answer {
                    Answer::None(reason) => Finding::Unknown(reason),
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
    ) -> Result<(SuperuserReply, Option<Exchange>), NoAnswer> {
        let asking = match target.superusers_asked.join(key) {
            Ok(asking) => asking,
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
        let time = config.timeout.saturating_sub(self.this_try.began.elapsed()) / SHARE;
        let exchange = target.ask_within(&request, time, Duration::ZERO, || ()).await;
        inbox.note_superuser(key, self.subject, &exchange.reply, target);
        let Reply { answer, sent, lifetime } = exchange.reply.clone();
        let said = SuperuserReply { answer, sent, lifetime };
        let _ = asking.tell.send(Some(said.clone()));
        Ok((said, Some(exchange)))
    }

    /// Whether what is remembered of the user does.
    fn does(&self, known: &Look) -> bool {
        let Look { age, holds, .. } = *known;
        if self.asks_anew { holds > (age + holds) / LAST } else { !holds.is_zero() }
    }
}

/// What is remembered of a user.
fn by_memory(known: &Look) -> Finding {
    let Look { verdict, grounds, age, holds, .. } = *known;
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
        self.sharing.keys.fields(Domain::Superuser, [name.as_bytes()])
    }

    /// What is remembered of a user that this API has said.
    pub(super) fn known_superuser(&self, key: Fingerprint, target: &Target) -> Option<Look> {
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
            false => About { client_id: self.sharing.keys.client_id(""), ..topic.about },
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

    #[test]
    fn who_comes_meanwhile_shares_the_question_and_whoever_comes_later_asks() {
        let key = crate::fingerprint::Fingerprinter::with_key(&[7; 16]).fields(Domain::Superuser, [b"joe"]);
        let superusers = Superusers::default();
        let said = SuperuserReply {
            answer: Answer::verdict(Verdict::Allow, Grounds::Status(200)),
            sent: Instant::now(),
            lifetime: None,
        };
        let asking = superusers.join(key).ok().unwrap();
        let mut waiting = superusers.join(key).err().unwrap();
        asking.tell.send(Some(said)).unwrap();
        drop(asking);
        assert!(waiting.borrow_and_update().is_some());
        // One that ends without an answer leaves nobody waiting.
        let asking = superusers.join(key).ok().unwrap();
        let waiting = superusers.join(key).err().unwrap();
        drop(asking);
        assert!(waiting.has_changed().is_err() && waiting.borrow().is_none());
        assert!(superusers.join(key).is_ok());
    }
}
