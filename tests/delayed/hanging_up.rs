//! A client that hangs up while it waits leaves nothing behind, and changes nothing for the session with its id.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use super::{SLOW, broker};
use crate::support::admin::Admin;
use crate::support::scene::{Gate, PASSWD_ARGON2ID};
use crate::support::{
    Broker, Connect, PASSWORD, PATIENCE, Reply, Request, Version, api, broker_asking, bystander, eventually,
    fence, friendly_api,
};

#[test]
fn clients_that_hang_up_while_parked_leave_nothing_behind() {
    let api = friendly_api();
    // With the breaker open nobody would be parked.
    let broker = broker(&api)
        .option("timeout", "1s")
        .option("max_wait", "2s")
        .option("max_requests", 8)
        .option("breaker_after", 0)
        .start();
    let mut bystander = bystander(&broker, "bob", "secret");
    Connect::v3("first").login("first", "x").accepted(broker.port());
    let (threads, files) = (broker.threads(), broker.open_files());
    api.answer(Reply::Hang);
    let mut memory_after = |rounds: Range<usize>| {
        for round in rounds {
            let name = |client: usize| format!("c-{round}-{client}");
            let parked = (0..300).map(|c| Connect::v3(name(c)).login(name(c), "x").send(broker.port()));
            drop(parked.collect::<Vec<_>>());
            bystander.ping();
        }
        broker.resident_bytes()
    };
    let (early, late) = (memory_after(0..4), memory_after(4..12));
    assert!(late < early * 2, "{} kB, then {} kB", early >> 10, late >> 10);
    api.restart().unwrap();
    api.answer(Reply::status(200));
    let again = Connect::v3("c-0-0").login("c-0-0", "x");
    assert!(eventually(PATIENCE, || again.attempt(broker.port()).is_ok()), "its id is free");
    assert!(eventually(PATIENCE, || broker.open_files() <= files + 10), "{} files", broker.open_files());
    assert!(eventually(PATIENCE, || broker.threads() <= threads), "{} threads", broker.threads());
}

/// Somebody else under its id has a parking of its own: what was kept of the first one would shut out its whole network.
#[test]
fn who_is_replaced_while_it_waits_for_its_turn_is_forgotten() {
    const WAIT: usize = 20;
    let api = friendly_api();
    let is_about_alice = |request: &Request| request.field("username") == "alice";
    let _gate = Gate::holding(&api, is_about_alice, |_| Reply::status(403));
    let admin = Admin::somewhere();
    let broker = admin
        .of(broker(&api))
        .option("timeout", "60s")
        .option("max_wait", "5s")
        .option("throttle_after", 1)
        .start();
    let come =
        |id: String, name: &str, password: &str| Connect::v3(id).login(name, password).send(broker.port());
    let parked = || admin.metric("mosquitto_http_auth_parked_clients") as usize;
    let _open = come("o".to_owned(), "alice", "wrong");
    api.wait_for_requests(1, PATIENCE);
    // The guess about alice that is open leaves no room for more.
    let waiting: Vec<_> = (0..WAIT).map(|n| come(format!("w-{n}"), "alice", &format!("more-{n}"))).collect();
    assert!(eventually(PATIENCE, || parked() == 1 + WAIT), "{} before", parked());
    drop(waiting);
    for n in 0..WAIT {
        Connect::v3(format!("w-{n}")).login(format!("other-{n}"), "x").refused(broker.port());
    }
    assert!(eventually(PATIENCE, || parked() == 1), "{} after", parked());
}

#[test]
fn a_storm_of_reconnects_leaves_a_client_that_works() {
    let api = friendly_api();
    api.answer(Reply::status(200).after(Duration::from_millis(10)));
    let broker = broker_asking(Version::V2_1, &api).option("auth_cache_ttl", "1s").start();
    let connect = Connect::v3("x").login("alice", "secret");
    for number in 0..300 {
        let client = connect.send(broker.port());
        thread::sleep(Duration::from_millis(number % 13));
        drop(client);
    }
    let mut client = None;
    assert!(eventually(PATIENCE, || {
        client = connect.attempt(broker.port()).ok();
        client.is_some()
    }));
    let mut client = client.unwrap();
    assert!(client.may_subscribe("news"));
    client.publish("news", "hello");
    assert_eq!(client.receive(PATIENCE).expect("message").payload, b"hello");
    api.forget_requests();
    broker.sighup();
    broker.wait_for_log("Reloading config", PATIENCE);
    api.wait_for_requests(1, PATIENCE);
    fence::later_logins(broker.port(), &api);
    client.ping();
}

/// Somebody comes with an id that has a session, with the right password, and is gone before he is let in.
fn come_and_go(connect: &Connect, broker: &Broker) {
    drop(connect.send(broker.port()));
    thread::sleep(SLOW * 2);
}

#[test]
fn who_hangs_up_while_parked_takes_no_rights_from_the_session_under_its_id() {
    // Who hangs up while it waits is not let wait the next time: a broker for each try.
    for _ in 0..3 {
        let api = api("");
        let broker = broker_asking(Version::V2_1, &api)
            .file("passwords", PASSWD_ARGON2ID)
            .option("password_file", "passwords")
            .start();
        let connect = Connect::v5("x").login("argon2id", PASSWORD);
        let mut client = connect.accepted(broker.port());
        drop(connect.send(broker.port()));
        // Passwords are checked one after the other.
        Connect::v5("y").login("argon2id", "wrong").refused(broker.port());
        client.ping();
        assert_eq!(client.publish_acknowledged("news", "x") & 0x80, 0, "a local user may do everything");
        assert!(client.may_subscribe("news"));
        assert!(api.requests().is_empty());
    }
}

#[test]
fn who_hangs_up_while_parked_does_not_end_the_session_that_sleeps_under_its_id() {
    let api = friendly_api();
    let broker = broker(&api).option("auth_cache_ttl", 0).start();
    let sleeper = Connect::v5("x").login("alice", "secret").durable();
    let mut asleep = sleeper.accepted(broker.port());
    assert!(asleep.may_subscribe("news"));
    asleep.disconnect();
    api.answer(Reply::status(200).after(SLOW));
    come_and_go(&sleeper, &broker);
    broker.sighup();
    broker.wait_for_log("Reloading config", PATIENCE);
    bystander(&broker, "bob", "secret").publish_acknowledged("news", "kept");
    let mut awake = sleeper.accepted(broker.port());
    assert_eq!(awake.receive(PATIENCE).expect("the queued message").payload, b"kept");
}

#[test]
fn who_hangs_up_while_parked_does_not_save_the_session_under_its_id() {
    let api = friendly_api();
    let broker = broker(&api).option("auth_cache_ttl", 0).start();
    let connect = Connect::v5("x").login("alice", "secret");
    let mut revoked = connect.accepted(broker.port());
    api.answer(Reply::status(200).after(SLOW));
    come_and_go(&connect, &broker);
    api.answer(Reply::status(403));
    broker.sighup();
    assert!(revoked.wait_until_closed(PATIENCE), "the API refuses it by now");
}

/// Nobody hears "not authorised" for want of an answer: the sockets of such clients are shut down first. Whoever has the
/// place in memory of one that has gone by then is not meant.
#[test]
fn who_gets_the_place_of_one_that_had_no_answer_stays() {
    const ROUNDS: usize = 20;
    let api = api("");
    api.answer_with(|request| match request.field("username").starts_with("gone") {
        true => Reply::Hang,
        false => Reply::status(200),
    });
    let broker = broker(&api).option("timeout", "2s").option("breaker_after", 0).start();
    let mut others = Vec::new();
    for round in 0..ROUNDS {
        let gone = format!("gone-{round}");
        drop(Connect::v5(&gone).login(&gone, "x").send(broker.port()));
        let other = format!("other-{round}");
        others.push(Connect::v5(&other).login(&other, "x").accepted(broker.port()));
    }
    for round in 0..ROUNDS {
        broker.wait_for_log(&format!("Refused to let \"gone-{round}\""), PATIENCE);
    }
    assert!(
        others.iter_mut().all(|other| other.try_ping(PATIENCE).is_some()),
        "somebody else was hung up on"
    );
}
