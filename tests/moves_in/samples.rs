//! A whole configuration of each plugin, as its documentation has them.

use super::support::{Broker, Connect, MockApi, Reply, on_every_broker, reason};
use super::{about_superusers, broker, friendly, sent};

/// mosquitto-go-auth: all options of its HTTP backend, and the global ones that go with it.
const GO_AUTH: &str = "
    auth_plugin PATH
    auth_opt_log_level debug
    auth_opt_log_dest file
    auth_opt_log_file /var/log/mosquitto/go-auth.log
    auth_opt_backends http
    auth_opt_retry_count 2
    auth_opt_check_prefix false
    auth_opt_hasher bcrypt
    auth_opt_hasher_cost 10
    auth_opt_cache true
    auth_opt_cache_type go-cache
    auth_opt_cache_reset true
    auth_opt_auth_cache_seconds 30
    auth_opt_acl_cache_seconds 30
    auth_opt_auth_jitter_seconds 3
    auth_opt_acl_jitter_seconds 3
    auth_opt_http_host HOST
    auth_opt_http_port PORT
    auth_opt_http_getuser_uri /auth
    auth_opt_http_superuser_uri /superuser
    auth_opt_http_aclcheck_uri /acl
    auth_opt_http_with_tls false
    auth_opt_http_verify_peer false
    auth_opt_http_method POST
    auth_opt_http_params_mode json
    auth_opt_http_response_mode status
    auth_opt_http_timeout 5
    auth_opt_http_user_agent mosquitto
    auth_opt_http_register user, superuser, acl
    auth_opt_http_mode remote
";

/// Its fork, as it is written for Mosquitto 2.
const FORK: &str = "
    plugin PATH
    plugin_opt_backends http
    plugin_opt_cache true
    plugin_opt_cache_type redis
    plugin_opt_cache_host redis
    plugin_opt_cache_password t0psecret
    plugin_opt_allow_empty_credentials false
    plugin_opt_http_host HOST
    plugin_opt_http_port PORT
    plugin_opt_http_getuser_uri /auth
    plugin_opt_http_superuser_uri /superuser
    plugin_opt_http_aclcheck_uri /acl
    plugin_opt_http_method PUT
    plugin_opt_http_params_mode form
    plugin_opt_http_response_mode json
    plugin_opt_http_user_agent my broker
    plugin_opt_http_header_X-Api-Key t0psecret
    plugin_opt_http_header_X-Site hall 3
";

/// mosquitto-auth-plug.
const AUTH_PLUG: &str = "
    auth_plugin PATH
    auth_opt_backends http
    auth_opt_acl_cacheseconds 300
    auth_opt_auth_cacheseconds 0
    auth_opt_log_quiet true
    auth_opt_superusers S*
    auth_opt_anonusername AnonymouS
    auth_opt_http_ip HOST
    auth_opt_http_port PORT
    auth_opt_http_hostname example.org
    auth_opt_http_getuser_uri /auth
    auth_opt_http_superuser_uri /superuser
    auth_opt_http_aclcheck_uri /acl
    auth_opt_http_getuser_params domain=DOMAIN,port=SERVICE
    auth_opt_http_superuser_params domain=DOMAIN
    auth_opt_http_aclcheck_params domain=DOMAIN
    auth_opt_http_retry_count 3
";

/// What the log says must be there once, and nothing secret.
fn assert_told(broker: &Broker, expected: &[&str]) {
    let log = broker.log();
    for line in expected {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    assert!(!log.contains("t0psecret"), "{log}");
}

/// Lets a client in, has it subscribe twice and publish, and see that it may not do everything.
fn use_it(broker: &Broker, username: &str) {
    let mut client = Connect::v5("c 1").login(username, "p&w").accepted(broker.port());
    assert!(client.may_subscribe("a/#"));
    assert_eq!(client.publish_acknowledged("a/b", "x") & 0x80, 0);
    assert!(!client.may_subscribe("forbidden"));
}

fn api_that_forbids(yes: Reply, no: Reply) -> MockApi {
    let api = friendly();
    api.answer_with(move |request| {
        let body = String::from_utf8_lossy(&request.body);
        let is_no = request.path == "/superuser" || body.contains("forbidden") || body.contains("wrong");
        if is_no { no.clone() } else { yes.clone() }
    });
    api
}

#[test]
fn a_configuration_of_go_auth_works_when_its_path_is_changed() {
    on_every_broker(|version| {
        let api = api_that_forbids(Reply::status(200), Reply::status(403));
        let broker = broker(version, &api, GO_AUTH).start();
        use_it(&broker, "joe");
        let requests = api.requests();
        assert_eq!(
            sent(&requests),
            [
                r#"POST /auth {"clientid":"c 1","password":"p\u0026w","username":"joe"}"#,
                r#"POST /superuser {"username":"joe"}"#,
                r##"POST /acl {"acc":4,"clientid":"c 1","topic":"a/#","username":"joe"}"##,
                r#"POST /acl {"acc":2,"clientid":"c 1","topic":"a/b","username":"joe"}"#,
                // The message comes back.
                r#"POST /acl {"acc":1,"clientid":"c 1","topic":"a/b","username":"joe"}"#,
                r#"POST /acl {"acc":4,"clientid":"c 1","topic":"forbidden","username":"joe"}"#,
            ]
        );
        for request in &requests {
            assert_eq!(request.header("Content-Type"), Some("application/json"));
            assert_eq!(request.header("User-Agent"), Some("mosquitto"));
        }
        let wrong = Connect::v5("c 1").login("joe", "wrong").refused(broker.port());
        assert_eq!(wrong, reason::NOT_AUTHORIZED);
        assert_told(
            &broker,
            &[
                "The options are those of mosquitto-go-auth",
                "plugin_opt_log_level, plugin_opt_log_dest, plugin_opt_log_file: lines go to the broker's log",
                "plugin_opt_hasher, plugin_opt_hasher_cost: ",
                "plugin_opt_http_mode: neither mosquitto-go-auth nor this plugin knows it",
                "plugin_opt_retry_count: ",
            ],
        );
    });
}

#[test]
fn a_configuration_of_its_fork_works_when_its_path_is_changed() {
    on_every_broker(|version| {
        let json = |text: &str| Reply::status(200).body(text.as_bytes());
        let api = api_that_forbids(json(r#"{"Ok":true}"#), json(r#"{"ok":false,"error":"no"}"#));
        let broker = broker(version, &api, FORK).start();
        use_it(&broker, "joe doe");
        let requests = api.requests();
        assert_eq!(
            sent(&requests),
            [
                "PUT /auth clientid=c+1&password=p%26w&username=joe+doe",
                "PUT /superuser username=joe+doe",
                "PUT /acl acc=4&clientid=c+1&topic=a%2F%23&username=joe+doe",
                "PUT /acl acc=2&clientid=c+1&topic=a%2Fb&username=joe+doe",
                "PUT /acl acc=1&clientid=c+1&topic=a%2Fb&username=joe+doe",
                "PUT /acl acc=4&clientid=c+1&topic=forbidden&username=joe+doe",
            ]
        );
        for request in &requests {
            for (name, value) in [
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("User-Agent", "my broker"),
                ("X-Api-Key", "t0psecret"),
                ("X-Site", "hall 3"),
            ] {
                assert_eq!(request.header(name), Some(value));
            }
        }
        let wrong = Connect::v5("c 1").login("joe", "wrong").refused(broker.port());
        assert_eq!(wrong, reason::NOT_AUTHORIZED);
        assert_told(
            &broker,
            &[
                "plugin_opt_cache_type, plugin_opt_cache_host, plugin_opt_cache_password: answers are remembered in the \
                 broker's memory",
            ],
        );
    });
}

#[test]
fn a_configuration_of_auth_plug_works_when_its_path_is_changed() {
    on_every_broker(|version| {
        let api = api_that_forbids(Reply::status(204), Reply::status(401));
        let broker = broker(version, &api, AUTH_PLUG).environment("DOMAIN", "ex ample").start();
        use_it(&broker, "joe");
        // It remembers no login.
        drop(Connect::v5("c 1").login("joe", "p&w").accepted(broker.port()));
        let requests = api.requests();
        assert_eq!(
            sent(&requests),
            [
                "POST /auth domain=ex%20ample&port=NULL&username=joe&password=p%26w&topic=&acc=-1&clientid=",
                "POST /superuser domain=ex%20ample&username=joe&password=&topic=&acc=-1&clientid=",
                "POST /acl domain=ex%20ample&username=joe&password=&topic=a%2F%23&acc=4&clientid=c%201",
                "POST /acl domain=ex%20ample&username=joe&password=&topic=a%2Fb&acc=2&clientid=c%201",
                "POST /acl domain=ex%20ample&username=joe&password=&topic=a%2Fb&acc=1&clientid=c%201",
                "POST /acl domain=ex%20ample&username=joe&password=&topic=forbidden&acc=4&clientid=c%201",
                "POST /auth domain=ex%20ample&port=NULL&username=joe&password=p%26w&topic=&acc=-1&clientid=",
            ]
        );
        for request in &requests {
            let credentials = if request.path == "/auth" { "Basic am9lOnAmdw==" } else { "Basic am9lOg==" };
            for (name, value) in [
                ("Content-Type", Some("application/x-www-form-urlencoded")),
                ("Host", Some("example.org")),
                ("Authorization", Some(credentials)),
                ("User-Agent", None),
                ("Expect", None),
            ] {
                assert_eq!(request.header(name), value);
            }
        }
        let wrong = Connect::v5("c 1").login("joe", "wrong").refused(broker.port());
        assert_eq!(wrong, reason::NOT_AUTHORIZED);
        api.forget_requests();
        // A name of the pattern may do everything, once the API has let it in.
        let mut client = Connect::v5("c2").login("Super", "p").accepted(broker.port());
        assert!(client.may_subscribe("forbidden") && client.may_subscribe("a"));
        assert_eq!(
            (api.requests().len(), about_superusers(&api).len()),
            (1, 0),
            "{:?}",
            sent(&api.requests())
        );
        assert_told(
            &broker,
            &[
                "The options are those of mosquitto-auth-plug",
                "there is no \"SERVICE\" in the broker's environment, so NULL is sent in its place",
                "plugin_opt_anonusername: ",
                "Client ids with blanks",
            ],
        );
    });
}
