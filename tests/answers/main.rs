//! `answer_rules`: what the API's answers say beside the status.

use serde_json::{Value, json};

mod bodies;
mod combined;
mod ending;
mod hostile;
mod malformed;
mod rules;
mod widening;

#[path = "../support/mod.rs"]
mod support;

use support::{Client, MockApi, Reply, Request, Setup, Version, api, broker_asking, log_in};

const READ: u64 = 1;
const WRITE: u64 = 2;

/// A broker that reads what answers say.
fn reading(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api).option("answer_rules", true)
}

/// An API that gives this answer to every login, and denies every topic that it is asked about.
fn saying(body: Value) -> MockApi {
    let api = api("");
    says(&api, body);
    api
}

/// From now on it gives this answer.
fn says(api: &MockApi, body: Value) {
    says_to(api, move |_| body.clone(), 403);
}

/// An API that answers a login by its username, and every question about a topic with this status.
fn saying_to(body: impl Fn(&str) -> Value + Send + Sync + 'static, topics: u16) -> MockApi {
    let api = api("");
    says_to(&api, body, topics);
    api
}

fn says_to(api: &MockApi, body: impl Fn(&str) -> Value + Send + Sync + 'static, topics: u16) {
    api.answer_with(move |request| match is_login(request) {
        true => Reply::json(&body(request.field("username"))),
        false => Reply::status(topics),
    });
}

fn is_login(request: &Request) -> bool {
    request.path == "/auth"
}

/// A list of rules that allow all of this.
fn allowing(topics: &[&str]) -> Value {
    json!({"acl": [{"permission": "allow", "action": "all", "topics": topics}]})
}

/// Whether a client may publish to a topic.
fn may_publish(client: &mut Client, topic: &str) -> bool {
    client.publish_acknowledged(topic, "x") & 0x80 == 0
}

/// The seconds since 1970.
fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
