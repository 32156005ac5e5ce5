//! URLs in options, and what is wrong with one, shown as far as it can hold no secret.

use std::path::PathBuf;

use reqwest::Url;

use super::error::Wrong;
use super::value::{LONGEST_SOCKET, NONE};
use crate::log::quoted;

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiUrl {
    /// The URL. Where it leads through a Unix socket, its host is `localhost`.
    pub url: Url,
    /// The socket that it leads through.
    pub socket: Option<PathBuf>,
}

impl ApiUrl {
    /// The URL as it may stand in a log: scheme, and host and port or socket. Credentials, path and query are left out,
    /// since each may hold a token.
    pub fn shown(&self) -> String {
        match &self.socket {
            Some(socket) => format!("http://unix:{}", socket.display()),
            None => shown_url(&self.url),
        }
    }

    /// The name that has to be looked up, if any.
    pub fn name(&self) -> Option<&str> {
        self.url.domain().filter(|_| self.socket.is_none())
    }
}

/// Parses one or more URLs with the scheme http or https, separated by white space, or `none`.
pub(super) fn urls(text: &str) -> Result<Vec<ApiUrl>, Wrong> {
    if text == NONE {
        return Ok(Vec::new());
    }
    let texts: Vec<&str> = text.split_ascii_whitespace().collect();
    if texts.is_empty() {
        return Err(Wrong::Value);
    }
    let parse = |(index, text): (usize, &&str)| {
        url(text).map_err(|what| {
            let which = match texts.len() {
                1 => String::new(),
                of => format!("URL {} of {of}, ", index + 1),
            };
            Wrong::Because(format!("{which}{}: {what}", safe_part(text)))
        })
    };
    texts.iter().enumerate().map(parse).collect()
}

fn url(text: &str) -> Result<ApiUrl, &'static str> {
    if text.ends_with(',') || text.contains(",http://") || text.contains(",https://") {
        return Err("found a comma, expected spaces between URLs");
    }
    let Some((scheme, rest)) = text.split_once(':') else { return Err(NO_SCHEME) };
    if scheme.eq_ignore_ascii_case("unix") {
        return Err(SOCKET);
    }
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if !is_http {
        return Err(if rest.starts_with("//") { "expected http:// or https://" } else { NO_SCHEME });
    }
    // The parser of URLs would take a slash more or less as it comes, and the path for the host.
    let rest = match rest.strip_prefix("//") {
        None => return Err("expected // behind the colon"),
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '\\', '?', '#']) => {
            return Err("there is no host in it");
        }
        Some(rest) => rest,
    };
    if text.contains('#') {
        return Err(
            "found a #; comments cannot stand behind a value, and no server is told what follows a # in a URL",
        );
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(credentials) = authority.strip_suffix("unix:")
        && (credentials.is_empty() || credentials.ends_with('@'))
    {
        return through_socket(scheme, credentials, path);
    }
    let url = Url::parse(text).map_err(|_| "this is no URL")?;
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return Err("there is no host in it");
    };
    if matches!(host, "http" | "https") && url.path().starts_with("//") {
        return Err("http:// or https:// is in it twice");
    }
    if url.port() == Some(0) {
        return Err("nothing can listen on port 0");
    }
    if url.domain().is_some_and(|name| !can_be_looked_up(name)) {
        return Err("no machine can have this host name");
    }
    Ok(ApiUrl { url, socket: None })
}

/// The URL of a socket, by what stands in front of `unix:/` and behind it.
fn through_socket(scheme: &str, credentials: &str, rest: &str) -> Result<ApiUrl, &'static str> {
    let (socket, path) = rest.split_once(':').unwrap_or((rest, ""));
    let socket = format!("/{socket}");
    let is_path = path.is_empty() || path.starts_with('/');
    if !scheme.eq_ignore_ascii_case("http") || !is_path || socket.ends_with('/') {
        return Err(SOCKET);
    }
    if socket.len() > LONGEST_SOCKET {
        return Err("the path of its socket is longer than 107 bytes, which no system takes");
    }
    let url = Url::parse(&format!("http://{credentials}localhost{path}")).map_err(|_| "this is no URL")?;
    Ok(ApiUrl { url, socket: Some(PathBuf::from(socket)) })
}

const SOCKET: &str = "expected http://unix:/SOCKET:/PATH, with http and two absolute paths";

const NO_SCHEME: &str = "expected http:// or https:// in front of it";

/// Whether a name server or a file could know a host name: labels of 1 to 63 letters, digits, `-` and `_`, 253 in all.
pub(super) fn can_be_looked_up(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.len() <= 253
        && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(is_letter))
}

/// What can be shown of a text that should be a URL: scheme, host and port. The rest, and all in front of an @, may be a
/// secret.
fn safe_part(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest))
            if scheme.len() < 10 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            (format!("{scheme}://"), rest)
        }
        _ => (String::new(), text),
    };
    let (hidden, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("...@", rest),
        None => ("", rest),
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    // Without a scheme, only what looks like a host and not like a token.
    if scheme.is_empty() && !(path.starts_with('/') || host.contains(':')) {
        return "a text that is not shown, it may be a secret".to_owned();
    }
    let path = if path.len() > 1 { "/..." } else { path };
    quoted(&format!("{scheme}{hidden}{host}{path}")).to_string()
}

/// A URL as it may stand in a log: scheme, host and port. Credentials, path and query are left out, since each may hold
/// a token.
pub fn shown_url(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_secret() {
        for (text, shown) in [
            ("https://u:pw@api.example:8443/mqtt?token=t", "https://api.example:8443"),
            ("http://u:pw@unix:/run/api.sock:/mqtt?token=t", "http://unix:/run/api.sock"),
        ] {
            assert_eq!(url(text).unwrap().shown(), shown);
        }
    }

    #[test]
    fn a_url_may_lead_through_a_socket() {
        for (text, socket, leads_to) in [
            ("http://unix:/run/api.sock:/auth?a=b", "/run/api.sock", "http://localhost/auth?a=b"),
            ("http://unix:/run/api.sock:/", "/run/api.sock", "http://localhost/"),
            ("http://unix:/run/api.sock:", "/run/api.sock", "http://localhost/"),
            ("http://unix:/run/api.sock", "/run/api.sock", "http://localhost/"),
            ("http://u:p@unix:/s:/a", "/s", "http://u:p@localhost/a"),
            ("http://unix:/run/a_b@c:/x:y", "/run/a_b@c", "http://localhost/x:y"),
        ] {
            let parsed = url(text).unwrap();
            assert_eq!(
                (parsed.socket, parsed.url.as_str()),
                (Some(PathBuf::from(socket)), leads_to),
                "{text}"
            );
        }
        // A machine may be called so.
        assert_eq!(url("http://unix/run/api.sock").unwrap().socket, None);
        assert_eq!(url("http://unix:80/run/api.sock").unwrap().socket, None);
        let too_long = format!("http://unix:/{}:/auth", "x".repeat(LONGEST_SOCKET));
        for text in [
            "unix:/run/api.sock",
            "https://unix:/run/api.sock:/auth",
            "http://unix:",
            "http://unix:/",
            "http://unix:/run/:/auth",
            "http://unix:/run/api.sock:auth",
            too_long.as_str(),
        ] {
            assert!(url(text).is_err_and(|what| what == SOCKET || what.contains("107 bytes")), "{text}");
        }
    }

    #[test]
    fn what_can_be_asked_is_a_url() {
        for text in [
            "http://127.0.0.1:8080/auth",
            "HTTPS://Api.example./auth?a=1,2",
            "http://my_api/auth",
            "http://[::1]:8080",
            "http://u:p@api/",
            "http://xn--mll-hoa.example/",
            "http://müll.example/",
            "http://http/auth",
        ] {
            assert_eq!(urls(text).map(|urls| urls.len()), Ok(1), "{text}");
        }
        assert_eq!(urls("http://a/ https://b/").map(|urls| urls.len()), Ok(2));
        assert_eq!(urls("none"), Ok(Vec::new()));
        assert_eq!(urls(""), Err(Wrong::Value));
    }

    #[test]
    fn what_cannot_is_shown_as_far_as_it_is_safe() {
        let long = "a".repeat(64);
        for (text, expected) in [
            ("http:///auth", "\"http:///...\": there is no host in it"),
            ("http:/auth", "\"http:/...\": expected // behind the colon"),
            ("ftp://u:s3cret@host/s3cret", "\"ftp://...@host/...\": expected http:// or https://"),
            ("http://u:s3/cret@host:x/s3cret", "\"http://...@host:x/...\": this is no URL"),
            ("127.0.0.1:8080/s3cret", "\"127.0.0.1:8080/...\": expected http:// or https:// in front of it"),
            (
                "s3cret",
                "a text that is not shown, it may be a secret: expected http:// or https:// in front of it",
            ),
            ("http://a/ http://b:0/", "URL 2 of 2, \"http://b:0/\": nothing can listen on port 0"),
            ("http://a/,http://b/", "\"http://a/...\": found a comma, expected spaces between URLs"),
            (
                "http://a/, http://b/",
                "URL 1 of 2, \"http://a/...\": found a comma, expected spaces between URLs",
            ),
            ("http://a..b/", "\"http://a..b/\": no machine can have this host name"),
            (&format!("http://{long}/"), &format!("\"http://{long}/\": no machine can have this host name")),
            ("http://api*/", "\"http://api*/\": no machine can have this host name"),
            ("http://http://a/", "\"http://http:/...\": http:// or https:// is in it twice"),
            ("http://1.2.3.400/", "\"http://1.2.3.400/\": this is no URL"),
        ] {
            assert_eq!(urls(text), Err(Wrong::Because(expected.to_owned())), "{text}");
        }
        let Err(Wrong::Because(what)) = urls("http://a/#s3cret") else { panic!() };
        assert!(what.starts_with("\"http://a/...\": found a #") && !what.contains("s3cret"), "{what}");
    }
}
