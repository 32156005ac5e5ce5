//! A store that is away, slow, full or emptied costs little, and never means yes.

use std::thread;
use std::time::Duration;

use redis::cmd;

use crate::sharing::{be, wait_for_verdicts};
use crate::store::{Kind, STORE_PASSWORD, Sharer, Store, shared};
use crate::support::{
    Connect, MockApi, PATIENCE, Reply, Setup, Version, broker_asking, eventually, friendly_api,
    on_every_broker,
};

fn asking(version: Version, api: &MockApi) -> Setup {
    impatient(version, api).option("shared_cache_timeout", "1s")
}

fn impatient(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api).option("lookahead", false).option("acl_learn", false)
}

#[test]
fn a_store_that_is_killed_is_missed_by_nobody_and_used_again() {
    on_every_broker(|version| {
        let (api, mut store) = (friendly_api(), Store::start(Kind::Valkey));
        let [one, other] = [(); 2].map(|()| Sharer::start(asking(version, &api), &store));
        one.visited_by("alice");
        wait_for_verdicts(&store, 1);
        store.kill();
        for name in ["bob", "carol"] {
            assert!(other.visited_by(name) < Duration::from_secs(1));
        }
        other.wait_until(false);
        other.broker.wait_for_log("cannot be used now", PATIENCE);
        store.start_again();
        [&one, &other].into_iter().for_each(|sharer| sharer.wait_until(true));
        other.broker.wait_for_log("is used again", PATIENCE);
        let asked = api.logins().len();
        one.visited_by("dave");
        wait_for_verdicts(&store, 1);
        other.visited_by("dave");
        assert_eq!(api.logins().len(), asked + 1, "mosquitto {version}");
    });
}

#[test]
fn a_store_that_is_frozen_costs_its_time_once() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let setup = impatient(version, &api).option("shared_cache_timeout", "400ms");
        let sharer = Sharer::start(setup, &store);
        sharer.visited_by("before");
        store.signal(libc::SIGSTOP);
        let first = sharer.visited_by("first");
        assert!(first >= Duration::from_millis(350), "{first:?}");
        let others: Vec<_> = (0..10).map(|number| sharer.visited_by(&format!("other{number}"))).collect();
        assert!(
            others.iter().all(|took| *took < Duration::from_millis(350)),
            "mosquitto {version}: {others:?}"
        );
        store.signal(libc::SIGCONT);
        sharer.wait_until(true);
        assert_eq!(sharer.metric("lookups_total{result=\"error\"}"), 1.0);
    });
}

#[test]
fn a_store_that_was_never_there_costs_nothing() {
    let api = friendly_api();
    let port = crate::support::free_port();
    let sharer = Sharer::alone(shared(asking(Version::V2_1, &api), &format!("redis://127.0.0.1:{port}")));
    sharer.broker.wait_for_log("cannot be used now", PATIENCE);
    for number in 0..5 {
        assert!(sharer.visited_by(&format!("client{number}")) < Duration::from_millis(500));
    }
    assert_eq!(sharer.metric("lookups_total{result=\"error\"}"), 0.0);
}

#[test]
fn a_full_store_takes_no_verdicts_and_nobody_minds() {
    let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
    let sharer = Sharer::start(asking(Version::V2_1, &api), &store);
    sharer.visited_by("alice");
    wait_for_verdicts(&store, 1);
    store.does(cmd("CONFIG").arg("SET").arg("maxmemory").arg("1kb"));
    sharer.visited_by("bob");
    sharer.broker.wait_for_log("takes no verdicts: OOM", PATIENCE);
    assert_eq!(sharer.metric("up"), 1.0);
    store.does(cmd("CONFIG").arg("SET").arg("maxmemory").arg("0"));
    sharer.visited_by("carol");
    wait_for_verdicts(&store, 2);
}

#[test]
fn a_store_that_is_emptied_is_filled_again() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let [one, other] = [(); 2].map(|()| Sharer::start(asking(version, &api), &store));
        be("alice", &one);
        store.does(cmd("FLUSHALL").arg("SYNC"));
        // Both see that the journal is gone, and one begins it anew.
        assert!(eventually(PATIENCE, || store.names("mha:1:{journal}").len() == 1));
        thread::sleep(Duration::from_secs(3));
        [&one, &other].into_iter().for_each(|sharer| sharer.wait_until(true));
        one.visited_by("bob");
        wait_for_verdicts(&store, 1);
        let asked = api.logins().len();
        other.visited_by("bob");
        assert_eq!(api.logins().len(), asked, "mosquitto {version}");
    });
}

#[test]
fn a_password_or_a_user_with_few_rights_is_enough() {
    for kind in Kind::BOTH {
        let (api, store) = (friendly_api(), Store::start(kind));
        store.make_user();
        let with_password =
            format!("redis://:{}@127.0.0.1:{}", STORE_PASSWORD.replace(' ', "%20"), store.port());
        let one = Sharer::of(shared(asking(Version::V2_1, &api), &with_password));
        let other = Sharer::of(shared(asking(Version::V2_1, &api), &store.url_of_user()));
        be("alice", &other);
        wait_for_verdicts(&store, 4);
        be("alice", &one);
        assert_eq!(api.logins().len(), 1);
        let wrong = format!("redis://:wrong@127.0.0.1:{}", store.port());
        let third = Sharer::alone(shared(asking(Version::V2_1, &api), &wrong));
        third.broker.wait_for_log("the server takes no such user or password", PATIENCE);
        api.answer(Reply::status(403));
        Connect::v5("alice").login("alice", "s3cret-password").refused(third.port());
    }
}

#[test]
fn what_is_shared_lets_in_while_the_api_is_away() {
    on_every_broker(|version| {
        let (api, store) = (friendly_api(), Store::start(Kind::Valkey));
        let setup = || {
            asking(version, &api)
                .option("timeout", "200ms")
                .option("breaker_longest", "10m")
                .option("breaker_pause", "10m")
        };
        let one = Sharer::start(setup(), &store);
        be("alice", &one);
        wait_for_verdicts(&store, 4);
        api.stop();
        let other = Sharer::start(setup(), &store);
        for number in 0..20 {
            let name = format!("stranger{number}");
            Connect::v5(&name).login(&name, "secret").unanswered(other.port());
        }
        other.broker.wait_for_log("It is left alone now", PATIENCE);
        be("alice", &other);
        Connect::v5("mallory").login("mallory", "secret").unanswered(other.port());
    });
}
