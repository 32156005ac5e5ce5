//! What the options say of a cache that is shared with other brokers, and what tells this API from others there.

use std::sync::Arc;

use reqwest::header::HeaderMap;
use rustls::ClientConfig;

use super::target_error::TargetError;
use crate::ask::names::Names;
use crate::ask::store::{Secrets, StoreOptions, Way};
use crate::config::{ApiUrl, Config};

/// What tells one API from another: its URLs, the headers that it gets, and whether it is surely that one. There are secrets
/// in it.
pub(super) fn words(config: &Config, headers: &HeaderMap) -> Vec<u8> {
    // Who does not read what answers say beside yes must not leave it to those who do, nor who verifies certificates to
    // those who do not.
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

/// What the options say of a cache that is shared with other brokers.
///
/// # Errors
/// The file of its secret cannot be used.
pub(super) fn store_options(
    config: &Config,
    tls: &ClientConfig,
    names: &Names,
) -> Result<Option<StoreOptions>, TargetError> {
    let (Some(url), Some(path)) = (&config.shared_cache, &config.shared_cache_secret_file) else {
        return Ok(None);
    };
    let wrong = |what| TargetError::File(config.called("shared_cache_secret_file"), path.clone(), what);
    let secrets = Secrets::read(path).map_err(wrong)?;
    let mut tls = tls.clone();
    tls.alpn_protocols.clear();
    let way = Way {
        url: url.clone(),
        tls: Arc::new(tls),
        names: names.apart(),
        connect_timeout: config.connect_timeout,
    };
    // What a question waits for here, the API must not lack.
    let timeout = config.shared_cache_timeout.min(config.timeout / 2);
    Ok(Some(StoreOptions { way, secrets, timeout }))
}
