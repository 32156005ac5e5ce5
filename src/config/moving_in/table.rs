//! Every option of mosquitto-go-auth (and its fork) and of mosquitto-auth-plug that has to do with an HTTP API, and what
//! becomes of it where only the plugin's path is changed. `docs/moving-in-options.md` shows this table.

use serde::Serialize;

use super::Theirs;

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
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Missing => "not there",
        }
    }
}

/// One option of theirs.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name; `*` stands for whatever follows.
    pub name: &'static str,
    /// Whose it is: `go-auth`, `fork` (lhns/mosquitto-go-auth alone), `auth-plug`.
    pub of: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// What does it here, or why nothing does.
    pub here: &'static str,
}

const fn row(name: &'static str, of: &'static str, fate: Fate, here: &'static str) -> Row {
    Row { name, of, fate, here }
}

use Fate::{Different, Missing, Same};

const BOTH: &str = "go-auth, auth-plug";
const URLS: &str = "a part of auth_url and acl_url";
const PLACE: &str =
    "answers are remembered in the broker's memory, which needs no place; brokers share them by shared_cache";
const LOG: &str = "lines go to the broker's log, by its log_dest and log_type";
const RETRY: &str = "a question is asked once more only where its connection breaks or stays mute; who got no answer comes again";
const SPREAD: &str = "times are shortened by up to a fifth at random, always";
const HASH: &str = "hashes are those of mosquitto_passwd; the HTTP backend never used them";
const OTHER: &str = "only the backends http and files move in";
const PREFIX: &str = "there is one API, which gets the whole username";
const TOKENS: &str = "tokens are not looked into; let the API check them as passwords (username_missing)";
const PARAMS: &str =
    "in front of the other fields, read from the environment at the start and at each SIGHUP";
const TIME: &str =
    "auth_cache_ttl or acl_cache_ttl, for a yes and a no; counted from the question, less up to a fifth";
const PASSWORDS: &str = "password_file, with hashes of mosquitto_passwd; whoever is in it is decided by it alone, and not by http as well";
const RULES: &str = "acl_file, in the format of Mosquitto's own; for the users of the password file alone, and http is not asked about them";

/// All of them.
pub const TABLE: &[Row] = &[
    row("backends", BOTH, Same, "http, files or both. With others the broker does not start"),
    row("http_host", "go-auth", Same, URLS),
    row("http_ip", "auth-plug", Same, URLS),
    row(
        "http_hostname",
        "auth-plug",
        Same,
        "a part of auth_url and acl_url without http_ip, and always the Host header",
    ),
    row("http_port", BOTH, Same, URLS),
    row("http_getuser_uri", BOTH, Same, "auth_url"),
    row("http_aclcheck_uri", BOTH, Same, "acl_url"),
    row(
        "http_superuser_uri",
        BOTH,
        Same,
        "asked before each topic that is not remembered; its yes or no is remembered for the username by itself",
    ),
    row("http_with_tls", BOTH, Same, "https:// in auth_url and acl_url"),
    row(
        "http_verify_peer",
        "go-auth",
        Different,
        "certificates are always verified: name an authority of your own in tls_ca_file, or set tls_insecure true",
    ),
    row("http_method", "go-auth", Same, "POST, GET or PUT"),
    row("http_params_mode", "go-auth", Same, "json or form, byte for byte"),
    row(
        "http_response_mode",
        "go-auth",
        Same,
        "status, text or json; every status from 200 to 299 goes on to the body",
    ),
    row("http_timeout", "go-auth", Same, "timeout, 60s at most"),
    row(
        "http_user_agent",
        "go-auth",
        Same,
        "header User-Agent: NAME; without it mosquitto-2.0.22, where theirs names the version it was built for",
    ),
    row(
        "http_register",
        "go-auth",
        Same,
        "with or without superuser. Without user or acl, which would open what was refused there, the broker does not start",
    ),
    row(
        "http_header_*",
        "fork",
        Same,
        "header NAME: VALUE; header_file is the place where nobody else reads it",
    ),
    row("http_basic_auth_key", "auth-plug", Same, "header Authorization: Basic KEY"),
    row("http_getuser_params", "auth-plug", Same, PARAMS),
    row("http_superuser_params", "auth-plug", Same, PARAMS),
    row("http_aclcheck_params", "auth-plug", Same, PARAMS),
    row("http_retry_count", "auth-plug", Different, RETRY),
    row("retry_count", "go-auth", Different, RETRY),
    row("cache", "go-auth", Same, "true: answers are remembered, 30 s where no time is given. Else none is"),
    row("auth_cache_seconds", "go-auth", Same, TIME),
    row("acl_cache_seconds", "go-auth", Same, TIME),
    row("auth_cacheseconds", "auth-plug", Same, TIME),
    row("acl_cacheseconds", "auth-plug", Same, TIME),
    row("cacheseconds", "auth-plug", Same, TIME),
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
    row("cache_reset", "go-auth", Same, "the memory is empty at the start, always"),
    row("cache_type", "go-auth", Different, PLACE),
    row("cache_host", "go-auth", Missing, PLACE),
    row("cache_port", "go-auth", Missing, PLACE),
    row("cache_db", "go-auth", Missing, PLACE),
    row("cache_password", "go-auth", Missing, PLACE),
    row("cache_mode", "go-auth", Missing, PLACE),
    row("cache_addresses", "go-auth", Missing, PLACE),
    row("redis_cluster_addresses", "go-auth", Missing, PLACE),
    row("disable_superuser", "go-auth", Same, "true: nobody is asked about superusers"),
    row("exhaust_backend_first", "go-auth", Same, "there is one API"),
    row("check_prefix", "go-auth", Different, PREFIX),
    row("prefixes", "go-auth", Different, PREFIX),
    row("strip_prefix", "go-auth", Different, PREFIX),
    row("use_clientid_as_username", "go-auth", Same, "the API gets the client id as the username"),
    row(
        "allow_empty_credentials",
        "fork",
        Different,
        "an empty password is asked about; so is a missing username with username_missing ask",
    ),
    row(
        "superusers",
        "auth-plug",
        Same,
        "a pattern with * and ?: such usernames are not asked about, and may use every topic",
    ),
    row(
        "anonusername",
        "auth-plug",
        Different,
        "anonymous says what clients without a username get; the API is not asked about them",
    ),
    row("files_password_path", "go-auth", Different, PASSWORDS),
    row("files_acl_path", "go-auth", Different, RULES),
    row("password_path", "go-auth", Different, PASSWORDS),
    row("acl_path", "go-auth", Different, RULES),
    row("files_register", "go-auth", Same, "user and acl, both: with fewer the broker does not start"),
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

impl Row {
    /// The plugins that know it.
    pub fn plugins(&self) -> String {
        let theirs = [Theirs::GoAuth, Theirs::AuthPlug].into_iter().filter(|theirs| theirs.has(self));
        theirs.map(Theirs::name).collect::<Vec<_>>().join(" and ")
    }
}

/// The row of an option.
pub fn find(name: &str) -> Option<&'static Row> {
    let is_named = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    TABLE.iter().find(|row| is_named(row.name))
}
