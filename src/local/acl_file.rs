//! Topic rules of local users, in the format and with the meaning of Mosquitto's `acl_file`.
//!
//! The meaning is that of the brokers 2.0.11 to 2.1.2 (`mosquitto_acl_check_default` in 2.0's `security_default.c`,
//! `acl_file__check` in 2.1's `acl_check.c`): the rules of the user's own section decide first; if none of them
//! applies, the `pattern` lines decide; a topic that no rule grants is denied. Within a section and among the patterns,
//! `deny` rules outweigh all others ([`Rules`]).
//!
//! Where 2.0 and 2.1 differ, [`Placeholders`] tells which of them is followed, so that a file means the same to the
//! plugin as to the broker that it runs in. One difference always follows 2.1: a pattern that starts with `%c` or `%u`
//! does not cover topics that start with `$`. In 2.0 such a pattern lets a client that calls itself `$CONTROL` send
//! commands to the broker.
use std::collections::HashMap;

use super::error::{LocalError, Mismatch};
use super::text;
use crate::log::quoted;
use crate::question::Access;
use crate::topic::{self, Grant, Names, Placeholders, Rule, Rules, Template};

/// The rules of an ACL file.
#[derive(Debug, PartialEq)]
pub struct AclFile {
    users: HashMap<String, Rules<String>>,
    patterns: Rules<Template>,
}

impl AclFile {
    /// Reads an ACL file. `source_name` is its name in errors, usually its path.
    ///
    /// A line is `user NAME`, `topic [read|write|readwrite|deny] TOPIC` or `pattern [..] TOPIC`; without an access
    /// word, `readwrite` is meant. `topic` lines belong to the user named last; those before the first user are for
    /// anonymous clients, so they are parsed but concern no local user. Only spaces separate words, and names and
    /// topics may contain spaces. Comments have a line of their own and start with `#` in the first column.
    ///
    /// # Errors
    /// The first line that is wrong. That is every line that the brokers refuse and, beyond these, an access word
    /// without a topic, a topic with control characters (which no client can use), and a byte order mark or NUL
    /// character.
    pub fn parse(text: &str, source_name: &str, placeholders: Placeholders) -> Result<Self, LocalError> {
        let mut file = Self { users: HashMap::new(), patterns: Rules::default() };
        let mut user = None;
        for (location, line) in text::meaningful_lines(text, source_name)? {
            match Line::parse(line).map_err(|mismatch| mismatch.at(&location))? {
                Line::User(name) => user = Some(name),
                Line::Pattern(rule, filter) => file.patterns.add(rule, Template::parse(filter, placeholders)),
                Line::Topic(rule, filter) => {
                    if let Some(name) = user {
                        file.users.entry(name.to_owned()).or_default().add(rule, filter.to_owned());
                    }
                }
            }
        }
        Ok(file)
    }

    /// Whether a named user may read from or write to a topic.
    ///
    /// Every SUBSCRIBE is allowed, as in the brokers: rules are about topics and not about filters, so the READ check
    /// of each message decides. This includes `$share/group/filter`, whose messages are READ-checked under their own
    /// topic.
    ///
    /// Patterns grant nothing to a username or client id that is empty or holds a wildcard, which would turn a pattern
    /// into a rule for the topics of others.
    pub fn allows(&self, access: Access, username: &str, client_id: &str, topic: &str) -> bool {
        if access == Access::Subscribe {
            return true;
        }
        let own_rules = self.users.get(username);
        if let Some(decided) =
            own_rules.and_then(|rules| rules.decide(access, |filter| topic::matches(filter, topic)))
        {
            return decided;
        }
        let names = Names { client_id, username, attrs: &[] };
        !self.patterns.is_empty()
            && names.fit_into_filters()
            && self.patterns.decide(access, |pattern| pattern.matches(names, topic)).unwrap_or(false)
    }
}

/// A line of the file, parsed.
enum Line<'t> {
    User(&'t str),
    Topic(Rule, &'t str),
    Pattern(Rule, &'t str),
}

const KEYWORDS: [&str; 3] = ["user", "topic", "pattern"];

const EXPECTED_LINE: &str = "a line that starts with user, topic, pattern or, in the first column, #";

const ACCESS_WORDS: [(&str, Rule); 4] = [
    ("read", Rule::Grant(Grant::Read)),
    ("write", Rule::Grant(Grant::Write)),
    ("readwrite", Rule::Grant(Grant::ReadWrite)),
    ("deny", Rule::Deny),
];

impl<'t> Line<'t> {
    fn parse(line: &'t str) -> Result<Self, Mismatch> {
        let (keyword, rest) = split_word(line);
        match keyword {
            "user" if rest.is_empty() => Err(Mismatch::new("user without a name", "user NAME")),
            "user" => Ok(Line::User(text::trim(rest))),
            "topic" => parse_rule(keyword, rest).map(|(rule, filter)| Line::Topic(rule, filter)),
            "pattern" => parse_rule(keyword, rest).map(|(rule, filter)| Line::Pattern(rule, filter)),
            // Not quoted: this may be a line of a password file.
            unknown if unknown.contains(':') => {
                Err(Mismatch::new("a colon (is this a password file?)", EXPECTED_LINE))
            }
            unknown if unknown.starts_with('\t') => {
                Err(Mismatch::new("a line that starts with a tab", EXPECTED_LINE))
            }
            unknown => Err(unknown_word(unknown, &KEYWORDS, EXPECTED_LINE)),
        }
    }
}

/// Parses the `[read|write|readwrite|deny] TOPIC` that follows a keyword.
fn parse_rule<'t>(keyword: &str, text: &'t str) -> Result<(Rule, &'t str), Mismatch> {
    let (word, rest) = split_word(text);
    let known = ACCESS_WORDS.iter().find(|(name, _)| *name == word);
    let (rule, filter) = match known {
        Some(&(_, rule)) if !rest.is_empty() => (rule, text::trim(rest)),
        // The brokers take this for a topic called `read`, which is hardly what the author means.
        Some(_) => {
            return Err(Mismatch::new(
                format!("{keyword} {word} without a topic"),
                format!("{keyword} {word} TOPIC (and for a topic of this name, {keyword} readwrite {word})"),
            ));
        }
        None if word.is_empty() => {
            let expected = format!("{keyword} [read|write|readwrite|deny] TOPIC");
            return Err(Mismatch::new(format!("{keyword} without a topic"), expected));
        }
        None if rest.is_empty() => (Rule::Grant(Grant::ReadWrite), word),
        None => {
            let expected = "read, write, readwrite or deny (a topic with spaces needs one of them in front)";
            return Err(unknown_word(word, &ACCESS_WORDS.map(|(name, _)| name), expected));
        }
    };
    if filter.contains(char::is_control) {
        let expected = "a topic without (no client can use such a topic; words are separated by spaces)";
        return Err(Mismatch::new(format!("a control character in {}", quoted(filter)), expected));
    }
    if !topic::is_valid_filter(filter) {
        let expected =
            "+ and # to be whole levels, # the last one, and at most 65535 bytes and 200 separators";
        return Err(Mismatch::new(format!("the bad topic {}", quoted(filter)), expected));
    }
    Ok((rule, filter))
}

/// The first word of a text, and the rest. Only spaces separate words, as in the broker.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

fn unknown_word(word: &str, known: &[&str], expected: &str) -> Mismatch {
    /// The most typing mistakes in a misspelt word. With more, words this short are different words.
    const MAX_DISTANCE: usize = 2;
    let nearest = known
        .iter()
        // Long words are left out first, since comparing one takes memory in proportion.
        .filter(|candidate| word.len() <= candidate.len() + MAX_DISTANCE)
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= MAX_DISTANCE)
        .min();
    let expected = match nearest {
        Some((_, nearest)) => format!("{expected} (did you mean {nearest}?)"),
        None => expected.to_owned(),
    };
    Mismatch::new(quoted(word).to_string(), expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{Read, Subscribe, Write};
    use proptest::prelude::*;

    fn parse(text: &str) -> AclFile {
        AclFile::parse(text, "acl", Placeholders::WholeLevels).unwrap()
    }

    fn error(text: &str) -> String {
        AclFile::parse(text, "/etc/mosquitto/acl", Placeholders::WholeLevels).unwrap_err().to_string()
    }

    #[test]
    fn access_words_give_what_they_say() {
        let acl =
            parse("user u\ntopic read r\ntopic write w\ntopic readwrite rw\ntopic both\ntopic deny d\n");
        for (topic, read, write) in [
            ("r", true, false),
            ("w", false, true),
            ("rw", true, true),
            ("both", true, true),
            ("d", false, false),
            ("other", false, false),
        ] {
            assert_eq!(acl.allows(Read, "u", "c", topic), read, "read {topic}");
            assert_eq!(acl.allows(Write, "u", "c", topic), write, "write {topic}");
        }
    }

    #[test]
    fn every_subscribe_is_allowed() {
        let acl = parse("user u\ntopic deny #\n");
        for filter in ["#", "a", "$SYS/#", "$share/group/a", "+/b"] {
            assert!(acl.allows(Subscribe, "u", "c", filter));
            assert!(acl.allows(Subscribe, "stranger", "c", filter));
        }
    }

    #[test]
    fn rules_are_of_the_user_named_last() {
        let acl =
            parse("topic anonymous\nuser a\ntopic of-a\nuser b c\ntopic of-b\nuser a\ntopic also-of-a\n");
        for (user, topic, expected) in [
            ("a", "of-a", true),
            ("a", "also-of-a", true),
            ("a", "of-b", false),
            ("b c", "of-b", true),
            ("b", "of-b", false),
            ("A", "of-a", false),
            ("a", "anonymous", false),
            ("", "anonymous", false),
            ("stranger", "anonymous", false),
        ] {
            assert_eq!(acl.allows(Read, user, "c", topic), expected, "{user} {topic}");
        }
    }

    #[test]
    fn deny_rules_come_first_wherever_they_stand() {
        let acl = parse("user u\ntopic a/#\ntopic deny a/secret\npattern p/%u/#\npattern deny p/+/secret\n");
        for (topic, expected) in
            [("a/b", true), ("a/secret", false), ("a/secret/b", true), ("p/u/x", true), ("p/u/secret", false)]
        {
            assert_eq!(acl.allows(Read, "u", "c", topic), expected, "{topic}");
        }
    }

    #[test]
    fn the_users_own_rules_come_before_patterns() {
        let acl = parse("pattern deny a/#\npattern b/#\nuser u\ntopic a/mine\ntopic deny b/mine\n");
        for (user, topic, expected) in [
            ("u", "a/mine", true),
            ("u", "a/other", false),
            ("u", "b/mine", false),
            ("u", "b/other", true),
            ("v", "a/mine", false),
            ("v", "b/mine", true),
        ] {
            assert_eq!(acl.allows(Read, user, "c", topic), expected, "{user} {topic}");
        }
    }

    #[test]
    fn dollar_topics_need_dollar_rules() {
        let acl = parse("user u\ntopic #\nuser s\ntopic read $SYS/#\n");
        assert!(!acl.allows(Read, "u", "c", "$SYS/broker/uptime"));
        assert!(acl.allows(Read, "s", "c", "$SYS/broker/uptime"));
        assert!(!acl.allows(Read, "s", "c", "SYS"));
        for placeholders in [Placeholders::Anywhere, Placeholders::WholeLevels] {
            let acl = AclFile::parse("pattern %c/#\npattern #\npattern $x/%u", "acl", placeholders).unwrap();
            assert!(!acl.allows(Write, "u", "$CONTROL", "$CONTROL/dynamic-security/v1"));
            assert!(!acl.allows(Write, "u", "c", "$SYS/x"));
            assert!(acl.allows(Write, "u", "c", "$x/u"));
        }
    }

    /// The file is read with the given kind of placeholders. What each kind means is tested with the template.
    #[test]
    fn placeholders_are_those_that_the_file_is_read_with() {
        for (placeholders, expected) in [(Placeholders::Anywhere, true), (Placeholders::WholeLevels, false)] {
            let acl = AclFile::parse("pattern dev-%u/%c", "acl", placeholders).unwrap();
            assert_eq!(acl.allows(Read, "u", "c", "dev-u/c"), expected, "{placeholders:?}");
        }
    }

    #[test]
    fn names_with_wildcards_get_nothing_from_patterns() {
        let acl = parse("user +\ntopic mine\nuser #\ntopic mine\npattern %u/x\npattern all\n");
        for (username, client_id, topic, expected) in [
            ("+", "c", "mine", true),
            ("#", "c", "mine", true),
            ("+", "c", "victim/x", false),
            ("+", "c", "all", false),
            ("u", "a+b", "all", false),
            ("u", "#", "all", false),
            ("u", "", "all", false),
            ("u", "c", "all", true),
        ] {
            assert_eq!(
                acl.allows(Read, username, client_id, topic),
                expected,
                "{username} {client_id} {topic}"
            );
        }
        let without_patterns = parse("user u\ntopic mine\n");
        assert!(without_patterns.allows(Read, "u", "a+b", "mine"));
    }

    #[test]
    fn lines_are_split_as_the_broker_does() {
        let acl = parse(
            "# comment\r\n\n   \n#topic x\n  user   a name  \r\ntopic   read   two words \t\n\
             topic write read\n",
        );
        for (access, topic) in [(Read, "two words"), (Write, "read")] {
            assert!(acl.allows(access, "a name", "c", topic), "{topic}");
        }
    }

    #[test]
    fn an_empty_file_allows_nothing() {
        let acl = parse("");
        assert!(!acl.allows(Read, "u", "c", "a"));
        assert!(!acl.allows(Write, "u", "c", "a"));
    }

    #[test]
    fn bad_lines_are_explained() {
        for (line, found) in [
            (
                "topik a",
                "found \"topik\", expected a line that starts with user, topic, pattern or, in the \
              first column, # (did you mean topic?)",
            ),
            (
                "users a",
                "found \"users\", expected a line that starts with user, topic, pattern or, in the \
              first column, # (did you mean user?)",
            ),
            (" # a", "found \"#\", expected a line that starts with"),
            (
                "Topic a",
                "found \"Topic\", expected a line that starts with user, topic, pattern or, in the \
              first column, # (did you mean topic?)",
            ),
            ("topic\ta", "found \"topic\\ta\", expected a line"),
            ("\ttopic a", "found a line that starts with a tab, expected"),
            ("alice:$6$hash", "found a colon (is this a password file?), expected a line"),
            ("user", "found user without a name, expected user NAME"),
            ("user  ", "found user without a name, expected user NAME"),
            ("topic", "found topic without a topic, expected topic [read|write|readwrite|deny] TOPIC"),
            ("pattern", "found pattern without a topic, expected pattern [read|write|readwrite|deny] TOPIC"),
            (
                "topic read",
                "found topic read without a topic, expected topic read TOPIC (and for a topic of this \
              name, topic readwrite read)",
            ),
            (
                "topic wirte a",
                "found \"wirte\", expected read, write, readwrite or deny (a topic with spaces needs \
              one of them in front) (did you mean write?)",
            ),
            ("topic a b", "found \"a\", expected read, write, readwrite or deny"),
            ("topic read a/#/b", "found the bad topic \"a/#/b\", expected + and # to be whole levels"),
            ("pattern %u+", "found the bad topic \"%u+\""),
            ("topic read a # comment", "found the bad topic \"a # comment\""),
            ("topic read\ta", "found a control character in \"read\\ta\""),
        ] {
            let error = error(&format!("# first\nuser u\n{line}\n"));
            let start = format!("/etc/mosquitto/acl, line 3: {found}");
            assert!(error.starts_with(&start), "{line:?} gives {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "(user|topic|pattern|read|deny| |\n|\t|%u|%c|/|\\+|#|.){0,30}") {
            for placeholders in [Placeholders::Anywhere, Placeholders::WholeLevels] {
                if let Ok(acl) = AclFile::parse(&text, "acl", placeholders) {
                    acl.allows(Read, &text, "c", "a/b");
                }
            }
        }
    }
}
