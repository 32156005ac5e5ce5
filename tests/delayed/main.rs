//! Mosquitto 2.1: clients wait beside the broker's loop; an answer wakes the loop, and admits the client that it is
//! about.

use std::time::Duration;

mod early;
mod hanging_up;
mod late_answers;
mod letting_in;
mod mode;
#[path = "../support/mod.rs"]
mod support;
mod waiting;
mod waking;

use support::{Broker, MockApi, Setup, Version};

const RULES: &str = "user alice secret\nallow all #\nuser bob secret\nallow all #\n";

/// An API that is slow, but well within its time.
const SLOW: Duration = Duration::from_secs(1);

/// The loop of an idle broker comes round by itself as often as this.
const TICK: Duration = Duration::from_millis(100);

/// A 2.1 that asks this API about logins only.
fn broker(api: &MockApi) -> Setup {
    Broker::with(Version::V2_1).option("auth_url", api.auth_url())
}
