//! A long run under load: thousands of logins a second, and more users and topics than the cache has room for. The
//! broker's memory, threads and descriptors do not grow, and a login costs at the end what it cost at the start.
//!
//! The run takes half a minute in `make test`, and `MHA_SOAK_MINUTES` in `make soak`.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::{
    Broker, Connect, PATIENCE, Reply, Setup, Usage, Version, api, broker_asking, eventually, reason,
};

/// Clients that come and go at the same time, at each broker.
const CLIENTS: usize = 4;

const CACHE_SIZE: usize = 500;
const USERS: usize = 3 * CACHE_SIZE;
const TOPICS: usize = 4 * CACHE_SIZE;

/// One in so many has a wrong password.
const INTRUDERS: usize = 20;

/// How much of the run one part is, at most.
const PART: Duration = Duration::from_secs(60);
const FEWEST_PARTS: u32 = 4;

/// What one part of the run took.
struct Part {
    logins: usize,
    logins_per_second: f64,
    computed_per_login: Duration,
    usage: Usage,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { logins, logins_per_second, computed_per_login, usage } = self;
        write!(
            f,
            "{logins} logins, {logins_per_second:.0} a second, {computed_per_login:.2?} of computing for each; "
        )?;
        write!(f, "{usage:?}")
    }
}

#[test]
fn what_it_takes_does_not_grow() {
    let minutes = std::env::var("MHA_SOAK_MINUTES").map_or(0.5, |minutes| minutes.parse().expect("a number"));
    let duration = Duration::from_secs_f64(60.0 * minutes);
    thread::scope(|scope| {
        for version in [Version::V2_0_11, Version::V2_1] {
            let name = format!("broker {version}");
            thread::Builder::new().name(name).spawn_scoped(scope, move || endure(version, duration)).unwrap();
        }
    });
}

fn endure(version: Version, duration: Duration) {
    let api = api("");
    api.stop_recording();
    api.answer_with(|request| match request.field("password") {
        "wrong" => Reply::status(403),
        _ => Reply::status(200),
    });
    // Not a line for each client, which would fill the disk.
    let quiet = |setup: Setup| {
        ["none", "error", "warning"]
            .iter()
            .fold(setup, |setup, kind| setup.global(format!("log_type {kind}")))
    };
    let mut broker =
        quiet(broker_asking(version, &api)).option("cache_size", CACHE_SIZE).option("timeout", "20s").start();
    let files_at_start = broker.open_files();
    let (logins, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let parts: Vec<Part> = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (port, logins, is_over) = (broker.port(), &logins, &is_over);
            scope.spawn(move || {
                for visit in (client..).step_by(CLIENTS).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    come_and_go(port, client, visit);
                    logins.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let count = FEWEST_PARTS.max((duration.as_secs_f64() / PART.as_secs_f64()) as u32);
        let parts = (0..count).map(|_| measure(&broker, &logins, duration / count)).collect();
        is_over.store(true, Ordering::Relaxed);
        parts
    });

    assert!(broker.is_running(), "the broker is gone");
    // By then the tables are as full as they get: that of connections seen in look-ahead holds 100,000.
    let first = &parts[parts.len() / 4];
    let last = &parts[parts.len() - 1];
    assert!(last.usage.threads <= first.usage.threads, "threads have grown: {first}; {last}");
    assert!(last.usage.megabytes <= first.usage.megabytes * 11 / 10 + 4, "memory has grown: {first}; {last}");
    // Computing, since time passes faster on a machine that is busy with other things; and that a little, too.
    assert!(last.computed_per_login <= first.computed_per_login * 2, "logins cost more: {first}; {last}");
    // Nobody is connected any more. What is left is the worker's, and its connections to the API.
    let few = files_at_start + 8 + api.connections();
    assert!(eventually(PATIENCE, || broker.open_files() <= few), "files are open: {:?}", broker.usage());
    let (status, _) = broker.terminate();
    assert!(status.success(), "{status}");
}

/// Logs in, subscribes, publishes, gets what it has published, and goes.
fn come_and_go(port: u16, client: usize, visit: usize) {
    let user = visit % USERS;
    if visit.is_multiple_of(INTRUDERS) {
        // Under an id of its own, since wrong passwords under one id are throttled.
        Connect::v3(format!("intruder-{visit}")).login(format!("user-{user}"), "wrong").refused(port);
        return;
    }
    let login = Connect::v3(format!("client-{client}"));
    let topic = format!("topic/{}", visit % TOPICS);
    let mut visitor = login.login(format!("user-{user}"), "secret").accepted(port);
    assert_eq!(visitor.subscribe(&[(&topic, 0)]), [reason::SUCCESS]);
    visitor.publish(&topic, "hello");
    assert_eq!(visitor.receive(PATIENCE).expect("its own message").topic, topic);
    visitor.disconnect();
}

fn measure(broker: &Broker, logins: &AtomicUsize, duration: Duration) -> Part {
    let (start, logins_before, computed_before) =
        (Instant::now(), logins.load(Ordering::Relaxed), broker.computed());
    thread::sleep(duration);
    let logins = logins.load(Ordering::Relaxed) - logins_before;
    let computed = broker.computed() - computed_before;
    let part = Part {
        logins,
        logins_per_second: logins as f64 / start.elapsed().as_secs_f64(),
        computed_per_login: computed / u32::try_from(logins).unwrap(),
        usage: broker.usage(),
    };
    eprintln!("mosquitto {}: {part}", broker.version());
    part
}
