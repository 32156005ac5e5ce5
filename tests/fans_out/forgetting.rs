//! A client that has unsubscribed or gone is forgotten, at once or after a needless question about it.

use std::thread;

use super::{HeldReads, UNTIL_THE_NEXT_DOUBT, log_in, reads};
use crate::support::{
    Broker, Client, Connect, PASSWORD, PATIENCE, eventually, fence, local_user, on_every_broker,
};

#[test]
fn an_expired_session_is_forgotten_sooner_or_later() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let broker = held.start(version, |setup| setup);
        let mut client = Connect::v5("expired")
            .login("expired", PASSWORD)
            .durable()
            .session_expiry(1)
            .accepted(broker.port());
        assert!(client.may_subscribe("t/+"));
        client.disconnect();
        let mut publisher = log_in(&broker, "publisher");
        broker.wait_for_log("Expiring client expired", PATIENCE);
        let asked = asked_until_quiet(&held, &mut publisher, 1);
        assert!((1..=4).contains(&asked.len()) && asked.iter().all(|name| name == "expired"), "{asked:?}");
    });
}

/// 2.0 does not say that this session does not stay.
#[test]
fn who_resumes_but_leaves_no_session_is_forgotten() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let broker = held.start(version, |setup| setup);
        let mut client =
            Connect::v5("gone").login("gone", PASSWORD).durable().session_expiry(0).accepted(broker.port());
        assert!(client.may_subscribe("t/+"));
        client.disconnect();
        let mut publisher = log_in(&broker, "publisher");
        let asked = asked_until_quiet(&held, &mut publisher, 0);
        assert!(asked.len() <= 4 && asked.iter().all(|name| name == "gone"), "{asked:?}");
    });
}

/// Clients whom somebody else let in are listeners as long as they are there, and no longer.
#[test]
fn a_client_that_another_let_in_is_forgotten_when_it_goes() {
    on_every_broker(|version| {
        let held = HeldReads::new();
        let passwords = ["guest", "publisher"].map(|name| local_user(name) + "\n").concat();
        let broker = Broker::with(version)
            .global("password_file passwords")
            .global("allow_anonymous false")
            .file("passwords", passwords)
            .option("acl_url", held.api.acl_url())
            .option("timeout", "60s")
            .start();
        let mut guest = Connect::v5("guest").login("guest", PASSWORD).accepted(broker.port());
        assert!(guest.may_subscribe("t"));
        guest.disconnect();
        let mut publisher = log_in(&broker, "publisher");
        held.assert_asked_when_published(&mut publisher, "t", []);
    });
}

/// Publishes until nobody is asked about in vain any more, with a pause between. Gives who was, as many as
/// these at least.
fn asked_until_quiet(held: &HeldReads, publisher: &mut Client, at_least: usize) -> Vec<String> {
    held.go_on();
    let mut asked = Vec::new();
    for n in 0..10 {
        held.api.forget_requests();
        assert_eq!(publisher.publish_acknowledged(format!("t/{n}"), "x") & 0x80, 0);
        if asked.len() < at_least {
            eventually(PATIENCE, || !reads(&held.api).is_empty());
        }
        fence::later_questions(publisher, &held.api);
        let ids = reads(&held.api);
        if ids.is_empty() {
            break;
        }
        asked.extend(ids);
        thread::sleep(UNTIL_THE_NEXT_DOUBT);
    }
    asked
}
