//! `config_file`: the same options in TOML, with the line of each.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::called;
use super::{ConfigError, options};
use crate::util::files;
use crate::util::location::{Location, file_name};

/// The largest configuration file that is read, in bytes: one of this size is something else.
const LIMIT: u64 = 1024 * 1024;

const EXPECTED: &str = "a text, a number, true, false or a list of those";

/// An option with one value. A list is as many of them, or one text where the option's value is a list by itself.
pub(super) struct Entry {
    pub(super) location: Location,
    pub(super) name: String,
    pub(super) value: String,
}

/// The options in a file. What can be no option's value is among the errors instead. `named_by` is where the path
/// stands.
pub(super) fn entries(named_by: &Location, path: &Path, errors: &mut Vec<ConfigError>) -> Vec<Entry> {
    let file = file_name(path);
    let (mut entries, mut wrong) = (Vec::new(), Vec::new());
    let read = read(path).map_err(|what| format!("{named_by}: {file} {what}")).and_then(|text| {
        let table = DeTable::parse(&text).map_err(|error| {
            let location = at(&file, &text, error.span().map_or(0, |span| span.start));
            format!("{location}: this is no TOML ({})", error.message())
        })?;
        for (key, value) in table.get_ref() {
            let location = at(&file, &text, key.span().start);
            match values(key.get_ref(), value) {
                Ok(values) => entries.extend(values.into_iter().map(|value| Entry {
                    location: location.clone(),
                    name: key.get_ref().to_string(),
                    value,
                })),
                Err(what) => wrong.push(format!("{}: {what}", called(&location, key.get_ref()))),
            }
        }
        Ok(())
    });
    errors.extend(read.err().into_iter().chain(wrong).map(ConfigError::File));
    entries
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = files::read(path, LIMIT).map_err(|cause| format!("cannot be read ({cause})"))?;
    String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".to_owned())
}

fn at(file: &Arc<str>, text: &str, offset: usize) -> Location {
    Location::at_offset(file, text.as_bytes(), offset)
}

/// The values of an option, known or not, in the notation of mosquitto.conf.
fn values(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    let spec = options::find(name);
    if spec.is_some_and(|spec| spec.includes) {
        return Err("a configuration file cannot name another".to_owned());
    }
    let texts = texts(value).map_err(|found| format!("found {found}, expected {EXPECTED}"))?;
    // One entry, also where the list is empty: that there is no such option is told, and once.
    let Some(spec) = spec else { return Ok(vec![texts.concat()]) };
    match (value.get_ref(), spec.separator) {
        (DeValue::Array(_), Some(separator)) => Ok(vec![texts.join(separator)]),
        (DeValue::Array(_), None) if !spec.repeatable => {
            Err(format!("found a list, expected {}", spec.expected))
        }
        _ => Ok(texts),
    }
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
