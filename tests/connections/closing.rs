//! An API that closes kept connections without saying so. A question that went over one and got no response is sent
//! once more; nobody is refused.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::servers::Server;
use crate::support::{Broker, Connect, Reply, Version, api, side_by_side};
use crate::{OPENED, log_in_many};

/// Logins for each number of clients at once. `MHA_LOGINS` is another number.
fn logins() -> usize {
    std::env::var("MHA_LOGINS").map_or(200, |number| number.parse().expect("a number in MHA_LOGINS"))
}

/// Nobody is refused by an API at this address, however many ask at once.
pub fn assert_nobody_is_refused(auth_url: &str) {
    side_by_side([Version::V2_0_21, Version::V2_1], |version| {
        let broker = Broker::with(version).option("auth_url", auth_url).option("login_wait", 0).start();
        for at_once in [1, 8, 32] {
            let refused = log_in_many(&broker, logins(), at_once);
            let (first, count) = (refused.first(), refused.len());
            assert_eq!(count, 0, "of {} with {at_once} at once: {first:?}", logins());
        }
        assert!(!broker.log().contains(OPENED));
    });
}

/// An answer after which the connection is closed, and which does not say so.
fn last_answer() -> Reply {
    Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
}

#[test]
fn after_each_answer() {
    let api = api("");
    api.answer(last_answer());
    assert_nobody_is_refused(&api.auth_url());
}

#[test]
fn after_some_answers() {
    let api = api("");
    let answers = Mutex::new(HashMap::<usize, usize>::new());
    api.answer_with(move |request| {
        let mut answers = answers.lock().unwrap();
        let count = answers.entry(request.connection).or_default();
        *count += 1;
        if *count < 3 { Reply::status(200) } else { last_answer() }
    });
    assert_nobody_is_refused(&api.auth_url());
}

/// Some questions arrive at the very moment.
#[test]
fn after_a_moment() {
    for moment in [1, 3] {
        let api = Server::impatient_api(Duration::from_millis(moment));
        assert_nobody_is_refused(&format!("http://{}/auth", api.address));
    }
}

/// One on a new connection may have been seen, and so may one that was sent twice: they are not sent again.
#[test]
fn only_what_fails_on_a_kept_connection_is_sent_again_and_once() {
    side_by_side([Version::V2_0_21, Version::V2_1], |version| {
        let api = api("");
        let broker = Broker::with(version).option("auth_url", api.auth_url()).start();
        for (name, kept, reply, sent) in [
            ("nothing on a new one", false, Reply::Close, 1),
            ("half an answer on a new one", false, Reply::Raw(b"HTTP/1.1 2".to_vec()), 1),
            ("nothing on a kept one", true, Reply::Close, 2),
        ] {
            api.answer(if kept { Reply::status(200) } else { last_answer() });
            Connect::v5("before").login(format!("before {name}"), "secret").accepted(broker.port());
            api.answer(reply);
            api.forget_requests();
            Connect::v5("client").login(name, "secret").unanswered(broker.port());
            assert_eq!(api.requests().len(), sent, "{name}");
        }
    });
}
