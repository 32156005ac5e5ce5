//! `answer_rules`: what the API's answers say beside the status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

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

use support::{Broker, Client, Connect, MockApi, Reply, Request, Setup, Version, api, broker_asking};

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
    api.answer_with(move |request| if is_login(request) { Reply::json(&body) } else { Reply::status(403) });
}

fn is_login(request: &Request) -> bool {
    request.path == "/auth"
}

/// A list of rules that allow all of this.
fn allowing(topics: &[&str]) -> Value {
    json!({"acl": [{"permission": "allow", "action": "all", "topics": topics}]})
}

fn log_in(broker: &Broker, name: &str) -> Client {
    Connect::v5(name).login(name, "secret").accepted(broker.port())
}

/// Whether a client may publish to a topic.
fn may_publish(client: &mut Client, topic: &str) -> bool {
    client.publish_acknowledged(topic, "x") & 0x80 == 0
}

/// The seconds since 1970.
fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
