//! The notations of option values.
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::Unexpected;
use crate::question::Access;

/// No time in a configuration is longer: what lives longer than a month was meant otherwise.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// `500ms`, `30s`, `5m`, `1h`; a bare number is seconds. At most 30 days.
pub(super) fn duration(text: &str) -> Result<Duration, Unexpected> {
    duration_between(text, Duration::ZERO, LONGEST)
}

/// The same, between two bounds, both included.
pub(super) fn duration_between(text: &str, least: Duration, most: Duration) -> Result<Duration, Unexpected> {
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
    let duration = Duration::from_millis(number.checked_mul(milliseconds).ok_or(Unexpected)?);
    if (least..=most).contains(&duration) { Ok(duration) } else { Err(Unexpected) }
}

/// A whole number between two bounds, both included.
pub(super) fn count(text: &str, least: usize, most: usize) -> Result<usize, Unexpected> {
    let number = text.parse().map_err(|_| Unexpected)?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(Unexpected) }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, Unexpected> {
    choice(text, &[("true", true), ("false", false)])
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Unexpected> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or(Unexpected)
}

/// A path; whether something is there is found out when it is read.
pub(super) fn path(text: &str) -> Result<Option<PathBuf>, Unexpected> {
    if text.is_empty() { Err(Unexpected) } else { Ok(Some(PathBuf::from(text))) }
}

/// One or more URLs with the scheme http or https, separated by white space.
pub(super) fn urls(text: &str) -> Result<Vec<Url>, Unexpected> {
    let urls: Vec<Url> = text
        .split_ascii_whitespace()
        .map(|text| Url::parse(text).map_err(|_| Unexpected))
        .collect::<Result<_, _>>()?;
    let askable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if urls.is_empty() || !urls.iter().all(askable) { Err(Unexpected) } else { Ok(urls) }
}

/// A URL as it may stand in a log: without credentials and without the query, which may hold a token.
pub fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Fails only for URLs without a host, which `urls` lets nobody have.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

/// `Name: value`, marked so that no debug output shows the value.
pub(super) fn header_line(text: &str) -> Result<(HeaderName, HeaderValue), Unexpected> {
    let (name, value) = text.split_once(':').ok_or(Unexpected)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| Unexpected)?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| Unexpected)?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The headers of a header file; an error is the number of the line that holds none, from 1.
pub fn header_lines(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, usize> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| header_line(line).map_err(|_| number))
        .collect()
}

/// `read,write,subscribe` or fewer of them.
pub(super) fn expand_checks(text: &str) -> Result<Vec<Access>, Unexpected> {
    let mut checks = text.split(',').map(|word| access(word.trim())).collect::<Result<Vec<_>, _>>()?;
    checks.sort_by_key(|access| *access as u8);
    checks.dedup();
    Ok(checks)
}

fn access(word: &str) -> Result<Access, Unexpected> {
    choice(word, &[("read", Access::Read), ("write", Access::Write), ("subscribe", Access::Subscribe)])
}

/// A topic question to ask when a client has been let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefetch {
    /// What the client is expected to want.
    pub access: Access,
    /// With which topic; `%c` and `%u` stand for client id and username.
    pub topic: String,
}

impl Prefetch {
    /// The topic for one client. What is filled in is not looked at for `%c` and `%u` again.
    pub fn topic_for(&self, username: &str, client_id: &str) -> String {
        let mut topic = String::with_capacity(self.topic.len() + username.len() + client_id.len());
        let mut rest = self.topic.as_str();
        while let Some(at) = rest.find('%') {
            topic.push_str(&rest[..at]);
            rest = &rest[at..];
            let (filled_in, taken) = match rest.as_bytes().get(1) {
                Some(b'c') => (client_id, 2),
                Some(b'u') => (username, 2),
                _ => ("%", 1),
            };
            topic.push_str(filled_in);
            rest = &rest[taken..];
        }
        topic + rest
    }
}

/// `read|write|subscribe TOPIC`.
pub(super) fn prefetch(text: &str) -> Result<Prefetch, Unexpected> {
    let (word, topic) = text.split_once(char::is_whitespace).ok_or(Unexpected)?;
    let topic = topic.trim_start().to_owned();
    if topic.is_empty() { Err(Unexpected) } else { Ok(Prefetch { access: access(word)?, topic }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("7", 7_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1 day", "1d", "99999999999999999999s", "721h"] {
            assert_eq!(duration(text), Err(Unexpected), "{text}");
        }
    }

    #[test]
    fn a_shown_url_has_no_secret() {
        let url = Url::parse("https://u:pw@api.example:8443/mqtt?token=t#f").unwrap();
        assert_eq!(shown_url(&url), "https://api.example:8443/mqtt");
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
