//! A configuration file of any bytes, beside options of mosquitto.conf that it cannot change.
#![no_main]

mod support;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::Config;
use support::MemoryFile;

fuzz_target!(|bytes: &[u8]| {
    let file = MemoryFile::with(bytes);
    let options = [("auth_url", "http://127.0.0.1:1/"), ("timeout", "7s"), ("config_file", file.path())];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    match Config::read(&options) {
        Ok((config, in_both)) => {
            support::config::check(&config);
            assert!(std::str::from_utf8(bytes).is_ok());
            assert_eq!(config.timeout, Duration::from_secs(7), "mosquitto.conf counts");
            assert_eq!(config.auth_urls.len(), 1, "mosquitto.conf counts");
            assert!(in_both.iter().all(|name| ["auth_url", "timeout"].contains(name)));
            assert_eq!(config.config_file.as_deref(), Some(file.path().as_ref()), "it names no other");
        }
        Err(errors) => {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            for error in &errors {
                check_place(&error.to_string(), file.path(), lines);
            }
            assert!(!errors.is_empty());
        }
    }
});

/// Every mistake is in the file, and every message names a line that the file has.
fn check_place(message: &str, path: &str, lines: usize) {
    if let Some(rest) = message.strip_prefix("plugin_opt_config_file: ") {
        assert!(rest.starts_with(path), "{message}");
        return;
    }
    // A message about two options that contradict each other names both with their locations.
    let place = message.strip_prefix(path).and_then(|rest| rest.strip_prefix(", line "));
    let number = place.and_then(|place| place.split(':').next()?.parse::<usize>().ok());
    assert!(number.is_some_and(|number| (1..=lines).contains(&number)), "{message}");
}
