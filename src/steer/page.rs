//! The status page: one file with all that it needs, and a policy under which nothing else runs.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use ring::digest::{SHA256, digest};

/// The page.
pub const HTML: &str = include_str!("page.html");

/// The page's policy: its own script and style by their digests, and requests to where it comes from.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest_of = |element: &str| {
        let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
        let content = HTML.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        STANDARD.encode(digest(&SHA256, content.map_or("", |(content, _)| content).as_bytes()))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest_of("script"),
        digest_of("style")
    )
});

/// The policy as a header.
pub fn policy() -> HeaderValue {
    HeaderValue::from_str(&POLICY).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for foreign in ["http://", "https://", " src=", " href=", "@import", "url(", " style=", " onclick="] {
            let found = HTML.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(foreign), "the page has {foreign}");
        }
        assert_eq!(HTML.matches("<script>").count(), 1);
        assert_eq!(HTML.matches("<style>").count(), 1);
        assert!(
            POLICY.matches("sha256-").count() == 2 && !POLICY.contains("sha256-47DEQpj8HBSa"),
            "{}",
            *POLICY
        );
    }
}
