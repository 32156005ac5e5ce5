//! Answers that are not valid HTTP, or not complete: none of them admits a client, and none harms the broker.
//!
//! Only an answer's head counts: by the contract a status of 200 allows, whatever follows the head. So each of these
//! answers breaks the grammar of a head (RFC 9112), ends before its head does, or is no HTTP at all. Leniency that the
//! RFC permits (a bare LF, an empty line in front, a missing reason after the status) is not tested.

use std::ops::Range;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

mod support;
use support::{
    Broker, Connect, MockApi, PATIENCE, Reply, Version, broker_asking, friendly_api, on_every_broker, reason,
};

/// How many answers are tried on each broker.
const ANSWERS: usize = 1_200;

/// The same ones in every run.
const SEED: [u8; 32] = *b"malformed answers let nobody in.";

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// How long the head of [`GOOD`] is, with the empty line behind it.
const HEAD: usize = GOOD.len() - 2;

/// Bytes of any kind.
fn bytes(length: Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), length)
}

/// Something that looks like a status line of HTTP/1 with the status 200 to whoever is in a hurry.
fn status_line() -> impl Strategy<Value = String> {
    let version = prop_oneof![
        4 => Just("HTTP/1.1".to_owned()),
        1 => "(http|Http|HTTPS|HTT|HTTP\\\\|hTTP|ICY|RTSP|SIP)/1\\.1",
        1 => "HTTP(/1|/11\\.1|/1\\.1\\.1|/1,1|/ 1\\.1|/1 \\.1|1\\.1|/0\\.9|/3|//1\\.1|/1\\.)",
    ];
    let space = prop_oneof![6 => Just(" ".to_owned()), 1 => Just(String::new()), 1 => "[_/,:-]"];
    let status = prop_oneof![
        3 => Just("200".to_owned()),
        1 => "(2000|20|2|0200|00200|\\+200|-200|0x200|2e2|2OO|20O|2 00|200\\.0|200\\.|200,|ok|OK|true|\u{0661}00)",
        1 => "20[^0-9 \r\n]",
        1 => "[^0-9 \r\n]{1,3}",
    ];
    (version, space, status)
        .prop_map(|(version, space, status)| format!("{version}{space}{status}"))
        .prop_filter("is a good one", |line| !line.starts_with("HTTP/1.1 200"))
        .prop_map(|line| format!("{line} OK"))
}

/// A header line that is none: among good ones it spoils the head.
fn header_line() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        "[a-zA-Z-]{1,20}",                                            // no colon
        ": [a-z]{0,20}",                                              // no name
        "[A-Za-z]{1,10}[ \t]{1,3}: [a-z]{0,20}",                      // space between name and colon
        "[A-Za-z]{1,10}[(),/;<=>?@\\[\\]{}\"\\\\ ][A-Za-z]{0,10}: x", // a name of forbidden characters
        "Content-Length: (-1|\\+2|0x2|two|2 2|2,3|1e1|99999999999999999999|2\\.0|,)",
        "Content-Length: [3-9]", // beside the good one of 2
    ];
    let control = prop_oneof![Just(0u8), 1u8..9, 11u8..13, 14u8..32, Just(0x7f)];
    let with_control = ("[A-Za-z]{1,10}", control, "[a-z]{0,10}")
        .prop_map(|(name, control, value)| [name.as_bytes(), b": x", &[control], value.as_bytes()].concat());
    prop_oneof![4 => text.prop_map(String::into_bytes), 1 => with_control]
}

/// An answer that is none.
fn malformed() -> impl Strategy<Value = Vec<u8>> {
    let good = GOOD.as_bytes();
    let head = good[..HEAD].to_vec();
    // Cut off before the head has ended, and maybe not where it was written: one byte less of the last line end is
    // a lenient recipient's end of the head.
    let cut = (0..HEAD - 2).prop_map(|length| GOOD.as_bytes()[..length].to_vec());
    let wrong_status = status_line().prop_map(|line| GOOD.replacen("HTTP/1.1 200 OK", &line, 1).into_bytes());
    let wrong_header = (header_line(), any::<bool>()).prop_map(|(line, first)| {
        let line = [&line[..], b"\r\n"].concat();
        let at = if first { "HTTP/1.1 200 OK\r\n".len() } else { HEAD - 2 };
        [&GOOD.as_bytes()[..at], &line, &GOOD.as_bytes()[at..]].concat()
    });
    // A flipped bit somewhere in "HTTP/1.1 200" always breaks it, but for the one that makes it HTTP/1.0.
    let flipped = (0.."HTTP/1.1 200".len(), 0..8u8).prop_map(|(at, bit)| {
        let mut answer = GOOD.as_bytes().to_vec();
        answer[at] ^= 1 << bit;
        answer
    });
    let swapped = (0.."HTTP/1.1 200".len(), 0.."HTTP/1.1 200".len()).prop_map(|(one, other)| {
        let mut answer = GOOD.as_bytes().to_vec();
        answer.swap(one, other);
        answer
    });
    let inserted = (1.."HTTP/1.1 200".len(), any::<u8>()).prop_map(|(at, byte)| {
        let mut answer = GOOD.as_bytes().to_vec();
        answer.insert(at, byte);
        answer
    });
    let removed = (0.."HTTP/1.1 200".len()).prop_map(|at| {
        let mut answer = GOOD.as_bytes().to_vec();
        answer.remove(at);
        answer
    });
    // A yes behind something else is none. (Empty lines are not tried.)
    let late = (bytes(1..100), Just(head)).prop_map(|(junk, head)| [junk, head].concat());
    let interim =
        (prop::sample::select(vec![100u16, 102, 103, 199]), 0..HEAD - 2).prop_map(|(status, length)| {
            [format!("HTTP/1.1 {status} Wait\r\n\r\n").as_bytes(), &GOOD.as_bytes()[..length]].concat()
        });
    let other_protocol = prop::sample::select(vec![
        &b"220 mail.example ESMTP\r\n"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"+OK POP3 ready\r\n",
        b"200 OK\r\n\r\n",
        b"{\"result\": \"allow\", \"status\": 200}",
        b"<html><body>200 OK</body></html>",
        b"OK",
        b"1",
        b"true",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /auth HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"\xef\xbb\xbfHTTP/1.1 200 OK\r\n\r\n",
        b"\x20\x02\x00\x00",
    ])
    .prop_map(<[u8]>::to_vec);
    prop_oneof![
        3 => cut,
        4 => wrong_status,
        5 => wrong_header,
        3 => flipped,
        2 => swapped,
        2 => inserted,
        1 => removed,
        2 => late,
        2 => interim,
        1 => other_protocol,
        2 => bytes(0..300),
    ]
    .prop_filter("is well-formed", |answer| !may_be_a_yes(answer))
}

/// Whether this is a head with the status 200 after all, by the grammar of RFC 9112 and what that leaves to the
/// recipient.
fn may_be_a_yes(answer: &[u8]) -> bool {
    let start = answer.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or_default();
    let mut lines = answer[start..].split_inclusive(|byte| *byte == b'\n');
    let mut next_line = || {
        let line = lines.next()?.strip_suffix(b"\n")?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    };
    let Some(status_line) = next_line() else { return false };
    let reason = status_line.strip_prefix(b"HTTP/1.1 200").or(status_line.strip_prefix(b"HTTP/1.0 200"));
    if !reason.is_some_and(|reason| matches!(reason.first(), None | Some(b' ')) && is_text(reason)) {
        return false;
    }
    let mut length = None;
    while let Some(line) = next_line() {
        if line.is_empty() {
            return true;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        let bad_length =
            is_length && (!value.iter().all(u8::is_ascii_digit) || length.is_some_and(|it| it != value));
        if !is_token(name) || !is_text(value) || bad_length {
            return false;
        }
        length = if is_length { Some(value) } else { length };
    }
    false
}

fn is_text(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

fn is_token(name: &[u8]) -> bool {
    let is_in_it = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_in_it)
}

fn answers() -> Vec<Vec<u8>> {
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let strategy = malformed();
    let mut answers: Vec<_> =
        (0..ANSWERS * 2).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    answers.sort();
    answers.dedup();
    // Dealt out again, so that their kinds alternate.
    let step = answers.len() / 7 + 1;
    let mut dealt: Vec<_> =
        (0..step).flat_map(|start| answers.iter().skip(start).step_by(step)).cloned().collect();
    dealt.truncate(ANSWERS);
    dealt
}

/// A broker that never leaves its API alone, so that every answer is heard.
fn broker(version: Version, api: &MockApi) -> Broker {
    let setup = broker_asking(version, api)
        .option("breaker_after", 0)
        .option("timeout", "10s")
        .option("acl_no_answer", "deny");
    // The default log would hold thousands of lines.
    setup.global("log_type none").start()
}

#[test]
fn there_are_a_thousand_different_ones() {
    let answers = answers();
    assert!(answers.len() >= 1_000, "{}", answers.len());
    assert_eq!(answers, self::answers(), "the same in every run");
}

#[test]
fn no_malformed_answer_lets_anybody_in_or_through() {
    let answers = answers();
    on_every_broker(|version| {
        let api = friendly_api();
        let mut broker = broker(version, &api);
        let mut publisher = Connect::v5("publisher").login("publisher", "secret").accepted(broker.port());
        let mut subscriber = Connect::v5("subscriber").login("subscriber", "secret").accepted(broker.port());
        assert!(subscriber.may_subscribe("#"));
        for (number, answer) in answers.iter().enumerate() {
            api.forget_requests();
            api.answer(Reply::Raw(answer.clone()));
            let shown = String::from_utf8_lossy(answer);
            let login = Connect::v3("c").login(format!("user-{number}"), "secret");
            assert!(login.attempt(broker.port()).is_err(), "{shown:?} lets somebody in");
            let code = publisher.publish_acknowledged(format!("t/{number}"), "x");
            assert_eq!(code, reason::NOT_AUTHORIZED, "{shown:?} lets somebody publish");
            assert!(api.requests().len() >= 2, "{shown:?} was not put to the test");
            if number % 100 == 0 {
                // The next answer is looked at afresh, and the broker is alive.
                api.answer(Reply::status(200));
                Connect::v3("good").login(format!("good-{number}"), "secret").accepted(broker.port());
                assert_eq!(publisher.publish_acknowledged(format!("good/{number}"), "x") & 0x80, 0);
                assert_eq!(subscriber.receive(PATIENCE).expect("message").topic, format!("good/{number}"));
            }
        }
        assert!(broker.is_running());
    });
}
