//! The API of the tests does as it is told: its rules and its faults. `mock-api/tests` has its program.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

mod support;
use support::{A_WHILE, MockApi, PATIENCE, Reply, Rules, api, read_some};

const RULES: &str = include_str!("../examples/api-rules.txt");

#[test]
fn rules_decide() {
    let api = api(RULES);
    let login = |username: &str, password: &str| {
        let body = serde_json::json!({ "username": username, "password": password });
        status(&ask(&api, "/auth", &body.to_string()))
    };
    assert_eq!(login("sensor-1", "secret-1"), 200);
    assert_eq!(login("sensor-1", "secret-2"), 403);
    assert_eq!(login("nobody", ""), 403);

    let topic = |username: &str, topic: &str, acc: u8| {
        let body = serde_json::json!({ "username": username, "clientid": "c", "topic": topic, "acc": acc });
        status(&ask(&api, "/acl", &body.to_string()))
    };
    assert_eq!(topic("sensor-1", "sensors/sensor-1/temperature", 2), 200);
    assert_eq!(topic("sensor-1", "sensors/sensor-1/temperature", 1), 403, "only writing is allowed");
    assert_eq!(topic("sensor-1", "sensors/sensor-2/temperature", 2), 403, "the topic of another");
    assert_eq!(topic("dashboard", "sensors/+/temperature", 4), 200, "sensors/# covers it");
    assert_eq!(topic("dashboard", "$share/group/sensors/#", 4), 200);
    assert_eq!(topic("dashboard", "#", 4), 403, "sensors/# does not cover it");
    assert_eq!(topic("dashboard", "commands/#", 2), 403, "commands/+ does not cover it");
    assert_eq!(topic("admin", "anything", 3), 200, "reading and writing at once");
    assert_eq!(topic("admin", "$SYS/broker/uptime", 1), 403, "wildcards do not cover $ topics");
    assert_eq!(status(&ask(&api, "/auth", "no JSON")), 400);
    assert_eq!(status(&ask(&api, "/other", "{}")), 404);
}

#[test]
fn names_cannot_become_wildcards() {
    let api = api("user # x\nallow all own/%u/%c\n");
    let check = |topic: &str| {
        let body = serde_json::json!({ "username": "#", "clientid": "+", "topic": topic, "acc": 2 });
        status(&ask(&api, "/acl", &body.to_string()))
    };
    assert_eq!(check("own/a/b"), 403);
    assert_eq!(check("own/#/+"), 200);
}

#[test]
fn a_bad_line_is_named() {
    let problem = |text: &str| text.parse::<Rules>().unwrap_err().to_string();
    assert_eq!(problem("# fine\nuser a"), "line 2: expected `user NAME PASSWORD`");
    assert_eq!(problem("allow read x"), "line 1: an `allow` line belongs below a `user` line");
    assert_eq!(
        problem("user a b\nallow eat x"),
        "line 2: unknown access \"eat\", expected read, write, readwrite, subscribe or all"
    );
    assert_eq!(problem("user a b\nuser a c"), "line 2: user \"a\" is there already");
    assert_eq!(problem("deny x y"), "line 1: unknown keyword \"deny\", expected `user` or `allow`");
}

#[test]
fn requests_are_remembered() {
    let api = api("");
    let mut connection = connect(&api);
    for number in 0..3 {
        send(&mut connection, "/auth", &format!("{{\"username\":\"{number}\"}}"));
        read_answer(&mut connection);
    }
    ask(&api, "/acl", "{\"acc\": 4}");
    let requests = api.wait_for_requests(4, PATIENCE);
    assert_eq!(requests.iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0, 0, 1]);
    assert_eq!(requests[2].field("username"), "2");
    assert_eq!((requests[3].path.as_str(), requests[3].acc()), ("/acl", 4));
    assert_eq!(requests[3].header("content-length"), Some("10"));
    assert_eq!((api.connections(), api.most_concurrent()), (2, 1));
}

#[test]
fn faults_are_as_ordered() {
    let api = api("");
    let answer = |reply: Reply| {
        api.answer(reply);
        ask(&api, "/auth", "{}")
    };
    assert_eq!(answer(Reply::Close), "");
    assert_eq!(answer(Reply::Reset), "reset");
    assert_eq!(answer(Reply::Raw(b"HTTP/9\n".to_vec())), "HTTP/9\n");
    assert!(
        answer(Reply::redirect("http://elsewhere/").header("Connection", "close"))
            .contains("Location: http://elsewhere/")
    );
    assert_eq!(
        answer(Reply::ByteByByte { bytes: b"slow".to_vec(), every: Duration::from_millis(1) }),
        "slow"
    );

    let impatient_answer = |reply: Reply| {
        api.answer(reply);
        let mut connection = connect(&api);
        // Nothing comes behind an answer that never comes.
        connection.set_read_timeout(Some(A_WHILE)).unwrap();
        send(&mut connection, "/auth", "{}");
        read_answer(&mut connection)
    };
    assert_eq!(impatient_answer(Reply::Hang), "nothing");
    let start = b"HTTP/1.1 200 OK\r\n".to_vec();
    let endless = Reply::Endless { start, again: b"X: y\r\n".to_vec(), every: PATIENCE };
    assert!(impatient_answer(endless).ends_with("nothing"));
}

#[test]
fn a_stopped_api_refuses_until_it_is_back() {
    let api = api(RULES);
    let mut idle = connect(&api);
    api.stop();
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0, "its connections are closed");
    assert!(TcpStream::connect(api.address()).is_err());
    api.restart().unwrap();
    assert_eq!(status(&ask(&api, "/auth", "{}")), 403);
}

fn connect(api: &MockApi) -> TcpStream {
    let connection = TcpStream::connect(api.address()).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// One request on a connection of its own, and what comes back.
fn ask(api: &MockApi, path: &str, body: &str) -> String {
    let mut connection = connect(api);
    send(&mut connection, path, body);
    read_answer(&mut connection)
}

fn send(connection: &mut TcpStream, path: &str, body: &str) {
    let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    connection.write_all(request.as_bytes()).unwrap();
}

/// What comes before the end of an answer or of the connection, and what ended it if it was no such thing.
fn read_answer(connection: &mut TcpStream) -> String {
    let mut answer = String::new();
    while !is_whole(&answer) {
        let mut chunk = [0; 1000];
        match read_some(connection, &mut chunk) {
            Ok(0) => break,
            Ok(n) => answer += &String::from_utf8_lossy(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return answer + "nothing",
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer + "reset",
            Err(error) => panic!("{error}"),
        }
    }
    answer
}

/// Whether a head is there, and the body that it announces.
fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    length.is_some_and(|length| body.len() >= length.parse().unwrap())
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect(answer)
}
