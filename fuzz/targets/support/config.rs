//! The bounds that every accepted configuration must keep.

use std::time::Duration;

use mosquitto_http_auth::internals::Config;

/// Whether an option's value may be a secret, by the README.
pub fn is_secret(name: &str) -> bool {
    ["auth_url", "acl_url", "user", "header"].contains(&name)
}

/// Asserts that a configuration keeps the bounds that the README gives for each option.
pub fn check(config: &Config) {
    let seconds = Duration::from_secs;
    let least = Duration::from_millis(10);
    assert!((least..=seconds(60)).contains(&config.timeout));
    assert!((least..=seconds(60)).contains(&config.connect_timeout));
    assert!((least..=seconds(300)).contains(&config.max_wait));
    assert!((1..=10_000).contains(&config.max_requests));
    let month = seconds(30 * 24 * 3600);
    let lives = [config.auth_cache_ttl, config.acl_cache_ttl, config.deny_cache_ttl, config.stale_ttl];
    assert!(lives.iter().all(|life| *life <= month));
    assert!(config.cache_size <= 100_000_000);
    assert!(config.throttle.after <= 1_000 && config.breaker.after <= 20);
    assert!((1..=100).contains(&config.breaker.percent));
    assert!((least..=seconds(3600)).contains(&config.throttle.pause));
    assert!((least..=seconds(24 * 3600)).contains(&config.throttle.longest));
    assert!((least..=seconds(3600)).contains(&config.breaker.pause));
    assert!((least..=seconds(3600)).contains(&config.breaker.longest));
    for api in config.auth_urls.iter().chain(&config.acl_urls) {
        assert!(["http", "https"].contains(&api.url.scheme()) && api.url.has_host(), "{api:?}");
        let is_absolute =
            |socket: &std::path::PathBuf| socket.is_absolute() && socket.as_os_str().len() < 108;
        assert!(api.socket.as_ref().is_none_or(is_absolute), "{api:?}");
    }
    for (_, value) in &config.headers {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    assert!(!config.acl_checks.is_empty());
    assert_eq!(config.tls_cert_file.is_some(), config.tls_key_file.is_some());
    let asks = !config.auth_urls.is_empty() || !config.acl_urls.is_empty();
    assert!(asks || config.password_file.is_some() || !config.users.is_empty());
}
