//! The part of a topic check's decision for which nobody is asked. Checks and explanations share it.

use std::sync::Arc;

use super::CONTROL_TOPIC;
use super::attempt::NO_USERNAME;
use super::decision::{By, Decision};
use super::sessions::RulesSay;
use super::settings::Settings;
use crate::config::{Config, NoMatch};
use crate::local::PasswordHash;
use crate::question::{Access, Verdict};
use crate::topic::Wanted;

/// What is to be decided.
#[derive(Clone, Copy)]
pub struct TopicRequest<'a> {
    /// The username; `None` for a client without one.
    pub username: Option<&'a str>,
    /// The client id.
    pub client_id: &'a str,
    /// The topic or filter.
    pub topic: &'a str,
    /// What the client wants to do with it.
    pub access: Access,
    /// The quality of service of the message or the subscription, if it is known.
    pub qos: Option<u8>,
    /// The retain flag of the message, if it is known.
    pub retain: Option<bool>,
}

impl<'a> TopicRequest<'a> {
    /// What is to be decided, as rules look at it.
    pub fn wanted(&self) -> Wanted<'a> {
        let Self { access, topic, qos, retain, .. } = *self;
        Wanted { access, topic, qos, retain }
    }

    /// Whether it gives commands to the broker or to another of its plugins, such as dynamic-security. A rule or the API may
    /// allow that, and no option that lets everything pass. (Those to this plugin come before [`super::Plugin::may_control`].)
    fn is_command(&self) -> bool {
        self.access == Access::Write && self.topic.starts_with("$CONTROL/") && self.topic != CONTROL_TOPIC
    }
}

/// What is so about the client.
pub trait Facts {
    /// Whether the password of a client without a username was asked about (`username_missing ask`).
    fn is_let_in_without_username(&self) -> bool;

    /// Whether the client has the rights of the local user of this name, whose hash this is.
    fn has_local_rights(&self, username: &str, hash: &Arc<PasswordHash>) -> bool;

    /// What the rules of the session say that the API has let in under this name, if there is one (`answer_rules`).
    fn rules_say(&self, username: &str) -> Option<RulesSay>;

    /// Whether the client has subscribed, under this name, to a filter that covers the topic.
    fn has_subscribed(&self, username: &str) -> bool;

    /// A step was taken, with this outcome. For explanations.
    #[inline]
    fn note(&self, _step: &'static str, _found: impl FnOnce() -> String) {}
}

/// What comes of it.
pub enum Unasked<'a> {
    /// This.
    Decided(Decision),
    /// The API is not asked about such accesses of this username (`acl_checks`): they are allowed.
    Unchecked(&'a str),
    /// The API decides, about this username.
    ToBeAsked(&'a str),
}

/// Decides in the order of the lists in docs/deciding.md, as far as nobody has to be asked.
pub fn unasked<'a>(request: &TopicRequest<'a>, settings: &Settings, facts: &impl Facts) -> Unasked<'a> {
    let TopicRequest { username, client_id, topic, access, .. } = *request;
    let config = &*settings.config;
    // One without a username is anonymous, unless its password was asked about.
    let is_let_in = || config.asks_without_username && facts.is_let_in_without_username();
    let Some(username) = username.or_else(|| is_let_in().then_some(NO_USERNAME)) else {
        facts.note("anonymous", || "it has no username, so plugin_opt_anonymous decides".to_owned());
        let decision = Decision::of(config.anonymous, By::Option("anonymous"));
        return Unasked::Decided(unless_command(request, decision, facts));
    };
    if settings.is_wildcard_in_disguise(username, client_id) {
        facts.note("special characters", || "there is + or # in its username or client id".to_owned());
        return Unasked::Decided(Decision::deny(By::SpecialCharacters));
    }
    match settings.users.get(username) {
        Some(hash) if facts.has_local_rights(username, hash) => {
            let allows =
                settings.acl.as_ref().is_none_or(|acl| acl.allows(access, username, client_id, topic));
            facts.note("local user", || match (&settings.acl, allows) {
                (None, _) => "it is a local user, and there is no acl_file: it may do everything".to_owned(),
                (Some(_), true) => "it is a local user, and a rule of acl_file allows it".to_owned(),
                (Some(_), false) => "it is a local user, and no rule of acl_file allows it".to_owned(),
            });
            let decision = Decision::of(allows.into(), By::LocalRules);
            return Unasked::Decided(match settings.acl {
                Some(_) => decision,
                None => unless_command(request, decision, facts),
            });
        }
        Some(_) => facts.note("local user", || {
            "a local user has this name, but the session was not let in by its password".to_owned()
        }),
        None => facts.note("local user", || "no local user has this name".to_owned()),
    }
    if config.answer_rules
        && let Some(decision) = by_rules(request, facts.rules_say(username), config, facts)
    {
        return Unasked::Decided(decision);
    }
    if config.acl_urls.is_empty() {
        facts.note("API", || "there is no acl_url: the broker and other plugins decide".to_owned());
        return Unasked::Decided(Decision::defer(By::NotOurs));
    }
    // A READ that is not asked about is implied by a subscription of this very username. Nobody else's is: a client
    // that comes under another's id finds its subscriptions, and what is queued for them.
    let is_implied = || access != Access::Read || facts.has_subscribed(username);
    if !config.acl_checks.contains(&access) && !request.is_command() && is_implied() {
        facts.note("acl_checks", || "the API is not asked about such accesses".to_owned());
        return Unasked::Unchecked(username);
    }
    Unasked::ToBeAsked(username)
}

/// A decision by what lets everything pass, unless that would be a command: it is left to other plugins, and refused where there
/// are none.
fn unless_command(request: &TopicRequest<'_>, decision: Decision, facts: &impl Facts) -> Decision {
    if !request.is_command() || !decision.is_allow() {
        return decision;
    }
    facts.note("command", || "it is a command ($CONTROL/), which no option allows".to_owned());
    Decision::defer(By::NotOurs)
}

/// Decides by what came with the API's answers, as far as that decides.
fn by_rules(
    request: &TopicRequest<'_>,
    says: Option<RulesSay>,
    config: &Config,
    facts: &impl Facts,
) -> Option<Decision> {
    let (found, decision) = match says {
        None => ("none are known of such a session", None),
        Some(RulesSay::Superuser) => ("it is a superuser", Some(Decision::allow(By::Rules))),
        Some(RulesSay::Rule(true)) => ("a rule allows it", Some(Decision::allow(By::Rules))),
        Some(RulesSay::Rule(false)) => ("a rule denies it", Some(Decision::deny(By::Rules))),
        Some(RulesSay::Expired) => ("the session's time is over", Some(Decision::deny(By::Expired))),
        Some(RulesSay::Nothing) => {
            let decision = match config.acl_no_match {
                NoMatch::Allow if !request.is_command() => {
                    Some(Decision::of(Verdict::Allow, By::Option("acl_no_match")))
                }
                NoMatch::Deny => Some(Decision::of(Verdict::Deny, By::Option("acl_no_match"))),
                NoMatch::Ask | NoMatch::Allow => {
                    config.acl_urls.is_empty().then(|| Decision::deny(By::NoRule))
                }
            };
            ("no rule is about it, so plugin_opt_acl_no_match decides", decision)
        }
    };
    facts.note("rules", || found.to_owned());
    decision
}
