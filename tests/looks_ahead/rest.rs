//! The rest of a SUBSCRIBE: while the broker waits for the answer about one filter, those behind it are asked about.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::tls::{Authority, Validity};
use crate::support::{
    Client, Connect, Gate, MockApi, PATIENCE, Protocol, Reply, Version, broker_asking, eventually,
    friendly_api, on_every_broker,
};

const FILTERS: usize = 60;

/// So many are asked at once until it is known what the API can do.
const AT_ONCE: usize = 4;

fn filters(count: usize) -> Vec<String> {
    // The last ones end like others.
    (0..count - 2)
        .map(|number| format!("site/{number}/#"))
        .chain(["#".to_owned(), "1/#".to_owned()])
        .collect()
}

/// Sends one SUBSCRIBE with all of these, and sees that others are asked about while the first one waits.
fn assert_asked_at_once(client: &mut Client, api: &MockApi, filters: &[String]) {
    let wanted: Vec<_> = filters.iter().map(|filter| (&**filter, 0)).collect();
    let packet = client.subscribe_packet(&wanted);
    let gate = Gate::in_front_of(api, Reply::status(200));
    client.send(&packet);
    let all = eventually(PATIENCE, || api.topic_checks().len() >= AT_ONCE);
    let at_once = api.topic_checks().len();
    drop(gate);
    assert!(all, "only {at_once} are asked about at once");
    assert_eq!(client.suback(), vec![0; filters.len()]);
    let mut asked: Vec<_> =
        api.topic_checks().iter().map(|request| request.field("topic").to_owned()).collect();
    asked.sort();
    let mut filters = filters.to_vec();
    filters.sort();
    assert_eq!(asked, filters, "each once");
}

#[test]
fn all_filters_of_a_packet_are_asked_about_at_once() {
    for protocol in [Protocol::V3_1_1, Protocol::V5] {
        on_every_broker(|version| {
            let api = friendly_api();
            let broker = broker_asking(version, &api).option("timeout", "60s").start();
            let connect = if protocol == Protocol::V5 { Connect::v5("hub") } else { Connect::v3("hub") };
            let mut hub = connect.login("hub", "secret").accepted(broker.port());
            assert_asked_at_once(&mut hub, &api, &filters(FILTERS));
        });
    }
}

/// As many as may be on their way, and the others as the broker comes along: those of a packet, too, of which the broker has
/// read one filter where the first look ends.
#[test]
fn a_thousand_filters_are_asked_about_in_steps() {
    on_every_broker(|version| {
        for (count, long) in [(600, 0), (1_000, 30)] {
            let api = friendly_api();
            let broker = broker_asking(version, &api).option("timeout", "60s").start();
            let mut hub = Connect::v5("hub").login("hub", "secret").accepted(broker.port());
            let filters: Vec<_> =
                (0..count).map(|number| format!("site/{number}/{}/#", "x".repeat(long))).collect();
            let wanted: Vec<_> = filters.iter().map(|filter| (&**filter, 0)).collect();
            let latency = Duration::from_millis(10);
            api.answer(Reply::status(200).after(latency));
            let ((granted, took), at_once) = api.most_concurrent_during(|| {
                let begun = Instant::now();
                (hub.subscribe(&wanted), begun.elapsed())
            });
            assert_eq!(granted, vec![0; filters.len()]);
            assert!(at_once >= 2 * AT_ONCE, "{at_once}");
            assert!(took < latency * count / 2, "{count} filters took {took:?}");
            assert_eq!(api.topic_checks().len(), filters.len(), "each once");
        }
    });
}

#[test]
fn a_mount_point_is_put_in_front() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("timeout", "60s").line("mount_point there/").start();
        let mut hub = Connect::v5("hub").login("hub", "secret").accepted(broker.port());
        let filters = filters(FILTERS);
        let wanted: Vec<_> = filters.iter().map(|filter| (&**filter, 0)).collect();
        let packet = hub.subscribe_packet(&wanted);
        let gate = Gate::in_front_of(&api, Reply::status(200));
        hub.send(&packet);
        let all = eventually(PATIENCE, || api.topic_checks().len() >= AT_ONCE);
        drop(gate);
        assert!(all);
        assert_eq!(hub.suback(), vec![0; FILTERS]);
        let asked = api.topic_checks();
        assert_eq!(asked.len(), FILTERS, "each once");
        assert!(asked.iter().all(|request| request.field("topic").starts_with("there/")));
    });
}

/// What is encrypted in its socket is plain in the broker's hand.
#[test]
fn over_tls_it_works_alike() {
    on_every_broker(|version: Version| {
        let authority = Authority::new("test");
        let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("timeout", "60s").tls_listener(&server, &[]).start();
        let mut hub = authority.connect(broker.ports()[1]);
        hub.write_all(&Connect::v3("hub").login("hub", "secret").packet()).unwrap();
        let mut connack = [0; 4];
        hub.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        let mut packet = Client::open(broker.port(), Protocol::V3_1_1);
        let filters = filters(FILTERS);
        let wanted: Vec<_> = filters.iter().map(|filter| (&**filter, 0)).collect();
        let packet = packet.subscribe_packet(&wanted);
        let gate = Gate::in_front_of(&api, Reply::status(200));
        hub.write_all(&packet).unwrap();
        let all = eventually(PATIENCE, || api.topic_checks().len() >= AT_ONCE);
        drop(gate);
        assert!(all, "only {} are asked about at once", api.topic_checks().len());
        let mut suback = [1; FILTERS + 4];
        hub.read_exact(&mut suback).unwrap();
        assert_eq!(suback[4..], [0; FILTERS]);
        assert_eq!(api.topic_checks().len(), FILTERS, "each once");
    });
}
