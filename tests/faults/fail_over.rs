//! Several URLs: the first that works is used, and all of them share one budget.

use super::{
    AT_ONCE, LOCAL_USER, ONE_TIMEOUT, OPENED, TIMEOUT, broker, count, is_let_in_at_once, login, on_both,
};
use crate::support::{MockApi, PASSWORD, Reply, Setup, Version, api, bystander, friendly_api, timed};

/// Three APIs, and a broker that asks them in their order.
fn three_apis(version: Version) -> ([MockApi; 3], Setup) {
    let apis = [(); 3].map(|()| friendly_api());
    let setup = broker(version).option("auth_url", apis.each_ref().map(MockApi::auth_url).join(" "));
    (apis, setup)
}

fn asked(apis: &[MockApi; 3]) -> [usize; 3] {
    apis.each_ref().map(|api| api.requests().len())
}

#[test]
fn the_first_url_that_works_is_used_until_it_fails() {
    on_both(|version| {
        let (apis, setup) = three_apis(version);
        let broker = setup.start();
        for number in 0..3 {
            login(format!("first-{number}")).accepted(broker.port());
        }
        assert_eq!(asked(&apis), [3, 0, 0]);
        apis[0].stop();
        for number in 0..3 {
            assert!(is_let_in_at_once(&broker, &login(format!("second-{number}"))));
        }
        assert_eq!(asked(&apis), [3, 3, 0]);
        apis[0].restart().unwrap();
        for number in 0..3 {
            login(format!("still-second-{number}")).accepted(broker.port());
        }
        assert_eq!(asked(&apis), [3, 6, 0], "what works stays");
        apis[1].answer(Reply::status(503));
        login("third").accepted(broker.port());
        assert_eq!(asked(&apis), [3, 7, 1]);
    });
}

#[test]
fn a_verdict_is_final_and_no_answer_is_not() {
    on_both(|version| {
        for (status, asks_on) in
            [(401, false), (403, false), (404, false), (302, false), (500, true), (429, true), (408, true)]
        {
            let (apis, setup) = three_apis(version);
            apis[0].answer(Reply::status(status));
            let broker = setup.start();
            assert_eq!(login("alice").attempt(broker.port()).is_ok(), asks_on, "{status}");
            assert_eq!(asked(&apis), [1, usize::from(asks_on), 0], "{status}");
        }
    });
}

/// One hangs and one refuses connections: there is time left for the third.
#[test]
fn several_urls_share_the_budget() {
    on_both(|version| {
        let (apis, setup) = three_apis(version);
        apis[0].answer(Reply::Hang);
        apis[1].stop();
        let broker = setup.start();
        let mut other = bystander(&broker, LOCAL_USER, PASSWORD);
        let ((_, waited), stall) =
            other.longest_ping_during(|| timed(|| login("alice").accepted(broker.port())));
        assert!(waited < ONE_TIMEOUT, "alice waited {waited:?}");
        let bearable = if version.is_2_1() { AT_ONCE } else { ONE_TIMEOUT };
        assert!(stall < bearable, "another client waited {stall:?} for a ping");
        for number in 0..5 {
            assert!(
                is_let_in_at_once(&broker, &login(format!("later-{number}"))),
                "the one that works stays"
            );
        }
        // And when all of them hang.
        apis.iter().for_each(|api| api.answer(Reply::Hang));
        let (_, waited) = timed(|| login("bob").unanswered(broker.port()));
        assert!(waited < ONE_TIMEOUT, "bob waited {waited:?}");
    });
}

#[test]
fn a_url_that_is_left_alone_is_passed_over() {
    on_both(|version| {
        let (apis, setup) = three_apis(version);
        apis.iter().for_each(|api| api.answer(Reply::Hang));
        let broker = setup.option("breaker_after", 2).option("breaker_pause", "1h").start();
        for number in 0.. {
            login(format!("u-{number}")).unanswered(broker.port());
            if count(&broker.log(), OPENED) == 3 {
                break;
            }
            assert!(number < 20, "not all of them are left alone");
        }
        let before = asked(&apis);
        assert!(!is_let_in_at_once(&broker, &login("late")));
        assert_eq!(asked(&apis), before);
    });
}

/// A dead URL in front of one that works: when that one is in trouble too, the dead one takes no time from it.
#[test]
fn a_dead_url_takes_no_time_from_one_that_works() {
    on_both(|version| {
        let apis = [(); 2].map(|()| api(""));
        let urls = apis.each_ref().map(MockApi::auth_url).join(" ");
        let broker = broker(version).option("auth_url", urls).option("breaker_pause", "1h").start();
        apis[0].answer(Reply::Hang);
        apis[1].answer(Reply::status(500));
        for number in 0.. {
            login(format!("u-{number}")).unanswered(broker.port());
            if broker.log().contains(OPENED) {
                break;
            }
            assert!(number < 20, "the dead one is not left alone");
        }
        let before = apis[0].requests().len();
        // Longer than the half that each of two would get.
        apis[1].answer(Reply::status(200).after(TIMEOUT * 7 / 10));
        login("alice").accepted(broker.port());
        assert_eq!(apis[0].requests().len(), before);
    });
}
