//! What the log says of an API that is not as its operator thinks, of many refusals, and of the options that count.

mod support;
use support::scene::PASSWD_2_0_11;
use support::{
    Broker, Connect, PATIENCE, Reply, Setup, api, broker_asking, eventually, friendly_api, on_every_broker,
    reason,
};

fn warnings(broker: &Broker, words: &str) -> Vec<String> {
    broker.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

#[test]
fn a_status_that_is_not_about_the_client_is_explained_once_a_minute() {
    on_every_broker(|version| {
        for (status, meaning) in [
            (404, "a path that it does not have"),
            (405, "a path that takes no POST"),
            (422, "a request that it does not understand"),
            (301, "a redirect, which is not followed"),
            (307, "a redirect, which is not followed"),
            (308, "a redirect, which is not followed"),
            (204, "200 alone lets anybody in"),
        ] {
            let api = api("");
            api.answer(Reply::status(status));
            let broker = broker_asking(version, &api).start();
            for id in ["a", "b", "c"] {
                Connect::v5(id).login(id, "secret").refused(broker.port());
            }
            let named = format!("The API at http://{} (logins) answered {status}, ", api.address());
            assert!(eventually(PATIENCE, || !warnings(&broker, &named).is_empty()), "{}", broker.log());
            let said = warnings(&broker, &named);
            assert!(said.len() == 1 && said[0].contains(meaning), "{said:?}");
        }
    });
}

#[test]
fn answers_that_are_about_the_client_need_no_explanation() {
    on_every_broker(|version| {
        for status in [401, 403, 500] {
            let api = api("");
            api.answer(Reply::status(status));
            let broker = broker_asking(version, &api).start();
            for id in ["a", "b"] {
                assert!(Connect::v5(id).login(id, "secret").attempt(broker.port()).is_err());
            }
            assert!(warnings(&broker, "The API at").is_empty(), "{}", broker.log());
        }
    });
}

#[test]
fn a_200_whose_body_says_no_lets_in_with_a_warning() {
    on_every_broker(|version| {
        for (body, says) in [
            ("{\"result\": \"deny\"}", Some("its body says no")),
            ("<!doctype html><html><body>Please log in</body></html>", Some("an HTML page came with it")),
            ("{\"result\": \"allow\"}", None),
        ] {
            let api = api("");
            api.answer(Reply::status(200).body(body.as_bytes()));
            let broker = broker_asking(version, &api).start();
            for id in ["a", "b", "c"] {
                Connect::v5(id).login(id, "secret").accepted(broker.port());
            }
            let named = format!("The API at http://{} (logins) answered 200", api.address());
            match says {
                Some(says) => {
                    assert!(
                        eventually(PATIENCE, || !warnings(&broker, &named).is_empty()),
                        "{}",
                        broker.log()
                    );
                    let said = warnings(&broker, &named);
                    assert!(said.len() == 1 && said[0].contains(says), "{said:?}");
                }
                None => assert!(warnings(&broker, "answered 200").is_empty(), "{}", broker.log()),
            }
        }
    });
}

/// One client that is refused again and again leaves room for the others' lines, and what has no line is counted.
#[test]
fn in_a_flood_each_client_has_a_line_and_the_rest_is_counted_by_reason() {
    on_every_broker(|version| {
        let api = api("user busy secret\n");
        let broker = broker_asking(version, &api).start();
        let mut busy = Connect::v5("busy").login("busy", "secret").accepted(broker.port());
        for topic in 0..300 {
            assert_eq!(busy.publish_acknowledged(format!("t/{topic}"), "x"), reason::NOT_AUTHORIZED);
        }
        for device in 0..30 {
            let name = format!("device-{device}");
            Connect::v5(&name).login(&name, "secret").refused(broker.port());
        }
        let missing = || {
            let log = broker.log();
            (0..30).filter(|device| !log.contains(&format!("Refused to let \"device-{device}\" ("))).count()
        };
        assert!(eventually(PATIENCE, || missing() == 0), "{} have no line", missing());
        broker.wait_for_log("further refusals were not logged one by one: ", PATIENCE);
        assert!(broker.log().contains(" x the API said no."), "{}", broker.log());
    });
}

#[test]
fn no_line_ends_with_a_question_mark_and_a_full_stop() {
    on_every_broker(|version| {
        let api = friendly_api();
        let url = format!("https://127.0.0.1:{}/auth", api.address().port());
        let broker = Broker::with(version).option("auth_url", url).start();
        Connect::v5("a").login("a", "secret").unanswered(broker.port());
        broker.wait_for_log("on this port?", PATIENCE);
        assert!(!broker.log().contains("?."), "{}", broker.log());
    });
}

#[test]
fn the_options_that_count_are_said_at_the_start_and_their_changes_after_a_sighup() {
    on_every_broker(|version| {
        let api = friendly_api();
        let options = |timeout: &str, path: &str| {
            format!(
                "acl_url = 'http://{}/{path}'\ntimeout = '{timeout}'\nheader = 'X: hush-hush'\n",
                api.address()
            )
        };
        let broker = Broker::with(version)
            .option("auth_url", api.auth_url())
            .option("stale_ttl", "7m")
            .option("cache_size", "100000")
            .option("config_file", "options.toml")
            .file("options.toml", options("2s", "hush-1"))
            .start();
        let start = warnings(&broker, "Options that are not at their defaults: ");
        let [start] = &start[..] else { panic!("{start:?}") };
        let address = api.address();
        let shown = format!("auth_url http://{address}; acl_url http://{address}; header (not shown); ");
        for words in [shown.as_str(), "stale_ttl \"7m\"", "config_file \"options.toml\""] {
            assert!(start.contains(words), "{words}: {start}");
        }
        // As in the table of options: what is written out, but as the default has it.
        assert!(!start.contains("timeout") && !start.contains("cache_size"), "{start}");

        std::fs::write(broker.folder().join("options.toml"), options("3s", "hush-2")).unwrap();
        broker.sighup();
        broker.wait_for_log("Files are re-read (options.toml): ", PATIENCE);
        let log = broker.log();
        for words in [
            "timeout \"2s\" -> \"3s\"",
            &format!("acl_url http://{address} (in what is not shown, it may be a secret)"),
            "Lines plugin_opt_ in mosquitto.conf are not",
        ] {
            assert!(log.contains(words), "{words}: {log}");
        }
        assert!(!log.contains("hush"), "{log}");
    });
}

/// Once the plugin is asked first, the broker's own file decides about nobody.
#[test]
fn a_password_file_of_the_broker_that_counts_no_more_is_named() {
    on_every_broker(|version| {
        let with =
            |setup: Setup| setup.file("own users", PASSWD_2_0_11).line("password_file own users").start();
        let words = "password_file own users in mosquitto.conf lets nobody in any more";
        let setup = || Broker::with(version).option("auth_url", "http://127.0.0.1:9/");
        assert_eq!(warnings(&with(setup()), words).len(), 1);
        assert!(warnings(&with(setup().option("defer_status", "404")), words).is_empty());
        assert!(warnings(&setup().start(), words).is_empty());
    });
}
