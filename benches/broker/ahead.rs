//! What asks about topics one after the other if nothing is asked ahead: fleets, retained messages, queues, many filters.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::fleet::{answers_to_wants, wants};
use crate::load::{CONNACK, Fleet, PASSWORD, Pinger, Rush, client, expect, ms, publish, suback, subscribe};
use crate::support::broker::Setup;
use crate::support::tls::{Authority, Validity};
use crate::support::{Broker, Connect, Version};
use crate::table::{NULL, Table};
use crate::{Bench, release};

const LIMIT: Duration = Duration::from_secs(120);
/// What the API takes for an answer, unless a row says otherwise.
const LATENCY: Duration = Duration::from_millis(20);
/// How long topics are remembered where it is measured what happens once they are not.
const SHORT: Duration = Duration::from_secs(1);
/// Longer than any question takes, and than the broker waits for one client.
const SILENCE: Duration = Duration::from_secs(10);
const FILTERS: usize = 60;
const QUEUED: usize = 200;

const FIRST: &str = "first time ever";
const LEARNT: &str = "templates learnt, other devices";
const KNOWN: &str = "logins remembered, first time";
const OVER: &str = "again, verdicts over";

/// Measures what the broker asks about topics in a row.
pub fn topics(bench: &Bench) -> Table {
    let mut table = Table::new(
        "Topics, asked ahead",
        format!(
            "With default options; the API takes {LATENCY:?} where nothing else is said. *Devices* have their \
             connections, and TLS handshakes done, when the clock starts; all log in at once, subscribe twice and publish \
             (QoS 1). *{FIRST}*: nothing is known. *{LEARNT}*: others with such names were there before. *{KNOWN}*: on 2.0 \
             with the logins remembered. *Retained*: a dashboard subscribes to all. *Queue*: a durable session comes \
             back to {QUEUED} messages whose verdicts are over. *Filters*: {FILTERS} in one SUBSCRIBE, API 25 ms; \
             *{OVER}*: the same client comes again. *Lost*: messages that did not come, since the \
             broker waits for one client no longer than twice `timeout` in one turn."
        ),
        &["all done, ms", "longest stall, ms"],
        &["questions", "lost"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let crowds: &[usize] = if bench.quick { &[200] } else { &[200, 1_000] };
            for &devices in crowds {
                for over_tls in [false, true] {
                    fleets(bench, version, devices, over_tls, &mut table);
                }
            }
            let retained: &[(usize, u64)] =
                if bench.quick { &[(200, 20)] } else { &[(200, 20), (2_000, 5), (10_000, 20)] };
            for &(messages, latency) in retained {
                let group = format!("{}, {messages} retained, API {latency} ms", release(version));
                each(bench, version, |name, setup, api| {
                    let latency = Duration::from_millis(latency);
                    table.add(&group, name, &dashboard(setup, api, messages, latency, || ()));
                });
            }
            let group = format!("{}, queue of {QUEUED}", release(version));
            each(bench, version, |name, setup, api| table.add(&group, name, &queue(setup, api)));
            let group = format!("{}, {FILTERS} filters", release(version));
            each(bench, version, |name, setup, api| {
                for (occasion, sample) in filters(setup, api) {
                    let name = if name == NULL { name } else { occasion };
                    table.add(&group, name, &sample);
                }
            });
        }
    }
    table
}

/// Measures something with the plugin that allows everything, and with ours.
fn each(bench: &Bench, version: Version, mut measure: impl FnMut(&str, &Setup, &Api)) {
    let api = Api::start();
    measure(NULL, &bench.null(version), &api);
    let ours = bench.ours(version, &api).option("auth_cache_ttl", "5m").option("acl_cache_ttl", "1s");
    measure("ours", &ours, &api);
}

fn fleets(bench: &Bench, version: Version, devices: usize, over_tls: bool, table: &mut Table) {
    let authority = Authority::new("bench");
    let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
    let with_tls = |setup: Setup| setup.tls_listener(&server, &[]);
    let api = Api::start();
    let ours = bench.ours(version, &api).option("auth_cache_ttl", "5m");
    let kind = if over_tls { "TLS" } else { "TCP" };
    let group = format!("{}, {devices} devices over {kind}", release(version));
    let authority = over_tls.then_some(&authority);
    let come = |broker: &Broker, first| come(broker, &api, first..first + devices, authority);
    let null = with_tls(bench.null(version)).start();
    table.add(&group, NULL, &come(&null, 0));
    drop(null);
    let broker = with_tls(ours.clone()).start();
    table.add(&group, FIRST, &come(&broker, 0));
    table.add(&group, LEARNT, &come(&broker, devices));
    drop(broker);
    if !version.is_2_1() {
        let broker = with_tls(ours).start();
        api.answer_after(Duration::ZERO);
        Fleet::connect_by(&broker, 0..devices, authority).log_in(devices, LIMIT).succeeded();
        table.add(&group, KNOWN, &come(&broker, 0));
    }
}

/// So many devices come: until all have what they want, the longest stall, how many questions that took, and that nothing
/// was lost.
pub fn come(
    broker: &Broker,
    api: &Api,
    numbers: std::ops::Range<usize>,
    authority: Option<&Authority>,
) -> [f64; 4] {
    let packets = numbers.clone().map(wants).collect();
    api.answer_after(LATENCY);
    let connect = || Fleet::connect_by(broker, numbers, authority);
    let rush = Rush::of_fleet(broker, api, connect, |fleet| {
        fleet.log_in_and_send(packets, &answers_to_wants(), LIMIT)
    });
    [ms(rush.took), rush.stalls.longest_ms(), rush.questions as f64, 0.0]
}

fn topic(number: usize) -> String {
    format!("news/{number:05}")
}

/// Publishes to so many topics.
fn publish_all(stream: &mut TcpStream, messages: usize, flags: u8) {
    for number in 0..messages {
        let id = u16::try_from(number % 60_000 + 1).unwrap();
        let mut packet = publish(&topic(number), b"kept", Some(id));
        packet[0] |= flags;
        stream.write_all(&packet).unwrap();
        expect(stream, &[0x40, 2, (id >> 8) as u8, id as u8]);
    }
}

/// The bytes of so many messages with this QoS, as they are delivered.
fn delivered(messages: usize, qos: u8) -> usize {
    let length = publish(&topic(0), b"kept", (qos > 0).then_some(1)).len();
    messages * length
}

/// A dashboard subscribes to so many retained messages: until it has all that come, the longest stall, the questions, and
/// how many messages did not come. `is_ready` is called before it begins.
pub fn dashboard(
    setup: &Setup,
    api: &Api,
    messages: usize,
    latency: Duration,
    is_ready: impl FnOnce(),
) -> [f64; 4] {
    const RETAIN: u8 = 1;
    api.answer_after(Duration::ZERO);
    let broker = setup.clone().global("max_queued_messages 0").global("max_inflight_messages 0").start();
    publish_all(&mut client(broker.port(), "writer"), messages, RETAIN);
    let mut dashboard = client(broker.port(), "dashboard");
    api.answer_after(latency);
    is_ready();
    let [took, stall, questions, missing] = measured(&broker, api, || {
        dashboard.write_all(&subscribe("news/#", 0, 1)).unwrap();
        read(&mut dashboard, suback(0, 1).len() + delivered(messages, 0))
    });
    [took, stall, questions, missing / delivered(1, 0) as f64]
}

fn queue(setup: &Setup, api: &Api) -> [f64; 4] {
    api.answer_after(Duration::ZERO);
    let broker = setup.clone().global("max_queued_messages 0").global("max_inflight_messages 0").start();
    let login = Connect::v3("sleeper").durable().login("sleeper", PASSWORD).packet();
    let connect = || {
        let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&login).unwrap();
        stream
    };
    let mut sleeper = connect();
    expect(&mut sleeper, &CONNACK);
    sleeper.write_all(&subscribe("news/#", 1, 1)).unwrap();
    expect(&mut sleeper, &suback(1, 1));
    sleeper.write_all(&[0xe0, 0]).unwrap();
    drop(sleeper);
    let mut writer = client(broker.port(), "writer");
    publish_all(&mut writer, QUEUED, 0);
    thread::sleep(2 * SHORT);
    api.answer_after(LATENCY);
    measured(&broker, api, || read(&mut connect(), CONNACK.len() + delivered(QUEUED, 1)))
}

fn filters(setup: &Setup, api: &Api) -> [(&'static str, [f64; 4]); 2] {
    let broker = setup.start();
    let packet = {
        let filters = (0..FILTERS).flat_map(|number| {
            let filter = format!("site/{number:03}/#");
            [&[0, filter.len() as u8], filter.as_bytes(), &[0]].concat()
        });
        let body: Vec<u8> = [0, 1].into_iter().chain(filters).collect();
        let length = [(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
        [&[0x82][..], &length, &body].concat()
    };
    [FIRST, OVER].map(|occasion| {
        api.answer_after(Duration::from_millis(25));
        let sample = measured(&broker, api, || {
            let mut hub = client(broker.port(), "hub");
            hub.write_all(&packet).unwrap();
            let came = read(&mut hub, 4 + FILTERS);
            hub.write_all(&[0xe0, 0]).unwrap();
            came
        });
        thread::sleep(2 * SHORT);
        (occasion, sample)
    })
}

/// What has come of what was waited for.
struct Came {
    last: Instant,
    missing: usize,
}

/// Reads so many bytes, or what comes of them until nothing has come for [`SILENCE`].
fn read(stream: &mut TcpStream, length: usize) -> Came {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let mut buffer = vec![0; length];
    let mut came = Came { last: Instant::now(), missing: length };
    while came.missing > 0 {
        match stream.read(&mut buffer[..came.missing]) {
            Ok(0) => panic!("the broker has closed the connection"),
            Ok(read) => came = Came { last: Instant::now(), missing: came.missing - read },
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    came
}

/// How long it takes until the last byte has come, the longest stall, the questions, and the bytes that are missing.
fn measured(broker: &Broker, api: &Api, action: impl FnOnce() -> Came) -> [f64; 4] {
    let pinger = Pinger::start(broker);
    let (asked, begun) = (api.asked(), Instant::now());
    let Came { last, missing } = action();
    let questions = (api.asked() - asked) as f64;
    [ms(last - begun), pinger.finish(begun, last).longest_ms(), questions, missing as f64]
}
