//! Parsers of option values.
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Unexpected;
use super::choice::ListenAt;
use super::error::Wrong;
use crate::log::quoted;
use crate::question::Access;
use crate::topic::{Names, Placeholders, Template, has_wildcard, is_valid_filter};

/// The longest path of a socket, in bytes: what the system has room for (`sun_path`), without the end.
pub(super) const LONGEST_SOCKET: usize = 107;

/// Parses a time within a range, such as `500ms`, `30s`, `5m` or `1h`; a bare number means seconds.
pub(super) fn time(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Unexpected> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| Unexpected)?;
    let milliseconds = match unit.trim_start() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(Unexpected),
    };
    let time = Duration::from_millis(number.checked_mul(milliseconds).ok_or(Unexpected)?);
    if range.contains(&time) { Ok(time) } else { Err(Unexpected) }
}

/// Parses a whole number within a range.
pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, Unexpected> {
    let number = text.parse().map_err(|_| Unexpected)?;
    if range.contains(&number) { Ok(number) } else { Err(Unexpected) }
}

/// Parses `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, Unexpected> {
    choice(text, &[("true", true), ("false", false)])
}

/// Parses one of a few words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Unexpected> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or(Unexpected)
}

/// Takes any text; what uses the option parses it.
pub(super) fn text(text: &str) -> Result<String, Unexpected> {
    Ok(text.to_owned())
}

/// Takes any path but an empty one. Whether there is a file turns out when it is read.
pub(super) fn path(text: &str) -> Result<Option<PathBuf>, Unexpected> {
    if text.is_empty() { Err(Unexpected) } else { Ok(Some(PathBuf::from(text))) }
}

/// Parses an address with its port, or `unix:` and an absolute path.
pub(super) fn listen_at(text: &str) -> Result<ListenAt, Wrong> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.starts_with('/') => {
            Err(Wrong::Because(format!("found the path {}, expected one that begins with /", quoted(path))))
        }
        Some(path) if path.len() > LONGEST_SOCKET => Err(Wrong::Because(format!(
            "the path is longer than the {LONGEST_SOCKET} bytes that a socket takes"
        ))),
        Some(path) => Ok(ListenAt::Unix(PathBuf::from(path))),
        None => match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                Err(Wrong::Because("found port 0, expected the number of a port".to_owned()))
            }
            Ok(address) => Ok(ListenAt::Tcp(address)),
            Err(_) => Err(Wrong::Value),
        },
    }
}

/// The value that switches an option off that takes part in decisions, such as `acl_url`. It means the same as leaving
/// the option out; but a reload takes a line that is missing for a mistake.
pub(super) const NONE: &str = "none";

/// Parses a path as [`path`] does, or `none`.
pub(super) fn path_or_none(text: &str) -> Result<Option<PathBuf>, Unexpected> {
    if text == NONE { Ok(None) } else { path(text) }
}

/// What is wrong with a value of any option, if it was written as no value is: in quotes, with a comment behind it, or
/// with a variable that nobody fills in. `comments`: whether a ` #` behind a word can only begin one.
pub(super) fn slip(text: &str, comments: bool) -> Option<String> {
    if let Some(quote) = text.chars().next().filter(|first| matches!(first, '"' | '\'')) {
        return Some(format!("found {quote} in front of the value, expected it without quotes"));
    }
    if let Some((_, rest)) = text.split_once("${") {
        // What follows a name, as in ${NAME:-VALUE}, may be a secret.
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c))).unwrap_or(rest.len());
        let variable =
            format!("${{{}{}", &rest[..end], if rest[end..].starts_with('}') { "}" } else { "..." });
        return Some(format!(
            "found {}, expected its value: nothing here fills in variables",
            quoted(&variable)
        ));
    }
    (comments && text.contains(" #"))
        .then(|| "found a # behind the value: a comment needs a line of its own".to_owned())
}

/// Parses a list of `read`, `write` and `subscribe`, separated by commas. The result has this order, without
/// repetition.
pub(super) fn accesses(text: &str) -> Result<Vec<Access>, Unexpected> {
    let mut checks = text.split(',').map(|word| access(word.trim())).collect::<Result<Vec<_>, _>>()?;
    checks.sort_by_key(|access| *access as u8);
    checks.dedup();
    Ok(checks)
}

/// Parses a list of statuses, separated by commas, that the contract gives no other meaning than a deny.
pub(super) fn statuses(text: &str) -> Result<Vec<u16>, Unexpected> {
    let status = |word: &str| match word.trim().parse() {
        Ok(401 | 403 | 408 | 429) => Err(Unexpected),
        Ok(status @ 201..=499) => Ok(status),
        _ => Err(Unexpected),
    };
    text.split(',').map(status).collect()
}

fn access(word: &str) -> Result<Access, Unexpected> {
    choice(word, &[("read", Access::Read), ("write", Access::Write), ("subscribe", Access::Subscribe)])
}

/// A topic question to ask early, as soon as the API has admitted a client (a value of `acl_prefetch`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefetch {
    /// The kind of access that the client is expected to need.
    pub access: Access,
    /// The topic or filter, with places for the client's names.
    pub topic: Template,
}

impl Prefetch {
    /// The topic for one client. Names that are filled in are not searched for `%c` and `%u`.
    pub fn topic_for(&self, username: &str, client_id: &str) -> String {
        self.topic.fill_in(Names { client_id, username, attrs: &[] })
    }
}

/// Parses `read|write|subscribe TOPIC`, where `%c` and `%u` stand for client id and username wherever they occur.
pub(super) fn prefetch(text: &str) -> Result<Prefetch, Wrong> {
    let (word, topic) = text.split_once(char::is_whitespace).ok_or(Wrong::Value)?;
    let (access, topic) = (access(word)?, topic.trim_start());
    let never =
        |why: &str| Err(Wrong::Because(format!("found {}, which no broker asks: {why}", quoted(text))));
    match access {
        _ if topic.is_empty() => return Err(Wrong::Value),
        Access::Subscribe if !is_valid_filter(topic) => {
            return never("in a filter + and # are whole levels, and # is the last");
        }
        Access::Read | Access::Write if has_wildcard(topic) => {
            return never("a message has a topic without wildcards; only for subscribe may there be + and #");
        }
        _ => {}
    }
    Ok(Prefetch { access, topic: Template::parse(topic, Placeholders::Anywhere) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("7", 7_000), ("0", 0)]
        {
            assert_eq!(time(text, Duration::ZERO..=HOUR), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1 day", "1d", "99999999999999999999s", "61m"] {
            assert_eq!(time(text, Duration::ZERO..=HOUR), Err(Unexpected), "{text}");
        }
    }

    #[test]
    fn prefetched_topics_are_filled_in_once() {
        let rule = prefetch("subscribe a/%c/%u/%x/%").unwrap();
        assert_eq!(rule.topic_for("%c", "id"), "a/id/%c/%x/%");
    }
}
