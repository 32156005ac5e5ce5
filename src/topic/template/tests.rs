use proptest::prelude::*;

use super::*;
use crate::topic;

fn names<'a>(username: &'a str, client_id: &'a str) -> Names<'a> {
    Names { client_id, username, attrs: &[] }
}

#[test]
fn placeholders_are_filled_in_as_the_broker_does() {
    // Filter, username, client id, topic, covered in 2.0, covered in 2.1.
    for (filter, username, client_id, topic, anywhere, whole_levels) in [
        ("%u/%c/x", "u", "c", "u/c/x", true, true),
        ("%u/%c/x", "u", "c", "c/u/x", false, false),
        ("%u", "u", "c", "u", true, true),
        ("%u/#", "u", "c", "u", true, true),
        ("+/%c", "u", "c", "a/c", true, true),
        ("a/%u", "u", "c", "a/%u", false, false),
        ("%u", "%c", "c", "%c", true, true),
        ("%u", "%c", "c", "c", false, false),
        ("%x/%", "u", "c", "%x/%", true, true),
        ("%%u", "u", "c", "%u", true, false),
        ("%%u", "u", "c", "%%u", false, true),
        ("dev-%u/x", "u", "c", "dev-u/x", true, false),
        ("dev-%u/x", "u", "c", "dev-%u/x", false, true),
        ("%u%c", "u", "c", "uc", true, false),
        ("%u-%c", "u", "c", "u-c", true, false),
        ("%u/x", "a/b", "c", "a/b/x", true, false),
        ("%c/x", "u", "a/b", "a/b/x", true, false),
        ("%c/x", "a/b", "c", "c/x", true, true),
        ("%c/x", "u", "/", "//x", true, false),
        ("all/#", "a/b", "c/d", "all/x", true, true),
    ] {
        for (placeholders, expected) in
            [(Placeholders::Anywhere, anywhere), (Placeholders::WholeLevels, whole_levels)]
        {
            let matches = Template::parse(filter, placeholders).matches(names(username, client_id), topic);
            assert_eq!(matches, expected, "{filter} {username} {client_id} {topic} {placeholders:?}");
        }
    }
}

#[test]
fn no_name_opens_topics_that_start_with_a_dollar() {
    for placeholders in [Placeholders::Anywhere, Placeholders::WholeLevels] {
        let covers = |filter, topic| Template::parse(filter, placeholders).matches(names("u", "$x"), topic);
        assert!(!covers("%c/#", "$x/y"));
        assert!(!covers("%c", "$x"));
        assert!(covers("$x/%u", "$x/u"));
        assert!(covers("a/%c", "a/$x"));
    }
}

#[test]
fn what_is_filled_in_is_not_searched_for_placeholders_again() {
    let template = Template::parse("a/%c/%u/%x/%", Placeholders::Anywhere);
    assert_eq!(template.fill_in(names("%c", "id")), "a/id/%c/%x/%");
}

#[test]
fn a_name_fits_into_filters_unless_it_is_empty_or_holds_a_wildcard() {
    assert!(names("u", "c").fit_into_filters());
    assert!(names("$u", "a/b").fit_into_filters());
    for (username, client_id) in [("", "c"), ("u", ""), ("+", "c"), ("u", "#"), ("a+b", "c"), ("u", "c/#")] {
        assert!(!names(username, client_id).fit_into_filters(), "{username:?} {client_id:?}");
    }
}

/// Fills in a template of Mosquitto 2.0 character by character.
fn filled_in(template: &str, names: Names<'_>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(next) = rest.chars().next() {
        let (taken, value) = match rest {
            _ if rest.starts_with("%u") => (2, names.username.to_owned()),
            _ if rest.starts_with("%c") => (2, names.client_id.to_owned()),
            _ => (next.len_utf8(), next.to_string()),
        };
        text.push_str(&value);
        rest = &rest[taken..];
    }
    text
}

proptest! {
    #[test]
    fn filling_in_agrees_with_a_model(
        template in "(%|%u|%c|[abuc/ü]){0,8}",
        username in "[abuc%/ü]{0,3}",
        client_id in "[abuc%/ü]{0,3}",
    ) {
        let names = names(&username, &client_id);
        let filled = Template::parse(&template, Placeholders::Anywhere).fill_in(names);
        prop_assert_eq!(filled, filled_in(&template, names));
    }

    /// Matching a template gives the same result as filling it in and matching the text.
    #[test]
    fn templates_match_like_their_text(
        template in "(%u|%c|a|b|/){1,8}",
        username in "[abuc%/]{1,3}",
        client_id in "[abuc%/]{1,3}",
        topic in "[abuc%/]{1,8}",
    ) {
        let names = names(&username, &client_id);
        let matches = Template::parse(&template, Placeholders::Anywhere).matches(names, &topic);
        prop_assert_eq!(matches, topic::matches(&filled_in(&template, names), &topic));
    }

    /// With placeholders as whole levels, each level of the filled-in text is a name or unchanged.
    #[test]
    fn whole_levels_are_filled_in_level_by_level(
        template in "(%u|%c|%|a|/){0,8}",
        username in "[abuc%]{1,3}",
        client_id in "[abuc%]{1,3}",
    ) {
        let names = names(&username, &client_id);
        let levels = template.split('/').map(|level| match level {
            "%u" => names.username,
            "%c" => names.client_id,
            _ => level,
        });
        let filled = Template::parse(&template, Placeholders::WholeLevels).fill_in(names);
        prop_assert_eq!(filled, levels.collect::<Vec<_>>().join("/"));
    }
}
