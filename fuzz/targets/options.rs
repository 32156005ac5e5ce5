//! Options of mosquitto.conf, a line each: `NAME VALUE`.
//!
//! Values that are accepted keep every bound that the README promises, and the same options in TOML mean the same.
//! Values that are refused are explained, without secrets.
#![no_main]

mod support;

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{BrokerOptions, Config};
use support::MemoryFile;
use support::config::{check, is_secret};

/// A text that stands only in values that may be secrets.
const SECRET: &str = "s3cret";

fuzz_target!(|text: &str| {
    let options: BrokerOptions = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        // Left out, since it would read any file; the target `config_file` tests it.
        .filter(|(name, _)| *name != "config_file")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let read = Config::read(&options);
    match &read {
        Ok((config, in_both)) => {
            check(config);
            assert!(in_both.is_empty());
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let is_told = |message: &String| message.contains(SECRET);
            let is_public = |(name, value): &(String, String)| {
                let is_shown = !is_secret(name) && value.contains(SECRET);
                let is_host = name.ends_with("_url") && value.split_ascii_whitespace().any(has_it_in_host);
                name.contains(SECRET) || is_shown || is_host || value.contains(&format!("${{{SECRET}"))
            };
            assert!(
                options.iter().any(is_public) || !messages.iter().any(is_told),
                "a secret in {messages:?}"
            );
        }
    }
    if let Some(file) = as_toml(&options) {
        let file = MemoryFile::with(file.as_bytes());
        let in_file = Config::read(&vec![("config_file".to_owned(), file.path().to_owned())]);
        match (read, in_file) {
            (Ok((expected, _)), Ok((mut found, _))) => {
                found.config_file = None;
                assert!(found == expected, "TOML says something else");
            }
            (Err(_), Err(_)) => {}
            (read, _) => panic!("only one notation is taken; in mosquitto.conf: {:?}", read.err()),
        }
    }
});

/// Whether the text stands in what is shown of a URL: scheme, host and port, behind all credentials.
fn has_it_in_host(url: &str) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit('@').next().unwrap_or(rest);
    scheme.contains(SECRET)
        || rest.split(['/', '?', '#', '\\']).next().is_some_and(|host| host.contains(SECRET))
}

/// The same options in TOML; `None` where TOML cannot express them, such as an option that is given twice by mistake.
fn as_toml(options: &BrokerOptions) -> Option<String> {
    // With it others are those of another plugin, which a file has none of.
    if options.iter().any(|(name, _)| name == "backends") {
        return None;
    }
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in options {
        values.entry(name).or_default().push(value);
    }
    let mut table = toml::Table::new();
    for (name, values) in values {
        let value = match values[..] {
            [value] => value.into(),
            _ if ["user", "header", "acl_prefetch"].contains(&name) => values.into(),
            _ => return None,
        };
        table.insert(name.to_owned(), value);
    }
    Some(table.to_string())
}
