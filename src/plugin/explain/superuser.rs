//! Explains the question whether a user may do everything, which APIs of other plugins are asked before one about a topic.

use std::time::Instant;

use super::{Steps, seconds};
use crate::ask::Beforehand;
use crate::cache::Remembered;
use crate::fingerprint::Source;
use crate::plugin::decision::{By, Decision};
use crate::plugin::steering::Steering;
use crate::question::{Grounds, Question, Verdict};

impl Steering {
    /// What is known of the user, if that decides, and from when.
    pub(super) fn by_superuser(
        &self,
        topic: &Question<'_>,
        source: Source,
        steps: &Steps,
        now: Instant,
    ) -> Option<(Decision, Option<Remembered>)> {
        let (known, is_in_vain) = self.asker.superuser(topic, source, now)?;
        let (found, decided) = match known {
            Beforehand::Named => {
                let by = By::Api { grounds: Grounds::NamedSuperuser };
                ("its username is one of plugin_opt_superusers".to_owned(), Some((Decision::allow(by), None)))
            }
            Beforehand::NotAsked => ("its username is none of plugin_opt_superusers".to_owned(), None),
            Beforehand::Remembered(look) => {
                let is_one = look.verdict == Verdict::Allow;
                let found = format!(
                    "the API answered {} {} s ago: it is {}; that holds for another {} s",
                    look.grounds,
                    seconds(look.age),
                    if is_one { "one" } else { "none" },
                    seconds(look.holds)
                );
                let by = By::Api { grounds: look.grounds };
                (found, is_one.then(|| (Decision::allow(by), Some(look))))
            }
            Beforehand::ToBeAsked if is_in_vain => {
                let found =
                    "its URL is left alone for now, so that a no about the topic would count as no answer";
                (found.to_owned(), None)
            }
            Beforehand::ToBeAsked => ("the API would be asked whether it is one, first".to_owned(), None),
        };
        steps.note("superuser", found);
        decided
    }
}
