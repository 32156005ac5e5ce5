use super::*;
use crate::question::Access;
use crate::topic::Wanted;
use serde_json::json;

const LOGIN: Question<'_> = Question::Connect { username: "alice", password: "secret", more: "" };

fn now() -> Now {
    Now { instant: Instant::now(), system: UNIX_EPOCH + Duration::from_secs(1_800_000_000) }
}

fn read_text(body: &str, question: &Question<'_>, now: Now) -> (Answer, Option<String>) {
    read(&Body::Whole(body.as_bytes().to_vec()), question, &GrantsPool::new(1 << 20), now)
}

fn answer(body: &str) -> Answer {
    read_text(body, &LOGIN, now()).0
}

fn terms(body: &str) -> Terms {
    match answer(body) {
        Answer::Verdict { verdict: Verdict::Allow, grounds: Grounds::Status(200), terms } => {
            terms.map_or_else(Terms::default, |terms| (*terms).clone())
        }
        other => panic!("{body}: {other:?}"),
    }
}

fn problem(body: &str) -> String {
    let (answer, problem) = read_text(body, &LOGIN, now());
    assert_eq!(answer, Answer::verdict(Verdict::Deny, Grounds::BadBody), "{body}");
    problem.unwrap()
}

#[test]
fn a_result_that_is_missing_was_said_by_the_status() {
    for body in
        ["{}", r#"{"result":"allow"}"#, r#"{"result":null}"#, r#"{"unknown":[{}],"is_superuser":false}"#]
    {
        assert_eq!(terms(body), Terms::default(), "{body}");
    }
    for body in [r#"{"result":"deny"}"#, r#"{"result":"ignore","acl":7}"#] {
        assert_eq!(answer(body), Answer::verdict(Verdict::Deny, Grounds::BodyDenies), "{body}");
    }
}

#[test]
fn a_superuser_is_one_by_a_plain_yes_alone() {
    for yes in ["true", "1", "2", "\"true\"", "\"1\""] {
        assert!(terms(&format!("{{\"is_superuser\":{yes}}}")).is_superuser, "{yes}");
    }
    for no in ["false", "0", "-1", "1.0", "\"yes\"", "\"0\"", "null", "[true]", "{}"] {
        assert!(!terms(&format!("{{\"is_superuser\":{no}}}")).is_superuser, "{no}");
    }
    let topic =
        Question::Access { username: "a", client_id: "c", topic: "t", access: Access::Read, more: "" };
    let (answer, _) = read_text(r#"{"is_superuser":true}"#, &topic, now());
    assert_eq!(
        answer,
        Answer::verdict(Verdict::Allow, Grounds::Status(200)),
        "nobody becomes one by a topic"
    );
}

#[test]
fn the_end_is_told_in_seconds() {
    let now = now();
    let at = |at: &str| read_text(&format!("{{\"expire_at\":{at}}}"), &LOGIN, now);
    let (Answer::Verdict { terms: Some(terms), .. }, None) = at("1800000060") else { panic!("no terms") };
    assert_eq!(terms.expires, Some(now.instant + Duration::from_secs(60)));
    for over in ["1800000000", "1799999999", "0"] {
        assert_eq!(at(over).0, Answer::verdict(Verdict::Deny, Grounds::Expired), "{over}");
    }
    for wrong in ["1800000060000", "\"1800000060\"", "1800000060.5", "-1", "true", "[]"] {
        let (answer, problem) = at(wrong);
        assert_eq!(answer, Answer::verdict(Verdict::Deny, Grounds::BadBody), "{wrong}");
        assert!(problem.unwrap().starts_with("expire_at: found "), "{wrong}");
    }
}

#[test]
fn rules_are_read_as_others_write_them() {
    let body = json!({"acl": [
        {"permission": "allow", "action": "pub", "topic": "a/${username}", "qos": [0, 1], "retain": "false"},
        {"permission": "deny", "action": "all", "topics": ["b/#", "eq c/+"], "qos": "2", "note": "mine"},
        {"permission": "allow", "action": "subscribe", "topic": "d/${client_attrs.site}", "qos": null, "retain": null},
    ], "client_attrs": {"site": "x", "-": 7}});
    let Some(TopicRules::Ready(grants)) = terms(&body.to_string()).rules else { panic!("not ready") };
    let ask =
        |access, topic, qos| grants.decide(&Wanted { access, topic, qos: Some(qos), retain: Some(false) });
    assert_eq!(ask(Access::Write, "a/alice", 1), Some(true));
    assert_eq!(ask(Access::Write, "a/alice", 2), None);
    assert_eq!(ask(Access::Write, "b/x", 2), Some(false));
    assert_eq!(ask(Access::Subscribe, "d/x", 0), Some(true));
}

#[test]
fn rules_that_name_the_client_wait_for_its_id() {
    let body =
        json!({"acl": [{"permission": "allow", "action": "all", "topic": "c/${clientid}/#"}]}).to_string();
    let terms = terms(&body);
    let pool = GrantsPool::new(1 << 20);
    let grants = terms.grants("alice", "d1", &pool).unwrap().unwrap();
    let ask = |topic| grants.decide(&Wanted { access: Access::Write, topic, qos: Some(0), retain: None });
    assert_eq!((ask("c/d1/x"), ask("c/d2/x")), (Some(true), None));
}

#[test]
fn what_is_wrong_is_named_with_its_rule() {
    let good = json!({"permission": "allow", "action": "all", "topic": "t"});
    for (wrong, says) in [
        (json!([good, 7]), "acl, rule 2: found 7, expected an object"),
        (json!([["allow", "all", "t"]]), "acl, rule 1: found a list, expected an object"),
        (json!([{"action": "all", "topic": "t"}]), "acl, rule 1: permission is missing"),
        (
            json!([{"permission": "Allow", "action": "all", "topic": "t"}]),
            "acl, rule 1: permission: found \"Allow\"",
        ),
        (
            json!([{"permission": "allow", "action": "pubb", "topic": "t"}]),
            "acl, rule 1: action: found \"pubb\"",
        ),
        (json!([{"permission": "allow", "action": "all"}]), "acl, rule 1: topic is missing"),
        (
            json!([{"permission": "allow", "action": "all", "topic": "t", "topics": []}]),
            "acl, rule 1: found both",
        ),
        (json!([{"permission": "allow", "action": "all", "topics": [1]}]), "acl, rule 1: topics: found 1"),
        (json!([{"permission": "allow", "action": "all", "topic": "a/#/b"}]), "acl, rule 1: "),
        (json!([good, {"permission": "allow", "action": "all", "topics": []}]), "acl, rule 2: "),
        (
            json!([{"permission": "allow", "action": "all", "topic": "t", "qos": 3}]),
            "acl, rule 1: qos: found 3",
        ),
        (json!([{"permission": "allow", "action": "all", "topic": "t", "qos": []}]), "acl, rule 1: qos: "),
        (
            json!([{"permission": "allow", "action": "all", "topic": "t", "retain": "x"}]),
            "acl, rule 1: retain: ",
        ),
        (
            json!([{"permission": "allow", "action": "all", "topic": "t", "ipaddr": "::1"}]),
            "acl, rule 1: ipaddr is",
        ),
        (json!({"pub": ["t"]}), "acl: found an object, expected a list of rules"),
        (json!("t"), "acl: found \"t\""),
    ] {
        let found = problem(&json!({ "acl": wrong }).to_string());
        assert!(found.starts_with(says), "{wrong}: {found}");
    }
    let many = vec![good; 1_001];
    assert!(problem(&json!({ "acl": many }).to_string()).contains("1001"), "too many");
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for body in [
        "",
        " ",
        "allow",
        "null",
        "true",
        "\"allow\"",
        "[\"allow\"]",
        "[]",
        "{",
        "{}{}",
        "{\"result\":\"allow\"} x",
        "{\"result\":\"deny\",\"result\":\"allow\"}",
        "{\"result\":\"Allow\"}",
        "{\"result\":true}",
        "{\"client_attrs\":[]}",
        "{\"client_attrs\":{\"a\":1}}",
        "{\"a\":{\"b\":1,\"b\":2}}",
        "<!doctype html>",
    ] {
        problem(body);
    }
    let deep = "[".repeat(MOST_BYTES);
    problem(&deep);
    let pool = GrantsPool::new(1 << 20);
    let (answer, what) = read(&Body::TooLong, &LOGIN, &pool, now());
    assert_eq!(answer, Answer::verdict(Verdict::Deny, Grounds::BadBody));
    assert!(what.unwrap().contains("65536"));
    let (answer, _) = read(&Body::Whole(b"{\"result\":\"\xff\"}".to_vec()), &LOGIN, &pool, now());
    assert_eq!(answer, Answer::verdict(Verdict::Deny, Grounds::BadBody));
}

#[test]
fn rules_without_room_are_no_answer() {
    let topic = "x".repeat(2_000);
    let body = json!({"acl": [{"permission": "allow", "action": "all", "topic": topic}]}).to_string();
    let (answer, _) = read(&Body::Whole(body.into_bytes()), &LOGIN, &GrantsPool::new(1_000), now());
    assert_eq!(answer, Answer::None(NoAnswer::NoRoomForRules));
}

/// What stands in place of an object may be a token for the client.
#[test]
fn what_is_no_object_is_told_without_its_text() {
    for (body, found) in [
        ("\"t0psecret\"", "found a text, expected an object"),
        ("[\"t0psecret\"]", "found a list, expected an object"),
        ("12345", "found a number, expected an object"),
        ("true", "found true or false, expected an object"),
        ("{\"acl\": \"t0psecret\"}", "acl: found a text of 9 bytes"),
        ("{\"acl\": [\"t0psecret\"]}", "acl, rule 1: found a text of 9 bytes"),
        ("{\"result\": \"t0psecret\"}", "result: found a text of 9 bytes"),
        ("{\"result\": \"Allow\"}", "result: found \"Allow\""),
    ] {
        let problem = problem(body);
        assert!(problem.starts_with(found) && !problem.contains("t0p"), "{body}: {problem}");
    }
}
