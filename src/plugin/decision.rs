//! What the plugin answers the broker, and the reason in the words of the log: for every answer, allows included.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Client;
use crate::cache::Hit;
use crate::log::{Refused, quoted};
use crate::metrics::{DecidedBy, Matter, Metrics, Outcome};
use crate::question::{Answer, Grounds, NoAnswer, Verdict};
use crate::topic::Terms;

/// What the broker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// Not this plugin's business: the next plugin or the broker itself decides.
    Defer,
    /// Not decided yet: the client waits beside the broker's loop until a tick lets it in or refuses it.
    Later,
    /// No, and the client is to be disconnected.
    Disconnect,
    /// Nobody can tell just now, and the connection is to end: the client keeps its message and sends it again.
    Unavailable,
}

/// What a client hears that is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// That it may not come in.
    NotAuthorised,
    /// That nobody could say whether it may come in: it should try again.
    Unavailable,
    /// That it should try again, because others are being dealt with.
    Busy,
}

/// A ruling and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// What the broker is told.
    pub ruling: Ruling,
    /// By what it was decided.
    pub by: By,
    /// What the API's allow says besides.
    pub terms: Option<Arc<Terms>>,
}

impl Decision {
    /// A ruling that nothing comes with.
    pub const fn new(ruling: Ruling, by: By) -> Self {
        Self { ruling, by, terms: None }
    }

    /// An allow.
    pub fn allow(by: By) -> Self {
        Self::new(Ruling::Allow, by)
    }

    /// A denial.
    pub fn deny(by: By) -> Self {
        Self::new(Ruling::Deny, by)
    }

    /// Leaves the decision to the next plugin, or to the broker.
    pub fn defer(by: By) -> Self {
        Self::new(Ruling::Defer, by)
    }

    /// An allow or a denial, by a verdict.
    pub fn of(verdict: Verdict, by: By) -> Self {
        match verdict {
            Verdict::Allow => Self::allow(by),
            Verdict::Deny => Self::deny(by),
        }
    }

    /// The decision that an answer of the API means; without a verdict, a denial.
    pub fn by_answer(answer: &Answer) -> Self {
        match answer {
            Answer::Verdict { verdict, grounds, terms } => {
                Self::of(*verdict, By::Api { grounds: *grounds }).with(terms.clone())
            }
            Answer::None(reason) => Self::deny(By::NoAnswer(reason.clone())),
        }
    }

    /// The decision that a remembered verdict means.
    pub fn by_memory(hit: Hit) -> Self {
        Self::remembered(hit.verdict, hit.grounds, hit.is_first_use).with(hit.terms)
    }

    /// The decision that a verdict means which is remembered on these grounds. The first use of one that was asked for early
    /// counts as an answer of now.
    pub fn remembered(verdict: Verdict, grounds: Grounds, is_first_use: bool) -> Self {
        let by = if is_first_use { By::Api { grounds } } else { By::Remembered { grounds } };
        Self::of(verdict, by)
    }

    /// This decision, with what the API's allow says besides.
    pub fn with(self, terms: Option<Arc<Terms>>) -> Self {
        Self { terms, ..self }
    }

    /// This decision, but a denial by a status that means "not mine" (`defer_status`) is left to others.
    pub fn or_deferred(self, defer_status: &[u16]) -> Self {
        match (self.ruling, &self.by) {
            (
                Ruling::Deny,
                By::Api { grounds: Grounds::Status(status) }
                | By::Remembered { grounds: Grounds::Status(status) },
            ) if defer_status.contains(status) => Self::defer(self.by),
            _ => self,
        }
    }

    /// Whether it allows.
    pub fn is_allow(&self) -> bool {
        self.ruling == Ruling::Allow
    }

    /// Whether the API was to decide and did not.
    pub fn is_no_answer(&self) -> bool {
        matches!(self.by, By::NoAnswer(_))
    }

    /// Whether the API was to decide and did not, and is to blame for that. Who is turned away for want of room or time here
    /// has no claim to what it was once allowed: the API may have taken that back, and is there to be asked.
    pub fn is_no_answer_of_the_api(&self) -> bool {
        match &self.by {
            // It is asked at this moment, and has not answered in the time that there was.
            By::NoAnswer(NoAnswer::BudgetSpent) => true,
            By::NoAnswer(why) => !why.is_for_want_of_room(),
            _ => false,
        }
    }

    /// How it is counted, if it is the last word about something that was to be decided.
    fn counts_as(&self) -> Option<(Outcome, DecidedBy)> {
        let outcome = match self.ruling {
            Ruling::Later => return None,
            // The broker's check of a session after a SIGHUP is no login.
            _ if matches!(self.by, By::Session) => return None,
            Ruling::Allow => Outcome::Allow,
            Ruling::Defer => Outcome::Defer,
            Ruling::Unavailable => Outcome::NoAnswer,
            Ruling::Deny | Ruling::Disconnect if self.refusal() != Refusal::NotAuthorised => {
                Outcome::NoAnswer
            }
            Ruling::Deny | Ruling::Disconnect => Outcome::Deny,
        };
        Some((outcome, self.by.source()))
    }

    /// Counts it, if it is the last word.
    #[inline]
    pub fn count(&self, question: Matter, metrics: &Metrics, on_broker_thread: bool) {
        if let Some((outcome, by)) = self.counts_as() {
            metrics.decided(question, outcome, by, on_broker_thread);
        }
    }

    /// What a client is to hear that is refused by this. Only a no is called a no: an outage must not look like a wrong
    /// password, at which some devices give up for good.
    pub fn refusal(&self) -> Refusal {
        match &self.by {
            By::NoAnswer(why) if why.is_for_want_of_room() => Refusal::Busy,
            By::TooManyWait | By::Turn | By::NoTimeForHash | By::NoThreadForHash => Refusal::Busy,
            By::NoAnswer(_) | By::Reload => Refusal::Unavailable,
            _ => Refusal::NotAuthorised,
        }
    }
}

/// By what something was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The hash of a local user.
    LocalPassword,
    /// The topic rules of local users, or the lack of any.
    LocalRules,
    /// The option of this name, without `plugin_opt_`, which decides for all such clients.
    Option(&'static str),
    /// No option tells this plugin to decide.
    NotOurs,
    /// `+` or `#` in a username or client id.
    SpecialCharacters,
    /// A password without a username.
    NoUsername,
    /// A password that is not UTF-8 text.
    PasswordIsNoText,
    /// The session had been let in, and the broker asks about it once more.
    Session,
    /// A reload while the answer was on its way: it would have been an answer to the old settings.
    Reload,
    /// The API's answer.
    Api {
        /// What the API said.
        grounds: Grounds,
    },
    /// An earlier answer of the API that still holds.
    Remembered {
        /// What the API said.
        grounds: Grounds,
    },
    /// An earlier allow of the API that has ended, while the API gives no answer (`stale_ttl`).
    Stale,
    /// The API gives no answer and the reader is not there: the broker asks about the message when it comes back.
    Asleep,
    /// The API refused the session when it was asked again after a SIGHUP.
    Recheck,
    /// Too many wrong passwords, and how long it takes until the next try is looked at.
    Throttle(Duration),
    /// The API gave no verdict.
    NoAnswer(NoAnswer),
    /// Nothing yet: the client is parked.
    Parked,
    /// No more clients can be parked, or too many slow hashes are to be computed.
    TooManyWait,
    /// A bug in the plugin.
    Bug,
    /// Others of the same name or client id were looked at for as long as it could wait.
    Turn,
    /// Logins of this turn, or those of its network, have held up the broker for long enough, and its hash takes long to
    /// compute.
    NoTimeForHash,
    /// The system gives no thread to compute its slow hash on.
    NoThreadForHash,
    /// A command disconnected whoever has its name or client id.
    Kick,
    /// Rules that came with an answer of the API, or that it is a superuser.
    Rules,
    /// No rule that came with an answer is about the topic, and there is nobody to ask.
    NoRule,
    /// The rules that came with the API's answer cannot be used for this client.
    BadRules,
    /// The time is over that came with an answer of the API (`expire_at`).
    Expired,
}

impl By {
    /// Whether the password was wrong. Only that counts for the throttle, and not, for example, an API that answers 404
    /// to every login.
    pub fn is_about_the_password(&self) -> bool {
        match self {
            By::LocalPassword => true,
            By::Api { grounds } | By::Remembered { grounds } => grounds.is_about_the_password(),
            _ => false,
        }
    }

    /// By what it was decided, in the words of metrics and commands.
    pub fn source(&self) -> DecidedBy {
        match self {
            By::LocalPassword | By::LocalRules => DecidedBy::Local,
            By::Api { .. } | By::Recheck => DecidedBy::Api,
            By::Remembered { .. } => DecidedBy::Cache,
            By::Stale | By::Asleep => DecidedBy::Stale,
            By::Throttle(_) => DecidedBy::Throttle,
            By::Rules | By::NoRule | By::BadRules | By::NoAnswer(NoAnswer::NoRoomForRules) | By::Expired => {
                DecidedBy::Rules
            }
            By::NoAnswer(
                NoAnswer::TimedOut(_)
                | NoAnswer::Transport(_)
                | NoAnswer::Status(_)
                | NoAnswer::BreakerOpen
                | NoAnswer::WouldLose,
            ) => DecidedBy::NoAnswer,
            By::Option(_)
            | By::NotOurs
            | By::SpecialCharacters
            | By::NoUsername
            | By::PasswordIsNoText
            | By::Session
            | By::Reload
            | By::Kick
            | By::NoAnswer(
                NoAnswer::Busy
                | NoAnswer::Unheard
                | NoAnswer::BudgetSpent
                | NoAnswer::LoginWaitSpent
                | NoAnswer::NotAsked(_),
            )
            | By::Parked
            | By::TooManyWait
            | By::Turn
            | By::NoTimeForHash
            | By::NoThreadForHash
            | By::Bug => DecidedBy::Unasked,
        }
    }

    /// The refusal of a client for this reason, as the log counts it.
    pub fn as_refusal<'a>(&self, client: Client<'a>) -> Refused<'a> {
        let reason = match self {
            By::LocalPassword => "wrong password for a local user",
            By::LocalRules => "a local user's topic rules",
            By::Option(_) | By::NotOurs => "as an option says",
            By::SpecialCharacters => "+ or # in a name",
            By::NoUsername | By::PasswordIsNoText => "a login that cannot be asked about",
            By::Session | By::Reload | By::Recheck => "a SIGHUP",
            By::Api { .. } | By::Remembered { .. } | By::Stale => "the API said no",
            By::Throttle(_) => "too many wrong passwords",
            By::Turn => "its turn has not come",
            By::NoTimeForHash => "logins hold up the broker",
            By::NoThreadForHash => "no thread for slow hashes",
            By::NoAnswer(NoAnswer::BreakerOpen) => "the API gave no answer before and was left alone",
            By::NoAnswer(_) | By::Asleep => "the API gave no answer",
            By::Parked | By::TooManyWait => "too many clients wait",
            By::Bug => "a bug",
            By::Kick => "a command",
            By::Rules | By::NoRule | By::BadRules => "the rules in the API's answer",
            By::Expired => "the end that the API's answer has set",
        };
        Refused { client: Some((client.id, client.address.unwrap_or_default())), reason }
    }
}

/// The reason in the words of the log, as it follows "Refused ..: ".
impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::LocalPassword => f.write_str("wrong password for a local user"),
            By::LocalRules => f.write_str("the local user's topic rules do not allow it"),
            By::Option("anonymous") => f.write_str("the client is anonymous (plugin_opt_anonymous)"),
            By::Option(name) => write!(f, "plugin_opt_{name} says so"),
            By::NotOurs => f.write_str("no option says how to decide it"),
            By::SpecialCharacters => {
                f.write_str("the username or client id holds + or # (plugin_opt_special_chars)")
            }
            By::NoUsername => f.write_str("a password without a username cannot be asked about"),
            By::PasswordIsNoText => {
                f.write_str("the password is no UTF-8 text and cannot be written in JSON")
            }
            By::Session => f.write_str("its session had been let in"),
            By::Reload => {
                f.write_str("options or files were read again while it was checked; it may try again")
            }
            By::Api { grounds } => write!(f, "the API answered {grounds}"),
            By::Remembered { grounds } => write!(f, "the API answered {grounds} when it was last asked"),
            By::Stale => f.write_str("the API gives no answer, and its last one still serves"),
            By::Asleep => {
                f.write_str("the API gives no answer, and the message waits for its reader to come back")
            }
            By::Recheck => f.write_str("the API refused it when asked again"),
            By::Throttle(pause) => write!(
                f,
                "too many wrong passwords from there; to be tried again in {}s (plugin_opt_throttle_after)",
                pause.as_secs() + 1
            ),
            By::NoAnswer(reason) => write!(f, "the API gave no answer: {reason}"),
            By::Parked => f.write_str("it waits for an answer"),
            By::TooManyWait => f.write_str("too many clients wait for an answer already"),
            By::Bug => f.write_str("the plugin met a bug (the line before says where)"),
            By::Turn => {
                f.write_str("its turn has not come: others with its name or client id tried passwords")
            }
            By::NoTimeForHash => f.write_str(
                "other logins have held up the broker for long enough just now (plugin_opt_login_wait), so its password \
                 was not examined; it may come again",
            ),
            By::NoThreadForHash => f.write_str(
                "the system gives no thread to compute its slow password hash on, so its password was not examined; it may \
                 come again",
            ),
            By::Kick => f.write_str("a command disconnected its username or client id (kick)"),
            By::Rules => f.write_str("the rules that came with the API's answer say so"),
            By::NoRule => f.write_str(
                "no rule that came with the API's answer is about it, and there is no plugin_opt_acl_url to ask",
            ),
            By::BadRules => {
                f.write_str("the rules that came with the API's answer cannot be used for its client id")
            }
            By::Expired => f.write_str("its time is over (expire_at in the API's answer)"),
        }
    }
}

/// Characters of an address that a line shows: more than any has. Over websockets a client may make it up (2.0.21).
const ADDRESS: usize = 64;
/// A client and its username, as a log line shows them.
pub struct LoggedClient<'a>(pub Client<'a>, pub Option<&'a str>);

impl fmt::Display for LoggedClient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(username) => write!(f, "{}", quoted(username))?,
            None => f.write_str("a client without a username")?,
        }
        let address = self.0.address.unwrap_or("not connected").escape_debug().take(ADDRESS);
        write!(f, " (client id {}, {})", quoted(self.0.id), address.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lack_of_an_answer_is_told_apart_from_that_of_a_question() {
        let limit = Duration::from_secs(1);
        for reason in
            [NoAnswer::TimedOut(limit), NoAnswer::Status(503), NoAnswer::BreakerOpen, NoAnswer::WouldLose]
        {
            let counted = Decision::deny(By::NoAnswer(reason)).counts_as();
            assert_eq!(counted, Some((Outcome::NoAnswer, DecidedBy::NoAnswer)));
        }
        for by in [
            By::NoAnswer(NoAnswer::Busy),
            By::TooManyWait,
            By::Turn,
            By::NoTimeForHash,
            By::NoThreadForHash,
            By::Reload,
        ] {
            assert_eq!(Decision::deny(by).counts_as(), Some((Outcome::NoAnswer, DecidedBy::Unasked)));
        }
        for by in [By::Kick, By::Option("anonymous"), By::SpecialCharacters] {
            assert_eq!(Decision::deny(by).counts_as(), Some((Outcome::Deny, DecidedBy::Unasked)));
        }
        let (recheck, bad_rules) = (Decision::deny(By::Recheck), Decision::deny(By::BadRules));
        assert_eq!(recheck.counts_as(), Some((Outcome::Deny, DecidedBy::Api)));
        assert_eq!(bad_rules.counts_as(), Some((Outcome::Deny, DecidedBy::Rules)));
        assert_eq!(
            Decision::deny(By::Throttle(limit)).counts_as(),
            Some((Outcome::Deny, DecidedBy::Throttle))
        );
    }
}
