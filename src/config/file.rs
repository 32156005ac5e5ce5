//! `config_file`: the same options in TOML, with the line of each.
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Named, OPTIONS, OptionSpec, Place};
use crate::util::files;

/// The largest configuration file that is read, in bytes: one of this size is something else.
const LIMIT: u64 = 1024 * 1024;

const EXPECTED: &str = "a text, a number, true, false or a list of those";

/// An option with one value. A list is as many of them, or for URLs one text.
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) value: String,
}

/// The options in a file.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let in_file =
        |what: String| ConfigError::File(format!("plugin_opt_config_file: {} {what}", path.display()));
    let bytes = files::read(path, LIMIT).map_err(|cause| in_file(format!("cannot be read ({cause})")))?;
    let text = String::from_utf8(bytes).map_err(|_| in_file("is no UTF-8 text".to_owned()))?;
    let at = |offset: usize| Place::File(path.to_owned(), line_of(&text, offset));
    let wrong = |offset: usize, name: &str, what: &str| {
        Err(ConfigError::File(format!("{}: {what}", Named(&at(offset), name))))
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let line = line_of(&text, error.span().map_or(0, |span| span.start));
        ConfigError::File(format!("{}, line {line}: this is no TOML ({})", path.display(), error.message()))
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let (name, offset) = (key.get_ref().to_string(), key.span().start);
        if name == "config_file" {
            return wrong(offset, &name, "a configuration file cannot name another");
        }
        let texts = match texts(value) {
            Ok(texts) => texts,
            Err(found) => return wrong(offset, &name, &format!("found {found}, expected {EXPECTED}")),
        };
        let spec = OPTIONS.iter().find(|spec| spec.name == name);
        // The two values that are themselves lists, in mosquitto.conf's notation.
        let separator = match name.as_str() {
            "auth_url" | "acl_url" => Some(" "),
            "acl_checks" => Some(","),
            _ => None,
        };
        let takes_a_list = |spec: &OptionSpec| spec.repeatable || separator.is_some();
        if let (DeValue::Array(_), Some(spec)) = (value.get_ref(), spec.filter(|spec| !takes_a_list(spec))) {
            return wrong(offset, &name, &format!("found a list, expected {}", spec.expected));
        }
        let values = separator.map_or_else(|| texts.clone(), |separator| vec![texts.join(separator)]);
        let place = at(offset);
        entries.extend(values.into_iter().map(|value| Entry {
            place: place.clone(),
            name: name.clone(),
            value,
        }));
    }
    Ok(entries)
}

/// A value in the notation of mosquitto.conf, or each value of a list; an error is what was found instead.
fn texts(value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, &'static str> {
    match value.get_ref() {
        DeValue::Array(values) => values
            .iter()
            .map(|value| match value.get_ref() {
                DeValue::Array(_) => Err("a list in a list"),
                value => single(value),
            })
            .collect(),
        value => single(value).map(|text| vec![text]),
    }
}

fn single(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Float(_) => Err("a number with a fraction"),
        DeValue::Datetime(_) => Err("a date"),
        DeValue::Array(_) => Err("a list"),
        DeValue::Table(_) => Err("a table"),
    }
}

/// The line at a byte offset, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
