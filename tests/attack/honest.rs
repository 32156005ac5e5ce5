//! The honest clients of the attack, and the delays that they measure.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Connect, ELSEWHERE, reason};
use crate::world::RIGHT;

/// How many there are.
pub const CLIENTS: usize = 20;

/// The longest that one waits before it gives up.
const LIMIT: Duration = Duration::from_secs(5);

/// How long each does something else between two visits.
const BETWEEN: Duration = Duration::from_millis(250);

/// What they felt in one phase of the run.
#[derive(Debug, Default, Clone)]
pub struct Felt {
    pub tried: usize,
    pub got_in: usize,
    /// Visits in which a subscription, a message or its delivery failed.
    pub lost: usize,
    /// How long each login took, and what came after it: a subscription, a message and its delivery.
    pub logins: Vec<Duration>,
    pub uses: Vec<Duration>,
}

/// The share of waits, in percent, that are no longer than this.
pub fn percentile(waits: &[Duration], percent: usize) -> Duration {
    let mut sorted = waits.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

/// One of them.
pub struct Honest {
    client_id: String,
    username: String,
    source: Ipv4Addr,
}

impl Honest {
    /// The last one has its name and its address in common with the attackers: it belongs to a fleet with one name.
    pub fn number(number: usize) -> Self {
        let (username, source) = match number + 1 {
            CLIENTS => ("fleet".to_owned(), Ipv4Addr::LOCALHOST),
            _ => (format!("honest-{number}"), ELSEWHERE),
        };
        Self { client_id: format!("honest-id-{number}"), username, source }
    }

    /// Comes and goes until it is over.
    pub fn live(&self, port: u16, felt: &Mutex<Felt>, over: &AtomicBool) {
        let mut visits: usize = 0;
        while !over.load(Ordering::Relaxed) {
            visits += 1;
            self.visit(port, visits, felt);
            thread::sleep(BETWEEN);
        }
    }

    fn visit(&self, port: u16, visit: usize, felt: &Mutex<Felt>) {
        let connect = Connect::v5(&self.client_id).login(&self.username, RIGHT).coming_from(self.source);
        let start = Instant::now();
        let mut client = connect.send(port);
        let code = client.connack(LIMIT);
        let waited = start.elapsed();
        let start = Instant::now();
        // Everybody has a few topics.
        let topic = format!("{}/{}", self.username, visit % 5);
        let is_used = code == Some(reason::SUCCESS) && {
            let subscribe = client.subscribe_packet(&[(&topic, 0)]);
            let publish = client.publish_packet(topic.as_bytes(), b"x", 0, false);
            client.send(&[subscribe, publish].concat());
            client.receive(LIMIT).is_some_and(|message| message.topic == topic)
        };
        let used = start.elapsed();
        client.hang_up();
        let mut felt = felt.lock().unwrap();
        felt.tried += 1;
        felt.logins.push(waited);
        if code == Some(reason::SUCCESS) {
            felt.got_in += 1;
            felt.lost += usize::from(!is_used);
            felt.uses.push(used);
        }
    }
}
