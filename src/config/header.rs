//! Headers in options and in `header_file`, and those that would break a request.

use reqwest::Url;
use reqwest::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};

use super::error::Wrong;
use super::value::slip;

/// A header of every request.
pub(super) type Header = (HeaderName, HeaderValue);

/// Parses `Name: value`. The value is marked as sensitive, so that no debug output shows it.
pub(super) fn header_line(text: &str) -> Result<Header, Wrong> {
    let (name, value) = text.split_once(':').ok_or(Wrong::Value)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| Wrong::Value)?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| Wrong::Value)?;
    if [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, CONNECTION, UPGRADE, EXPECT].contains(&name) {
        return Err(Wrong::Because(format!("{name} is the request's own business; expected another header")));
    }
    value.set_sensitive(true);
    Ok((name, value))
}

/// Parses a header file. The error is the number of the first line that is not a header, from 1, and what is wrong with
/// it if it can be said.
pub fn header_lines(text: &str) -> Result<Vec<Header>, (usize, Option<String>)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let checked =
                slip(line, false).map_or_else(|| header_line(line), |what| Err(Wrong::Because(what)));
            checked.map_err(|wrong| (number, wrong.reason()))
        })
        .collect()
}

/// What is wrong with all headers together, if anything is.
pub fn header_conflict<'u>(
    headers: &[Header],
    mut urls: impl Iterator<Item = &'u Url>,
) -> Option<&'static str> {
    let count = |wanted| headers.iter().filter(|(name, _)| name == wanted).count();
    if count(HOST) > 1 {
        return Some("Host is set twice, expected it once at most");
    }
    let has_credentials = |url: &Url| !url.username().is_empty() || url.password().is_some();
    if count(AUTHORIZATION) > 0 && urls.any(has_credentials) {
        return Some(
            "Authorization is set, and a URL has credentials, which are sent as Authorization, too; expected one",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_files_name_the_bad_line() {
        assert_eq!(header_lines("# comment\n\nA: b\r\nC:d\n").map(|headers| headers.len()), Ok(2));
        assert_eq!(header_lines("A: b\nnonsense\n"), Err((2, None)));
        let Err((1, Some(what))) = header_lines("A: ${TOKEN}") else { panic!() };
        assert!(what.contains("${TOKEN}"), "{what}");
        // In a file of its own a # is a letter like any other, behind the first.
        assert!(header_lines("A: b # c").is_ok());
    }

    #[test]
    fn no_header_breaks_the_request() {
        for name in ["Content-Length", "transfer-encoding", "Content-Type", "Connection"] {
            let wrong = header_line(&format!("{name}: s3cret")).unwrap_err().reason().unwrap();
            assert!(wrong.contains(&name.to_lowercase()) && !wrong.contains("s3cret"), "{wrong}");
        }
    }

    #[test]
    fn headers_go_with_each_other_and_with_the_urls() {
        let headers = |lines: &str| header_lines(lines).unwrap();
        let urls = |text: &str| Url::parse(text).unwrap();
        let (plain, with) = (urls("http://a/"), urls("http://u:p@a/"));
        assert_eq!(header_conflict(&headers("Host: a\nAuthorization: b"), [&plain].into_iter()), None);
        assert_eq!(header_conflict(&headers("Host: a"), [&with].into_iter()), None);
        assert!(header_conflict(&headers("Host: a\nHost: b"), [&plain].into_iter()).is_some());
        assert!(header_conflict(&headers("Authorization: b"), [&plain, &with].into_iter()).is_some());
    }
}
