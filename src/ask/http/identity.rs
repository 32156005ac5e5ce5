//! What tells one API from another.

use reqwest::header::HeaderMap;

use crate::config::{ApiUrl, Config};

/// What tells one API from another: its URLs, the headers that it gets, and whether it is surely that one. There are secrets
/// in it.
pub(super) fn told_apart_by(config: &Config, headers: &HeaderMap) -> Vec<u8> {
    // A broker that ignores what answers say beside yes must not share verdicts with one that goes by it, nor one that takes
    // any certificate with one that verifies.
    let mut texts = vec![vec![u8::from(config.answer_rules) | u8::from(config.tls_insecure) << 1]];
    for urls in [&config.auth_urls, &config.acl_urls, &config.acl_batch_urls] {
        let shown = |api: &ApiUrl| format!("{:?} {}", api.socket, api.url).into_bytes();
        texts.extend(urls.iter().map(shown));
        texts.push(Vec::new());
    }
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()].join(&b':'))
        .collect();
    lines.sort_unstable();
    texts.extend(lines);
    if !config.dialect.is_contract() {
        texts.push(config.dialect.told_apart_by());
    }
    texts.iter().flat_map(|text| [&(text.len() as u64).to_be_bytes(), &**text].concat()).collect()
}
