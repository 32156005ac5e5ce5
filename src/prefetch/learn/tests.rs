use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::groups::Groups;
use super::learner::Learner;
use super::pattern::Who;
use super::visit::{Ask, Visitor};
use crate::fingerprint::{AlreadyHashed, Fingerprint, Fingerprinter, Whose};
use crate::prefetch::wish::Wish;
use crate::question::{Access, OwnedQuestion, Question};
use Access::{Read, Subscribe, Write};

const LIFETIME: Duration = Duration::from_secs(30);
const VISIT: Duration = Duration::from_secs(24);

/// A broker with an API that allows everything at once.
struct World {
    keys: Fingerprinter,
    learner: Learner,
    now: Instant,
    network: &'static str,
    /// Until when verdicts are remembered, and whether the broker has come for them.
    known: HashMap<Fingerprint, (Instant, bool), AlreadyHashed>,
    asked: usize,
    ahead: Vec<String>,
    in_vain: usize,
    twice: usize,
}

impl World {
    fn new() -> Self {
        let keys = Fingerprinter::with_key(&[3; 16]);
        Self {
            keys,
            learner: Learner::new(keys),
            now: Instant::now(),
            network: "192.0.2.1",
            known: HashMap::default(),
            asked: 0,
            ahead: Vec::new(),
            in_vain: 0,
            twice: 0,
        }
    }

    fn with_learner(&mut self, body: impl FnOnce(&mut Learner, Instant, &Ask<'_>) -> Vec<Wish>) {
        let Self { keys, learner, now, known, .. } = self;
        let is_known = |key| known.get(&key).is_some_and(|(until, _)| *until > *now);
        let ask = Ask {
            key: &|question| keys.question(question),
            is_news: &|key| !is_known(key),
            may_ask: &|_, _, _| true,
        };
        let wishes = body(learner, *now, &ask);
        for Wish { key, question, .. } in wishes {
            let OwnedQuestion::Access { client_id, topic, access, .. } = question else { panic!() };
            self.ahead.push(format!("{client_id}: {access} {topic}"));
            self.ask(key, false);
        }
    }

    fn ask(&mut self, key: Fingerprint, is_used: bool) {
        self.asked += 1;
        match self.known.insert(key, (self.now + LIFETIME, is_used)) {
            Some((until, _)) if until > self.now => self.twice += 1,
            Some((_, false)) => self.in_vain += 1,
            _ => {}
        }
    }

    fn client<'a>(&self, client_id: &'a str, username: &'a str) -> Visitor<'a> {
        let question = Question::Access { username, client_id, topic: "", access: Read, more: "" };
        let source = self.keys.source(Some(self.network), username);
        let key = self.keys.client(&question);
        Visitor { key, witness: key.words()[0], who: Who { client_id, username }, source }
    }

    fn comes(&mut self, client_id: &str, username: &str) {
        let client = self.client(client_id, username);
        self.with_learner(|learner, now, ask| learner.arrives(client, VISIT, now, ask));
    }

    fn wants(&mut self, client_id: &str, username: &str, access: Access, topic: &str) {
        let key = self.keys.question(&Question::Access { username, client_id, topic, access, more: "" });
        match self.known.get_mut(&key).filter(|(until, _)| *until > self.now) {
            Some((_, true)) => return,
            Some((_, is_used)) => *is_used = true,
            None => self.ask(key, true),
        }
        let client = self.client(client_id, username);
        self.with_learner(|learner, now, ask| learner.asked(client, (access, topic), VISIT, now, ask));
    }

    /// What was asked ahead since the last time.
    fn news(&mut self) -> Vec<String> {
        let mut news = std::mem::take(&mut self.ahead);
        news.sort();
        news
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// A client that comes, and asks what its kind does.
    fn visit(&mut self, client_id: &str, topics: &[(Access, String)]) {
        self.comes(client_id, "fleet");
        for (access, topic) in topics {
            self.wants(client_id, "fleet", *access, topic);
        }
    }

    fn in_vain(&self) -> usize {
        let unused = self.known.values().filter(|(until, is_used)| !is_used && *until <= self.now).count();
        self.in_vain + unused
    }
}

fn device(id: &str) -> Vec<(Access, String)> {
    vec![(Subscribe, format!("cmd/{id}/#")), (Write, format!("state/{id}"))]
}

/// As those whose logins are remembered do: the broker asks in the order in which they came last.
#[test]
fn who_comes_again_is_asked_about_in_the_order_of_that() {
    const CLIENTS: usize = 200;
    let mut world = World::new();
    let id = |n: usize| format!("client-{n}");
    for n in 0..CLIENTS {
        world.comes(&id(n), "fleet");
    }
    for n in (0..CLIENTS).rev() {
        world.comes(&id(n), "fleet");
    }
    for n in (0..CLIENTS).rev() {
        world.wants(&id(n), "fleet", Subscribe, &format!("commands/{}/#", id(n)));
    }
    assert!(
        world.asked - world.ahead.len() <= 2,
        "{} of {CLIENTS} were not asked ahead",
        world.asked - world.ahead.len()
    );
}

/// As it is where they wait in sockets that were ready before others.
#[test]
fn the_broker_may_begin_in_the_middle() {
    const CLIENTS: usize = 200;
    let mut world = World::new();
    let id = |n: usize| format!("client-{n}");
    for n in 0..CLIENTS {
        world.comes(&id(n), "fleet");
    }
    // And it may go on elsewhere before those come that were guessed.
    for n in (41..47).chain(80..137).chain(0..41).chain(47..80).chain(137..CLIENTS) {
        world.wants(&id(n), "fleet", Subscribe, &format!("commands/{}/#", id(n)));
    }
    let missed = world.asked - world.ahead.len();
    assert!(missed <= 6, "{missed} of {CLIENTS} were not asked ahead");
}

/// Whoever comes again was looked at before, and keeps nobody back who comes for the first time.
#[test]
fn who_comes_again_holds_up_nobody() {
    let mut world = World::new();
    let wish = |id: &str| (Subscribe, format!("commands/{id}/#"));
    for n in 0..20 {
        let id = format!("client-{n}");
        world.visit(&id, &[wish(&id)]);
    }
    world.comes("client-3", "fleet");
    world.news();
    world.comes("client-20", "fleet");
    assert_eq!(world.news(), ["client-20: subscribe commands/client-20/#"]);
}

/// Whoever has another number by now, or whose visit is over, has the old one no more.
#[test]
fn a_group_keeps_one_number_of_each_client_that_is_there() {
    let mut world = World::new();
    world.comes("client-0", "fleet");
    for _ in 0..10_000 {
        world.comes("client-1", "fleet");
    }
    assert_eq!(world.learner.longest_group(), 2);
    for number in 2..1_000 {
        world.comes(&format!("client-{number}"), "fleet");
    }
    world.later(60);
    (0..100).for_each(|number| world.comes(&format!("other-{number}"), "fleet"));
    assert_eq!(world.learner.longest_group(), 100);
}

/// An id may have 64 KiB, and a username, too.
#[test]
fn of_whoever_has_a_very_long_name_nothing_is_learnt() {
    let mut world = World::new();
    for number in 0..3 {
        let id = format!("{}-{number}", "x".repeat(2_000));
        world.visit(&id, &[(Subscribe, "news".to_owned())]);
    }
    assert!(world.learner.is_empty());
    // A token in place of a username is not that long.
    let token = "x".repeat(900);
    world.comes("dev-0001", &token);
    world.wants("dev-0001", &token, Subscribe, "cmd/dev-0001");
    world.comes("dev-0002", &token);
    assert_eq!(world.news(), ["dev-0002: subscribe cmd/dev-0002"]);
}

#[test]
fn a_topic_with_a_name_is_learnt_at_first_sight() {
    let mut world = World::new();
    world.visit("dev-0001", &device("dev-0001"));
    assert_eq!(world.news(), [""; 0]);
    world.comes("dev-0002", "fleet");
    assert_eq!(world.news(), ["dev-0002: subscribe cmd/dev-0002/#", "dev-0002: write state/dev-0002"]);
    world.comes("hub-0001", "fleet");
    world.comes("dev-0003", "other-0001");
    assert_eq!(world.news(), [""; 0], "other kinds");
    assert_eq!(world.learner.learnt().lines(), ["subscribe cmd/%c/#", "write state/%c"]);
}

#[test]
fn who_came_a_moment_ago_is_asked_about() {
    let mut world = World::new();
    for number in 1..=4 {
        world.comes(&format!("dev-000{number}"), "fleet");
    }
    world.wants("dev-0003", "fleet", Subscribe, "cmd/dev-0003");
    let others = ["dev-0001", "dev-0002", "dev-0004"].map(|id| format!("{id}: subscribe cmd/{id}"));
    assert_eq!(world.news(), others);
    world.wants("dev-0001", "fleet", Subscribe, "cmd/dev-0001");
    assert_eq!(world.news(), [""; 0], "once");
}

#[test]
fn a_crowd_is_asked_about_as_it_confirms() {
    let mut world = World::new();
    let ids: Vec<_> = (0..1_000).map(|number| format!("dev-{number:04}")).collect();
    ids.iter().for_each(|id| world.comes(id, "fleet"));
    // Each finds its answer there but some at the beginning, and behind each step.
    let mut waits = 0;
    for id in &ids {
        let before = world.asked - world.ahead.len();
        world.wants(id, "fleet", Subscribe, &format!("cmd/{id}"));
        waits += world.asked - world.ahead.len() - before;
    }
    assert_eq!(waits, 1);
    assert_eq!((world.asked, world.twice), (1_000, 0));
}

/// Those who wait for their answers beside the loop confirm nothing yet: who came in without does.
#[test]
fn what_is_asked_without_a_guess_tells_as_much_as_a_guess() {
    let mut world = World::new();
    world.visit("dev-9999", &[(Subscribe, "cmd/dev-9999".to_owned())]);
    let ids: Vec<_> = (0..100).map(|number| format!("dev-{number:04}")).collect();
    ids.iter().for_each(|id| world.comes(id, "fleet"));
    let guessed = world.news().len();
    assert!((10..30).contains(&guessed), "{guessed}");
    let before = world.asked - world.ahead.len();
    for id in &ids[guessed..] {
        world.wants(id, "fleet", Subscribe, &format!("cmd/{id}"));
    }
    let waits = world.asked - world.ahead.len() - before;
    assert!(waits <= 10, "{waits}");
}

#[test]
fn other_topics_take_several_clients() {
    let mut world = World::new();
    for (number, expected) in [(1, 0), (2, 0), (3, 0), (4, 2), (5, 2)] {
        let id = format!("dev-000{number}");
        world.comes(&id, "fleet");
        assert_eq!(world.news().len(), expected, "{id}");
        world.wants(&id, "fleet", Subscribe, "news/#");
        world.wants(&id, "fleet", Read, "news/today");
        world.wants(&id, "fleet", Write, "alive");
    }
}

#[test]
fn names_that_may_be_words_take_several_clients() {
    let mut world = World::new();
    world.visit("cmd", &[(Subscribe, "cmd/x/y".to_owned())]);
    world.visit("dev", &[(Subscribe, "a/b".to_owned())]);
    world.comes("x", "fleet");
    assert_eq!(world.news(), [""; 0]);
}

#[test]
fn what_is_wrong_is_dropped() {
    let mut world = World::new();
    world.visit("dev-0001", &[(Subscribe, "cmd/dev-0001".to_owned())]);
    for number in 0..1_000 {
        world.visit(&format!("dev-1{number:03}"), &[(Subscribe, "other".to_owned())]);
        world.later(5);
    }
    assert!(world.in_vain() <= 20, "{} in vain", world.in_vain());
    assert_eq!(world.twice, 0);
}

/// Kinds whose names look alike are told apart by what they ask first.
#[test]
fn kinds_are_told_apart_by_what_they_ask_first() {
    let mut world = World::new();
    let topics = |kind: usize, id: &str| {
        [
            (Subscribe, format!("kind{kind}/{id}/a")),
            (Subscribe, format!("kind{kind}/{id}/b")),
            (Write, format!("kind{kind}/{id}/c")),
        ]
    };
    for number in 0..600 {
        let id = format!("node-{number:04}");
        world.visit(&id, &topics(number % 3, &id));
        world.later(2);
    }
    world.news();
    let (asked, in_vain) = (world.asked, world.in_vain());
    world.comes("node-9000", "fleet");
    assert_eq!(world.news(), [""; 0], "its kind is not known yet");
    world.wants("node-9000", "fleet", Subscribe, "kind1/node-9000/a");
    assert_eq!(
        world.news(),
        ["node-9000: subscribe kind1/node-9000/b", "node-9000: write kind1/node-9000/c"]
    );
    assert!(in_vain * 10 < asked, "{in_vain} of {asked}");
}

/// One SUBSCRIBE with many filters that only this client has.
#[test]
fn a_client_is_asked_about_with_what_it_asked_before() {
    let mut world = World::new();
    let filters: Vec<_> = (0..60).map(|number| (Subscribe, format!("site/{number}/#"))).collect();
    world.visit("hub", &filters);
    assert_eq!(world.news(), [""; 0]);
    world.later(60);
    world.comes("hub", "fleet");
    assert_eq!(world.news().len(), 60);
    world.comes("hub", "somebody else");
    assert_eq!(world.news(), [""; 0]);
}

#[test]
fn what_a_client_alone_asked_is_forgotten_with_it() {
    let mut world = World::new();
    let kind = device("dev-0001");
    world.visit("dev-0001", &[&kind[..], &[(Subscribe, "site/1/#".to_owned())]].concat());
    world.visit("dev-0002", &[(Subscribe, "site/2/#".to_owned())]);
    world.later(60);
    world.news();
    world.learner.forget(Whose::ClientId(world.keys.client_id("dev-0001")));
    world.comes("dev-0001", "fleet");
    world.comes("dev-0002", "fleet");
    let of_kind = |id: &str| [format!("{id}: subscribe cmd/{id}/#"), format!("{id}: write state/{id}")];
    let [one, two] = [of_kind("dev-0001"), of_kind("dev-0002")];
    let own = "dev-0002: subscribe site/2/#".to_owned();
    assert_eq!(world.news(), [&one[..], &two[..1], &[own], &two[1..]].concat());
    // It comes anew, however short the time is, and is learnt from as before.
    world.learner.forget(Whose::Username(world.keys.username("fleet")));
    world.known.clear();
    world.visit("dev-0001", &[(Subscribe, "site/3/#".to_owned())]);
    assert_eq!(world.news(), one);
    world.later(60);
    world.comes("dev-0001", "fleet");
    assert!(world.news().contains(&"dev-0001: subscribe site/3/#".to_owned()));
}

#[test]
fn topics_that_are_drawn_anew_each_time_are_soon_not_guessed() {
    let mut world = World::new();
    for visit in 0..500 {
        let topics = (0..4).map(|n| format!("reply/{visit}-{n}"));
        world.visit("app", &topics.flat_map(|it| [(Subscribe, it.clone()), (Write, it)]).collect::<Vec<_>>());
        world.later(60);
    }
    assert!(world.in_vain() <= 64, "{} in vain", world.in_vain());
}

/// Somebody whose id looks like those of a fleet shows any number of topics that hold it.
#[test]
fn one_teacher_has_a_bounded_number_of_questions_asked_about_others() {
    let mut world = World::new();
    for number in 0..100 {
        world.comes(&format!("dev-0{number:03}"), "fleet");
    }
    world.network = "198.51.100.7";
    for visit in 0..20 {
        let id = format!("dev-9{visit:03}");
        world.comes(&id, "mallory");
        world.comes(&id, "fleet");
        for number in 0..500 {
            world.wants(&id, "fleet", Subscribe, &format!("{number}/{id}/x"));
        }
    }
    let about_others = world.news().iter().filter(|line| line.starts_with("dev-0")).count();
    assert!(about_others <= 200, "{about_others}");
    // The fleet's own lessons are believed all the same.
    world.network = "192.0.2.1";
    world.wants("dev-0000", "fleet", Subscribe, "cmd/dev-0000");
    world.wants("dev-0001", "fleet", Subscribe, "cmd/dev-0001");
    assert!(world.news().contains(&"dev-0002: subscribe cmd/dev-0002".to_owned()));
}

/// Who is taught about templates that are replaced is asked about those in their places.
#[test]
fn what_makes_room_is_as_if_nobody_had_asked_it() {
    let mut world = World::new();
    world.comes("dev-0001", "fleet");
    world.comes("dev-0002", "fleet");
    // As many as one network may teach, of which the first one makes room for the next.
    for number in 0..32 {
        world.wants("dev-0001", "fleet", Subscribe, &format!("{number}/dev-0001"));
    }
    world.wants("dev-0002", "fleet", Subscribe, "0/dev-0002");
    for number in 1..32 {
        world.wants("dev-0001", "fleet", Write, &format!("{number}/dev-0001"));
    }
    world.news();
    world.wants("dev-0001", "fleet", Write, "0/dev-0001");
    assert_eq!(world.news(), ["dev-0002: write 0/dev-0002"]);
}

/// The broker waits for as long as it takes to learn what one SUBSCRIBE asks.
#[test]
fn what_makes_room_takes_no_look_at_all_who_have_come() {
    let mut world = World::new();
    for number in 0..20_000 {
        world.comes(&format!("dev-{number:05}"), "fleet");
    }
    world.news();
    let begun = Instant::now();
    for number in 0..1_000 {
        world.wants("dev-00000", "fleet", Subscribe, &format!("{number}/dev-00000"));
    }
    let took = begun.elapsed();
    // A look at all of them each time would take more than twice as long.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// Draws numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Three kinds of devices, of which two have names that look alike, hubs, dashboards, and programs that draw their topics
/// anew: an hour in which all of them come and go.
#[test]
fn in_an_hour_of_a_mixed_fleet_one_question_in_ten_is_in_vain_at_most() {
    let (mut world, mut dice) = (World::new(), Dice(7));
    let mut clients: Vec<(String, u8)> = Vec::new();
    clients.extend((0..150).map(|number| (format!("sensor-{number:04}"), 0)));
    clients.extend((0..100).map(|number| (format!("node-{number:04}"), 1 + (number % 2) as u8)));
    clients.extend((0..10).map(|number| (format!("hub-{number:02}"), 3)));
    clients.extend((0..5).map(|number| (format!("dash-{number}"), 4)));
    clients.extend((0..20).map(|number| (format!("app-{number:03}"), 5)));
    let mut next: Vec<u64> = clients.iter().map(|_| dice.below(300)).collect();
    let mut draw = 0;
    for second in 0..3_600 {
        for (client, (id, kind)) in clients.iter().enumerate() {
            if next[client] != second {
                continue;
            }
            next[client] = second + 60 + dice.below(900);
            draw += 1;
            let topics: Vec<(Access, String)> = match kind {
                0 => vec![
                    (Subscribe, format!("cmd/{id}/#")),
                    (Subscribe, "firmware".to_owned()),
                    (Write, format!("data/{id}/t")),
                ],
                1 => vec![(Subscribe, format!("valve/{id}")), (Write, format!("valve/{id}/state"))],
                2 => vec![(Subscribe, format!("lamp/{id}")), (Write, format!("lamp/{id}/state"))],
                3 => (0..40).map(|n| (Subscribe, format!("site/{id}/{n}/#"))).collect(),
                4 => vec![(Subscribe, "data/#".to_owned()), (Subscribe, "valve/+/state".to_owned())],
                _ => (0..3).map(|n| (Subscribe, format!("reply/{draw}/{n}"))).collect(),
            };
            world.visit(id, &topics);
        }
        world.later(1);
    }
    world.later(60);
    let (asked, in_vain, ahead) = (world.asked, world.in_vain(), world.ahead.len());
    assert_eq!(world.twice, 0);
    assert!(in_vain * 10 < asked, "{in_vain} of {asked} in vain, {ahead} ahead");
    assert!(ahead * 2 > asked, "{ahead} of {asked} ahead");
}

#[test]
fn strangers_that_come_and_go_fill_no_memory() {
    const CLIENTS: usize = 300;
    let mut world = World::new();
    let arrivals = NonZeroUsize::new(CLIENTS).unwrap();
    world.learner = Learner::bounded(world.keys, arrivals, Groups::bounded(1 << 20));
    for number in 0..10 * CLIENTS {
        let id = format!("{}-{number}", ["a", "b", "c"][number % 3].repeat(1 + number % 40));
        let name = format!("n{}", number % 7);
        world.comes(&id, &name);
        for topic in 0..2 {
            world.wants(&id, &name, Subscribe, &format!("{}/{topic}/{number}", "x".repeat(200)));
        }
    }
    world.learner.assert_bounded();
}
