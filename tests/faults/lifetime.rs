//! The lifetime of verdicts: one that is in use is refreshed once in each lifetime, and a malformed Cache-Control means
//! that nothing is remembered.

use std::time::{Duration, Instant};

use super::{broker_for_logins, login, number_in, on_both};
use crate::support::{Reply, api, friendly_api};

/// (That nobody waits for it, and that a refusal ends an allow at once, is tested with the cache.)
#[test]
fn an_allow_in_use_is_asked_again_once_for_each_life() {
    on_both(|version| {
        const TTL: Duration = Duration::from_secs(2);
        let api = friendly_api();
        let broker = broker_for_logins(version, &api)
            .option("acl_url", api.acl_url())
            .option("acl_cache_ttl", "2s")
            .start();
        let mut clients: Vec<_> =
            (0..3).map(|number| login(format!("u-{number}")).accepted(broker.port())).collect();
        api.answer(Reply::status(200).after(TTL / 10));
        api.forget_requests();
        let start = Instant::now();
        while start.elapsed() < TTL * 2 {
            for client in &mut clients {
                assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
            }
        }
        let mut questions = [0; 3];
        for request in api.requests() {
            questions[number_in(&request)] += 1;
        }
        // A life is shortened by a fifth at most, and its last fifth is when it is asked again: there are no
        // less than 1.28 s between two questions, and no more than 2 s.
        assert!(questions.iter().all(|questions| (1..=4).contains(questions)), "{questions:?} questions");
    });
}

#[test]
fn cache_control_that_is_nonsense_means_not_to_remember() {
    on_both(|version| {
        let api = api("");
        let broker = broker_for_logins(version, &api).option("api_cache_control", "true").start();
        let mut number = 0;
        let mut questions = |status: u16, cache_control: &str| {
            api.forget_requests();
            api.answer(Reply::status(status).header("Cache-Control", cache_control));
            number += 1;
            for _ in 0..3 {
                assert_eq!(login(format!("u-{number}")).attempt(broker.port()).is_ok(), status == 200);
            }
            api.requests().len()
        };
        for nonsense in ["max-age=soon", "max-age=-1", "max-age=", "max-age", "max-age=1.5"] {
            assert_eq!(questions(200, nonsense), 3, "{nonsense}");
        }
        for other in ["", "=", ",,,", "max-aged=0", "x-no-store", "\"no\"", "s-maxage=0"] {
            assert_eq!(questions(200, other), 1, "{other}: the option's time");
        }
        assert_eq!(questions(200, "max-age=60"), 1);
        assert_eq!(questions(403, "no-store"), 3, "denies follow it, too");
        assert_eq!(questions(403, "max-age=60"), 1);
    });
}
