//! The broker goes through all sessions in one turn of its loop. The API is asked about them in the turns after it, some at
//! a time, so that other clients are not held up by that.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mosquitto_http_auth::internals::{Caller, Client, Login, Plugin, Ruling, SessionStays};

use crate::support::idle::{Idle, thread};
use crate::support::{MockApi, PATIENCE, eventually, friendly_api};

const SESSIONS: usize = 2_500;
/// Sessions that are asked about in one turn, and before it is known that the API allows anybody.
const AT_ONCE: usize = 1_000;
const FIRST: usize = 20;

struct Fleet {
    api: MockApi,
    plugin: Plugin,
    names: Vec<String>,
}

impl Fleet {
    fn new() -> Self {
        let api = friendly_api();
        let options = [
            ("auth_url", &*api.auth_url()),
            ("auth_cache_ttl", "0"),
            ("login_wait", "0"),
            ("timeout", "60s"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let plugin = Plugin::new(options, Arc::new(Idle), &thread(), Instant::now()).unwrap();
        let names = (0..SESSIONS).map(|n| format!("device-{n}")).collect();
        Self { api, plugin, names }
    }

    fn tick(&self) {
        self.plugin.tick(&Caller::Broker(thread()), Instant::now());
    }

    /// Each of them logs in, or is checked again.
    fn authenticate_all(&self) {
        let caller = Caller::Broker(thread());
        for (number, name) in self.names.iter().enumerate() {
            let client = Client { connection: number + 1, id: name, address: Some("192.0.2.1") };
            let (username, password) = (Some(&**name), Some(&b"secret"[..]));
            let login = Login { client, username, password, starts_clean: true, level: 4, details: &() };
            let decision = self.plugin.authenticate(&login, &caller, Instant::now());
            assert_eq!(decision.ruling, Ruling::Allow, "{name}");
        }
    }

    fn wait_for_questions(&self, count: usize) {
        assert!(eventually(PATIENCE, || self.api.logins().len() >= count), "{}", self.api.logins().len());
        assert_eq!(self.api.logins().len(), count);
    }
}

#[test]
fn many_sessions_are_asked_about_in_several_turns() {
    let fleet = Fleet::new();
    fleet.authenticate_all();
    fleet.tick();
    fleet.api.forget_requests();
    fleet.plugin.reload(&Caller::Broker(thread()), Instant::now());
    fleet.authenticate_all();
    assert_eq!(fleet.api.logins().len(), 0, "not before the broker has gone through all of them");
    fleet.tick();
    fleet.wait_for_questions(FIRST);
    fleet.api.wait_until_answered(PATIENCE);
    // The answers may not have been counted in the first turn. A turn in which more was asked about must not be followed by
    // another, however long that takes to be seen.
    let has_gone_on = || {
        fleet.tick();
        eventually(Duration::from_secs(3), || fleet.api.logins().len() > FIRST)
    };
    assert!(eventually(PATIENCE, has_gone_on), "somebody was allowed, so all are asked about");
    fleet.wait_for_questions(FIRST + AT_ONCE);
    let asked = || {
        let names = fleet.api.logins().into_iter().map(|login| login.field("username").to_owned());
        names.collect::<HashSet<_>>()
    };
    // Whoever has gone meanwhile is not asked about.
    let before = asked();
    let not_asked = |(_, name): &(usize, &String)| !before.contains(*name);
    for (number, name) in fleet.names.iter().enumerate().filter(not_asked).take(2) {
        let client = Client { connection: number + 1, id: name, address: Some("192.0.2.1") };
        fleet.plugin.disconnected(client, name, SessionStays::No, Instant::now());
    }
    fleet.tick();
    fleet.wait_for_questions(FIRST + 2 * AT_ONCE - 2);
    fleet.tick();
    fleet.wait_for_questions(SESSIONS - 2);
    fleet.tick();
    assert_eq!(asked().len(), SESSIONS - 2, "each is asked about once");
}
