//! Filters and topics with placeholders for a client's names: `%c` stands for its client id, `%u` for its username.

use super::filter;

/// Where in a text `%c` and `%u` are placeholders. Elsewhere they are plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholders {
    /// Anywhere, as in the ACL files of Mosquitto 2.0. A name with `/` in it fills several levels.
    Anywhere,
    /// Only as a whole level, as in the ACL files of Mosquitto 2.1. A name with `/` in it does not fit.
    WholeLevels,
}

/// The names of one client, which replace the placeholders.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The text for `%c`.
    pub client_id: &'a str,
    /// The text for `%u`.
    pub username: &'a str,
    /// Names and values of what the API said about it, for `${client_attrs.NAME}` in [rules](super::Grants).
    pub attrs: &'a [(String, String)],
}

impl Names<'_> {
    /// Whether client id and username are plain text in a filter: not empty, and without wildcards. A wildcard would turn a filter
    /// for the client's own topics into one for the topics of others.
    pub fn fit_into_filters(self) -> bool {
        [self.client_id, self.username].iter().all(|name| !name.is_empty() && !filter::has_wildcard(name))
    }
}

/// A filter or topic, split at its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    placeholders: Placeholders,
    starts_with_dollar: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    ClientId,
    Username,
}

impl Part {
    fn fill_in<'a>(&'a self, names: Names<'a>) -> &'a str {
        match self {
            Part::Text(text) => text,
            Part::ClientId => names.client_id,
            Part::Username => names.username,
        }
    }
}

impl Template {
    /// Splits a text at its placeholders. Every text is a template: all the rest is plain text.
    pub fn parse(text: &str, placeholders: Placeholders) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        for (at, _) in text.match_indices('%') {
            let (before, placeholder) = text.split_at(at);
            let (part, after) = match placeholder.as_bytes() {
                [_, b'c', ..] => (Part::ClientId, &placeholder[2..]),
                [_, b'u', ..] => (Part::Username, &placeholder[2..]),
                _ => continue,
            };
            let is_whole_level =
                (before.is_empty() || before.ends_with('/')) && (after.is_empty() || after.starts_with('/'));
            if is_whole_level || placeholders == Placeholders::Anywhere {
                let between = &rest[..rest.len() - placeholder.len()];
                parts.extend([Part::Text(between.to_owned()), part]);
                rest = after;
            }
        }
        parts.push(Part::Text(rest.to_owned()));
        Self { parts, placeholders, starts_with_dollar: text.starts_with('$') }
    }

    /// The text for one client. Names that are filled in are not searched for placeholders.
    pub fn fill_in(&self, names: Names<'_>) -> String {
        self.parts.iter().map(|part| part.fill_in(names)).collect()
    }

    /// Whether this template, as a filter for one client, covers a topic. That is [`matches()`](super::matches()) of
    /// the text that [`Self::fill_in`] gives, without making the text. It is `false` if a name does not fit its
    /// placeholder.
    ///
    /// Only a template that itself starts with `$` covers topics that do. One that starts with a placeholder never
    /// covers them, whatever name the client has.
    ///
    /// Wildcards in names count as wildcards: see [`Names::fit_into_filters`].
    pub fn matches(&self, names: Names<'_>, topic: &str) -> bool {
        let filter = self.parts.iter().flat_map(|part| part.fill_in(names).bytes());
        self.has_room_for(names)
            && self.starts_with_dollar == topic.starts_with('$')
            && filter::matches_bytes(filter, topic)
    }

    /// Whether the client's names fit the placeholders of this template.
    fn has_room_for(&self, names: Names<'_>) -> bool {
        match self.placeholders {
            Placeholders::Anywhere => true,
            Placeholders::WholeLevels => self.parts.iter().all(|part| match part {
                Part::Text(_) => true,
                Part::ClientId | Part::Username => !part.fill_in(names).contains('/'),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
