//! An API that is slow, wrong or gone: the delay of other clients, the clients that are admitted meanwhile, and the
//! load on the API when it comes back.
//!
//! Times are compared with multiples of `timeout`, the budget of a question, since test machines are busy.

use std::time::Duration;

mod breaker;
mod fail_over;
mod kept;
mod lifetime;
mod names;
mod recovery;
mod stale;
#[path = "../support/mod.rs"]
mod support;
mod wait_budget;

use support::scene::PASSWD_2_1;
use support::{Broker, Connect, MockApi, Request, Setup, Version, side_by_side, timed};

/// The most that one question may cost. Long beside the hiccups of a busy machine.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The same where many are waited for in vain. A busy API answers within it all the same.
const SHORT_TIMEOUT: Duration = Duration::from_millis(400);

/// What nobody takes for waiting, beside a time-out.
const AT_ONCE: Duration = Duration::from_millis(800);

/// A question that took its whole time, and no other after it.
const ONE_TIMEOUT: Duration = Duration::from_millis(1900);

/// How the log says that an API is left alone, and that it is not any more.
const OPENED: &str = "It is left alone now";
const CLOSED: &str = "answers again";

/// A local user whom no API can harm.
const LOCAL_USER: &str = "sha512";

/// Runs a test on the broker that waits for logins itself and on the one that lets clients wait, side by side.
fn on_both(test: impl Fn(Version) + Sync) {
    side_by_side([Version::V2_0_11, Version::V2_1], test);
}

/// A broker with a local user whom no API can harm.
///
/// A client that publishes without an answer hears of it and stays, so that a test can go on with it.
fn broker_with_budget(version: Version, timeout: Duration) -> Setup {
    bare_broker(version, timeout).option("acl_no_answer", "deny")
}

fn bare_broker(version: Version, timeout: Duration) -> Setup {
    Broker::with(version)
        .option("timeout", format!("{}ms", timeout.as_millis()))
        .file("passwords", PASSWD_2_1)
        .option("password_file", "passwords")
}

fn broker(version: Version) -> Setup {
    broker_with_budget(version, TIMEOUT)
}

/// The same, asking this API about logins.
fn broker_for_logins(version: Version, api: &MockApi) -> Setup {
    broker(version).option("auth_url", api.auth_url())
}

fn login(name: impl AsRef<str>) -> Connect {
    Connect::v5(format!("client-{}", name.as_ref())).login(name.as_ref(), "secret")
}

/// Whether a login is granted; however it is answered, that takes no time.
fn is_let_in_at_once(broker: &Broker, connect: &Connect) -> bool {
    let (outcome, waited) = timed(|| connect.attempt(broker.port()).is_ok());
    assert!(waited < AT_ONCE, "{waited:?} for {connect:?}");
    outcome
}

fn count(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

/// Makes the plugin leave an API alone that is out of order now.
fn exhaust(broker: &Broker) {
    for number in 0.. {
        assert!(number < 20, "the API is not left alone");
        login(format!("exhausting-{number}")).unanswered(broker.port());
        if broker.log().contains(OPENED) {
            return;
        }
    }
}

fn number_in(request: &Request) -> usize {
    let name = request.field("username");
    name.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}
