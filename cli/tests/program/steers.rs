//! `status`, `explain`, `forget`, `kick`, `recheck`: to a real broker's admin listener.

use serde_json::json as value;
use tempfile::TempDir;

use crate::support::{
    Broker, Connect, MockApi, Reply, Version, api, broker_asking, free_port, on_every_broker,
};
use crate::{json, run, stderr, stdout};

/// A broker whose configuration says where its admin listener is.
fn broker(version: Version, api: &MockApi) -> Broker {
    broker_asking(version, api)
        .file("token", "a-token-of-at-least-32-characters-0123456789\n")
        .option("admin_listen", format!("127.0.0.1:{}", free_port()))
        .option("admin_token_file", "token")
        .start()
}

#[test]
fn a_device_is_revoked_by_three_commands() {
    on_every_broker(|version| {
        let api = api("user alice secret\nallow all #\n");
        let broker = broker(version, &api);
        let conf = broker.folder().join("mosquitto.conf");
        let token = broker.folder().join("token");
        let steer = |words: &[&str]| {
            let files = ["--config", conf.to_str().unwrap(), "--token-file", token.to_str().unwrap()];
            run(&[words, &files].concat())
        };
        let client = Connect::v5("c1").login("alice", "secret").accepted(broker.port());
        let status = steer(&["status", "--json"]);
        assert_eq!(status.status.code(), Some(0), "{}", stderr(&status));
        assert_eq!(json(&status)["version"], value!(env!("CARGO_PKG_VERSION")));
        let text = stdout(&steer(&["status"]));
        assert!(text.contains("(logins): is asked") && text.contains("login allow (api)"), "{text}");

        let explained = steer(&["explain", "alice", "write", "t", "--client-id", "c1"]);
        assert!(
            explained.status.code() == Some(3) && stdout(&explained).starts_with("ask"),
            "{}",
            stdout(&explained)
        );

        api.answer(Reply::status(403));
        assert!(steer(&["forget", "alice"]).status.success());
        let kicked = steer(&["kick", "alice", "--json"]);
        assert_eq!(json(&kicked), value!({ "kicked": 1 }), "{}", stderr(&kicked));
        assert!(Connect::v5("c1").login("alice", "secret").attempt(broker.port()).is_err());
        drop(client);
    });
}

#[test]
fn who_is_not_let_in_or_not_there_is_said() {
    let api = api("");
    let broker = broker(Version::V2_0_21, &api);
    let conf = broker.folder().join("mosquitto.conf");
    let conf = conf.to_str().unwrap();
    std::fs::write(broker.folder().join("other"), "another token").unwrap();
    let other = broker.folder().join("other");
    let output = run(&["status", "--config", conf, "--token-file", other.to_str().unwrap()]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    assert!(stderr(&output).contains("the plugin answered 401"), "{}", stderr(&output));

    let nowhere = format!("127.0.0.1:{}", free_port());
    let output = run(&["status", "--admin", &nowhere]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("no answer from"), "{}", stderr(&output));
}

#[test]
fn of_several_places_it_is_the_socket_that_may_be_opened() {
    let api = api("user alice secret\nallow all #\n");
    for (in_file, version) in [(false, Version::V2_0_11), (true, Version::V2_1)] {
        let setup = broker_asking(version, &api);
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("admin.sock");
        let places = [format!("127.0.0.1:{}", free_port()), format!("unix:{}", socket.display())];
        let setup = if in_file {
            setup
                .file("options.toml", format!("admin_listen = {places:?}\n"))
                .option("config_file", "options.toml")
        } else {
            places.iter().fold(setup, |setup, place| setup.option("admin_listen", place))
        };
        let broker = setup.start();
        let conf = broker.folder().join("mosquitto.conf");
        // The file is named as the broker sees it, from its folder.
        let text = std::fs::read_to_string(&conf).unwrap();
        let whole = broker.folder().join("options.toml");
        std::fs::write(
            &conf,
            text.replace("config_file options.toml", &format!("config_file {}", whole.display())),
        )
        .unwrap();
        // Over TCP a command would want a token, and there is none.
        let kicked = run(&["kick", "alice", "--config", conf.to_str().unwrap(), "--json"]);
        assert_eq!(json(&kicked), value!({ "kicked": 0 }), "{version}: {}", stderr(&kicked));
    }
}
