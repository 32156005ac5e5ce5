//! `make bench-pieces`: the time of the plugin's parts by themselves, which shows the effect of a change early. `make
//! bench` measures the whole in a broker.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends by a panic, and has no callers")]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};

use mosquitto_http_auth::internals::{
    About, Access, Action, Cache, Domain, Fingerprint, Fingerprinter, Fresh, Grants, GrantsPool, Grounds,
    Names, Permission, QosSet, Question, RawRule, Subscriptions, Verdict, Wanted, body, matches, packets,
};

const LOGIN: Question<'_> =
    Question::Connect { username: "sensor-4711", password: "correct horse battery", more: "" };

const MESSAGE: Question<'_> = Question::Access {
    username: "sensor-4711",
    client_id: "sensor-4711",
    topic: "sensors/4711/temperature",
    access: Access::Write,
    more: "",
};

fn fingerprints(criterion: &mut Criterion) {
    let keys = Fingerprinter::with_key(b"0123456789abcdef");
    criterion.bench_function("fingerprint of a login", |bencher| {
        bencher.iter(|| keys.question(black_box(&LOGIN)));
    });
    criterion.bench_function("fingerprint of a topic check", |bencher| {
        bencher.iter(|| keys.question(black_box(&MESSAGE)));
    });
}

fn cache(criterion: &mut Criterion) {
    let now = Instant::now();
    let keys = Fingerprinter::with_key(b"0123456789abcdef");
    for size in [1_000_usize, 1_000_000] {
        let mut cache = Cache::new(size, Duration::ZERO, now);
        let known: Vec<Fingerprint> =
            (0..size).map(|n| keys.fields(Domain::Client, [&n.to_le_bytes()])).collect();
        for key in &known {
            let lifetime = Duration::from_secs(3600);
            cache.insert(
                *key,
                *key,
                Fresh {
                    verdict: Verdict::Allow,
                    grounds: Grounds::Status(200),
                    since: now,
                    lifetime,
                    about: About::default(),
                },
            );
        }
        // Taken with a stride, so that none is near the one before it in memory.
        let mut number = 0;
        criterion.bench_function(&format!("hit in a cache of {size}"), |bencher| {
            bencher.iter(|| {
                number = (number + 7919) % size;
                cache.get(known[number], now).unwrap()
            });
        });
    }
}

fn topics(criterion: &mut Criterion) {
    criterion.bench_function("filter without wildcards", |bencher| {
        bencher
            .iter(|| matches(black_box("sensors/4711/temperature"), black_box("sensors/4711/temperature")));
    });
    criterion.bench_function("filter with wildcards", |bencher| {
        bencher.iter(|| matches(black_box("sensors/+/temperature/#"), black_box("sensors/4711/temperature")));
    });
}

fn rules(criterion: &mut Criterion) {
    let names = Names { username: "sensor-4711", client_id: "sensor-4711", attrs: &[] };
    let rule = |permission, action, topic| RawRule {
        permission,
        action,
        topics: vec![topic],
        qos: QosSet::ALL,
        retain: None,
    };
    let few = [
        rule(Permission::Deny, Action::All, "factory/secret/#"),
        rule(Permission::Allow, Action::Publish, "sensors/${clientid}/+"),
        rule(Permission::Allow, Action::Subscribe, "commands/${clientid}/#"),
        rule(Permission::Allow, Action::Subscribe, "factory/+/news"),
        rule(Permission::Deny, Action::All, "#"),
    ];
    let topics: Vec<[String; 2]> =
        (0..500).map(|n| [format!("sensors/sensor-{n}/secret"), format!("sensors/sensor-{n}/#")]).collect();
    let many: Vec<RawRule<'_>> = topics
        .iter()
        .flat_map(|[denied, allowed]| {
            [rule(Permission::Deny, Action::All, &**denied), rule(Permission::Allow, Action::All, &**allowed)]
        })
        .collect();
    for (name, rules) in [("5", &few[..]), ("1,000", &many[..])] {
        let grants = Grants::compile(rules, &names).unwrap();
        for (access, topic) in [
            (Access::Write, "sensors/sensor-471/temperature"),
            (Access::Write, "sensors/sensor-4711/temperature"),
            (Access::Read, "sensors/sensor-471/secret"),
            (Access::Subscribe, "commands/sensor-4711/+"),
            (Access::Subscribe, "sensors/+/temperature"),
            (Access::Subscribe, "sensors/#"),
        ] {
            criterion.bench_function(&format!("{name} rules: {access} {topic}"), |bencher| {
                bencher.iter(|| {
                    let topic = black_box(topic);
                    grants.decide(&Wanted { access, topic, qos: Some(0), retain: Some(false) })
                });
            });
        }
        let pool = GrantsPool::new(1 << 30);
        criterion.bench_function(&format!("{name} rules put in order"), |bencher| {
            bencher.iter(|| pool.share(Grants::compile(black_box(rules), &names).unwrap(), "u"));
        });
    }
}

fn listeners(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut subscriptions = Subscriptions::default();
    for number in 0..100_000 {
        let name = format!("device-{number}");
        subscriptions.add(&name, &name, &format!("commands/{name}/#"), now);
    }
    for number in 0..10 {
        let name = format!("watcher-{number}");
        subscriptions.add(&name, &name, "commands/+/restart", now);
    }
    criterion.bench_function("listeners of a topic, 11 of 100,010", |bencher| {
        bencher.iter(|| {
            let mut count = 0;
            subscriptions.readers(black_box("commands/device-4711/restart"), |_| {
                count += 1;
                ControlFlow::Continue(())
            });
            assert_eq!(count, 11);
        });
    });
}

fn packet_reader(criterion: &mut Criterion) {
    const CONNECT: &[u8] = b"\x10\x18\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x03joe\x00\x03\xff\x00p";
    const SUBSCRIBE: &[u8] = b"\x82\x0e\x00\x01\x00\x03a/#\x00\x00\x03b/+\x01";
    const PUBLISH: &[u8] = b"\x32\x0a\x00\x03a/b\x00\x07xyz";
    let bytes = [CONNECT, SUBSCRIBE, PUBLISH].concat();
    criterion.bench_function("CONNECT, SUBSCRIBE and PUBLISH read", |bencher| {
        bencher.iter(|| assert_eq!(packets(black_box(&bytes), None).len(), 3));
    });
}

fn bodies(criterion: &mut Criterion) {
    criterion.bench_function("body of a login", |bencher| bencher.iter(|| body(black_box(&LOGIN))));
    criterion.bench_function("body of a topic check", |bencher| bencher.iter(|| body(black_box(&MESSAGE))));
}

criterion_group!(pieces, fingerprints, cache, topics, rules, listeners, packet_reader, bodies);
criterion_main!(pieces);
