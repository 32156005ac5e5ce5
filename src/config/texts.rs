//! The texts of all options: collected first, by `reading`, and then parsed, option by option.

use std::collections::HashMap;

use super::ConfigError;
use super::dialect::Dialect;
use super::error::Wrong;
use super::table::OptionSpec;
use super::value::slip;
use crate::util::Location;

/// The texts of all options, from both files, and the mistakes found so far.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) given: HashMap<&'static str, Given>,
    /// What the options of another plugin say that no option here does.
    pub(super) dialect: Dialect,
    pub(super) errors: Vec<ConfigError>,
}

/// An option that was given or has a default, with its texts.
pub(super) struct Given {
    pub(super) spec: &'static OptionSpec,
    pub(super) texts: Vec<(Location, String)>,
    /// What the configuration file says behind mosquitto.conf, whose lines count. It is looked at for mistakes.
    pub(super) hidden: Vec<(Location, String)>,
}

impl Given {
    pub(super) fn new(spec: &'static OptionSpec) -> Self {
        Self { spec, texts: Vec::new(), hidden: Vec::new() }
    }
}

impl Texts {
    /// All values of an option. `None` if any is wrong; each wrong one adds a mistake.
    pub(super) fn each<T, E: Into<Wrong>>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let Some(Given { spec, texts, hidden }) = self.given.get(name) else { return Some(Vec::new()) };
        let mut value = |(location, text): &(Location, String)| {
            let wrong = match slip(text.trim(), spec.comments) {
                Some(what) => Wrong::Because(what),
                None => match parse(text.trim()) {
                    Ok(value) => return Some(value),
                    Err(wrong) => wrong.into(),
                },
            };
            let location = location.clone();
            self.errors.push(match wrong {
                Wrong::Because(what) => ConfigError::Slip { location, name, what },
                Wrong::Value => {
                    let found = (!spec.secret).then(|| text.clone());
                    ConfigError::Value { location, name, found, expected: spec.expected }
                }
            });
            None
        };
        // Collected twice, so that all values are parsed even after a mistake.
        let values: Vec<Option<T>> = texts.iter().map(&mut value).collect();
        let are_right = hidden.iter().map(&mut value).filter(Option::is_none).count() == 0;
        values.into_iter().collect::<Option<_>>().filter(|_| are_right)
    }

    /// The value of an option that has a default. `None` if it is wrong, which adds a mistake.
    pub(super) fn one<T, E: Into<Wrong>>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.each(name, parse)?.pop()
    }

    /// The value of an option, or `T::default()` if it was not given. `None` if it is wrong, which adds a mistake.
    pub(super) fn optional<T: Default, E: Into<Wrong>>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        Some(self.each(name, parse)?.pop().unwrap_or_default())
    }
}

impl Dialect {
    /// Takes what the reading of other plugins' options has made.
    pub(super) fn understand(texts: &mut Texts) -> Option<Self> {
        Some(std::mem::take(&mut texts.dialect))
    }
}
