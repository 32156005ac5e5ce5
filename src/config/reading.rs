//! Stage one of reading, which collects all texts with their locations, and the checks that follow stage two (`table`,
//! `texts`).

use super::error::called_in_broker;
use super::header::header_conflict;
use super::lookup::{find, find_by_old_name, nearest};
use super::moving_in::{self, Moved, MovedOption};
use super::options::{Config, OPTIONS};
use super::texts::{Given, Texts};
use super::{ConfigError, file};
use crate::util::Location;

/// Names and values of the options of mosquitto.conf, in its order. The broker hands them over at the start only.
pub type BrokerOptions = Vec<(String, String)>;

impl Config {
    /// Reads the options of mosquitto.conf and of the `config_file` that they may name. The second value lists options
    /// that both set: mosquitto.conf wins.
    ///
    /// # Errors
    /// All mistakes, and not only the first, so that an operator can mend them in one go.
    pub fn read(options: &BrokerOptions) -> Result<(Self, Vec<&'static str>), Vec<ConfigError>> {
        let (mut texts, in_both) = Texts::collect(options);
        let config = Self::understand(&mut texts);
        let mut errors = texts.errors;
        match config {
            Some(config) if errors.is_empty() => {
                errors.extend(config.contradictions());
                if errors.is_empty() { Ok((config, in_both)) } else { Err(errors) }
            }
            _ => Err(errors),
        }
    }

    /// The values of all options that are not given. (`None` would be a default that its own option does not take.)
    pub(super) fn default_values() -> Option<Self> {
        Self::understand(&mut Texts::collect(&Vec::new()).0)
    }

    /// Mistakes in the combination of options that are valid one by one.
    fn contradictions(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let tls = [("tls_cert_file", &self.tls_cert_file), ("tls_key_file", &self.tls_key_file)];
        if let [(alone, Some(_)), (missing, None)] | [(missing, None), (alone, Some(_))] = tls {
            let what = format!("{}: found it without {missing}, expected both or none", self.called(alone));
            errors.push(ConfigError::Combination(what));
        }
        if let Some(what) = header_conflict(&self.headers, self.urls()) {
            errors.push(ConfigError::Combination(format!("{}: {what}", self.called("header"))));
        }
        if !self.acl_fields.is_empty() && !self.acl_prefetch.is_empty() {
            let what = format!(
                "{}: found it beside acl_fields, which are not known before the broker asks; expected one of the two",
                self.called("acl_prefetch")
            );
            errors.push(ConfigError::Combination(what));
        }
        if !self.acl_batch_urls.is_empty() && self.acl_urls.is_empty() {
            let what = format!(
                "{}: found it without acl_url, which single questions go to; expected both",
                self.called("acl_batch_url")
            );
            errors.push(ConfigError::Combination(what));
        }
        let shared = ("shared_cache", self.shared_cache.is_some());
        let secret = ("shared_cache_secret_file", self.shared_cache_secret_file.is_some());
        if let [(alone, true), (missing, false)] | [(missing, false), (alone, true)] = [shared, secret] {
            let what = format!("{}: found it without {missing}, expected both or none", self.called(alone));
            errors.push(ConfigError::Combination(what));
        }
        let has_local_users = self.password_file.is_some() || !self.users.is_empty();
        let asks = !self.auth_urls.is_empty() || !self.acl_urls.is_empty();
        if !has_local_users && !asks {
            let what = "there is nothing to decide with: expected plugin_opt_auth_url, plugin_opt_acl_url, \
                        plugin_opt_password_file or plugin_opt_user";
            errors.push(ConfigError::Combination(what.to_owned()));
        }
        errors
    }
}

impl Texts {
    /// Stage one of reading: collects the texts of mosquitto.conf and of the file that it names, and defaults for the
    /// rest. The second value lists the options that stand in both.
    fn collect(options: &BrokerOptions) -> (Self, Vec<&'static str>) {
        let (mut texts, moved) = (Self::default(), moving_in::moved(options));
        let is_theirs =
            |index| moved.as_ref().is_some_and(|moved| moved.lines.iter().any(|line| line.index == index));
        for (index, (name, value)) in options.iter().enumerate() {
            if !is_theirs(index) {
                texts.add(Location::Option(called_in_broker(name).into()), name, value.clone());
            }
        }
        let in_both = texts.add_files();
        if let Some(moved) = moved {
            texts.add_moved(moved);
        }
        for spec in OPTIONS.iter().filter(|spec| !spec.default.is_empty()) {
            let given = texts.given.entry(spec.name).or_insert_with(|| Given::new(spec));
            if given.texts.is_empty() {
                let location = Location::Option(called_in_broker(spec.name).into());
                given.texts.push((location, spec.default.to_owned()));
            }
        }
        (texts, in_both)
    }

    /// Adds the options of the file that `config_file` names, except those that mosquitto.conf sets as well, which are
    /// returned.
    fn add_files(&mut self) -> Vec<&'static str> {
        let including = self.given.values().filter(|given| given.spec.includes);
        let paths: Vec<_> = including.filter_map(|given| given.texts.last().cloned()).collect();
        let by_broker: Vec<_> = self.given.keys().copied().collect();
        let mut in_both = Vec::new();
        // Stage two reports an empty path.
        for (location, path) in paths.iter().filter(|(_, path)| !path.trim().is_empty()) {
            for entry in file::entries(location, path.trim().as_ref(), &mut self.errors) {
                match by_broker.iter().find(|name| **name == entry.name) {
                    Some(name) => {
                        in_both.push(*name);
                        if let Some(given) = self.given.get_mut(name) {
                            given.hidden.push((entry.location, entry.value));
                        }
                    }
                    None => self.add(entry.location, &entry.name, entry.value),
                }
            }
        }
        in_both.dedup();
        in_both
    }

    /// Adds what the options of another plugin come to. What this plugin's own options say counts before that.
    fn add_moved(&mut self, moved: Moved<'_>) {
        let Moved { theirs, options, dialect, errors, .. } = moved;
        self.errors.extend(errors.into_iter().map(ConfigError::Combination));
        self.dialect = dialect;
        let own: Vec<&str> = self.given.keys().copied().collect();
        if !self.dialect.is_contract() {
            let not_beside = OPTIONS.iter().filter(|spec| spec.of_contract).map(|spec| spec.name);
            for name in not_beside.filter(|name| own.contains(name)) {
                self.errors.push(ConfigError::Combination(format!(
                    "{}: found it beside the options of {}, whose questions and answers have no room for that; expected one \
                     of the two",
                    called_in_broker(name),
                    theirs.name()
                )));
            }
        }
        self.dialect.remembers_no_like_yes &= !own.contains(&"deny_cache_ttl");
        for MovedOption { name, value, from } in options {
            let Some(spec) = find(name) else { continue };
            if spec.repeatable {
                // Headers: those of this plugin's own options count, and the first of each name.
                let named =
                    |text: &str| text.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
                let given = self.given.get(name).into_iter().flat_map(|given| &given.texts);
                if given.into_iter().any(|(_, text)| named(text) == named(&value)) {
                    continue;
                }
            } else if own.contains(&name) || name == "deny_cache_ttl" {
                // A no has no time of its own there.
                continue;
            }
            let called = called_in_broker(from.as_deref().unwrap_or(name));
            self.add(Location::Option(called.into()), name, value);
        }
    }

    fn add(&mut self, location: Location, name: &str, value: String) {
        let Some(spec) = find(name) else {
            let name = name.to_owned();
            self.errors.push(match find_by_old_name(&name) {
                Some(spec) => ConfigError::Renamed { location, name, now: spec.name },
                None => match moving_in::table::find(&name.to_ascii_lowercase()) {
                    Some(row) => {
                        let (plugins, here) = (row.plugins(), row.here);
                        ConfigError::Foreign { location, name, plugins, here }
                    }
                    None => ConfigError::UnknownOption { location, nearest: nearest(&name), name },
                },
            });
            return;
        };
        let given = self.given.entry(spec.name).or_insert_with(|| Given::new(spec));
        if given.texts.len() == 1 && !spec.repeatable {
            self.errors.push(ConfigError::Repeated { location: location.clone(), name: spec.name });
        }
        given.texts.push((location, value));
    }
}
