//! An answer admits the client that it is about and no other, and only if it is still valid when it comes.

use std::time::{Duration, Instant};
use std::{fs, thread};

use tempfile::TempDir;

use super::{SLOW, broker};
use crate::support::broker::{plugin, plugin_line};
use crate::support::scene::{PASSWD_2_1, PASSWD_ARGON2ID};
use crate::support::{
    Broker, Connect, PASSWORD, PATIENCE, Refusal, Reply, Request, api, eventually, friendly_api, hash_in,
    local_user, reason,
};

/// Right passwords are answered at once or late, wrong ones late, so that every order comes about.
fn answer_in_every_order(request: &Request) -> Reply {
    let password = request.field("password");
    let milliseconds = password.bytes().map(u64::from).sum::<u64>() % 7 * 20;
    let status = if password.starts_with("right") { 200 } else { 403 };
    Reply::status(status).after(Duration::from_millis(100 + milliseconds))
}

/// Good client X hangs up while it is parked, somebody else comes as X, and then the old "yes" arrives.
fn assert_nobody_profits_from_a_late_yes(broker: &Broker, ids: u32, owner_port: u16, attacker_port: u16) {
    thread::scope(|scope| {
        for id in 0..ids {
            scope.spawn(move || {
                let name = format!("x-{owner_port}-{id}");
                for round in 0..6 {
                    let owner = Connect::v5(&name).login(&name, format!("right-{id}-{round}"));
                    let gone = owner.send(owner_port);
                    thread::sleep(Duration::from_millis(round * 15));
                    drop(gone);
                    // The broker turns the attacker away until it has noticed that X is gone.
                    let deadline = Instant::now() + PATIENCE;
                    let outcome = loop {
                        let attack = Connect::v5(&name).login(&name, format!("wrong-{id}-{round}"));
                        match attack.attempt(attacker_port) {
                            Err(Refusal::Closed) if Instant::now() < deadline => {}
                            outcome => break outcome,
                        }
                    };
                    assert!(outcome.is_err(), "round {round}: a wrong password lets {name} in");
                }
                Connect::v5(&name).login(&name, "right").accepted(owner_port);
            });
        }
    });
    let admissions = broker.log().lines().filter(|line| line.contains("New client connected")).count();
    assert!(admissions >= ids as usize);
}

#[test]
fn a_late_yes_lets_nobody_else_in() {
    let api = api("");
    api.answer_with(answer_in_every_order);
    let broker = broker(&api).option("throttle_after", 0).option("auth_cache_ttl", 0).start();
    assert_nobody_profits_from_a_late_yes(&broker, 12, broker.port(), broker.port());
}

/// The broker's table of parked clients is one for all listeners.
#[test]
fn a_late_yes_of_one_instance_lets_nobody_in_at_another() {
    let api = api("");
    api.answer_with(answer_in_every_order);
    let broker = broker(&api)
        .option("throttle_after", 0)
        .option("auth_cache_ttl", 0)
        .global("per_listener_settings true")
        .listener([
            plugin_line(&plugin()),
            format!("plugin_opt_auth_url {}", api.auth_url()),
            "plugin_opt_throttle_after 0".to_owned(),
            "plugin_opt_auth_cache_ttl 0".to_owned(),
        ])
        .start();
    let [one, other] = *broker.ports() else { panic!("two ports") };
    assert_nobody_profits_from_a_late_yes(&broker, 12, one, other);
    assert_nobody_profits_from_a_late_yes(&broker, 12, other, one);
}

/// Copies of the file have nothing in common by which to tell whose client is waiting: the second lets nobody wait.
#[test]
fn a_late_yes_of_one_copy_of_the_file_lets_nobody_in_at_another() {
    let api = api("");
    api.answer_with(answer_in_every_order);
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("copy.so");
    fs::copy(plugin(), &copy).unwrap();
    let lines = |mode: &str| {
        [
            plugin_line(&copy),
            format!("plugin_opt_auth_url {}", api.auth_url()),
            "plugin_opt_throttle_after 0".to_owned(),
            "plugin_opt_auth_cache_ttl 0".to_owned(),
            format!("plugin_opt_auth_mode {mode}"),
        ]
    };
    let setup = broker(&api)
        .option("throttle_after", 0)
        .option("auth_cache_ttl", 0)
        .global("per_listener_settings true");
    let broker = setup.clone().listener(lines("auto")).start();
    assert!(broker.log().contains("blocking mode, since another copy of the plugin's file is loaded"));
    let [one, other] = *broker.ports() else { panic!("two ports") };
    // A few ids, since one of the two is asked about one after the other.
    assert_nobody_profits_from_a_late_yes(&broker, 4, one, other);
    assert_nobody_profits_from_a_late_yes(&broker, 4, other, one);
    let failure = setup.listener(lines("delayed")).start_expecting_failure();
    assert!(failure.log.contains("another copy of the plugin's file is loaded"), "{}", failure.log);
}

/// The same, where a password check of a local user is what comes late.
#[test]
fn a_late_local_yes_lets_nobody_else_in() {
    let api = api("");
    api.answer(Reply::status(403).after(Duration::from_secs(2)));
    let broker = broker(&api)
        .file("passwords", PASSWD_ARGON2ID)
        .option("password_file", "passwords")
        .option("timeout", "10s")
        .option("throttle_after", 0)
        .start();
    for round in 0..3 {
        drop(Connect::v5("x").login("argon2id", PASSWORD).send(broker.port()));
        let outcome = loop {
            let attack = Connect::v5("x").login("mallory", format!("wrong-{round}"));
            match attack.attempt(broker.port()) {
                Err(Refusal::Closed) => {}
                outcome => break outcome,
            }
        };
        assert!(outcome.is_err(), "round {round}: mallory is let in");
    }
}

/// "Locals by the files as just re-read": also those whose password is being checked meanwhile.
#[test]
fn a_password_that_is_no_longer_good_when_its_check_ends_lets_nobody_in() {
    let before = PASSWD_ARGON2ID;
    let other_password = hash_in(PASSWD_2_1, "with space");
    let api = api("");
    let broker = broker(&api)
        .file("passwords", before)
        .option("password_file", "passwords")
        .option("throttle_after", 0)
        .start();
    let mut clients: Vec<_> = (0..16)
        .map(|n| Connect::v3(format!("c{n}")).login("argon2id", PASSWORD).send(broker.port()))
        .collect();
    assert_eq!(clients[0].connack(PATIENCE), Some(reason::SUCCESS), "they are being checked");
    let after = format!("argon2id:{}\n", other_password);
    fs::write(broker.folder().join("passwords"), after).unwrap();
    broker.sighup();
    broker.wait_for_log("re-read", PATIENCE);
    let answered_before: Vec<bool> =
        clients.iter_mut().skip(1).map(|client| client.connack(Duration::ZERO).is_some()).collect();
    assert!(answered_before.contains(&false), "all were checked before the reload was done");
    for (client, answered_before) in clients[1..].iter_mut().zip(answered_before) {
        if !answered_before {
            assert_ne!(client.connack(PATIENCE), Some(reason::SUCCESS), "let in by a file that is gone");
        }
    }
    // Those let in before are out, as they would be after any reload.
    assert!(eventually(PATIENCE, || clients.iter_mut().all(|client| client.try_ping(PATIENCE).is_none())));
}

/// A local user is decided by its hash; what the API says of the name counts no more.
#[test]
fn an_answer_of_the_api_is_void_for_a_name_that_has_become_local() {
    let api = friendly_api();
    let broker = broker(&api).file("passwords", "").option("password_file", "passwords").start();
    api.answer(Reply::status(200).after(SLOW));
    let mut parked = Connect::v5("x").login("alice", "another password").send(broker.port());
    let mut other = Connect::v5("y").login("bob", "secret").send(broker.port());
    api.wait_for_requests(2, PATIENCE);
    fs::write(broker.folder().join("passwords"), local_user("alice")).unwrap();
    broker.sighup();
    broker.wait_for_log("re-read", PATIENCE);
    assert_ne!(parked.connack(PATIENCE), Some(reason::SUCCESS), "let in with a password that is not its own");
    assert_eq!(other.connack(PATIENCE), Some(reason::SUCCESS));
    Connect::v5("x").login("alice", PASSWORD).accepted(broker.port());
}
