//! An API that computes is asked no more at once than it works on, and one that takes any number gets what
//! `max_requests` allows. Found out from its answers, with default options.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

mod support;
use support::{
    Broker, Client, Connect, MockApi, PATIENCE, Reply, Request, Version, api, broker_asking, eventually,
    friendly_api, on_every_broker, reason,
};

/// The default of `max_requests`.
const MOST: usize = 64;

/// What the log says of an API whose breaker has opened.
const OPENED: &str = "It is left alone now";

/// What it says of one that is asked less at a time.
const ASKED_LESS: &str = "questions are on their way to it at a time now";

/// How many workers there are.
const WORKERS: usize = 2;

/// An API's workers, each of which works on one question at a time, in the order in which they come.
struct Workers {
    /// How many questions have come, and how many were worked on.
    questions: Mutex<(usize, usize)>,
    became_free: Condvar,
    takes: Mutex<Duration>,
    asked: AtomicUsize,
    most: AtomicUsize,
}

impl Workers {
    /// Workers that take so long for each question about a login.
    fn of(api: &MockApi, takes: Duration) -> Arc<Self> {
        let workers = Arc::new(Self {
            questions: Mutex::new((0, 0)),
            became_free: Condvar::new(),
            takes: Mutex::new(takes),
            asked: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let working = Arc::clone(&workers);
        api.answer_with(move |request| {
            if request.path == "/auth" {
                working.work();
            }
            Reply::status(200)
        });
        workers
    }

    fn work(&self) {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(asked, Ordering::SeqCst);
        let mut questions = self.questions.lock().unwrap();
        let number = questions.0;
        questions.0 += 1;
        drop(self.became_free.wait_while(questions, |(_, done)| number >= *done + WORKERS).unwrap());
        let takes = *self.takes.lock().unwrap();
        thread::sleep(takes);
        self.questions.lock().unwrap().1 += 1;
        self.became_free.notify_all();
        self.asked.fetch_sub(1, Ordering::SeqCst);
    }

    /// The most questions at a time since this was asked last.
    fn most(&self) -> usize {
        self.most.swap(0, Ordering::SeqCst)
    }
}

/// Devices that connect at once, each with a name of its own.
fn crowd(broker: &Broker, name: &str, count: usize) -> Vec<Client> {
    let device = |n| {
        let name = format!("{name}-{n}");
        Connect::v5(&name).login(&name, "secret").send(broker.port())
    };
    (0..count).map(device).collect()
}

/// How many of them are not let in.
fn refused(crowd: &mut [Client]) -> usize {
    let codes = crowd.iter_mut().map(|client| client.connack(PATIENCE));
    codes.filter(|code| *code != Some(reason::SUCCESS)).count()
}

/// 64 at once would take 2.7 s, which is more than they have.
#[test]
fn an_api_that_computes_lets_everybody_in_who_comes_at_once() {
    let api = api("");
    let workers = Workers::of(&api, Duration::from_millis(84));
    let broker = broker_asking(Version::V2_1, &api).start();
    let mut first = crowd(&broker, "first", 60);
    assert_eq!(refused(&mut first), 0, "of 60");
    workers.most();
    let mut second = crowd(&broker, "second", 60);
    assert_eq!(refused(&mut second), 0, "of 60 more");
    let most = workers.most();
    assert!(most <= MOST / 2, "{most} at a time, once it was found out what the API can do");
    // An answer that takes long makes one connection suspect: that question is asked over another as well.
    let asked = api.logins().len();
    assert!((120..=121).contains(&asked), "everybody is asked about once, but for one maybe: {asked}");
    let log = broker.log();
    assert!(log.contains(ASKED_LESS) && !log.contains(OPENED), "{log}");
}

/// Where the broker waits, what it sees in other sockets is asked beside, and no more at a time either.
#[test]
fn so_it_does_where_the_broker_waits() {
    let api = api("");
    let workers = Workers::of(&api, Duration::from_millis(20));
    // All of them in one turn.
    let broker = broker_asking(Version::V2_0_21, &api).option("login_wait", 0).start();
    let mut first = crowd(&broker, "first", 60);
    assert_eq!(refused(&mut first), 0, "of 60");
    let most = workers.most();
    assert!(most <= MOST, "{most} at a time");
    assert!(!broker.log().contains(OPENED));
}

/// Nothing is answered before as many are asked at once as may be.
#[test]
fn an_api_that_takes_any_number_is_asked_as_many_at_once_as_may_be() {
    let api = friendly_api();
    // No question takes so long that its connection is suspect.
    let broker = broker_asking(Version::V2_1, &api).option("timeout", "60s").start();
    Connect::v5("first").login("first", "secret").accepted(broker.port());
    let is_open = Arc::new((Mutex::new(false), Condvar::new()));
    let gate = Arc::clone(&is_open);
    api.answer_with(move |_| {
        drop(gate.1.wait_timeout_while(gate.0.lock().unwrap(), PATIENCE, |is_open| !*is_open));
        Reply::status(200)
    });
    let mut devices = crowd(&broker, "device", 2 * MOST);
    let asked = api.wait_for_requests(1 + MOST, Duration::from_millis(1_500)).len();
    *is_open.0.lock().unwrap() = true;
    is_open.1.notify_all();
    assert_eq!(asked, 1 + MOST, "the first, and as many as may be");
    assert_eq!(refused(&mut devices), 0);
    assert_eq!(api.most_concurrent(), MOST);
}

/// It becomes slow while it is asked as much as it could take before. That is its operator's business, and no reason to
/// leave it alone.
#[test]
fn time_outs_of_an_overloaded_api_do_not_open_the_breaker() {
    let api = api("");
    let workers = Workers::of(&api, Duration::ZERO);
    let broker = broker_asking(Version::V2_1, &api).start();
    let mut first = crowd(&broker, "first", 2 * MOST);
    assert_eq!(refused(&mut first), 0);
    *workers.takes.lock().unwrap() = Duration::from_millis(150);
    let mut second = crowd(&broker, "second", MOST);
    let late = refused(&mut second);
    assert!((1..MOST).contains(&late), "{late} of {MOST} time out");
    assert!(!broker.log().contains(OPENED), "{}", broker.log());
    assert!(
        eventually(PATIENCE, || workers.asked.load(Ordering::SeqCst) == 0),
        "what it was asked is worked off"
    );
    let mut third = crowd(&broker, "third", 20);
    assert_eq!(refused(&mut third), 0, "of 20 afterwards");
    assert!(!broker.log().contains(OPENED), "{}", broker.log());
}

/// An operator need not guess why everything is slow. (It takes a minute to be sure.)
#[test]
fn a_slow_api_is_named_with_what_it_costs() {
    on_every_broker(|version| {
        let api = friendly_api();
        let broker =
            broker_asking(version, &api).option("timeout", "400ms").option("acl_cache_ttl", 0).start();
        let mut client = Connect::v5("client").login("client", "secret").accepted(broker.port());
        api.answer(Reply::status(200).after(Duration::from_millis(150)));
        let is_named = eventually(Duration::from_secs(60) + PATIENCE, || {
            client.publish_acknowledged("news", "x");
            thread::sleep(Duration::from_millis(300));
            broker.log().contains(" is slow: ")
        });
        let log = broker.log();
        assert!(is_named, "{log}");
        let line = log.lines().find(|line| line.contains(" is slow: ")).unwrap();
        assert!(line.contains("(topics)") && line.contains("longer than 100ms"), "{line}");
        assert!(line.contains("The broker, and with it every client, waited "), "{line}");
        assert_eq!(log.matches(" is slow: ").count(), 1, "{log}");
    });
}

/// Its memory collector, a nightly job or a neighbour: all answers take longer for a while, however few are asked.
#[test]
fn an_api_that_is_slow_by_itself_for_a_while_is_asked_as_much_as_before_in_the_end() {
    const SLOW: Duration = Duration::from_millis(100);
    let api = friendly_api();
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&is_slow);
    let (asked, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, at_most) = (Arc::clone(&asked), Arc::clone(&most));
    api.answer_with(move |_: &Request| {
        at_most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        if slow.load(Ordering::SeqCst) {
            thread::sleep(SLOW);
        }
        now.fetch_sub(1, Ordering::SeqCst);
        Reply::status(200)
    });
    let broker = broker_asking(Version::V2_1, &api).start();
    Connect::v5("first").login("first", "secret").accepted(broker.port());
    is_slow.store(true, Ordering::SeqCst);
    let mut round = 0;
    let is_as_before = eventually(PATIENCE, || {
        round += 1;
        most.store(0, Ordering::SeqCst);
        let mut devices = crowd(&broker, &format!("device-{round}"), 2 * MOST);
        assert_eq!(refused(&mut devices), 0, "in round {round}");
        // The first round finds it as it was.
        round > 1 && most.load(Ordering::SeqCst) >= MOST - MOST / 8
    });
    assert!(is_as_before, "{} at a time in round {round}", most.load(Ordering::SeqCst));
}
