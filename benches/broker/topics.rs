//! Topics: the rate of messages, and the time that one message takes to many subscribers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::chart::{Chart, Scale};
use crate::load::{Fleet, Pinger, client, expect, ms, publish, suback, subscribe, username};
use crate::support::broker::Setup;
use crate::support::{Broker, PATIENCE};
use crate::table::{NULL, OWN_FILES, Table};
use crate::{Bench, release};

const CLIENTS: [&str; 2] = ["publisher", "subscriber"];
/// The number of topics to which messages go in turn.
const TOPICS: u16 = 100;
/// The most rounds, with a message for each topic, that may be on their way. With more, the broker's queue would be
/// measured.
const ROUNDS_ON_THEIR_WAY: usize = 5;
const WITH_THREAD: &str = "null, with an idle thread";
/// The topic of the message that goes to many.
const TOPIC: &str = "news";
const PAYLOAD: [u8; 32] = *b"{\"temperature\":21.5,\"unit\":\"C\"} ";

pub static THROUGHPUT_CHART: Chart = Chart {
    name: "throughput",
    title: "Messages a second, all topic verdicts remembered",
    scale: Scale::Linear,
    columns: &[(0, "messages a second")],
    groups: "",
    subjects: &[
        (NULL, "a plugin that allows everything"),
        (OWN_FILES, "the broker's own acl_file"),
        (WITH_THREAD, "the first, with an idle thread"),
        ("ours", "ours"),
    ],
};

pub static FAN_OUT_CHART: Chart = Chart {
    name: "fan-out",
    title: "One message to 200 subscribers, API 5 ms (milliseconds, logarithmic)",
    scale: Scale::Logarithmic,
    columns: &[(0, "until the last one has it"), (1, "longest stall of another client")],
    groups: "",
    subjects: &[
        (NULL, "a plugin that allows everything"),
        (OWN_FILES, "the broker's own acl_file"),
        ("cold", "ours, nothing remembered"),
        ("warm", "ours, everything remembered"),
    ],
};

/// Measures one client that publishes as fast as it can, and another one that receives everything.
pub fn throughput(bench: &Bench) -> Table {
    let mut table = Table::new(
        "Throughput",
        format!(
            "One client publishes messages of {} bytes to {TOPICS} topics, another one has subscribed to all of \
             them: two topic checks a message, whose verdicts are remembered. *Own files*: the broker's \
             `password_file` and `acl_file`. *{WITH_THREAD}*: the plugin that allows everything, with a thread that does \
             nothing; any thread makes every system call of the process dearer, and ours has one. The time is what \
             the thread of the broker's loop computes.",
            PAYLOAD.len()
        ),
        &["messages/s", "µs a message"],
        &[],
    );
    let [qos_0, qos_1] = if bench.quick { [150_000, 30_000] } else { [300_000, 60_000] };
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let api = Api::start();
            for (qos, messages) in [(0, qos_0), (1, qos_1)] {
                let row = format!("{}, QoS {qos}", release(version));
                let rate = |setup: Setup| flood(&setup, qos, messages);
                let own_files = bench.own_files(version, CLIENTS.map(str::to_owned).into_iter(), "bench/#");
                table.add(&row, NULL, &rate(bench.null(version)));
                table.add(&row, OWN_FILES, &rate(own_files));
                table.add(&row, WITH_THREAD, &rate(bench.null(version).option("idle_thread", true)));
                table.add(&row, "ours", &rate(bench.ours(version, &api)));
            }
        }
    }
    table
}

/// The number of messages in a second, and the microseconds of the loop's thread for each.
fn flood(setup: &Setup, qos: u8, messages: usize) -> [f64; 2] {
    // The broker drops nothing and holds nothing back, however far the receiver is behind.
    let broker = setup.clone().global("max_queued_messages 0").global("max_inflight_messages 0").start();
    let [mut publisher, mut subscriber] = CLIENTS.map(|name| client(broker.port(), name));
    subscriber.write_all(&subscribe("bench/#", qos, 1)).unwrap();
    expect(&mut subscriber, &suback(qos, 1));
    let mut send = |messages| {
        let (sent, received) = sync_channel(ROUNDS_ON_THEIR_WAY);
        thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&mut subscriber, qos, messages, received));
            let begun = Instant::now();
            send(&mut publisher, qos, messages, &sent);
            receiver.join().unwrap() - begun
        })
    };
    send(10 * usize::from(TOPICS)); // afterwards all verdicts are remembered
    let computed_before = computed(&broker);
    let took = send(messages);
    let computing = computed(&broker) - computed_before;
    [messages as f64 / took.as_secs_f64(), computing.as_secs_f64() * 1e6 / messages as f64]
}

/// The processor time that the thread of the broker's loop has used until now.
fn computed(broker: &Broker) -> Duration {
    let statistics = std::fs::read_to_string(format!("/proc/{}/schedstat", broker.pid())).unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

/// Publishes to each topic in turn. `sent` is told of each round before it goes, and blocks while too many rounds have
/// not arrived.
fn send(stream: &mut TcpStream, qos: u8, messages: usize, sent: &SyncSender<()>) {
    let round = |first_id: u16| -> Vec<u8> {
        let packet =
            |number| publish(&format!("bench/{number:03}"), &PAYLOAD, (qos > 0).then_some(first_id + number));
        (0..TOPICS).flat_map(packet).collect()
    };
    let rounds = [round(1), round(1 + TOPICS)];
    let mut acknowledgements = vec![0; if qos > 0 { 4 * usize::from(TOPICS) } else { 0 }];
    for number in 0..messages / usize::from(TOPICS) {
        sent.send(()).unwrap();
        stream.write_all(&rounds[number % 2]).unwrap();
        if number > 0 {
            stream.read_exact(&mut acknowledgements).unwrap();
        }
    }
    stream.read_exact(&mut acknowledgements).unwrap();
}

/// Receives all messages, acknowledges those with QoS 1, and returns when the last one came.
fn receive(stream: &mut TcpStream, qos: u8, messages: usize, sent: Receiver<()>) -> Instant {
    let length = publish("bench/000", &PAYLOAD, (qos > 0).then_some(1)).len();
    let id_at = length - PAYLOAD.len() - 2;
    let (mut buffer, mut filled, mut received) = (vec![0; 64 * 1024], 0, 0);
    while received < messages {
        filled += stream.read(&mut buffer[filled..]).expect("messages");
        let whole = filled / length;
        if qos > 0 {
            let packets = buffer[..whole * length].chunks_exact(length);
            let acknowledge = |packet: &[u8]| [0x40, 2, packet[id_at], packet[id_at + 1]];
            stream.write_all(&packets.flat_map(acknowledge).collect::<Vec<_>>()).unwrap();
        }
        let rounds = received / usize::from(TOPICS);
        received += whole;
        for _ in rounds..received / usize::from(TOPICS) {
            sent.recv().unwrap();
        }
        buffer.copy_within(whole * length..filled, 0);
        filled -= whole * length;
    }
    Instant::now()
}

/// Measures one message to many subscribers, which the broker checks one after the other.
pub fn fan_out(bench: &Bench) -> Table {
    const SUBSCRIBERS: usize = 200;
    let mut table = Table::new(
        "Fan-out",
        format!(
            "One message to {SUBSCRIBERS} subscribers, with an API that takes 5 ms. *Cold*: it is asked about each \
             of them; *warm*: all verdicts are remembered."
        ),
        &["last receiver, ms", "longest stall, ms"],
        &["questions"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            let release = release(version);
            let api = Api::start();
            let usernames = (0..SUBSCRIBERS).map(username).chain([CLIENTS[0].to_owned()]);
            let own_files = bench.own_files(version, usernames, TOPIC);
            let (null, ours) = (bench.null(version), bench.ours(version, &api));
            let subjects = [(null, &[NULL][..]), (own_files, &[OWN_FILES]), (ours, &["cold", "warm"])];
            for (setup, messages) in subjects {
                api.answer_after(Duration::ZERO);
                let broker = setup.start();
                let (mut publisher, mut fleet) = audience(&broker, SUBSCRIBERS);
                api.answer_after(Duration::from_millis(5));
                for name in messages {
                    let asked_before = api.asked();
                    let [last, stall] = spread(&broker, &mut publisher, &mut fleet);
                    table.add(&release, name, &[last, stall, (api.asked() - asked_before) as f64]);
                }
            }
        }
    }
    table
}

/// A publisher, and so many who have subscribed to its topic.
pub fn audience(broker: &Broker, subscribers: usize) -> (TcpStream, Fleet) {
    let mut fleet = Fleet::connect(broker, subscribers);
    fleet.log_in(subscribers, PATIENCE).succeeded();
    let packets = vec![subscribe(TOPIC, 0, 1); subscribers];
    fleet.exchange(packets, subscribers, &suback(0, 1), PATIENCE).succeeded();
    let publisher = client(broker.port(), CLIENTS[0]);
    // Without a pause the kernel would hold the message back while the SUBACK before it is unacknowledged.
    thread::sleep(Duration::from_millis(100));
    (publisher, fleet)
}

/// Publishes one message: until the last one has it, and the longest stall.
pub fn spread(broker: &Broker, publisher: &mut TcpStream, fleet: &mut Fleet) -> [f64; 2] {
    let message = publish(TOPIC, &PAYLOAD, None);
    let pinger = Pinger::start(broker);
    let begun = Instant::now();
    publisher.write_all(&message).unwrap();
    let received = fleet.exchange(Vec::new(), 0, &message, PATIENCE).succeeded();
    let stalls = pinger.finish(begun, received.ended);
    [ms(received.ended - begun), stalls.longest_ms()]
}
