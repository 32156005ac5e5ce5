//! Which questions may be asked early: only those that would be asked if the broker came to them now.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Api;
use crate::broker::Connection;
use crate::config::NoMatch;
use crate::fingerprint::{Fingerprint, Source};
use crate::plugin::sessions::{Granted, RulesSay};
use crate::plugin::settings::Settings;
use crate::plugin::throttle::Try;
use crate::prefetch::peek::Identity;
use crate::prefetch::{Gate, Scope};
use crate::question::Access;
use crate::topic::Wanted;

/// What the plugin has to say about that, by the settings of an event.
pub struct SettingsGate<'a> {
    pub(super) api: &'a Api,
    pub(super) settings: &'a Settings,
    pub(super) now: Instant,
    pub(super) guesses_logins: bool,
    /// What a client is granted that is not let in yet: it is the one whose topics are asked.
    pub(super) newcomer: Option<&'a Granted>,
}

impl<'a> SettingsGate<'a> {
    /// The gate for the topics of a client that is about to be let in, with what it is granted then.
    pub fn before(self, newcomer: Option<&'a Granted>) -> Self {
        Self { newcomer, ..self }
    }

    /// What asking early goes by that is done for this source.
    pub fn scope<'s>(&'s self, source: &'s dyn Fn() -> Source, now: Instant) -> Scope<'s> {
        Scope { config: &self.settings.config, gate: self, source, now }
    }
}

impl Gate for SettingsGate<'_> {
    fn guesses_logins(&self) -> bool {
        self.guesses_logins
    }

    /// The peer may be a proxy, so the throttle also goes by the strictest count for this username from any address.
    fn asks_login(&self, peer: Option<IpAddr>, username: &str, question: Fingerprint) -> bool {
        let address = peer.map(|peer| peer.to_string());
        let address = address.as_deref();
        let attempt = Try { address, username, client_id: "", credentials: question, is_shared: true };
        let (throttle, limits) = (&self.api.throttle, &self.settings.config.throttle);
        self.settings.users.get(username).is_none() && throttle.admit_speculative(&attempt, limits, self.now)
    }

    fn asks_topics(&self, username: &str, client_id: &str) -> bool {
        self.settings.users.get(username).is_none()
            // What is asked ahead has no further fields, so its answer would serve nobody.
            && self.settings.config.acl_fields.is_empty()
            && !self.settings.is_wildcard_in_disguise(username, client_id)
    }

    fn is_decided(&self, username: &str, client_id: &str, access: Access, topic: &str) -> bool {
        let config = &*self.settings.config;
        if !config.answer_rules {
            return false;
        }
        let wanted = Wanted { access, topic, qos: None, retain: None };
        let says = match self.newcomer {
            Some(granted) => Some(granted.says(&wanted, self.now)),
            None => self.api.sessions.would_say(client_id, username, &wanted, self.now),
        };
        says.is_some_and(|says| says != RulesSay::Nothing || config.acl_no_match != NoMatch::Ask)
    }

    fn client_of(&self, connection: Connection) -> Option<Arc<Identity>> {
        self.api.sessions.client_of(connection)
    }

    fn is_connected(&self, identity: &Identity) -> bool {
        let Identity { client_id, username, credentials, .. } = identity;
        self.api.sessions.is_connected_with(client_id, username, *credentials)
    }
}
