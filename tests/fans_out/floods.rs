//! The fan-out does not flood the API, and asks no needless questions.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{LISTENERS, listener, listeners, log_in, reads};
use crate::support::{
    Connect, PASSWORD, PATIENCE, Reply, Setup, Version, api, broker_asking, fence, friendly_api,
    on_every_broker,
};

/// What the API is asked about one message to so many listeners.
fn questions_about_a_message(
    version: Version,
    configure: impl FnOnce(Setup) -> Setup,
    reply: Reply,
) -> usize {
    let api = friendly_api();
    let broker = configure(broker_asking(version, &api).option("timeout", "60s")).start();
    let _clients = listeners(&broker, LISTENERS, "t");
    let mut publisher = log_in(&broker, "publisher");
    api.forget_requests();
    api.answer_with(move |request| if request.acc() == 1 { reply.clone() } else { Reply::status(200) });
    assert_eq!(publisher.publish_acknowledged("t", "x") & 0x80, 0);
    publisher.ping();
    fence::later_questions(&mut publisher, &api);
    reads(&api).len()
}

#[test]
fn where_nothing_is_remembered_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let asked =
            questions_about_a_message(version, |setup| setup.option("acl_cache_ttl", 0), Reply::status(200));
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn where_no_answer_may_be_kept_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let asked = questions_about_a_message(
            version,
            |setup| setup.option("api_cache_control", true),
            Reply::status(200).header("Cache-Control", "no-store"),
        );
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn where_refusals_are_not_remembered_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let asked =
            questions_about_a_message(version, |setup| setup.option("deny_cache_ttl", 0), Reply::status(403));
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn where_there_is_little_room_the_api_is_not_flooded() {
    on_every_broker(|version| {
        let asked =
            questions_about_a_message(version, |setup| setup.option("cache_size", 20), Reply::status(200));
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

/// The broker and the plugin go through the readers in different orders, so all answers are kept until the broker comes.
#[test]
fn where_little_is_remembered_each_reader_of_a_message_is_asked_about_once() {
    const READERS: usize = 150;
    on_every_broker(|version| {
        let api = friendly_api();
        let broker = broker_asking(version, &api).option("timeout", "60s").option("cache_size", 20).start();
        for n in 0..READERS {
            let login = Connect::v3(format!("c{n}")).login("sleeper", PASSWORD).durable();
            let mut client = login.accepted(broker.port());
            assert!(client.may_subscribe("t/+"));
            client.disconnect();
        }
        let mut publisher = log_in(&broker, "publisher");
        for topic in ["t/1", "t/2", "t/3"] {
            api.forget_requests();
            assert_eq!(publisher.publish_acknowledged(topic, "x") & 0x80, 0);
            fence::later_questions(&mut publisher, &api);
            let mut readers = reads(&api);
            let questions = readers.len();
            readers.dedup();
            assert_eq!((questions, readers.len()), (READERS, READERS), "{topic}");
        }
    });
}

#[test]
fn an_api_without_answers_is_not_flooded() {
    on_every_broker(|version| {
        let asked =
            questions_about_a_message(version, |setup| setup.option("breaker_after", 0), Reply::status(500));
        assert!(asked <= 2 * LISTENERS, "{asked} questions about {LISTENERS} listeners");
    });
}

#[test]
fn no_more_is_asked_at_once_than_allowed() {
    on_every_broker(|version| {
        let api = api("");
        api.answer(Reply::status(200).after(Duration::from_millis(20)));
        let broker = broker_asking(version, &api).option("timeout", "60s").option("max_requests", 4).start();
        let mut clients = listeners(&broker, LISTENERS, "t");
        log_in(&broker, "publisher").publish_acknowledged("t", "x");
        for client in &mut clients {
            assert!(client.receive(PATIENCE).is_some());
        }
        assert!(api.most_concurrent() <= 5, "{} at once", api.most_concurrent());
    });
}

#[test]
fn reads_that_subscriptions_imply_are_not_asked() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| Reply::status(if request.acc() == 1 { 403 } else { 200 }));
        let broker = broker_asking(version, &api).option("acl_checks", "write,subscribe").start();
        let mut publisher = log_in(&broker, "publisher");
        publisher.publish_retained("t", "kept");
        publisher.ping();
        let mut client = listener(&broker, "c", "t");
        assert_eq!(client.receive(PATIENCE).expect("retained message").payload, b"kept");
        publisher.publish("t", "x");
        assert_eq!(client.receive(PATIENCE).expect("message").payload, b"x");
        assert_eq!(reads(&api), [""; 0]);
        assert_eq!(api.topic_checks().len(), 2);
    });
}

/// A request to the broker's HTTP listener is a READ that no subscription implies.
#[test]
fn reads_of_the_http_listener_are_asked_all_the_same() {
    let api = api("");
    api.answer_with(|request| Reply::status(if request.acc() == 1 { 403 } else { 200 }));
    let broker = broker_asking(Version::V2_1, &api)
        .option("acl_checks", "write,subscribe")
        .listener(["protocol http_api"])
        .start();
    let mut stream = TcpStream::connect(("127.0.0.1", broker.ports()[1])).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // alice:right
    let request = "GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YWxpY2U6cmlnaHQ=\r\n\
                   Connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert_eq!(reads(&api), ["http-api"]);
}
