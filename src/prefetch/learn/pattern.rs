//! What is learnt from a topic: the same topic with places in it for the names of other clients.

use std::ops::Range;

use crate::question::Access;

/// Stands for the client id in a pattern. No topic holds a NUL (MQTT 5.0, section 1.5.4).
const CLIENT_ID: &str = "\0c";

/// Stands for the username.
const USERNAME: &str = "\0u";

/// The longest topic that is learnt, in bytes. Those of devices have some dozens.
const LONGEST: usize = 256;

/// The longest name that is filled in, in bytes.
const LONGEST_NAME: usize = 128;

/// The names of a client that a topic may hold.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Its username; empty where it has none.
    pub username: &'a str,
}

/// How much a topic says about other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// It holds a name that nobody takes for a word: at first sight.
    Much,
    /// It holds one that may be a word of the topic by chance, as `a` or `status`.
    Little,
    /// It holds none: it tells only what several clients ask.
    Nothing,
}

/// Writes the pattern of a topic, with places for those of this client's names that it holds. `None` if nothing can be
/// learnt from it.
pub fn pattern_of(topic: &str, who: Who<'_>, pattern: &mut String) -> Option<Telling> {
    pattern.clear();
    if topic.is_empty() || topic.len() > LONGEST {
        return None;
    }
    // Where both names are the same, the id stands for both: other clients of such a kind have the same twice, too.
    let names = [(who.client_id, CLIENT_ID), (who.username, USERNAME)];
    let mut telling = Telling::Nothing;
    for (number, level) in topic.split('/').enumerate() {
        if number > 0 {
            pattern.push('/');
        }
        let found = names.into_iter().filter(|(name, _)| fits(name)).find_map(|(name, place)| {
            let at = if level == name { 0..level.len() } else { part(level, name)? };
            Some((name, place, at))
        });
        let Some((name, place, at)) = found else {
            pattern.push_str(level);
            continue;
        };
        pattern.extend([&level[..at.start], place, &level[at.end..]]);
        telling = match telling {
            Telling::Much => Telling::Much,
            _ if is_no_word(name) => Telling::Much,
            _ => Telling::Little,
        };
    }
    Some(telling)
}

/// Writes the topic of a pattern for another client. `false` if it has no such name, or one that would not be plain text
/// there.
pub fn fill_in(pattern: &str, who: Who<'_>, topic: &mut String) -> bool {
    topic.clear();
    let mut parts = pattern.split('\0');
    topic.extend(parts.next());
    for part in parts {
        let name = if part.starts_with('c') { who.client_id } else { who.username };
        if !fits(name) {
            return false;
        }
        topic.extend([name, &part[1..]]);
    }
    true
}

/// Whether a text that somebody else has written is a pattern.
pub fn is_one(text: &str) -> bool {
    let is_place = |part: &str| part.starts_with(['c', 'u']);
    !text.is_empty() && text.len() <= LONGEST && text.split('\0').skip(1).all(is_place)
}

/// A pattern as a value of `acl_prefetch`. `None` if its plain text holds a placeholder.
pub fn line(access: Access, pattern: &str) -> Option<String> {
    let is_plain = !(pattern.contains("%c") || pattern.contains("%u"));
    is_plain.then(|| format!("{access} {}", pattern.replace('\0', "%")))
}

/// Whether a name is one level, or a part of one, and no wildcard: with any other, the topics of somebody else could be
/// asked about.
fn fits(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(['/', '+', '#', '\0'])
}

/// Where a name stands in a level between other characters than letters and digits. Only names that are no words are
/// looked for.
fn part(level: &str, name: &str) -> Option<Range<usize>> {
    if level.len() <= name.len() || !is_no_word(name) {
        return None;
    }
    level.match_indices(name).map(|(at, _)| at..at + name.len()).find(|at| {
        let is_end = |next: Option<char>| next.is_none_or(|next| !next.is_alphanumeric());
        is_end(level[..at.start].chars().next_back()) && is_end(level[at.end..].chars().next())
    })
}

/// Whether a name stands in a topic because it is this client's, and not by chance: it is long, or no word and not short.
fn is_no_word(name: &str) -> bool {
    const SHORT: usize = 4;
    const LONG: usize = 16;
    name.len() >= LONG || name.len() >= SHORT && name.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic;
    use proptest::prelude::*;

    fn shown(topic: &str, client_id: &str, username: &str) -> Option<(String, Telling)> {
        let mut pattern = String::new();
        let telling = pattern_of(topic, Who { client_id, username }, &mut pattern)?;
        Some((pattern.replace('\0', "%"), telling))
    }

    #[test]
    fn names_become_places() {
        use Telling::{Little, Much, Nothing};
        for (topic, client_id, username, pattern, telling) in [
            ("cmd/dev-17/#", "dev-17", "joe", "cmd/%c/#", Much),
            ("cmd/dev-17/joe/+", "dev-17", "joe", "cmd/%c/%u/+", Much),
            ("users/joe/inbox", "dev-17", "joe", "users/%u/inbox", Little),
            ("site/dev-17_state", "dev-17", "joe", "site/%c_state", Much),
            ("site/xdev-17", "dev-17", "joe", "site/xdev-17", Nothing),
            ("site/dev-171", "dev-17", "joe", "site/dev-171", Nothing),
            ("$share/g/dev-17/x", "dev-17", "joe", "$share/g/%c/x", Much),
            ("a/b", "a", "b", "%c/%u", Little),
            ("abc/b", "a", "u", "abc/b", Nothing),
            ("x/id-0001", "id-0001", "id-0001", "x/%c", Much),
            ("news", "dev-17", "joe", "news", Nothing),
            ("a//b", "", "/", "a//b", Nothing),
            ("a/+/#", "+", "#", "a/+/#", Nothing),
        ] {
            let expected = Some((pattern.to_owned(), telling));
            assert_eq!(shown(topic, client_id, username), expected, "{topic} {client_id}");
        }
        assert_eq!(shown(&"x".repeat(LONGEST + 1), "id-17", "u"), None);
        assert_eq!(shown("", "id-17", "u"), None);
    }

    #[test]
    fn a_pattern_is_filled_in_for_others() {
        let mut topic = String::new();
        let mut filled = |pattern: &str, client_id, username| {
            fill_in(pattern, Who { client_id, username }, &mut topic).then(|| topic.clone())
        };
        assert_eq!(filled("cmd/\0c/\0u_x", "dev-2", "u").as_deref(), Some("cmd/dev-2/u_x"));
        assert_eq!(filled("news", "", "").as_deref(), Some("news"));
        for bad in ["", "a/b", "+", "#", "a\0b"] {
            assert_eq!(filled("cmd/\0c", bad, "u"), None, "{bad:?}");
            assert_eq!(filled("cmd/\0u", "c", bad), None, "{bad:?}");
        }
        // Names that are filled in are not searched for places.
        assert_eq!(filled("\0c", "%u", "u").as_deref(), Some("%u"));
    }

    #[test]
    fn patterns_are_shown_as_options() {
        assert_eq!(line(Access::Subscribe, "cmd/\0c/#").as_deref(), Some("subscribe cmd/%c/#"));
        assert_eq!(line(Access::Write, "a/%u/\0c"), None, "it would be filled in");
    }

    proptest! {
        /// Whatever the names are, the client's own topic comes out again, and another's name is never taken for more
        /// than text within one level.
        #[test]
        fn hostile_names_make_no_other_topics(
            levels in prop::collection::vec("(a|cmd|\\+|#|%c|[a-d0-9]{1,5}|\\$x)", 1..5),
            id in "(a|cmd|\\+|#|/|a/b|%c|[a-d0-9]{0,5})", name in "(a|x|/|[a-d0-9]{0,5})",
            other in "(b|cmd|\\+|#|/|c/#|%u|[a-d0-9]{0,5})",
        ) {
            let levels: Vec<&str> = levels.iter().map(String::as_str).chain([id.as_str()]).collect();
            let text = levels.join("/");
            let (mut pattern, mut topic) = (String::new(), String::new());
            let who = Who { client_id: &id, username: &name };
            if pattern_of(&text, who, &mut pattern).is_some() {
                prop_assert!(fill_in(&pattern, who, &mut topic));
                prop_assert_eq!(&topic, &text);
                if fill_in(&pattern, Who { client_id: &other, username: &other }, &mut topic) {
                    prop_assert_eq!(topic.split('/').count(), text.split('/').count());
                    let wildcards = |text: &str| text.matches(topic::WILDCARDS).count();
                    prop_assert_eq!(wildcards(&topic), wildcards(&text));
                }
            }
        }

        #[test]
        fn any_text_is_taken(text in "[^\\x00]{0,300}", id in ".{0,20}", name in ".{0,20}") {
            let (mut pattern, mut topic) = (String::new(), String::new());
            let who = Who { client_id: &id, username: &name };
            if pattern_of(&text, who, &mut pattern).is_some() {
                prop_assert!(fill_in(&pattern, who, &mut topic));
                prop_assert_eq!(topic, text);
            }
        }
    }
}
