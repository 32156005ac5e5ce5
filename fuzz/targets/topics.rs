//! Whether a filter covers a topic, compared with the brokers' own function. The input is a filter, a line feed and a
//! topic.
#![no_main]

mod support;

use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{WILDCARDS, is_valid_filter, matches};
use support::matcher::MATCHERS;

fuzz_target!(|text: &str| {
    let Some((filter, topic)) = text.split_once('\n') else { return };
    if !is_valid_filter(filter) || topic.contains('\0') {
        return;
    }
    let ours = matches(filter, topic);
    // A broker refuses these as topics, by a code.
    if topic.is_empty() || topic.contains(WILDCARDS) {
        assert!(!ours);
    }
    for broker in MATCHERS.iter() {
        let theirs = broker.matches(filter, topic);
        assert_eq!(ours, theirs, "Mosquitto {} on filter {filter:?} and topic {topic:?}", broker.version);
    }
});
