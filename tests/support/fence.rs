//! Fences show that something does not happen. A fence is an event that comes later than the unwanted one would. Once
//! the fence has come, the unwanted event cannot come any more, however busy the machine is.
//!
//! The plugin asks in the order in which questions come up, and acts on answers in the order in which they arrive. So a
//! later question, or a later login, is a fence for all questions before it. (Only questions that wait in the queue,
//! while as many are on their way as `max_requests` allows, are overtaken by one that the broker waits for.) The answer
//! to a ping is a fence for what the broker does by itself.
//!
//! A fence does not show that something has happened: a question on a new connection may take longer than the fence's
//! on an old one. A test waits for wanted events before it puts up a fence.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Client, Connect, Message, MockApi, PATIENCE, Request};

/// The prefix of the fences' topics, which no test uses and no wildcard matches.
const TOPICS: &str = "$fence/";

/// The prefix of the fences' usernames, which no test uses.
const USERNAMES: &str = "fence-";

fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn is_of_a_fence(request: &Request) -> bool {
    request.field("topic").starts_with(TOPICS) || request.field("username").starts_with(USERNAMES)
}

/// A fence of topic questions about `client`, which the API must decide about. Afterwards every earlier question has
/// reached the API, and its answer the plugin. The API forgets the fence's own questions.
pub fn later_questions(client: &mut Client, api: &MockApi) {
    // The first question may overtake another one, on a connection of its own. The second goes out when all are
    // answered.
    for _ in 0..2 {
        let topic = format!("{TOPICS}{}", next());
        client.publish_acknowledged(&topic, "x");
        let is_it = |request: &Request| request.field("topic") == topic;
        assert!(api.requests().iter().any(is_it), "the API is not asked about the fence");
        api.wait_until_answered(PATIENCE);
    }
    api.forget(is_of_a_fence);
}

/// A fence of logins about which the API is asked, whatever it answers. Afterwards every earlier question has reached
/// the API, and the plugin has acted on its answer. The API forgets the fence's own questions.
pub fn later_logins(port: u16, api: &MockApi) {
    for _ in 0..2 {
        api.wait_until_answered(PATIENCE);
        let login = Connect::v5("fence").login(format!("{USERNAMES}{}", next()), "secret");
        // The plugin acts on answers when the broker's loop comes round, so a ping follows.
        if let Ok(mut client) = login.attempt(port) {
            client.ping();
            // Gone for sure, or a reload would ask about it, too.
            client.disconnect();
        }
    }
    api.wait_until_answered(PATIENCE);
    api.forget(is_of_a_fence);
}

/// The messages that the broker has sent to a client until now: they arrive before the answer to a ping.
pub fn received(client: &mut Client) -> Vec<Message> {
    client.ping();
    std::iter::from_fn(|| client.receive(Duration::ZERO)).collect()
}

/// The topics of the messages that come to a client, until there are so many or no more come.
pub fn topics_received(client: &mut Client, count: usize) -> BTreeSet<String> {
    let mut topics = BTreeSet::new();
    while topics.len() < count
        && let Some(message) = client.receive(PATIENCE)
    {
        topics.insert(message.topic);
    }
    topics.extend(received(client).into_iter().map(|message| message.topic));
    topics
}
