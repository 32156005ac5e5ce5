//! A random run: clients come and go, publish and subscribe, while the API changes its verdicts about them and is
//! healthy, slow, failing, dead or sends nonsense in turn.
//!
//! Afterwards every admission and every delivery is compared with the API's answers: each needs a yes that is not older
//! than the configured times, and that no later refusal has ended. While the API was healthy, no client that it allows
//! may have been refused.
//!
//! The run takes half a minute in `make test`, and ten minutes in `make soak` (`MHA_SOAK_MINUTES`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::{
    Broker, Client, Connect, MockApi, PATIENCE, Refusal, Reply, Request, Setup, Version, api, broker_asking,
    eventually, reason,
};

const CLIENTS: usize = 12;
const TOPICS: usize = 4;

const TIMEOUT: Duration = Duration::from_secs(1);
const ALLOW_TTL: Duration = Duration::from_secs(2);
const DENY_TTL: Duration = Duration::from_secs(1);
const STALE_TTL: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What an answer may take to have its effect, on a machine that is busy.
const EFFECT: Duration = Duration::from_secs(1);

/// How long the API must have been healthy before nobody has an excuse any more: the last questions have run out,
/// overtime included, the longest pause has passed, and a probe has come back.
const SETTLED: Duration =
    TIMEOUT.saturating_mul(3).saturating_add(LONGEST_PAUSE.saturating_mul(2)).saturating_add(EFFECT);

/// How the API behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Healthy,
    Slow,
    /// Later than anybody waits, and maybe than anybody listens.
    TooSlow,
    Failing,
    Busy,
    HalfDead,
    Hanging,
    Resetting,
    HangingUp,
    Nonsense,
    Trickling,
    /// Killed, and started again when this is over.
    Dead,
}

const BAD_MOODS: [Mood; 11] = [
    Mood::Slow,
    Mood::TooSlow,
    Mood::Failing,
    Mood::Busy,
    Mood::HalfDead,
    Mood::Hanging,
    Mood::Resetting,
    Mood::HangingUp,
    Mood::Nonsense,
    Mood::Trickling,
    Mood::Dead,
];

/// A question, as the API knows it: what there is a rule about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Question {
    /// Who, with which password.
    Connect(String, String),
    /// Who, as which client, which topic, which access.
    Access(String, String, String, u64),
}

impl Question {
    fn of(request: &Request) -> Self {
        let field = |name| request.field(name).to_owned();
        match request.path.as_str() {
            "/auth" => Self::Connect(field("username"), field("password")),
            _ => Self::Access(field("username"), field("clientid"), field("topic"), request.acc()),
        }
    }
}

/// What the API said to a question, or would have said, and when.
#[derive(Default)]
struct Memory {
    /// When the rule about it changed, and to what.
    rule: Vec<(Instant, bool)>,
    /// When it was asked and allowed. (A yes that got lost counts, too: that is lenient, and rare.)
    allowed: Vec<Instant>,
    /// When it was asked and refused, for sure and at once.
    refused: Vec<Instant>,
}

/// What the API thinks and has said.
struct World {
    random: Mutex<Random>,
    moods: Mutex<Vec<(Instant, Mood)>>,
    memory: Mutex<HashMap<Question, Memory>>,
    asked: AtomicUsize,
}

impl World {
    fn new(random: Random) -> Self {
        Self {
            random: Mutex::new(random),
            moods: Mutex::new(vec![(Instant::now(), Mood::Healthy)]),
            memory: Mutex::default(),
            asked: AtomicUsize::new(0),
        }
    }

    fn set_mood(&self, mood: Mood) {
        self.moods.lock().unwrap().push((Instant::now(), mood));
    }

    fn below(&self, bound: usize) -> usize {
        self.random.lock().unwrap().below(bound)
    }

    /// Decides a question by the rules of this moment. A wrong password is always wrong.
    fn answer(&self, request: &Request) -> Reply {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let question = Question::of(request);
        let mood = self.moods.lock().unwrap().last().unwrap().1;
        let after = |reply: Reply, percent: usize| reply.after(TIMEOUT.mul_f64(percent as f64 / 100.0));
        match mood {
            Mood::Failing => return Reply::status([500, 502, 503, 408][self.below(4)]),
            Mood::Busy => return Reply::status(429).header("Retry-After", "1"),
            Mood::HalfDead if asked.is_multiple_of(3) => return Reply::Hang,
            Mood::Hanging => return Reply::Hang,
            Mood::Resetting => return Reply::Reset,
            Mood::HangingUp => return Reply::Close,
            Mood::Nonsense => return Reply::Raw(NONSENSE[self.below(NONSENSE.len())].to_vec()),
            Mood::Trickling => return Reply::byte_a_second(),
            _ => {}
        }
        let mut memory = self.memory.lock().unwrap();
        let now = Instant::now();
        let entry = memory.entry(question.clone()).or_default();
        let first = matches!(&question, Question::Connect(_, password) if password == RIGHT)
            || matches!(question, Question::Access(..));
        if entry.rule.is_empty() {
            // Whoever is not known yet is allowed, if that can be.
            entry.rule.push((now, first));
        }
        let allowed = entry.rule.last().unwrap().1;
        if allowed {
            entry.allowed.push(now);
        } else if mood == Mood::Healthy {
            entry.refused.push(now);
        }
        drop(memory);
        let reply = Reply::status(if allowed { 200 } else { [401, 403][asked % 2] });
        match mood {
            Mood::Slow => after(reply, 20 + self.below(60)),
            Mood::TooSlow => after(reply, 110 + self.below(200)),
            _ => reply,
        }
    }

    /// Changes the API's mind about something that it has been asked, so that in the long run it is against a
    /// quarter.
    fn change_a_rule(&self) {
        let (number, turns_against) = (self.below(usize::MAX), self.below(3) == 0);
        let mut memory = self.memory.lock().unwrap();
        let is_wrong = |question: &Question| matches!(question, Question::Connect(_, word) if word != RIGHT);
        let mut entries: Vec<_> = memory.iter_mut().filter(|(question, _)| !is_wrong(question)).collect();
        if entries.is_empty() {
            return;
        }
        let number = number % entries.len();
        let rule = &mut entries[number].1.rule;
        let is_allowed = rule.last().is_some_and(|(_, allowed)| *allowed);
        if !is_allowed || turns_against {
            rule.push((Instant::now(), !is_allowed));
        }
    }

    /// Whether the API was healthy all the while.
    fn was_healthy(&self, from: Instant, to: Instant) -> bool {
        let moods = self.moods.lock().unwrap();
        let began = moods.iter().rposition(|(since, _)| *since <= from);
        began.is_some_and(|first| {
            moods[first..]
                .iter()
                .take_while(|(since, _)| *since <= to)
                .all(|(_, mood)| *mood == Mood::Healthy)
        })
    }
}

const RIGHT: &str = "right";

/// Answers with something like a yes in them, and none of them is one.
const NONSENSE: [&[u8]; 6] = [
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 2",
    b"200 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"\x00\xff\x15\x03\x01",
];

/// A generator of numbers that are random enough (xorshift64*).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn duration(&mut self, least: Duration, most: Duration) -> Duration {
        least + Duration::from_millis(self.below((most - least).as_millis() as usize + 1) as u64)
    }
}

/// Something that a client did, and what came of it.
struct Deed {
    question: Question,
    sent: Instant,
    ended: Instant,
    allowed: bool,
}

/// A connection that the broker ended.
struct Loss {
    question: Question,
    at: Instant,
}

/// One client with all that it did.
struct Actor {
    username: String,
    random: Random,
    start: Instant,
    client: Option<Client>,
    deeds: Vec<Deed>,
    losses: Vec<Loss>,
    /// Payloads, each sent once, whose publishing was refused, and those that arrived.
    refused: Vec<String>,
    received: Vec<String>,
}

impl Actor {
    fn new(username: String, random: Random, start: Instant) -> Self {
        let (deeds, losses, refused, received) = Default::default();
        Self { username, random, start, client: None, deeds, losses, refused, received }
    }

    fn connect_question(&self, password: &str) -> Question {
        Question::Connect(self.username.clone(), password.to_owned())
    }

    fn access_question(&self, topic: &str, access: u64) -> Question {
        Question::Access(self.username.clone(), self.username.clone(), topic.to_owned(), access)
    }

    fn act(&mut self, port: u16) {
        match self.client.take() {
            None => self.client = self.connect(port),
            Some(client) => self.client = self.use_connection(client),
        }
    }

    fn connect(&mut self, port: u16) -> Option<Client> {
        let password = if self.random.one_in(10) { "wrong" } else { RIGHT };
        let sent = Instant::now();
        let outcome = Connect::v5(&self.username).login(&self.username, password).attempt(port);
        if let Err(Refusal::Code(code)) = outcome {
            let known = [reason::NOT_AUTHORIZED, reason::SERVER_UNAVAILABLE, reason::SERVER_BUSY];
            assert!(known.contains(&code), "{code:#x}");
        }
        let question = self.connect_question(password);
        self.deeds.push(Deed { question, sent, ended: Instant::now(), allowed: outcome.is_ok() });
        outcome.ok()
    }

    fn use_connection(&mut self, mut client: Client) -> Option<Client> {
        let topic = format!("t/{}", self.random.below(TOPICS));
        let sent = Instant::now();
        let done = match self.random.below(20) {
            0 => {
                client.disconnect();
                return None;
            }
            1 => client.try_subscribe(&[("t/#", 1)]).map(|codes| ("t/#".to_owned(), 4, codes[0])),
            2..=12 => {
                let payload = format!("{} {}", sent.duration_since(self.start).as_nanos(), self.username);
                let code = client.try_publish(&topic, &payload);
                self.refused.extend(code.filter(|code| *code >= 0x80).map(|_| payload));
                code.map(|code| (topic, 2, code))
            }
            _ => client.try_ping(PATIENCE).map(|_| (String::new(), 0, reason::SUCCESS)),
        };
        let ended = Instant::now();
        while let Some(message) = client.receive(Duration::ZERO) {
            let payload = String::from_utf8(message.payload).unwrap();
            let nanos: u64 = payload.split(' ').next().unwrap().parse().unwrap();
            self.received.push(payload);
            let question = self.access_question(&message.topic, 1);
            let published = self.start + Duration::from_nanos(nanos);
            self.deeds.push(Deed { question, sent: published, ended: Instant::now(), allowed: true });
        }
        let Some((topic, access, code)) = done else {
            assert!(client.is_closed(), "no answer in {PATIENCE:?}");
            self.losses.push(Loss { question: self.connect_question(RIGHT), at: ended });
            return None;
        };
        if access != 0 {
            let question = self.access_question(&topic, access);
            self.deeds.push(Deed { question, sent, ended, allowed: code < 0x80 });
        }
        Some(client)
    }
}

/// What came of it all.
#[derive(Default)]
struct Tally {
    deeds: usize,
    allowed: usize,
    /// Deeds for whose refusal there was no excuse, had they been refused.
    due: usize,
    losses: usize,
    wrong: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deeds, allowed, due, losses, .. } = self;
        write!(f, "{deeds} logins, publishings, subscriptions and deliveries, {allowed} of them allowed, ")?;
        write!(f, "{due} of them due; {losses} connections ended")
    }
}

impl Tally {
    fn judge(&mut self, world: &World, deed: &Deed, start: Instant) {
        let memory = world.memory.lock().unwrap();
        let nothing = Memory::default();
        let memory = memory.get(&deed.question).unwrap_or(&nothing);
        self.deeds += 1;
        self.allowed += usize::from(deed.allowed);
        let problem = if deed.allowed {
            wrongly_allowed(world, memory, deed)
        } else if is_due(world, memory, deed) {
            Some("refused, with the API healthy and for it")
        } else {
            None
        };
        self.due += usize::from(is_due(world, memory, deed));
        if let Some(problem) = problem {
            let at = deed.sent.duration_since(start);
            let took = deed.ended.duration_since(deed.sent);
            self.wrong.push(format!("{at:.3?} (took {took:.3?}): {:?}: {problem}", deed.question));
        }
    }

    /// A connection may end where the API, asked again after a SIGHUP, is against it.
    fn judge_loss(&mut self, world: &World, loss: &Loss, start: Instant) {
        self.losses += 1;
        let memory = world.memory.lock().unwrap();
        let rule = memory.get(&loss.question).map_or(&[][..], |memory| &memory.rule);
        if was_allowed(rule, loss.at - SETTLED, loss.at) {
            let at = loss.at.duration_since(start);
            self.wrong.push(format!("{at:.3?}: {:?}: disconnected, with the API for it", loss.question));
        }
    }
}

/// Why something ought not to have been allowed.
fn wrongly_allowed(world: &World, memory: &Memory, deed: &Deed) -> Option<&'static str> {
    let Deed { sent, ended, .. } = *deed;
    let yes = memory.allowed.iter().rfind(|at| **at <= ended).copied();
    let Some(yes) = yes.filter(|at| *at + ALLOW_TTL + STALE_TTL > sent) else {
        return Some("allowed without a yes, or long after the last one");
    };
    if memory
        .refused
        .iter()
        .any(|no| *no > yes && *no + EFFECT < sent && world.was_healthy(*no, *no + EFFECT))
    {
        return Some("allowed after a refusal");
    }
    if yes + ALLOW_TTL < sent && world.was_healthy(sent - SETTLED, ended) {
        return Some("served stale with the API healthy");
    }
    None
}

/// Whether there is no excuse for refusing it.
fn is_due(world: &World, memory: &Memory, deed: &Deed) -> bool {
    was_allowed(&memory.rule, deed.sent - DENY_TTL - EFFECT, deed.ended)
        && world.was_healthy(deed.sent - SETTLED, deed.ended)
}

/// Whether a rule was a yes all the while.
fn was_allowed(rule: &[(Instant, bool)], from: Instant, to: Instant) -> bool {
    let began = rule.iter().rposition(|(since, _)| *since <= from);
    began.is_some_and(|first| rule[first..].iter().take_while(|(since, _)| *since <= to).all(|(_, yes)| *yes))
}

fn setup(version: Version, api: &MockApi) -> Setup {
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    broker_asking(version, api)
        // The default; everything would be gigabytes.
        .global("log_type none\nlog_type error\nlog_type warning\nlog_type notice")
        .option("timeout", seconds(TIMEOUT))
        .option("auth_cache_ttl", seconds(ALLOW_TTL))
        .option("acl_cache_ttl", seconds(ALLOW_TTL))
        .option("deny_cache_ttl", seconds(DENY_TTL))
        .option("stale_ttl", seconds(STALE_TTL))
        // No connection ends but for a refusal.
        .option("acl_no_answer", "deny")
        .option("breaker_pause", "200ms")
        .option("breaker_longest", seconds(LONGEST_PAUSE))
        .option("throttle_after", 0)
}

/// Lets the API's mood and rules change until the time is up, and leaves it healthy.
fn play(api: &MockApi, world: &World, broker: &Broker, random: &mut Random, duration: Duration) {
    let end = Instant::now() + duration;
    let mut moods = Vec::new();
    let wait = |random: &mut Random, time: Duration| {
        let until = (Instant::now() + time).min(end);
        while Instant::now() < until {
            thread::sleep(random.duration(Duration::from_millis(50), Duration::from_millis(400)));
            for _ in 0..5 {
                world.change_a_rule();
            }
            if random.one_in(25) {
                broker.sighup();
            }
        }
    };
    while Instant::now() < end {
        wait(random, random.clone().duration(SETTLED, SETTLED + Duration::from_secs(4)));
        // Each bad mood in turn, in any order.
        if moods.is_empty() {
            moods = BAD_MOODS.to_vec();
        }
        for _ in 0..=random.below(3).min(moods.len() - 1) {
            let mood = moods.swap_remove(random.below(moods.len()));
            world.set_mood(mood);
            if mood == Mood::Dead {
                api.stop();
            }
            wait(random, random.clone().duration(Duration::from_millis(300), TIMEOUT * 3));
            if mood == Mood::Dead {
                api.restart().unwrap();
            }
        }
        world.set_mood(Mood::Healthy);
    }
}

fn soak(version: Version, seed: u64, duration: Duration) {
    let api = api("");
    let mut random = Random(seed | 1);
    let world = Arc::new(World::new(random.clone()));
    api.stop_recording();
    let answering = Arc::clone(&world);
    api.answer_with(move |request| answering.answer(request));
    let mut broker = setup(version, &api).start();
    let start = Instant::now();
    let over = AtomicBool::new(false);
    let port = broker.port();
    let run = |random: Random, name: String| {
        let mut actor = Actor::new(name, random, start);
        while !over.load(Ordering::Relaxed) {
            actor.act(port);
            thread::sleep(actor.random.duration(Duration::from_millis(5), Duration::from_millis(40)));
        }
        actor
    };
    let (before, actors) = thread::scope(|scope| {
        let actors: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let random = Random(seed ^ (number as u64 + 1) << 32 | 1);
                scope.spawn(move || (run)(random, format!("client-{number}")))
            })
            .collect();
        // Everything has been used once, and is as large as it needs to be.
        thread::sleep(SETTLED);
        let before = broker.usage();
        play(&api, &world, &broker, &mut random, duration.saturating_sub(SETTLED * 2));
        thread::sleep(SETTLED);
        over.store(true, Ordering::Relaxed);
        let actors: Vec<Actor> = actors.into_iter().map(|actor| actor.join().unwrap()).collect();
        (before, actors)
    });

    assert!(broker.is_running(), "the broker is gone");
    let mut tally = Tally::default();
    for actor in &actors {
        actor.deeds.iter().for_each(|deed| tally.judge(&world, deed, start));
        actor.losses.iter().for_each(|loss| tally.judge_loss(&world, loss, start));
    }
    let refused: HashSet<_> = actors.iter().flat_map(|actor| &actor.refused).collect();
    let received =
        actors.iter().flat_map(|actor| &actor.received).filter(|payload| refused.contains(payload));
    tally
        .wrong
        .extend(received.map(|payload| format!("{payload}: delivered though its publishing was refused")));
    let after = broker.usage();
    let asked = world.asked.load(Ordering::Relaxed);
    eprintln!(
        "mosquitto {version}, seed {seed}: {tally}; the API was asked {asked} times; {before:?}, then {after:?}"
    );
    assert!(
        tally.wrong.is_empty(),
        "{} mistakes:\n{}",
        tally.wrong.len(),
        tally.wrong[..tally.wrong.len().min(20)].join("\n")
    );
    // It was a test of something.
    assert!(tally.allowed > tally.deeds / 10 && tally.allowed < tally.deeds * 99 / 100, "{tally}");
    assert!(tally.due > tally.deeds / 20, "{tally}");

    drop(actors);
    let is_back = eventually(PATIENCE, || {
        let now = broker.usage();
        now.threads <= before.threads + 1 && now.files <= before.files + 8
    });
    let after = broker.usage();
    assert!(is_back, "threads or files have grown: {before:?}, then {after:?}");
    assert!(after.megabytes <= before.megabytes * 6 / 5 + 8, "memory has grown: {before:?}, then {after:?}");
    let (status, _) = broker.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn whatever_the_api_does_the_rules_hold() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let duration =
        number("MHA_SOAK_MINUTES").map_or(Duration::from_secs(30), |m| Duration::from_secs(m * 60));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let seed = number("MHA_SOAK_SEED").unwrap_or(now).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    thread::scope(|scope| {
        for version in [Version::V2_0_11, Version::V2_1] {
            let name = format!("broker {version}");
            let soaking = move || soak(version, seed, duration);
            thread::Builder::new().name(name).spawn_scoped(scope, soaking).unwrap();
        }
    });
}
