//! What the options say of a cache that is shared with other brokers.

use std::sync::Arc;

use rustls::ClientConfig;

use super::target_error::TargetError;
use crate::ask::resolver::Resolver;
use crate::ask::store::{Secrets, StoreOptions, Way};
use crate::config::Config;

/// What the options say of a cache that is shared with other brokers.
///
/// # Errors
/// The file of its secret cannot be used.
pub(super) fn store_options(
    config: &Config,
    tls: &ClientConfig,
    resolver: &Resolver,
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
        resolver: resolver.apart(),
        connect_timeout: config.connect_timeout,
    };
    // What a question waits for here, the API must not lack.
    let timeout = config.shared_cache_timeout.min(config.timeout / 2);
    Ok(Some(StoreOptions { way, secrets, timeout }))
}
