//! Parsers of option values.
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::Unexpected;
use crate::question::Access;
use crate::topic::{Names, Placeholders, Template};

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

/// The value that switches an option off that takes part in decisions, such as `acl_url`. It means the same as leaving
/// the option out; but a reload takes a line that is missing for a mistake.
const NONE: &str = "none";

/// Parses a path as [`path`] does, or `none`.
pub(super) fn path_or_none(text: &str) -> Result<Option<PathBuf>, Unexpected> {
    if text == NONE { Ok(None) } else { path(text) }
}

/// Parses one or more URLs with the scheme http or https, separated by white space, or `none`.
pub(super) fn urls(text: &str) -> Result<Vec<Url>, Unexpected> {
    if text == NONE {
        return Ok(Vec::new());
    }
    let urls: Vec<Url> = text
        .split_ascii_whitespace()
        .map(|text| Url::parse(text).map_err(|_| Unexpected))
        .collect::<Result<_, _>>()?;
    let askable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if urls.is_empty() || !urls.iter().all(askable) { Err(Unexpected) } else { Ok(urls) }
}

/// A URL as it may stand in a log: scheme, host and port. Credentials, path and query are left out, since each may hold
/// a token.
pub fn shown_url(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Parses `Name: value`. The value is marked as sensitive, so that no debug output shows it.
pub(super) fn header_line(text: &str) -> Result<(HeaderName, HeaderValue), Unexpected> {
    let (name, value) = text.split_once(':').ok_or(Unexpected)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| Unexpected)?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| Unexpected)?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Parses a header file. The error is the number of the first line that is not a header; lines count from 1.
pub fn header_lines(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, usize> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| header_line(line).map_err(|_| number))
        .collect()
}

/// Parses a list of `read`, `write` and `subscribe`, separated by commas. The result has this order, without
/// repetition.
pub(super) fn accesses(text: &str) -> Result<Vec<Access>, Unexpected> {
    let mut checks = text.split(',').map(|word| access(word.trim())).collect::<Result<Vec<_>, _>>()?;
    checks.sort_by_key(|access| *access as u8);
    checks.dedup();
    Ok(checks)
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
        self.topic.fill_in(Names { client_id, username })
    }
}

/// Parses `read|write|subscribe TOPIC`, where `%c` and `%u` stand for client id and username wherever they occur.
pub(super) fn prefetch(text: &str) -> Result<Prefetch, Unexpected> {
    let (word, topic) = text.split_once(char::is_whitespace).ok_or(Unexpected)?;
    let topic = topic.trim_start();
    if topic.is_empty() {
        return Err(Unexpected);
    }
    Ok(Prefetch { access: access(word)?, topic: Template::parse(topic, Placeholders::Anywhere) })
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
    fn a_shown_url_has_no_secret() {
        let url = Url::parse("https://u:pw@api.example:8443/mqtt?token=t#f").unwrap();
        assert_eq!(shown_url(&url), "https://api.example:8443");
    }

    #[test]
    fn prefetched_topics_are_filled_in_once() {
        let rule = prefetch("subscribe a/%c/%u/%x/%").unwrap();
        assert_eq!(rule.topic_for("%c", "id"), "a/id/%c/%x/%");
    }

    #[test]
    fn header_files_name_the_bad_line() {
        assert_eq!(header_lines("# comment\n\nA: b\r\nC:d\n").map(|headers| headers.len()), Ok(2));
        assert_eq!(header_lines("A: b\nnonsense\n"), Err(2));
    }
}
