//! A long run: two brokers share a cache whose server is killed and comes back, again and again. Nobody gets in whom the
//! API refuses, everybody whom it allows does, and no broker waits longer for the cache than it may.
//!
//! The run takes 15 seconds in `make test`, and `MHA_SOAK_MINUTES` in `make soak`, where the server is away every other 30
//! seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::store::{Kind, Sharer, Store};
use crate::support::{Connect, MockApi, Reply, Setup, Version, broker_asking, friendly_api};

/// Clients that come and go at the same time.
const CLIENTS: usize = 4;
const USERS: usize = 40;

/// How long a verdict holds: each broker asks about everybody again and again.
const TTL: Duration = Duration::from_secs(1);

/// The default of `shared_cache_timeout`.
const STORE_TIME: Duration = Duration::from_millis(50);

/// What else a ping may take: a question to the API, on a machine that is busy.
const BESIDE: Duration = Duration::from_secs(1);

const REVOKED: &str = "now-and-then";

fn setup(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api)
        .global("log_type none\nlog_type error\nlog_type warning\nlog_type notice")
        .option("auth_cache_ttl", format!("{}s", TTL.as_secs()))
        .option("acl_cache_ttl", format!("{}s", TTL.as_secs()))
        .option("deny_cache_ttl", "0")
        .option("stale_ttl", "0")
        .option("throttle_after", 0)
}

#[test]
fn two_brokers_do_not_mind_that_their_store_comes_and_goes() {
    let minutes =
        std::env::var("MHA_SOAK_MINUTES").map_or(0.25, |minutes| minutes.parse().expect("a number"));
    let duration = Duration::from_secs_f64(60.0 * minutes);
    let is_away_for = Duration::from_secs(30).min(duration / 5);
    let api = friendly_api();
    api.stop_recording();
    let is_revoked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_revoked);
    api.answer_with(move |request| {
        let name = request.field("username");
        let is_refused = name.starts_with("never") || name == REVOKED && flag.load(Ordering::Relaxed);
        Reply::status(if is_refused { 403 } else { 200 })
    });
    let mut store = Store::start(Kind::Valkey);
    let brokers =
        [Version::V2_0_11, Version::V2_1].map(|version| Sharer::start(setup(version, &api), &store));
    let pinging = || Connect::v5("pinger").login("pinger", "secret");
    let mut pingers = brokers.each_ref().map(|sharer| pinging().accepted(sharer.port()));
    let [first, second] = &mut pingers;
    let (visits, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (((), stall), other_stall) = second.longest_ping_during(|| {
        first.longest_ping_during(|| {
            thread::scope(|scope| {
                for client in 0..CLIENTS {
                    let (brokers, visits, is_over) = (&brokers, &visits, &is_over);
                    scope.spawn(move || {
                        let going_on = |_: &usize| !is_over.load(Ordering::Relaxed);
                        for visit in (client..).step_by(CLIENTS).take_while(going_on) {
                            come_and_go(&brokers[visit / 3 % 2], client, visit);
                            visits.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                let end = Instant::now() + duration;
                while Instant::now() + 2 * is_away_for < end {
                    assert_revoked_everywhere(&brokers, &is_revoked);
                    thread::sleep(is_away_for);
                    store.kill();
                    thread::sleep(is_away_for);
                    store.start_again();
                    brokers.iter().for_each(|sharer| sharer.wait_until(true));
                }
                is_over.store(true, Ordering::Relaxed);
            });
        })
    });
    let found: f64 = brokers.iter().map(|sharer| sharer.metric("lookups_total{result=\"hit\"}")).sum();
    println!(
        "{visits:?} visits, {found} verdicts of the other broker; stalls of {stall:?} and {other_stall:?}"
    );
    assert!(found > 0.0, "nothing was shared");
    let longest = stall.max(other_stall);
    assert!(longest < STORE_TIME + BESIDE, "a broker stood still for {longest:?}");
    for mut sharer in brokers {
        let log = sharer.broker.log();
        assert!(
            !log.contains("has lost a command of another broker"),
            "a store that goes makes no gap:\n{log}"
        );
        let (status, _) = sharer.broker.terminate();
        assert!(status.success(), "{status}");
    }
}

/// Logs in and publishes. One in five is somebody whom the API never allows.
fn come_and_go(sharer: &Sharer, client: usize, visit: usize) {
    let (id, user) = (format!("client-{client}"), visit % USERS);
    if visit.is_multiple_of(5) {
        Connect::v5(id).login(format!("never-{user}"), "secret").refused(sharer.port());
        return;
    }
    let mut visitor = Connect::v5(id).login(format!("user-{user}"), "secret").accepted(sharer.port());
    assert_eq!(visitor.publish_acknowledged(format!("t/{user}"), "x") & 0x80, 0);
    visitor.disconnect();
}

/// Somebody is let in at both brokers, is revoked at one of them, and is kept out by both a second later.
fn assert_revoked_everywhere(brokers: &[Sharer; 2], is_revoked: &AtomicBool) {
    let login = || Connect::v5(REVOKED).login(REVOKED, "secret");
    for sharer in brokers {
        drop(login().accepted(sharer.port()));
    }
    is_revoked.store(true, Ordering::Relaxed);
    brokers[0].admin.carries_out("forget", &json!({ "username": REVOKED }));
    thread::sleep(Duration::from_secs(1));
    for sharer in brokers {
        login().refused(sharer.port());
    }
    is_revoked.store(false, Ordering::Relaxed);
}
