//! ACL files, compared with a model of the brokers' rules that uses the brokers' own matching. The input has a line
//! each for a username, a client id and a topic; the rest is the file.
#![no_main]

mod support;

use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{Access, AclFile, Placeholders};
use support::matcher::{MATCHERS, Matcher};

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (username, id, topic, file) = (next(), next(), next(), next());
    let names_a_client = [username, id, topic].iter().all(|name| !name.is_empty() && !name.contains('\0'));
    if !names_a_client || topic.contains(['+', '#']) {
        return;
    }
    for broker in MATCHERS.iter() {
        let placeholders =
            if broker.version == "2.1" { Placeholders::WholeLevels } else { Placeholders::Anywhere };
        let acl = match AclFile::parse(file, "acl", placeholders) {
            Ok(acl) => acl,
            Err(error) => {
                let message = error.to_string();
                assert!(
                    message.starts_with("acl, line ") && !message.contains(char::is_control),
                    "{message:?}"
                );
                continue;
            }
        };
        let model = Model::read(file);
        for access in [Access::Read, Access::Write] {
            let ours = acl.allows(access, username, id, topic);
            let theirs = model.allows(broker, access, username, id, topic);
            assert_eq!(ours, theirs, "{access} as in Mosquitto {}: {text:?}", broker.version);
        }
        assert!(acl.allows(Access::Subscribe, username, id, topic));
    }
});

/// A plain parser of files that are known to be valid: rules in the order of the file.
struct Model<'t> {
    rules: Vec<(Whose<'t>, &'t str, &'t str)>,
}

#[derive(PartialEq)]
enum Whose<'t> {
    User(&'t str),
    Pattern,
}

impl<'t> Model<'t> {
    fn read(file: &'t str) -> Self {
        let mut rules = Vec::new();
        let mut user = None;
        for line in file.split('\n') {
            let blank = |c: char| matches!(c, ' ' | '\t' | '\x0b' | '\x0c' | '\r');
            if line.starts_with('#') || line.trim_matches(blank).is_empty() {
                continue;
            }
            let (keyword, rest) = word(line.trim_end_matches(blank));
            let (access, filter) = match word(rest) {
                (access @ ("read" | "write" | "readwrite" | "deny"), filter) if !filter.is_empty() => {
                    (access, filter)
                }
                _ => ("readwrite", rest),
            };
            match (keyword, user) {
                ("user", _) => user = Some(rest.trim_matches(blank)),
                ("topic", Some(user)) => rules.push((Whose::User(user), access, filter.trim_matches(blank))),
                ("topic", None) => {}
                _ => rules.push((Whose::Pattern, access, filter.trim_matches(blank))),
            }
        }
        Self { rules }
    }

    /// `mosquitto_acl_check_default` of 2.0's security_default.c, `acl_file__check` of 2.1's acl_check.c.
    fn allows(&self, broker: &Matcher, access: Access, username: &str, id: &str, topic: &str) -> bool {
        let own = |filter: &str| broker.matches(filter, topic);
        if let Some(decided) = self.decide(&Whose::User(username), access, own) {
            return decided;
        }
        let has_patterns = self.rules.iter().any(|(whose, ..)| *whose == Whose::Pattern);
        if !has_patterns || [username, id].iter().any(|name| name.contains(['+', '#'])) {
            return false;
        }
        let pattern = |filter: &str| {
            // The one difference from 2.0, on purpose: a name that starts with $ does not cover $ topics.
            if filter.starts_with('%') && topic.starts_with('$') {
                return false;
            }
            match broker.matches_pattern(filter, topic, id, username) {
                Some(matches) => matches,
                None => broker.matches(&fill_in(filter, id, username), topic),
            }
        };
        self.decide(&Whose::Pattern, access, pattern).unwrap_or(false)
    }

    fn decide(&self, whose: &Whose<'_>, access: Access, matches: impl Fn(&str) -> bool) -> Option<bool> {
        let own = self.rules.iter().filter(|(its, ..)| its == whose);
        let mut matching = own.filter(|(.., filter)| matches(filter)).map(|(_, word, _)| *word);
        let words: Vec<&str> = matching.by_ref().collect();
        let wanted = if access == Access::Read { "read" } else { "write" };
        match words {
            words if words.contains(&"deny") => Some(false),
            words if words.contains(&wanted) || words.contains(&"readwrite") => Some(true),
            _ => None,
        }
    }
}

/// The first word of a text, and the rest after spaces.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

/// Fills the client's names into a pattern as 2.0 does.
fn fill_in(pattern: &str, id: &str, username: &str) -> String {
    let mut filled = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        filled += &rest[..at];
        let (name, taken) = match rest.as_bytes().get(at + 1) {
            Some(b'c') => (id, 2),
            Some(b'u') => (username, 2),
            _ => ("%", 1),
        };
        filled += name;
        rest = &rest[at + taken..];
    }
    filled + rest
}
