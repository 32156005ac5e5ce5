//! A client that is refused by now is disconnected, whatever is remembered, and however it is connected.

use std::thread;
use std::time::Duration;

use super::Way::{PerListener, Plain};
use super::{assert_all_stay, leaves, on_every_way_to_every_broker, refuse, reload};
use crate::support::broker::{plugin, plugin_line};
use crate::support::{
    Admin, Broker, Connect, PATIENCE, Reply, Version, assert_unnoticed, broker_asking, eventually,
    friendly_api, on_every_broker,
};

#[test]
fn who_is_refused_by_now_goes_and_nobody_else() {
    on_every_way_to_every_broker(|version, way| {
        for status in [401, 403] {
            let api = friendly_api();
            let broker = way.to(version, &api).start();
            let mut revoked = way.login("revoked", "secret").accepted(way.port(&broker));
            let mut others: Vec<_> =
                (0..5).map(|n| way.login(&format!("u{n}"), "secret").accepted(way.port(&broker))).collect();
            refuse(&api, &["revoked"], status);
            reload(&broker);
            assert!(leaves(&broker, way, &mut revoked), "{way:?}: {status}");
            way.login("revoked", "secret").refused(way.port(&broker));
            assert_all_stay(&mut others, &format!("{way:?}"));
            assert!(broker.log().contains("revoked"));
        }
    });
}

/// "Everybody else who was let in before is asked about": whoever takes a device's rights away and then
/// reloads means it.
#[test]
fn a_reload_asks_also_where_an_allow_is_remembered() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Broker::with(version).option("auth_url", api.auth_url()).start();
        let mut revoked = Plain.login("revoked", "secret").accepted(broker.port());
        refuse(&api, &["revoked"], 403);
        reload(&broker);
        assert!(leaves(&broker, Plain, &mut revoked));
    });
}

/// Many a device has a token for a username and no password.
#[test]
fn who_has_no_password_is_asked_about_too() {
    on_every_way_to_every_broker(|version, way| {
        let api = friendly_api();
        let broker = way.to(version, &api).start();
        let mut revoked = way.over(Connect::v3("a").username("revoked")).accepted(way.port(&broker));
        let mut other = way.over(Connect::v3("b").username("other")).accepted(way.port(&broker));
        refuse(&api, &["revoked"], 403);
        reload(&broker);
        assert!(leaves(&broker, way, &mut revoked), "{way:?}");
        assert_all_stay([&mut other], &format!("{way:?}"));
    });
}

/// On 2.0.11 with `per_listener_settings` the plugin hears of nothing but this.
#[test]
fn who_is_refused_by_now_goes_by_publishing() {
    on_every_way_to_every_broker(|version, way| {
        let api = friendly_api();
        let admin = Admin::somewhere();
        let broker = admin.of(way.to(version, &api).option("acl_url", api.acl_url())).start();
        let mut revoked = way.login("revoked", "secret").accepted(way.port(&broker));
        refuse(&api, &["revoked"], 403);
        reload(&broker);
        api.wait_for_requests(2, PATIENCE);
        // As long as it takes to see that a broker does not tick.
        thread::sleep(Duration::from_secs(3));
        let gone = eventually(PATIENCE, || {
            revoked.publish("news", "x");
            revoked.wait_until_closed(Duration::from_millis(50))
        });
        assert!(gone, "{way:?}");
        assert_eq!(admin.metric("mosquitto_http_auth_kicks_total"), 1.0, "{way:?}");
        if way == PerListener && version == Version::V2_0_11 {
            let denied = admin.metric(
                "mosquitto_http_auth_decisions_total{question=\"write\",result=\"deny\",source=\"api\"}",
            );
            assert_eq!(denied, 1.0, "the message with which it went was refused");
        }
    });
}

/// Nobody is asked about it, but where no tick comes a login is when others can be disconnected.
#[test]
fn a_login_without_a_username_has_others_go() {
    let api = friendly_api();
    let broker = PerListener.to(Version::V2_0_11, &api).start();
    let mut revoked = PerListener.login("revoked", "secret").accepted(broker.port());
    refuse(&api, &["revoked"], 403);
    reload(&broker);
    api.wait_for_requests(2, PATIENCE);
    let gone = eventually(PATIENCE, || {
        let _ = Connect::v5("nameless").password("x").attempt(broker.port());
        revoked.wait_until_closed(Duration::from_millis(50))
    });
    assert!(gone);
}

/// `blocking` on 2.1 is about logins, not about reloads.
#[test]
fn blocking_mode_makes_no_difference() {
    let api = friendly_api();
    let broker =
        Plain.to(Version::V2_1, &api).option("auth_mode", "blocking").option("deny_cache_ttl", 0).start();
    let mut bystander = Plain.login("bystander", "secret").accepted(broker.port());
    let mut other = Plain.login("other", "secret").accepted(broker.port());
    assert_unnoticed("a ping beside a reload", || {
        api.answer(Reply::status(200));
        let mut revoked = Plain.login("revoked", "secret").accepted(broker.port());
        api.answer_with(|request| {
            let status = if request.field("username") == "revoked" { 403 } else { 200 };
            Reply::status(status).after(Duration::from_secs(1))
        });
        let (is_gone, stall) = bystander.longest_ping_during(|| {
            reload(&broker);
            revoked.wait_until_closed(PATIENCE)
        });
        assert!(is_gone);
        stall
    });
    assert_all_stay([&mut other], "it is allowed");
}

/// Each instance knows its own sessions.
#[test]
fn two_instances_judge_their_own() {
    on_every_broker(|version| {
        let (inside, outside) = (friendly_api(), friendly_api());
        let broker = broker_asking(version, &inside)
            .option("auth_cache_ttl", 0)
            .global("per_listener_settings true")
            .listener([
                plugin_line(&plugin()),
                format!("plugin_opt_auth_url {}", outside.auth_url()),
                "plugin_opt_auth_cache_ttl 0".to_owned(),
            ])
            .start();
        let [inner, outer] = *broker.ports() else { panic!("two ports") };
        let mut stays = Connect::v3("a").login("alice", "secret").accepted(inner);
        let mut goes = Connect::v3("b").login("bob", "secret").accepted(outer);
        outside.answer(Reply::status(403));
        reload(&broker);
        assert!(eventually(PATIENCE, || {
            let _ = Connect::v3("c").login("carol", "secret").attempt(outer);
            goes.wait_until_closed(Duration::from_millis(50))
        }));
        assert_all_stay([&mut stays], "its API says yes");
    });
}
