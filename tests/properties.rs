//! Properties that hold for any events in any order: no verdict is used past its time or for another question, local
//! users win, and everything but a clear yes is a no. The plugin is called without a broker, so that tests can set its
//! time; the API is the mock API.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use mosquitto_http_auth::internals::{
    About, Access, Broker, BrokerThread, Cache, Caller, Client, Connection, Domain, Fingerprint,
    Fingerprinter, Fresh, Grounds, Login, Look, Plugin, Question, Retain, Ruling, TopicCheck, Unread,
    Verdict,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

mod support;
use support::{MockApi, PATIENCE, Reply, api, eventually};

/// A verdict may end this much early: the cache counts in sixteenths of a second, twice rounded.
const ROUNDING: Duration = Duration::from_millis(125);

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

fn milliseconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

// The cache.

#[derive(Debug, Clone)]
enum Step {
    Insert { key: u8, allow: bool, sent_before: Duration, lifetime: Duration, unused: bool },
    Forget(u8),
    Configure { bound: usize, stale: Duration },
    Forward(Duration),
    Back(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let insert = (0..8u8, any::<bool>(), milliseconds(0..3_000), milliseconds(0..9_000), any::<bool>());
    prop_oneof![
        6 => insert.prop_map(|(key, allow, sent_before, lifetime, unused)| {
            Step::Insert { key, allow, sent_before, lifetime, unused }
        }),
        1 => (0..8u8).prop_map(Step::Forget),
        1 => (0..9usize, milliseconds(0..9_000)).prop_map(|(bound, stale)| Step::Configure { bound, stale }),
        6 => milliseconds(0..3_000).prop_map(Step::Forward),
        // Another thread's question may be older than what was looked up last.
        2 => milliseconds(0..1_000).prop_map(Step::Back),
    ]
}

/// Whatever the cache gives is what was put in last for that key, in its time; and it holds no more than it may.
#[test]
fn the_cache_gives_nothing_past_its_time_and_keeps_its_bound() {
    let keys = Fingerprinter::with_key(&[7; 16]);
    runner(2_000)
        .run(&prop::collection::vec(step(), 0..120), |steps| {
            let start = Instant::now();
            let mut now = start + Duration::from_secs(60);
            let (mut bound, mut stale) = (4, Duration::ZERO);
            let mut cache = Cache::new(bound, stale, start);
            let mut last: HashMap<u8, (Verdict, Instant)> = HashMap::new();
            for step in steps {
                match step {
                    Step::Insert { key, allow, sent_before, lifetime, unused } => {
                        let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
                        let since = now - sent_before;
                        let fresh = Fresh {
                            verdict,
                            grounds: Grounds::Status(if allow { 200 } else { 403 }),
                            since,
                            lifetime,
                            about: About::default(),
                        };
                        let fingerprint = keys.fields(Domain::Client, [&[key]]);
                        let client = keys.fields(Domain::Session, [&[key / 2]]);
                        if unused {
                            cache.insert_unused(fingerprint, client, fresh);
                        } else {
                            cache.insert(fingerprint, client, fresh);
                        }
                        last.insert(key, (verdict, since + lifetime));
                    }
                    Step::Forget(key) => {
                        cache.forget(keys.fields(Domain::Client, [&[key]]));
                        last.remove(&key);
                    }
                    Step::Configure { bound: new_bound, stale: new_stale } => {
                        (bound, stale) = (new_bound, new_stale);
                        cache.configure(bound, stale);
                    }
                    Step::Forward(time) => now += time,
                    Step::Back(time) => now = (now - time).max(start),
                }
                for key in 0..8u8 {
                    let fingerprint = keys.fields(Domain::Client, [&[key]]);
                    let good = last.get(&key).filter(|(_, end)| now < *end).map(|(verdict, _)| *verdict);
                    let peeked = cache.peek(fingerprint, now);
                    prop_assert!(peeked.is_none() || peeked == good, "{key}: {peeked:?}, {good:?}");
                    let serves = last
                        .get(&key)
                        .is_some_and(|(verdict, end)| *verdict == Verdict::Allow && now < *end + stale);
                    prop_assert!(serves || cache.stale_allow(fingerprint, now).is_none(), "{key} serves");
                }
                // Looking up changes what is there, so it is done for one of them only.
                let key = cache.len() as u8 % 8;
                let hit = cache.get(keys.fields(Domain::Client, [&[key]]), now);
                let good = last.get(&key).filter(|(_, end)| now < *end).map(|(verdict, _)| *verdict);
                prop_assert!(
                    hit.is_none() || hit.as_ref().map(|hit| hit.verdict) == good,
                    "{key}: {hit:?}, {good:?}"
                );
                prop_assert!(cache.len() <= 2 * bound + bound / 4, "{} of {bound}", cache.len());
            }
            Ok(())
        })
        .unwrap();
}

// Questions.

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Asked {
    Connect { username: String, password: String },
    Access { username: String, client_id: String, topic: String, access: u8 },
}

impl Asked {
    fn question(&self) -> Question<'_> {
        match self {
            Self::Connect { username, password } => Question::Connect { username, password, more: "" },
            Self::Access { username, client_id, topic, access } => {
                Question::Access { username, client_id, topic, access: access_of(*access), more: "" }
            }
        }
    }

    /// What the API has to say about it: nothing that can be guessed from one question for the next.
    fn is_allowed(&self) -> bool {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish() & 1 == 0
    }
}

fn access_of(number: u8) -> Access {
    match number {
        1 => Access::Read,
        2 => Access::Write,
        _ => Access::Subscribe,
    }
}

/// Text that looks the same in many ways once it is put together: what may separate fields, and little else.
fn text(at_least: usize) -> impl Strategy<Value = String> {
    let piece =
        prop::sample::select(vec!["a", "b", "-", ":", "/", "\"", "\\", ",", "{", "é", " ", "\n", "2"]);
    prop::collection::vec(piece, at_least..4).prop_map(|pieces| pieces.concat())
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        (text(1), text(0)).prop_map(|(username, password)| Asked::Connect { username, password }),
        (text(1), text(0), text(0), prop::sample::select(vec![1u8, 2, 4])).prop_map(
            |(username, client_id, topic, access)| Asked::Access { username, client_id, topic, access }
        ),
    ]
}

#[test]
fn two_questions_have_one_fingerprint_only_if_they_are_the_same() {
    let keys = Fingerprinter::with_key(b"0123456789abcdef");
    runner(500)
        .run(&prop::collection::vec(asked(), 2..200), |questions| {
            let mut known: HashMap<Fingerprint, Asked> = HashMap::new();
            for asked in questions {
                let other = known.entry(keys.question(&asked.question())).or_insert_with(|| asked.clone());
                prop_assert_eq!(&*other, &asked);
            }
            Ok(())
        })
        .unwrap();
}

// The plugin.

/// A broker without clients of its own: whoever is let in has a session.
struct NoBroker {
    is_2_1: bool,
    thread: ThreadId,
    connecting: Mutex<Option<Connection>>,
    sessions: Mutex<HashMap<String, Connection>>,
    completed: Mutex<HashMap<String, bool>>,
}

impl Broker for NoBroker {
    fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().spawn(body)
    }
    fn caller(&self) -> Caller {
        assert_eq!(thread::current().id(), self.thread, "nobody else asks");
        Caller::Broker(BrokerThread::vouched_for())
    }
    fn is_2_1(&self) -> bool {
        self.is_2_1
    }
    fn can_wake(&self, _: &BrokerThread) -> bool {
        true
    }
    fn wake(&self) {}
    fn is_session(&self, _: &BrokerThread, client_id: &str, connection: Connection) -> bool {
        self.sessions.lock().unwrap().get(client_id) == Some(&connection)
    }
    fn complete_login(&self, _: &BrokerThread, client_id: &str, allow: bool) {
        if let Some(connection) = self.connecting.lock().unwrap().filter(|_| allow) {
            self.sessions.lock().unwrap().insert(client_id.to_owned(), connection);
        }
        self.completed.lock().unwrap().insert(client_id.to_owned(), allow);
    }
    fn kick(&self, _: &BrokerThread, _: &str, _: &str) {}
    fn peek(&self, _: &BrokerThread, _: Look<'_>, _: &mut dyn FnMut(Unread<'_>)) {}
}

/// A plugin in that broker.
struct Subject {
    plugin: Plugin,
    host: Arc<NoBroker>,
    next_connection: Connection,
}

impl Subject {
    fn start(is_2_1: bool, api: &MockApi, options: &[(&str, &str)]) -> Self {
        let host = Arc::new(NoBroker {
            is_2_1,
            thread: thread::current().id(),
            connecting: Mutex::default(),
            sessions: Mutex::default(),
            completed: Mutex::default(),
        });
        let urls = [("auth_url", api.auth_url()), ("acl_url", api.acl_url())];
        // Neither is about what is tried here, and both refuse.
        let off = [("throttle_after", "0"), ("breaker_after", "0"), ("special_chars", "allow")];
        let given = off.iter().chain(options).map(|(name, value)| (*name, (*value).to_owned()));
        let options = urls.into_iter().chain(given).map(|(name, value)| (name.to_owned(), value)).collect();
        let broker = Arc::clone(&host) as Arc<dyn Broker>;
        let plugin = Plugin::new(options, broker, &BrokerThread::vouched_for(), Instant::now())
            .unwrap_or_else(|errors| panic!("{errors:?}"));
        Self { plugin, host, next_connection: 1 }
    }

    /// A login to its end. "Defer" is no end: nobody is behind this plugin.
    fn log_in(&mut self, client_id: &str, username: &str, password: Option<&[u8]>) -> (Connection, bool) {
        let connection = self.next_connection;
        self.next_connection += 1;
        self.host.sessions.lock().unwrap().remove(client_id);
        self.host.completed.lock().unwrap().remove(client_id);
        *self.host.connecting.lock().unwrap() = Some(connection);
        let login = Login {
            client: client(client_id, connection),
            username: Some(username),
            password,
            starts_clean: true,
            level: 4,
            details: &(),
        };
        self.plugin.tick(&self.host.caller(), Instant::now());
        let allowed = match self.plugin.authenticate(&login, &self.host.caller(), Instant::now()).ruling {
            Ruling::Allow => {
                self.host.sessions.lock().unwrap().insert(client_id.to_owned(), connection);
                true
            }
            Ruling::Deny => false,
            Ruling::Later => {
                let completed = || {
                    self.plugin.tick(&self.host.caller(), Instant::now());
                    self.host.completed.lock().unwrap().contains_key(client_id)
                };
                if !eventually(PATIENCE, completed) {
                    let log: Vec<_> = std::iter::from_fn(|| self.plugin.log().next()).collect();
                    panic!("{client_id} is never completed; the log: {log:#?}");
                }
                self.host.completed.lock().unwrap()[client_id]
            }
            other => panic!("{username:?} gets {other:?}"),
        };
        (connection, allowed)
    }

    fn check(&self, client: Client<'_>, username: &str, topic: &str, access: Access, now: Instant) -> bool {
        self.plugin.tick(&self.host.caller(), now);
        match self
            .plugin
            .authorise(
                &TopicCheck {
                    client,
                    username: Some(username),
                    topic,
                    access,
                    qos: 0,
                    retain: Retain::No,
                    details: &(),
                },
                &self.host.caller(),
                now,
            )
            .ruling
        {
            Ruling::Allow => true,
            Ruling::Deny => false,
            other => panic!("{username:?} gets {other:?} for {topic:?}"),
        }
    }
}

fn client(id: &str, connection: Connection) -> Client<'_> {
    Client { connection, id, address: Some("192.0.2.1") }
}

#[test]
fn each_question_gets_its_own_answer() {
    let api = api("");
    api.stop_recording();
    api.answer_with(|request| {
        let field = |name| request.field(name).to_owned();
        let asked = if request.path == "/auth" {
            Asked::Connect { username: field("username"), password: field("password") }
        } else {
            let access = request.acc() as u8;
            Asked::Access {
                username: field("username"),
                client_id: field("clientid"),
                topic: field("topic"),
                access,
            }
        };
        Reply::status(if asked.is_allowed() { 200 } else { 403 })
    });
    let strategy =
        (any::<bool>(), prop::collection::vec(asked(), 1..100), prop::collection::vec(0..100usize, 100));
    runner(40)
        .run(&strategy, |(is_2_1, questions, again)| {
            let mut subject =
                Subject::start(is_2_1, &api, &[("auth_cache_ttl", "1h"), ("acl_cache_ttl", "1h")]);
            let repeated = again.iter().filter_map(|index| questions.get(*index));
            for asked in questions.iter().chain(repeated) {
                let allowed = match asked {
                    Asked::Connect { username, password } => {
                        subject.log_in("questioner", username, Some(password.as_bytes())).1
                    }
                    Asked::Access { username, client_id, topic, access } => {
                        let client = client(client_id, 0);
                        subject.check(client, username, topic, access_of(*access), Instant::now())
                    }
                };
                prop_assert_eq!(allowed, asked.is_allowed(), "{:?}", asked);
            }
            Ok(())
        })
        .unwrap();
}

/// What the API, and the options, say about how long a yes holds.
#[derive(Debug, Clone)]
struct Times {
    option: u64,
    stale: u64,
    cache_control: Option<String>,
    heeds_cache_control: bool,
}

impl Times {
    fn lifetime(&self) -> Duration {
        let said = self.cache_control.as_deref().filter(|_| self.heeds_cache_control);
        let seconds = match said {
            Some(said) if said.contains("no-store") => 0,
            Some(said) => said.trim_start_matches("max-age=").parse().unwrap(),
            None => self.option,
        };
        Duration::from_secs(seconds)
    }
}

fn times() -> impl Strategy<Value = Times> {
    let cache_control = prop_oneof![
        (0..60u64).prop_map(|seconds| Some(format!("max-age={seconds}"))),
        Just(Some("no-store".to_owned())),
        Just(Some("max-age=30, no-store".to_owned())),
        Just(None),
    ];
    (0..60u64, prop_oneof![Just(0), 1..60u64], cache_control, any::<bool>()).prop_map(
        |(option, stale, cache_control, heeds_cache_control)| Times {
            option,
            stale,
            cache_control,
            heeds_cache_control,
        },
    )
}

/// A yes holds for its time and for no longer; `stale_ttl` lengthens it only while there is no answer.
#[test]
fn no_verdict_is_used_past_its_time() {
    let api = api("");
    api.stop_recording();
    let strategy = (any::<bool>(), times(), prop::collection::vec(milliseconds(0..130_000), 1..12));
    runner(150)
        .run(&strategy, |(is_2_1, times, moments)| {
            let (ttl, stale) = (format!("{}s", times.option), format!("{}s", times.stale));
            let heeds = times.heeds_cache_control.to_string();
            let options = [("acl_cache_ttl", &*ttl), ("stale_ttl", &stale), ("api_cache_control", &heeds)];
            let subject = Subject::start(is_2_1, &api, &options);
            let check = |now| subject.check(client("c", 0), "u", "t", Access::Write, now);
            let yes = Reply::status(200);
            api.answer(match &times.cache_control {
                Some(value) => yes.header("Cache-Control", value),
                None => yes,
            });
            let before = Instant::now();
            prop_assert!(check(before));
            let after = Instant::now();
            let lifetime = times.lifetime();
            // Of the time up to a fifth is taken away; none of what comes on top.
            let stale = if lifetime.is_zero() { Duration::ZERO } else { Duration::from_secs(times.stale) };
            let sure = (lifetime.mul_f64(0.8) + stale).saturating_sub(ROUNDING);
            let longest = lifetime + stale;
            api.answer(Reply::status(503));
            for (index, moment) in moments.iter().enumerate() {
                let now = before + *moment;
                let allowed = check(now);
                prop_assert!(!allowed || now < after + longest, "allowed after {:?}, {:?}", moment, times);
                // It may have been looked for when its time was over, and the clock be back.
                let is_sure = index == 0 && *moment < sure;
                prop_assert!(allowed || !is_sure, "refused after {:?}, {:?}", moment, times);
            }
            // A no ends it, whatever time there was.
            api.answer(Reply::status(403));
            let over = before + lifetime + ROUNDING;
            prop_assert!(!check(over));
            api.answer(Reply::status(503));
            for now in [before, over, over + Duration::from_secs(times.stale)] {
                prop_assert!(!check(now), "a no is forgotten, {:?}", times);
            }
            Ok(())
        })
        .unwrap();
}

// Local users.

const NAMES: [&str; 4] = ["alice", "bob", "ALICE", "alicebob"];
const PASSWORDS: [&str; 4] = ["", "a", "b", "alice"];

/// Who is a local user, with which of the passwords.
type Users = [Option<usize>; NAMES.len()];

#[derive(Debug, Clone)]
enum Move {
    LogIn { name: usize, password: Option<usize> },
    Check { name: usize, access: Access, topic: &'static str },
    Reload(Users),
    Api(u16),
}

fn a_move() -> impl Strategy<Value = Move> {
    let password = prop::option::of(0..PASSWORDS.len());
    let access = prop::sample::select(vec![Access::Read, Access::Write]);
    let topic = prop::sample::select(vec!["allowed", "other"]);
    prop_oneof![
        6 => (0..NAMES.len(), password).prop_map(|(name, password)| Move::LogIn { name, password }),
        6 => (0..NAMES.len(), access, topic).prop_map(|(name, access, topic)| Move::Check { name, access, topic }),
        1 => users().prop_map(Move::Reload),
        2 => prop::sample::select(vec![200u16, 403, 503]).prop_map(Move::Api),
    ]
}

fn users() -> impl Strategy<Value = Users> {
    prop::array::uniform(prop::option::of(0..PASSWORDS.len()))
}

fn write_users(folder: &Path, users: &Users) {
    let lines = NAMES.iter().zip(users).filter_map(|(name, password)| {
        let salt = [9; 12];
        let hash = ring::digest::digest(
            &ring::digest::SHA512,
            &[PASSWORDS[(*password)?].as_bytes(), &salt].concat(),
        );
        Some(format!("{name}:$6${}${}\n", BASE64_STANDARD.encode(salt), BASE64_STANDARD.encode(hash)))
    });
    fs::write(folder.join("users"), lines.collect::<String>()).unwrap();
}

/// A name that is local is judged by its hash and its rules, whatever the API says or has said and whatever is
/// remembered, and the API hears nothing of it.
#[test]
fn local_users_always_win() {
    let api = api("");
    let folder = TempDir::new().unwrap();
    let rules: String = NAMES.iter().map(|name| format!("user {name}\ntopic read allowed\n")).collect();
    fs::write(folder.path().join("rules"), rules).unwrap();
    let (user_file, rule_file) = (folder.path().join("users"), folder.path().join("rules"));
    let ttl = prop::sample::select(vec!["0", "1h"]);
    let strategy = (any::<bool>(), ttl, users(), prop::collection::vec(a_move(), 1..60));
    runner(100)
        .run(&strategy, |(is_2_1, ttl, users, moves)| {
            let mut local = users;
            write_users(folder.path(), &local);
            let options = [
                ("password_file", user_file.to_str().unwrap()),
                ("acl_file", rule_file.to_str().unwrap()),
                ("auth_cache_ttl", ttl),
                ("acl_cache_ttl", ttl),
                ("deny_cache_ttl", ttl),
            ];
            let mut subject = Subject::start(is_2_1, &api, &options);
            let mut answer = 200;
            api.answer(Reply::status(answer));
            // Who is connected, by its number.
            let mut connected: HashMap<usize, Connection> = HashMap::new();
            for step in moves {
                api.forget_requests();
                match step {
                    Move::LogIn { name, password } => {
                        let sent = password.map(|password| PASSWORDS[password]);
                        let (connection, allowed) =
                            subject.log_in(NAMES[name], NAMES[name], sent.map(str::as_bytes));
                        match local[name] {
                            Some(right) => {
                                prop_assert_eq!(
                                    allowed,
                                    password == Some(right),
                                    "{:?}: {:?}",
                                    NAMES[name],
                                    sent
                                );
                                prop_assert!(
                                    api.requests().is_empty(),
                                    "the API is asked about a local user"
                                );
                            }
                            None if ttl == "0" => prop_assert_eq!(allowed, answer == 200),
                            None => {}
                        }
                        if allowed {
                            connected.insert(name, connection);
                        } else {
                            connected.remove(&name);
                        }
                    }
                    Move::Check { name, access, topic } => {
                        let Some(connection) = connected.get(&name) else { continue };
                        let client = client(NAMES[name], *connection);
                        let allowed = subject.check(client, NAMES[name], topic, access, Instant::now());
                        if local[name].is_some() {
                            let may = access == Access::Read && topic == "allowed";
                            prop_assert_eq!(allowed, may, "{:?}: {:?} of {:?}", NAMES[name], access, topic);
                            prop_assert!(api.requests().is_empty(), "the API is asked about a local user");
                        } else if ttl == "0" {
                            prop_assert_eq!(allowed, answer == 200);
                        }
                    }
                    Move::Reload(users) => {
                        let has_any = |users: &[Option<usize>]| users.iter().any(Option::is_some);
                        // That would be taken for a file that is half written.
                        if has_any(&local) && !has_any(&users) {
                            continue;
                        }
                        // The broker checks everybody again, and those whose password is another now have to go.
                        connected.retain(|&name, _| users[name].is_none() || users[name] == local[name]);
                        local = users;
                        write_users(folder.path(), &local);
                        subject.plugin.reload(&subject.host.caller(), Instant::now());
                    }
                    Move::Api(status) => {
                        answer = status;
                        api.answer(Reply::status(status));
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

// Failures.

fn no_yes() -> impl Strategy<Value = Reply> {
    // So late that no machine is busy enough to see it in time.
    let late = Duration::from_secs(5);
    prop_oneof![
        6 => (101..600u16).prop_filter("is a yes", |status| *status != 200).prop_map(Reply::status),
        6 => prop::sample::select(vec![201u16, 202, 203, 204, 205, 206, 300, 304]).prop_map(Reply::status),
        1 => Just(Reply::Hang),
        1 => Just(Reply::Reset),
        1 => Just(Reply::Close),
        1 => Just(Reply::garbage()),
        1 => Just(Reply::huge_headers()),
        1 => Just(Reply::byte_a_second()),
        1 => Just(Reply::endless_headers()),
        1 => Just(Reply::redirect("/yes")),
        1 => Just(Reply::status(200).after(late)),
        1 => Just(Reply::status(403).body(b"{\"status\": 200}")),
        1 => (0..19usize).prop_map(|length| Reply::Raw(b"HTTP/1.1 200 OK\r\n\r\n"[..length].to_vec())),
    ]
}

/// Whatever an API does but answer 200 in time: nobody comes in or through by it, and nobody is passed on.
#[test]
fn every_failure_denies() {
    let api = api("");
    api.stop_recording();
    for is_2_1 in [false, true] {
        let mut subject = Subject::start(is_2_1, &api, &[("timeout", "200ms"), ("stale_ttl", "1h")]);
        let mut random = runner(1);
        let mut number = 0;
        let mut new_name = || {
            number += 1;
            format!("user-{number}")
        };
        for _ in 0..60 {
            let reply = no_yes().new_tree(&mut random).unwrap().current();
            let shown = format!("{reply:?}");
            api.answer_with(
                move |request| if request.path == "/yes" { Reply::status(200) } else { reply.clone() },
            );
            let name = new_name();
            assert!(!subject.log_in(&name, &name, Some(b"secret")).1, "somebody is let in by {shown}");
            let check = |access| subject.check(client(&name, 0), &name, "t", access, Instant::now());
            assert!(!check(Access::Read) && !check(Access::Write), "somebody gets through by {shown}");
        }
        // It was not for want of asking.
        api.answer(Reply::status(200));
        let name = new_name();
        assert!(eventually(PATIENCE, || subject.log_in(&name, &name, Some(b"secret")).1));
        let check = || subject.check(client(&name, 0), &name, "t", Access::Write, Instant::now());
        assert!(eventually(PATIENCE, check));
    }
    // Nor where nobody listens.
    api.stop();
    for is_2_1 in [false, true] {
        let mut subject = Subject::start(is_2_1, &api, &[]);
        assert!(!subject.log_in("nobody", "u", Some(b"secret")).1);
        assert!(!subject.check(client("c", 0), "u", "t", Access::Write, Instant::now()));
    }
}
