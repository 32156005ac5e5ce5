//! An API that is away for a while, and devices that keep their messages until these are acknowledged: what is lost.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::broker::Setup;
use crate::support::scene::PASSWD_2_1;
use crate::support::{Broker, Client, Connect, MockApi, PASSWORD, Reply, Version, api};
use crate::table::Table;
use crate::{Bench, as_operated, release};

const DEVICES: usize = 50;

/// Devices that lose their connections during the outage, from the first on.
const UNLUCKY: usize = 10;

/// How long the API is away, unless the command line says otherwise; other times are scaled with it.
const OUTAGE: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(5);

/// A message that takes longer is a delayed one.
const DELAYED: Duration = Duration::from_secs(1);

/// The longest pause between two tries to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How the API is away.
#[derive(Clone, Copy)]
enum Away {
    PortClosed,
    Hangs,
    Answers503,
}

const WAYS: [(&str, Away); 3] =
    [("port closed", Away::PortClosed), ("hangs", Away::Hangs), ("answers 503", Away::Answers503)];

/// The options of a subject.
const SUBJECTS: [(&str, Option<(&str, &str)>); 2] =
    [("default options", None), ("`stale_ttl 0`", Some(("stale_ttl", "0")))];

/// The name of a message: its device, and its number there.
type Name = (usize, u32);

pub fn outage(bench: &Bench) -> Table {
    let scale = bench.outage.as_secs_f64() / OUTAGE.as_secs_f64();
    let mut about = format!(
        "{DEVICES} devices, half of them with MQTT 3.1.1 and half with 5, publish with QoS 1, a message each {:?}. The \
         API is away for {:?}. {UNLUCKY} of them lose their connections a third into that, and come again after pauses \
         that double from a second. A device keeps what is not acknowledged and sends it again. *Lost*: what a local \
         user did not get, and of that what the device was told to be delivered or refused; what a reader did not get \
         that the API decides about. *Delayed*: by more than {:?}. *Back*: when all devices were connected again, from \
         when the API was. All at once, in one round.",
        scaled(EVERY, scale),
        bench.outage,
        scaled(DELAYED, scale),
    );
    if scale < 1.0 {
        about += " The times of the plugin's options are scaled, too.";
    }
    let mut table = Table::new(
        "An outage of the API",
        about,
        &[],
        &[
            "sent",
            "lost",
            "lost, said to be delivered",
            "lost, said to be refused",
            "lost for a reader",
            "delayed",
            "longest delay, s",
            "back after, s",
        ],
    );
    let mut runs = Vec::new();
    for &version in &bench.versions {
        for (way, away) in WAYS {
            for (subject, option) in SUBJECTS {
                runs.push((version, way, away, subject, option));
            }
        }
    }
    let measured: Vec<_> = thread::scope(|scope| {
        let start = |&(version, _, away, _, option)| {
            scope.spawn(move || Outage { setup: setup(bench, version, scale, option), away, scale }.run())
        };
        let running: Vec<_> = runs.iter().map(start).collect();
        running.into_iter().map(|run| run.join().expect("a run")).collect()
    });
    for ((version, way, _, subject, _), sample) in runs.iter().zip(measured) {
        table.add(&format!("{}, {way}", release(*version)), subject, &sample);
    }
    table
}

/// A broker whose options have their defaults, or shorter times to match.
fn setup(bench: &Bench, version: Version, scale: f64, option: Option<(&str, &str)>) -> Setup {
    let mut setup = as_operated(version)
        .plugin(&bench.ours)
        .file("passwords", PASSWD_2_1)
        .option("password_file", "passwords");
    if scale < 1.0 {
        let times = [
            ("auth_cache_ttl", 30.0),
            ("acl_cache_ttl", 30.0),
            ("timeout", 2.0),
            ("breaker_pause", 1.0),
            ("breaker_longest", 30.0),
        ];
        for (name, seconds) in times {
            // The machine gets no faster.
            let least = if name == "timeout" { 0.5 } else { 0.1 };
            let time = format!("{}ms", (f64::max(seconds * scale, least) * 1000.0) as u64);
            setup = setup.option(name, time);
        }
    }
    if let Some((name, value)) = option {
        setup = setup.option(name, value);
    }
    setup
}

/// A time as it is in a shorter run, in whole milliseconds.
fn scaled(time: Duration, scale: f64) -> Duration {
    Duration::from_millis((time.as_secs_f64() * scale * 1000.0) as u64)
}

struct Outage {
    setup: Setup,
    away: Away,
    scale: f64,
}

/// What one device has sent, and what it was told.
#[derive(Default)]
struct Device {
    /// Its messages, each with the time when it was made.
    sent: HashMap<Name, Instant>,
    /// Those that it was told are refused (MQTT 5).
    refused: Vec<Name>,
    /// When it was let in last.
    connected: Option<Instant>,
}

impl Outage {
    fn run(self) -> [f64; 8] {
        let api = api("");
        api.stop_recording();
        api.answer(Reply::status(200));
        let broker =
            self.setup.clone().option("auth_url", api.auth_url()).option("acl_url", api.acl_url()).start();
        let at = |seconds: f64| Duration::from_secs_f64(seconds * self.scale);
        let (ends, stops, hang_up) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        let (devices, [local, reader], back) = thread::scope(|scope| {
            let listen = |connect: Connect| {
                let mut client = connect.accepted(broker.port());
                assert!(client.may_subscribe("outage/#"));
                let stops = &stops;
                scope.spawn(move || received(&mut client, stops))
            };
            let local = listen(Connect::v5("local").login("sha512", PASSWORD));
            let reader = listen(Connect::v5("reader").login("reader", "secret"));
            let begun = Instant::now();
            let device = |number| {
                let (run, broker, ends, hang_up) = (&self, &broker, &ends, &hang_up);
                scope.spawn(move || run.device(number, broker, begun, ends, hang_up))
            };
            let running: Vec<_> = (0..DEVICES).map(device).collect();
            // Longer than verdicts are remembered: by then all is as it is every day.
            thread::sleep(at(45.0));
            self.begin(&api);
            thread::sleep(at(20.0));
            hang_up.store(true, Ordering::Relaxed);
            thread::sleep(at(40.0));
            self.end(&api);
            let back = Instant::now();
            thread::sleep(at(30.0));
            ends.store(true, Ordering::Relaxed);
            let devices: Vec<_> =
                running.into_iter().map(|device| device.join().expect("a device")).collect();
            thread::sleep(Duration::from_millis(500));
            stops.store(true, Ordering::Relaxed);
            (devices, [local, reader].map(|listener| listener.join().expect("a listener")), back)
        });
        let mut sample = [0.0; 8];
        for device in &devices {
            for (name, since) in &device.sent {
                let is_refused = device.refused.contains(name);
                sample[0] += 1.0;
                match local.get(name) {
                    None => {
                        sample[1] += 1.0;
                        sample[if is_refused { 3 } else { 2 }] += 1.0;
                    }
                    Some(at) => {
                        let delay = at.saturating_duration_since(*since);
                        sample[5] += f64::from(u8::from(delay > scaled(DELAYED, self.scale)));
                        sample[6] = f64::max(sample[6], delay.as_secs_f64());
                    }
                }
                sample[4] += f64::from(u8::from(!reader.contains_key(name)));
            }
            let connected =
                device.connected.map_or(0.0, |at| at.saturating_duration_since(back).as_secs_f64());
            sample[7] = f64::max(sample[7], connected);
        }
        sample
    }

    fn begin(&self, api: &MockApi) {
        match self.away {
            Away::PortClosed => api.stop(),
            Away::Hangs => api.answer(Reply::Hang),
            Away::Answers503 => api.answer(Reply::status(503)),
        }
    }

    fn end(&self, api: &MockApi) {
        api.answer(Reply::status(200));
        if matches!(self.away, Away::PortClosed) {
            api.restart().expect("the port is free");
        }
    }

    /// Publishes until the end, and then until all is acknowledged or a few minutes have passed.
    fn device(
        &self,
        number: usize,
        broker: &Broker,
        begun: Instant,
        ends: &AtomicBool,
        hang_up: &AtomicBool,
    ) -> Device {
        let name = format!("device-{number}");
        let connect = if number.is_multiple_of(2) { Connect::v3(&name) } else { Connect::v5(&name) };
        let connect = connect.login(&name, "secret");
        let every = scaled(EVERY, self.scale);
        let mut next = begun + every.mul_f64(number as f64 / DEVICES as f64);
        let (mut device, mut waiting, mut count) = (Device::default(), VecDeque::new(), 0);
        let (mut client, mut has_hung_up) = (None, false);
        let pause_at_first = Duration::from_secs(1).mul_f64(self.scale);
        let (mut pause, mut next_try) = (pause_at_first, begun);
        let mut last = None;
        loop {
            let now = Instant::now();
            if !ends.load(Ordering::Relaxed) {
                while next <= now {
                    device.sent.insert((number, count), next);
                    waiting.push_back(count);
                    count += 1;
                    next += every;
                }
            } else if (waiting.is_empty() && client.is_some())
                || *last.get_or_insert(now) + LONGEST_PAUSE.mul_f64(2.0 * self.scale) < now
            {
                return device;
            }
            if number < UNLUCKY && !has_hung_up && hang_up.load(Ordering::Relaxed) {
                has_hung_up = true;
                client = None;
                next_try = now + pause;
            }
            if client.is_none() && next_try <= now {
                client = connect.attempt(broker.port()).ok();
                if client.is_some() {
                    device.connected = Some(Instant::now());
                    pause = pause_at_first;
                } else {
                    next_try = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE.mul_f64(self.scale));
                }
            }
            if let (Some(there), Some(message)) = (&mut client, waiting.front().copied()) {
                match there.try_publish(format!("outage/{number}"), format!("{number} {message}")) {
                    Some(code) => {
                        if code >= 0x80 {
                            device.refused.push((number, message));
                        }
                        waiting.pop_front();
                        continue;
                    }
                    None => {
                        client = None;
                        next_try = Instant::now() + pause;
                    }
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The messages that a client gets until it is to stop, and when each came first.
fn received(client: &mut Client, stops: &AtomicBool) -> HashMap<Name, Instant> {
    let mut received = HashMap::new();
    while !stops.load(Ordering::Relaxed) {
        let Some(message) = client.receive(Duration::from_millis(100)) else { continue };
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        let Some((device, count)) = text.split_once(' ') else { continue };
        if let (Ok(device), Ok(count)) = (device.parse(), count.parse()) {
            received.entry((device, count)).or_insert_with(Instant::now);
        }
    }
    received
}
