//! Rules in answers: a fleet whose logins bring theirs, a dashboard whose subscription does, and what they take.

use std::time::Duration;

use mosquitto_http_auth::internals::{Action, Grants, GrantsPool, Names, Permission, QosSet, RawRule};

use crate::ahead::dashboard;
use crate::api::Api;
use crate::fleet;
use crate::load::{Rush, ms};
use crate::support::allocator;
use crate::table::Table;
use crate::{Bench, release};

const LATENCY: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(120);
const SESSIONS: usize = 100_000;

/// What the login of a device of the fleet says.
const OF_DEVICE: &str = r#"{"acl": [
    {"permission": "allow", "action": "publish", "topic": "telemetry/${clientid}"},
    {"permission": "allow", "action": "subscribe", "topics": ["commands/${clientid}/#", "settings/${clientid}"]}
]}"#;

/// What the answer about a dashboard's filter says.
const OF_FILTER: &str = r#"{"acl": [{"permission": "allow", "action": "all", "topic": "news/#"}]}"#;

/// Not measured.
const NONE: f64 = f64::NAN;

/// Measures what `answer_rules` is for.
pub fn rules(bench: &Bench) -> Table {
    let devices = if bench.quick { 300 } else { 1_000 };
    let messages = if bench.quick { 1_000 } else { 10_000 };
    let mut table = Table::new(
        "Rules in answers",
        format!(
            "The API takes {LATENCY:?}. *Logins alone*: {devices} devices log in at once, and do no more. *With rules*: each \
             subscribes twice and publishes (QoS 1) as soon as it is let in, by the rules that came with its login. *A \
             dashboard* subscribes to {messages} retained messages: the answer about its filter says that all below may be \
             read. *Sessions*: the rules of {SESSIONS} sessions, in bytes for each."
        ),
        &["all done, ms", "longest stall, ms"],
        &["questions", "bytes a session"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let release = release(version);
            let api = Api::saying(OF_DEVICE);
            let setup = bench.ours(version, &api).option("answer_rules", true);
            api.answer_after(LATENCY);
            let broker = setup.start();
            let rush = Rush::of(&broker, &api, devices, |fleet| fleet.log_in(devices, LIMIT));
            let alone = [ms(rush.took), rush.stalls.longest_ms(), rush.questions as f64, NONE];
            table.add(&format!("{release}, {devices} devices"), "logins alone", &alone);
            drop(broker);
            let [took, stall, _, questions] = fleet::come(&setup.start(), &api, devices);
            let with = [took, stall, questions, NONE];
            table.add(&format!("{release}, {devices} devices"), "with rules", &with);

            let (logins, topics) = (Api::start(), Api::saying(OF_FILTER));
            let setup = bench.asking(version, &logins.url("auth")).option("acl_url", topics.url("acl"));
            let setup = setup.option("answer_rules", true);
            let [took, stall, questions, _] = dashboard(&setup, &topics, messages, LATENCY, || ());
            table.add(
                &format!("{release}, {messages} retained"),
                "a dashboard",
                &[took, stall, questions, NONE],
            );
        }
    }
    for (name, topic) in [("all the same", "sites/berlin/+"), ("each its own", "devices/${clientid}/#")] {
        table.add(
            &format!("{SESSIONS} sessions, 5 rules"),
            name,
            &[NONE, NONE, NONE, bytes_a_session(topic)],
        );
    }
    table
}

fn bytes_a_session(topic: &str) -> f64 {
    let topics = ["commands/+/set", "state/#", "news", "sites/+/alarms", topic];
    let rule = |topic| RawRule {
        permission: Permission::Allow,
        action: Action::All,
        topics: vec![topic],
        qos: QosSet::ALL,
        retain: None,
    };
    let rules: Vec<_> = topics.into_iter().map(rule).collect();
    let pool = GrantsPool::new(usize::MAX);
    let before = allocator::bytes_in_use();
    let grants = |number| {
        let client_id = format!("client-{number}");
        let names = Names { username: "device", client_id: &client_id, attrs: &[] };
        pool.share(Grants::compile(&rules, &names).unwrap(), "u").unwrap()
    };
    let held: Vec<_> = (0..SESSIONS).map(grants).collect();
    let bytes = allocator::bytes_in_use() - before;
    assert_eq!(held.len(), SESSIONS);
    bytes as f64 / SESSIONS as f64
}
