//! SIGHUP: every session is rechecked. Only a client that is refused by now loses anything.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

mod everybody;
mod going;
mod local;
mod sleeping;
mod slices;
mod staying;
mod strangers;
#[path = "../support/mod.rs"]
mod support;

use support::broker::are_for_musl;
use support::scene::PASSWD_2_0_11;
use support::{
    Broker, Client, Connect, MockApi, PATIENCE, Reply, Setup, Version, eventually, on_every_broker,
};

/// The ways to a broker in which a reload goes differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    /// 2.0 serves these clients between the reload and its next tick.
    WebSockets,
    /// 2.0.11 never ticks.
    PerListener,
}

use Way::{PerListener, Plain, WebSockets};

const WAYS: [Way; 3] = [Plain, WebSockets, PerListener];

impl Way {
    /// How many clients are many. 2.0 needs about a tick for each over WebSockets.
    fn many(self) -> usize {
        if self == WebSockets { 5 } else { 20 }
    }

    /// A broker that remembers no login, so that it has to ask, and turns nobody away for the time that it takes.
    fn to(self, version: Version, api: &MockApi) -> Setup {
        let setup = Broker::with(version).option("auth_url", api.auth_url());
        let setup = setup.option("auth_cache_ttl", 0).option("login_wait", 0);
        match self {
            Plain => setup,
            // 2.0.11 does not start with nothing but such a listener.
            WebSockets => setup.listener(["protocol websockets"]),
            PerListener => setup.global("per_listener_settings true"),
        }
    }

    /// The same where the broker's own password file decides about those whom the API answers 404, each time anew.
    fn to_beside_others(self, version: Version, api: &MockApi) -> Setup {
        let setup = self.to(version, api).option("defer_status", "404").option("deny_cache_ttl", 0);
        setup.file("others", PASSWD_2_0_11).line("password_file others")
    }

    fn port(self, broker: &Broker) -> u16 {
        if self == WebSockets { broker.ports()[1] } else { broker.port() }
    }

    fn login(self, name: &str, password: &str) -> Connect {
        self.over(Connect::v5(name).login(name, password))
    }

    fn over(self, connect: Connect) -> Connect {
        if self == WebSockets { connect.over_websocket() } else { connect }
    }
}

/// Runs one test for every broker and every way, side by side; a failure names both.
fn on_every_way_to_every_broker(test: impl Fn(Version, Way) + Sync) {
    let test = &test;
    on_every_broker(|version| {
        thread::scope(|scope| {
            for way in WAYS.into_iter().filter(|way| *way != WebSockets || !are_for_musl()) {
                let thread = thread::Builder::new().name(format!("broker {version}, {way:?}"));
                thread.spawn_scoped(scope, move || test(version, way)).unwrap();
            }
        });
    });
}

/// An API that refuses these users with this status from now on.
fn refuse(api: &MockApi, names: &'static [&'static str], status: u16) {
    api.answer_with(move |request| {
        Reply::status(if names.contains(&request.field("username")) { status } else { 200 })
    });
}

/// Sends SIGHUP and waits until the broker reloads. It asks about its sessions before it does anything else.
fn reload(broker: &Broker) {
    let reloads = || broker.log().matches("Reloading config").count();
    let before = reloads();
    // While it is at it, the broker hears no further signal.
    let reloaded = (0..50).any(|_| {
        broker.sighup();
        eventually(PATIENCE / 50, || reloads() > before)
    });
    assert!(reloaded, "mosquitto {} does not reload", broker.version());
}

fn assert_all_stay<'a>(clients: impl IntoIterator<Item = &'a mut Client>, context: &str) {
    for (number, client) in clients.into_iter().enumerate() {
        assert!(client.try_ping(PATIENCE).is_some(), "client {number} is disconnected: {context}");
    }
}

/// Waits until a client is disconnected. 2.0.11 with `per_listener_settings` does nothing by itself, so
/// somebody else comes meanwhile.
fn leaves(broker: &Broker, way: Way, client: &mut Client) -> bool {
    eventually(PATIENCE, || {
        let _ = way.login("somebody else", "x").attempt(way.port(broker));
        client.wait_until_closed(Duration::from_millis(50))
    })
}
