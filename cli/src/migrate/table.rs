//! Every option of mosquitto-go-auth (and its fork) and of mosquitto-auth-plug that has to do with an HTTP API, and what
//! becomes of it. `docs/moving-in.md` shows this table.

use serde::Serialize;

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It means the same here.
    Same,
    /// There is something like it, or it goes without saying.
    Different,
    /// There is nothing like it.
    Missing,
}

impl Fate {
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Missing => "not there",
        }
    }
}

/// One option of theirs.
#[derive(Debug)]
pub struct Row {
    /// Its name; `*` stands for whatever follows.
    pub name: &'static str,
    /// Whose it is: `go-auth`, `fork` (lhns/mosquitto-go-auth alone), `auth-plug`.
    pub of: &'static str,
    pub fate: Fate,
    /// What does it here, or why nothing does.
    pub here: &'static str,
}

const fn row(name: &'static str, of: &'static str, fate: Fate, here: &'static str) -> Row {
    Row { name, of, fate, here }
}

use Fate::{Different, Missing, Same};

const URLS: &str = "a part of auth_url and acl_url";
const PLACE: &str = "in the broker's memory; the cache needs no place";
const LOG: &str = "lines go to the broker's log, by its log_dest and log_type";
const RETRY: &str =
    "several URLs in auth_url and acl_url are tried in order; a broken connection is tried once more";
const SPREAD: &str = "times are shortened by up to a fifth at random, always";
const HASH: &str = "hashes are those of mosquitto_passwd; the HTTP backend never used them";
const OTHER: &str = "only the HTTP backend moves in";
const PREFIX: &str = "there is one API, which gets the whole username";
const TOKENS: &str = "tokens are not looked into; let the API check them as passwords (username_missing)";
const PARAMS: &str = "a request has no other fields; put what is fixed into the URL's query";

pub const TABLE: &[Row] = &[
    row(
        "backends",
        "go-auth, auth-plug",
        Same,
        "http: this plugin. Others: not there; files: see files_password_path",
    ),
    row("http_host", "go-auth", Same, URLS),
    row("http_hostname", "auth-plug", Same, URLS),
    row(
        "http_ip",
        "auth-plug",
        Different,
        "a part of auth_url and acl_url, if there is no http_hostname; a name is looked up",
    ),
    row("http_port", "go-auth, auth-plug", Same, URLS),
    row("http_getuser_uri", "go-auth, auth-plug", Same, "auth_url"),
    row("http_aclcheck_uri", "go-auth, auth-plug", Same, "acl_url"),
    row(
        "http_superuser_uri",
        "go-auth, auth-plug",
        Missing,
        "let the API allow all topics of such a user at acl_url, or name the user in password_file",
    ),
    row("http_with_tls", "go-auth, auth-plug", Same, "https:// in auth_url and acl_url"),
    row(
        "http_verify_peer",
        "go-auth",
        Different,
        "certificates are always verified; tls_ca_file names an authority of your own",
    ),
    row("http_method", "go-auth", Same, "POST. GET and PUT: not there"),
    row("http_params_mode", "go-auth", Same, "json. form: not there"),
    row(
        "http_response_mode",
        "go-auth",
        Different,
        "status, and only 200 is a yes. text and json: not there, since the body of a 200 is not read",
    ),
    row("http_timeout", "go-auth", Same, "timeout, 60s at most"),
    row("http_user_agent", "go-auth", Same, "header User-Agent: NAME"),
    row(
        "http_register",
        "go-auth",
        Different,
        "without user: leave auth_url out; without acl: leave acl_url out",
    ),
    row("http_header_*", "fork", Same, "a line of header_file, where nobody else reads it"),
    row("http_basic_auth_key", "auth-plug", Same, "Authorization: Basic KEY, a line of header_file"),
    row("http_getuser_params", "auth-plug", Missing, PARAMS),
    row("http_superuser_params", "auth-plug", Missing, PARAMS),
    row("http_aclcheck_params", "auth-plug", Missing, PARAMS),
    row("http_retry_count", "auth-plug", Different, RETRY),
    row("retry_count", "go-auth", Different, RETRY),
    row(
        "cache",
        "go-auth",
        Different,
        "always on; 0s as auth_cache_ttl, acl_cache_ttl and deny_cache_ttl switches it off",
    ),
    row("auth_cache_seconds", "go-auth", Different, "auth_cache_ttl for a yes, deny_cache_ttl for a no"),
    row("acl_cache_seconds", "go-auth", Different, "acl_cache_ttl for a yes, deny_cache_ttl for a no"),
    row("auth_cacheseconds", "auth-plug", Different, "auth_cache_ttl for a yes, deny_cache_ttl for a no"),
    row("acl_cacheseconds", "auth-plug", Different, "acl_cache_ttl for a yes, deny_cache_ttl for a no"),
    row("auth_jitter_seconds", "go-auth", Different, SPREAD),
    row("acl_jitter_seconds", "go-auth", Different, SPREAD),
    row("auth_cachejitter", "auth-plug", Different, SPREAD),
    row("acl_cachejitter", "auth-plug", Different, SPREAD),
    row(
        "cache_refresh",
        "go-auth",
        Different,
        "an answer is not made to hold longer; one in use is asked for again before it ends",
    ),
    row("cache_reset", "go-auth", Same, "the cache is empty at the start"),
    row("cache_type", "go-auth", Different, PLACE),
    row("cache_host", "go-auth", Missing, PLACE),
    row("cache_port", "go-auth", Missing, PLACE),
    row("cache_db", "go-auth", Missing, PLACE),
    row("cache_password", "go-auth", Missing, PLACE),
    row("cache_mode", "go-auth", Missing, PLACE),
    row("cache_addresses", "go-auth", Missing, PLACE),
    row("disable_superuser", "go-auth", Same, "there is no such question"),
    row("exhaust_backend_first", "go-auth", Same, "there is one backend"),
    row("check_prefix", "go-auth", Missing, PREFIX),
    row("prefixes", "go-auth", Missing, PREFIX),
    row("strip_prefix", "go-auth", Missing, PREFIX),
    row(
        "use_clientid_as_username",
        "go-auth",
        Missing,
        "the API gets both; let it go by clientid (auth_fields clientid)",
    ),
    row(
        "allow_empty_credentials",
        "fork",
        Different,
        "username_missing ask, for clients with a password and no username",
    ),
    row(
        "superusers",
        "auth-plug",
        Different,
        "whoever is in password_file may do everything, without an acl_file",
    ),
    row(
        "anonusername",
        "auth-plug",
        Different,
        "anonymous says what clients without a username get; the API is not asked about them",
    ),
    row(
        "files_password_path",
        "go-auth",
        Different,
        "password_file, with hashes of mosquitto_passwd, not with theirs",
    ),
    row(
        "files_acl_path",
        "go-auth",
        Different,
        "acl_file, in the format of Mosquitto's own, for the users of password_file",
    ),
    row(
        "password_path",
        "go-auth",
        Different,
        "password_file, with hashes of mosquitto_passwd, not with theirs",
    ),
    row(
        "acl_path",
        "go-auth",
        Different,
        "acl_file, in the format of Mosquitto's own, for the users of password_file",
    ),
    row("log_level", "go-auth", Different, LOG),
    row("log_dest", "go-auth", Different, LOG),
    row("log_file", "go-auth", Different, LOG),
    row("log_quiet", "auth-plug", Different, LOG),
    row("hasher", "go-auth", Missing, HASH),
    row("hasher_*", "go-auth", Missing, HASH),
    row("jwt_*", "go-auth", Missing, TOKENS),
    row("files_*", "go-auth", Missing, OTHER),
    row("pg_*", "go-auth", Missing, OTHER),
    row("mysql_*", "go-auth", Missing, OTHER),
    row("sqlite_*", "go-auth", Missing, OTHER),
    row("mongo_*", "go-auth", Missing, OTHER),
    row("redis_*", "go-auth", Missing, OTHER),
    row("ldap_*", "go-auth", Missing, OTHER),
    row("grpc_*", "go-auth", Missing, OTHER),
    row("js_*", "go-auth", Missing, OTHER),
    row("plugin_*", "go-auth", Missing, OTHER),
];

/// The row of an option.
pub fn find(name: &str) -> Option<&'static Row> {
    let is_named = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    TABLE.iter().find(|row| is_named(row.name))
}
