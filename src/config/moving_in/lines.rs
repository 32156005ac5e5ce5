//! What becomes of each option of theirs, and what of that an operator has to know.

use std::borrow::Cow;

use super::super::lookup as own;
use super::table::{Fate, Row, find};
use super::{Backends, LONGEST_TIME, LONGEST_TIMEOUT, Line, NO_CACHE, Reading, Theirs};
use crate::log::{quoted, sentence};

type Here = (Fate, Cow<'static, str>);

fn same(here: &'static str) -> Here {
    (Fate::Same, here.into())
}

fn different(here: impl Into<Cow<'static, str>>) -> Here {
    (Fate::Different, here.into())
}

impl Reading<'_> {
    /// What becomes of each option that is none of this plugin's own.
    pub(super) fn lines(&mut self, backends: Backends) {
        for (index, (name, value)) in self.options.iter().enumerate() {
            // mosquitto-auth-plug names the user of a database by the option that gives this plugin a local user.
            let is_of_database = self.is_of(Theirs::AuthPlug) && name == "user" && !value.contains(':');
            let is_own = own::find(name).is_some() || own::find_by_old_name(name).is_some();
            let (fate, here) = match (is_of_database, is_own) {
                (true, _) => (Fate::Missing, OF_NONE.into()),
                (false, true) => continue,
                (false, false) => self.here(name, value, backends),
            };
            self.moved.lines.push(Line { index, name, fate, here });
        }
    }

    fn here(&self, name: &str, value: &str, backends: Backends) -> Here {
        let theirs = self.moved.theirs;
        let Some(row) = find(name) else {
            let nearest = own::nearest(name)
                .map_or_else(String::new, |own| format!("; the nearest of this plugin is {own}"));
            return (
                Fate::Missing,
                format!("neither {} nor this plugin knows it: ignored{nearest}", theirs.name()).into(),
            );
        };
        if !theirs.has(row) {
            return (Fate::Missing, format!("{} does not know it: ignored, as there", theirs.name()).into());
        }
        let is_of_files = name.starts_with("files_") || matches!(name, "password_path" | "acl_path");
        if name.starts_with("http_") && !backends.http || is_of_files && !backends.files {
            return (Fate::Missing, OF_NONE.into());
        }
        self.by_value(row, name, value).unwrap_or((row.fate, row.here.into()))
    }

    /// What becomes of an option where that goes by its value.
    fn by_value(&self, row: &Row, name: &str, value: &str) -> Option<Here> {
        let is_true = || self.is_true_among_blanks(name);
        match name {
            "http_with_tls" | "disable_superuser" | "http_method" | "http_params_mode"
            | "http_response_mode" | "http_user_agent" => self.by_word(name, value),
            "http_timeout" => by_timeout(value),
            "auth_cache_seconds" | "acl_cache_seconds" if !self.is_true_among_blanks("cache") => {
                Some(different("it counts only with plugin_opt_cache true, as there"))
            }
            "auth_cache_seconds" | "acl_cache_seconds" | "auth_cacheseconds" | "acl_cacheseconds"
            | "cacheseconds" => by_time(value),
            "http_verify_peer" if value == "true" => Some(same("certificates are always verified")),
            "http_verify_peer" if !self.is_true("http_with_tls") => Some(same("there is no TLS")),
            "cache" if !is_true() => Some(different(NO_CACHE)),
            "auth_jitter_seconds" | "acl_jitter_seconds" | "retry_count" if value.trim() == "0" => {
                Some(same(row.here))
            }
            "cache_refresh" | "check_prefix" | "strip_prefix" if value.replace(' ', "") != "true" => {
                Some(same("off, as there"))
            }
            "strip_prefix" if self.is_true_among_blanks("check_prefix") => {
                Some(different("there is one API, which gets the whole username, with its prefix"))
            }
            "http_header_Host" | "http_header_host" => {
                Some(different("the API gets the host of its URL, as there"))
            }
            "use_clientid_as_username" | "allow_empty_credentials" if !is_true() => {
                Some(same("off, as there"))
            }
            "http_superuser_uri" if self.is_true("disable_superuser") && self.is_of(Theirs::GoAuth) => {
                Some(same("it is not asked, by disable_superuser"))
            }
            _ => None,
        }
    }

    /// What becomes of an option whose value is one of a few words, or goes with them.
    fn by_word(&self, name: &str, value: &str) -> Option<Here> {
        let (known, otherwise): (&[&str], _) = match name {
            "http_user_agent" => return self.sends_forms_of_go().then(|| different(FORMS)),
            "http_method" if self.sends_forms_of_go() && value != "POST" => return Some(different(FORMS)),
            "http_method" => (&["POST", "GET", "PUT"], "POST"),
            "http_params_mode" => (&["json", "form"], "json"),
            "http_response_mode" => (&["status", "text", "json"], "status"),
            _ => (&["true", "false"], "false"),
        };
        // They compare the whole text, without looking twice.
        (!known.contains(&value)).then(|| {
            different(format!(
                "found {}, which {} takes for {otherwise}, and so does this plugin; expected {}",
                quoted(value),
                self.moved.theirs.name(),
                known.join(" or ")
            ))
        })
    }

    /// What is to be said at the start: what is not the same, a line for each reason.
    pub(super) fn remarks(&self) -> Vec<String> {
        let theirs = self.moved.theirs;
        let mut remarks = vec![format!(
            "The options are those of {}, and are understood as it meant them. Redirects are not followed: a status from 300 \
             to 399 is a no. 408 and 429 are no answer. docs/moving-in-options.md has every option.",
            theirs.name()
        )];
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for Line { name, here, .. } in self.moved.lines.iter().filter(|line| line.fate != Fate::Same) {
            let called = format!("plugin_opt_{name}");
            match reasons.iter_mut().find(|(reason, _)| reason == here) {
                Some((_, names)) => names.push(called),
                None => reasons.push((here, vec![called])),
            }
        }
        let line = |(reason, names): (&str, Vec<String>)| {
            sentence(format!("{}: {reason}", names.join(", ").escape_debug()))
        };
        remarks.extend(reasons.into_iter().map(line));
        remarks.extend(self.moved.notes.iter().cloned());
        remarks
    }
}

/// What becomes of their time for an answer.
fn by_timeout(value: &str) -> Option<Here> {
    match value.parse::<u64>() {
        Ok(1..=LONGEST_TIMEOUT) => None,
        Ok(0) => Some(different(format!(
            "no question is without an end here: it is {LONGEST_TIMEOUT}s, as long as timeout may be"
        ))),
        Ok(_) => Some(different(format!("it is {LONGEST_TIMEOUT}s, as long as timeout may be"))),
        Err(_) => {
            Some(different(format!("found {}, which is no whole number: it is 5s, as there", quoted(value))))
        }
    }
}

/// What becomes of their time for which answers are remembered.
fn by_time(value: &str) -> Option<Here> {
    match value.trim().parse::<i64>() {
        Ok(..0) => Some(different("a time below zero is none: nothing is remembered")),
        Ok(seconds) if seconds.unsigned_abs() <= LONGEST_TIME => None,
        Ok(_) => Some(different("it is 30 days, as long as anything may be remembered")),
        Err(_) => Some(different(format!(
            "found {}, which is no whole number: it is as if it were not there",
            quoted(value)
        ))),
    }
}

/// What is said of an option that nothing there reads either.
const OF_NONE: &str = "it is of none of the backends: ignored, as there";

/// What is said where the original would not have done as it is told.
const FORMS: &str = "mosquitto-go-auth sends forms by POST and as Go-http-client/1.1 whatever it says, and so does this plugin; its \
                     fork, known here by options such as http_header_NAME, does as it says";
