//! How costs grow: with readers, sessions, filters and idle connections.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::load::{
    CONNACK, Fleet, PASSWORD, Pinger, client, expect, ms, publish, suback, subscribe, username,
};
use crate::support::broker::Setup;
use crate::support::{Broker, Connect, Version};
use crate::table::{NULL, Table};
use crate::{Bench, release};

/// Clients that are connected at a time where only their sessions are wanted.
const BATCH: usize = 500;
/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(300);
const LATENCY: Duration = Duration::from_millis(5);
/// Messages to all readers, each to a topic of its own.
const MESSAGES: u8 = 4;
/// Filters of each client that goes.
const FILTERS: usize = 20;
/// Topics that are asked about one after the other.
const TOPICS: usize = 200;
/// One client has so many times fewer filters in one packet than there are clients elsewhere.
const FEWER_FILTERS: usize = 20;

/// Something whose cost may grow with a number.
struct Cost {
    what: &'static str,
    /// What the broker is started with, for so many.
    configure: fn(Setup, usize) -> Setup,
    /// Milliseconds for so many, and the questions that were asked meanwhile.
    measure: fn(&Broker, &Api, usize) -> (f64, usize),
    /// Whether so many are connected at once.
    connects: bool,
}

const COSTS: [Cost; 5] = [
    Cost {
        what: "a message to sleeping readers",
        configure: |setup, readers| {
            setup.option("cache_size", 2 * readers).global("max_queued_messages 100").option("timeout", "60s")
        },
        measure: to_sleeping_readers,
        connects: false,
    },
    Cost {
        what: "a topic asked about, idle clients",
        configure: |setup, _| setup,
        measure: beside_idle_clients,
        connects: true,
    },
    Cost {
        what: "stall, SIGHUP",
        configure: |setup, _| setup.option("auth_cache_ttl", "0s"),
        measure: sighup,
        connects: true,
    },
    Cost {
        what: "stall, all clients with 20 filters go",
        configure: |setup, _| setup.option("acl_checks", "read,write"),
        measure: all_go,
        connects: true,
    },
    Cost {
        what: "a SUBSCRIBE with a 20th of so many filters",
        configure: |setup, _| setup.option("timeout", "60s"),
        measure: many_filters,
        connects: false,
    },
];

/// The numbers: those of a broker that is small, of one that is not, and of a large one.
fn sizes(bench: &Bench) -> [usize; 3] {
    match (bench.large, bench.quick) {
        (true, _) => [1_000, 5_000, 20_000],
        (false, false) => [500, 1_000, 5_000],
        (false, true) => [100, 300, 1_000],
    }
}

/// Measures what must not grow faster than the number that it goes by.
pub fn scale(bench: &Bench) -> Table {
    let sizes = sizes(bench);
    let [small, medium, large] = sizes;
    let mut table = Table::new(
        "Scale",
        format!(
            "The same with {small}, {medium} and {large} (`--large` takes larger numbers). *Growth* is the exponent between \
             the first and the last: 1 is linear. The API takes 5 ms where somebody waits for it, and nothing beside idle \
             clients. A message goes to {MESSAGES} topics in turn, with a `cache_size` of twice the number of readers; the \
             time is that of the slowest, and the questions are those for each reader of each message. A *stall* is the \
             longest that another client notices."
        ),
        &["first, ms", "second, ms", "third, ms"],
        &["growth", "questions for each"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            for cost in &COSTS {
                let group = format!("{}, {}", release(version), cost.what);
                for name in [NULL, "ours"] {
                    let measured = sizes.map(|size| measure(bench, version, cost, name, size));
                    let times = measured.map(|(time, _)| time);
                    let growth = (times[2] / times[0]).ln() / (large as f64 / small as f64).ln();
                    table.add(&group, name, &[times[0], times[1], times[2], growth, measured[2].1]);
                }
            }
        }
    }
    table
}

fn measure(bench: &Bench, version: Version, cost: &Cost, name: &str, size: usize) -> (f64, f64) {
    if cost.connects && !bench.can_connect(size as u64) {
        return (f64::NAN, f64::NAN);
    }
    let api = Api::start();
    let setup =
        if name == NULL { bench.null(version) } else { (cost.configure)(bench.ours(version, &api), size) };
    let broker = setup.start();
    let (time, questions) = (cost.measure)(&broker, &api, size);
    (time, questions as f64 / size as f64)
}

/// Clients whose sessions stay.
fn durable_login(number: usize) -> Vec<u8> {
    Connect::v3(format!("client-{number}")).login(username(number), PASSWORD).durable().packet()
}

fn to_sleeping_readers(broker: &Broker, api: &Api, readers: usize) -> (f64, usize) {
    for first in (0..readers).step_by(BATCH) {
        let count = BATCH.min(readers - first);
        let mut fleet = Fleet::connect(broker, count);
        let logins = (first..first + count).map(durable_login).collect();
        fleet.exchange(logins, 64, &CONNACK, LIMIT).succeeded();
        fleet.exchange(vec![subscribe("news/#", 1, 1); count], 64, &suback(1, 1), LIMIT).succeeded();
    }
    let mut publisher = client(broker.port(), "publisher");
    publisher.set_read_timeout(Some(LIMIT)).unwrap();
    wait_for_disconnects();
    api.answer_after(LATENCY);
    let asked_before = api.asked();
    let send = |number: u8| {
        let begun = Instant::now();
        publisher.write_all(&publish(&format!("news/{number}"), b"x", Some(number.into()))).unwrap();
        expect(&mut publisher, &[0x40, 2, 0, number]);
        ms(begun.elapsed())
    };
    let slowest = (1..=MESSAGES).map(send).fold(0.0, f64::max);
    let about_readers = (api.asked() - asked_before).saturating_sub(MESSAGES.into());
    (slowest, about_readers / usize::from(MESSAGES))
}

/// The broker notices one after the other that its clients have gone.
fn wait_for_disconnects() {
    thread::sleep(Duration::from_millis(500));
}

fn beside_idle_clients(broker: &Broker, api: &Api, clients: usize) -> (f64, usize) {
    let _idle = logged_in(broker, clients);
    let mut publisher = client(broker.port(), "publisher");
    let asked_before = api.asked();
    let begun = Instant::now();
    for number in 0..TOPICS {
        publisher.write_all(&publish(&format!("t/{number}"), b"x", Some(1))).unwrap();
        expect(&mut publisher, &[0x40, 2, 0, 1]);
    }
    (ms(begun.elapsed()) / TOPICS as f64, api.asked() - asked_before)
}

fn logged_in(broker: &Broker, clients: usize) -> Fleet {
    let mut fleet = Fleet::connect(broker, clients);
    fleet.log_in(64, LIMIT).succeeded();
    fleet
}

/// The longest stall from when something happens until the broker has been done with it for a while.
fn stall_of(broker: &Broker, happens: impl FnOnce()) -> f64 {
    let pinger = Pinger::start(broker);
    thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    happens();
    thread::sleep(Duration::from_secs(3));
    pinger.finish(begun, Instant::now()).longest_ms()
}

fn sighup(broker: &Broker, api: &Api, clients: usize) -> (f64, usize) {
    let _fleet = logged_in(broker, clients);
    api.answer_after(LATENCY);
    let asked_before = api.asked();
    let stall = stall_of(broker, || broker.sighup());
    (stall, api.asked() - asked_before)
}

fn all_go(broker: &Broker, api: &Api, clients: usize) -> (f64, usize) {
    let mut fleet = logged_in(broker, clients);
    let packets = (0..clients).map(|n| subscribe_to((0..FILTERS).map(|f| format!("d/{n}/{f}")))).collect();
    let mut granted = vec![0x90, 2 + FILTERS as u8, 0, 1];
    granted.resize(4 + FILTERS, 0);
    fleet.exchange(packets, 64, &granted, LIMIT).succeeded();
    let asked_before = api.asked();
    let stall = stall_of(broker, || drop(fleet));
    (stall, api.asked() - asked_before)
}

fn many_filters(broker: &Broker, api: &Api, size: usize) -> (f64, usize) {
    let mut subscriber = client(broker.port(), "subscriber");
    subscriber.set_read_timeout(Some(LIMIT)).unwrap();
    api.answer_after(LATENCY);
    let asked_before = api.asked();
    let filters = size / FEWER_FILTERS;
    let begun = Instant::now();
    subscriber.write_all(&subscribe_to((0..filters).map(|number| format!("f/{number}")))).unwrap();
    let mut granted = vec![0; if filters + 2 < 128 { 4 } else { 5 } + filters];
    subscriber.read_exact(&mut granted).expect("a SUBACK");
    (ms(begun.elapsed()), FEWER_FILTERS * (api.asked() - asked_before))
}

/// A SUBSCRIBE with several filters, whose packet id is 1.
fn subscribe_to(filters: impl Iterator<Item = String>) -> Vec<u8> {
    let mut body = vec![0, 1];
    for filter in filters {
        body.extend_from_slice(&u16::try_from(filter.len()).unwrap().to_be_bytes());
        body.extend_from_slice(filter.as_bytes());
        body.push(0);
    }
    let mut packet = vec![0x82];
    let mut length = body.len();
    while length >= 128 {
        packet.push((length % 128) as u8 | 128);
        length /= 128;
    }
    packet.push(length as u8);
    packet.extend_from_slice(&body);
    packet
}
