//! A fleet of devices that all come back at once, as after an outage: each connects, subscribes twice and publishes.

use std::time::Duration;

use crate::api::Api;
use crate::chart::{Chart, Scale};
use crate::load::{CONNACK, Rush, ms, publish, suback, subscribe};
use crate::support::Broker;
use crate::support::broker::Setup;
use crate::table::{NULL, Table};
use crate::{Bench, release};

const LATENCY: Duration = Duration::from_millis(20);
const SLOW: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(120);

const FIRST_TIME: &str = "first time";
const WITHOUT: &str = "without `acl_prefetch`";
const WITH: &str = "with `acl_prefetch`";

pub static CHART: Chart = Chart {
    name: "fleet",
    title: "Devices connect, subscribe twice and publish, API 20 ms (milliseconds, logarithmic)",
    scale: Scale::Logarithmic,
    columns: &[(0, "until all are done"), (1, "longest stall of another client")],
    groups: "",
    subjects: &[
        (NULL, "a plugin that allows everything"),
        (WITHOUT, "ours, without acl_prefetch"),
        (WITH, "ours, with acl_prefetch"),
    ],
};

pub fn reconnects(bench: &Bench) -> Table {
    let devices = if bench.quick { 300 } else { 1_000 };
    let mut table = Table::new(
        "A fleet comes back",
        format!(
            "{devices} devices have their TCP connections when the clock starts. All connect at once; as soon as a \
             device is let in it subscribes to two filters and publishes a message (QoS 1). The API takes 20 ms and \
             `max_requests` is 64. *Again*: the same devices, while all verdicts are remembered (for 5 minutes). \
             What takes longer than {SLOW:?} is measured in the first round alone."
        ),
        &["all done, ms", "longest stall, ms", "99 % of pings, ms"],
        &["questions"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let api = Api::start();
            let ours = bench.ours(version, &api).option("auth_cache_ttl", "5m").option("acl_cache_ttl", "5m");
            let subjects =
                [(NULL, bench.null(version)), (WITHOUT, ours.clone()), (WITH, with_prefetch(ours))];
            for (name, setup) in subjects {
                let group = |occasion| format!("{}, {occasion}", release(version));
                let before = table.spread(&group(FIRST_TIME), name, 0);
                if before.is_some_and(|took| took.median > ms(SLOW)) {
                    continue;
                }
                api.answer_after(Duration::ZERO);
                let broker = setup.start();
                for occasion in [FIRST_TIME, "again"] {
                    table.add(&group(occasion), name, &come(&broker, &api, devices));
                }
            }
        }
    }
    table
}

fn with_prefetch(setup: Setup) -> Setup {
    ["subscribe commands/%c/#", "subscribe settings/%c", "write telemetry/%c"]
        .iter()
        .fold(setup, |setup, question| setup.option("acl_prefetch", question))
}

/// What a device sends as soon as it comes: two subscriptions and a message.
pub fn wants(number: usize) -> Vec<u8> {
    let id = format!("client-{number}");
    [
        subscribe(&format!("commands/{id}/#"), 0, 1),
        subscribe(&format!("settings/{id}"), 0, 2),
        publish(&format!("telemetry/{id}"), b"21.5", Some(3)),
    ]
    .concat()
}

/// What the broker answers to the CONNECT and to all that a device [`wants`].
pub fn answers_to_wants() -> Vec<u8> {
    [&CONNACK[..], &suback(0, 1), &suback(0, 2), &[0x40, 2, 0, 3]].concat()
}

/// All devices come at once: how long it takes, the longest stall and most of them, and the questions.
pub fn come(broker: &Broker, api: &Api, devices: usize) -> [f64; 4] {
    api.answer_after(LATENCY);
    let rush = Rush::of(broker, api, devices, |fleet| {
        fleet.log_in_and_send((0..devices).map(wants).collect(), &answers_to_wants(), LIMIT)
    });
    [ms(rush.took), rush.stalls.longest_ms(), rush.stalls.p99_ms(), rush.questions as f64]
}
