//! A message to many subscribers: the plugin knows the subscribers, and asks about all of them at once.

use std::time::Duration;

mod floods;
mod forgetting;
mod listening;

#[path = "../support/mod.rs"]
mod support;

use support::{
    Broker, Client, Connect, Gate, MockApi, PASSWORD, PATIENCE, Reply, Request, Setup, Version, api,
    broker_asking, eventually, fence,
};

const LISTENERS: usize = 20;

/// Doubt about a listener grows once a second at most, counted from a little after the question that was in vain.
const UNTIL_THE_NEXT_DOUBT: Duration = Duration::from_millis(1200);

/// An API that holds its answers to READ questions until it is told to go on.
struct HeldReads {
    /// Opened before the API ends.
    gate: Gate,
    api: MockApi,
}

impl HeldReads {
    fn new() -> Self {
        let api = api("");
        Self { gate: Gate::holding(&api, |request| request.acc() == 1, by_name), api }
    }

    fn start(&self, version: Version, configure: impl FnOnce(Setup) -> Setup) -> Broker {
        configure(broker_asking(version, &self.api).option("timeout", "60s")).start()
    }

    fn go_on(&self) {
        self.gate.open();
    }

    /// Who is asked about a message, before and after the first of its readers has an answer: these, while it has
    /// none. Then all get one, and the broker goes on.
    fn asked_when_published<'a>(
        &self,
        publisher: &mut Client,
        topic: &str,
        at_once: impl AsRef<[&'a str]>,
    ) -> Vec<String> {
        self.api.forget_requests();
        let publish = publisher.publish_packet(topic.as_bytes(), b"x", 1, false);
        publisher.send(&publish);
        assert!(eventually(PATIENCE, || self.api.topic_checks().iter().any(|request| request.acc() == 2)));
        let is_asked = |name: &&str| reads(&self.api).iter().any(|asked| asked == name);
        let all = || at_once.as_ref().iter().all(is_asked);
        assert!(eventually(PATIENCE, all), "only {:?} are asked about", reads(&self.api));
        self.go_on();
        publisher.ping();
        fence::later_questions(publisher, &self.api);
        reads(&self.api)
    }

    /// The same where nobody else must be asked about, nor anybody twice.
    fn assert_asked_when_published<'a>(
        &self,
        publisher: &mut Client,
        topic: &str,
        expected: impl AsRef<[&'a str]>,
    ) {
        let asked = self.asked_when_published(publisher, topic, expected.as_ref());
        assert_eq!(asked, expected.as_ref());
    }
}

/// Users whose name starts with `no` may read nothing.
fn by_name(request: &Request) -> Reply {
    Reply::status(if request.acc() == 1 && request.field("username").starts_with("no") { 403 } else { 200 })
}

/// The client ids of the READ questions, sorted.
fn reads(api: &MockApi) -> Vec<String> {
    let reads = api.topic_checks().into_iter().filter(|request| request.acc() == 1);
    let mut ids: Vec<_> = reads.map(|request| request.field("clientid").to_owned()).collect();
    ids.sort();
    ids
}

fn log_in(broker: &Broker, name: &str) -> Client {
    Connect::v5(name).login(name, PASSWORD).accepted(broker.port())
}

fn listener(broker: &Broker, name: &str, filter: &str) -> Client {
    let mut client = log_in(broker, name);
    assert!(client.may_subscribe(filter));
    client
}

fn listeners(broker: &Broker, count: usize, filter: &str) -> Vec<Client> {
    (0..count).map(|n| listener(broker, &format!("c{n}"), filter)).collect()
}
