//! A store that is several servers: Sentinels with a master and a replica, or a cluster.

use redis::{Value, cmd};
use serde_json::json;

use crate::sharing::{be, wait_for_verdicts};
use crate::store::{Kind, Sharer, Store, shared};
use crate::support::{
    Connect, MockApi, PATIENCE, Reply, Setup, Version, broker_asking, eventually, friendly_api,
};

fn sharing(api: &MockApi, url: &str) -> Sharer {
    Sharer::of(setup(api, url))
}

fn setup(api: &MockApi, url: &str) -> Setup {
    let setup = broker_asking(Version::V2_1, api)
        .option("shared_cache_timeout", "1s")
        .option("lookahead", false)
        .option("acl_learn", false);
    shared(setup, url).option("auth_cache_ttl", "10m").option("acl_cache_ttl", "10m")
}

#[test]
fn a_replica_takes_over() {
    for kind in Kind::BOTH {
        let api = friendly_api();
        let mut master = Store::start(kind);
        let replica = Store::with(kind, &["--replicaof", &format!("127.0.0.1 {}", master.port())]);
        let sentinel = Store::sentinel_of(kind, &master);
        // Not before the Sentinel knows of the replica.
        let knows = || {
            let told = sentinel.does(cmd("SENTINEL").arg("REPLICAS").arg("main"));
            matches!(told, Value::Array(replicas) if replicas.len() == 1)
        };
        assert!(eventually(2 * PATIENCE, knows), "{kind:?}");
        let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port());
        let [one, other] = [(); 2].map(|()| sharing(&api, &url));
        be("alice", &one);
        wait_for_verdicts(&replica, 4);
        master.kill();
        one.wait_until(false);
        be("bob", &one);
        for sharer in [&one, &other] {
            assert!(eventually(2 * PATIENCE, || sharer.metric("up") == 1.0), "{kind:?}: {}", sentinel.log());
        }
        // The replica has all that the master had, the journal included.
        let asked = api.logins().len();
        be("alice", &other);
        assert_eq!(api.logins().len(), asked, "{kind:?}");
        api.answer(Reply::status(403));
        one.admin.carries_out("forget", &json!({"username": "alice"}));
        let heard = || other.metric("commands_total{way=\"heard\"}") == 1.0;
        assert!(eventually(PATIENCE, heard), "{kind:?}");
        Connect::v5("alice").login("alice", "s3cret-password").refused(other.port());
    }
}

#[test]
fn a_cluster_shares_the_work() {
    for kind in Kind::BOTH {
        let api = friendly_api();
        let mut nodes = Store::cluster(kind);
        // One of them is named, and tells of the others.
        let url = format!("redis+cluster://127.0.0.1:{}", nodes[1].port());
        let [one, other] = [(); 2].map(|()| sharing(&api, &url));
        let names: Vec<_> = (0..8).map(|number| format!("client{number}")).collect();
        names.iter().for_each(|name| be(name, &one));
        let stored = || nodes.iter().map(|node| node.verdicts().len()).collect::<Vec<_>>();
        assert!(eventually(PATIENCE, || stored().iter().sum::<usize>() == 32), "{kind:?}: {:?}", stored());
        assert!(stored().iter().all(|count| *count > 0), "{kind:?}: {:?}", stored());
        let asked = api.requests().len();
        names.iter().for_each(|name| be(name, &other));
        assert_eq!(api.requests().len(), asked, "{kind:?}");

        // A server that has not the journal goes away: what it had is asked of the API, and all else is shared.
        let journal =
            nodes.iter().position(|node| !node.names("mha:1:{journal}").is_empty()).expect("a journal");
        let gone = (journal + 1) % 3;
        let lost = nodes[gone].verdicts().len();
        nodes[gone].kill();
        other.admin.carries_out("kick", &json!({"username": "nobody"}));
        let third = sharing(&api, &format!("redis+cluster://127.0.0.1:{}", nodes[journal].port()));
        names.iter().for_each(|name| be(name, &third));
        assert_eq!(api.requests().len(), asked + lost, "{kind:?}");
        assert_eq!(third.metric("up"), 1.0);
        api.answer(Reply::status(403));
        one.admin.carries_out("forget", &json!({"username": "client0"}));
        let heard = || third.metric("commands_total{way=\"heard\"}") >= 1.0;
        assert!(eventually(PATIENCE, heard), "{kind:?}");
        Connect::v5("client0").login("client0", "s3cret-password").refused(third.port());
        // It comes back, empty.
        nodes[gone].start_again();
        Connect::v5("client1").login("client1", "s3cret-password").accepted(third.port());
    }
}
