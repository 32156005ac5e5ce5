//! Where each option stands and what was written there, for messages.

use std::collections::HashMap;
use std::fmt;

use super::texts::{Given, Texts};
use super::url::{ApiUrl, urls};
use super::value::NONE;
use crate::log::quoted;
use crate::util::Location;

/// The locations and texts of options, for messages. All values of this type are equal, so that comparing two
/// [`Config`]s compares only what their options mean.
#[derive(Clone)]
pub(super) struct Written(HashMap<&'static str, WrittenOption>);

#[derive(Clone)]
struct WrittenOption {
    /// Where it is set; an option of mosquitto.conf by the name of the one that it comes from.
    location: Option<Location>,
    /// The values as they were written, of URLs as far as they are no secret; `None` if all of them may be secrets.
    shown: Option<String>,
}

/// What can be shown of an option that holds URLs, and of no other.
fn shown_urls(given: &Given) -> Option<String> {
    let (_, text) = given.texts.first().filter(|_| given.spec.separator == Some(" "))?;
    let urls: Vec<_> = urls(text.trim()).ok()?.iter().map(ApiUrl::shown).collect();
    Some(if urls.is_empty() { quoted(NONE).to_string() } else { urls.join(" then ") })
}

impl Written {
    pub(super) fn understand(texts: &mut Texts) -> Option<Self> {
        let written = |given: &Given| WrittenOption {
            location: given.texts.first().map(|(location, _)| location.clone()),
            shown: if given.spec.secret {
                shown_urls(given)
            } else {
                let values: Vec<_> = given.texts.iter().map(|(_, text)| text.trim()).collect();
                Some(quoted(&values.join(", ")).to_string())
            },
        };
        Some(Self(texts.given.iter().map(|(name, given)| (*name, written(given))).collect()))
    }

    /// Where an option is set, or by which name messages call it.
    pub(super) fn location(&self, option: &str) -> Option<&Location> {
        self.0.get(option)?.location.as_ref()
    }

    /// The line of the configuration file that sets an option, if one does.
    pub(super) fn line(&self, option: &str) -> Option<&Location> {
        self.location(option).filter(|location| matches!(location, Location::Line { .. }))
    }

    /// The values of an option for a log; `None` if they may be secrets.
    fn shown(&self, option: &str) -> Option<&str> {
        match self.0.get(option) {
            Some(written) => written.shown.as_deref(),
            None => Some("not set"),
        }
    }

    /// The change of an option since `before`, for a log: its old and its new values, unless they may be secrets.
    pub(super) fn change(&self, before: &Self, option: &str) -> String {
        match (before.shown(option), self.shown(option)) {
            (Some(old), Some(new)) if old == new => {
                format!("{option} {new} (in what is not shown, it may be a secret)")
            }
            (Some(old), Some(new)) => format!("{option} {old} -> {new}"),
            _ => format!("{option} (not shown, it may be a secret)"),
        }
    }

    /// An option and its value for a log, unless that may be a secret.
    pub(super) fn value(&self, option: &str) -> String {
        match self.shown(option) {
            Some(value) => format!("{option} {value}"),
            None => format!("{option} (not shown)"),
        }
    }

    /// No names: locations and texts are no part of what options mean.
    #[allow(clippy::unused_self, reason = "every field of the options has this method")]
    pub(super) fn differing(&self, _: &Self) -> Vec<&'static str> {
        Vec::new()
    }
}

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(..)")
    }
}
