//! Fences: something that has to come later than what must not come. Where it has come and the other has not, the other
//! does not come any more, however busy the machine is.
//!
//! The plugin asks in the order in which questions come up, and what answers mean for the broker is done in the order
//! in which they arrive. So a later question, or a later login, is a fence for all before it. (Only questions that wait
//! for their turn, with as many on their way as `max_requests` allows, are overtaken by one that the broker waits for.) An
//! answer to a ping is a fence for what the broker does by itself.
//!
//! A fence is for what must not come. What must come is waited for in front of it: a question on a new connection may take
//! longer than the fence's on an old one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Client, Connect, Message, MockApi, PATIENCE, Request};

/// The start of topics that nobody else uses and no wildcard matches.
const TOPICS: &str = "$fence/";

/// The start of usernames that nobody else has.
const USERNAMES: &str = "fence-";

fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn is_of_a_fence(request: &Request) -> bool {
    request.field("topic").starts_with(TOPICS) || request.field("username").starts_with(USERNAMES)
}

/// Has the broker ask about topics of this client, whom the API decides about. Then every question that came up before has
/// reached the API, and its answer the plugin. The API does not remember those of the fence.
pub fn later_questions(client: &mut Client, api: &MockApi) {
    // The first question may overtake another on its way to the API, on a connection of its own. The second goes out
    // when all of them are answered.
    for _ in 0..2 {
        let topic = format!("{TOPICS}{}", next());
        client.publish_acknowledged(&topic, "x");
        let is_it = |request: &Request| request.field("topic") == topic;
        assert!(api.requests().iter().any(is_it), "the API is not asked about the fence");
        api.wait_until_answered(PATIENCE);
    }
    api.forget(is_of_a_fence);
}

/// Somebody else comes, with a name that the API is asked about, and is let in or not. Then every question that came up
/// before has reached the API, the plugin has its answer, and has done what follows from it.
pub fn later_logins(port: u16, api: &MockApi) {
    for _ in 0..2 {
        api.wait_until_answered(PATIENCE);
        let login = Connect::v5("fence").login(format!("{USERNAMES}{}", next()), "secret");
        // What follows from answers the plugin does when the broker's loop comes round.
        let _ = login.attempt(port).map(|mut client| client.ping());
    }
    api.wait_until_answered(PATIENCE);
    api.forget(is_of_a_fence);
}

/// What has come to a client until now: what the broker has sent before the answer to a ping has arrived before it.
pub fn received(client: &mut Client) -> Vec<Message> {
    client.ping();
    std::iter::from_fn(|| client.receive(Duration::ZERO)).collect()
}
