//! Placeholders in the rules of answers: `${username}`, `${clientid}`, `${client_attrs.NAME}`, and `${$}` for a `$`.

use crate::topic::filter::MAX_BYTES;
use crate::topic::{Names, has_wildcard, is_valid_filter};

/// What is in front of a filter that is to be compared with others as it is written.
const LITERALLY: &str = "eq ";

/// A rule's topic for one client.
#[derive(Debug, PartialEq, Eq)]
pub enum Filled {
    /// A valid filter.
    Filter(String),
    /// A valid filter with wildcards, which is meant only as it is written.
    Literally(String),
    /// A name does not fit: it is missing, empty, or would be more than a part of a level. This is the filter of all
    /// topics below the levels before it; `None` where there are none, so that it is all topics.
    UpTo(Option<String>),
}

impl Filled {
    /// Bytes of its text.
    pub fn bytes(&self) -> usize {
        match self {
            Filled::Filter(filter) | Filled::Literally(filter) | Filled::UpTo(Some(filter)) => filter.len(),
            Filled::UpTo(None) => 0,
        }
    }
}

/// The names of a client, and which of them are plain text within one level. That is found out once: a name may have 64 KiB
/// and stand in thousands of places.
pub struct Values<'a> {
    username: Value<'a>,
    client_id: Value<'a>,
    attrs: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Values<'a> {
    /// The values of these names.
    pub fn of(names: &Names<'a>) -> Self {
        let attrs = names.attrs.iter().map(|(name, value)| (&**name, Value::of(value)));
        Self {
            username: Value::of(names.username),
            client_id: Value::of(names.client_id),
            attrs: attrs.collect(),
        }
    }
}

/// Fills a client's names into a topic of a rule. The names are not searched for placeholders.
///
/// # Errors
///
/// What is wrong with the topic, whoever the client is.
pub fn fill(topic: &str, values: &Values<'_>) -> Result<Filled, String> {
    if let Some(literal) = topic.strip_prefix(LITERALLY) {
        check(literal, topic)?;
        let filled = if has_wildcard(literal) { Filled::Literally } else { Filled::Filter };
        return Ok(filled(literal.to_owned()));
    }
    // Where a name does not fit, a letter stands for it, so that the rest can be checked.
    let (mut filter, mut misfit) = (String::with_capacity(topic.len()), None);
    let mut rest = topic;
    while let Some((before, placeholder)) = rest.split_once("${") {
        filter.push_str(before);
        let (name, after) = placeholder
            .split_once('}')
            .ok_or_else(|| format!("{} has a ${{ without its }}; ${{$}} is a $", shown(topic)))?;
        rest = after;
        match filling(name, values) {
            Some(Filling::Dollar) => filter.push('$'),
            Some(Filling::Name(value)) if value.fits_behind(&filter) => filter.push_str(value.text),
            Some(Filling::Name(_)) => {
                misfit = misfit.or(Some(filter.len()));
                filter.push('x');
            }
            None => {
                return Err(format!(
                    "{} has an unknown placeholder; known are ${{username}}, ${{clientid}} and \
                     ${{client_attrs.NAME}}",
                    shown(topic)
                ));
            }
        }
    }
    filter.push_str(rest);
    if filter.len() > MAX_BYTES && topic.len() <= MAX_BYTES {
        misfit = misfit.or(Some(0));
    } else {
        check(&filter, topic)?;
    }
    Ok(match misfit {
        None => Filled::Filter(filter),
        Some(at) => Filled::UpTo(filter[..at].rfind('/').map(|end| format!("{}/#", &filter[..end]))),
    })
}

/// What stands for a placeholder.
enum Filling<'a> {
    Dollar,
    Name(Value<'a>),
}

fn filling<'a>(placeholder: &str, values: &Values<'a>) -> Option<Filling<'a>> {
    Some(match placeholder {
        "$" => Filling::Dollar,
        "username" => Filling::Name(values.username),
        "clientid" => Filling::Name(values.client_id),
        _ => {
            let wanted = placeholder.strip_prefix("client_attrs.")?;
            let attribute = values.attrs.iter().find(|(name, _)| *name == wanted);
            // An attribute that the client does not have is empty.
            Filling::Name(attribute.map_or(Value::of(""), |(_, value)| *value))
        }
    })
}

/// A name.
#[derive(Clone, Copy)]
struct Value<'a> {
    text: &'a str,
    is_within_level: bool,
}

impl<'a> Value<'a> {
    fn of(text: &'a str) -> Self {
        let is_within_level = !text.is_empty() && !has_wildcard(text) && !text.contains(['/', '\0']);
        Self { text, is_within_level }
    }

    /// Whether it is plain text within one level. A topic that starts with `$` belongs to the broker, so that no name may
    /// make one. What is longer than any topic is not even written down: a name may stand in many places.
    fn fits_behind(self, before: &str) -> bool {
        let is_of_the_broker = before.is_empty() && self.text.starts_with('$');
        self.is_within_level && !is_of_the_broker && before.len() + self.text.len() <= MAX_BYTES
    }
}

/// Checks a filter that a topic of a rule has become.
fn check(filter: &str, topic: &str) -> Result<(), String> {
    if filter.starts_with("$share/") {
        return Err(format!(
            "{} has a $share/GROUP/ in front, which is taken off subscriptions: leave it out",
            shown(topic)
        ));
    }
    if is_valid_filter(filter) {
        return Ok(());
    }
    Err(format!("{} is no topic filter: + stands for a whole level, # for all from there on", shown(topic)))
}

/// The topic of a rule for a log line.
fn shown(topic: &str) -> String {
    const SHOWN: usize = 100;
    let end = topic.char_indices().nth(SHOWN).map_or(topic.len(), |(end, _)| end);
    format!("{:?}{}", &topic[..end], if end < topic.len() { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(topic: &str, username: &str, client_id: &str) -> Result<Filled, String> {
        let attrs = [("tenant".to_owned(), "acme".to_owned()), ("none".to_owned(), String::new())];
        fill(topic, &Values::of(&Names { username, client_id, attrs: &attrs }))
    }

    #[test]
    fn names_are_filled_in() {
        for (topic, expected) in [
            ("a/${clientid}/#", "a/c-1/#"),
            ("${username}", "joe"),
            ("${client_attrs.tenant}/${username}/dev-${clientid}x", "acme/joe/dev-c-1x"),
            ("${$}{clientid}", "${clientid}"),
            ("${$}SYS/#", "$SYS/#"),
            ("$SYS/${clientid}", "$SYS/c-1"),
            ("a/$b/{c}", "a/$b/{c}"),
            ("eq a/b", "a/b"),
            ("eq ${clientid}", "${clientid}"),
            ("eq", "eq"),
        ] {
            assert_eq!(filled(topic, "joe", "c-1"), Ok(Filled::Filter(expected.to_owned())), "{topic:?}");
        }
        assert_eq!(filled("eq a/#", "joe", "c-1"), Ok(Filled::Literally("a/#".to_owned())));
    }

    #[test]
    fn names_are_not_searched_for_placeholders() {
        let twice = filled("a/${username}", "${clientid}", "c");
        assert_eq!(twice, Ok(Filled::Filter("a/${clientid}".to_owned())));
    }

    #[test]
    fn names_that_do_not_fit_end_the_filter_before_their_level() {
        for misfit in ["", "+", "#", "a/b", "/", "a+", "a#", "a\0b"] {
            for (topic, up_to) in [
                ("a/b/${clientid}/c", Some("a/b/#")),
                ("a/b/x-${clientid}", Some("a/b/#")),
                ("a/${username}/${clientid}", Some("a/joe/#")),
                ("/${clientid}", Some("/#")),
                ("${clientid}", None),
                ("x${clientid}/a", None),
                ("${clientid}/a/${username}", None),
                ("${clientid}/#", None),
            ] {
                let expected = Ok(Filled::UpTo(up_to.map(str::to_owned)));
                assert_eq!(filled(topic, "joe", misfit), expected, "{topic:?} with {misfit:?}");
            }
        }
        for missing in ["a/${client_attrs.none}", "a/${client_attrs.other}", "a/${client_attrs.}"] {
            assert_eq!(filled(missing, "joe", "c"), Ok(Filled::UpTo(Some("a/#".to_owned()))), "{missing:?}");
        }
    }

    #[test]
    fn no_name_makes_a_topic_of_the_broker() {
        assert_eq!(filled("${clientid}/#", "joe", "$SYS"), Ok(Filled::UpTo(None)));
        assert_eq!(filled("a/${clientid}", "joe", "$SYS"), Ok(Filled::Filter("a/$SYS".to_owned())));
    }

    #[test]
    fn long_names_fit_as_far_as_topics_go() {
        let long = "c".repeat(60_000);
        assert!(matches!(filled("a/${clientid}", "joe", &long), Ok(Filled::Filter(_))));
        let twice = filled("a/${clientid}/${clientid}", "joe", &long);
        let Ok(Filled::UpTo(Some(up_to))) = twice else { panic!("{twice:?}") };
        assert_eq!(up_to.len(), "a//#".len() + long.len());
        // Plain text behind it makes it too long.
        let text = format!("${{clientid}}/{}", "a".repeat(10_000));
        assert_eq!(filled(&text, "joe", &long), Ok(Filled::UpTo(None)));
    }

    #[test]
    fn what_is_wrong_is_said_whoever_the_client_is() {
        for (topic, wrong) in [
            ("", "no topic filter"),
            ("a+", "no topic filter"),
            ("a/#/b", "no topic filter"),
            ("#${clientid}", "no topic filter"),
            ("eq ", "no topic filter"),
            ("eq a#", "no topic filter"),
            ("a/${clientid", "without its }"),
            ("a/${zone}", "unknown placeholder"),
            ("a/${client_attr.x}", "unknown placeholder"),
            ("a/${}", "unknown placeholder"),
            ("$share/g/a", "leave it out"),
            ("eq $share/g/a", "leave it out"),
        ] {
            for client_id in ["c", "a/b", ""] {
                let found = filled(topic, "joe", client_id);
                assert!(found.as_ref().is_err_and(|found| found.contains(wrong)), "{topic:?}: {found:?}");
            }
        }
        let long = filled(&"a+".repeat(40_000), "joe", "c");
        assert!(long.is_err_and(|found| found.len() < 300));
    }
}
