//! Many questions about topics in one request (`acl_batch_url`): what goes together, what the answer does, and that a wrong
//! one admits nobody and harms nobody.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

mod support;
use support::{
    Admin, Broker, Client, MockApi, PATIENCE, Reply, Request, Setup, Version, api, broker_asking, eventually,
    fence, log_in, on_every_broker, side_by_side, timed,
};

const READ: u64 = 1;

/// The oldest broker and the newest.
const ENDS: [Version; 2] = [Version::V2_0_11, Version::V2_1];

/// How long a fault keeps an address from being asked at first, with some time to spare.
const REST: Duration = Duration::from_millis(1_200);

/// An API that says no to whoever is called `no...` and yes to all others, after a moment, so that what belongs together is
/// together.
fn asked_by_name() -> MockApi {
    let api = api("");
    api.answer_each(is_allowed, |_| Duration::from_millis(20));
    api
}

fn is_allowed(question: &Request) -> bool {
    !question.field("username").starts_with("no")
}

fn with_batches(version: Version, api: &MockApi) -> Setup {
    broker_asking(version, api).option("acl_batch_url", api.batch_url())
}

fn listeners(broker: &Broker, names: impl IntoIterator<Item = String>, filter: &str) -> Vec<Client> {
    let listen = |name: String| {
        let mut client = log_in(broker, &name);
        assert!(client.may_subscribe(filter));
        client
    };
    names.into_iter().map(listen).collect()
}

fn named(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}{number:03}"))
}

/// All of these get one message, on this topic.
fn all_receive(clients: &mut [Client], topic: &str) {
    for client in clients {
        assert_eq!(client.receive(PATIENCE).expect("the message").topic, topic);
    }
}

/// What was asked, alone and with others, without the questions of logins.
fn asked(api: &MockApi) -> Vec<String> {
    let shown = |question: &Request| {
        let [name, topic] = ["clientid", "topic"].map(|field| question.field(field));
        format!("{name} {} {topic}", question.acc())
    };
    let mut asked: Vec<_> = api.questions().iter().map(shown).collect();
    asked.sort();
    asked
}

fn assert_each_once(api: &MockApi) {
    let asked = asked(api);
    let twice: Vec<_> = asked.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn all_readers_of_a_message_are_asked_about_in_a_request_or_two() {
    const READERS: usize = 60;
    on_every_broker(|version| {
        let api = asked_by_name();
        let broker = with_batches(version, &api).start();
        let mut yes = listeners(&broker, named("yes", READERS), "news/+");
        let mut no = listeners(&broker, named("sub", 1), "news/+");
        let mut publisher = log_in(&broker, "publisher");
        publisher.publish_acknowledged("news/1", "x");
        api.forget_requests();
        publisher.publish_acknowledged("news/2", "x");
        for topic in ["news/1", "news/2"] {
            all_receive(&mut yes, topic);
            all_receive(&mut no, topic);
        }
        assert_each_once(&api);
        assert_eq!(api.questions().len(), 1 + READERS + 1);
        let (batches, alone) = (api.batches(), api.topic_checks());
        assert!(batches.len() <= 2 && alone.len() <= 3, "{} together, {} alone", batches.len(), alone.len());
        let first = &batches[0];
        assert_eq!(first.header("content-type"), Some("application/json"));
        let checks = first.checks();
        let name = checks[0].field("username");
        let begin = format!(
            r#"{{"checks":[{{"username":"{name}","clientid":"{name}","topic":"news/2","acc":1}},{{"username":""#
        );
        let body = String::from_utf8(first.body.clone()).unwrap();
        assert!(body.starts_with(&begin) && body.ends_with("\"acc\":1}]}"), "{body}");
        // What was answered is remembered, each for itself.
        api.forget_requests();
        publisher.publish_acknowledged("news/2", "x");
        all_receive(&mut yes, "news/2");
        assert_eq!(asked(&api), Vec::<String>::new());
    });
}

#[test]
fn a_no_with_others_is_as_good_as_one_alone() {
    on_every_broker(|version| {
        let api = api("");
        // Whoever is called `no...` may subscribe, and read nothing.
        let allows = |question: &Request| question.acc() != READ || is_allowed(question);
        api.answer_each(allows, |_| Duration::from_millis(20));
        let admin = Admin::somewhere();
        let broker = admin.of(with_batches(version, &api)).start();
        let mut yes = listeners(&broker, named("yes", 10), "t");
        let mut no = listeners(&broker, named("no", 10), "t");
        let mut publisher = log_in(&broker, "publisher");
        for _ in 0..3 {
            publisher.publish_acknowledged("t", "x");
            all_receive(&mut yes, "t");
        }
        for client in &mut no {
            assert_eq!(fence::received(client), []);
        }
        assert_each_once(&api);
        // The log and the commands say what was answered, and not what it counts like.
        broker.wait_for_log("the API answered 200 with a deny among its results (acl_batch_url)", PATIENCE);
        let batches = api.batches();
        let checks: Vec<_> = batches.iter().flat_map(Request::checks).collect();
        for (prefix, verdict, result) in [("yes", "allow", "an allow"), ("no", "deny", "a deny")] {
            let mut names = checks.iter().map(|check| check.field("username"));
            let name = names.find(|name| name.starts_with(prefix)).expect("one of them");
            let question = json!({"username": name, "clientid": name, "topic": "t", "acc": READ});
            let told = admin.carries_out("explain", &question);
            let why = format!("the API answered 200 with {result} among its results (acl_batch_url)");
            assert!(told["decision"] == verdict && told["why"].as_str().unwrap().starts_with(&why), "{told}");
        }
    });
}

#[test]
fn one_alone_goes_to_acl_url() {
    on_every_broker(|version| {
        let api = asked_by_name();
        let broker = with_batches(version, &api).start();
        let mut client = log_in(&broker, "alone");
        assert!(client.may_subscribe("a"));
        client.publish_acknowledged("b", "x");
        assert_eq!(api.batches().len(), 0);
        assert_eq!(api.topic_checks().len(), 2);
    });
}

#[test]
fn retained_messages_many_filters_and_wishes_go_together() {
    const MESSAGES: usize = 300;
    side_by_side(ENDS, |version| {
        let api = asked_by_name();
        let broker = with_batches(version, &api)
            .option("timeout", "30s")
            .option("acl_learn", false)
            .option("acl_prefetch", "subscribe a/%c")
            .option("acl_prefetch", "write b/%c")
            .option("acl_prefetch", "write c/%c")
            .start();
        let mut writer = log_in(&broker, "writer");
        assert!(eventually(PATIENCE, || asked(&api).len() == 3));
        assert_eq!((api.batches().len(), api.topic_checks().len()), (1, 0), "what it wishes, in one request");
        for number in 0..MESSAGES {
            let packet = writer.publish_packet(format!("news/{number}").as_bytes(), b"kept", 0, true);
            writer.send(&packet);
        }
        writer.ping();
        let mut reader = log_in(&broker, "reader");
        assert!(eventually(PATIENCE, || api.questions().len() == 6 + MESSAGES));
        api.forget_requests();
        assert!(reader.may_subscribe("news/#"));
        for _ in 0..MESSAGES {
            reader.receive(PATIENCE).expect("a retained message");
        }
        fence::later_questions(&mut reader, &api);
        assert_each_once(&api);
        let reads = api.questions().iter().filter(|question| question.acc() == READ).count();
        let requests = api.batches().len() + api.topic_checks().len();
        assert_eq!(reads, MESSAGES);
        assert!(requests <= MESSAGES / 20, "{requests} requests");

        let filters: Vec<_> = (0..40).map(|number| format!("filter/{number}/#")).collect();
        let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
        api.forget_requests();
        assert_eq!(reader.subscribe(&filters), [0; 40]);
        assert_each_once(&api);
        let requests = api.batches().len() + api.topic_checks().len();
        assert!(requests <= 4, "{requests} requests for 40 filters");
    });
}

#[test]
fn a_request_holds_as_many_as_the_option_says_and_counts_as_one() {
    const READERS: usize = 50;
    side_by_side(ENDS, |version| {
        let api = asked_by_name();
        let broker =
            with_batches(version, &api).option("acl_batch_size", 5).option("max_requests", 2).start();
        let mut clients = listeners(&broker, named("yes", READERS), "t");
        let mut publisher = log_in(&broker, "publisher");
        api.forget_requests();
        let (_, at_once) = api.most_concurrent_during(|| {
            publisher.publish_acknowledged("t", "x");
            all_receive(&mut clients, "t");
        });
        // The broker's own question may exceed the bound by a quarter.
        assert!(at_once <= 3, "{at_once} requests at once");
        let sizes: Vec<_> = api.batches().iter().map(|batch| batch.checks().len()).collect();
        assert!(sizes.iter().all(|size| (2..=5).contains(size)), "{sizes:?}");
        assert!(sizes.len() >= READERS / 5 - 2, "{sizes:?}");
        assert_each_once(&api);
    });
}

#[test]
fn what_an_answer_says_of_its_time_counts_for_all_in_it() {
    on_every_broker(|version| {
        let api = api("");
        api.answer_with(|request| {
            let checks = request.checks();
            let reply = if checks.is_empty() {
                Reply::status(200)
            } else {
                Reply::results(checks.iter().map(|_| true))
            };
            reply.header("Cache-Control", if checks.is_empty() { "max-age=60" } else { "no-store" })
        });
        let broker = with_batches(version, &api).option("api_cache_control", true).start();
        let mut clients = listeners(&broker, named("yes", 20), "t");
        let mut publisher = log_in(&broker, "publisher");
        for round in 1..=2 {
            publisher.publish_acknowledged("t", round.to_string());
            all_receive(&mut clients, "t");
            publisher.ping();
        }
        let together: usize = api.batches().iter().map(|batch| batch.checks().len()).sum();
        assert!(together >= 18, "{together}");
        let twice = asked(&api).windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(twice > 0, "none was to be remembered");
    });
}

#[test]
fn status_and_metrics_tell_requests_from_questions() {
    side_by_side(ENDS, |version| {
        let (api, admin) = (asked_by_name(), Admin::somewhere());
        let broker = admin.of(with_batches(version, &api)).start();
        let mut clients = listeners(&broker, named("yes", 30), "t");
        log_in(&broker, "publisher").publish_acknowledged("t", "x");
        all_receive(&mut clients, "t");
        let requests = api.batches();
        let questions: usize = requests.iter().map(|request| request.checks().len()).sum();
        let metric = |name: &str| admin.metric(&format!("mosquitto_http_auth_{name}"));
        assert_eq!(metric("api_batched_questions_total") as usize, questions);
        assert_eq!(metric(r#"api_batches_total{result="answered"}"#) as usize, requests.len());
        assert_eq!(metric(r#"api_batches_total{result="no_answer"}"#) as usize, 0);
        let status = admin.carries_out("status", &json!({}));
        assert_eq!(status["api"]["batches"]["questions"], questions);
        let endpoint = &status["endpoints"][2];
        assert_eq!((&endpoint["about"], &endpoint["breaker"]), (&json!("batches"), &json!("closed")));
        assert_eq!((&status["queued"], &status["in_flight"]), (&json!(0), &json!(0)));
    });
}

#[test]
fn it_needs_acl_url_too() {
    let broker = Broker::with(Version::V2_0_11)
        .option("auth_url", "http://127.0.0.1:1/")
        .option("acl_batch_url", "http://127.0.0.1:1/");
    let log = broker.start_expecting_failure().log;
    assert!(log.contains("plugin_opt_acl_batch_url: found it without acl_url"), "{log}");
}

// Wrong answers.

/// An API whose address for many questions answers with this, and whose others answer by name.
fn faulty(reply: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> MockApi {
    let api = api("");
    api.answer_with(move |request| {
        let checks = request.checks();
        if checks.is_empty() {
            return Reply::status(if is_allowed(request) { 200 } else { 403 });
        }
        reply(request).unwrap_or_else(|| Reply::results(checks.iter().map(is_allowed)))
    });
    api
}

/// Whatever comes instead of an answer, each question is asked alone, all within their time, and nobody gets what is not
/// his.
#[test]
fn whatever_comes_instead_each_is_asked_alone() {
    let results = |text: &str| Reply::status(200).body(text.as_bytes());
    let replies = [
        Reply::status(200),
        results("ok"),
        results("true"),
        results(r#"{"results":[true]}"#),
        results(r#"{"results":true}"#),
        Reply::status(201).body(br#"{"results":[true,true,true,true,true]}"#),
        Reply::status(204),
        Reply::redirect("/acl"),
        Reply::status(401),
        Reply::status(403),
        Reply::status(404),
        Reply::status(413),
        Reply::status(429).header("Retry-After", "1"),
        Reply::status(500),
        Reply::status(503),
        Reply::garbage(),
        Reply::huge_headers(),
        Reply::huge_body(),
        Reply::endless_body(),
        Reply::endless_headers(),
        Reply::Close,
        Reply::Reset,
        Reply::Hang,
    ];
    for some in replies.chunks(6) {
        let cases = some.iter().flat_map(|reply| ENDS.map(|version| (version, reply)));
        thread::scope(|scope| {
            for (version, reply) in cases {
                scope.spawn(move || {
                    let wrong = reply.clone();
                    let api = faulty(move |_| Some(wrong.clone()));
                    let allowed_to_subscribe = |api: &MockApi| api.topic_checks().len();
                    let broker = with_batches(version, &api).start();
                    let mut yes = listeners(&broker, named("yes", 5), "t");
                    let mut publisher = log_in(&broker, "publisher");
                    let before = allowed_to_subscribe(&api);
                    let ((), took) = timed(|| {
                        publisher.publish_acknowledged("t", "x");
                        all_receive(&mut yes, "t");
                    });
                    let wrong = api.batches().len();
                    assert!(took < Duration::from_secs(2), "{reply:?}: {took:?}");
                    assert!((1..=2).contains(&wrong), "{reply:?}: {wrong} requests");
                    assert_eq!(api.topic_checks().len() - before, 6, "{reply:?}");
                    // The address is left alone for a while, and the log says so once.
                    publisher.publish_acknowledged("t", "x");
                    all_receive(&mut yes, "t");
                    let log = broker.wait_for_log("They are asked one by one now", PATIENCE);
                    assert_eq!(log.matches("They are asked one by one now").count(), 1, "{reply:?}: {log}");
                    assert_eq!(api.batches().len(), wrong, "{reply:?}");
                });
            }
        });
    }
}

/// Hundreds of answers that look like a yes to whoever is in a hurry. By a reload each is the first of its address.
#[test]
fn malformed_answers_admit_nobody() {
    let right = r#"{"results":[true,true,true,true]}"#;
    let mut bodies: Vec<String> = (0..right.len()).map(|length| right[..length].to_owned()).collect();
    for word in [
        "1",
        "0",
        "null",
        "\"true\"",
        "\"ALLOW\"",
        "\"yes\"",
        "\"ok\"",
        "[]",
        "[true]",
        "{}",
        "\"\"",
        "\"allow,\"",
        "{\"result\":true}",
        "{\"result\":\"yes\"}",
        "{\"result\":null}",
        "{\"allow\":true}",
        "[\"allow\"]",
        "{\"result\":\"deny\",\"result\":\"allow\"}",
        "tru",
        "truee",
        "True",
        "\u{0}",
        "-",
        "1e9",
        "\"\\ud800\"",
    ] {
        for at in 0..4 {
            let results: Vec<_> = (0..4).map(|index| if index == at { word } else { "true" }).collect();
            bodies.push(format!("{{\"results\":[{}]}}", results.join(",")));
        }
    }
    // Two to five questions may be together.
    for count in [0, 1].into_iter().chain(6..60) {
        bodies.push(format!("{{\"results\":[{}]}}", vec!["true"; count].join(",")));
    }
    for (before, behind) in [
        ("", "x"),
        ("", "}"),
        ("", "{}"),
        ("", "\0"),
        ("[", "]"),
        ("x", ""),
        ("\u{feff}", ""),
        ("{\"a\":", "}"),
        ("<html>", ""),
        ("200 ", ""),
        ("callback(", ")"),
        (")]}'\n", ""),
    ] {
        bodies.push(format!("{before}{right}{behind}"));
    }
    for (from, to) in [
        ("results", "Results"),
        ("results", "result"),
        ("results", "result\\u0053"),
        (":", "="),
        ("\"", "'"),
        (",", ";"),
        ("[", "{"),
        ("]", "}"),
        ("[", "("),
        ("true", "'true'"),
        ("[", "[["),
        ("{", "{,"),
        ("]}", ",]}"),
        ("{", "{\"results\":[],"),
    ] {
        bodies.push(right.replace(from, to));
    }
    assert!(bodies.len() >= 200, "{}", bodies.len());
    side_by_side(ENDS, |version| {
        let answer = Arc::new(std::sync::Mutex::new(String::new()));
        let said = Arc::clone(&answer);
        // By name nobody here may read.
        let api = api("");
        api.answer_with(move |request| match request.path.as_str() {
            "/acl" if request.acc() == READ => Reply::status(403),
            path if path.starts_with("/acl-batch") => Reply::status(200)
                .header("Content-Type", "application/json")
                .body(said.lock().unwrap().as_bytes()),
            _ => Reply::status(200),
        });
        let file = |number: usize| {
            format!(
                "auth_url = '{}'\nacl_url = '{}'\nacl_batch_url = '{}?{number}'\nreload_checks = false\n",
                api.auth_url(),
                api.acl_url(),
                api.batch_url()
            )
        };
        let broker =
            Broker::with(version).file("options.toml", file(0)).option("config_file", "options.toml").start();
        // The publisher's own question goes alone, and so does that of the first reader.
        let mut readers = listeners(&broker, named("reader", 5), "t/+");
        let mut publisher = log_in(&broker, "publisher");
        let mut together = 0;
        for (number, body) in bodies.iter().enumerate() {
            answer.lock().unwrap().clone_from(body);
            fs::write(broker.folder().join("options.toml"), file(number + 1)).unwrap();
            let before = broker.log().len();
            broker.sighup();
            let taken = || broker.log()[before..].contains("acl_batch_url");
            assert!(eventually(PATIENCE, taken), "{}", broker.log());
            // Another topic each time, or nothing would be asked ahead once more.
            publisher.publish_acknowledged(format!("t/{number}"), "x");
            publisher.ping();
            let asked =
                api.requests().iter().filter(|request| request.path.starts_with("/acl-batch")).count();
            together += usize::from(asked > 0);
            api.forget_requests();
            for reader in &mut readers {
                assert_eq!(fence::received(reader), [], "{body:?}");
            }
        }
        assert!(together * 10 >= bodies.len() * 9, "{together} of {} were asked together", bodies.len());
    });
}

#[test]
fn an_address_that_was_wrong_is_tried_again_and_the_log_says_when_it_is_right() {
    on_every_broker(|version| {
        let is_wrong = Arc::new(AtomicBool::new(true));
        let wrong = Arc::clone(&is_wrong);
        let api = faulty(move |_| wrong.load(Ordering::Relaxed).then(|| Reply::status(404)));
        let broker = with_batches(version, &api).start();
        let mut some = listeners(&broker, named("some", 10), "a/+");
        let mut others = listeners(&broker, named("others", 10), "b/+");
        let [mut publisher, mut another] = ["publisher", "another"].map(|name| log_in(&broker, name));
        publisher.publish_acknowledged("a/1", "x");
        all_receive(&mut some, "a/1");
        let log = broker.wait_for_log("found status 404", PATIENCE);
        assert!(log.contains("as for a path that it does not have"), "{log}");
        is_wrong.store(false, Ordering::Relaxed);
        let before = api.batches().len();
        another.publish_acknowledged("b/1", "x");
        all_receive(&mut others, "b/1");
        assert_eq!(api.batches().len(), before, "it is left alone");
        thread::sleep(REST);
        another.publish_acknowledged("b/2", "x");
        all_receive(&mut others, "b/2");
        assert!(api.batches().len() > before);
        broker.wait_for_log("answers many questions in one request again", PATIENCE);
    });
}

#[test]
fn who_makes_the_api_fail_spoils_it_for_others_no_second_time() {
    on_every_broker(|version| {
        let is_evil =
            |request: &Request| request.checks().iter().any(|check| check.field("username") == "mallory");
        let api = faulty(move |request| is_evil(request).then(|| Reply::status(500)));
        let broker = with_batches(version, &api).start();
        let mut some = listeners(&broker, named("some", 10), "a/+");
        let mut mallory = listeners(&broker, ["mallory".to_owned()], "#");
        let mut others = listeners(&broker, named("others", 10), "b/+");
        let [mut publisher, mut another] = ["publisher", "another"].map(|name| log_in(&broker, name));
        publisher.publish_acknowledged("a/1", "x");
        all_receive(&mut some, "a/1");
        all_receive(&mut mallory, "a/1");
        let spoilt = || api.batches().iter().filter(|request| is_evil(request)).count();
        assert_eq!(spoilt(), 1);
        // Within the 5 s for which mallory is asked about alone, at least.
        for number in 0..3 {
            thread::sleep(REST);
            let topic = format!("b/{number}");
            api.forget(|request| request.path == "/acl");
            another.publish_acknowledged(&topic, "x");
            all_receive(&mut others, &topic);
            all_receive(&mut mallory, &topic);
            // Mallory alone, the publisher, and whom the broker came to first.
            assert!(number == 0 || api.topic_checks().len() <= 4, "{}", api.topic_checks().len());
            if spoilt() > 1 {
                panic!("mallory was asked about with others again, in round {number}");
            }
        }
        let together: usize = api.batches().iter().map(|request| request.checks().len()).sum();
        assert!(together >= 25, "{together}");
        assert_eq!(broker.log().matches("They are asked one by one now").count(), 1);
    });
}

/// An API that hangs on many takes half of their time, and the other half is enough.
#[test]
fn each_is_answered_within_its_time_although_the_many_were_not() {
    on_every_broker(|version| {
        let api = faulty(|_| Some(Reply::Hang));
        let broker = with_batches(version, &api).option("timeout", "2s").start();
        let mut clients = listeners(&broker, named("yes", 20), "t");
        let mut publisher = log_in(&broker, "publisher");
        let begun = Instant::now();
        publisher.publish_acknowledged("t", "x");
        all_receive(&mut clients, "t");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        broker.wait_for_log("found nothing within 1s", PATIENCE);
    });
}

#[test]
fn another_address_is_asked_where_the_first_is_wrong() {
    side_by_side(ENDS, |version| {
        let (wrong, right) = (faulty(|_| Some(Reply::status(503))), asked_by_name());
        let urls = format!("{} {}", wrong.batch_url(), right.batch_url());
        let broker = broker_asking(version, &right).option("acl_batch_url", urls).start();
        let mut clients = listeners(&broker, named("yes", 20), "t/+");
        let mut publisher = log_in(&broker, "publisher");
        right.forget_requests();
        for number in 0..3 {
            publisher.publish_acknowledged(format!("t/{number}"), "x");
            all_receive(&mut clients, &format!("t/{number}"));
        }
        assert_each_once(&right);
        assert_eq!(right.questions().len(), 3 * 21);
        assert!((1..=2).contains(&wrong.batches().len()), "{}", wrong.batches().len());
    });
}
