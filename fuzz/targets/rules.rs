//! Rules of the API's answers: what they decide about topics, compared with a scan, and that whoever may subscribe may
//! read what the filter matches. The input is a username, a client id, what is asked about, and then the rules, a line
//! each: a letter for each of its conditions, and its topic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{
    Access, Action, Grants, Names, Permission, QosSet, RawRule, Wanted, behind_group, is_valid_filter,
    matches,
};

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let (Some(username), Some(client_id), Some(asked)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let rules: Vec<RawRule<'_>> = lines.filter_map(rule).collect();
    let attrs = [("tenant".to_owned(), username.to_owned())];
    let Ok(grants) = Grants::compile(&rules, &Names { username, client_id, attrs: &attrs }) else { return };
    assert!(grants.bytes() < 4 << 20);

    let subscribe = grants.decide(&wanted(Access::Subscribe, asked));
    let filter = behind_group(asked).unwrap_or(asked);
    if !is_valid_filter(filter) {
        assert_eq!(subscribe, Some(false));
        return;
    }
    // Some topics that the filter matches.
    for level in ["z", "a", "", username, client_id] {
        let topic = filter.replace(['+', '#'], level);
        if !matches(filter, &topic) {
            continue;
        }
        let read = grants.decide(&wanted(Access::Read, &topic));
        match subscribe {
            Some(true) => assert_eq!(read, Some(true), "{topic:?}"),
            Some(false) => {}
            None => assert_ne!(read, Some(false), "{topic:?}"),
        }
        let write = grants.decide(&wanted(Access::Write, &topic));
        if let Some(expected) = scan(&rules, &topic) {
            assert_eq!(write, expected, "{topic:?}");
        }
    }
});

fn wanted(access: Access, topic: &str) -> Wanted<'_> {
    Wanted { access, topic, qos: Some(0), retain: Some(false) }
}

/// What a scan over rules without placeholders says about a message; `None` if there are placeholders.
fn scan(rules: &[RawRule<'_>], topic: &str) -> Option<Option<bool>> {
    if rules.iter().any(|rule| rule.topics[0].contains("${")) {
        return None;
    }
    let is_about = |rule: &&RawRule<'_>| {
        let is_topic = match rule.topics[0].strip_prefix("eq ") {
            Some(literal) => literal == topic,
            None => matches(rule.topics[0], topic),
        };
        is_topic
            && rule.action != Action::Subscribe
            && rule.qos != QosSet::of([1]).unwrap()
            && rule.retain != Some(true)
    };
    Some(rules.iter().find(is_about).map(|rule| rule.permission == Permission::Allow))
}

fn rule(line: &str) -> Option<RawRule<'_>> {
    let (conditions, topic) = line.split_once(' ')?;
    let has = |letter| conditions.contains(letter);
    Some(RawRule {
        permission: if has('d') { Permission::Deny } else { Permission::Allow },
        action: match (has('p'), has('s')) {
            (true, false) => Action::Publish,
            (false, true) => Action::Subscribe,
            _ => Action::All,
        },
        topics: vec![topic],
        qos: if has('1') { QosSet::of([1])? } else { QosSet::ALL },
        retain: if has('r') { Some(has('R')) } else { None },
    })
}
