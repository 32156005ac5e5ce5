//! A cache that several brokers share: a broker that was restarted, and what the cache costs a first question.

use std::thread;
use std::time::Duration;

use crate::api::Api;
use crate::fleet::come;
use crate::logins::log_in_alone;
use crate::store_server::{Kind, Store, shared};
use crate::support::broker::Setup;
use crate::table::{NULL, Table, median};
use crate::{Bench, release};

const DEVICES: usize = 1_000;

const WITHOUT: &str = "without a shared cache";
const WITH: &str = "with one";

/// Logins whose median is taken.
const LOGINS: usize = 50;

/// Until all of the verdicts are stored: nobody waits for that.
const SETTLED: Duration = Duration::from_millis(500);

/// Measures a fleet that comes to a broker that was restarted.
pub fn restarts(bench: &Bench) -> Table {
    let mut table = Table::new(
        "A broker that was restarted",
        format!(
            "{DEVICES} devices, as in the fleet above, have logged in, subscribed and published; then the broker is \
             restarted, and all come back at once. API 20 ms. *With*: `shared_cache` is a Valkey on the same machine."
        ),
        &["all done, ms", "longest stall, ms", "99 % of pings, ms"],
        &["questions"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let (api, store) = (Api::start(), Store::start(Kind::Valkey));
            let ours = bench.ours(version, &api).option("auth_cache_ttl", "5m").option("acl_cache_ttl", "5m");
            let subjects = [
                (NULL, bench.null(version)),
                (WITHOUT, ours.clone()),
                (WITH, shared(ours, &store.url()).option("shared_cache_timeout", "200ms")),
            ];
            for (name, setup) in subjects {
                api.answer_after(Duration::ZERO);
                let mut broker = setup.start();
                come(&broker, &api, DEVICES);
                thread::sleep(SETTLED);
                broker.restart();
                table.add(&release(version), name, &come(&broker, &api, DEVICES));
            }
        }
    }
    table
}

/// Measures one login after the other of clients that nobody knows, with an API that answers at once.
pub fn first_questions(bench: &Bench) -> Table {
    let mut table = Table::new(
        "What a shared cache costs and saves",
        format!(
            "From CONNECT to CONNACK on an idle broker, the median of {LOGINS} clients that this broker has not seen, \
             with an API on the same machine that answers at once. *A miss*: nobody has seen them. *A hit*: another \
             broker has."
        ),
        &["login, ms"],
        &["above no shared cache, ms", "questions"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let (api, store) = (Api::start(), Store::start(Kind::Valkey));
            let ours = bench.ours(version, &api).option("auth_cache_ttl", "5m");
            let with = shared(ours.clone(), &store.url());
            let mut base = f64::NAN;
            for (name, setup) in
                [(WITHOUT, ours), ("with one, a miss", with.clone()), ("with one, a hit", with)]
            {
                let (took, questions) = logins(&setup, &api);
                let above = if name == WITHOUT { f64::NAN } else { took - base };
                if name == WITHOUT {
                    base = took;
                }
                table.add(&release(version), name, &[took, above, questions as f64]);
                thread::sleep(SETTLED);
            }
        }
    }
    table
}

/// The median of logins at a new broker, and how many questions the API got.
fn logins(setup: &Setup, api: &Api) -> (f64, usize) {
    let broker = setup.clone().start();
    // With this one the connections to API and cache are made.
    log_in_alone(&broker, LOGINS);
    thread::sleep(SETTLED);
    let before = api.asked();
    let took = median((0..LOGINS).map(|number| log_in_alone(&broker, number)).collect());
    (took, api.asked() - before)
}
