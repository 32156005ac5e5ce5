//! `expire_at`: the session ends when the API said, whether it is idle or busy, on every broker.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Connect, PATIENCE, Reply, Version, api, eventually, on_every_broker, side_by_side};
use super::{is_login, log_in, may_publish, reading, saying, says, unix_now};

/// What a client is let in with that may do everything for so many seconds; and the time at which that is over.
fn for_seconds(seconds: u64) -> (serde_json::Value, u64) {
    let until = unix_now() + seconds;
    (json!({"is_superuser": true, "expire_at": until}), until)
}

/// The exact time, in seconds.
fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn an_idle_client_is_disconnected_on_time() {
    on_every_broker(|version| {
        let (body, until) = for_seconds(3);
        let api = saying(body);
        let broker = reading(version, &api).start();
        let mut client = log_in(&broker, "alice");
        let mut other = log_in(&broker, "bob");
        assert!(may_publish(&mut client, "t"));
        assert!(client.wait_until_closed(PATIENCE));
        let late = now() - until as f64;
        assert!((0.0..1.0).contains(&late), "{late} s late");
        assert!(other.wait_until_closed(PATIENCE), "also those of the same second");
        broker.wait_for_log("its time is over (expire_at in the API's answer)", PATIENCE);
    });
}

/// 2.0.11 with `per_listener_settings true` never ticks: whoever does anything leaves, and nothing is allowed any more.
#[test]
fn where_no_tick_comes_nothing_is_allowed_any_more() {
    let (body, until) = for_seconds(4);
    let api = saying(body);
    let broker = reading(Version::V2_0_11, &api).global("per_listener_settings true").start();
    let mut idle = log_in(&broker, "idle");
    let mut busy = log_in(&broker, "busy");
    let mut reader = log_in(&broker, "reader");
    assert!(reader.may_subscribe("t"));
    while now() < until as f64 + 0.1 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!reader.may_subscribe("u"), "its time is over");
    assert_ne!(busy.try_publish("t", "x"), Some(0), "no message is taken");
    says(&api, json!({"is_superuser": true}));
    let mut writer = log_in(&broker, "writer");
    assert!(may_publish(&mut writer, "t"));
    assert!(reader.receive(Duration::from_millis(300)).is_none());
    assert!(eventually(PATIENCE, || {
        let _ = log_in(&broker, "passer-by");
        idle.is_closed()
    }));
}

#[test]
fn who_comes_after_the_end_is_refused() {
    on_every_broker(|version| {
        let api = saying(json!({"is_superuser": true, "expire_at": unix_now() - 1}));
        let broker = reading(version, &api).option("throttle_after", 1).start();
        for id in ["a", "b", "c"] {
            Connect::v5(id).login(id, "secret").refused(broker.port());
        }
        broker.wait_for_log("the API answered 200 with an expire_at that is over", PATIENCE);
        assert!(!broker.log().contains("too many wrong passwords"), "it is no wrong password");
    });
}

/// Neither the verdict about the login lives longer, nor does it serve while the API gives no answer.
#[test]
fn no_verdict_outlives_the_end() {
    on_every_broker(|version| {
        let (body, until) = for_seconds(3);
        let api = saying(body);
        let broker = reading(version, &api).option("auth_cache_ttl", "1h").option("stale_ttl", "1h").start();
        log_in(&broker, "alice").disconnect();
        log_in(&broker, "alice").disconnect();
        assert_eq!(api.logins().len(), 1, "it is remembered until then");
        while now() < until as f64 + 0.1 {
            std::thread::sleep(Duration::from_millis(20));
        }
        api.stop();
        Connect::v5("alice").login("alice", "secret").unanswered(broker.port());
    });
}

/// A SIGHUP has the API asked again, and what it says then counts.
#[test]
fn a_later_end_takes_the_place_of_the_one_before() {
    on_every_broker(|version| {
        let (body, until) = for_seconds(4);
        let api = saying(body);
        let broker = reading(version, &api).start();
        let mut client = log_in(&broker, "alice");
        says(&api, json!({"is_superuser": true, "expire_at": unix_now() + 3600}));
        broker.sighup();
        assert!(eventually(PATIENCE, || api.logins().len() == 2));
        while now() < until as f64 + 0.5 {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(may_publish(&mut client, "t"));
        // And an end that is nearer.
        let (body, until) = for_seconds(2);
        says(&api, body);
        broker.sighup();
        assert!(client.wait_until_closed(PATIENCE));
        assert!((now() - until as f64).abs() < 1.0);
    });
}

/// A connection that takes the place of another has an end of its own.
#[test]
fn an_end_is_that_of_its_connection() {
    on_every_broker(|version| {
        let (body, until) = for_seconds(3);
        let api = saying(body);
        let broker = reading(version, &api).option("auth_cache_ttl", 0).start();
        let mut first = log_in(&broker, "alice");
        says(&api, json!({"is_superuser": true}));
        let mut second = log_in(&broker, "alice");
        assert!(first.wait_until_closed(PATIENCE), "taken over");
        while now() < until as f64 + 0.5 {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(may_publish(&mut second, "t"));
        assert!(!second.is_closed());
    });
}

/// Many ends at once, and those who have gone by then.
#[test]
fn many_end_together() {
    side_by_side([Version::V2_0_11, Version::V2_1], |version| {
        let (body, until) = for_seconds(5);
        let api = saying(body);
        let broker = reading(version, &api).start();
        let clients: Vec<_> = (0..100).map(|n| log_in(&broker, &format!("c{n}"))).collect();
        let mut stays = Vec::new();
        for (n, client) in clients.into_iter().enumerate() {
            if n % 2 == 0 { client.disconnect() } else { stays.push(client) }
        }
        assert!(now() < until as f64, "too slow a machine");
        let begun = Instant::now();
        assert!(stays.iter_mut().all(|client| client.wait_until_closed(PATIENCE)));
        assert!(begun.elapsed() < Duration::from_secs(7));
        api.answer_with(|request| Reply::status(if is_login(request) { 200 } else { 403 }));
        let mut later = log_in(&broker, "later");
        later.ping();
    });
}

/// One of two that share a username.
#[test]
fn who_ends_takes_nobody_of_its_name_along() {
    on_every_broker(|version| {
        let (short, until) = for_seconds(3);
        let api = api("");
        api.answer_with(move |request| match (is_login(request), request.field("password")) {
            (true, "short") => Reply::json(&short),
            (true, _) => Reply::json(&json!({"is_superuser": true})),
            (false, _) => Reply::status(403),
        });
        let broker = reading(version, &api).start();
        let shared =
            |id: &str, password: &str| Connect::v5(id).login("shared", password).accepted(broker.port());
        let mut stays = shared("a", "long");
        let mut ends = shared("b", "short");
        let mut sleeps = Connect::v5("c").login("shared", "long").durable().accepted(broker.port());
        assert_eq!(sleeps.subscribe(&[("t", 1)]), [1]);
        sleeps.disconnect();
        assert!(ends.wait_until_closed(PATIENCE));
        assert!(now() >= until as f64);
        assert!(stays.try_ping(PATIENCE).is_some(), "mosquitto {version}");
        assert!(may_publish(&mut stays, "t"), "mosquitto {version}");
        let mut woken = Connect::v5("c").login("shared", "long").durable().accepted(broker.port());
        assert_eq!(woken.receive(PATIENCE).unwrap().topic, "t", "mosquitto {version}");
    });
}
