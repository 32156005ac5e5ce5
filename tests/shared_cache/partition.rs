//! A network that goes: packets vanish, and nobody is told.
//!
//! The test runs in a network namespace of its own, and the store in another, with a cable between them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use serde_json::json;
use tempfile::TempDir;

use crate::store::{Kind, Sharer, shared};
use crate::support::{MockApi, PATIENCE, Setup, Version, broker_asking, eventually, friendly_api};

const NEAR: &str = "192.0.2.1/24";
const FAR: &str = "192.0.2.2";
const PORT: u16 = 6379;

/// How long a question may wait for the store: longer than what else a login takes on a busy machine.
const STORE_TIME: Duration = Duration::from_millis(400);

/// Runs this test once more in a network namespace of its own, and returns whether this is there.
fn is_in_own_network(test: &str) -> bool {
    const MARK: &str = "MHA_OWN_NETWORK";
    if env::var_os(MARK).is_some() {
        ip("link set lo up");
        return true;
    }
    let cable = ["-n", "ip", "link", "add", "near", "type", "veth", "peer", "name", "far"];
    let can = Command::new("unshare").args(cable).output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "skipped: there are no network namespaces with cables between them here (unshare(1), ip(8))"
        );
        return false;
    }
    let mut inside = Command::new("unshare");
    inside.arg("-n").arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(MARK, "1");
    assert!(inside.status().unwrap().success(), "see above");
    false
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip, of the package iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A store at the other end of a cable.
struct Distant {
    process: Child,
    _folder: TempDir,
}

impl Distant {
    fn start() -> Self {
        let folder = TempDir::with_prefix("mha-distant-").unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let server = format!(
            "until ip link show far; do sleep 0.05; done; ip addr add {FAR}/24 dev far; ip link set far up; \
             exec \"$0\" --port {PORT} --bind {FAR} --protected-mode no --save '' --appendonly no"
        );
        let process = Command::new("unshare")
            .args(["-n", "sh", "-c", &server])
            .arg(Kind::Valkey.program())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let id = process.id();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let has_moved = || fs::read_link(format!("/proc/{id}/ns/net")).is_ok_and(|network| network != own);
        assert!(eventually(PATIENCE, has_moved));
        ip("link add near type veth peer name far");
        ip(&format!("link set far netns {id}"));
        ip(&format!("addr add {NEAR} dev near"));
        ip("link set near up");
        Self { process, _folder: folder }
    }

    fn url() -> String {
        format!("redis://{FAR}:{PORT}")
    }

    /// Cuts the cable at its far end, or mends it.
    fn set_cable(&self, state: &str) {
        let id = self.process.id().to_string();
        let set = Command::new("nsenter").args(["-t", &id, "-n", "ip", "link", "set", "far", state]).status();
        assert!(set.unwrap().success());
    }
}

impl Drop for Distant {
    fn drop(&mut self) {
        // First, since it goes by itself with the other end's network, some time after the server.
        ip("link del near");
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn setup(version: Version, api: &MockApi) -> Setup {
    let setup = broker_asking(version, api).option("lookahead", false).option("acl_learn", false);
    shared(setup, &Distant::url()).option("shared_cache_timeout", format!("{}ms", STORE_TIME.as_millis()))
}

#[test]
fn a_network_that_goes_costs_its_time_once_and_nothing_is_missed() {
    if !is_in_own_network("partition::a_network_that_goes_costs_its_time_once_and_nothing_is_missed") {
        return;
    }
    let (api, store) = (friendly_api(), Distant::start());
    let versions = [Version::V2_0_11, Version::V2_1];
    let brokers = versions.map(|version| Sharer::of(setup(version, &api)));
    brokers[0].visited_by("before");
    // Nobody waits for that.
    let is_stored = || brokers[0].metric("stores_total{result=\"ok\"}") == 1.0;
    assert!(eventually(PATIENCE, is_stored));
    brokers[1].visited_by("before");
    assert_eq!(api.logins().len(), 1, "what one has asked the other is not asked");
    store.set_cable("down");
    for sharer in &brokers {
        let first = sharer.visited_by("first");
        assert!(first >= STORE_TIME * 7 / 8, "{first:?}");
        let others: Vec<_> = (0..10).map(|number| sharer.visited_by(&format!("other{number}"))).collect();
        assert!(others.iter().all(|took| *took < STORE_TIME * 7 / 8), "{others:?}");
        sharer.wait_until(false);
    }
    brokers[0].admin.carries_out("forget", &json!({ "username": "before" }));
    let asked = api.logins().len();
    brokers[1].visited_by("before");
    assert_eq!(api.logins().len(), asked, "this one has not heard of it");
    store.set_cable("up");
    brokers.iter().for_each(|sharer| sharer.wait_until(true));
    let has_heard = || brokers[1].metric("commands_total{way=\"heard\"}") > 0.0;
    assert!(eventually(PATIENCE, has_heard), "the other is told later");
    brokers[1].visited_by("before");
    assert_eq!(api.logins().len(), asked + 1);
}
