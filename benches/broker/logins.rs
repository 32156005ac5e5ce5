//! Logins: many at once, one alone, rechecks of all, and logins while the API does not answer.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::chart::{Chart, Scale};
use crate::load::{CONNACK, Fleet, Pinger, Rush, expect, login, ms, username};
use crate::support::Broker;
use crate::support::broker::Setup;
use crate::table::{NULL, OWN_FILES, Table, median};
use crate::{Bench, release};

/// How many clients log in at a time in preparation of a measurement, so that no queue overflows.
const RAMP_UP: usize = 100;

/// A time that is longer than any storm takes.
const LIMIT: Duration = Duration::from_secs(120);

pub static STORM_CHART: Chart = Chart {
    name: "storm",
    title: "500 clients log in at once, API 20 ms (milliseconds, logarithmic)",
    scale: Scale::Logarithmic,
    columns: &[(0, "until the last one is in"), (1, "longest stall of another client")],
    groups: " 500 clients",
    subjects: &[
        (NULL, "a plugin that allows everything"),
        (OWN_FILES, "the broker's own password_file"),
        ("API 20 ms, 64 requests, cold", "ours, nobody remembered"),
        ("API 20 ms, 256 requests, cold", "the same, max_requests 256"),
        ("API 20 ms, 64 requests, warm", "ours, everybody remembered"),
    ],
};

/// The parameters of a storm besides the number of clients.
struct Storm {
    latency_ms: u64,
    max_requests: usize,
}

impl Storm {
    fn name(&self, state: &str) -> String {
        format!("API {} ms, {} requests, {state}", self.latency_ms, self.max_requests)
    }
}

/// Measures clients that are connected already, and send their CONNECTs all at once.
pub fn storm(bench: &Bench) -> Table {
    let mut table = Table::new(
        "Connect storm",
        "All clients have their TCP connections when the clock starts; then they send their CONNECTs at once. \
         Meanwhile another client sends PINGREQs and notices how long the broker stalls. *Cold*: the API is \
         asked about everybody; *warm*: all verdicts are remembered. The API alone: as many questions, asked \
         directly over `max_requests` new connections. (The own file is slower on 2.1, whose \
         `mosquitto_passwd` has passwords hashed ten times as often.)",
        &["last CONNACK, ms", "longest stall, ms", "99 % of pings, ms"],
        &["API alone, ms", "questions"],
    );
    for round in bench.rounds() {
        for &version in &bench.versions {
            for (clients, storms) in storms(bench, round) {
                let group = format!("{}, {clients} clients", release(version));
                let api = Api::start();
                let usernames = (0..clients).map(username);
                for (name, setup) in
                    [(NULL, bench.null(version)), (OWN_FILES, bench.own_files(version, usernames, "#"))]
                {
                    table.add(&group, name, &weather(&setup.start(), &api, clients, f64::NAN));
                }
                for storm in storms {
                    let api = Api::start();
                    let broker = bench.ours(version, &api).option("max_requests", storm.max_requests).start();
                    api.answer_after(Duration::from_millis(storm.latency_ms));
                    let alone = ms(api.storm(clients, storm.max_requests));
                    table.add(&group, &storm.name("cold"), &weather(&broker, &api, clients, alone));
                    if storm.max_requests == 64 {
                        table.add(&group, &storm.name("warm"), &weather(&broker, &api, clients, f64::NAN));
                    }
                }
            }
        }
    }
    table
}

/// The storms to measure in one round, by the number of clients.
fn storms(bench: &Bench, round: usize) -> Vec<(usize, Vec<Storm>)> {
    let of = |max_requests, latency_ms| Storm { latency_ms, max_requests };
    if bench.quick {
        return vec![(500, vec![of(64, 20), of(256, 20)])];
    }
    let hundreds = [64, 256].into_iter().flat_map(|requests| [0, 5, 20].map(|ms| of(requests, ms)));
    let mut storms = vec![(500, hundreds.collect())];
    if round <= 3 && bench.can_connect(5_000) {
        storms.push((5_000, vec![of(64, 0), of(64, 5), of(64, 20), of(256, 20)]));
    }
    storms
}

fn weather(broker: &Broker, api: &Api, clients: usize, api_alone_ms: f64) -> [f64; 5] {
    let Rush { took, stalls, questions } =
        Rush::of(broker, api, clients, |fleet| fleet.log_in(clients, LIMIT));
    [ms(took), stalls.longest_ms(), stalls.p99_ms(), api_alone_ms, questions as f64]
}

/// Measures one login after the other, without other clients.
pub fn on_idle_broker(bench: &Bench) -> Table {
    const LOGINS: usize = 30;
    const LATENCY: Duration = Duration::from_millis(20);
    let mut table = Table::new(
        "One login on an idle broker",
        format!(
            "From CONNECT to CONNACK, with an API that takes 20 ms; the median of {LOGINS} clients. Beside \
             each of them the API is asked directly."
        ),
        &["login, ms"],
        &["API alone, ms", "above the API, ms"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let api = Api::start();
            api.answer_after(LATENCY);
            let mut direct = api.connect();
            let own_files = bench.own_files(version, (0..LOGINS).map(username), "#");
            let ours = bench.ours(version, &api);
            let subjects = [(NULL, bench.null(version)), (OWN_FILES, own_files), ("ours", ours)];
            for (name, setup) in subjects {
                let broker = setup.start();
                let (mut logins, mut answers) = (Vec::new(), Vec::new());
                for number in 0..LOGINS {
                    answers.push(ms(direct.ask()));
                    logins.push(log_in_alone(&broker, number));
                }
                let (own, of_api) = (median(logins), median(answers));
                let above = if name == "ours" { own - of_api } else { f64::NAN };
                table.add(&release(version), name, &[own, of_api, above]);
            }
        }
    }
    table
}

/// How long the login of the client with this number takes on an idle broker, in milliseconds.
pub fn log_in_alone(broker: &Broker, number: usize) -> f64 {
    let mut client = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    client.set_nodelay(true).unwrap();
    // Long enough for the broker to accept and to wait again, and not in step with its 100 ms.
    thread::sleep(Duration::from_millis(11 + number as u64 * 7 % 30));
    let begun = Instant::now();
    client.write_all(&login(number)).unwrap();
    expect(&mut client, &CONNACK);
    ms(begun.elapsed())
}

/// The number of sessions that are rechecked.
const SESSIONS: usize = 2_000;

/// The API's behaviour during a recheck.
#[derive(Clone, Copy)]
enum During {
    Answering(Duration),
    Stopped,
}

/// Measures SIGHUP: the broker re-reads its configuration, and every session is rechecked.
pub fn sighup(bench: &Bench) -> Table {
    let mut table = Table::new(
        "SIGHUP",
        format!(
            "{SESSIONS} clients are connected and no login is remembered (`auth_cache_ttl 0`) when the broker gets \
             the signal. What another client notices until all have been asked about again, or for 2 s."
        ),
        &["longest stall, ms", "99 % of pings, ms"],
        &["connections lost", "questions"],
    );
    let slow = During::Answering(Duration::from_millis(20));
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let release = release(version);
            let null = reload(&bench.null(version), Api::start(), slow);
            table.add(&release, NULL, &null);
            for (name, during) in [("API 20 ms", slow), ("API stopped", During::Stopped)] {
                let api = Api::start();
                let setup = bench.ours(version, &api).option("auth_cache_ttl", "0s");
                table.add(&release, name, &reload(&setup, api, during));
            }
        }
    }
    table
}

fn reload(setup: &Setup, api: Api, during: During) -> [f64; 4] {
    let broker = setup.start();
    let mut fleet = Fleet::connect(&broker, SESSIONS);
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
    while (1..SESSIONS).contains(&asked()) && begun.elapsed() < LIMIT {
        lost = fleet.lost_within(Duration::from_millis(100));
    }
    let stalls = pinger.finish(begun, Instant::now());
    [stalls.longest_ms(), stalls.p99_ms(), lost as f64, asked() as f64]
}

/// Measures clients that log in at once while the API accepts connections and answers nothing.
pub fn while_api_hangs(bench: &Bench) -> Table {
    const CLIENTS: usize = 100;
    let mut table = Table::new(
        "An API that never answers",
        format!(
            "{CLIENTS} clients log in at once, with default options. Until the last one is refused another client \
             notices stalls; their sum is of all its pings above 5 ms. (Null lets everybody in.)"
        ),
        &["longest stall, ms"],
        &["stalled in sum, ms", "last refusal, ms"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let api = Api::start();
            for (name, setup) in [(NULL, bench.null(version)), ("ours", bench.ours(version, &api))] {
                api.answer_after(Duration::ZERO);
                let broker = setup.start();
                let pinger = Pinger::start(&broker);
                let mut fleet = Fleet::connect(&broker, CLIENTS);
                api.hang();
                let logins = fleet.log_in(CLIENTS, LIMIT);
                assert_eq!(logins.failed, if name == NULL { 0 } else { CLIENTS }, "who gets in");
                let stalls = pinger.finish(logins.begun, logins.ended);
                let sample = [stalls.longest_ms(), stalls.total_ms(), ms(logins.took())];
                table.add(&release(version), name, &sample);
            }
        }
    }
    table
}
