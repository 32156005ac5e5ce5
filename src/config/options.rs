//! The table of options: a new option is a new row (and an example in docs/configuration.md). `table` says what a row is, and makes code from it.

use std::any::Any;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};

use super::choice::{AuthMode, CountBy, ListenAt, NoMatch, WithoutAnswer};
use super::dialect::Dialect;
use super::fields::{Field, acl_fields, auth_fields};
use super::header::header_line;
use super::shared_cache::{SharedCacheUrl, shared_cache_url};
use super::table::{OptionSpec, fields, options, paths, specs};
use super::texts::Texts;
use super::url::{ApiUrl, urls};
use super::value::{
    Prefetch, accesses, boolean, choice, count, listen_at, path, path_or_none, prefetch, statuses, text, time,
};
use super::written::Written;
use crate::question::{Access, Verdict};

/// The shortest pause or time-out that an option takes.
const SHORTEST: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The longest time that an option lets anything be remembered. A longer one is probably a mistake.
pub(super) const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

const ALLOW_OR_DENY: &[(&str, Verdict)] = &[("allow", Verdict::Allow), ("deny", Verdict::Deny)];

options! {
{
    "auth_url" {
        secret: true, separator: Some(" "), if_lost: Some("the API would not be asked about logins any more")
    } => auth_urls: Vec<ApiUrl> = optional(urls),
        "http:// or https:// URLs, also http://unix:/SOCKET:/PATH, separated by spaces, or none",
        "Where to ask about logins. Of several URLs the next is asked when one gives no answer. Without it, \
         only local users are decided; all others are left to the broker's own files and other plugins. `none`: as if \
         it were not set. To take it back by a SIGHUP, write `none`; leaving the line out is not enough.";
    "acl_url" {
        secret: true, separator: Some(" "), if_lost: Some("the API would not be asked about topics any more")
    } => acl_urls: Vec<ApiUrl> = optional(urls),
        "http:// or https:// URLs, also http://unix:/SOCKET:/PATH, separated by spaces, or none",
        "Where to ask about topics. Without it the plugin has no say in topics, unless `acl_file` is set, or `answer_rules` \
         beside `auth_url`. `none`: as if it were not set. To take it back by a SIGHUP, write `none`; leaving the line out is not enough.";
    "acl_batch_url" { secret: true, separator: Some(" "), of_contract: true } => acl_batch_urls: Vec<ApiUrl> = optional(urls),
        "http:// or https:// URLs, also http://unix:/SOCKET:/PATH, separated by spaces, or none",
        "Where many topics are asked about in one request, see docs/batches.md. Questions that are ready at the same time go \
         there together; one alone goes to `acl_url`. If this address gives no right answer, each of them is asked there.";
    "acl_batch_size" => acl_batch_size: usize = one(|text| count(text, 2..=1_000)) or "100",
        "a whole number from 2 to 1000",
        "The most questions in one request to `acl_batch_url`.";
    "password_file" {
        holds_secrets: true, if_lost: Some("those in it would not be local users any more")
    } => password_file: Option<PathBuf> = optional(path_or_none),
        "the path of a readable file, or none",
        "Local users, in the format of `mosquitto_passwd` (`$6$`, `$7$`, argon2id). Re-read on SIGHUP. `none`: as if \
         it were not set. To take it back by a SIGHUP, write `none`; leaving the line out is not enough.";
    "user" { secret: true, comments: false } => users: Vec<String> = each(text),
        "name:hash, with a hash as mosquitto_passwd writes it",
        "A local user, `name:hash`, in the format of `password_file`.";
    "acl_file" { if_lost: Some("local users would have other rights to topics") } => acl_file: Option<PathBuf> = optional(path_or_none),
        "the path of a readable file, or none",
        "Topic rules of the local users, in the format of Mosquitto's own ACL files. Without it local users \
         may do everything. Re-read on SIGHUP. `none`: as if \
         it were not set. To take it back by a SIGHUP, write `none`; leaving the line out is not enough.";
    "timeout" => timeout: Duration = one(|text| time(text, SHORTEST..=60 * SECOND)) or "2s",
        "a time from 10ms to 60s, such as 500ms or 2s",
        "The longest that one question may take, from the look-up of the API's name to its answer, with all URLs that \
         are tried. Where the broker waits (logins on 2.0, topics), time in the plugin's queue is part of it. A client that \
         waits beside the broker (logins on 2.1) may queue for `max_wait` before.";
    "max_wait" => max_wait: Duration = one(|text| time(text, SHORTEST..=5 * MINUTE)) or "30s",
        "a time from 10ms to 5m, such as 30s",
        "The longest that a client which waits beside the broker (logins on 2.1) may queue before its question is sent. \
         A client that would wait longer, or finds the queue full, is turned away as by a server that is busy.";
    "login_wait" => login_wait: Duration = one(|text| time(text, Duration::ZERO..=60 * SECOND)) or "500ms",
        "a time up to 60s, such as 500ms; 0 = no bound",
        "Where logins hold up the broker (2.0, `auth_mode blocking`, and clients on 2.1 that send more than their CONNECT or \
         come under another's client id): how long they may do so in one turn of its loop, slow hashes of local users \
         included, see docs/waiting.md. The first question of a turn is waited for to its end, but on 2.1 not for a network \
         that has held up the broker in vain for long enough. Clients that come after this time, and are not known, are asked \
         about in the background and turned away without a CONNACK (MQTT 5 on 2.1: *server busy*); they get in when they \
         come again.";
    "connect_timeout" => connect_timeout: Duration = one(|text| time(text, SHORTEST..=60 * SECOND)) or "500ms",
        "a time from 10ms to 60s, such as 500ms",
        "The longest that a connection to the API may take to come about, with the look-up of its name. If the name has several \
         addresses, two of each family share that time, and others are tried for a later connection.";
    "max_requests" => max_requests: usize = one(|text| count(text, 1..=10_000)) or "64",
        "a whole number from 1 to 10000",
        "The most requests that are on their way at once. The plugin finds out how many of them the API can work on, \
         and sends no more; see docs/api-away.md. So there is mostly no need to set this. Questions that the broker \
         itself waits for may go over it by a quarter.";
    "keep_alive" => keep_alive: bool = one(boolean) or "true",
        "true or false",
        "Keep connections to the API for further questions. `false` opens a new one for each question: for servers that \
         serve few connections at once, and each until it ends.";
    "header" { secret: true } => headers: Vec<(HeaderName, HeaderValue)> = each(header_line),
        "Name: value",
        "A header of every request, `Name: value`.";
    "header_file" { holds_secrets: true } => header_file: Option<PathBuf> = optional(path),
        "the path of a readable file",
        "Headers of every request, `Name: value`, a line each; empty lines and lines that start with `#` are \
         skipped. The place for secrets. Re-read on SIGHUP.";
    "tls_ca_file" => tls_ca_file: Option<PathBuf> = optional(path),
        "the path of a readable PEM file",
        "Trust these certificate authorities for https instead of the system's, and servers that show the very \
         certificate that stands here.";
    "tls_cert_file" => tls_cert_file: Option<PathBuf> = optional(path),
        "the path of a readable PEM file",
        "Client certificate for https, with its chain. Needs `tls_key_file`.";
    "tls_key_file" { holds_secrets: true } => tls_key_file: Option<PathBuf> = optional(path),
        "the path of a readable PEM file",
        "Private key of the client certificate.";
    "tls_insecure" => tls_insecure: bool = one(boolean) or "false",
        "true or false",
        "`true` accepts any certificate of the API, and warns about it at every start.";
    "auth_cache_ttl" => auth_cache_ttl: Duration = one(|text| time(text, Duration::ZERO..=MONTH)) or "30s",
        "a time up to 30 days, such as 30s, 5m or 1h; 0 = not remembered",
        "How long an allowed login is remembered; 0 = not.";
    "acl_cache_ttl" => acl_cache_ttl: Duration = one(|text| time(text, Duration::ZERO..=MONTH)) or "30s",
        "a time up to 30 days, such as 30s, 5m or 1h; 0 = not remembered",
        "How long an allowed topic is remembered; 0 = not.";
    "deny_cache_ttl" => deny_cache_ttl: Duration = one(|text| time(text, Duration::ZERO..=MONTH)) or "5s",
        "a time up to 30 days, such as 5s; 0 = not remembered",
        "How long a refusal of either is remembered; 0 = not.";
    "cache_size" => cache_size: usize = one(|text| count(text, 0..=100_000_000)) or "100000",
        "a whole number from 0 to 100000000",
        "How many allows are kept, and as many denies beside them; see docs/deciding.md for how many that should be.";
    "stale_ttl" => stale_ttl: Duration = one(|text| time(text, Duration::ZERO..=MONTH)) or "10m",
        "a time up to 30 days, such as 10m; 0 = not at all",
        "How long past its time an allow may still serve while the API gives no answer, see docs/api-away.md. A refusal \
         by the API ends it at once; denies never serve past their time.";
    "acl_no_answer" => acl_no_answer: WithoutAnswer = one(|text| choice(text, &[
            ("disconnect", WithoutAnswer::Disconnect), ("deny", WithoutAnswer::Deny),
        ])) or "disconnect",
        "disconnect or deny",
        "What becomes of a QoS 1 or 2 publish that the API gives no answer about. `disconnect`: its connection ends \
         without an acknowledgement, so that the client keeps the message and sends it again. `deny`: it is \
         acknowledged and dropped, as the broker does with every publish that is denied.";
    "answer_rules" {
        of_contract: true, if_lost: Some("the rules in the API's answers would not count any more")
    } => answer_rules: bool = one(boolean) or "false",
        "true or false",
        "Read what JSON answers say beside the status: `result`, `is_superuser`, topic rules (`acl`) and `expire_at`, in the \
         format of EMQX and RMQTT, see docs/answers.md. `false`: the status alone is the answer.";
    "acl_no_match" => acl_no_match: NoMatch = one(|text| choice(text, &[
            ("ask", NoMatch::Ask), ("deny", NoMatch::Deny), ("allow", NoMatch::Allow),
        ])) or "ask",
        "ask, deny or allow",
        "With `answer_rules`: what a topic gets that no rule of the session is about. `ask`: the API is asked, or where there \
         is no `acl_url` it is denied.";
    "api_cache_control" => api_cache_control: bool = one(boolean) or "false",
        "true or false",
        "Let `max-age`, `no-cache` and `no-store` in an answer's `Cache-Control` override `auth_cache_ttl`, `acl_cache_ttl` \
         and `deny_cache_ttl` for that answer, up to a day.";
    "defer_status" { separator: Some(",") } => defer_status: Vec<u16> = optional(statuses),
        "statuses from 201 to 499, separated by commas; not 401, 403, 408 and 429",
        "Answers that mean \"not mine\", such as `404`: the next plugin decides, or the broker by its own files. Remembered \
         like denies. Other plugins cannot decide about clients that wait beside the broker, so logins block it then.";
    "acl_prefetch" { comments: false } => acl_prefetch: Vec<Prefetch> = each(prefetch),
        "read, write or subscribe, then a topic",
        "`read|write|subscribe TOPIC`, with `%c` for the client id and `%u` for the username: asked side by \
         side as soon as the API has let a client in.";
    "acl_learn" => acl_learn: bool = one(boolean) or "true",
        "true or false",
        "Learn from the topics that clients are asked about after their login what clients like them will be asked about, \
         and ask that as soon as the API has let one in. `false`: nothing is learnt, and what was learnt is forgotten.";
    "lookahead" => lookahead: bool = one(boolean) or "true",
        "true or false",
        "Before the broker has to wait for one answer, look into the other sockets for the questions that wait \
         there, and ask them side by side.";
    "acl_checks" { separator: Some(",") } => acl_checks: Vec<Access> = one(accesses) or "read,write,subscribe",
        "a list of read, write and subscribe, separated by commas",
        "Which accesses the API is asked about; the others are allowed, but for commands to the broker and to other \
         plugins (`$CONTROL/`), which it is always asked about. With `write,subscribe`, whoever was allowed to \
         subscribe to a filter may read what matches it, for as long as the session lasts and under the same username; \
         every other `read` is asked about. Read docs/asking-ahead.md before you set this.";
    "auth_fields" { separator: Some(","), of_contract: true } => auth_fields: Vec<Field> = optional(auth_fields),
        "a list, separated by commas, of clientid, address, protocol, protocol_version, clean_start, keepalive, \
         listener_port, tls_common_name, tls_subject, tls_serial and tls_fingerprint",
        "What the request about a login has behind `username` and `password`, see docs/more-fields.md. Verdicts are \
         remembered for the whole request, so the same password under another `clientid` is another question.";
    "acl_fields" { separator: Some(","), of_contract: true } => acl_fields: Vec<Field> = optional(acl_fields),
        "a list, separated by commas, of address, protocol, protocol_version, clean_start, keepalive, listener_port, \
         tls_common_name, tls_subject, tls_serial, tls_fingerprint, qos and retain",
        "What the request about a topic has behind `acc`, see docs/more-fields.md. With any of these fields no topic is \
         asked about ahead, since nobody can know them before the broker asks.";
    "special_chars" => special_chars: Verdict = one(|text| choice(text, ALLOW_OR_DENY)) or "deny",
        "allow or deny",
        "What topic checks of clients get whose username or client id holds `+` or `#`. Such names can turn into \
         wildcards in pattern rules and in many APIs, so they are refused. `allow`: they are decided like all others, but \
         match no rule with `%c` or `%u`.";
    "anonymous" => anonymous: Verdict = one(|text| choice(text, ALLOW_OR_DENY)) or "deny",
        "allow or deny",
        "What topic checks of anonymous clients get. Whether such clients may connect is the broker's \
         `allow_anonymous`.";
    "username_missing" => asks_without_username: bool = one(|text| choice(text, &[
            ("ask", true), ("refuse", false),
        ])) or "refuse",
        "refuse or ask",
        "Logins with a password and without a username, which MQTT 5 allows. `ask`: the API is asked with the username \
         `\"\"`, also about their topics. The password may be a token. A SIGHUP disconnects these clients unless \
         `allow_anonymous` is true, see docs/limits.md.";
    "auth_mode" { at_start: true } => auth_mode: AuthMode = one(|text| choice(text, &[
            ("auto", AuthMode::Auto), ("blocking", AuthMode::Blocking), ("delayed", AuthMode::Delayed),
        ])) or "auto",
        "auto, blocking or delayed",
        "Who waits for the API at a login, see docs/waiting.md. `auto`: the client, beside the broker, where that is possible \
         (2.1); elsewhere the broker. `blocking`: always the broker. `delayed`: the client, and a broker that cannot let it \
         wait does not start.";
    "reload_checks" => reload_checks: bool = one(boolean) or "true",
        "true or false",
        "Whether a SIGHUP has the API asked again about everybody who is connected. `false`: it only reads files again, \
         as where log rotation sends it every day. Local users who are still in the files go by them either way; whoever \
         is no longer there stays connected with `false`.";
}

/// When to slow down clients that try wrong passwords.
throttle: ThrottleLimits {
    "throttle_after" { old_name: Some("brake_after") } => after: usize = one(|text| count(text, 0..=1_000)) or "5",
        "a whole number from 0 to 1000; 0 = never",
        "How many wrong passwords it takes until there are pauses, see docs/security.md. In a pause a password that is \
         known to be wrong is refused without being looked at, and passwords that are not known are looked at one at a \
         time, until one was wrong. A password that was good within a day is always looked at. 0: no pauses.";
    "throttle_pause" { old_name: Some("brake_pause") } => pause: Duration =
            one(|text| time(text, SHORTEST..=HOUR)) or "1s",
        "a time from 10ms to 1h, such as 1s",
        "How long the first pause is. Each further wrong password that was looked at begins the next, twice as long.";
    "throttle_longest" { old_name: Some("brake_longest") } => longest: Duration =
            one(|text| time(text, SHORTEST..=24 * HOUR)) or "1m",
        "a time from 10ms to 24h, such as 1m",
        "How long a pause gets at most.";
    "throttle_by" { old_name: Some("brake_by") } => count_by: CountBy = one(|text| choice(text, &[
            ("address+username", CountBy::AddressAndUsername), ("address", CountBy::Address),
        ])) or "address+username",
        "address+username or address",
        "Whose wrong passwords are counted together. `address` also stops somebody who tries many names, but behind \
         a proxy, NAT or Unix socket everybody has the same. Either way the wrong passwords of one address under \
         one client id count together, too. IPv6 addresses count by their first 64 bits.";
}

/// When to stop asking an API that gives no answers, and when to ask it again.
breaker: BreakerLimits {
    "breaker_after" => after: usize = one(|text| count(text, 0..=20)) or "5",
        "a whole number from 0 to 20; 0 = never",
        "A URL is left alone when so many of its last 20 questions within a minute had no answer: time-outs, \
         broken connections and gateway failures (502, 503, 504); no other status counts. Nobody waits for it then. \
         In the background the plugin sends again what had no answer, and so finds out when it is back. 0: never.";
    "breaker_percent" => percent: usize = one(|text| count(text, 1..=100)) or "25",
        "a whole number from 1 to 100",
        "The share of its last 20 questions within a minute that must have had no answer before a URL is left \
         alone, in percent.";
    "breaker_pause" => pause: Duration = one(|text| time(text, SHORTEST..=HOUR)) or "1s",
        "a time from 10ms to 1h, such as 1s",
        "The pause before an API that was left alone is first asked again. Each further time without an \
         answer doubles it.";
    "breaker_longest" => longest: Duration = one(|text| time(text, SHORTEST..=HOUR)) or "30s",
        "a time from 10ms to 1h, such as 30s",
        "The longest pause before an API that was left alone is asked again, or `breaker_pause` if that is longer.";
}

{
    "admin_listen" { at_start: true } => admin_listen: Vec<ListenAt> = each(listen_at),
        "an address and port, such as 127.0.0.1:9465 or [::1]:9465, or unix: and the path of a socket",
        "Where metrics, the status page and the commands of `docs/commands.md` are served over HTTP, without TLS. Over a \
         Unix socket whoever may open it may steer; over TCP commands want the token in `admin_token_file`. Counts from \
         the broker's next start on.";
    "admin_token_file" { holds_secrets: true } => admin_token_file: Option<PathBuf> = optional(path),
        "the path of a readable file",
        "The token that commands over TCP want (`Authorization: Bearer TOKEN`): one line of 16 characters or more, without \
         blanks. Without it only a Unix socket may steer. Re-read on SIGHUP.";
    "control" { at_start: true } => control: bool = one(boolean) or "false",
        "true or false",
        "Take the commands of `docs/commands.md` on the topic `$CONTROL/http-auth/v1`, from clients that a rule of `acl_file` or \
         the API lets write to it. Counts from the broker's next start on.";
    "sys_topics" => sys_topics: bool = one(boolean) or "false",
        "true or false",
        "Publish figures under `$SYS/broker/plugin/http-auth/`, as plain decimal numbers, retained, every 10 s and only where \
         they have changed: existing exporters of the broker's own figures read them there. Who may read them is decided as \
         for every topic. For one copy of the plugin in a broker: of several the last one's figures stand there. Mosquitto 2.0.11 \
         publishes none with `per_listener_settings true`.";
    "shared_cache" { secret: true } => shared_cache: Option<SharedCacheUrl> = optional(shared_cache_url),
        "redis://USER:PASSWORD@HOST:PORT/DATABASE or rediss://, or redis+sentinel://HOST,HOST/MASTER, or redis+cluster://HOST,HOST",
        "A Valkey or Redis that several brokers share: what the API has allowed one of them the others need not ask, also \
         after a restart, see docs/several-brokers.md. Over `rediss://` certificates go by the `tls_` options, as they do \
         for https.";
    "shared_cache_secret_file" { holds_secrets: true } => shared_cache_secret_file: Option<PathBuf> = optional(path),
        "the path of a readable file",
        "The secret of all brokers that share a cache: a line of 32 characters or more, without blanks. With it names are \
         hidden and what is stored is signed. The line below may hold the secret from before, which is still understood. \
         Re-read on SIGHUP.";
    "shared_cache_timeout" => shared_cache_timeout: Duration = one(|text| time(text, Duration::from_millis(1)..=SECOND)) or "50ms",
        "a time from 1ms to 1s, such as 50ms",
        "The longest that a question waits for the shared cache before the API is asked. A cache that takes longer is left \
         alone until it is fast again.";
    "config_file" { includes: true, holds_secrets: true } => config_file: Option<PathBuf> = optional(path),
        "the path of a readable TOML file",
        "A TOML file with any of these options, such as `timeout = \"2s\"`; options that may be given several \
         times, and several URLs, are lists. Re-read on SIGHUP, which the broker does not do with its own \
         `plugin_opt_` lines. Where mosquitto.conf sets an option, too, mosquitto.conf counts.";
}
}
