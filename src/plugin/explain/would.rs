//! What would be decided, in the words of answers.

use super::Would;
use crate::plugin::decision::{By, Decision, Ruling};

impl Would {
    /// Its name in answers.
    pub fn name(&self) -> &'static str {
        match self {
            Would::Ask(_) => "ask",
            Would::Unknown(_) => "unknown",
            Would::Decide(decision) => match decision.ruling {
                Ruling::Allow => "allow",
                Ruling::Defer => "defer",
                Ruling::Deny | Ruling::Later | Ruling::Disconnect | Ruling::Unavailable => "deny",
            },
        }
    }

    /// Why, in words.
    pub fn why(&self) -> String {
        match self {
            Would::Ask(why) | Would::Unknown(why) => (*why).to_owned(),
            Would::Decide(Decision { ruling: Ruling::Allow, by: By::LocalPassword, .. }) => {
                "right password for a local user".to_owned()
            }
            Would::Decide(Decision { ruling: Ruling::Allow, by: By::LocalRules, .. }) => {
                "the local user's topic rules allow it".to_owned()
            }
            Would::Decide(decision) => decision.by.to_string(),
        }
    }

    /// By what, in the words of metrics.
    pub fn source(&self) -> &'static str {
        match self {
            Would::Decide(decision) => decision.by.source().name(),
            Would::Ask(_) => "api",
            Would::Unknown(_) => "unasked",
        }
    }
}
