//! Peeking is no way past the throttle, the breaker or the bounds of the cache, and does not flood the API.

use super::{CROWD, LOOKS, Stage, crowd_v3, tried_at_once};
use crate::support::{Client, Connect, PATIENCE, Protocol, Version, eventually, on_every_broker, reason};

const THROTTLE_AFTER: usize = 3;

fn throttled(version: Version, by: &str) -> Stage {
    Stage::with(version, |setup| {
        setup
            .option("throttle_after", THROTTLE_AFTER)
            .option("throttle_pause", "1h")
            .option("throttle_longest", "1h")
            .option("throttle_by", by)
    })
}

#[test]
fn wrong_passwords_that_wait_together_are_throttled() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address+username");
        let guesses: Vec<_> =
            (0..30).map(|n| Connect::v3(format!("m{n}")).login("victim", format!("wrong{n}"))).collect();
        let (asked, let_in) = tried_at_once(&mut stage, &guesses);
        assert!(let_in.iter().all(|let_in| !let_in));
        assert!(asked <= 2 * THROTTLE_AFTER, "{asked} of 30 passwords were tried");
    });
}

#[test]
fn a_right_guess_among_wrong_ones_comes_too_late() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address+username");
        let mut guesses: Vec<_> =
            (0..30).map(|n| Connect::v3(format!("m{n}")).login("victim", format!("wrong{n}"))).collect();
        guesses.push(Connect::v3("m").login("victim", "right"));
        let (_, let_in) = tried_at_once(&mut stage, &guesses);
        assert!(!let_in[30], "the throttle was passed by");
    });
}

/// What waits in sockets is asked about ahead whatever its client id. If the login is then refused for a pause of that id,
/// its verdict is dropped.
#[test]
fn a_guess_that_was_asked_ahead_and_refused_unseen_is_not_remembered() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address+username");
        // A pause begins, and its one try is used up.
        for n in 0..=THROTTLE_AFTER {
            Connect::v3("junk").login(format!("made-up-{n}"), "wrong").refused(stage.broker.port());
        }
        let guess = Connect::v3("junk").login("victim", "right");
        let (_, let_in) =
            tried_at_once(&mut stage, &[Connect::v3("m").login("other", "wrong"), guess.clone()]);
        assert_eq!(let_in, [false; 2]);
        guess.refused(stage.broker.port());
    });
}

#[test]
fn one_address_that_tries_many_names_is_throttled() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address");
        let guesses: Vec<_> = (0..30).map(|n| Connect::v3("m").login(format!("n{n}"), "wrong")).collect();
        let (asked, let_in) = tried_at_once(&mut stage, &guesses);
        assert!(let_in.iter().all(|let_in| !let_in));
        assert!(asked <= 2 * THROTTLE_AFTER, "{asked} of 30 names were tried");
    });
}

#[test]
fn who_is_throttled_already_is_hardly_asked_about() {
    on_every_broker(|version| {
        let mut stage = throttled(version, "address+username");
        for n in 0..THROTTLE_AFTER {
            Connect::v3("m").login("victim", format!("wrong{n}")).refused(stage.broker.port());
        }
        stage.api.forget_requests();
        let guesses: Vec<_> =
            (0..5).map(|n| Connect::v3(format!("m{n}")).login("victim", format!("wrong-{n}"))).collect();
        let (asked, let_in) = tried_at_once(&mut stage, &guesses);
        // One in each pause is looked at.
        assert_eq!((asked, let_in), (1, vec![false; 5]));
    });
}

/// Where nothing is remembered, an answer that comes too early is lost.
#[test]
fn where_nothing_is_remembered_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| {
            setup.option("auth_cache_ttl", 0).option("deny_cache_ttl", 0).option("acl_cache_ttl", 0)
        });
        let (asked, let_in) = tried_at_once(&mut stage, &crowd_v3(CROWD));
        assert_eq!(let_in, [true; CROWD]);
        assert!(asked <= 2 * CROWD, "{asked} questions about {CROWD} logins");
    });
}

#[test]
fn an_api_in_trouble_is_not_flooded() {
    on_every_broker(|version| {
        let mut stage = Stage::on(version);
        let logins: Vec<_> =
            (0..CROWD).map(|n| Connect::v3(format!("c{n}")).login(format!("u{n}"), "unknown")).collect();
        let (asked, let_in) = tried_at_once(&mut stage, &logins);
        assert_eq!(let_in, [false; CROWD]);
        assert!(asked <= 2 * CROWD, "{asked} questions about {CROWD} logins");
    });
}

#[test]
fn nothing_is_asked_ahead_while_the_breaker_is_open() {
    on_every_broker(|version| {
        let mut stage =
            Stage::with(version, |setup| setup.option("breaker_pause", "1h").option("breaker_longest", "1h"));
        for n in 0..20 {
            let login = Connect::v3(format!("x{n}")).login(format!("x{n}"), "lost");
            assert!(login.attempt(stage.broker.port()).is_err());
        }
        assert!(stage.asked().len() < 20, "the breaker is open");
        stage.api.forget_requests();
        assert_eq!(tried_at_once(&mut stage, &crowd_v3(CROWD)), (0, vec![false; CROWD]));
    });
}

#[test]
fn a_flood_of_guesses_pushes_out_nothing_that_is_used() {
    const USED: usize = 40;
    on_every_broker(|version| {
        let mut stage =
            Stage::with(version, |setup| setup.option("cache_size", 100).global("message_size_limit 1"));
        // On a busy machine, one look has time for a few guesses.
        stage.set_looks(8 * LOOKS);
        let port = stage.broker.port();
        let mut user = Connect::v5("user").login("user", "right").accepted(port);
        let use_all = |user: &mut Client| {
            for n in 0..USED {
                assert_eq!(user.publish_acknowledged(format!("used/{n}"), "x") & 0x80, 0);
            }
        };
        use_all(&mut user);
        let mut flooder = stage.let_in(&[Connect::v3("flooder").login("flooder", "right")], Protocol::V3_1_1);
        stage.freeze_in_front_of(|_| {
            for n in 100..400 {
                // The broker drops what is too long before it asks about it.
                let publish = flooder[0].publish_packet(format!("f/{n}").as_bytes(), b"xx", 0, false);
                flooder[0].send(&publish);
            }
        });
        assert!(eventually(PATIENCE, || stage.asked().len() >= 150), "{} were asked", stage.asked().len());
        stage.thaw();
        stage.api.forget_requests();
        use_all(&mut user);
        let again = stage.asked().iter().filter(|asked| asked.contains("used/")).count();
        assert_eq!(again, 0, "used verdicts were pushed out");
    });
}

#[test]
fn a_listener_with_a_mount_point_works_and_is_left_alone_after_a_while() {
    on_every_broker(|version| {
        let mut stage = Stage::with(version, |setup| setup.listener(["mount_point m/"]));
        let mounted = stage.broker.ports()[1];
        let mut client = stage.connections_to(mounted, 1, Protocol::V3_1_1).remove(0);
        stage.freeze_in_front_of(|_| client.send(&crowd_v3(1)[0].packet()));
        stage.thaw();
        assert_eq!(client.connack(PATIENCE), Some(reason::SUCCESS));
        let mut rounds = Vec::new();
        for round in 0..4 {
            stage.api.forget_requests();
            stage.freeze_in_front_of(|_| {
                for n in 100..250 {
                    let topic = format!("{round}/{n}");
                    let publish = client.publish_packet(topic.as_bytes(), b"", 0, false);
                    client.send(&publish);
                }
            });
            stage.fence();
            let in_vain = stage.asked().iter().filter(|asked| !asked.contains(" m/")).count();
            rounds.push(in_vain);
            stage.thaw();
            client.ping();
        }
        assert!(client.may_subscribe("in"));
        client.publish("in", "x");
        let message = client.receive(PATIENCE).expect("message");
        assert!(message.topic.ends_with("in"), "2.0.11 leaves the mount point in");
        assert_eq!(rounds[3], 0, "wrong questions in each round: {rounds:?}");
        assert!(rounds.iter().sum::<usize>() <= 500, "{rounds:?}");
    });
}
