//! Logins: many at once, one alone, all over again, and while the API says nothing.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::load::{CONNACK, Fleet, Pinger, Stalls, expect, login, ms};
use crate::support::broker::Setup;
use crate::support::{Broker, Version};
use crate::table::{Table, median};
use crate::{Bench, release};

/// Clients that log in for what is measured later come in portions, so that nothing overflows.
const RAMP_UP: usize = 100;

/// Longer than any storm takes.
const LIMIT: Duration = Duration::from_secs(120);

/// What there is about a storm besides the number of clients.
struct Storm {
    latency_ms: u64,
    max_requests: usize,
}

/// Clients that are connected already send their CONNECTs all at once.
pub fn storm(bench: &Bench) -> Table {
    let mut table = Table::new(
        "Connect storm",
        "All clients have their TCP connections when the clock starts; then they send their CONNECTs at once. \
         Meanwhile another client sends PINGREQs and notices how long the broker stalls. *Cold*: the API is \
         asked about everybody; *warm*: all verdicts are remembered. The API alone: as many questions, asked \
         directly over `max_requests` new connections.",
        &["last CONNACK, ms", "API alone, ms", "longest stall, ms", "99 % of pings, ms", "questions"],
    );
    for round in bench.rounds() {
        for &version in &bench.versions {
            let release = release(version);
            for (clients, storms) in storms(bench, version, round) {
                let null = login_storm(&bench.null(version).start(), clients);
                table.add_reference(&release, &format!("{clients} clients, null"), &null.row(f64::NAN, 0));
                for Storm { latency_ms, max_requests } in storms {
                    let api = Api::start();
                    let broker = bench.ours(version, &api).option("max_requests", max_requests).start();
                    api.answer_after(Duration::from_millis(latency_ms));
                    let alone = ms(api.storm(clients, max_requests));
                    let name = format!("{clients} clients, API {latency_ms} ms, {max_requests} requests");
                    let mut add = |state, alone| {
                        let asked = api.asked();
                        let storm = login_storm(&broker, clients);
                        let row = storm.row(alone, api.asked() - asked);
                        table.add(&release, &format!("{name}, {state}"), &row);
                    };
                    add("cold", alone);
                    if latency_ms == 20 && max_requests == 64 {
                        add("warm", f64::NAN);
                    }
                }
            }
        }
    }
    table
}

/// The storms to measure on a broker in one round, by the number of clients.
fn storms(bench: &Bench, version: Version, round: usize) -> Vec<(usize, Vec<Storm>)> {
    let of = |max_requests, latency_ms| Storm { latency_ms, max_requests };
    if bench.quick {
        return vec![(500, vec![of(64, 5), of(64, 20)])];
    }
    let hundreds = [64, 256].into_iter().flat_map(|requests| [0, 5, 20].map(|ms| of(requests, ms)));
    let mut storms = vec![(500, hundreds.collect())];
    if version.is_2_1() && round <= 3 {
        storms.push((5_000, vec![of(64, 5), of(256, 20)]));
    }
    storms
}

/// How a storm went.
struct Weathered {
    last_connack_ms: f64,
    stalls: Stalls,
}

impl Weathered {
    fn row(&self, api_alone_ms: f64, questions: usize) -> [f64; 5] {
        let Self { last_connack_ms, stalls } = self;
        [*last_connack_ms, api_alone_ms, stalls.longest_ms(), stalls.p99_ms(), questions as f64]
    }
}

fn login_storm(broker: &Broker, clients: usize) -> Weathered {
    let pinger = Pinger::start(broker);
    let mut fleet = Fleet::connect(broker, clients);
    let storm = fleet.log_in(clients, LIMIT).succeeded();
    let stalls = pinger.finish(storm.begun, storm.ended);
    Weathered { last_connack_ms: ms(storm.took()), stalls }
}

/// One login after the other, with nobody else there.
pub fn on_idle_broker(bench: &Bench) -> Table {
    const LOGINS: usize = 30;
    const LATENCY: Duration = Duration::from_millis(20);
    let mut table = Table::new(
        "One login on an idle broker",
        format!(
            "From CONNECT to CONNACK, with an API that takes 20 ms; the median of {LOGINS} clients. Beside \
             each of them the API is asked directly."
        ),
        &["login, ms", "API alone, ms", "above the API, ms"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let api = Api::start();
            api.answer_after(LATENCY);
            let mut direct = api.connect();
            let subjects = [("null", bench.null(version)), ("ours", bench.ours(version, &api))];
            for (name, setup) in subjects {
                let broker = setup.start();
                let (mut logins, mut answers) = (Vec::new(), Vec::new());
                for number in 0..LOGINS {
                    answers.push(ms(direct.ask()));
                    let mut client = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
                    client.set_nodelay(true).unwrap();
                    // Long enough for the broker to accept and to wait again; not in step with its 100 ms.
                    thread::sleep(Duration::from_millis(11 + number as u64 * 7 % 30));
                    let begun = Instant::now();
                    client.write_all(&login(number)).unwrap();
                    expect(&mut client, &CONNACK);
                    logins.push(ms(begun.elapsed()));
                }
                let (own, of_api) = (median(logins), median(answers));
                match name {
                    "null" => table.add_reference(&release(version), name, &[own, of_api, own]),
                    _ => table.add(&release(version), name, &[own, of_api, own - of_api]),
                }
            }
        }
    }
    table
}

/// What the API does while the broker asks about all of its sessions again.
#[derive(Clone, Copy)]
enum During {
    Answering(Duration),
    Stopped,
}

/// The broker re-reads its configuration and checks every session.
pub fn sighup(bench: &Bench) -> Table {
    let sessions = if bench.quick { 2_000 } else { 5_000 };
    let mut table = Table::new(
        "SIGHUP",
        format!(
            "{sessions} clients are connected and no login is remembered (`auth_cache_ttl 0`) when the broker gets \
             the signal. What another client notices until all have been asked about again, or for 2 s."
        ),
        &["longest stall, ms", "99 % of pings, ms", "connections lost", "questions asked"],
    );
    let slow = During::Answering(Duration::from_millis(20));
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let release = release(version);
            let null = reload(&bench.null(version), Api::start(), slow, sessions);
            table.add_reference(&release, "null", &null);
            for (name, during) in [("API 20 ms", slow), ("API stopped", During::Stopped)] {
                let api = Api::start();
                let setup = bench.ours(version, &api).option("auth_cache_ttl", "0s");
                table.add(&release, name, &reload(&setup, api, during, sessions));
            }
        }
    }
    table
}

fn reload(setup: &Setup, api: Api, during: During, sessions: usize) -> [f64; 4] {
    let broker = setup.start();
    let mut fleet = Fleet::connect(&broker, sessions);
    fleet.log_in(RAMP_UP, LIMIT).succeeded();
    let pinger = Pinger::start(&broker);
    let asked_before = api.asked();
    let api = match during {
        During::Answering(latency) => {
            api.answer_after(latency);
            Some(api)
        }
        During::Stopped => {
            drop(api);
            None
        }
    };
    let begun = Instant::now();
    broker.sighup();
    let asked = || api.as_ref().map_or(0, |api| api.asked() - asked_before);
    let mut lost = fleet.lost_within(Duration::from_secs(2));
    while (1..sessions).contains(&asked()) && begun.elapsed() < LIMIT {
        lost = fleet.lost_within(Duration::from_millis(100));
    }
    let stalls = pinger.finish(begun, Instant::now());
    [stalls.longest_ms(), stalls.p99_ms(), lost as f64, asked() as f64]
}

/// Clients log in at once while the API accepts everything and answers nothing.
pub fn while_api_hangs(bench: &Bench) -> Table {
    const CLIENTS: usize = 100;
    let mut table = Table::new(
        "An API that never answers",
        format!(
            "{CLIENTS} clients log in at once, with default options. Until the last one is refused another client \
             notices stalls; their sum is of all its pings above 5 ms."
        ),
        &["stalled in sum, ms", "longest stall, ms", "last refusal, ms"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let api = Api::start();
            for (name, setup) in [("null", bench.null(version)), ("ours", bench.ours(version, &api))] {
                api.answer_after(Duration::ZERO);
                let broker = setup.start();
                let pinger = Pinger::start(&broker);
                let mut fleet = Fleet::connect(&broker, CLIENTS);
                api.hang();
                let logins = fleet.log_in(CLIENTS, LIMIT);
                let is_null = name == "null";
                assert_eq!(logins.failed, if is_null { 0 } else { CLIENTS }, "who gets in");
                let stalls = pinger.finish(logins.begun, logins.ended);
                let sample = [stalls.total_ms(), stalls.longest_ms(), ms(logins.took())];
                if is_null {
                    table.add_reference(&release(version), "null (all let in)", &sample);
                } else {
                    table.add(&release(version), "ours", &sample);
                }
            }
        }
    }
    table
}
