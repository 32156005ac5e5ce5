//! What the body of a 200 says (`answer_rules`): a verdict, and the terms of it. The format is `docs/answers.md`.
//!
//! Whatever cannot be understood whole is a refusal: half of a list of rules may be the wrong half.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::json::{self, Json, Object};
use crate::question::{Answer, Grounds, NoAnswer, Question, Verdict};
use crate::topic::{Action, Draft, DraftRule, GrantsPool, Permission, QosSet, Terms, TopicRules, Unusable};

/// The most bytes of a body.
pub const MOST_BYTES: usize = 64 * 1024;

/// The latest moment that `expire_at` may name in seconds: in the year 5138. Beyond it stand milliseconds, since 1973.
const LATEST: u64 = 100_000_000_000;

/// Conditions that EMQX knows. Whoever sets one means fewer clients than a rule without it would be about.
const FOREIGN_CONDITIONS: [&str; 8] =
    ["clientid_re", "username_re", "ipaddr", "zone", "zone_re", "listener", "listener_re", "who"];

/// A body that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// There is more of it than [`MOST_BYTES`].
    TooLong,
}

/// Whether the body of a response with this status and content type is a part of the answer, with `answer_rules`.
pub fn is_read(status: u16, content_type: Option<&[u8]>) -> bool {
    let kind = content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
    status == 200 && kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Now, by the clock that time-outs go by and by that of the world.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// What `expires` is told in.
    pub instant: Instant,
    /// What `expire_at` is told in.
    pub system: SystemTime,
}

impl Now {
    /// This moment.
    pub fn read() -> Self {
        Self { instant: Instant::now(), system: SystemTime::now() }
    }
}

/// The answer that a 200 with such a body is, and what is wrong with the body if that is why it denies.
pub fn read(body: &Body, question: &Question<'_>, pool: &GrantsPool, now: Now) -> (Answer, Option<String>) {
    let said = fields(body).and_then(|fields| said(&fields, question, pool, now));
    answer(said, Grounds::Status(200))
}

/// The answer that one of many is, which stands in an object of its own, and what is wrong with that if it is why it denies.
pub fn read_object(
    fields: &Object,
    question: &Question<'_>,
    pool: &GrantsPool,
    now: Now,
) -> (Answer, Option<String>) {
    answer(said(fields, question, pool, now), Grounds::InBatch(Verdict::Allow))
}

/// `yes`: the grounds for an allow.
fn answer(said: Result<BodyOutcome, Unusable>, yes: Grounds) -> (Answer, Option<String>) {
    match said {
        Ok(BodyOutcome::Yes(terms)) => {
            let terms = (terms != Terms::default()).then(|| Arc::new(terms));
            (Answer::Verdict { verdict: Verdict::Allow, grounds: yes, terms }, None)
        }
        Ok(BodyOutcome::No) => (Answer::verdict(Verdict::Deny, Grounds::BodyDenies), None),
        Ok(BodyOutcome::Expired) => (Answer::verdict(Verdict::Deny, Grounds::Expired), None),
        Err(Unusable::NoRoom) => (Answer::None(NoAnswer::NoRoomForRules), None),
        Err(Unusable::Bad(what)) => (Answer::verdict(Verdict::Deny, Grounds::BadBody), Some(what)),
    }
}

enum BodyOutcome {
    Yes(Terms),
    No,
    Expired,
}

fn bad<T>(what: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable::Bad(what.into()))
}

fn fields(body: &Body) -> Result<Object, Unusable> {
    let Body::Whole(bytes) = body else { return bad(format!("it has more than {MOST_BYTES} bytes")) };
    match serde_json::from_slice(bytes) {
        Ok(Json::Object(fields)) => Ok(fields),
        // A text may be a token that is meant for the client.
        Ok(other) => {
            bad(format!("found {}, expected an object such as {{\"result\":\"allow\"}}", other.kind()))
        }
        Err(error) => bad(error.to_string()),
    }
}

fn said(
    fields: &Object,
    question: &Question<'_>,
    pool: &GrantsPool,
    now: Now,
) -> Result<BodyOutcome, Unusable> {
    let present = |name: &str| fields.get(name).filter(|value| **value != Json::Null);
    match present("result") {
        None => {}
        Some(Json::Text(word)) if word == "allow" => {}
        // The others whom EMQX would ask are the next plugins: they are asked where `defer_status` says so.
        Some(Json::Text(word)) if word == "deny" || word == "ignore" => return Ok(BodyOutcome::No),
        Some(other) => {
            return bad(format!("result: found {other}, expected \"allow\", \"deny\" or \"ignore\""));
        }
    }
    let expires = match present("expire_at").map(|at| expiry(at, now)).transpose()? {
        Some(None) => return Ok(BodyOutcome::Expired),
        expires => expires.flatten(),
    };
    let attrs = present("client_attrs").map(attributes).transpose()?.unwrap_or_default();
    let draft = match present("acl") {
        None => None,
        Some(Json::List(list)) => {
            let rules = list.iter().enumerate().map(|(index, rule)| {
                self::rule(rule).map_err(|what| Unusable::Bad(format!("acl, rule {}: {what}", index + 1)))
            });
            Some(Draft { rules: rules.collect::<Result<_, _>>()?, attrs })
        }
        Some(other) => return bad(format!("acl: found {other}, expected a list of rules")),
    };
    let ready = |draft: Draft| match *question {
        Question::Connect { username, .. } => TopicRules::of(draft, username, pool),
        Question::Access { username, client_id, .. } => {
            pool.ready(&draft, username, client_id).map(TopicRules::Ready)
        }
    };
    let rules = match draft.map(ready).transpose() {
        Err(Unusable::Bad(what)) => return bad(format!("acl, {what}")),
        other => other?,
    };
    let is_superuser =
        matches!(question, Question::Connect { .. }) && fields.get("is_superuser").is_some_and(says_yes);
    Ok(BodyOutcome::Yes(Terms { is_superuser, rules, expires, asked: None }))
}

/// As EMQX reads it: whatever is no plain yes is a no.
fn says_yes(value: &Json) -> bool {
    match value {
        Json::Bool(value) => *value,
        Json::Whole(number) => *number >= 1,
        Json::Text(text) => text == "true" || text.parse().is_ok_and(|number: u64| number >= 1),
        _ => false,
    }
}

/// When it is over; `None` if that has been.
fn expiry(value: &Json, now: Now) -> Result<Option<Instant>, Unusable> {
    let Json::Whole(seconds) = *value else {
        return bad(format!("expire_at: found {value}, expected Unix seconds as a whole number"));
    };
    if seconds >= LATEST {
        return bad(format!("expire_at: found {seconds}, expected Unix seconds; are these milliseconds?"));
    }
    let at = UNIX_EPOCH + Duration::from_secs(seconds);
    Ok(at.duration_since(now.system).ok().filter(|left| !left.is_zero()).map(|left| now.instant + left))
}

fn attributes(value: &Json) -> Result<Vec<(String, String)>, Unusable> {
    let Json::Object(fields) = value else {
        return bad(format!("client_attrs: found {value}, expected an object of texts"));
    };
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let named = fields.iter().filter(|(name, _)| is_name(name));
    let text = |(name, value): (&String, &Json)| match value {
        Json::Text(text) => Ok((name.clone(), text.clone())),
        other => bad(format!("client_attrs, {}: found {other}, expected a text", json::shown(name))),
    };
    named.map(text).collect()
}

/// A rule. The error is the end of a sentence.
fn rule(value: &Json) -> Result<DraftRule, String> {
    let Json::Object(fields) = value else { return Err(format!("found {value}, expected an object")) };
    if let Some(condition) = FOREIGN_CONDITIONS.into_iter().find(|name| fields.contains_key(*name)) {
        return Err(format!(
            "{condition} is a condition that is not known here, so the rule would be about too many"
        ));
    }
    let permission = match fields.get("permission") {
        Some(Json::Text(word)) if word == "allow" => Permission::Allow,
        Some(Json::Text(word)) if word == "deny" => Permission::Deny,
        other => return Err(unexpected("permission", other, "\"allow\" or \"deny\"")),
    };
    let action = match fields.get("action") {
        Some(Json::Text(word)) => match &**word {
            "publish" | "pub" => Action::Publish,
            "subscribe" | "sub" => Action::Subscribe,
            "all" => Action::All,
            _ => return Err(unexpected("action", fields.get("action"), ACTIONS)),
        },
        other => return Err(unexpected("action", other, ACTIONS)),
    };
    let retain = flag(fields.get("retain"))?;
    Ok(DraftRule { permission, action, topics: topics(fields)?, qos: qualities(fields.get("qos"))?, retain })
}

const ACTIONS: &str = "\"publish\", \"subscribe\" or \"all\"";

fn unexpected(name: &str, found: Option<&Json>, expected: &str) -> String {
    match found {
        None => format!("{name} is missing, expected {expected}"),
        Some(found) => format!("{name}: found {found}, expected {expected}"),
    }
}

fn topics(fields: &Object) -> Result<Vec<String>, String> {
    const EXPECTED: &str = "a topic filter or a list of them";
    let (name, value) = match (fields.get("topic"), fields.get("topics")) {
        (Some(_), Some(_)) => return Err("found both topic and topics, expected one of them".to_owned()),
        (Some(value), None) => ("topic", value),
        (None, Some(value)) => ("topics", value),
        (None, None) => return Err(unexpected("topic", None, EXPECTED)),
    };
    let text = |value: &Json| match value {
        Json::Text(text) => Ok(text.clone()),
        other => Err(unexpected(name, Some(other), EXPECTED)),
    };
    match value {
        Json::List(list) => list.iter().map(text).collect(),
        one => text(one).map(|topic| vec![topic]),
    }
}

fn qualities(value: Option<&Json>) -> Result<QosSet, String> {
    let unexpected = || unexpected("qos", value, "0, 1, 2 or a list of them");
    let number = |value: &Json| match value {
        Json::Whole(number) => u8::try_from(*number).map_err(|_| unexpected()),
        _ => Err(unexpected()),
    };
    let numbers: Vec<u8> = match value {
        None | Some(Json::Null) => return Ok(QosSet::ALL),
        Some(Json::List(list)) => list.iter().map(number).collect::<Result<_, _>>()?,
        Some(Json::Text(text)) => {
            let numbers = text.split(',').map(|number| number.trim().parse().map_err(|_| unexpected()));
            numbers.collect::<Result<_, _>>()?
        }
        Some(one) => vec![number(one)?],
    };
    QosSet::of(numbers).ok_or_else(unexpected)
}

fn flag(value: Option<&Json>) -> Result<Option<bool>, String> {
    Ok(match value {
        None | Some(Json::Null) => None,
        Some(Json::Bool(flag)) => Some(*flag),
        Some(Json::Whole(number @ 0..=1)) => Some(*number == 1),
        Some(Json::Text(text)) => match &**text {
            "all" => None,
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => return Err(unexpected("retain", value, "true, false or \"all\"")),
        },
        other => return Err(unexpected("retain", other, "true, false or \"all\"")),
    })
}

#[cfg(test)]
// Named in full, since the program reads this file from elsewhere.
#[path = "answer/tests.rs"]
mod tests;
