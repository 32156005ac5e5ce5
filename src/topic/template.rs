//! Filters and topics with places for a client's names: `%c` stands for its client id, `%u` for its username.

use super::filter;

/// Where `%c` and `%u` stand for a client's names, and are not plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholders {
    /// Wherever they occur, as Mosquitto 2.0 has it in ACL files. A name with `/` in it fills several levels.
    Anywhere,
    /// Only where they are a whole level, as Mosquitto 2.1 has it in ACL files. A name with `/` in it fits none.
    WholeLevels,
}

/// What is filled in for one client.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// What `%c` stands for.
    pub client_id: &'a str,
    /// What `%u` stands for.
    pub username: &'a str,
}

impl Names<'_> {
    /// Whether both names are just themselves in a filter. One with a wildcard in it would turn a filter for a
    /// client's own topics into one for the topics of others.
    pub fn fit_into_filters(self) -> bool {
        [self.client_id, self.username].iter().all(|name| !name.is_empty() && !filter::has_wildcard(name))
    }
}

/// A filter or topic, taken apart where a client's names have to be filled in.
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
    /// Takes a text apart. Any text is one: what is no placeholder is plain text.
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

    /// The text for one client. What is filled in is not searched for placeholders again.
    pub fn fill_in(&self, names: Names<'_>) -> String {
        self.parts.iter().map(|part| part.fill_in(names)).collect()
    }

    /// Whether this template, as a filter for one client, covers a topic: [`matches()`](super::matches()) of the text
    /// that [`Self::fill_in`] gives, without making that text. It is `false` if a name has no room in its place.
    ///
    /// Whether it reaches topics that start with `$` is the template's own doing: one that starts with a placeholder
    /// never does, whatever the client calls itself.
    ///
    /// Wildcards in names count as wildcards: see [`Names::fit_into_filters`].
    pub fn matches(&self, names: Names<'_>, topic: &str) -> bool {
        let filter = self.parts.iter().flat_map(|part| part.fill_in(names).bytes());
        self.has_room_for(names)
            && self.starts_with_dollar == topic.starts_with('$')
            && filter::matches_bytes(filter, topic)
    }

    /// Whether the names that are filled in may take the place of a placeholder.
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
