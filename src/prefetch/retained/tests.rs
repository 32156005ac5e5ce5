use super::*;
use crate::topic;
use proptest::prelude::*;
use std::time::Duration;

const NOBODY: Whose<'_> = Whose { client_id: "reader", username: "u", publishes: false };

fn by(client_id: &str) -> Whose<'_> {
    Whose { client_id, username: "u", publishes: true }
}

fn index(topics: &[&str]) -> Retained {
    let mut retained = Retained::default();
    topics.iter().for_each(|topic| retained.keep(topic, by("c"), Instant::now()));
    retained
}

/// All that a filter matches, found so many at a time, with so many steps at a time.
fn found_in_parts(retained: &Retained, filter: &str, each: usize, steps: usize) -> Vec<String> {
    let (mut found, mut position) = (Vec::new(), Position::Start);
    for _ in 0..10_000 {
        let (mut left, mut steps) = (each, steps);
        retained.search(filter, &mut position, &mut steps, |hit| {
            found.push(hit.topic.to_owned());
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if position == Position::End {
            break;
        }
    }
    assert_eq!(position, Position::End);
    found
}

fn found(retained: &Retained, filter: &str) -> Vec<String> {
    found_in_parts(retained, filter, usize::MAX, usize::MAX)
}

fn assert_nothing_is_left(retained: &Retained) {
    let sets = [retained.names.len(), retained.by_owner.len(), retained.by_use.len(), retained.by_cost.len()];
    assert_eq!((retained.len(), retained.owners.len(), retained.cost, sets), (0, 0, 0, [0; 4]));
}

#[test]
fn filters_find_what_they_match_in_the_order_of_levels() {
    let retained = index(&["a/b/c", "a/b", "a", "a!/b", "b/b/c", "$SYS/b", "$x", "a/", "/b", "a/c/c/d"]);
    for (filter, expected) in [
        ("a", &["a"][..]),
        ("a/b", &["a/b"]),
        ("a/x", &[]),
        ("+", &["a"]),
        ("a/+", &["a/", "a/b"]),
        ("+/b", &["/b", "a/b", "a!/b"]),
        ("+/b/c", &["a/b/c", "b/b/c"]),
        ("+/+/c", &["a/b/c", "b/b/c"]),
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a/c/c/d"]),
        ("a/+/#", &["a/", "a/b", "a/b/c", "a/c/c/d"]),
        ("#", &["/b", "a", "a/", "a/b", "a/b/c", "a/c/c/d", "a!/b", "b/b/c"]),
        ("$SYS/#", &["$SYS/b"]),
        ("$SYS/+", &["$SYS/b"]),
        ("$x", &["$x"]),
    ] {
        assert_eq!(found(&retained, filter), expected, "{filter}");
    }
}

#[test]
fn a_search_leaves_out_what_lies_between() {
    let mut retained = Retained::default();
    for group in 0..20 {
        for n in 0..200 {
            retained.keep(&format!("{group}/data/{n}"), by("c"), Instant::now());
        }
        retained.keep(&format!("{group}/state"), by("c"), Instant::now());
    }
    for (filter, expected) in [("7/state", 1), ("+/state", 20), ("+/data/17", 20), ("8/data/#", 200)] {
        let mut steps = 2 * expected + 30;
        let (mut count, mut position) = (0, Position::Start);
        retained.search(filter, &mut position, &mut steps, |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((count, position), (expected, Position::End), "{filter}, {steps} steps left");
    }
}

#[test]
fn an_ended_topic_leaves_nothing_behind() {
    let mut retained = index(&["a/b", "a", "x"]);
    retained.keep("r", NOBODY, Instant::now());
    retained.end("a");
    assert_eq!(found(&retained, "a/#"), ["a/b"]);
    for topic in ["a", "a/b", "x", "r", "unknown"] {
        retained.end(topic);
    }
    assert_nothing_is_left(&retained);
}

#[test]
fn a_topic_belongs_to_whoever_published_to_it_last() {
    let mut retained = Retained::default();
    let publisher = |retained: &Retained| {
        let mut publisher = None;
        retained.search("t", &mut Position::Start, &mut 10, |hit| {
            publisher = hit.publisher.map(|(client_id, _)| client_id.to_owned());
            ControlFlow::Break(())
        });
        publisher
    };
    let now = Instant::now();
    retained.keep("t", NOBODY, now);
    assert_eq!(publisher(&retained), None);
    retained.keep("t", by("first"), now);
    retained.keep("t", NOBODY, now);
    assert_eq!(publisher(&retained).as_deref(), Some("first"));
    retained.keep("t", by("second"), now);
    assert_eq!(publisher(&retained).as_deref(), Some("second"));
    assert_eq!(retained.owners.len(), 1);
}

#[test]
fn one_client_does_not_get_all_the_room() {
    const ROOM: usize = 1 << 20;
    let mut retained = Retained::bounded(ROOM);
    let now = Instant::now();
    retained.keep("honest", by("honest"), now);
    for n in 0..2 * ROOM / TOPIC {
        retained.keep(&format!("flood/{n}"), by("hostile"), now + Duration::from_secs(n as u64));
    }
    assert!(retained.cost <= ROOM / CLIENT_SHARE + 1000, "{}", retained.cost);
    assert_eq!(found(&retained, "honest"), ["honest"]);
    // Its newest are left.
    assert_eq!(found(&retained, "flood/0"), [""; 0]);
    assert_eq!(found(&retained, &format!("flood/{}", 2 * ROOM / TOPIC - 1)).len(), 1);
}

#[test]
fn where_there_is_no_room_those_with_most_make_some() {
    const ROOM: usize = 1 << 20;
    const HOSTILE: usize = 50;
    let mut retained = Retained::bounded(ROOM);
    let now = Instant::now();
    for n in 0..20 {
        retained.keep(&format!("honest/{n}"), by(&format!("h{n}")), now);
    }
    for n in 0..3 * ROOM / TOPIC {
        let later = now + Duration::from_secs(60 + n as u64);
        retained.keep(&format!("flood/{n}"), by(&format!("hostile{}", n % HOSTILE)), later);
    }
    assert!(retained.cost <= ROOM && retained.cost > ROOM / 2, "{}", retained.cost);
    assert_eq!(found(&retained, "honest/+").len(), 20);
}

#[test]
fn among_equals_the_longest_unused_goes() {
    const ROOM: usize = 1 << 20;
    let mut retained = Retained::bounded(ROOM);
    let start = Instant::now();
    let minute = |n: usize| start + Duration::from_secs(60 * n as u64);
    let count = ROOM / (TOPIC + PUBLISHER);
    for n in 0..2 * count {
        retained.keep(&format!("t/{n}"), by(&format!("c{n}")), minute(n));
        retained.keep("t/0", NOBODY, minute(n));
    }
    assert!(retained.cost <= ROOM);
    assert_eq!(found(&retained, "t/0").len(), 1, "it was used all the time");
    assert_eq!(found(&retained, "t/1").len(), 0);
    assert_eq!(found(&retained, &format!("t/{}", 2 * count - 1)).len(), 1);
}

#[test]
fn names_that_are_too_long_for_a_share_are_not_kept() {
    let mut retained = Retained::bounded(1000);
    retained.keep(&"x".repeat(1000), by("c"), Instant::now());
    assert_nothing_is_left(&retained);
}

#[derive(Debug, Clone)]
enum Change {
    Keep(String, u8, bool),
    End(String),
}

fn topics() -> impl Strategy<Value = String> {
    "(a|b|!|ab||\\$s)(/(a|b|ab||\\$s)){0,3}".prop_filter("no topic", |topic| !topic.is_empty())
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (topics(), 0..3u8, any::<bool>()).prop_map(|(topic, who, publishes)| Change::Keep(topic, who, publishes)),
        1 => topics().prop_map(Change::End),
    ];
    prop::collection::vec(change, 0..60)
}

proptest! {
    #[test]
    fn a_search_finds_what_matching_one_by_one_finds(
        changes in changes(),
        filters in prop::collection::vec("(\\+|a|b|ab||\\$s)(/(\\+|a|b|)){0,3}(/#)?|#", 1..10),
        each in 1..5usize,
        steps in 1..5usize,
    ) {
        let (mut retained, mut model) = (Retained::default(), BTreeSet::new());
        for change in changes {
            match change {
                Change::Keep(topic, who, publishes) => {
                    let client_id = who.to_string();
                    retained.keep(&topic, Whose { client_id: &client_id, username: "u", publishes }, Instant::now());
                    model.insert(topic);
                }
                Change::End(topic) => {
                    retained.end(&topic);
                    model.remove(&topic);
                }
            }
            prop_assert_eq!(retained.len(), model.len());
        }
        for filter in filters.into_iter().filter(|filter| !filter.is_empty()) {
            let expected: Vec<&String> = model.iter().filter(|topic| topic::matches(&filter, topic)).collect();
            for (each, steps) in [(usize::MAX, usize::MAX), (each, usize::MAX), (usize::MAX, steps), (each, steps)] {
                let mut found = found_in_parts(&retained, &filter, each, steps);
                found.sort();
                prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected.clone(), "{}", filter);
            }
        }
        for topic in model {
            retained.end(&topic);
        }
        assert_nothing_is_left(&retained);
    }

    #[test]
    fn the_bound_holds_whatever_comes(
        changes in prop::collection::vec((0..6u8, "[ab/]{1,40}", any::<bool>(), 0..3u64), 0..300),
        bound in 500..10_000usize,
    ) {
        let mut retained = Retained::bounded(bound);
        let mut now = Instant::now();
        for (who, topic, publishes, minutes) in changes {
            now += Duration::from_secs(60 * minutes);
            let client_id = who.to_string();
            retained.keep(&topic, Whose { client_id: &client_id, username: "u", publishes }, now);
            prop_assert!(retained.cost <= bound);
            prop_assert!(retained.owners.values().all(|owner| owner.cost <= bound / CLIENT_SHARE));
            let cost: usize = retained.owners.values().map(|owner| owner.cost).sum();
            prop_assert_eq!(retained.cost, cost);
        }
    }
}
