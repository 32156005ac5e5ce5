//! A question holds up its client, and all that wait with it, for one time-out at most, whatever is wrong with the API.
//! The waits of many questions at once do not add up.

use std::fmt::Debug;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use super::{AT_ONCE, LOCAL_USER, ONE_TIMEOUT, TIMEOUT, broker, broker_for_logins, login, on_both};
use crate::support::dns::Lookup;
use crate::support::servers::{DeafListener, Fault};
use crate::support::{
    Broker, Client, Connect, MockApi, PASSWORD, Reply, Setup, Version, api, bystander, free_port,
    friendly_api, local_user, side_by_side, timed,
};

/// A broker whose budget alone ends a question at this fault.
fn broker_with(fault: &Fault, version: Version) -> Setup {
    fault.serves(broker(version).option("connect_timeout", "30s").option("breaker_after", 0))
}

/// One question, the number of which is given: nobody gets in, nothing gets through, and that takes one time-out
/// at most, for the client that asks and for everybody else who has to wait with it.
fn assert_costs_one_timeout(
    broker: &mut Broker,
    others_wait: bool,
    mut ask: impl FnMut(&Broker, usize) -> bool,
) {
    let bearable = if others_wait { ONE_TIMEOUT } else { AT_ONCE };
    let mut measured = Vec::new();
    // What a busy machine holds up once it does not hold up three times.
    for number in 0..3 {
        let mut other = bystander(broker, LOCAL_USER, PASSWORD);
        let ((allowed, waited), stall) = other.longest_ping_during(|| timed(|| ask(broker, number)));
        assert!(!allowed, "no answer is taken for a yes");
        assert!(broker.is_running());
        if waited < ONE_TIMEOUT && stall < bearable {
            return;
        }
        measured.push((waited, stall));
    }
    panic!("how long the client waited, and another one for a ping: {measured:?}");
}

fn assert_within_budget(fault: &Fault, version: Version, is_login: bool) {
    if is_login {
        let mut broker = broker_with(fault, version).option("auth_url", &fault.url).start();
        let may_connect =
            |broker: &Broker, number| login(format!("u-{number}")).attempt(broker.port()).is_ok();
        assert_costs_one_timeout(&mut broker, !version.is_2_1(), may_connect);
        return;
    }
    let friendly = friendly_api();
    let setup = broker_with(fault, version).option("auth_url", friendly.auth_url());
    let mut broker = setup.option("acl_url", &fault.url).start();
    let mut alice = login("alice").accepted(broker.port());
    let may_subscribe = |_: &Broker, number| alice.may_subscribe(&format!("news/{number}/#"));
    assert_costs_one_timeout(&mut broker, true, may_subscribe);
    let may_publish =
        |_: &Broker, number| alice.publish_acknowledged(format!("news/{number}"), "x") & 0x80 == 0;
    assert_costs_one_timeout(&mut broker, true, may_publish);
}

/// One test for each fault, so that they run side by side.
macro_rules! budget_holds_with {
    ($($name:ident: $fault:expr;)+) => {
        $(#[test]
        fn $name() {
            let fault: Option<Fault> = $fault;
            let Some(fault) = fault else { return };
            let (old, new) = (Version::V2_0_11, Version::V2_1);
            let cases = [(old, true), (old, false), (new, true), (new, false)];
            side_by_side(cases, |(version, is_login)| assert_within_budget(&fault, version, is_login));
        })+
    };
}

budget_holds_with! {
    an_api_that_accepts_and_never_answers: Fault::of_api(Reply::Hang);
    an_api_that_answers_a_byte_a_second: Fault::of_api(Reply::byte_a_second());
    an_api_that_never_finishes_its_headers: Fault::of_api(Reply::endless_headers());
    an_api_that_says_to_go_on_for_ever: Fault::of_talker("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n");
    an_api_that_resets: Fault::of_api(Reply::Reset);
    an_api_that_drops_packets: {
        let deaf = DeafListener::open();
        Fault::at(format!("http://{}/", deaf.address), deaf)
    };
    an_api_that_never_shakes_hands: {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        Fault::at(format!("https://{}/", listener.local_addr().unwrap()), listener)
    };
    an_api_that_talks_plain_http_on_its_tls_port: Fault::of_talker("https", b"HTTP/1.1 200 OK\r\n\r\n", b"");
    an_api_that_refuses_every_handshake: Fault::of_talker("https", b"\x15\x03\x03\x00\x02\x02\x28", b"");
    an_api_that_never_ends_a_tls_record: Fault::of_talker("https", b"\x16\x03\x03\x40\x00\x02", b"\0");
    an_api_that_never_ends_its_handshake: Fault::of_talker("https", b"", b"\x14\x03\x03\x00\x01\x01");
    an_api_that_talks_nonsense_on_its_tls_port: Fault::of_talker("https", b"SSH-2.0-nonsense\r\n", b"\xff\0");
    an_api_whose_name_does_not_exist: Fault::of_name(Lookup::NoSuchName);
    an_api_whose_name_is_never_looked_up: Fault::of_name(Lookup::Silence);
    an_api_whose_name_is_looked_up_slowly: Fault::of_name(Lookup::After(TIMEOUT * 4, Ipv4Addr::LOCALHOST));
    an_api_whose_name_server_talks_nonsense: Fault::of_name(Lookup::Garbage);
    an_api_with_a_url_that_hangs_behind_a_url_that_hangs: {
        let apis = [(); 3].map(|()| api(""));
        apis.iter().for_each(|api| api.answer(Reply::Hang));
        let urls = apis.each_ref().map(MockApi::auth_url).join(" ");
        Fault::at(urls, apis)
    };
}

#[test]
fn many_questions_at_once_do_not_add_up() {
    on_both(|version| {
        let api = api("");
        api.answer(Reply::Hang);
        let broker = broker_for_logins(version, &api).start();
        let mut other = bystander(&broker, LOCAL_USER, PASSWORD);
        let ((), stall) = other.longest_ping_during(|| {
            let mut crowd: Vec<_> =
                (0..100).map(|number| login(format!("u-{number}")).send(broker.port())).collect();
            for client in &mut crowd {
                assert!(client.is_turned_away());
            }
        });
        // The broker comes round once or twice while they knock.
        let bearable = if version.is_2_1() { ONE_TIMEOUT } else { TIMEOUT * 4 };
        assert!(stall < bearable, "another client waited {stall:?} for a ping");
    });
}

/// How a crowd of clients comes.
#[derive(Debug, Clone, Copy)]
enum Crowd {
    AtOnce,
    InARow,
}

/// With all options as they come, a hundred clients that nobody can decide about.
#[test]
fn a_hundred_logins_at_a_silent_api_stall_others_for_a_bounded_time() {
    let versions = [Version::V2_0_11, Version::V2_1];
    let cases = versions.into_iter().flat_map(|version| [(version, Crowd::AtOnce), (version, Crowd::InARow)]);
    side_by_side(cases, |(version, crowd)| {
        let api = api("");
        api.answer(Reply::Hang);
        let broker = Broker::with(version)
            .option("auth_url", api.auth_url())
            .option("user", local_user("bob"))
            .start();
        let mut bob = Connect::v5("bob").login("bob", PASSWORD).accepted(broker.port());
        let log_in = || match crowd {
            Crowd::AtOnce => log_in_at_once(broker.port()),
            Crowd::InARow => log_in_in_a_row(broker.port()),
        };
        let (stalled, took) = timed(|| total_stall_during(&mut bob, log_in));
        eprintln!(
            "mosquitto {version}, {crowd:?}: another client was stalled for {stalled:.2?} of {took:.2?}"
        );
        let timeout = Duration::from_secs(2); // the default
        let bearable = if version.is_2_1() { timeout / 2 } else { timeout * 7 };
        assert!(stalled < bearable, "another client was stalled for {stalled:?}");
    });
}

fn log_in_at_once(port: u16) {
    let mut crowd: Vec<_> = (0..100).map(|number| login(format!("u-{number}")).send(port)).collect();
    for client in &mut crowd {
        assert!(client.is_turned_away());
    }
}

fn log_in_in_a_row(port: u16) {
    for number in 0..100 {
        login(format!("u-{number}")).unanswered(port);
    }
}

/// Pings all the while that something else is going on, and adds up what took longer than a ping does.
fn total_stall_during(client: &mut Client, action: impl FnOnce() + Send) -> Duration {
    const NO_STALL: Duration = Duration::from_millis(20);
    thread::scope(|scope| {
        let acting = scope.spawn(action);
        let mut stalled = Duration::ZERO;
        while !acting.is_finished() {
            stalled += client.ping().saturating_sub(NO_STALL);
            thread::sleep(Duration::from_millis(1));
        }
        acting.join().unwrap();
        stalled
    })
}
