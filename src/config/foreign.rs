//! The names that other plugins give to what options here do, for whoever comes from them.

/// Names of mosquitto-go-auth and mosquitto-auth-plug (`*`: whatever follows), and what does the same here.
const FOREIGN: &[(&str, &str)] = &[
    ("http_host", AUTH_URL),
    ("http_hostname", AUTH_URL),
    ("http_ip", AUTH_URL),
    ("http_port", AUTH_URL),
    ("http_getuser_uri", AUTH_URL),
    ("http_with_tls", AUTH_URL),
    ("http_aclcheck_uri", "it is acl_url, a whole URL: http://HOST:PORT/PATH"),
    (
        "http_superuser_uri",
        "there is no such question: let the API allow all topics, or name a user in password_file",
    ),
    ("http_verify_peer", "certificates are always verified, by tls_ca_file if they are your own"),
    ("http_timeout", "it is timeout, such as 5s"),
    ("http_user_agent", "it is header, as User-Agent: NAME"),
    ("http_basic_auth_key", "it is header or header_file, as Authorization: Basic KEY"),
    ("http_header_*", "it is header or header_file, as NAME: VALUE"),
    ("http_retry_count", RETRY),
    ("retry_count", RETRY),
    ("http_method", FIXED),
    ("http_params_mode", FIXED),
    ("http_response_mode", FIXED),
    ("http_*", "docs/contract.md says what is asked, and how"),
    ("jwt_*", "tokens are not looked into: let the API check them as passwords"),
    ("auth_cache_seconds", "it is auth_cache_ttl, and deny_cache_ttl for refusals"),
    ("auth_cacheseconds", "it is auth_cache_ttl, and deny_cache_ttl for refusals"),
    ("acl_cache_seconds", "it is acl_cache_ttl, and deny_cache_ttl for refusals"),
    ("acl_cacheseconds", "it is acl_cache_ttl, and deny_cache_ttl for refusals"),
    ("auth_jitter_seconds", JITTER),
    ("acl_jitter_seconds", JITTER),
    ("auth_cachejitter", JITTER),
    ("acl_cachejitter", JITTER),
    ("cache", "what is remembered goes by auth_cache_ttl, acl_cache_ttl and deny_cache_ttl; 0 = not"),
    ("cache_type", CACHE),
    ("cache_host", CACHE),
    ("cache_port", CACHE),
    ("cache_reset", CACHE),
    ("cache_refresh", CACHE),
    ("cache_addresses", CACHE),
    ("cache_password", CACHE),
    ("backends", "there is one, the API at auth_url and acl_url, behind the local users of password_file"),
    ("files_password_path", "it is password_file, with hashes of mosquitto_passwd"),
    ("password_path", "it is password_file, with hashes of mosquitto_passwd"),
    ("files_acl_path", "it is acl_file"),
    ("acl_path", "it is acl_file"),
    ("superusers", "whoever is in password_file may do everything, without an acl_file"),
    ("disable_superuser", "there is no question about superusers"),
    ("anonusername", "what clients without a username may do with topics is anonymous"),
    ("log_*", "lines go to the broker's log, by its log_dest and log_type"),
    ("hasher*", "hashes are those of mosquitto_passwd"),
];

const AUTH_URL: &str = "it is a part of auth_url, a whole URL: http://HOST:PORT/PATH";
const CACHE: &str =
    "the cache is in the broker's memory, and goes by cache_size, auth_cache_ttl and acl_cache_ttl";
const FIXED: &str = "it is fixed: POST, JSON, and status 200 for yes";
const RETRY: &str =
    "several URLs in auth_url and acl_url are tried in order; a broken connection is tried once more";
const JITTER: &str = "times are shortened by up to a fifth, at random, without being told to";

/// What does here the same as an option of another plugin, if it is one, whatever its case.
pub(super) fn ours(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let is_named = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    FOREIGN.iter().find(|(pattern, _)| is_named(pattern)).map(|(_, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use super::super::options;
    use super::*;

    #[test]
    fn no_option_here_is_taken_for_a_foreign_one() {
        for spec in options::OPTIONS {
            assert_eq!(ours(spec.name), None, "{}", spec.name);
            // Nor is a slip of the hand in one.
            assert_eq!(ours(&spec.name[1..]), None, "{}", spec.name);
        }
        assert_eq!(ours("HTTP_HOST"), Some(AUTH_URL));
        assert!(ours("http_header_X-Key").is_some_and(|ours| ours.contains("header_file")));
    }
}
