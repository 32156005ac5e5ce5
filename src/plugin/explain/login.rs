//! Explains decisions about logins: the same steps as for real, without doing anything.

use std::ops::ControlFlow;
use std::time::Instant;

use super::{Explain, Steps, Would, by_memory, seconds};
use crate::broker::Client;
use crate::cache::Remembered;
use crate::plugin::attempt::{Attempt, LoginSteps, decide};
use crate::plugin::decision::{By, Decision};
use crate::plugin::event::Login;
use crate::plugin::settings::Settings;
use crate::plugin::steering::Steering;

/// A login that is explained.
struct ExplainedLogin<'a> {
    steering: &'a Steering,
    explain: &'a Explain,
    settings: &'a Settings,
    steps: &'a Steps,
    now: Instant,
}

impl LoginSteps for ExplainedLogin<'_> {
    type Outcome = (Would, Option<Remembered>);
    type Try = ();

    fn unasked(&self, decision: Decision) -> Self::Outcome {
        self.steps.note("options", decision.by.to_string());
        (Would::Decide(decision), None)
    }

    fn remembered(&self, attempt: &Attempt<'_>) -> Option<Self::Outcome> {
        let Self { steering, settings, steps, now, .. } = *self;
        if steering.logins.loses_what_it_left(attempt, settings, now) {
            steps.note(
                "what it left behind",
                "its topics cannot be asked about now: if it goes on with a session, it is turned away until they can, since \
                 messages that wait for it would be lost",
            );
        }
        attempt.password?;
        let look = steering.remembered(attempt.key, steps, now)?;
        let decides = !look.holds.is_zero() && !look.is_unused;
        decides.then(|| (Would::Decide(by_memory(&look)), Some(look)))
    }

    fn admit(&self, attempt: &Attempt<'_>) -> ControlFlow<Self::Outcome> {
        let Self { steering, settings, steps, now, .. } = *self;
        let Some(pause) = steering.logins.throttle_pause(attempt, &settings.config.throttle, now) else {
            steps.note("throttle", "not in a pause");
            return ControlFlow::Continue(());
        };
        steps.note("throttle", format!("too many wrong passwords; another {} s of pause", seconds(pause)));
        ControlFlow::Break((Would::Decide(Decision::deny(By::Throttle(pause))), None))
    }

    fn examine(&self, attempt: &Attempt<'_>, (): ()) -> Self::Outcome {
        let Self { steering, explain, steps, now, .. } = *self;
        match (&attempt.hash, attempt.password) {
            (Some(_), None) => (Would::Unknown("its password decides, which was not given"), None),
            (Some(hash), Some(password)) => {
                let matches = hash.verify(password);
                steps.note("password", if matches { "it fits its hash" } else { "it does not fit its hash" });
                (Would::Decide(Decision::of(matches.into(), By::LocalPassword)), None)
            }
            (None, None) => {
                steps.note("memory", "what is remembered goes by the password, which was not given");
                let (would, look) = steering.by_asking(None, false, explain, steps, now);
                let would = match would {
                    Would::Ask(_) => Would::Ask(
                        "unless an answer is remembered, which goes by the password that was not given",
                    ),
                    would => would,
                };
                (would, look)
            }
            (None, Some(_)) => steering.by_api(attempt.key, None, explain, steps, now),
        }
    }
}

impl Steering {
    pub(super) fn explain_login(
        &self,
        explain: &Explain,
        settings: &Settings,
        steps: &Steps,
        now: Instant,
    ) -> (Would, Option<Remembered>) {
        let Explain { username, password, client_id, address, .. } = explain;
        let login = Login {
            client: Client { connection: 0, id: client_id, address: address.as_deref() },
            username: (!username.is_empty()).then_some(&**username),
            password: password.as_deref().map(str::as_bytes),
            starts_clean: true,
            level: 0,
            details: &(),
        };
        let more = |fields: &[_]| self.more(("auth_fields", fields), explain, steps);
        let Some(attempt) = Attempt::new(&login, settings, &self.keys, more) else {
            steps.note(
                "anonymous",
                "it has no username and no password: the broker's allow_anonymous decides",
            );
            return (Would::Decide(Decision::defer(By::NotOurs)), None);
        };
        steps.note(
            "local user",
            if attempt.hash.is_some() { "a local user has this name" } else { "no local user has this name" },
        );
        decide(&attempt, settings, &ExplainedLogin { steering: self, explain, settings, steps, now })
    }
}
