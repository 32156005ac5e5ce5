use std::collections::HashMap;

use super::super::{Config, Words, Yes};
use super::*;

fn options(lines: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap();
        (name.to_owned(), value.to_owned())
    };
    lines.lines().map(str::trim_start).filter(|line| !line.is_empty()).map(line).collect()
}

const GO_AUTH: &str = "backends http
    http_host api.example
    http_port 8080
    http_getuser_uri /user?x=1
    http_aclcheck_uri /acl
    http_superuser_uri /super
";

const AUTH_PLUG: &str = "backends http
    http_ip 127.0.0.1
    http_getuser_uri /auth
    http_superuser_uri /superuser
    http_aclcheck_uri /acl
";

/// What options of theirs come to, by name; of headers all.
fn came_to(moved: &Moved<'_>) -> HashMap<&'static str, String> {
    let mut all = HashMap::new();
    for option in &moved.options {
        all.entry(option.name)
            .and_modify(|text: &mut String| *text += "\n")
            .or_default()
            .push_str(&option.value);
    }
    all
}

fn go(more: &str) -> Vec<(String, String)> {
    options(&format!("{GO_AUTH}{more}"))
}

fn plug(more: &str) -> Vec<(String, String)> {
    options(&format!("{AUTH_PLUG}{more}"))
}

fn config(options: &[(String, String)]) -> Result<Config, Vec<String>> {
    let errors = |errors: Vec<_>| errors.iter().map(ToString::to_string).collect();
    Config::read(&options.to_vec()).map(|(config, _)| config).map_err(errors)
}

#[test]
fn options_without_backends_are_not_theirs() {
    assert!(moved(&options("http_host a")).is_none());
    assert!(config(&options("http_host a")).is_err_and(|errors| errors[0].contains("auth_url")));
}

#[test]
fn go_auth_comes_to_urls_times_and_headers() {
    let lines = go(
        "http_with_tls true\nhttp_verify_peer true\nhttp_timeout 7\nhttp_header_X-Key a b\ncache  true\nauth_cache_seconds 60",
    );
    let moved = moved(&lines).unwrap();
    assert_eq!((moved.theirs, moved.errors.as_slice()), (Theirs::GoAuth, &[] as &[String]));
    let all = came_to(&moved);
    for (name, value) in [
        ("auth_url", "https://api.example:8080/user?x=1"),
        ("acl_url", "https://api.example:8080/acl"),
        ("auth_fields", "clientid"),
        ("timeout", "7s"),
        ("connect_timeout", "7s"),
        ("auth_cache_ttl", "60s"),
        ("acl_cache_ttl", "30s"),
        ("header", "X-Key: a b\nUser-Agent: mosquitto-2.0.22"),
    ] {
        assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
    }
    let Dialect { words, yes, method, superuser_urls, .. } = &moved.dialect;
    assert_eq!((*words, *yes, method.as_str()), (Words::GoJson, Yes::Status, "POST"));
    assert_eq!(superuser_urls[0].url.as_str(), "https://api.example:8080/super");
    assert!(moved.lines.iter().all(|line| line.fate == Fate::Same), "{:?}", moved.lines);
}

#[test]
fn without_a_cache_nothing_is_remembered_and_that_is_said() {
    for more in ["", "cache false", "cache True", "cache 30\nacl_cache_seconds 9"] {
        let config = config(&go(more)).unwrap();
        assert_eq!((config.auth_cache_ttl, config.acl_cache_ttl), (Default::default(), Default::default()));
        assert!(config.dialect.remarks.iter().any(|line| line.contains("Nothing is remembered")), "{more}");
    }
}

#[test]
fn a_no_is_remembered_like_a_yes_unless_told_otherwise() {
    use crate::question::{Kind, Verdict};
    let seconds = |config: &Config, kind, verdict| config.lifetime(kind, verdict).as_secs();
    let lines = "cache true\nauth_cache_seconds 60\nacl_cache_seconds 40\n";
    let theirs = config(&go(lines)).unwrap();
    for (kind, expected) in [(Kind::Connect, 60), (Kind::Access, 40)] {
        assert_eq!(seconds(&theirs, kind, Verdict::Allow), expected);
        assert_eq!(seconds(&theirs, kind, Verdict::Deny), expected);
    }
    let own = config(&go(&format!("{lines}deny_cache_ttl 3s"))).unwrap();
    assert_eq!(seconds(&own, Kind::Access, Verdict::Deny), 3);
    let plug = config(&plug("")).unwrap();
    assert_eq!(seconds(&plug, Kind::Connect, Verdict::Deny), 0);
    assert_eq!(seconds(&plug, Kind::Access, Verdict::Deny), 300);
}

#[test]
fn own_options_win_and_those_that_do_not_go_with_theirs_are_refused() {
    let lines = go(
        "timeout 1s\nmax_requests 7\nheader user-agent: mine\nacl_url http://other/acl\ntls_ca_file /ca.pem",
    );
    let own = config(&lines).unwrap();
    assert_eq!((own.timeout.as_secs(), own.max_requests), (1, 7));
    assert_eq!(own.connect_timeout.as_secs(), 5);
    assert_eq!(own.headers.len(), 1);
    assert_eq!(own.headers[0].1, "mine");
    assert_eq!(own.acl_urls[0].url.as_str(), "http://other/acl");
    for line in ["acl_batch_url http://a/", "answer_rules true", "auth_fields address", "acl_fields qos"] {
        let errors = config(&go(line)).unwrap_err();
        assert!(
            errors.len() == 1 && errors[0].contains("beside the options of mosquitto-go-auth"),
            "{errors:?}"
        );
    }
    let errors = config(&go("timeot 1s\nbrake_after 3")).unwrap_err();
    assert_eq!(errors, ["plugin_opt_brake_after: is called plugin_opt_throttle_after now"]);
}

#[test]
fn mistakes_name_the_options_that_stand_there() {
    let with_port = |port: &str| options(&GO_AUTH.replace("8080", port));
    let errors = config(&with_port("99999")).unwrap_err();
    assert!(errors.iter().any(|error| error.starts_with("plugin_opt_http_getuser_uri:")), "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("plugin_opt_http_superuser_uri:")), "{errors:?}");
    let found = config(&go("http_header_Content-Length 3")).unwrap_err();
    assert!(found[0].starts_with("plugin_opt_http_header_Content-Length: content-length is"), "{found:?}");
}

#[test]
fn what_would_be_unsafe_is_refused() {
    for (lines, expected) in [
        ("", None),
        (
            "http_register user,superuser",
            Some("plugin_opt_http_register: found it without user or without acl"),
        ),
        ("http_register acl", Some("plugin_opt_http_register: found it without user or without acl")),
        ("http_register user,topics", Some("plugin_opt_http_register: found \"topics\"")),
        ("http_register user, acl", None),
        ("http_method GET\nhttp_params_mode form", Some("plugin_opt_http_method: found GET")),
    ] {
        let errors = config(&go(lines)).err().unwrap_or_default();
        match expected {
            None => assert!(errors.is_empty(), "{errors:?}"),
            Some(expected) => assert!(errors.len() == 1 && errors[0].starts_with(expected), "{errors:?}"),
        }
    }
    let backends = |list: &str, more: &str| {
        config(&options(&format!("{}{more}", GO_AUTH.replace("backends http", &format!("backends {list}")))))
            .err()
    };
    let errors = backends("postgres, http", "").unwrap();
    assert!(errors[0].starts_with("plugin_opt_backends: found \"postgres\""), "{errors:?}");
    // With files alone there, and with http beside, rules decide about topics.
    let errors = backends("files,http", "files_password_path /p").unwrap();
    assert!(errors[0].starts_with("plugin_opt_files_password_path: found it without rules"), "{errors:?}");
    assert_eq!(backends("files,http", "files_password_path /p\nfiles_acl_path /a"), None);
    assert_eq!(backends("files,http", "files_password_path /p\nacl_file /a"), None);
    assert!(
        backends("files,http", "files_password_path /p\nfiles_acl_path /a\nfiles_register user").is_some()
    );
    assert_eq!(config(&options("backends files\nfiles_password_path /p")).err(), None);
    for (lines, option) in [
        ("backends http\nhttp_port 1\nhttp_getuser_uri /u\nhttp_aclcheck_uri /a", "http_host"),
        ("backends http\nhttp_host a\nhttp_getuser_uri /u\nhttp_aclcheck_uri /a", "http_port"),
        ("backends http\nhttp_host a\nhttp_port 1\nhttp_aclcheck_uri /a", "http_getuser_uri"),
        ("backends http\nhttp_host a\nhttp_port 1\nhttp_getuser_uri /u", "http_aclcheck_uri"),
        ("backends http\nhttp_ip a\nhttp_getuser_uri /u\nhttp_aclcheck_uri /a", "http_superuser_uri"),
    ] {
        let errors = config(&options(lines)).unwrap_err();
        assert!(
            errors.iter().any(|error| error.starts_with(&format!("plugin_opt_{option}: "))),
            "{errors:?}"
        );
    }
}

#[test]
fn words_that_are_not_theirs_mean_what_they_meant_there() {
    let dialect = |lines: &str| config(&go(lines)).unwrap().dialect;
    let remarks = |lines: &str, what: &str| {
        let remarks = dialect(lines).remarks;
        assert!(remarks.iter().any(|line| line.contains(what)), "{lines}: {remarks:?}");
    };
    assert_eq!(dialect("http_response_mode text").yes, Yes::Text);
    assert_eq!(dialect("http_response_mode json").yes, Yes::Json);
    assert_eq!(dialect("http_response_mode Json").yes, Yes::Status);
    remarks("http_response_mode text ", "found \"text \", which mosquitto-go-auth takes for status");
    assert_eq!(dialect("http_method PUT").method, "PUT");
    assert_eq!(dialect("http_method put").method, "POST");
    remarks("http_method put", "plugin_opt_http_method: found \"put\"");
    let with_tls = config(&go("http_with_tls true")).unwrap();
    assert_eq!(with_tls.auth_urls[0].url.scheme(), "https");
    assert!(with_tls.dialect.remarks.iter().any(|line| line.contains("IS VERIFIED")));
    remarks(
        "http_with_tls true\nhttp_verify_peer false",
        "plugin_opt_http_verify_peer: certificates are always verified",
    );
    assert_eq!(config(&go("http_with_tls true ")).unwrap().auth_urls[0].url.scheme(), "http");
    for (value, seconds) in [("0", 60), ("600", 60), ("9", 9), ("5s", 5), ("-1", 5)] {
        assert_eq!(config(&go(&format!("http_timeout {value}"))).unwrap().timeout.as_secs(), seconds);
    }
    remarks("http_timeout 5s", "found \"5s\", which is no whole number");
    for lines in ["disable_superuser true", "http_register acl,user"] {
        assert!(dialect(lines).superuser_urls.is_empty(), "{lines}");
    }
    assert_eq!(dialect("disable_superuser yes").superuser_urls.len(), 1);
    assert!(dialect("use_clientid_as_username  true").client_id_is_username);
}

/// The fork does with forms as it is told, the original does not.
#[test]
fn forms_are_sent_as_the_plugin_did_that_the_options_are_of() {
    let agent = |config: &Config| {
        let of = config.headers.iter().filter(|(name, _)| name == "user-agent");
        of.map(|(_, value)| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let original = config(&go("http_params_mode form\nhttp_method PUT\nhttp_user_agent me")).unwrap();
    assert_eq!((original.dialect.words, original.dialect.method.as_str()), (Words::GoForm, "POST"));
    assert_eq!(agent(&original), ["Go-http-client/1.1"]);
    let told = original.dialect.remarks.iter().find(|line| line.contains("sends forms by POST")).unwrap();
    assert!(told.starts_with("plugin_opt_http_method, plugin_opt_http_user_agent: "), "{told}");
    let fork = config(&go("http_params_mode form\nhttp_method PUT\nhttp_user_agent me\nhttp_header_X-Key k"))
        .unwrap();
    assert_eq!((fork.dialect.method.as_str(), agent(&fork)), ("PUT", vec!["me".to_owned()]));
    let named = config(&go("http_user_agent me\nhttp_header_user-agent you\nhttp_header_Host h")).unwrap();
    assert_eq!((agent(&named), named.headers.len()), (vec!["you".to_owned()], 1));
}

#[test]
fn auth_plug_is_told_by_its_options_and_comes_to_forms() {
    let lines =
        plug("http_hostname api.example\nhttp_basic_auth_key czNjcmV0\nacl_cacheseconds 20\nsuperusers S*");
    let moved = moved(&lines).unwrap();
    assert_eq!((moved.theirs, moved.errors.as_slice()), (Theirs::AuthPlug, &[] as &[String]));
    let all = came_to(&moved);
    for (name, value) in [
        ("auth_url", "http://127.0.0.1:80/auth"),
        ("acl_url", "http://127.0.0.1:80/acl"),
        ("timeout", "10s"),
        ("auth_cache_ttl", "0s"),
        ("acl_cache_ttl", "20s"),
        ("header", "Host: api.example\nAuthorization: Basic czNjcmV0"),
    ] {
        assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(all.get("auth_fields"), None);
    let dialect = &moved.dialect;
    assert_eq!((dialect.words, dialect.sends_credentials), (Words::PlugForm, false));
    assert!(dialect.superusers.as_ref().unwrap().matches("Super"));
    assert_eq!(dialect.superuser_urls[0].url.as_str(), "http://127.0.0.1/superuser");
    let plain = config(&plug("")).unwrap();
    assert!(plain.dialect.sends_credentials && plain.headers.is_empty());
    let by_name = config(&options(&AUTH_PLUG.replace("http_ip 127.0.0.1", "http_hostname api"))).unwrap();
    assert_eq!(by_name.auth_urls[0].url.as_str(), "http://api/auth");
    assert!(config(&plug("superusers [ab]*")).is_err());
    // A database's, and no local user's.
    let leftover = config(&plug("host localhost\nport 3306\nuser jjj\npass s3cret")).unwrap();
    assert!(leftover.users.is_empty());
    assert!(leftover.dialect.remarks.iter().any(|line| line.contains("plugin_opt_user: it is of none")));
    assert!(config(&plug("user jjj:x")).unwrap().users.len() == 1);
    // What only the other one knows says nothing.
    let other = config(&plug("cache true\nhttp_response_mode json\nhttp_timeout 1")).unwrap();
    assert_eq!((other.dialect.yes, other.timeout.as_secs()), (Yes::Status, 10));
    let told = other.dialect.remarks.iter().find(|line| line.contains("does not know it")).unwrap();
    assert!(told.contains("plugin_opt_http_response_mode"), "{told}");
}

#[test]
fn what_stands_in_front_comes_from_the_environment() {
    // One that is there wherever tests run.
    let path = std::env::var("PATH").unwrap();
    let dialect =
        config(&plug("http_getuser_params a b=PATH,domain=NO_SUCH_VARIABLE\nhttp_aclcheck_params x=PATH"))
            .unwrap()
            .dialect;
    let mut encoded = String::new();
    crate::util::percent::push_encoded(&mut encoded, &path, "%20");
    assert_eq!(
        dialect.in_front,
        [format!("a%20b={encoded}&domain=NULL&"), String::new(), format!("x={encoded}&")]
    );
    assert!(dialect.remarks.iter().any(|line| line.contains("NO_SUCH_VARIABLE")));
    assert!(dialect.remarks.iter().all(|line| !line.contains(&path)));
    assert!(config(&plug("http_getuser_params domain")).is_err());
}

#[test]
fn whatever_is_not_the_same_is_said_in_a_line() {
    let config = config(&go(
        "log_level debug\nlog_dest stderr\nhttp_mode remote\nretry_count 2\nretry_counts 2\ntimeot 3\njwt_host a",
    ));
    let remarks = config.unwrap().dialect.remarks;
    for expected in [
        "The options are those of mosquitto-go-auth, and are understood as it meant them. Redirects are not followed",
        "plugin_opt_log_level, plugin_opt_log_dest: lines go to the broker's log",
        "plugin_opt_http_mode: neither mosquitto-go-auth nor this plugin knows it: ignored",
        "plugin_opt_retry_count: a question is asked once more only",
        "the nearest of this plugin is timeout",
        "plugin_opt_jwt_host: tokens are not looked into",
    ] {
        assert!(remarks.iter().any(|line| line.contains(expected)), "{expected}: {remarks:#?}");
    }
    assert!(remarks.iter().all(|line| line.ends_with('.') && !line.ends_with("..")), "{remarks:#?}");
}

/// No value of a header is in any line.
#[test]
fn no_line_has_a_secret() {
    let lines = go(
        "http_header_X-Key t0psecret\nhttp_header_Host t0psecret\nhttp_user_agent t0psecret\nhttp_params_mode form",
    );
    let moved = moved(&lines).unwrap();
    assert!(moved.dialect.remarks.iter().chain(&moved.errors).all(|line| !line.contains("t0psecret")));
    let lines = plug("http_basic_auth_key t0psecret\nhttp_header_X t0psecret\ncache_password t0psecret");
    let moved = super::moved(&lines).unwrap();
    assert!(moved.dialect.remarks.iter().chain(&moved.errors).all(|line| !line.contains("t0psecret")));
}

#[test]
fn every_row_is_found_by_its_name_and_none_is_an_option_here() {
    for row in table::TABLE {
        let name = row.name.replace('*', "x");
        assert_eq!(find(&name).map(|found| found.name), Some(row.name));
        assert!(super::super::lookup::find(&name).is_none(), "{name}");
    }
    // Nor is a slip of the hand in an option here taken for one of theirs.
    for spec in super::super::OPTIONS {
        assert!(find(&spec.name[1..]).is_none(), "{}", spec.name);
    }
}
