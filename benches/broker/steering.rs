//! What it costs to be seen: the admin listener, and those who mean ill with it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::api::Api;
use crate::load::{Rush, ms};
use crate::support::{Admin, Broker};
use crate::table::Table;
use crate::{Bench, release};

const CLIENTS: usize = 500;
const LATENCY: Duration = Duration::from_millis(20);

/// Requests that mean ill, and how many come at a time.
const REQUESTS: usize = 10_000;
const AT_A_TIME: usize = 8;

/// The rest of a request is sent after this, if at all.
const SLOWNESS: Duration = Duration::from_millis(50);

/// A time that is longer than any storm takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Measures logins without the admin listener, with it, and while it is attacked.
pub fn attacked(bench: &Bench) -> Table {
    let mut table = Table::new(
        "The admin listener under attack",
        format!(
            "{CLIENTS} clients log in at once, nothing remembered, API {LATENCY:?}, 64 requests at a time. *Attacked*: \
             {REQUESTS} hostile requests come to the listener, {AT_A_TIME} at a time, without a pause, and the clients \
             log in meanwhile: a wrong token, nonsense, 100 kB in a header, a request that ends in the middle, and one \
             in a hundred that goes on after {SLOWNESS:?}. Broker, API, clients and attackers share the machine. *At \
             rest*: what the broker's process takes before anybody comes."
        ),
        &["last CONNACK, ms", "longest stall, ms"],
        &["requests a second", "at rest, MB"],
    );
    for _ in bench.rounds() {
        for &version in &bench.versions {
            for (name, is_on, is_attacked) in
                [("no listener", false, false), ("a listener", true, false), ("attacked", true, true)]
            {
                let api = Api::start();
                api.answer_after(LATENCY);
                let admin = Admin::somewhere();
                let setup = bench.ours(version, &api);
                let broker = if is_on { admin.of(setup) } else { setup }.start();
                let at_rest = broker.resident_bytes() as f64 / 1e6;
                let Admin::Tcp(port) = admin else { continue };
                let (rush, rate) = if is_attacked {
                    beside_attack(&broker, &api, port)
                } else {
                    (storm(&broker, &api), f64::NAN)
                };
                let figures = [ms(rush.took), rush.stalls.longest_ms(), rate, at_rest];
                table.add(&release(version), name, &figures);
            }
        }
    }
    table
}

fn storm(broker: &Broker, api: &Api) -> Rush {
    Rush::of(broker, api, CLIENTS, |fleet| fleet.log_in(CLIENTS, LIMIT))
}

/// The storm, while hostile requests come: as many as there are, and more if the storm takes longer. Returns also how many
/// came in a second.
fn beside_attack(broker: &Broker, api: &Api, port: u16) -> (Rush, f64) {
    let (sent, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let begun = std::time::Instant::now();
    let rush = thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    if number >= REQUESTS && is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    request(port, number);
                }
            });
        }
        while sent.load(Ordering::Relaxed) < REQUESTS / 4 {
            thread::sleep(Duration::from_millis(1));
        }
        let rush = storm(broker, api);
        is_over.store(true, Ordering::Relaxed);
        rush
    });
    let rate = sent.into_inner() as f64 / begun.elapsed().as_secs_f64();
    (rush, rate)
}

/// Sends one hostile request, and waits until the listener has closed the connection.
fn request(port: u16, number: usize) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let wrong_token = b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer guess\r\n\r\n";
    let begun = b"POST /v1/kick HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{";
    let long;
    let bytes: &[u8] = match number % 4 {
        0 => wrong_token,
        1 => b"\0\0\0\0\0\0\0\0\r\n\r\n",
        2 => {
            long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 100_000]].concat();
            &long
        }
        _ => begun,
    };
    let _ = stream.write_all(bytes);
    if number % 100 == 99 {
        thread::sleep(SLOWNESS);
        let _ = stream.write_all(b"x");
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}
