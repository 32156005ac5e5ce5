//! What the pages about the ways to answer say: how often an API is asked, computed and measured, and which rule decides.

use std::thread;
use std::time::{Duration, Instant};

use mosquitto_http_auth::internals::{Access, Action, Grants, Names, Permission, QosSet, RawRule, Wanted};
use serde_json::Value;

use crate::generated::compare;
use crate::support::{Broker, Connect, Reply, Version, api, reason};
use crate::{blocks, read};

const DAY: f64 = 86_400.0;

/// The mean time between two questions about what is used every so often, in the unit of both. A lifetime is cut by up
/// to a fifth, and an allow is asked about again at the first use in the last fifth of its own.
fn between(remembered: f64, used_every: f64) -> f64 {
    const STEPS: u32 = 10_000;
    let question = |step: u32| {
        let lifetime = remembered * (1.0 - 0.2 * (f64::from(step) + 0.5) / f64::from(STEPS));
        used_every * (0.8 * lifetime / used_every).ceil()
    };
    (0..STEPS).map(question).sum::<f64>() / f64::from(STEPS)
}

/// A kind of client: how many things it uses how often.
struct Kind {
    name: &'static str,
    logins_every: f64,
    /// Topics and filters, and seconds between two uses of each.
    topics: &'static [(f64, f64)],
    /// The questions that go in one request, where they go together.
    together: f64,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "sensor",
        logins_every: DAY,
        // Its filter, its readings, its commands.
        topics: &[(1.0, DAY), (2.0, 60.0), (1.0, 3_600.0)],
        together: 1.0,
    },
    Kind { name: "tracker", logins_every: 1_800.0, topics: &[(3.0, 1_800.0)], together: 3.0 },
    Kind {
        name: "dashboard",
        logins_every: DAY,
        topics: &[(1.0, DAY), (2_000.0, 60.0)],
        // All 200 readers of a message go in two requests.
        together: 100.0,
    },
];

impl Kind {
    fn logins(&self, remembered: f64) -> f64 {
        DAY / between(remembered, self.logins_every)
    }

    fn topic_questions(&self, remembered: f64) -> f64 {
        self.topics.iter().map(|(count, every)| count * DAY / between(remembered, *every)).sum()
    }
}

/// A whole number with commas.
fn shown(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

#[test]
fn the_page_of_ways_counts_questions() {
    let mut table =
        "| | single questions | remembered for 1 h | for a day | rules | batches: requests |\n".to_owned();
    table += "|---|---:|---:|---:|---:|---:|\n";
    for kind in &KINDS {
        let all = |remembered| shown(kind.logins(remembered) + kind.topic_questions(remembered));
        let batches = kind.logins(30.0) + kind.topic_questions(30.0) / kind.together;
        let columns = [all(30.0), all(3_600.0), all(DAY), shown(kind.logins(30.0)), shown(batches)];
        table += &format!("| {} | {} |\n", kind.name, columns.join(" | "));
    }
    compare("docs/api.md", "questions", &table);
}

/// Sensors that live a thousand times as fast.
#[test]
fn devices_are_asked_about_as_often_as_the_page_says() {
    const DEVICES: usize = 10;
    const READING: Duration = Duration::from_millis(60);
    for (remembered, readings) in [("30ms", 20), ("3600ms", 200)] {
        let api = api("");
        api.answer(Reply::status(200));
        let broker = Broker::with(Version::V2_1)
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("acl_cache_ttl", remembered)
            .option("acl_learn", false)
            .start();
        let mut devices: Vec<_> = (0..DEVICES)
            .map(|number| {
                Connect::v5(format!("d{number}")).login(format!("d{number}"), "x").accepted(broker.port())
            })
            .collect();
        let start = Instant::now();
        for reading in 0..readings {
            for (number, device) in devices.iter_mut().enumerate() {
                for topic in ["a", "b"] {
                    let topic = format!("{number}/{topic}");
                    // Nobody has subscribed to it.
                    assert!(device.publish_acknowledged(&topic, "1") < reason::NOT_AUTHORIZED);
                }
            }
            thread::sleep((READING * (reading + 1)).saturating_sub(start.elapsed()));
        }
        // As fast as the machine was: the readings came so often.
        let every = start.elapsed().as_secs_f64() / f64::from(readings);
        let remembered = f64::from(remembered.trim_end_matches("ms").parse::<u32>().unwrap()) / 1_000.0;
        let each = start.elapsed().as_secs_f64() / between(remembered, every);
        let found = api.topic_checks().len() as f64 / (2 * DEVICES) as f64;
        // The first question comes at once, those behind it after their time.
        assert!(
            (each - 0.5..each + 1.5).contains(&found),
            "{found} questions, expected {each} and the first"
        );
    }
}

#[test]
fn the_rules_on_their_page_decide_as_it_says() {
    let page = read("docs/rules.md");
    let answer: Value = serde_json::from_str(blocks(&page, "json")[0]).unwrap();
    let rule = |rule: &'_ Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let qos = rule["qos"].as_array();
        let qos = qos.map(|qos| {
            qos.iter().map(|qos| u8::try_from(qos.as_u64().unwrap()).unwrap()).collect::<Vec<_>>()
        });
        let topics = match &rule["topics"] {
            Value::Array(topics) => topics.iter().map(text).collect(),
            _ => vec![text(&rule["topic"])],
        };
        let permission = if rule["permission"] == "allow" { Permission::Allow } else { Permission::Deny };
        let action = match rule["action"].as_str() {
            Some("publish") => Action::Publish,
            Some("subscribe") => Action::Subscribe,
            _ => Action::All,
        };
        (permission, action, topics, qos.map_or(QosSet::ALL, |qos| QosSet::of(qos).unwrap()))
    };
    let parsed: Vec<(_, _, Vec<String>, _)> = answer["acl"].as_array().unwrap().iter().map(rule).collect();
    let mut rules: Vec<RawRule<'_>> = Vec::new();
    for (permission, action, topics, qos) in &parsed {
        let topics = topics.iter().map(String::as_str).collect();
        rules.push(RawRule { permission: *permission, action: *action, topics, qos: *qos, retain: None });
    }
    let decide = |rules: &[RawRule<'_>], access, topic, qos| {
        let names = Names { username: "sensor-1", client_id: "c1", attrs: &[] };
        let wanted = Wanted { access, topic, qos: Some(qos), retain: Some(false) };
        Grants::compile(rules, &names).unwrap().decide(&wanted)
    };

    let mut rows = 0;
    for row in
        page.lines().filter(|line| ["| pub", "| sub", "| rea"].iter().any(|start| line.starts_with(start)))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let access = match &cells[1][..3] {
            "pub" => Access::Write,
            "sub" => Access::Subscribe,
            _ => Access::Read,
        };
        let qos = if cells[1].contains("QoS 2") { 2 } else { 1 };
        // "there" is the topic of the row above.
        let topic = cells[1].split('`').nth(1).unwrap_or("sensors/sensor-1/t");
        assert_eq!(decide(&rules, access, topic, qos), Some(cells[2] == "yes"), "{row}");
        rows += 1;
    }
    assert_eq!(rows, 7);

    let filter = "plant/+/news";
    assert_eq!(decide(&rules[1..], Access::Subscribe, filter, 0), Some(true), "without the first rule");
    rules.swap(0, 2);
    assert_eq!(decide(&rules, Access::Subscribe, filter, 0), Some(true), "the third in front of it");
}
