//! Kept connections that have gone mute, as when a firewall or a balancer has forgotten them: a question is sent once
//! more over a new one within its time. An API that is only slow is not asked everything twice for that.

use std::time::Duration;

use crate::support::{Broker, Connect, MockApi, PATIENCE, Reply, Setup, Version, friendly_api, side_by_side};
use crate::{OPENED, log_in_many};

/// The time of a question. A third of it is long beside the hiccups of a busy machine.
const TIMEOUT: Duration = Duration::from_secs(3);

fn broker(version: Version, api: &MockApi) -> Setup {
    Broker::with(version)
        .option("auth_url", api.auth_url())
        .option("timeout", format!("{}ms", TIMEOUT.as_millis()))
        .option("connect_timeout", "3s")
        .option("login_wait", 0)
}

/// Has the plugin keep several connections, and has all that it has go mute. Returns how many there were.
fn go_mute(broker: &Broker, api: &MockApi) -> usize {
    api.answer(Reply::status(200).after(Duration::from_millis(100)));
    let mut crowd: Vec<_> = (0..8)
        .map(|number| format!("early-{number}"))
        .map(|name| Connect::v5(&name).login(&name, "secret").send(broker.port()))
        .collect();
    for client in &mut crowd {
        assert_eq!(client.connack(PATIENCE), Some(0));
    }
    let old = api.connections();
    api.answer_with(move |request| match request.connection < old {
        true => Reply::Hang,
        false => Reply::status(200),
    });
    api.forget_requests();
    old
}

#[test]
fn nobody_is_refused_for_connections_that_went_mute() {
    side_by_side([Version::V2_0_21, Version::V2_1], |version| {
        for at_once in [1, 8] {
            let api = friendly_api();
            let broker = broker(version, &api).start();
            let old = go_mute(&broker, &api);
            let refused = log_in_many(&broker, 16, at_once);
            assert!(refused.is_empty(), "{} of 16, {at_once} at once, {old} mute", refused.len());
            assert!(!broker.log().contains(OPENED));
            // Those that nobody was waiting at are not tried any more.
            let in_vain = api.requests().iter().filter(|request| request.connection < old).count();
            assert!(in_vain <= at_once, "{in_vain} questions over mute connections, {at_once} at once");
        }
    });
}

/// Also where there is no room for a second request beside the first.
#[test]
fn nor_where_one_request_at_a_time_is_allowed() {
    side_by_side([Version::V2_0_21, Version::V2_1], |version| {
        let api = friendly_api();
        let broker = broker(version, &api).option("max_requests", 1).start();
        go_mute(&broker, &api);
        let refused = log_in_many(&broker, 8, 1);
        assert!(refused.is_empty(), "{refused:?}");
    });
}

#[test]
fn a_slow_api_is_not_asked_everything_twice() {
    side_by_side([Version::V2_0_21, Version::V2_1], |version| {
        let api = friendly_api();
        let broker = broker(version, &api).start();
        log_in_many(&broker, 1, 1);
        api.answer(Reply::status(200).after(TIMEOUT / 2));
        api.forget_requests();
        let refused = log_in_many(&broker, 8, 2);
        assert!(refused.is_empty(), "{refused:?}");
        // The first that was slow, and maybe one more after the pause that follows.
        let asked = api.requests().len();
        assert!(asked <= 8 + 2, "{asked} requests for 8 questions");
    });
}
