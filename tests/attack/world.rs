//! The API of the attack: its answers to each client, and how often it was asked about each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{MockApi, Reply, Request, api};

/// How long the API takes for an answer.
pub const LATENCY: Duration = Duration::from_millis(3);

/// The password of every account of the API; what has another is refused.
pub const RIGHT: &str = "right";

/// Names that the API never answers about start like this.
pub const SLOW: &str = "slow-";

/// The name of hostile clients that have an account.
pub const MALLORY: &str = "mallory";

/// The client whose account ends now and then.
pub const REVOCABLE: &str = "revocable";

const WRITE: u64 = 2;

/// What the API was asked, and what the run tells it.
#[derive(Default)]
pub struct World {
    /// Questions about honest clients, and about all others.
    pub honest: AtomicUsize,
    pub hostile: AtomicUsize,
    /// Whether the account of the revocable client has ended.
    pub is_revoked: AtomicBool,
}

impl World {
    /// An API that answers by it.
    pub fn api(self: &Arc<Self>) -> MockApi {
        let (api, world) = (api(""), Arc::clone(self));
        api.stop_recording();
        api.answer_with(move |request| world.answer(request));
        api
    }

    pub fn asked(&self) -> (usize, usize) {
        (self.honest.load(Ordering::Relaxed), self.hostile.load(Ordering::Relaxed))
    }

    fn answer(&self, request: &Request) -> Reply {
        let (name, topic) = (request.field("username"), request.field("topic"));
        let is_honest = name.starts_with("honest-") || name == "fleet";
        if is_honest { &self.honest } else { &self.hostile }.fetch_add(1, Ordering::Relaxed);
        if name.starts_with(SLOW) {
            return Reply::Hang;
        }
        let allowed = match request.path.as_str() {
            "/auth" if name == REVOCABLE && self.is_revoked.load(Ordering::Relaxed) => false,
            "/auth" => request.field("password") == RIGHT,
            // What belongs to all can be read by all, and written by nobody.
            _ if topic.starts_with("common/") => request.acc() != WRITE,
            _ => topic.split('/').next() == Some(name),
        };
        Reply::status(if allowed { 200 } else { 403 }).after(LATENCY)
    }
}
