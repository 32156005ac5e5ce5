//! A session has the rights that its own login gave it, and no others: not those of a username that has become local,
//! of a reused memory address, or of a client id.

use std::fs;
use std::thread;
use std::time::Duration;

mod support;
use support::broker::plugin;
use support::tls::{Authority, TlsTunnel, Validity};
use support::{
    A_WHILE, Broker, Client, Connect, MockApi, PATIENCE, Protocol, Reply, Request, Setup, Version, Will, api,
    broker_asking, eventually, on_every_broker,
};

/// The password of all local users here.
const PASSWORD: &str = "correct horse";

const READ: u64 = 1;

/// The hash of one of the users in the fixture; that of `with space` is of another password than the others'.
fn hash(name: &str) -> &'static str {
    let lines = include_str!("fixtures/passwd-2.0.11").lines();
    lines.filter_map(|line| line.split_once(':')).find(|(user, _)| *user == name).unwrap().1
}

/// A password file with these users, who all have the one password.
fn password_file(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name}:{}\n", hash("sha512"))).collect()
}

/// Lets in whoever has the password "secret", and refuses all topics of these users.
fn api_against(names: &'static [&'static str]) -> MockApi {
    let api = api("");
    api.answer_with(move |request| {
        let allowed = match request.path.as_str() {
            "/auth" => request.field("password") == "secret",
            _ => !names.contains(&request.field("username")),
        };
        Reply::status(if allowed { 200 } else { 403 })
    });
    api
}

/// A broker that remembers nothing, with these local users.
fn broker_with(version: Version, api: &MockApi, names: &[&str]) -> Setup {
    ["auth_cache_ttl", "acl_cache_ttl", "deny_cache_ttl", "throttle_after"]
        .into_iter()
        .fold(broker_asking(version, api), |setup, option| setup.option(option, 0))
        .file("passwords", password_file(names))
        .option("password_file", "passwords")
}

fn watcher(port: u16, filter: &str) -> Client {
    let mut watcher = Connect::v5("watcher").login("watcher", PASSWORD).accepted(port);
    assert!(watcher.may_subscribe(filter));
    watcher
}

/// Sends SIGHUP and waits until all who are connected have been gone through.
fn reload(broker: &Broker, port: u16) {
    let reloads = || broker.log().matches("Reloading config").count();
    let before = reloads();
    broker.sighup();
    assert!(eventually(PATIENCE, || reloads() > before), "the broker reloads");
    drop(Connect::v5("behind").login("watcher", PASSWORD).accepted(port));
}

/// Point 1. Where two listeners use one plugin, the broker says RELOAD twice. The second reading finds nothing new.
#[test]
fn a_second_reload_lets_no_old_password_stay() {
    let api = api_against(&["becomes-local"]);
    let broker = Broker::with(Version::V2_1)
        .without_plugin()
        .global(format!("plugin_load auth {}", plugin().display()))
        .global(format!("plugin_opt_auth_url {}", api.auth_url()))
        .global(format!("plugin_opt_acl_url {}", api.acl_url()))
        .global("plugin_opt_password_file passwords")
        .file("passwords", password_file(&["watcher", "changed", "unchanged"]))
        .line("plugin_use auth")
        .listener(["plugin_use auth"])
        .start();
    let port = broker.port();
    let mut watcher = watcher(port, "forbidden/#");
    let mut changed = Connect::v5("changed").login("changed", PASSWORD).accepted(port);
    let mut unchanged = Connect::v5("unchanged").login("unchanged", PASSWORD).accepted(port);
    let mut becomes_local = Connect::v5("becomes-local").login("becomes-local", "secret").accepted(port);
    let other = hash("with space");
    let passwords =
        password_file(&["watcher", "unchanged"]) + &format!("changed:{other}\nbecomes-local:{other}\n");
    fs::write(broker.folder().join("passwords"), passwords).unwrap();
    reload(&broker, port);
    assert_eq!(broker.log().matches("Files are re-read").count(), 2, "one for each listener");
    let mut stayed = Vec::new();
    if !changed.wait_until_closed(A_WHILE) {
        stayed.push("who has an old password");
    }
    if !becomes_local.wait_until_closed(A_WHILE) {
        stayed.push("who was let in by the API under a name that is local now");
        becomes_local.publish("forbidden/x", "x");
        if watcher.receive(A_WHILE).is_some() {
            stayed.push("and has a local user's rights");
        }
    }
    assert!(stayed.is_empty(), "connected after the reload: {stayed:?}");
    unchanged.ping();
}

/// Point 2. The will of a session that the API let in is the API's business, whatever has become of the name.
#[test]
fn the_will_of_who_the_api_let_in_goes_by_the_api() {
    on_every_broker(|version| {
        let api = api_against(&["sleeper"]);
        let broker = broker_with(version, &api, &["watcher"]).start();
        let port = broker.port();
        let mut watcher = watcher(port, "forbidden/#");
        let will = Will { topic: b"forbidden/will".to_vec(), payload: b"x".to_vec(), qos: 1, retain: false };
        let connect = Connect::v5("sleeper").login("sleeper", "secret").durable().session_expiry(600);
        drop(connect.will(will).will_delay(2).accepted(port));
        // The broker has noticed that it is gone.
        broker.wait_for_log("Client sleeper", PATIENCE);
        fs::write(broker.folder().join("passwords"), password_file(&["watcher", "sleeper"])).unwrap();
        reload(&broker, port);
        let asked = || api.topic_checks().iter().any(|request| request.field("topic") == "forbidden/will");
        let published = watcher.receive(Duration::from_secs(5)).is_some();
        assert!(!published, "a will was published that the API forbids; was it asked? {}", asked());
    });
}

/// Point 2. And so is what the session reads while it sleeps.
#[test]
fn what_a_session_reads_that_the_api_let_in_goes_by_the_api() {
    on_every_broker(|version| {
        let api = api_against(&[]);
        let broker = broker_with(version, &api, &["watcher"]).start();
        let port = broker.port();
        let mut watcher = watcher(port, "other");
        let mut sleeper =
            Connect::v5("sleeper").login("sleeper", "secret").durable().session_expiry(600).accepted(port);
        assert!(sleeper.may_subscribe("news/#"));
        sleeper.disconnect();
        fs::write(broker.folder().join("passwords"), password_file(&["watcher", "sleeper"])).unwrap();
        reload(&broker, port);
        api.forget_requests();
        watcher.publish_acknowledged("news/1", "x");
        let is_it = |request: &Request| request.acc() == READ && request.field("username") == "sleeper";
        assert!(api.topic_checks().iter().any(is_it), "the message was queued without a question");
    });
}

/// A broker with a second listener, where the certificate names the user, and a way to it for clients without TLS.
struct CertificateStage {
    broker: Broker,
    tunnel: TlsTunnel,
    watcher: Client,
}

impl CertificateStage {
    fn new(version: Version, api: &MockApi) -> Self {
        let authority = Authority::new("authority");
        let server = authority.issue("IP:127.0.0.1", &Validity::NOW);
        let alice = authority.issue_to("alice", "DNS:alice", &Validity::NOW);
        let broker = broker_with(version, api, &["watcher", "alice"])
            .file("ca.pem", &authority.certificate)
            .tls_listener(
                &server,
                &["cafile ca.pem", "require_certificate true", "use_identity_as_username true"],
            )
            .start();
        let tunnel = TlsTunnel::start(broker.ports()[1], &alice, &authority);
        let watcher = watcher(broker.port(), "written/#");
        Self { broker, tunnel, watcher }
    }

    /// Somebody with alice's certificate, and without her password.
    fn by_certificate(&self, connect: &Connect) -> Client {
        connect.accepted(self.tunnel.port())
    }

    /// Whether a message of a client gets through to the watcher.
    fn may_write(&mut self, client: &mut Client) -> bool {
        client.publish_acknowledged("written/x", "x");
        self.watcher.publish_acknowledged("written/last", "x");
        let mut got_through = false;
        loop {
            match self.watcher.receive(PATIENCE).expect("the last message").topic.as_str() {
                "written/last" => return got_through,
                _ => got_through = true,
            }
        }
    }
}

/// Point 3. A session of a local user has expired, and its memory goes to others. Whoever gets it by a certificate
/// gets no rights with it.
#[test]
fn the_rights_of_an_expired_session_do_not_go_with_its_memory() {
    const EXPIRED: usize = 30;
    const TRIES: usize = 60;
    on_every_broker(|version| {
        let api = api_against(&["alice"]);
        let mut stage = CertificateStage::new(version, &api);
        let port = stage.broker.port();
        let login = |name: &str| Connect::v5(name).login("alice", PASSWORD).session_expiry(1);
        let crowd: Vec<_> = (0..EXPIRED).map(|n| login(&format!("x-{n}")).accepted(port)).collect();
        crowd.into_iter().for_each(Client::disconnect);
        let last = || stage.broker.log().matches("Expiring client x-").count() == EXPIRED;
        assert!(eventually(PATIENCE, last), "the sessions expire");
        // Connections that do nothing take up other places, one after the other.
        let (mut idle, mut inherited) = (Vec::new(), 0);
        for number in 0..TRIES {
            let mut client = stage.by_certificate(&Connect::v5(format!("x-{}", number % EXPIRED)));
            inherited += usize::from(stage.may_write(&mut client));
            client.disconnect();
            if number % 2 == 0 {
                idle.push(Client::open(port, Protocol::V5));
            }
        }
        assert_eq!(inherited, 0, "of {TRIES} clients with a certificate so many wrote as the local user");
    });
}

/// Point 3. The same by taking over a session again and again: its connections get each other's places in memory.
#[test]
fn the_rights_of_a_session_do_not_go_to_who_takes_it_over() {
    const TRIES: usize = 20;
    on_every_broker(|version| {
        let api = api_against(&["alice"]);
        let mut found = Vec::new();
        for is_connected in [false, true] {
            let mut stage = CertificateStage::new(version, &api);
            let alice = Connect::v5("reader").login("alice", PASSWORD).durable();
            let mut first = alice.accepted(stage.broker.port());
            assert!(first.may_subscribe("secret/#"));
            let mut last = Some(alice.accepted(stage.broker.port()));
            if !is_connected {
                last.take().unwrap().disconnect();
            }
            let (mut read, mut wrote) = (0, 0);
            for _ in 0..TRIES {
                let mut client = stage.by_certificate(&Connect::v5("reader").durable());
                stage.watcher.publish_acknowledged("secret/1", "x");
                read += usize::from(client.receive(Duration::from_millis(30)).is_some());
                wrote += usize::from(stage.may_write(&mut client));
                last = Some(client);
            }
            drop(last);
            found.push((read, wrote));
        }
        let outcome = "of as many clients with a certificate so many read, and wrote, as the local user; she had left, \
                       and was connected";
        assert_eq!(found, [(0, 0); 2], "of {TRIES}: {outcome}");
    });
}

/// Whoever comes under alice's client id, and what of hers they get to read.
fn what_a_take_over_reads(setup: Setup, api: &MockApi) -> (Vec<String>, usize) {
    let broker = setup.start();
    let port = broker.port();
    let mut writer = Connect::v5("writer").login("writer", "secret").accepted(port);
    let mut alice = Connect::v5("alice-1").login("alice", "secret").durable().accepted(port);
    assert!(alice.may_subscribe("private/#"));
    alice.disconnect();
    writer.publish_acknowledged("private/queued", "x");
    api.forget_requests();
    let mut mallory = Connect::v5("alice-1").login("mallory", "secret").durable().accepted(port);
    writer.publish_acknowledged("private/live", "x");
    let read: Vec<_> = std::iter::from_fn(|| mallory.receive(A_WHILE)).map(|message| message.topic).collect();
    let is_it = |request: &Request| request.acc() == READ && request.field("username") == "mallory";
    (read, api.topic_checks().into_iter().filter(is_it).count())
}

/// Point 4. READ is implied only by what this username subscribed to in this session.
#[test]
fn whoever_takes_over_a_client_id_does_not_read_by_its_subscriptions() {
    on_every_broker(|version| {
        let api = api_against(&["mallory"]);
        let setup = broker_asking(version, &api).option("acl_checks", "write,subscribe");
        let (read, asked) = what_a_take_over_reads(setup, &api);
        assert!(read.is_empty(), "mallory read {read:?}, and the API was asked about her {asked} times");
    });
}

/// Point 4. Where READ is asked about, it is with the new name.
#[test]
fn reads_of_a_session_that_was_taken_over_are_asked_with_the_new_name() {
    on_every_broker(|version| {
        let api = api_against(&["mallory"]);
        let (read, asked) = what_a_take_over_reads(broker_asking(version, &api), &api);
        assert!(read.is_empty(), "mallory read {read:?}");
        assert_eq!(asked, 2, "of the queued and of the live message");
    });
}

/// Point 5. A take-over that comes to nothing, because its client has hung up by then, gives nothing back to the
/// connection that it has ended.
#[test]
fn a_take_over_that_comes_to_nothing_revives_no_connection() {
    const TRIES: usize = 20;
    let api = api_against(&["alice"]);
    let mut stage = CertificateStage::new(Version::V2_1, &api);
    let port = stage.broker.port();
    let slow =
        include_str!("fixtures/passwd-argon2id").lines().find_map(|line| line.strip_prefix("command:"));
    let passwords = password_file(&["watcher"]) + &format!("alice:{}\n", slow.unwrap());
    fs::write(stage.broker.folder().join("passwords"), passwords).unwrap();
    reload(&stage.broker, port);
    let mut bystander = Connect::v5("bystander").login("bystander", "secret").accepted(port);
    let alice = Connect::v5("x").login("alice", PASSWORD);
    let mut first = alice.accepted(port);
    // While the broker waits for the API, her second login is found to be right, and she hangs up.
    api.answer_with(|request| match request.field("topic") {
        "gate" => Reply::status(200).after(Duration::from_secs(2)),
        _ => Reply::status(403),
    });
    let second = alice.send(port);
    // The broker has read it by then, and has not compared the password yet.
    thread::sleep(Duration::from_millis(10));
    bystander.publish("gate", "x");
    thread::sleep(Duration::from_millis(1500));
    second.hang_up();
    assert!(first.wait_until_closed(PATIENCE), "the second login takes over");
    let mut wrote = 0;
    let mut last = None;
    for _ in 0..TRIES {
        let mut client = stage.by_certificate(&Connect::v5("x"));
        wrote += usize::from(stage.may_write(&mut client));
        last = Some(client);
    }
    drop(last);
    assert_eq!(wrote, 0, "of {TRIES} clients with a certificate so many wrote as the local user");
}

/// Point 5. When the plugin compares a slow hash in the middle of a sweep, those who sleep and come behind it are no
/// strangers: they are left alone. Mosquitto 2.0 reads freed memory later if a sleeping session is refused in a sweep.
#[test]
fn a_sweep_that_takes_its_time_refuses_no_sleeping_session() {
    const SLEEPERS: usize = 5;
    // More than a second of computing. The password is none that anybody has.
    let passes = if cfg!(debug_assertions) { 4 } else { 64 };
    let slow = format!("$argon2id$v=19$m=16384,t={passes},p=1${}${}", "c2FsdHNhbHRzYWx0", "A".repeat(43));
    on_every_broker(|version| {
        let api = api_against(&[]);
        let broker = broker_with(version, &api, &["watcher", "slow"]).start();
        let port = broker.port();
        let slow_one = Connect::v5("slow").login("slow", PASSWORD).accepted(port);
        let sleeper = |n| Connect::v5(format!("sleeper-{n}")).login("sleeper", "secret").durable();
        for number in 0..SLEEPERS {
            sleeper(number).session_expiry(600).accepted(port).disconnect();
        }
        let passwords = password_file(&["watcher"]) + &format!("slow:{slow}\n");
        fs::write(broker.folder().join("passwords"), passwords).unwrap();
        api.answer_with(|request| Reply::status(if request.path == "/auth" { 403 } else { 200 }));
        api.forget_requests();
        reload(&broker, port);
        drop(slow_one);
        let log = broker.log();
        assert!(log.contains("Refused to let \"slow\""), "the hash is compared: {log}");
        let refused = log.matches("Refused to let \"sleeper\"").count();
        assert_eq!(refused, 0, "of {SLEEPERS} sleeping sessions, with {} questions", api.logins().len());
    });
}
