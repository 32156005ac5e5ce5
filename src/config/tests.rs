//! Tests of whole configurations: the values they give and the messages about their mistakes.

use super::*;
use crate::question::Access;

fn read(options: &[(&str, &str)]) -> Result<(Config, Vec<&'static str>), Vec<String>> {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(&options.collect()).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn messages(options: &[(&str, &str)]) -> Vec<String> {
    read(options).map(|_| Vec::new()).unwrap_or_else(|errors| errors)
}

const URL: (&str, &str) = ("auth_url", "http://127.0.0.1:1/");

#[test]
fn defaults_are_those_of_the_table() {
    let (config, _) = read(&[URL]).unwrap();
    assert_eq!(config.timeout, Duration::from_secs(2));
    assert_eq!(config.deny_cache_ttl, Duration::from_secs(5));
    assert_eq!(config.max_requests, 64);
    assert_eq!(config.acl_checks, [Access::Read, Access::Write, Access::Subscribe]);
    assert_eq!(config.special_chars, Verdict::Deny);
}

#[test]
fn files_are_known_by_their_types_and_those_with_secrets_by_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("toml");
    std::fs::write(&toml, "").unwrap();
    let path = |name| (name, name);
    let named = ["password_file", "acl_file", "header_file", "tls_ca_file", "tls_cert_file", "tls_key_file"];
    let options: Vec<_> =
        [URL, ("config_file", toml.to_str().unwrap())].into_iter().chain(named.map(path)).collect();
    let (config, _) = read(&options).unwrap();
    let shown = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let all: Vec<_> = config.files().map(shown).collect();
    assert_eq!(all, [&named[..], &["toml"]].concat());
    let secret: Vec<_> = config.secret_files().map(shown).collect();
    assert_eq!(secret, ["password_file", "header_file", "tls_key_file", "toml"]);
    let paths = OPTIONS.iter().filter(|spec| spec.name.ends_with("_file"));
    assert_eq!(paths.count(), 9, "is a new one of the type by which it is found?");
}

#[test]
fn every_mistake_says_what_was_found_and_expected() {
    for (options, expected) in [
        (
            vec![URL, ("auth_uri", "x")],
            "plugin_opt_auth_uri: there is no option of this name; the nearest is auth_url",
        ),
        (
            vec![URL, ("AUTH_URL", "x")],
            "plugin_opt_AUTH_URL: there is no option of this name; the nearest is auth_url",
        ),
        (vec![URL, ("brake_after", "9")], "plugin_opt_brake_after: is called plugin_opt_throttle_after now"),
        (
            vec![URL, ("colour", "red")],
            "plugin_opt_colour: there is no option of this name; docs/configuration.md lists them all",
        ),
        (
            vec![URL, ("timeout", "soon")],
            "plugin_opt_timeout: found \"soon\", expected a time from 10ms to 60s, such as 500ms or 2s",
        ),
        (
            vec![URL, ("timeout", "0")],
            "plugin_opt_timeout: found \"0\", expected a time from 10ms to 60s, such as 500ms or 2s",
        ),
        (
            vec![URL, ("timeout", "1s"), ("timeout", "2s")],
            "plugin_opt_timeout: found it twice, expected it once at most",
        ),
        (
            vec![URL, ("max_requests", "-1")],
            "plugin_opt_max_requests: found \"-1\", expected a whole number from 1 to 10000",
        ),
        (vec![URL, ("anonymous", "maybe")], "plugin_opt_anonymous: found \"maybe\", expected allow or deny"),
        (
            vec![URL, ("acl_prefetch", "own a/b")],
            "plugin_opt_acl_prefetch: found \"own a/b\", expected read, write or subscribe, then a topic",
        ),
        (
            vec![("auth_url", "ftp://u:secret@host/")],
            "plugin_opt_auth_url: \"ftp://...@host/\": expected http:// or https://",
        ),
        (
            vec![URL, ("header", "Authorization Bearer secret")],
            "plugin_opt_header: expected Name: value; what was found is not shown, it may be a secret",
        ),
        (
            vec![URL, ("tls_key_file", "/k")],
            "plugin_opt_tls_key_file: found it without tls_cert_file, expected both or none",
        ),
        (
            vec![("timeout", "1s")],
            "there is nothing to decide with: expected plugin_opt_auth_url, plugin_opt_acl_url, plugin_opt_password_file or plugin_opt_user",
        ),
    ] {
        assert_eq!(messages(&options), [expected], "{options:?}");
    }
}

#[test]
fn what_cannot_work_is_refused() {
    for (options, expected) in [
        (
            vec![("auth_url", "\"http://a/s3cret\"")],
            "plugin_opt_auth_url: found \" in front of the value, expected it without quotes",
        ),
        (
            vec![URL, ("acl_url", "http://a/s3cret # my API")],
            "plugin_opt_acl_url: found a # behind the value: a comment needs a line of its own",
        ),
        (
            vec![URL, ("header", "Authorization: Bearer ${API_TOKEN:-s3cret}")],
            "plugin_opt_header: found \"${API_TOKEN...\", expected its value: nothing here fills in variables",
        ),
        (
            vec![URL, ("password_file", "${HOME}/users")],
            "plugin_opt_password_file: found \"${HOME}\", expected its value: nothing here fills in variables",
        ),
        (
            vec![URL, ("header", "Content-Length: 7")],
            "plugin_opt_header: content-length is the request's own business; expected another header",
        ),
        (
            vec![URL, ("header", "Host: a"), ("header", "host: b")],
            "plugin_opt_header: Host is set twice, expected it once at most",
        ),
        (
            vec![("auth_url", "http://u:p@a/"), ("header", "Authorization: Basic s3cret")],
            "plugin_opt_header: Authorization is set, and a URL has credentials, which are sent as Authorization, too; \
             expected one",
        ),
        (
            vec![URL, ("acl_prefetch", "subscribe a/#/b")],
            "plugin_opt_acl_prefetch: found \"subscribe a/#/b\", which no broker asks: in a filter + and # are whole \
             levels, and # is the last",
        ),
        (
            vec![URL, ("acl_prefetch", "write a/+")],
            "plugin_opt_acl_prefetch: found \"write a/+\", which no broker asks: a message has a topic without \
             wildcards; only for subscribe may there be + and #",
        ),
        (
            vec![URL, ("http_host", "a")],
            "plugin_opt_http_host: this is an option of mosquitto-go-auth, understood only in mosquitto.conf beside \
             plugin_opt_backends; what becomes of it there: a part of auth_url and acl_url",
        ),
        (
            vec![URL, ("HTTP_Header_X-Key", "a")],
            "plugin_opt_HTTP_Header_X-Key: this is an option of mosquitto-go-auth, understood only in mosquitto.conf beside \
             plugin_opt_backends; what becomes of it there: header NAME: VALUE; header_file is the place where nobody else \
             reads it",
        ),
    ] {
        assert_eq!(messages(&options), [expected], "{options:?}");
    }
    for works in ["subscribe #", "subscribe a/+/#", "subscribe $share/g/%u/#", "write a/%c", "read a b"] {
        assert!(messages(&[URL, ("acl_prefetch", works)]).is_empty(), "{works}");
    }
}

/// The line of mosquitto.conf counts, until somebody takes it away.
#[test]
fn a_mistake_in_a_file_is_seen_behind_the_same_option_of_the_broker() {
    let text = "timeout = 'abc'\nmax_wait = '5s'\n";
    let found = with_file(text, &[URL, ("timeout", "1s"), ("max_wait", "1s")]).unwrap_err();
    assert_eq!(
        found,
        ["FILE, line 1: timeout: found \"abc\", expected a time from 10ms to 60s, such as 500ms or 2s"]
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    assert_eq!(messages(&[("timeot", "1s"), ("cache_size", "big")]).len(), 2);
    let text = "timeot = 1\ncache_size = 'big'\ntimeout = 1.5\nheader = ['a', 'b']\n";
    assert_eq!(with_file(text, &[("brake_by", "x"), ("cache_ttl", "x")]).unwrap_err().len(), 7);
}

#[test]
fn every_old_name_leads_to_the_new_one() {
    let mut renamed: Vec<_> = OPTIONS.iter().filter_map(|spec| Some((spec.old_name?, spec.name))).collect();
    renamed.sort_unstable();
    assert_eq!(
        renamed,
        [
            ("brake_after", "throttle_after"),
            ("brake_by", "throttle_by"),
            ("brake_longest", "throttle_longest"),
            ("brake_pause", "throttle_pause"),
        ]
    );
    for (old, new) in renamed {
        assert!(lookup::find(old).is_none(), "{old} is a name again");
        let expected = format!("plugin_opt_{old}: is called plugin_opt_{new} now");
        assert_eq!(messages(&[URL, (old, "x")]), [expected]);
    }
}

#[test]
fn no_two_options_have_the_same_name() {
    let names: std::collections::HashSet<_> = OPTIONS.iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), OPTIONS.len());
}

#[test]
fn a_misspelt_name_is_led_to_the_known_one() {
    for (name, expected) in [
        ("AUTH_URL", Some("auth_url")),
        ("Cache_Sise", Some("cache_size")),
        ("auth-url", Some("auth_url")),
        ("acl_prefetches", Some("acl_prefetch")),
        ("", None),
        ("x", None),
    ] {
        assert_eq!(lookup::nearest(name), expected, "{name}");
    }
    assert_eq!(lookup::nearest(&"timeout".repeat(1_000_000)), None);
}

fn with_file(text: &str, options: &[(&str, &str)]) -> Result<(Config, Vec<&'static str>), Vec<String>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let mut options = options.to_vec();
    options.push(("config_file", path));
    read(&options).map_err(|errors| errors.iter().map(|error| error.replace(path, "FILE")).collect())
}

#[test]
fn a_file_has_the_same_options_and_gives_way_to_the_broker() {
    let text = "auth_url = ['http://a/', 'http://b/']\ntimeout = '3s'\ncache_size = 7\ntls_insecure = true\n\
                user = ['a:$7$x', 'b:$7$y']\nmax_wait = 4\n";
    let (config, in_both) = with_file(text, &[("timeout", "1s")]).unwrap();
    assert_eq!(config.auth_urls.len(), 2);
    assert_eq!(config.users.len(), 2);
    assert_eq!((config.cache_size, config.tls_insecure), (7, true));
    assert_eq!(config.max_wait, Duration::from_secs(4));
    assert_eq!(config.timeout, Duration::from_secs(1));
    assert_eq!(in_both, ["timeout"]);
}

#[test]
fn mistakes_in_a_file_name_file_and_line() {
    for (text, expected) in [
        ("\ntimout = '1s'", "FILE, line 2: timout: there is no option of this name; the nearest is timeout"),
        (
            "timeout = 'soon'",
            "FILE, line 1: timeout: found \"soon\", expected a time from 10ms to 60s, such as 500ms or 2s",
        ),
        ("config_file = 'x'", "FILE, line 1: config_file: a configuration file cannot name another"),
        (
            "[api]\nurl = 'x'",
            "FILE, line 1: api: found a table, expected a text, a number, true, false or a list of those",
        ),
        (
            "timeout = [['1s']]",
            "FILE, line 1: timeout: found a list in a list, expected a text, a number, true, false or a list of those",
        ),
    ] {
        assert_eq!(with_file(text, &[URL]).unwrap_err(), [expected], "{text}");
    }
    let broken = with_file("a = 1\ntimeout = = 2", &[URL]).unwrap_err();
    assert!(broken[0].starts_with("FILE, line 2: this is no TOML ("), "{broken:?}");
}
