//! An API that refuses everybody is not believed, since it may be the broker that it refuses; and `reload_checks false`
//! has it asked about nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::Way::Plain;
use super::{assert_all_stay, leaves, on_every_way_to_every_broker, reload};
use crate::support::{Client, PATIENCE, Reply, eventually, fence, friendly_api, on_every_broker};

const NOT_BELIEVED: &str = "So nobody is disconnected";

/// The token has expired with which the broker asks.
#[test]
fn nobody_goes_where_everybody_is_refused() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Plain.to(version, &api).option("max_requests", 4).start();
        let log_in = |n| Plain.login(&format!("u{n}"), "secret").accepted(broker.port());
        let mut clients: Vec<_> = (0..40).map(log_in).collect();
        for (round, status) in [401, 403].into_iter().enumerate() {
            let (answered, is_said) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
            let may_go_on = Arc::clone(&is_said);
            // No more is answered than it takes, until the broker's loop has come round.
            api.answer_with(move |_| {
                if answered.fetch_add(1, Ordering::Relaxed) >= 20 {
                    eventually(PATIENCE, || may_go_on.load(Ordering::Relaxed));
                }
                Reply::status(status)
            });
            api.forget_requests();
            reload(&broker);
            let said = || broker.log().matches(NOT_BELIEVED).count() == round + 1;
            assert!(eventually(PATIENCE, said), "the log does not say so");
            is_said.store(true, Ordering::Relaxed);
            // No question of this round is on its way any more, to be joined by the next.
            fence::later_logins(broker.port(), &api);
            assert_all_stay(&mut clients, "everybody is refused");
            let asked = api.logins().len();
            assert!(asked < 40, "all {asked} were asked about");
        }
        // Once it is mended, who has to go does.
        api.answer_with(|request| Reply::status(if request.field("username") == "u0" { 403 } else { 200 }));
        reload(&broker);
        assert!(clients.remove(0).wait_until_closed(PATIENCE));
        assert_all_stay(&mut clients, "they are allowed");
    });
}

/// One who is allowed among those who are drawn first shows that the API is sane: of twenty out of sixty, half of whom are
/// allowed, at least one is.
#[test]
fn many_go_where_somebody_is_allowed() {
    const FIRST: usize = 10;
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Plain.to(version, &api).start();
        let log_in = |name: &str| Plain.login(name, "secret").accepted(broker.port());
        let mut many: Vec<_> = (0..30).map(|n| log_in(&format!("u{n}"))).collect();
        let mut others: Vec<_> = (0..30).map(|n| log_in(&format!("other{n}"))).collect();
        // Their answers are among the first.
        let others_go_on = Arc::new(AtomicBool::new(false));
        let may_go_on = Arc::clone(&others_go_on);
        api.answer_with(move |request| match request.field("username").strip_prefix('u') {
            None => Reply::status(200),
            Some(number) => {
                let is_first = number.parse::<usize>().is_ok_and(|number| number < FIRST);
                eventually(PATIENCE, || is_first || may_go_on.load(Ordering::Relaxed));
                Reply::status(403)
            }
        });
        reload(&broker);
        assert!(many[..FIRST].iter_mut().all(|client| client.wait_until_closed(PATIENCE)));
        others_go_on.store(true, Ordering::Relaxed);
        assert!(many.iter_mut().all(|client| client.wait_until_closed(PATIENCE)));
        assert_all_stay(&mut others, "they are allowed");
        assert!(
            !broker.log().contains("not connected): the API"),
            "who was connected is called not connected"
        );
    });
}

/// Those who have to go came first, and are refused faster than others are allowed.
#[test]
fn who_came_first_goes_all_the_same() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = Plain.to(version, &api).option("max_requests", 64).start();
        let log_in = |name: &str| Plain.login(name, "secret").accepted(broker.port());
        let mut first: Vec<_> = (0..25).map(|n| log_in(&format!("u{n}"))).collect();
        let mut others: Vec<_> = (0..100).map(|n| log_in(&format!("other{n}"))).collect();
        api.answer_with(|request| match request.field("username").starts_with('u') {
            true => Reply::status(403),
            false => Reply::status(200).after(Duration::from_millis(200)),
        });
        reload(&broker);
        assert!(first.iter_mut().all(|client| client.wait_until_closed(PATIENCE)));
        assert_all_stay(&mut others, "they are allowed");
        assert!(!broker.log().contains(NOT_BELIEVED));
    });
}

/// Few are not everybody: all of a small fleet may have to go.
#[test]
fn all_of_few_go() {
    on_every_way_to_every_broker(|version, way| {
        let api = friendly_api();
        let broker = way.to(version, &api).start();
        let log_in = |n| way.login(&format!("u{n}"), "secret").accepted(way.port(&broker));
        let mut clients: Vec<Client> = (0..3).map(log_in).collect();
        api.answer_with(|request| {
            Reply::status(if request.field("username").starts_with('u') { 403 } else { 200 })
        });
        reload(&broker);
        assert!(clients.iter_mut().all(|client| leaves(&broker, way, client)), "{way:?}");
    });
}

#[test]
fn with_reload_checks_false_nobody_is_asked_about() {
    on_every_way_to_every_broker(|version, way| {
        let api = friendly_api();
        let broker = way.to(version, &api).option("reload_checks", "false").start();
        let mut client = way.login("alice", "secret").accepted(way.port(&broker));
        fence::later_logins(way.port(&broker), &api);
        api.forget_requests();
        api.answer(Reply::status(403));
        reload(&broker);
        fence::later_logins(way.port(&broker), &api);
        let asked: Vec<_> = api.logins().iter().map(|login| login.field("username").to_owned()).collect();
        assert!(!asked.contains(&"alice".to_owned()), "{way:?}: {asked:?}");
        assert_all_stay([&mut client], &format!("{way:?}"));
        way.login("alice", "secret").refused(way.port(&broker));
    });
}
