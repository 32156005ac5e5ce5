//! How they ask and what they take for a yes, and their headers.

use std::env;

use reqwest::Method;

use super::super::dialect::{Dialect, Pattern, Words, Yes};
use super::{Reading, Theirs};
use crate::log::quoted;
use crate::util::percent::push_encoded;

/// What mosquitto-go-auth is called where nobody says otherwise: by the version of Mosquitto that it was built for.
const GO_AUTH_AGENT: &str = "mosquitto-2.0.22";

/// What its forms come from: the HTTP client of Go.
const GO_AGENT: &str = "Go-http-client/1.1";

/// The most parameters from the environment.
const PARAMS: usize = 20;

/// What is said of client ids in the forms of mosquitto-auth-plug.
const CLIENT_IDS: &str = "Client ids with blanks, & + % ; = # or other letters than those of ASCII are percent-encoded, which \
                          mosquitto-auth-plug did not do: no client can pass for another one, or write fields of its own.";

impl Reading<'_> {
    pub(super) fn speech(&mut self) {
        match self.moved.theirs {
            Theirs::GoAuth => self.speech_of_go_auth(),
            Theirs::AuthPlug => self.speech_of_auth_plug(),
        }
    }

    fn speech_of_go_auth(&mut self) {
        let is_form = self.value("http_params_mode") == Some("form");
        let method = match self.value("http_method") {
            Some("GET") => Method::GET,
            Some("PUT") => Method::PUT,
            _ => Method::POST,
        };
        if is_form && method == Method::GET {
            self.error(
                "http_method",
                "found GET beside http_params_mode form, where every question failed; expected POST",
            );
        }
        // One that is set as a header wins.
        let names_agent =
            self.options.iter().any(|(name, _)| name.eq_ignore_ascii_case("http_header_user-agent"));
        let agent = match self.value("http_user_agent") {
            _ if self.sends_forms_of_go() => GO_AGENT,
            Some(agent) => agent,
            None => GO_AUTH_AGENT,
        };
        for (name, value) in self.options {
            let Some(header) = name.strip_prefix("http_header_") else { continue };
            // They set it, but their client sends the host's name all the same.
            if !header.is_empty() && !value.is_empty() && !header.eq_ignore_ascii_case("host") {
                self.set("header", format!("{header}: {value}"), name);
            }
        }
        if !names_agent {
            self.set("header", format!("User-Agent: {agent}"), "http_user_agent");
        }
        self.set("auth_fields", "clientid", "");
        let client_id_is_username = self.is_true_among_blanks("use_clientid_as_username");
        let method = if self.sends_forms_of_go() { Method::POST } else { method };
        let yes = match self.value("http_response_mode") {
            Some("text") => Yes::Text,
            Some("json") => Yes::Json,
            _ => Yes::Status,
        };
        let words = if is_form { Words::GoForm } else { Words::GoJson };
        let dialect = std::mem::take(&mut self.moved.dialect);
        self.moved.dialect = Dialect { words, method, yes, client_id_is_username, ..dialect };
    }

    /// Whether forms go as the original sends them, by POST and in the name of Go's client whatever the options say. The
    /// fork, known by the options that it alone has, does as they say.
    pub(super) fn sends_forms_of_go(&self) -> bool {
        let is_of_fork = |name: &str| super::find(name).is_some_and(|row| row.of == "fork");
        self.value("http_params_mode") == Some("form")
            && !self.options.iter().any(|(name, _)| is_of_fork(name))
    }

    fn speech_of_auth_plug(&mut self) {
        if let Some(host) = self.value("http_hostname") {
            self.set("header", format!("Host: {host}"), "http_hostname");
        }
        if let Some(key) = self.value("http_basic_auth_key") {
            self.set("header", format!("Authorization: Basic {key}"), "http_basic_auth_key");
        }
        let in_front = ["http_getuser_params", "http_superuser_params", "http_aclcheck_params"]
            .map(|name| self.params(name));
        let superusers = match self.value("superusers").map(|text| (text, Pattern::parse(text))) {
            Some((text, None)) => {
                let what = format!("found {}, expected a pattern with no more than * and ?", quoted(text));
                self.error("superusers", &what);
                None
            }
            Some((_, pattern)) => pattern,
            None => None,
        };
        let sends_credentials = self.value("http_basic_auth_key").is_none();
        let dialect = &mut self.moved.dialect;
        (dialect.words, dialect.yes) = (Words::PlugForm, Yes::Status);
        (dialect.in_front, dialect.superusers, dialect.sends_credentials) =
            (in_front, superusers, sends_credentials);
        self.note(CLIENT_IDS);
    }

    /// Fields from the environment, by `NAME=VARIABLE,NAME=VARIABLE`.
    fn params(&mut self, option: &str) -> String {
        let mut form = String::new();
        let Some(list) = self.value(option) else { return form };
        for param in list.split(',').filter(|param| !param.is_empty()).take(PARAMS) {
            let mut words = param.split('=').filter(|word| !word.is_empty());
            let (Some(name), Some(variable)) = (words.next(), words.next()) else {
                self.error(option, &format!("found {}, expected NAME=VARIABLE", quoted(param)));
                continue;
            };
            let value = env::var_os(variable).map(|value| value.to_string_lossy().into_owned());
            if value.is_none() {
                self.note(format!(
                    "plugin_opt_{option}: there is no {} in the broker's environment, so NULL is sent in its place, as they did.",
                    quoted(variable)
                ));
            }
            push_encoded(&mut form, name, "%20");
            form.push('=');
            push_encoded(&mut form, value.as_deref().unwrap_or("NULL"), "%20");
            form.push('&');
        }
        form
    }
}
