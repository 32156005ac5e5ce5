//! A fleet that comes back at once over TLS on 2.0, where its logins block the broker and nothing can be asked ahead: all
//! get in within two retries, and nobody else stands still for longer than `login_wait` and one question.
//!
//! A target of its own: hundreds of handshakes would disturb whoever measures times beside them.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::tls::{Authority, TlsStream, Validity, connect_tls};
use support::{
    Broker, Connect, MockApi, PASSWORD, PATIENCE, Reply, Version, bystander, friendly_api, local_user,
};

/// How a fleet got in.
#[derive(Debug)]
struct Arrival {
    /// How many devices got in at their first try, their second, and so on.
    tries: Vec<usize>,
    /// Until the last one was in.
    took: Duration,
    /// The longest that somebody who is connected waited for a ping.
    stall: Duration,
}

/// Logs a device in over TLS, as it should be done: whoever is turned away comes again after 1 to 5 s. Returns the try that
/// succeeded, and the connection.
fn log_in(number: usize, port: u16, authority: &Authority) -> (usize, TlsStream) {
    let connect =
        Connect::v3(format!("device-{number}")).login(format!("device-{number}"), "secret").packet();
    for attempt in 0.. {
        let mut answer = [0; 4];
        let outcome = connect_tls(authority.client_config(), port).and_then(|mut stream| {
            stream.sock.set_read_timeout(Some(3 * PATIENCE))?;
            stream.write_all(&connect)?;
            stream.read_exact(&mut answer)?;
            Ok(stream)
        });
        match outcome {
            Ok(stream) => {
                assert_eq!(answer, [0x20, 2, 0, 0], "device {number} hears that it may not come in");
                return (attempt, stream);
            }
            Err(_) => thread::sleep(Duration::from_millis(1000 + (number as u64 * 7919) % 4000)),
        }
    }
    unreachable!()
}

/// Has a fleet come at once. Each login is asked about, and takes the API `latency`.
fn arrive(
    version: Version,
    devices: usize,
    latency: Duration,
    login_wait: &str,
) -> (Arrival, MockApi, Broker) {
    let authority = Authority::new("test");
    let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
    let api = friendly_api();
    api.answer(Reply::status(200).after(latency));
    let broker = Broker::with(version)
        .option("auth_url", api.auth_url())
        .option("auth_mode", "blocking")
        .option("login_wait", login_wait)
        .option("user", local_user("bystander"))
        .tls_listener(&server, &[])
        .start();
    let (port, tls_port) = (broker.port(), broker.ports()[1]);
    let mut bystander = bystander(&broker, "bystander", PASSWORD);
    Connect::v3("warm").login("warm", "secret").accepted(port);
    let tries: Arc<[AtomicUsize; 10]> = Arc::default();
    let began = Instant::now();
    let (took, stall) = bystander.longest_ping_during(|| {
        thread::scope(|scope| {
            let (tries, authority) = (&tries, &authority);
            let log_in = |number| {
                let thread = thread::Builder::new().stack_size(512 << 10);
                let device = move || {
                    let (attempt, stream) = log_in(number, tls_port, authority);
                    tries[attempt.min(9)].fetch_add(1, Ordering::Relaxed);
                    (Instant::now(), stream)
                };
                thread.spawn_scoped(scope, device).unwrap()
            };
            let fleet: Vec<_> = (0..devices).map(log_in).collect();
            // All of them stay until the last one is in.
            let fleet: Vec<_> = fleet.into_iter().map(|device| device.join().unwrap()).collect();
            fleet.iter().map(|(at, _)| *at).max().unwrap() - began
        })
    });
    let mut tries: Vec<_> = tries.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    while tries.last() == Some(&0) {
        tries.pop();
    }
    (Arrival { tries, took, stall }, api, broker)
}

#[test]
fn a_fleet_over_tls_gets_in_within_two_retries() {
    const DEVICES: usize = 100;
    let latency = Duration::from_millis(50);
    let (bounded, api, _broker) = arrive(Version::V2_0_11, DEVICES, latency, "500ms");
    assert_eq!(bounded.tries.iter().sum::<usize>(), DEVICES);
    assert!((2..=3).contains(&bounded.tries.len()), "{bounded:?}");
    assert_eq!(api.logins().len(), DEVICES + 1, "each is asked about once");
    // Without the bound the broker stands still for all of them together.
    let (unbounded, ..) = arrive(Version::V2_0_11, DEVICES, latency, "0");
    assert!(bounded.stall * 2 < unbounded.stall, "{bounded:?}, without a bound {unbounded:?}");
}

#[test]
#[ignore = "a thousand devices take a minute: for the figures"]
fn a_thousand_devices_over_tls() {
    for version in [Version::V2_0_11, Version::V2_0_21] {
        let devices = std::env::var("DEVICES").ok().and_then(|devices| devices.parse().ok()).unwrap_or(1000);
        let (arrival, api, _broker) = arrive(version, devices, Duration::from_millis(20), "500ms");
        let Arrival { tries, took, stall } = &arrival;
        let asked = api.logins().len();
        eprintln!(
            "mosquitto {version}, {devices} devices: in at their first try, second and so on {tries:?}, all in after {took:.2?}, longest stall {stall:.2?}, {asked} questions"
        );
        assert!(arrival.tries.len() <= 3, "{arrival:?}");
    }
}
