use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::topic::matches;

use Access::{Read, Subscribe, Write};

fn rule(permission: Permission, action: Action, topics: &[&'static str]) -> RawRule<'static> {
    RawRule { permission, action, topics: topics.to_vec(), qos: QosSet::ALL, retain: None }
}

fn allow(action: Action, topic: &'static str) -> RawRule<'static> {
    rule(Permission::Allow, action, &[topic])
}

fn deny(action: Action, topic: &'static str) -> RawRule<'static> {
    rule(Permission::Deny, action, &[topic])
}

fn names(client_id: &str) -> Names<'_> {
    Names { username: "joe", client_id, attrs: &[] }
}

fn grants(rules: &[RawRule<'_>]) -> Grants {
    Grants::compile(rules, &names("c")).unwrap()
}

fn wanted(access: Access, topic: &str) -> Wanted<'_> {
    Wanted { access, topic, qos: Some(0), retain: Some(false) }
}

/// Checks decisions, for clients that ask with QoS 0 and without the retain flag.
fn check(rules: &[RawRule<'_>], expected: &[(Access, &str, Option<bool>)]) {
    let grants = grants(rules);
    for (access, topic, expected) in expected {
        assert_eq!(grants.decide(&wanted(*access, topic)), *expected, "{access} {topic:?} by {rules:?}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    check(
        &[
            deny(Action::All, "a/secret"),
            allow(Action::Publish, "a/+"),
            deny(Action::All, "#"),
            allow(Action::All, "b"),
        ],
        &[
            (Write, "a/secret", Some(false)),
            (Write, "a/x", Some(true)),
            (Read, "a/x", Some(false)),
            (Write, "b", Some(false)),
            (Write, "$SYS/x", None),
        ],
    );
    check(&[], &[(Write, "a", None), (Read, "a", None), (Subscribe, "#", None)]);
}

#[test]
fn an_action_is_about_its_accesses() {
    for (action, write, read) in [
        (Action::Publish, Some(true), None),
        (Action::Subscribe, None, Some(true)),
        (Action::All, Some(true), Some(true)),
    ] {
        check(&[allow(action, "a")], &[(Write, "a", write), (Read, "a", read), (Subscribe, "a", read)]);
    }
}

#[test]
fn a_filter_is_allowed_only_if_one_rule_covers_it() {
    let yes = Some(true);
    check(
        &[allow(Action::Subscribe, "a/+"), allow(Action::Subscribe, "b/#"), allow(Action::Subscribe, "c")],
        &[
            (Subscribe, "a/x", yes),
            (Subscribe, "a/+", yes),
            (Subscribe, "a/#", None),
            (Subscribe, "a/+/#", None),
            (Subscribe, "+/x", None),
            (Subscribe, "b", yes),
            (Subscribe, "b/#", yes),
            (Subscribe, "b/+/c/#", yes),
            (Subscribe, "#", None),
            (Subscribe, "c/#", None),
            (Read, "a/x", yes),
            (Read, "a/x/y", None),
            (Read, "b", yes),
        ],
    );
    check(&[allow(Action::Subscribe, "+/#")], &[(Subscribe, "#", yes), (Subscribe, "$SYS/#", None)]);
    check(&[allow(Action::Subscribe, "a/+/#")], &[(Subscribe, "a/#", None), (Subscribe, "a/b/#", yes)]);
}

#[test]
fn a_filter_is_denied_by_whatever_overlaps_with_it() {
    let no = Some(false);
    check(
        &[deny(Action::Subscribe, "a/+/secret"), allow(Action::Subscribe, "#")],
        &[
            (Subscribe, "a/#", no),
            (Subscribe, "a/b/+", no),
            (Subscribe, "+/+/+", no),
            (Subscribe, "#", no),
            (Subscribe, "a/b/c", Some(true)),
            (Subscribe, "a/+", Some(true)),
            (Subscribe, "a/b/c/#", Some(true)),
            (Read, "a/b/secret", no),
            (Read, "a/b/c", Some(true)),
        ],
    );
    // What is denied behind a rule that allows the whole filter is allowed already.
    check(&[allow(Action::All, "a/#"), deny(Action::All, "a/b")], &[(Subscribe, "a/+", Some(true))]);
    check(&[deny(Action::Publish, "a/b"), allow(Action::All, "a/#")], &[(Subscribe, "a/#", Some(true))]);
}

#[test]
fn topics_of_the_broker_are_no_matter_of_wildcards() {
    check(
        &[allow(Action::All, "#"), allow(Action::All, "$SYS/+/x")],
        &[
            (Read, "$SYS/a", None),
            (Subscribe, "$SYS/#", None),
            (Subscribe, "#", Some(true)),
            (Read, "$SYS/a/x", Some(true)),
            (Subscribe, "$SYS/+/x", Some(true)),
        ],
    );
    check(
        &[deny(Action::All, "$SYS/#"), allow(Action::All, "#")],
        &[(Subscribe, "#", Some(true)), (Subscribe, "+/x", Some(true)), (Subscribe, "$SYS/x", Some(false))],
    );
}

#[test]
fn a_shared_subscription_goes_by_its_filter() {
    check(
        &[allow(Action::Subscribe, "a/+")],
        &[
            (Subscribe, "$share/g/a/x", Some(true)),
            (Subscribe, "$share/g/a/#", None),
            (Subscribe, "$share/g", Some(false)),
            (Subscribe, "$share/g/", Some(false)),
            (Subscribe, "$share/g/$share/h/a/x", Some(false)),
        ],
    );
}

#[test]
fn what_is_no_topic_is_refused() {
    check(
        &[allow(Action::All, "#"), allow(Action::All, "+")],
        &[
            (Write, "", Some(false)),
            (Write, "a/+", Some(false)),
            (Read, "#", Some(false)),
            (Subscribe, "", Some(false)),
            (Subscribe, "a+", Some(false)),
            (Subscribe, "#/a", Some(false)),
        ],
    );
}

#[test]
fn eq_with_wildcards_is_about_that_very_subscription() {
    check(
        &[deny(Action::Subscribe, "eq #"), deny(Action::Subscribe, "eq +/#"), allow(Action::All, "#")],
        &[
            (Subscribe, "#", Some(false)),
            (Subscribe, "$share/g/#", Some(false)),
            (Subscribe, "+/#", Some(false)),
            (Subscribe, "a/#", Some(true)),
            (Read, "a", Some(true)),
            (Write, "a", Some(true)),
        ],
    );
    check(
        &[allow(Action::All, "eq a/+")],
        &[
            (Subscribe, "a/+", Some(true)),
            (Subscribe, "a/b", None),
            (Subscribe, "a/#", None),
            // What the subscription brings.
            (Read, "a/b", Some(true)),
            (Read, "a/b/c", None),
            (Write, "a/b", None),
        ],
    );
}

#[test]
fn conditions_about_qos_and_retain_hold_where_they_have_a_meaning() {
    let small = |qos: &[u8]| QosSet::of(qos.iter().copied()).unwrap();
    let rules = [
        RawRule { qos: small(&[0, 1]), retain: Some(false), ..allow(Action::All, "a") },
        RawRule { qos: small(&[2]), ..deny(Action::All, "b") },
        allow(Action::All, "b"),
    ];
    let grants = grants(&rules);
    let decide = |access, topic, qos, retain| grants.decide(&Wanted { access, topic, qos, retain });
    for (access, topic, qos, retain, expected) in [
        (Write, "a", Some(1), Some(false), Some(true)),
        (Write, "a", Some(2), Some(false), None),
        (Write, "a", Some(1), Some(true), None),
        (Write, "a", Some(1), None, None),
        (Write, "a", None, Some(false), None),
        (Subscribe, "a", Some(1), Some(true), Some(true)),
        (Subscribe, "a", Some(2), None, None),
        (Subscribe, "a", None, None, None),
        (Subscribe, "a", Some(3), None, None),
        (Read, "a", Some(2), Some(true), Some(true)),
        (Write, "b", Some(2), None, Some(false)),
        (Write, "b", None, None, Some(false)),
        (Write, "b", Some(1), None, Some(true)),
        (Subscribe, "b", Some(2), None, Some(false)),
        (Subscribe, "b", None, None, Some(false)),
        (Read, "b", Some(2), None, Some(true)),
    ] {
        assert_eq!(decide(access, topic, qos, retain), expected, "{access} {topic} {qos:?} {retain:?}");
    }
}

#[test]
fn reading_takes_some_qos_that_could_be_subscribed_to() {
    let no_two = RawRule { qos: QosSet::of([2]).unwrap(), ..deny(Action::Subscribe, "a") };
    check(std::slice::from_ref(&no_two), &[(Read, "a", None)]);
    check(&[no_two.clone(), allow(Action::Subscribe, "a")], &[(Read, "a", Some(true))]);
    check(&[no_two, deny(Action::Subscribe, "a")], &[(Read, "a", Some(false))]);
}

#[test]
fn a_name_that_does_not_fit_opens_nothing_and_closes_what_is_left() {
    for client_id in ["+", "#", "a/b", ""] {
        let compiled = |rules: &[RawRule<'_>]| Grants::compile(rules, &names(client_id)).unwrap();
        let allowing =
            compiled(&[allow(Action::All, "dev/${clientid}/#"), allow(Action::All, "${clientid}")]);
        let denying = compiled(&[deny(Action::All, "dev/${clientid}/x"), allow(Action::All, "#")]);
        let nothing = compiled(&[deny(Action::All, "${clientid}"), allow(Action::All, "#")]);
        for (access, topic, allowed, denied) in [
            (Write, "dev/a/b/x", None, Some(false)),
            (Read, "dev/x", None, Some(false)),
            (Subscribe, "dev/#", None, Some(false)),
            (Subscribe, "#", None, Some(false)),
            (Write, "other", None, Some(true)),
        ] {
            let wanted = wanted(access, topic);
            assert_eq!(allowing.decide(&wanted), allowed, "{access} {topic} of {client_id:?}");
            assert_eq!(denying.decide(&wanted), denied, "{access} {topic} of {client_id:?}");
            assert_eq!(nothing.decide(&wanted), Some(false), "{access} {topic} of {client_id:?}");
        }
        assert_eq!(nothing.decide(&wanted(Read, "$SYS/x")), Some(false));
    }
}

#[test]
fn a_bad_rule_is_named() {
    let fine = allow(Action::All, "a");
    for (bad, what) in [
        (allow(Action::All, "a+"), "no topic filter"),
        (rule(Permission::Deny, Action::All, &[]), "no topic"),
        (rule(Permission::Deny, Action::All, &["a", "${zone}"]), "unknown placeholder"),
    ] {
        let found = Grants::compile(&[fine.clone(), bad], &names("c")).unwrap_err();
        assert_eq!(found.index, 1);
        assert!(found.to_string().starts_with("rule 2: ") && found.what.contains(what), "{found}");
    }
    assert_eq!(QosSet::of([]), None);
    assert_eq!(QosSet::of([1, 3]), None);
}

#[test]
fn sets_are_bounded() {
    let rules = |count| vec![allow(Action::All, "${clientid}/a"); count];
    assert!(Grants::compile(&rules(1_000), &names("c")).is_ok());
    let found = Grants::compile(&rules(1_001), &names("c")).unwrap_err();
    assert_eq!((found.index, found.what.contains("at most 1000")), (1_000, true), "{found}");
    let found = Grants::compile(&rules(1_000), &names(&"c".repeat(60_000))).unwrap_err();
    assert_eq!((found.index, found.what.contains("128 KiB")), (2, true), "{found}");
    // The most nodes that the bytes allow: a level for each.
    let (slashes, letters) = ("/".repeat(199), ('a'..='z').map(String::from).collect::<Vec<_>>());
    let topics: Vec<String> =
        (0..26 * 26).map(|n| format!("{}{}{slashes}", letters[n / 26], letters[n % 26])).collect();
    let deep = |topics| [RawRule { topics, ..allow(Action::All, "a") }];
    let bytes =
        Grants::compile(&deep(topics.iter().take(600).map(|t| &**t).collect()), &names("c")).unwrap().bytes();
    assert!((2_000_000..3_000_000).contains(&bytes), "{bytes}");
}

/// A plain decision by the words of the module's documentation: a scan over the rules, with sets of topics that are
/// counted out.
mod model {
    use super::*;

    /// Every topic of up to four levels out of those that filters have, and of one that none has. The empty text is one of
    /// them, though MQTT has no such topic: `+` and `/#` have it in common, and nothing else.
    pub fn topics() -> Vec<String> {
        let mut topics: Vec<String> = Vec::new();
        let mut last = vec![String::new()];
        for depth in 0..4 {
            let longer = |above: &String| {
                ["", "a", "b", "$x", "z"].map(|level| match depth {
                    0 => level.to_owned(),
                    _ => format!("{above}/{level}"),
                })
            };
            last = last.iter().flat_map(longer).collect();
            topics.extend_from_slice(&last);
        }
        topics
    }

    pub fn covers(topics: &[String], filter: &str, other: &str) -> bool {
        topics.iter().all(|topic| !reaches(other, topic) || reaches(filter, topic))
    }

    pub fn overlaps(topics: &[String], filter: &str, other: &str) -> bool {
        topics.iter().any(|topic| reaches(other, topic) && reaches(filter, topic))
    }

    fn reaches(filter: &str, topic: &str) -> bool {
        matches(filter, topic) || topic.is_empty() && ["+", "#", "+/#", "/#"].contains(&filter)
    }

    pub fn decide(topics: &[String], rules: &[RawRule<'_>], wanted: &Wanted<'_>) -> Option<bool> {
        let qos = wanted.qos.map_or(vec![0, 1, 2], |qos| vec![qos]);
        match wanted.access {
            Write => {
                let retain = wanted.retain.map_or(vec![false, true], |retain| vec![retain]);
                let cases: Vec<_> =
                    qos.iter().flat_map(|qos| retain.iter().map(|retain| (*qos, *retain))).collect();
                first(rules, |rule, topic| {
                    let holds = |(qos, retain): &(u8, bool)| {
                        rule.action != Action::Subscribe
                            && rule.qos.0 & (1 << qos) != 0
                            && rule.retain.is_none_or(|only| only == *retain)
                    };
                    let is_topic = match topic.strip_prefix("eq ") {
                        Some(literal) => literal == wanted.topic,
                        None => matches(topic, wanted.topic),
                    };
                    is_topic && all_or_any(rule, &cases, holds)
                })
            }
            Subscribe => first(rules, |rule, topic| {
                let holds = |qos: &u8| rule.action != Action::Publish && rule.qos.0 & (1 << qos) != 0;
                let is_about = match (topic.strip_prefix("eq "), rule.permission) {
                    (Some(literal), _) if literal.contains(['+', '#']) => literal == wanted.topic,
                    (literal, Permission::Allow) => covers(topics, literal.unwrap_or(topic), wanted.topic),
                    (literal, Permission::Deny) => overlaps(topics, literal.unwrap_or(topic), wanted.topic),
                };
                is_about && all_or_any(rule, &qos, holds)
            }),
            Read => {
                let by_qos = [0, 1, 2].map(|qos| {
                    first(rules, |rule, topic| {
                        let is_topic = match (topic.strip_prefix("eq "), rule.permission) {
                            (Some(literal), Permission::Deny) => literal == wanted.topic,
                            (literal, _) => matches(literal.unwrap_or(topic), wanted.topic),
                        };
                        is_topic && rule.action != Action::Publish && rule.qos.0 & (1 << qos) != 0
                    })
                });
                if by_qos.contains(&Some(true)) {
                    return Some(true);
                }
                (!by_qos.contains(&None)).then_some(false)
            }
        }
    }

    fn all_or_any<T>(rule: &RawRule<'_>, cases: &[T], holds: impl Fn(&T) -> bool) -> bool {
        if rule.permission == Permission::Allow { cases.iter().all(holds) } else { cases.iter().any(holds) }
    }

    fn first(rules: &[RawRule<'_>], decides: impl Fn(&RawRule<'_>, &str) -> bool) -> Option<bool> {
        let found = rules.iter().find(|rule| rule.topics.iter().any(|topic| decides(rule, topic)));
        found.map(|rule| rule.permission == Permission::Allow)
    }
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![6 => select(vec!["a", "b"]), 1 => select(vec!["", "$x"]), 3 => Just("+")];
    (prop::collection::vec(level, 0..4), any::<bool>())
        .prop_map(|(mut levels, rest)| {
            if rest && levels.len() < 4 {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("a filter", |filter| is_valid_filter(filter))
}

/// Rules, without the texts of their topics.
type Drawn = (Permission, Action, Vec<(bool, String)>, QosSet, Option<bool>);

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let conditions = prop_oneof![3 => Just(QosSet::ALL), 1 => (1..8u8).prop_map(QosSet)];
    let rule = (
        select(vec![Permission::Allow, Permission::Deny]),
        select(vec![Action::Publish, Action::Subscribe, Action::All]),
        prop::collection::vec((prop::bool::weighted(0.1), filter()), 1..3),
        conditions,
        prop::option::weighted(0.2, any::<bool>()),
    );
    prop::collection::vec(rule, 0..8)
}

fn texts(drawn: &[Drawn]) -> Vec<Vec<String>> {
    let text =
        |(is_eq, filter): &(bool, String)| if *is_eq { format!("eq {filter}") } else { filter.clone() };
    drawn.iter().map(|(_, _, topics, _, _)| topics.iter().map(text).collect()).collect()
}

fn raw<'a>(drawn: &[Drawn], texts: &'a [Vec<String>]) -> Vec<RawRule<'a>> {
    let rules = drawn.iter().zip(texts).map(|((permission, action, _, qos, retain), topics)| RawRule {
        permission: *permission,
        action: *action,
        topics: topics.iter().map(|topic| &**topic).collect(),
        qos: *qos,
        retain: *retain,
    });
    rules.collect()
}

#[test]
fn covering_and_overlapping_are_those_of_the_topics() {
    let topics = model::topics();
    let levels = ["a", "$x", "+", "#", ""];
    let longer = |above: &String| levels.map(|level| format!("{above}/{level}"));
    let one: Vec<String> = levels.map(str::to_owned).to_vec();
    let two: Vec<String> = one.iter().flat_map(longer).collect();
    let three: Vec<String> = two.iter().flat_map(longer).collect();
    let filters: Vec<&String> =
        [&one, &two, &three].into_iter().flatten().filter(|filter| is_valid_filter(filter)).collect();
    assert!(filters.len() > 80, "{}", filters.len());
    for ours in &filters {
        let by = |permission| {
            let rule = RawRule { topics: vec![ours], ..rule(permission, Action::All, &[]) };
            Grants::compile(&[rule], &names("c")).unwrap()
        };
        let (allowing, denying) = (by(Permission::Allow), by(Permission::Deny));
        for theirs in &filters {
            let wanted = wanted(Subscribe, theirs);
            let covers = model::covers(&topics, ours, theirs);
            assert_eq!(allowing.decide(&wanted), covers.then_some(true), "{ours:?} covers {theirs:?}");
            let overlaps = model::overlaps(&topics, ours, theirs);
            assert_eq!(denying.decide(&wanted), overlaps.then_some(false), "{ours:?} overlaps {theirs:?}");
        }
    }
}

proptest! {
    #[test]
    fn decisions_are_those_of_the_model(
        drawn in drawn(),
        filters in prop::collection::vec(filter(), 1..6),
        qos in prop::option::of(0..3u8),
        retain in prop::option::of(any::<bool>()),
    ) {
        let topics = model::topics();
        let texts = texts(&drawn);
        let rules = raw(&drawn, &texts);
        let grants = grants(&rules);
        for filter in &filters {
            let topic = filter.replace(['+', '#'], "a");
            for (access, topic) in [(Subscribe, filter), (Read, &topic), (Write, &topic)] {
                let wanted = Wanted { access, topic, qos, retain };
                prop_assert_eq!(grants.decide(&wanted), model::decide(&topics, &rules, &wanted), "{:?}", wanted);
            }
        }
    }

    /// What makes READ and SUBSCRIBE one promise.
    #[test]
    fn whoever_may_subscribe_may_read_and_nothing_undecided_reaches_what_is_denied(
        drawn in drawn(),
        filter in filter(),
        qos in prop::option::of(0..3u8),
    ) {
        let texts = texts(&drawn);
        let grants = grants(&raw(&drawn, &texts));
        let may_subscribe = grants.decide(&Wanted { access: Subscribe, topic: &filter, qos, retain: None });
        for topic in model::topics().iter().filter(|topic| matches(&filter, topic)) {
            let may_read = grants.decide(&Wanted { access: Read, topic, qos, retain: None });
            match may_subscribe {
                Some(true) => prop_assert_eq!(may_read, Some(true), "{}", topic),
                Some(false) => {}
                None => prop_assert_ne!(may_read, Some(false), "{}", topic),
            }
        }
    }

    #[test]
    fn any_text_is_taken(
        topics in prop::collection::vec("(eq )?(\\$\\{(username|clientid|client_attrs\\.a)\\}|[a+#/$x]){0,6}|.{0,20}", 1..4),
        username in "[a+#/$]{0,3}|.{0,5}",
        client_id in ".{0,5}",
        asked in "[a+#/$]{0,6}|.{0,20}",
    ) {
        let rule = RawRule { topics: topics.iter().map(|topic| &**topic).collect(), ..allow(Action::All, "a") };
        let deny = RawRule { permission: Permission::Deny, ..rule.clone() };
        let names = Names { username: &username, client_id: &client_id, attrs: &[] };
        for rules in [vec![rule.clone()], vec![deny, rule]] {
            if let Ok(grants) = Grants::compile(&rules, &names) {
                for access in [Read, Write, Subscribe] {
                    grants.decide(&wanted(access, &asked));
                }
            }
        }
    }

    /// No name opens more than a level: whatever is allowed lies where the rule says.
    #[test]
    fn no_name_widens_a_rule(username in "[a+#/$]{0,4}", topic in "[ab/$]{1,8}") {
        let names = Names { username: &username, client_id: "c", attrs: &[] };
        let grants = Grants::compile(&[allow(Action::All, "a/${username}/b")], &names).unwrap();
        if grants.decide(&wanted(Write, &topic)) == Some(true) {
            let levels: Vec<&str> = topic.split('/').collect();
            prop_assert_eq!(levels, ["a", &*username, "b"]);
        }
    }
}
