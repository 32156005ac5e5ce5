//! Requests, byte for byte, for each way of asking.

use super::support::{Connect, Setup, Version, on_every_broker};
use super::{auth_plug, broker, friendly, go_auth, sent};

/// Names and topics with letters that each way of writing has its own for.
const CLIENT_ID: &str = "id/<7>&é";
const USERNAME: &str = "joe=\"x\" y";
const PASSWORD: &str = "p+&%\u{2028}\u{7f}";
const TOPIC: &str = "a/<b>&c d";

/// What an API gets from a client that logs in and publishes.
fn asked(setup: impl Fn(&super::MockApi) -> Setup) -> (Vec<String>, Vec<super::Request>) {
    let api = friendly();
    let broker = setup(&api).start();
    let mut client = Connect::v5(CLIENT_ID).login(USERNAME, PASSWORD).accepted(broker.port());
    assert_eq!(client.publish_acknowledged(TOPIC, "x") & 0x80, 0);
    (sent(&api.requests()), api.requests())
}

#[test]
fn json_and_forms_of_go_auth_are_those_that_go_writes() {
    const JSON: [&str; 3] = [
        r#"/auth {"clientid":"id/\u003c7\u003e\u0026é","password":"p+\u0026%\u2028","username":"joe=\"x\" y"}"#,
        r#"/superuser {"username":"joe=\"x\" y"}"#,
        r#"/acl {"acc":2,"clientid":"id/\u003c7\u003e\u0026é","topic":"a/\u003cb\u003e\u0026c d","username":"joe=\"x\" y"}"#,
    ];
    const FORM: [&str; 3] = [
        "/auth clientid=id%2F%3C7%3E%26%C3%A9&password=p%2B%26%25%E2%80%A8%7F&username=joe%3D%22x%22+y",
        "/superuser username=joe%3D%22x%22+y",
        "/acl acc=2&clientid=id%2F%3C7%3E%26%C3%A9&topic=a%2F%3Cb%3E%26c+d&username=joe%3D%22x%22+y",
    ];
    for (more, method, expected, agent) in [
        ("", "POST", JSON, "mosquitto-2.0.22"),
        ("plugin_opt_http_method GET", "GET", JSON, "mosquitto-2.0.22"),
        ("plugin_opt_http_method PUT\nplugin_opt_http_user_agent me", "PUT", JSON, "me"),
        ("plugin_opt_http_params_mode form", "POST", FORM, "Go-http-client/1.1"),
        // The original sends forms by POST, whatever the option says; the fork does as it says.
        ("plugin_opt_http_params_mode form\nplugin_opt_http_method PUT", "POST", FORM, "Go-http-client/1.1"),
        (
            "plugin_opt_http_params_mode form\nplugin_opt_http_method PUT\nplugin_opt_http_header_X-A b",
            "PUT",
            FORM,
            "mosquitto-2.0.22",
        ),
    ] {
        let conf = go_auth(&format!("plugin_opt_http_superuser_uri /superuser\n{more}"));
        let (bodies, requests) = asked(|api| broker(Version::V2_0_21, api, &conf));
        let is_json = expected == JSON;
        let expected = expected.map(|request| {
            let with_del =
                if is_json { request.replace("\\u2028", "\\u2028\u{7f}") } else { request.to_owned() };
            format!("{method} {with_del}")
        });
        assert_eq!(bodies, expected, "{more}");
        for request in requests {
            assert_eq!(request.header("User-Agent"), Some(agent), "{more}");
            let length = request.body.len().to_string();
            assert_eq!(request.header("Content-Length"), Some(length.as_str()), "{more}");
        }
    }
}

#[test]
fn forms_of_auth_plug_are_its_own() {
    let (bodies, requests) = asked(|api| broker(Version::V2_0_21, api, &auth_plug("")));
    assert_eq!(
        bodies,
        [
            "POST /auth username=joe%3D%22x%22%20y&password=p%2B%26%25%E2%80%A8%7F&topic=&acc=-1&clientid=",
            "POST /superuser username=joe%3D%22x%22%20y&password=&topic=&acc=-1&clientid=",
            "POST /acl username=joe%3D%22x%22%20y&password=&topic=a%2F%3Cb%3E%26c%20d&acc=2&clientid=id%2F%3C7%3E%26%C3%A9",
        ]
    );
    assert!(requests.iter().all(|request| request.header("Authorization").is_some()));
    // With a key of its own the client's is not sent.
    let (_, requests) =
        asked(|api| broker(Version::V2_0_21, api, &auth_plug("auth_opt_http_basic_auth_key a2V5")));
    assert!(requests.iter().all(|request| request.header("Authorization") == Some("Basic a2V5")));
}

#[test]
fn client_ids_go_as_they_are_where_that_is_safe() {
    let api = friendly();
    let broker = broker(Version::V2_0_21, &api, &auth_plug("")).start();
    for (id, expected) in [("a:b/c@d,(e)", "a:b/c@d,(e)"), ("a&username=root", "a%26username%3Droot")] {
        api.forget_requests();
        let mut client = Connect::v5(id).login("joe", "p").accepted(broker.port());
        assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
        let asked = sent(&api.topic_checks());
        assert!(asked[0].ends_with(&format!("&acc=2&clientid={expected}")), "{asked:?}");
    }
}

#[test]
fn the_client_id_goes_for_the_username_where_it_did() {
    on_every_broker(|version| {
        let api = friendly();
        let conf =
            go_auth("plugin_opt_use_clientid_as_username true\nplugin_opt_http_superuser_uri /superuser");
        let broker = broker(version, &api, &conf).start();
        let mut client = Connect::v3("c1").login("joe", "p").accepted(broker.port());
        assert!(client.may_subscribe("t"));
        assert_eq!(
            sent(&api.requests()),
            [
                r#"POST /auth {"clientid":"c1","password":"p","username":"c1"}"#,
                r#"POST /superuser {"username":"c1"}"#,
                r#"POST /acl {"acc":4,"clientid":"c1","topic":"t","username":"c1"}"#,
            ]
        );
    });
}

/// Without a cache each question is asked, as there; with one, once.
#[test]
fn what_is_remembered_goes_by_the_cache_option() {
    on_every_broker(|version| {
        for (more, logins, topics) in [
            ("", 2, 4),
            ("plugin_opt_cache false", 2, 4),
            ("plugin_opt_cache true", 1, 1),
            ("plugin_opt_cache true\nplugin_opt_auth_cache_seconds 0", 2, 1),
        ] {
            let api = friendly();
            let conf = go_auth(&format!("plugin_opt_http_superuser_uri /superuser\n{more}"));
            let broker = broker(version, &api, &conf).start();
            for _ in 0..2 {
                let mut client = Connect::v5("c").login("joe", "p").accepted(broker.port());
                for _ in 0..2 {
                    assert_eq!(client.publish_acknowledged("t", "x") & 0x80, 0);
                }
            }
            let asked = (api.logins().len(), api.topic_checks().len(), super::about_superusers(&api).len());
            assert_eq!(asked, (logins, topics, topics), "{more}");
        }
    });
}

#[test]
fn a_no_is_remembered_as_long_as_a_yes_was() {
    on_every_broker(|version| {
        let api = friendly();
        api.answer(super::Reply::status(403));
        let broker = broker(version, &api, &go_auth("plugin_opt_cache true")).start();
        for _ in 0..3 {
            Connect::v5("c").login("joe", "p").refused(broker.port());
        }
        assert_eq!(api.logins().len(), 1);
        assert!(broker.log().contains("(logins 30s, topics 30s, denies as long)"), "{}", broker.log());
    });
}
