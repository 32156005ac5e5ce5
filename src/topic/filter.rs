//! Topic names and topic filters, as section 4.7 of MQTT 5.0 (and of 3.1.1) defines them.

/// The longest topic or filter in bytes: the length of an MQTT string has 16 bits (MQTT 5.0, section 1.5.4).
pub(super) const MAX_BYTES: usize = u16::MAX as usize;

/// The most `/` in a topic or filter: Mosquitto's `TOPIC_HIERARCHY_LIMIT`, beyond which it refuses a packet.
pub const MAX_SEPARATORS: usize = 200;

/// The wildcard characters of filters. A topic name holds neither.
pub const WILDCARDS: [char; 2] = ['+', '#'];

/// Whether a name or topic holds a wildcard character.
pub fn has_wildcard(text: &str) -> bool {
    let bytes = text.as_bytes();
    // A word at a time, the last of which may overlap the one before it: each topic check looks at two names.
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().any(|byte| matches!(byte, b'+' | b'#'));
    };
    let (words, _) = bytes.as_chunks();
    words.iter().chain([last]).any(|word| {
        let word = u64::from_ne_bytes(*word);
        holds(word, b'+') | holds(word, b'#')
    })
}

/// Whether one of the bytes of a word is this one: only a byte that differs from it in nothing borrows from the next when
/// one is taken from it.
fn holds(word: u64, byte: u8) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let differences = word ^ (ONES * u64::from(byte));
    differences.wrapping_sub(ONES) & !differences & (ONES << 7) != 0
}

/// Whether a client could subscribe to `filter`: `+` and `#` may only be whole levels, and `#` only the last level.
pub fn is_valid_filter(filter: &str) -> bool {
    let bytes = filter.as_bytes();
    let mut separators = 0;
    let is_allowed = |(at, byte): (usize, &u8)| {
        let begins_level = at == 0 || bytes[at - 1] == b'/';
        match byte {
            b'\0' => false,
            b'/' => {
                separators += 1;
                separators <= MAX_SEPARATORS
            }
            b'+' => begins_level && bytes.get(at + 1).is_none_or(|next| *next == b'/'),
            b'#' => begins_level && at + 1 == bytes.len(),
            _ => true,
        }
    };
    !filter.is_empty() && filter.len() <= MAX_BYTES && bytes.iter().enumerate().all(is_allowed)
}

/// The filter behind `$share/GROUP/`, of which a shared subscription gets the messages (MQTT 5.0, section 4.8.2); `None`
/// for any other subscription.
pub fn behind_group(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(_, behind)| behind)
}

/// Whether a message on `topic` reaches a subscriber of `filter`.
///
/// `filter` has to be valid ([`is_valid_filter`]). A topic that starts with `$` is matched only by a filter that starts
/// with `$`, as in the brokers: `#` does not match `$SYS`. A name that holds a wildcard is not a topic and matches
/// nothing.
pub fn matches(filter: &str, topic: &str) -> bool {
    filter.starts_with('$') == topic.starts_with('$') && matches_bytes(filter.bytes(), topic)
}

/// Like [`matches()`], but without the rule about `$`, and for a filter that comes byte by byte.
pub(super) fn matches_bytes(filter: impl IntoIterator<Item = u8>, topic: &str) -> bool {
    if topic.is_empty() || has_wildcard(topic) {
        return false;
    }
    let mut filter = filter.into_iter();
    let mut topic = topic.as_bytes();
    while let Some(expected) = filter.next() {
        match (expected, topic.split_first()) {
            (b'#', _) => return true,
            (b'+', _) => {
                let level_end = topic.iter().position(|&byte| byte == b'/').unwrap_or(topic.len());
                topic = &topic[level_end..];
            }
            (expected, Some((&found, rest))) if expected == found => topic = rest,
            // `a/#` covers `a` itself.
            (b'/', None) => return filter.next() == Some(b'#'),
            _ => return false,
        }
    }
    topic.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a", "a", true),
            ("a", "A", false),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("ab", "a", false),
            ("a", "ab", false),
            ("/a", "a", false),
            ("a/", "a", false),
            ("a/", "a/", true),
            ("/", "/", true),
            ("+", "a", true),
            ("+", "/a", false),
            ("/+", "/a", true),
            ("+/+", "/a", true),
            ("+/+", "/", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a//c", true),
            ("a/+/c", "a/b/x/c", false),
            ("#", "a", true),
            ("#", "a/b/c", true),
            ("#", "/", true),
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("a//#", "a/", true),
            ("a//#", "a", false),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
            ("a/+/#", "a/", true),
            ("+/#", "a", true),
            ("müll/+", "müll/ü", true),
            ("a b/c", "a b/c", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/#", "$SYS", true),
            ("$SYS/+", "$SYS/x", true),
            ("$SYS/#", "SYS/x", false),
            ("a/$b", "a/$b", true),
            ("a/#", "a/$b", true),
            ("#", "", false),
            ("", "a", false),
            ("#", "a/+", false),
            ("a/#", "a/#", false),
            ("+", "+", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "filter {filter:?}, topic {topic:?}");
        }
    }

    #[test]
    fn a_wildcard_is_found_wherever_it_stands() {
        for text in
            ["+", "#", "a+", "+a", "a#b", "ü/+", "a/#", "1234567+", "+2345678", "12345678#", "1234567#9012"]
        {
            assert!(has_wildcard(text), "{text:?}");
        }
        for text in ["", "a", "a/b", "$", "ü", "*", "12345678", "\"$*,\"$*,\"$*,", "«£«£«£«£«£"] {
            assert!(!has_wildcard(text), "{text:?}");
        }
    }

    #[test]
    fn wildcards_stand_for_whole_levels() {
        for valid in ["a", "/", "+", "#", "a/+", "+/a", "a/#", "+/+/#", "a b", "a//b", "$SYS/#", "ä/+"] {
            assert!(is_valid_filter(valid), "{valid:?}");
        }
        for invalid in ["", "a+", "+a", "a/b+/c", "a#", "#a", "#/", "a/#/b", "##", "++", "+#", "a\0b"] {
            assert!(!is_valid_filter(invalid), "{invalid:?}");
        }
    }

    #[test]
    fn the_group_of_a_shared_subscription_is_no_part_of_its_filter() {
        for (filter, behind) in [
            ("$share/g/a/b", Some("a/b")),
            ("$share/g/#", Some("#")),
            ("$share/g/$share/h/a", Some("$share/h/a")),
            ("$share/g", None),
            ("$share", None),
            ("$shared/g/a", None),
            ("x/$share/g/a", None),
        ] {
            assert_eq!(behind_group(filter), behind, "{filter:?}");
        }
    }

    #[test]
    fn filters_are_bounded_as_the_broker_bounds_them() {
        assert!(is_valid_filter(&"a".repeat(65_535)));
        assert!(!is_valid_filter(&"a".repeat(65_536)));
        assert!(is_valid_filter(&"/".repeat(200)));
        assert!(!is_valid_filter(&"/".repeat(201)));
    }

    /// A plain matcher: the standard's wording, level by level, written without regard for speed.
    fn model(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => model(filter, topic),
            ([expected, filter @ ..], [found, topic @ ..]) => expected == found && model(filter, topic),
            _ => false,
        }
    }

    fn levels() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(vec!["", "a", "b", "aa", "ü", "$x"]), 1..5)
    }

    proptest! {
        #[test]
        fn matching_agrees_with_a_model(
            topic in levels(),
            mut filter in levels(),
            plus in prop::collection::vec(any::<bool>(), 5),
            rest in any::<bool>(),
        ) {
            for (level, plus) in filter.iter_mut().zip(plus) {
                if plus {
                    *level = "+";
                }
            }
            if rest {
                filter.push("#");
            }
            let (filter_text, topic_text) = (filter.join("/"), topic.join("/"));
            prop_assume!(!filter_text.is_empty() && !topic_text.is_empty());
            prop_assert!(is_valid_filter(&filter_text));
            let dollars_agree = filter_text.starts_with('$') == topic_text.starts_with('$');
            prop_assert_eq!(matches(&filter_text, &topic_text), dollars_agree && model(&filter, &topic));
        }

        #[test]
        fn any_text_is_taken(filter in ".{0,40}", topic in ".{0,40}") {
            prop_assert_eq!(has_wildcard(&topic), topic.contains(WILDCARDS));
            is_valid_filter(&filter);
            matches(&filter, &topic);
        }
    }
}
