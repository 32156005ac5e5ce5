//! Many topics in one request (`acl_batch_url`), compared with one request for each.

use std::thread;
use std::time::Duration;

use crate::api::Api;
use crate::support::Version;
use crate::support::broker::Setup;
use crate::table::{NULL, Table};
use crate::{Bench, ahead, release, topics};

const SUBSCRIBERS: usize = 200;
const MESSAGES: usize = 10_000;
/// How long verdicts live in a fan-out.
const VERDICTS: Duration = Duration::from_secs(1);

const ALONE: &str = "one by one";
const TOGETHER: &str = "together";

/// Measures what goes together most.
pub fn batches(bench: &Bench) -> Table {
    let devices = if bench.quick { 300 } else { 1_000 };
    let messages = if bench.quick { 1_000 } else { MESSAGES };
    let mut table = Table::new(
        "Many topics in one request",
        format!(
            "With `acl_batch_url`, which answers after the same time however many questions it is asked, and without it. \
             *Fleet*: {devices} devices, of which nothing is known, log in at once, subscribe twice and publish; API 20 ms. \
             *Fan-out*: one message to {SUBSCRIBERS} subscribers of whom nothing is remembered; API 5 ms. The first message of \
             a publisher has to be allowed before its readers are asked about; *again, verdicts over*: that publisher's \
             next one, when all verdicts are over. *Retained*: a \
             dashboard subscribes to {messages} retained messages; API 20 ms. Logins are not among the questions. *Lost*: messages \
             that did not come, since the broker waits for one client no longer than twice `timeout` in one turn."
        ),
        &["all done, ms", "longest stall, ms"],
        &["questions about topics", "requests with them", "lost"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let group = |what: &str| format!("{}, {what}", release(version));
            each(bench, version, "5m", |name, setup, api| {
                let broker = setup.start();
                let sample = counted(api, || {
                    let [took, stall, ..] = ahead::come(&broker, api, 0..devices, None);
                    [took, stall]
                });
                table.add(&group("fleet"), name, &sample);
            });
            let verdicts = format!("{}s", VERDICTS.as_secs());
            each(bench, version, &verdicts, |name, setup, api| {
                api.answer_after(Duration::ZERO);
                let broker = setup.start();
                let (mut publisher, mut fleet) = topics::audience(&broker, SUBSCRIBERS);
                api.answer_after(Duration::from_millis(5));
                let mut spread = || counted(api, || topics::spread(&broker, &mut publisher, &mut fleet));
                table.add(&group("fan-out"), name, &spread());
                thread::sleep(2 * VERDICTS);
                table.add(&group("fan-out again, verdicts over"), name, &spread());
            });
            each(bench, version, "5m", |name, setup, api| {
                // The publisher's own questions go before the measurement, and are not remembered beyond it.
                let mut asked = (0, 0);
                let [took, stall, _, lost] =
                    ahead::dashboard(setup, api, messages, Duration::from_millis(20), || {
                        asked = api.asked_about_topics();
                    });
                let (questions, requests) = api.asked_about_topics();
                let sample = [took, stall, (questions - asked.0) as f64, (requests - asked.1) as f64, lost];
                table.add(&group("retained"), name, &sample);
            });
        }
    }
    table
}

/// Measures something with the plugin that allows everything, and with ours, whose verdicts about topics live so long.
fn each(bench: &Bench, version: Version, verdicts: &str, mut measure: impl FnMut(&str, &Setup, &Api)) {
    let api = Api::start();
    measure(NULL, &bench.null(version), &api);
    let ours = bench.ours(version, &api).option("auth_cache_ttl", "5m").option("acl_cache_ttl", verdicts);
    measure(ALONE, &ours, &api);
    measure(TOGETHER, &ours.option("acl_batch_url", api.url("acl-batch")), &api);
}

/// Adds how many questions about topics came meanwhile, and in how many requests.
fn counted(api: &Api, measure: impl FnOnce() -> [f64; 2]) -> [f64; 5] {
    let before = api.asked_about_topics();
    let [took, stall] = measure();
    let (questions, requests) = api.asked_about_topics();
    [took, stall, (questions - before.0) as f64, (requests - before.1) as f64, 0.0]
}
