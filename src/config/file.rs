//! Reading `config_file`: the options of mosquitto.conf in TOML, each with its line.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::error::called;
use super::lookup::find;
use crate::util::files;
use crate::util::location::{Location, file_name};

/// The most bytes of a configuration file. A larger file is something else.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

const EXPECTED: &str = "a text, a number, true, false or a list of those";

/// An option with one value. A TOML list gives an entry for each of its values, or a single entry for an option whose
/// value is itself a list.
pub(super) struct Entry {
    pub(super) location: Location,
    pub(super) name: String,
    pub(super) value: String,
}

/// The options in a file. A value that no option could have becomes an error instead. `named_by` is where the file's
/// path is given.
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
    let bytes = files::read(path, MAX_FILE_BYTES).map_err(|cause| format!("cannot be read ({cause})"))?;
    String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".to_owned())
}

fn at(file: &Arc<str>, text: &str, offset: usize) -> Location {
    Location::at_offset(file, text.as_bytes(), offset)
}

/// The values of an option in the notation of mosquitto.conf. The option need not exist.
fn values(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    let spec = find(name);
    if spec.is_some_and(|spec| spec.includes) {
        return Err("a configuration file cannot name another".to_owned());
    }
    let texts = texts(value).map_err(|found| format!("found {found}, expected {EXPECTED}"))?;
    // An unknown option gives one entry, even for an empty or long list, so that it is reported exactly once.
    let Some(spec) = spec else { return Ok(vec![texts.concat()]) };
    match (value.get_ref(), spec.separator) {
        (DeValue::Array(_), Some(separator)) => Ok(vec![texts.join(separator)]),
        (DeValue::Array(_), None) if !spec.repeatable => {
            Err(format!("found a list, expected {}", spec.expected))
        }
        _ => Ok(texts),
    }
}

/// A value in the notation of mosquitto.conf, or the values of a list. The error describes what was found instead.
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
