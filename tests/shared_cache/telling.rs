//! What is taken back at one broker is taken back at all, whatever stands in the store.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Value, cmd};
use serde_json::{Value as Json, json};

use crate::sharing::wait_for_verdicts;
use crate::store::{Kind, Sharer, Store, shared};
use crate::support::{
    Client, Connect, MockApi, PATIENCE, Setup, Version, broker_asking, eventually, free_port, friendly_api,
    login, on_every_broker, reason, revocable,
};

/// How soon all brokers know.
const SOON: Duration = Duration::from_secs(1);

fn asking(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api)
        .option("shared_cache_timeout", "1s")
        .option("lookahead", false)
        .option("acl_learn", false)
        .option("auth_cache_ttl", "10m")
        .option("acl_cache_ttl", "10m")
}

fn two(version: Version, api: &MockApi, store: &Store) -> [Sharer; 2] {
    [(); 2].map(|()| Sharer::start(asking(version, api), store))
}

/// Gives a command, and returns how long it takes until the other broker has heard of it.
fn tell(one: &Sharer, other: &Sharer, command: &str, whom: &Json) -> Duration {
    let heard = || other.metric("commands_total{way=\"heard\"}");
    let (before, start) = (heard(), Instant::now());
    one.admin.carries_out(command, whom);
    assert!(eventually(PATIENCE, || heard() > before), "{command} {whom}");
    start.elapsed()
}

#[test]
fn who_is_forgotten_at_one_broker_is_forgotten_at_all() {
    for kind in Kind::BOTH {
        on_every_broker(|version| {
            let (api, store) = (friendly_api(), Store::start(kind));
            let is_revoked = revocable(&api, "revoked");
            let [one, other] = two(version, &api, &store);
            for sharer in [&one, &other] {
                drop(login("revoked").accepted(sharer.port()));
                drop(login("friend").accepted(sharer.port()));
                wait_for_verdicts(&store, 2);
            }
            assert_eq!(api.logins().len(), 2);
            is_revoked.store(true, Ordering::Relaxed);
            let took = tell(&one, &other, "forget", &json!({"username": "revoked"}));
            assert!(took < SOON, "{took:?}");
            other
                .broker
                .wait_for_log("Command forget for username \"revoked\", by another broker: done", PATIENCE);
            // Neither what it remembered itself nor what stands in the store lets it in.
            login("revoked").refused(other.port());
            login("revoked").refused(one.port());
            drop(login("friend").accepted(other.port()));
            assert_eq!(api.logins().len(), 4, "mosquitto {version}");
            // Nor a third one, which was not there.
            let third = Sharer::start(asking(version, &api), &store);
            login("revoked").refused(third.port());
            drop(login("friend").accepted(third.port()));
            assert_eq!(api.logins().len(), 5, "mosquitto {version}");
            // Once it is allowed again it is shared again.
            is_revoked.store(false, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
            tell(&one, &other, "forget", &json!({"username": "revoked"}));
            thread::sleep(Duration::from_millis(100));
            drop(login("revoked").accepted(one.port()));
            thread::sleep(Duration::from_millis(100));
            let asked = api.logins().len();
            drop(login("revoked").accepted(third.port()));
            assert_eq!(api.logins().len(), asked, "mosquitto {version}");
        });
    }
}

#[test]
fn a_client_id_and_everybody_are_forgotten_everywhere() {
    let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
    let [one, other] = two(Version::V2_1, &api, &store);
    let mut clients: Vec<Client> = [&one, &other].map(|sharer| login("c").accepted(sharer.port())).into();
    let mut publish = |index: usize| {
        clients[index].publish_acknowledged("t", "x");
        thread::sleep(Duration::from_millis(100));
        api.topic_checks().len()
    };
    assert_eq!((publish(0), publish(1)), (1, 1));
    tell(&one, &other, "forget", &json!({"clientid": "c"}));
    assert_eq!((publish(1), publish(0)), (2, 2), "asked once more, by one of them");
    tell(&other, &one, "forget", &json!({"everything": true}));
    assert_eq!((publish(1), publish(0)), (3, 3));
    tell(&other, &one, "forget", &json!({"clientid": "another"}));
    assert_eq!((publish(1), publish(0)), (3, 3));
}

#[test]
fn who_is_kicked_at_one_broker_is_kicked_at_all() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let [one, other] = two(version, &api, &store);
        let mut kicked = login("kicked").accepted(other.port());
        let mut by_id = login("by-id").accepted(other.port());
        let mut friend = login("friend").accepted(other.port());
        assert_eq!(one.admin.carries_out("kick", &json!({"username": "kicked"})), json!({"kicked": 0}));
        assert!(kicked.wait_until_closed(SOON), "mosquitto {version}");
        one.admin.carries_out("kick", &json!({"clientid": "by-id"}));
        assert!(by_id.wait_until_closed(SOON), "mosquitto {version}");
        assert!(friend.try_ping(PATIENCE).is_some());
        other.broker.wait_for_log(
            "Command kick for username \"kicked\", by another broker: 1 disconnected",
            PATIENCE,
        );
    });
}

#[test]
fn a_recheck_asks_the_api_about_the_sessions_of_all_brokers() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let is_revoked = revocable(&api, "revoked");
        let setup = || asking(version, &api).option("reload_checks", false);
        let [one, other] = [(); 2].map(|()| Sharer::start(setup(), &store));
        let mut revoked = login("revoked").accepted(other.port());
        let mut friend = login("friend").accepted(other.port());
        is_revoked.store(true, Ordering::Relaxed);
        one.admin.carries_out("recheck", &json!({"username": "revoked"}));
        assert!(revoked.wait_until_closed(PATIENCE), "mosquitto {version}: the store has said yes");
        assert!(friend.try_ping(PATIENCE).is_some());
        // Nobody waits for that: what is left is the friend's.
        assert!(eventually(PATIENCE, || store.names("mha:1:login:").len() == 1), "mosquitto {version}");
        login("revoked").refused(one.port());
        login("revoked").refused(other.port());
    });
}

/// A client that logs in is asked about already when the recheck comes, and the store is slow to say yes.
#[test]
fn a_recheck_asks_the_api_also_where_a_login_has_asked_the_store() {
    let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
    let is_revoked = revocable(&api, "revoked");
    let setup = || asking(Version::V2_1, &api).option("reload_checks", false);
    let one = Sharer::start(setup(), &store);
    // It remembers nothing itself.
    let other = Sharer::start(setup().option("cache_size", 0), &store);
    drop(login("revoked").accepted(one.port()));
    wait_for_verdicts(&store, 1);
    let mut revoked = login("revoked").accepted(other.port());
    assert_eq!(api.logins().len(), 1, "the store has said yes");
    is_revoked.store(true, Ordering::Relaxed);
    store.signal(libc::SIGSTOP);
    let mut second = Connect::v5("second").login("revoked", "secret").send(other.port());
    thread::sleep(Duration::from_millis(100));
    other.admin.carries_out("recheck", &json!({"username": "revoked"}));
    thread::sleep(Duration::from_millis(100));
    store.signal(libc::SIGCONT);
    assert!(revoked.wait_until_closed(PATIENCE), "the store has answered the recheck");
    assert_ne!(second.connack(PATIENCE), Some(reason::SUCCESS));
    assert!(eventually(PATIENCE, || store.verdicts().is_empty()), "the others would find it there");
}

/// A broker whose channel was down when something was taken back.
#[test]
fn a_broker_that_was_cut_off_forgets_what_it_has_missed() {
    on_every_broker(|version| {
        let (api, mut store) = (friendly_api(), Store::start(Kind::Valkey));
        let is_revoked = revocable(&api, "revoked");
        let [one, other] = two(version, &api, &store);
        let still_in = login("revoked").accepted(other.port());
        is_revoked.store(true, Ordering::Relaxed);
        store.kill();
        [&one, &other].into_iter().for_each(|sharer| sharer.wait_until(false));
        // It cannot be told now, and is told when the store is back: an empty one.
        one.admin.carries_out("forget", &json!({"username": "revoked"}));
        store.start_again();
        [&one, &other].into_iter().for_each(|sharer| sharer.wait_until(true));
        let heard = || other.metric("commands_total{way=\"heard\"}") >= 1.0;
        assert!(eventually(PATIENCE, heard), "mosquitto {version}");
        login("revoked").refused(other.port());
        drop(still_in);
    });
}

/// The journal is gone while nobody was connected to see it: what was remembered is not certain.
#[test]
fn a_broker_that_cannot_know_what_it_has_missed_forgets_everything() {
    on_every_broker(|version| {
        let (api, mut store) = (friendly_api(), Store::start(Kind::Valkey));
        let [one, other] = two(version, &api, &store);
        drop(login("alice").accepted(other.port()));
        store.kill();
        [&one, &other].into_iter().for_each(|sharer| sharer.wait_until(false));
        drop(login("alice").accepted(other.port()));
        assert_eq!(api.logins().len(), 1, "remembered meanwhile");
        store.start_again();
        [&one, &other].into_iter().for_each(|sharer| sharer.wait_until(true));
        thread::sleep(Duration::from_millis(1_500));
        drop(login("alice").accepted(other.port()));
        assert_eq!(api.logins().len(), 2, "mosquitto {version}");
    });
}

/// Somebody who can write the store takes a command out before a broker has read it, and leaves the next one there.
#[test]
fn a_broker_from_which_a_command_is_held_back_forgets_everything() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let is_revoked = revocable(&api, "revoked");
        let [one, other] = two(version, &api, &store);
        let told = || one.metric("commands_total{way=\"told\"}");
        drop(login("revoked").accepted(other.port()));
        tell(&one, &other, "forget", &json!({"username": "somebody"}));
        let before = other.metric("commands_total{way=\"heard\"}");
        is_revoked.store(true, Ordering::Relaxed);
        other.broker.signal(libc::SIGSTOP);
        store.does(cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes"));
        one.admin.carries_out("forget", &json!({"username": "revoked"}));
        assert!(eventually(PATIENCE, || told() == 2.0), "mosquitto {version}");
        let journal = store.names("mha:1:{journal}").remove(0);
        let last = cmd("XREVRANGE").arg(&journal).arg("+").arg("-").arg("COUNT").arg(1).take();
        let Value::Array(mut entries) = store.does(&last) else { panic!("a journal") };
        let (id, _): (String, Value) = redis::from_redis_value(entries.remove(0)).unwrap();
        store.does(cmd("XDEL").arg(&journal).arg(id));
        one.admin.carries_out("forget", &json!({"username": "somebody"}));
        assert!(eventually(PATIENCE, || told() == 3.0), "mosquitto {version}");
        other.broker.signal(libc::SIGCONT);
        let heard = || other.metric("commands_total{way=\"heard\"}") > before;
        assert!(eventually(2 * PATIENCE, heard), "mosquitto {version}");
        login("revoked").refused(other.port());
        assert!(other.broker.log().contains("has lost a command of another broker"), "mosquitto {version}");
    });
}

/// Somebody who can write the store plays back what stood there before it was taken back.
#[test]
fn what_was_taken_back_is_not_brought_back() {
    let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
    let is_revoked = revocable(&api, "revoked");
    let [one, other] = two(Version::V2_1, &api, &store);
    let mut revoked = login("revoked").accepted(one.port());
    wait_for_verdicts(&store, 1);
    let names = store.verdicts();
    let Value::BulkString(verdict) = store.does(cmd("GET").arg(&names[0])) else { panic!("no verdict") };
    is_revoked.store(true, Ordering::Relaxed);
    tell(&one, &other, "forget", &json!({"username": "revoked"}));
    tell(&one, &other, "kick", &json!({"username": "revoked"}));
    assert!(revoked.wait_until_closed(PATIENCE));
    store.does(cmd("SET").arg(&names[0]).arg(verdict));
    login("revoked").refused(other.port());
    login("revoked").refused(Sharer::start(asking(Version::V2_1, &api), &store).port());

    // The kick is played back, too; nobody is kicked a second time.
    is_revoked.store(false, Ordering::Relaxed);
    tell(&one, &other, "forget", &json!({"username": "revoked"}));
    thread::sleep(Duration::from_millis(100));
    let mut back = login("revoked").accepted(other.port());
    let journal = store.names("mha:1:{journal}").remove(0);
    let Value::Array(entries) = store.does(cmd("XRANGE").arg(&journal).arg("-").arg("+")) else {
        panic!("a journal")
    };
    for entry in entries {
        let (_, fields): (String, Vec<Vec<u8>>) = redis::from_redis_value(entry).unwrap();
        store.does(cmd("XADD").arg(&journal).arg("*").arg(&fields[0]).arg(&fields[1]));
    }
    // And garbage is passed over.
    store.does(cmd("XADD").arg(&journal).arg("*").arg("m").arg("garbage"));
    store.does(cmd("XADD").arg(&journal).arg("*").arg("a").arg("b").arg("c").arg("d"));
    let heard = other.metric("commands_total{way=\"heard\"}");
    other.broker.wait_for_log("were not signed with the secret", PATIENCE);
    assert!(back.try_ping(PATIENCE).is_some());
    assert_eq!(other.metric("commands_total{way=\"heard\"}"), heard);
    tell(&one, &other, "kick", &json!({"username": "revoked"}));
    assert!(back.wait_until_closed(SOON));
}

/// A store that is full takes no entry of the journal, nor does one whose last entry somebody has made with the last number
/// that there is. The others must not go on by what was taken back.
#[test]
fn what_the_store_does_not_take_down_is_taken_back_all_the_same() {
    let full = |store: &Store| drop(store.does(cmd("CONFIG").arg("SET").arg("maxmemory").arg("1kb")));
    let exhausted = |store: &Store| {
        let journal = store.names("mha:1:{journal}").remove(0);
        let last = format!("{0}-{0}", u64::MAX);
        store.does(cmd("XADD").arg(&journal).arg(last).arg("m").arg("garbage"));
    };
    for (spoil, is_over) in [(&full as &dyn Fn(&Store), false), (&exhausted, true)] {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let is_revoked = revocable(&api, "revoked");
        let [one, other] = two(Version::V2_1, &api, &store);
        drop(login("revoked").accepted(other.port()));
        wait_for_verdicts(&store, 1);
        is_revoked.store(true, Ordering::Relaxed);
        spoil(&store);
        one.admin.carries_out("forget", &json!({"username": "revoked"}));
        one.broker.wait_for_log("takes no commands for the other brokers", PATIENCE);
        other.broker.wait_for_log("its journal of what was taken back is gone", PATIENCE);
        login("revoked").refused(other.port());
        login("revoked").refused(one.port());
        if is_over {
            [&one, &other].into_iter().for_each(|sharer| sharer.wait_until(true));
            login("revoked").refused(other.port());
            drop(login("friend").accepted(one.port()));
            wait_for_verdicts(&store, 2);
            drop(login("friend").accepted(other.port()));
            let of_friend = api.logins().into_iter().filter(|login| login.field("username") == "friend");
            assert_eq!(of_friend.count(), 1);
        }
    }
}

/// A broker that could not reach the store from its start on has remembered what others were told to take back meanwhile.
#[test]
fn a_broker_that_was_cut_off_from_its_start_on_takes_back_what_it_has_missed() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let is_revoked = revocable(&api, "revoked");
        let one = Sharer::start(asking(version, &api), &store);
        // Commands from before its start are not its business.
        one.admin.carries_out("kick", &json!({"username": "friend"}));
        let port = free_port();
        let other = Sharer::alone(shared(asking(version, &api), &format!("redis://127.0.0.1:{port}")));
        other.broker.wait_for_log("cannot be used now", PATIENCE);
        drop(login("revoked").accepted(other.port()));
        let mut friend = login("friend").accepted(other.port());
        is_revoked.store(true, Ordering::Relaxed);
        one.admin.carries_out("forget", &json!({"username": "revoked"}));
        assert!(eventually(PATIENCE, || one.metric("commands_total{way=\"told\"}") == 2.0));
        lead(port, store.port());
        assert!(eventually(2 * PATIENCE, || other.metric("up") == 1.0));
        login("revoked").refused(other.port());
        assert!(friend.try_ping(PATIENCE).is_some(), "mosquitto {version}");
        assert_eq!(other.metric("commands_total{way=\"heard\"}"), 1.0);
    });
}

/// Leads connections to a port on to another one, until the test ends.
fn lead(from: u16, to: u16) {
    let listener = TcpListener::bind(("127.0.0.1", from)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let onward = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let ways = [(&stream, &onward), (&onward, &stream)];
            for (mut from, mut to) in
                ways.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()))
            {
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
}
