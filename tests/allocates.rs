//! A topic check that a remembered verdict or a local rule answers allocates nothing: every message takes this way.

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use mosquitto_http_auth::internals::{
    Access, AclFile, Action, Caller, Client, Grants, Login, Names, Permission, Placeholders, Plugin, QosSet,
    RawRule, Retain, Ruling, TopicCheck, Wanted,
};
use support::allocator::{Counting, allocations_of};
use support::idle::{Idle, thread};
use support::{Reply, api};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIENT: Client<'_> = Client { connection: 1, id: "sensor-1", address: Some("192.0.2.1") };

const LOGIN: Login<'_> = Login {
    client: CLIENT,
    username: Some("sensor"),
    password: Some(b"secret"),
    starts_clean: true,
    level: 5,
    details: &(),
};

/// How often a thousand calls allocate, once everything is known.
fn allocations(mut call: impl FnMut() -> Ruling) -> usize {
    for _ in 0..10 {
        assert_eq!(call(), Ruling::Allow);
    }
    allocations_of(|| (0..1000).for_each(|_| assert_eq!(call(), Ruling::Allow))).1
}

fn assert_checked_without_allocating(plugin: &Plugin, access: Access, topic: &str) {
    let (client, username, caller) = (CLIENT, Some("sensor"), Caller::Broker(thread()));
    let check = TopicCheck { client, username, topic, access, qos: 1, retain: Retain::No, details: &() };
    let check = || plugin.authorise(&check, &caller, Instant::now()).ruling;
    assert_eq!(allocations(check), 0, "a check of {access}");
}

#[test]
fn what_is_remembered_is_looked_up_without_allocating() {
    assert_eq!(allocations_of(|| Box::new(black_box(1))).1, 1, "the counter counts");
    let api = api("user sensor secret\nallow all #\n");
    let options = [("auth_url", api.auth_url()), ("acl_url", api.acl_url())];
    let options = options.map(|(name, url)| (name.to_owned(), url)).to_vec();
    let plugin = Plugin::new(options, Arc::new(Idle), &thread(), Instant::now()).unwrap();
    let caller = Caller::Broker(thread());
    assert_eq!(allocations(|| plugin.authenticate(&LOGIN, &caller, Instant::now()).ruling), 0, "a login");
    for (access, topic) in [(Access::Write, "sensors/1"), (Access::Read, "commands/1")] {
        assert_checked_without_allocating(&plugin, access, topic);
    }
    assert_eq!(api.requests().len(), 3, "all but the first of each was remembered");
}

#[test]
fn what_rules_of_an_answer_decide_is_decided_without_allocating() {
    let api = api("");
    api.answer(Reply::json(&serde_json::json!({
        "acl": [
            {"permission": "deny", "action": "all", "topic": "dev/+/secret", "qos": [1, 2]},
            {"permission": "allow", "action": "all", "topic": "dev/${clientid}/#"},
        ]
    })));
    let options =
        [("auth_url", api.auth_url()), ("acl_url", api.acl_url())].map(|(name, url)| (name.to_owned(), url));
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = [&options[..], &[option("answer_rules", "true"), option("acl_no_match", "deny")]].concat();
    let plugin = Plugin::new(options, Arc::new(Idle), &thread(), Instant::now()).unwrap();
    let caller = Caller::Broker(thread());
    assert_eq!(plugin.authenticate(&LOGIN, &caller, Instant::now()).ruling, Ruling::Allow);
    for (access, topic) in [(Access::Write, "dev/sensor-1/t"), (Access::Read, "dev/sensor-1/t")] {
        assert_checked_without_allocating(&plugin, access, topic);
    }
    assert_eq!(api.requests().len(), 1, "only the login was asked about");
}

#[test]
fn topic_rules_are_weighed_without_allocating() {
    let rules = "user u\ntopic deny secret/#\ntopic read a/+/c\npattern dev/%u/%c/#\npattern deny +/%c/x\n";
    for placeholders in [Placeholders::Anywhere, Placeholders::WholeLevels] {
        let acl = AclFile::parse(rules, "acl", placeholders).unwrap();
        for (topic, expected) in
            [("a/b/c", true), ("secret/x", false), ("dev/u/c/x", true), ("b/c/x", false), ("b/c/y", false)]
        {
            let (allowed, allocations) =
                allocations_of(|| acl.allows(Access::Read, "u", "c", black_box(topic)));
            assert_eq!((allowed, allocations), (expected, 0), "{topic} {placeholders:?}");
        }
    }
}

#[test]
fn rules_of_answers_are_weighed_without_allocating() {
    let texts: Vec<String> = (0..998).map(|number| format!("dev/{number}/#")).collect();
    let rule = |permission, topic| RawRule {
        permission,
        action: Action::All,
        topics: vec![topic],
        qos: QosSet::ALL,
        retain: None,
    };
    let mut rules = vec![rule(Permission::Deny, "eq #"), rule(Permission::Deny, "dev/+/secret")];
    rules.extend(texts.iter().map(|topic| rule(Permission::Allow, topic)));
    let grants = Grants::compile(&rules, &Names { username: "u", client_id: "c", attrs: &[] }).unwrap();
    for (access, topic, expected) in [
        (Access::Write, "dev/7/t", Some(true)),
        (Access::Read, "dev/7/secret", Some(false)),
        (Access::Read, "dev/c/t", None),
        (Access::Subscribe, "$share/g/dev/+/+", Some(false)),
        (Access::Subscribe, "dev/7/t/#", Some(true)),
        (Access::Subscribe, "#", Some(false)),
    ] {
        let wanted = Wanted { access, topic: black_box(topic), qos: Some(1), retain: None };
        assert_eq!(allocations_of(|| grants.decide(&wanted)), (expected, 0), "{access} {topic}");
    }
}
