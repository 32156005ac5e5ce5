//! `login` and `topic`.

use std::fs;

use serde_json::json as value;
use tempfile::TempDir;

use crate::support::{MockApi, PASSWORD, Reply, api, broker::plugin, free_port, local_user};
use crate::{json, run, run_with, stdout};

/// A configuration with these lines behind the plugin's, in a folder of its own.
fn conf(lines: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("mosquitto.conf");
    fs::write(&file, format!("user root\nplugin {}\n{lines}", plugin().display())).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

fn urls(api: &MockApi) -> String {
    format!("plugin_opt_auth_url {}\nplugin_opt_acl_url {}\n", api.auth_url(), api.acl_url())
}

#[test]
fn a_login_shows_what_goes_over_the_wire_and_ends_as_it_was_decided() {
    let api = api("user alice secret\n");
    let (_folder, file) = conf(&(urls(&api) + "plugin_opt_header Authorization: Bearer hunter2\n"));
    let login = |password: &str, more: &[&str]| {
        run_with(password, &[&["login", "alice", "--password-stdin", "--config", &file], more].concat())
    };
    let output = login("secret\n", &[]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("  > POST /auth HTTP/1.1") && text.contains("allow: the API said 200"), "{text}");
    assert!(
        text.contains("\"password\":\"...\"") && !text.contains("secret") && !text.contains("hunter2"),
        "{text}"
    );
    let asked = api.logins();
    assert_eq!(
        (asked[0].field("password"), asked[0].header("authorization")),
        ("secret", Some("Bearer hunter2"))
    );

    let shown = stdout(&login("secret", &["--show-secrets"]));
    assert!(shown.contains("\"password\":\"secret\"") && shown.contains("hunter2"), "{shown}");

    let output = login("wrong", &["--json"]);
    assert_eq!((output.status.code(), &json(&output)["decision"]), (Some(1), &value!("deny")));
    api.answer(Reply::status(503));
    let output = login("secret", &["--json"]);
    let answer = json(&output);
    assert_eq!((output.status.code(), &answer["decision"]), (Some(3), &value!("no answer")));
    assert_eq!(answer["requests"][0]["status"], value!(503));
}

/// As the plugin reads it: with `answer_rules` the body of a 200 counts.
#[test]
fn a_body_is_read_where_the_plugin_reads_it() {
    let api = api("");
    let lines = format!("{}plugin_opt_answer_rules true\n", urls(&api));
    let ((_folder, reads), (_other, leaves)) = (conf(&lines), conf(&urls(&api)));
    let login = |file: &str| {
        let output = run_with("secret", &["login", "alice", "--password-stdin", "--config", file]);
        (output.status.code(), stdout(&output))
    };
    for (body, code, text) in [
        (value!({"result": "deny"}), 1, "deny: the API said 200 with a result that is no allow"),
        (value!({"expire_at": 1}), 1, "deny: the API said 200 with an expire_at that is over"),
        (value!({"acl": [{"permission": "yes"}]}), 1, "acl, rule 1: permission: found \"yes\""),
        (value!({"result": "allow", "acl": []}), 0, "allow: the API said 200"),
    ] {
        api.answer(Reply::json(&body));
        let (found, shown) = login(&reads);
        assert!(found == Some(code) && shown.contains(text), "{found:?} {shown}");
        assert_eq!(login(&leaves).0, Some(0), "the status alone counts");
    }
}

#[test]
fn the_next_url_is_asked_where_one_gives_no_answer() {
    let api = api("user alice secret\n");
    let gone = format!("http://127.0.0.1:{}/auth", free_port());
    let (_folder, file) = conf(&format!("plugin_opt_auth_url {gone} {}\n", api.auth_url()));
    let output = run_with("secret\n", &["login", "alice", "--password-stdin", "--config", &file, "--json"]);
    let answer = json(&output);
    assert_eq!(output.status.code(), Some(0), "{answer:#}");
    assert!(
        answer["requests"][0]["error"].is_string() && answer["requests"][1]["status"] == 200,
        "{answer:#}"
    );
}

/// They came with the login's answer, which only a running plugin has seen.
#[test]
fn rules_of_answers_decide_where_there_is_no_acl_url() {
    let api = api("");
    let (_folder, file) =
        conf(&format!("plugin_opt_auth_url {}\nplugin_opt_answer_rules true\n", api.auth_url()));
    let output = run(&["topic", "alice", "write", "a/b", "--config", &file]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("no answer: there is no acl_url: the rules in the login's answer decide"),
        "{text}"
    );
    assert!(api.requests().is_empty());
}

#[test]
fn local_users_are_decided_without_the_api() {
    let api = api("");
    let (folder, file) = conf(&format!("{}plugin_opt_user {}\n", urls(&api), local_user("local")));
    let login = |password: &str| {
        run_with(password, &["login", "local", "--password-stdin", "--config", &file]).status.code()
    };
    assert_eq!((login(PASSWORD), login("wrong")), (Some(0), Some(1)));
    let topic = |file: &str| run(&["topic", "local", "write", "a/b", "--config", file]).status.code();
    assert_eq!(topic(&file), Some(0));
    let rules = folder.path().join("acl");
    fs::write(&rules, "user local\ntopic read a/#\n").unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}plugin_opt_acl_file {}\n", rules.display())).unwrap();
    assert_eq!(topic(&file), Some(1));
    assert!(api.requests().is_empty());
}

#[test]
fn a_topic_is_asked_about_with_all_of_its_fields() {
    let api = api("user alice secret\nallow write sensors/%c\n");
    let (_folder, file) = conf(&urls(&api));
    let topic = |client: &str| {
        run(&["topic", "alice", "write", "sensors/c1", "--client-id", client, "--config", &file, "--json"])
    };
    assert_eq!(topic("c1").status.code(), Some(0));
    assert_eq!(topic("c2").status.code(), Some(1));
    let asked = api.topic_checks();
    let fields = ["username", "clientid", "topic"].map(|name| asked[0].field(name).to_owned());
    assert_eq!((fields, asked[0].acc()), (["alice", "c1", "sensors/c1"].map(str::to_owned), 2));
}

#[test]
fn further_fields_are_told_as_far_as_they_are_known() {
    let api = api("user alice secret\nallow write t\n");
    let fields = "plugin_opt_auth_fields clientid,address\nplugin_opt_acl_fields qos\n";
    let (_folder, file) = conf(&(urls(&api) + fields));
    let login = ["login", "alice", "--password-stdin", "--client-id", "c\"1", "--config", &file];
    assert_eq!(run_with("secret\n", &login).status.code(), Some(0));
    assert_eq!(run(&["topic", "alice", "write", "t", "--config", &file]).status.code(), Some(0));
    let bodies = api.requests().into_iter().map(|request| String::from_utf8(request.body).unwrap());
    let expected = [
        r#"{"username":"alice","password":"secret","clientid":"c\"1","address":null}"#,
        r#"{"username":"alice","clientid":"","topic":"t","acc":2,"qos":null}"#,
    ];
    assert_eq!(bodies.collect::<Vec<_>>(), expected);
}

#[test]
fn what_the_plugin_has_no_say_in_is_left_open() {
    let api = api("");
    let (_folder, file) = conf(&format!("plugin_opt_auth_url {}\n", api.auth_url()));
    let output = run(&["topic", "alice", "read", "t", "--config", &file, "--json"]);
    assert_eq!((output.status.code(), &json(&output)["decision"]), (Some(3), &value!("defer")));
    let output = run(&["topic", "alice", "read", "t", "--config", "/nowhere"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""));
}
