//! Local users: decided without the API, by files that mean to the plugin what they mean to the broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::broker::Setup;
use support::client::reason;
use support::{A_WHILE, Broker, Client, Connect, PATIENCE, Version, Will, eventually, on_every_broker};

const PASSWORD: &str = "correct horse";

/// A password file in which everybody has [`PASSWORD`], in the one format that every broker reads by itself.
fn password_file(names: &[&str]) -> String {
    let by_the_tool = include_str!("fixtures/passwd-2.0.11");
    let (_, hash) = by_the_tool.lines().next().and_then(|line| line.split_once(':')).unwrap();
    // Behind a space, because a name may start with `#`, but a line then would be a comment.
    names.iter().map(|name| format!(" {name}:{hash}\n")).collect()
}

/// What a client does, and where it shows whether it may.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// Publishes on a topic: the PUBACK tells.
    Write(&'static str),
    /// Subscribes to a filter, and somebody publishes on a topic: the message arrives or not.
    Read { filter: &'static str, topic: &'static str },
    /// Subscribes to a filter where a retained message lies on a topic: it arrives or not.
    ReadRetained { filter: &'static str, topic: &'static str },
    /// Subscribes to a filter: the SUBACK tells.
    Subscribe(&'static str),
    /// Goes away and leaves a will on a topic: it arrives at a reader of everything or not.
    Will(&'static str),
}

use Deed::{ReadRetained, Subscribe, Write};

/// Reads a topic by its own name.
const fn read(topic: &'static str) -> Deed {
    Deed::Read { filter: topic, topic }
}

const fn read_by(filter: &'static str, topic: &'static str) -> Deed {
    Deed::Read { filter, topic }
}

/// Which brokers let a deed happen by their own `acl_file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Everywhere,
    Nowhere,
    In2_0,
    In2_1,
}

impl Allowed {
    fn on(self, version: Version) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Nowhere => false,
            Self::In2_0 => !version.is_2_1(),
            Self::In2_1 => version.is_2_1(),
        }
    }
}

use Allowed::{Everywhere, In2_0, In2_1, Nowhere};

/// Username, client id, what is done, who lets it happen.
type Case = (&'static str, &'static str, Deed, Allowed);

/// Publishes and reads whatever a case needs. Its rules are in front of every table's own.
const ADMIN: &str = "user admin\ntopic readwrite #\ntopic readwrite $x/#\ntopic readwrite $CONTROL/#\n";

/// Every user of the tables. Names with wildcards and separators are legal in MQTT.
const USERS: [&str; 12] =
    ["admin", "u", "v", "w", "nobody", "two words", "ünï", "+", "#", "a+b", "a/b", "%c"];

const OWN_RULES: &str = "\
# before the first user: for anonymous clients
topic readwrite anonymous
user u
topic read r
topic write w
topic readwrite rw
topic both
topic read wild/+/card
topic read below/#
topic write below/#
topic deny below/secret/#
topic deny below/+/private
topic read two words/and more
topic readwrite share/#
topic deny late
topic late

user v
topic deny #
topic a
user w
topic #
topic deny $x/b
user two words
topic   read   spaced   out\t
user ünï
topic ünï/+
user +
topic plus
user #
topic hash
user a/b
topic slash
user u
topic again
";

#[rustfmt::skip]
const OWN_CASES: &[Case] = &[
    ("u", "c", Write("r"), Nowhere),
    ("u", "c", read("r"), Everywhere),
    ("u", "c", Write("w"), Everywhere),
    ("u", "c", read("w"), Nowhere),
    ("u", "c", Write("rw"), Everywhere),
    ("u", "c", read("rw"), Everywhere),
    ("u", "c", Write("both"), Everywhere),
    ("u", "c", read("both"), Everywhere),
    ("u", "c", Write("unnamed"), Nowhere),
    ("u", "c", read("unnamed"), Nowhere),
    ("u", "c", Write("anonymous"), Nowhere),
    ("u", "c", read("anonymous"), Nowhere),
    ("u", "c", Write("RW"), Nowhere),
    ("u", "c", Write("rw/"), Nowhere),
    ("u", "c", Write("/rw"), Nowhere),
    // Subscribing is free; what arrives is weighed.
    ("u", "c", Subscribe("unnamed"), Everywhere),
    ("u", "c", Subscribe("#"), Everywhere),
    ("u", "c", Subscribe("$SYS/#"), Everywhere),
    ("v", "c", Subscribe("a"), Everywhere),
    ("nobody", "c", Subscribe("+/x"), Everywhere),
    ("u", "c", Subscribe("$share/group/unnamed"), Everywhere),
    ("u", "c", read_by("#", "r"), Everywhere),
    ("u", "c", read_by("#", "unnamed"), Nowhere),
    // Wildcards.
    ("u", "c", read("wild/x/card"), Everywhere),
    ("u", "c", read("wild//card"), Everywhere),
    ("u", "c", read("wild/card"), Nowhere),
    ("u", "c", read("wild/x/y/card"), Nowhere),
    ("u", "c", read("below"), Everywhere),
    ("u", "c", read("below/"), Everywhere),
    ("u", "c", read("below/x/y"), Everywhere),
    ("u", "c", read("belowx"), Nowhere),
    ("u", "c", Write("below/x/y"), Everywhere),
    // Deny wins wherever it stands.
    ("u", "c", read("below/secret"), Nowhere),
    ("u", "c", read("below/secret/x"), Nowhere),
    ("u", "c", Write("below/secret/x"), Nowhere),
    ("u", "c", read_by("below/#", "below/x/private"), Nowhere),
    ("u", "c", read_by("below/#", "below/x/private/y"), Everywhere),
    ("u", "c", Write("late"), Nowhere),
    ("v", "c", Write("a"), Nowhere),
    ("v", "c", read("a"), Nowhere),
    // Names and topics with spaces and beyond ASCII.
    ("u", "c", read("two words/and more"), Everywhere),
    ("two words", "c", read("spaced   out"), Everywhere),
    ("two words", "c", read("spaced"), Nowhere),
    ("ünï", "c", Write("ünï/ü"), Everywhere),
    ("ünï", "c", Write("uni/ü"), Nowhere),
    // A user in two sections, and users without any.
    ("u", "c", Write("again"), Everywhere),
    ("nobody", "c", Write("again"), Nowhere),
    ("nobody", "c", read("r"), Nowhere),
    // Topics of the server.
    ("w", "c", Write("anything/at/all"), Everywhere),
    ("w", "c", read("/"), Everywhere),
    ("w", "c", Write("$x/a"), Nowhere),
    ("w", "c", read("$x/a"), Nowhere),
    ("w", "c", read("$x/b"), Nowhere),
    ("w", "c", ReadRetained { filter: "$SYS/broker/version", topic: "$SYS/broker/version" }, Nowhere),
    ("w", "c", Write("$SYS/broker/version"), Nowhere),
    ("w", "c", Write("$CONTROL/x/v1"), Nowhere),
    // Shared subscriptions: the messages are weighed under their own topic.
    ("u", "c", read_by("$share/group/share/#", "share/x"), Everywhere),
    ("u", "c", read_by("$share/group/#", "unnamed"), Nowhere),
    ("u", "c", Write("$share/group/share/x"), Nowhere),
    // Retained messages and wills.
    ("u", "c", ReadRetained { filter: "#", topic: "r" }, Everywhere),
    ("u", "c", ReadRetained { filter: "#", topic: "w" }, Nowhere),
    ("u", "c", Deed::Will("w"), Everywhere),
    ("u", "c", Deed::Will("r"), Nowhere),
    // Without patterns, odd names are like others.
    ("+", "c", Write("plus"), Everywhere),
    ("+", "c", Write("hash"), Nowhere),
    ("#", "c", Write("hash"), Everywhere),
    ("#", "c", Write("plus"), Nowhere),
    ("a/b", "c", Write("slash"), Everywhere),
    ("u", "a+b", Write("w"), Everywhere),
    ("u", "#", read("r"), Everywhere),
    ("u", "c/d", Write("w"), Everywhere),
];

const PATTERNS: &str = "\
pattern readwrite users/%u/#
pattern clients/%c
pattern read both/%u/%c/+
pattern write both/%c/%u/+
pattern readwrite forbidden/#
pattern deny forbidden/%u
pattern read all/#
pattern dev-%u/x
pattern %%u/x
pattern %u%c/y
pattern %c/first/#
pattern read $SYS/#
pattern $x/%u
user u
topic mine
topic users/v/gift
topic deny users/u/taken
topic readwrite forbidden/u
user +
topic plus
user a/b
topic slash
user nobody
";

#[rustfmt::skip]
const PATTERN_CASES: &[Case] = &[
    ("u", "c", Write("users/u"), Everywhere),
    ("u", "c", Write("users/u/x"), Everywhere),
    ("u", "c", read("users/u/x/y"), Everywhere),
    ("u", "c", Write("users/v/x"), Nowhere),
    ("u", "c", read_by("users/#", "users/v/x"), Nowhere),
    ("u", "c", Write("users/%u/x"), Nowhere),
    ("u", "c", Write("users/c/x"), Nowhere),
    ("u", "c", Write("clients/c"), Everywhere),
    ("u", "c", Write("clients/d"), Nowhere),
    ("u", "c", Write("clients/u"), Nowhere),
    ("u", "c", read("both/u/c/x"), Everywhere),
    ("u", "c", Write("both/u/c/x"), Nowhere),
    ("u", "c", Write("both/c/u/x"), Everywhere),
    ("u", "c", read("both/c/u/x"), Nowhere),
    ("u", "c", read("both/u/c"), Nowhere),
    ("u", "c", Subscribe("users/v/#"), Everywhere),
    // A user's own section comes first, with its denials and its rights.
    ("u", "c", Write("mine"), Everywhere),
    ("v", "c", Write("mine"), Nowhere),
    ("u", "c", Write("users/v/gift"), Everywhere),
    ("u", "c", Write("users/u/taken"), Nowhere),
    ("u", "c", Write("forbidden/u"), Everywhere),
    // Among patterns, too, deny comes first.
    ("v", "c", Write("forbidden/v"), Nowhere),
    ("v", "c", Write("forbidden/u"), Everywhere),
    ("v", "c", read("forbidden/x/y"), Everywhere),
    // A user without a section, or with an empty one, has the patterns.
    ("nobody", "c", Write("users/nobody/x"), Everywhere),
    ("two words", "c d", Write("users/two words/x"), Everywhere),
    ("two words", "c d", Write("clients/c d"), Everywhere),
    ("ünï", "cü", Write("clients/cü"), Everywhere),
    // Patterns without a placeholder are for everybody.
    ("v", "c", read("all/x"), Everywhere),
    ("v", "c", Write("all/x"), Nowhere),
    // Placeholders within a level, which 2.1 takes for plain text.
    ("u", "c", Write("dev-u/x"), In2_0),
    ("u", "c", Write("dev-v/x"), Nowhere),
    ("u", "c", Write("dev-%u/x"), In2_1),
    ("u", "c", Write("%u/x"), In2_0),
    ("u", "c", Write("%%u/x"), In2_1),
    ("u", "c", Write("uc/y"), In2_0),
    ("u", "c", Write("%u%c/y"), In2_1),
    // What is filled in is not looked into again.
    ("%c", "c", Write("users/%c/x"), Everywhere),
    ("%c", "c", Write("users/c/x"), Nowhere),
    // Names with separators, which 2.1 lets fit nowhere.
    ("a/b", "c", Write("users/a/b/x"), In2_0),
    ("a/b", "c", Write("clients/c"), Everywhere),
    ("a/b", "c", Write("slash"), Everywhere),
    ("a/b", "c", read("all/x"), Everywhere),
    ("u", "c/d", Write("clients/c/d"), In2_0),
    ("u", "c/d", Write("users/u/x"), Everywhere),
    ("u", "/", Write("clients//"), In2_0),
    // Names with wildcards get their own section, and nothing of the patterns.
    ("+", "c", Write("plus"), Everywhere),
    ("+", "c", Write("users/u/x"), Nowhere),
    ("+", "c", read("users/u/x"), Nowhere),
    ("+", "c", read("all/x"), Nowhere),
    ("#", "c", read("users/u/x"), Nowhere),
    ("a+b", "c", Write("clients/c"), Nowhere),
    ("u", "+", Write("mine"), Everywhere),
    ("u", "+", Write("clients/x"), Nowhere),
    ("u", "#", read("users/u/x"), Nowhere),
    ("u", "a#b", read("all/x"), Nowhere),
    ("u", "+", Subscribe("users/v/#"), Everywhere),
    // Topics of the server.
    ("u", "c", ReadRetained { filter: "$SYS/broker/version", topic: "$SYS/broker/version" }, Everywhere),
    ("+", "c", ReadRetained { filter: "$SYS/broker/version", topic: "$SYS/broker/version" }, Nowhere),
    ("u", "c", Write("$x/u"), Everywhere),
    ("u", "c", Write("$x/v"), Nowhere),
    ("u", "c", Write("c/first/x"), Everywhere),
];

/// One broker on which a table is gone through.
struct Stage {
    broker: Broker,
    admin: Client,
}

impl Stage {
    fn new(setup: &Setup) -> Self {
        let broker = setup.start();
        let admin = Connect::v5("admin").login("admin", PASSWORD).accepted(broker.port());
        Self { broker, admin }
    }

    fn client(username: &str, client_id: &str) -> Connect {
        Connect::v5(client_id).login(username, PASSWORD)
    }

    /// Whether the deed comes to pass.
    fn play(&mut self, username: &str, client_id: &str, deed: Deed) -> bool {
        let port = self.broker.port();
        let connect = Self::client(username, client_id);
        match deed {
            Write(topic) => {
                let mut client = connect.accepted(port);
                let code = client.publish_acknowledged(topic, "x");
                client.disconnect();
                code != reason::NOT_AUTHORIZED
            }
            Subscribe(filter) => {
                let mut client = connect.accepted(port);
                let granted = client.may_subscribe(filter);
                client.disconnect();
                granted
            }
            Deed::Read { filter, topic } => {
                let mut client = connect.accepted(port);
                assert!(client.may_subscribe(filter), "{filter}");
                assert_ne!(self.admin.publish_acknowledged(topic, "x"), reason::NOT_AUTHORIZED, "{topic}");
                let arrived = arrived(&mut client, topic);
                client.disconnect();
                arrived
            }
            ReadRetained { filter, topic } => {
                if !topic.starts_with("$SYS/") {
                    self.admin.publish_retained(topic, "x");
                    self.admin.ping();
                }
                let mut client = connect.accepted(port);
                assert!(client.may_subscribe(filter), "{filter}");
                let arrived = arrived(&mut client, topic);
                client.disconnect();
                self.admin.publish_retained(topic, "");
                arrived
            }
            Deed::Will(topic) => {
                assert!(self.admin.may_subscribe(topic));
                let will = Will { topic: topic.into(), payload: b"gone".to_vec(), qos: 0, retain: false };
                drop(connect.will(will).accepted(port));
                let arrived = self.admin.receive(A_WHILE).is_some();
                self.admin.unsubscribe(topic);
                arrived
            }
        }
    }
}

/// Whether a message came: what was sent before the answer to a ping has arrived before it.
fn arrived(client: &mut Client, topic: &str) -> bool {
    client.ping();
    std::iter::from_fn(|| client.receive(Duration::ZERO)).any(|message| message.topic == topic)
}

/// Goes through a table twice, with the broker's own files and with the plugin's.
fn same_outcome(rules: &str, cases: &[Case]) {
    on_every_broker(|version| {
        let setup =
            |setup: Setup| setup.file("passwd", password_file(&USERS)).file("acl", format!("{rules}{ADMIN}"));
        let broker_alone = setup(Broker::with(version))
            .without_plugin()
            .global("allow_anonymous false")
            .global("password_file passwd")
            .global("acl_file acl");
        let api = support::api("");
        let with_plugin = setup(Broker::with(version))
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("password_file", "passwd")
            .option("acl_file", "acl")
            .option("special_chars", "allow");
        let mut stages =
            [("the broker", Stage::new(&broker_alone)), ("the plugin", Stage::new(&with_plugin))];
        let mut wrong = Vec::new();
        for (who, stage) in &mut stages {
            for &(username, client_id, deed, expected) in cases {
                let allowed = stage.play(username, client_id, deed);
                if allowed != expected.on(version) {
                    wrong.push(format!("{who} has {allowed} for {username:?} {client_id:?} {deed:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{version}:\n{}", wrong.join("\n"));
        assert!(api.requests().is_empty(), "{version}: local users are not the API's business");
    });
}

#[test]
fn rules_of_users_mean_what_they_mean_to_the_broker() {
    same_outcome(OWN_RULES, OWN_CASES);
}

#[test]
fn patterns_mean_what_they_mean_to_the_broker() {
    same_outcome(PATTERNS, PATTERN_CASES);
}

/// In 2.0 itself this opens `$CONTROL` to a client that calls itself so. The plugin is stricter, on purpose.
#[test]
fn a_client_id_is_no_way_to_the_servers_topics() {
    on_every_broker(|version| {
        let api = support::api("");
        let setup = Broker::with(version)
            .file("passwd", password_file(&USERS))
            .file("acl", format!("pattern %c/#\n{ADMIN}"))
            .option("auth_url", api.auth_url())
            .option("password_file", "passwd")
            .option("acl_file", "acl");
        let mut stage = Stage::new(&setup);
        assert!(stage.play("u", "c", Write("c/x")));
        assert!(!stage.play("u", "$CONTROL", Write("$CONTROL/x/v1")));
        assert!(!stage.play("u", "$x", read("$x/a")));
    });
}

#[test]
fn every_hash_that_mosquitto_passwd_writes_lets_its_user_in() {
    const OF_THE_TOOL: &[(&str, &str)] = &[
        ("sha512", PASSWORD),
        ("pbkdf2", PASSWORD),
        ("iterated", PASSWORD),
        ("default", PASSWORD),
        ("with space", "pä ss:w$rd"),
    ];
    const OF_LIBARGON2: &[(&str, &str)] =
        &[("argon2id", PASSWORD), ("command", PASSWORD), ("lanes", PASSWORD)];
    on_every_broker(|version| {
        for (file, users) in [
            (include_str!("fixtures/passwd-2.0.11"), OF_THE_TOOL),
            (include_str!("fixtures/passwd-2.0.21"), OF_THE_TOOL),
            (include_str!("fixtures/passwd-2.1"), OF_THE_TOOL),
            (include_str!("fixtures/passwd-argon2id"), OF_LIBARGON2),
        ] {
            let api = support::api("");
            let broker = Broker::with(version)
                .file("passwd", file)
                .option("auth_url", api.auth_url())
                .option("password_file", "passwd")
                .start();
            for &(name, password) in users {
                Connect::v5("c").login(name, password).accepted(broker.port()).disconnect();
                let code = Connect::v5("c").login(name, "wrong horse").refused(broker.port());
                assert_eq!(code, reason::NOT_AUTHORIZED, "{name}");
            }
            assert!(api.requests().is_empty());
        }
    });
}

#[test]
fn the_api_is_not_asked_about_local_users() {
    on_every_broker(|version| {
        // The API knows another alice, whose password must not open for the local one.
        let api = support::api("user alice theirs\nallow all #\nuser remote theirs\nallow all #\n");
        let broker = Broker::with(version)
            .file("passwd", password_file(&["alice"]))
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("password_file", "passwd")
            .option("user", password_file(&["bob"]).trim())
            .option("user", password_file(&["carol"]).trim())
            .start();
        let port = broker.port();
        let locals_are_decided = || {
            for name in ["alice", "bob", "carol"] {
                let mut client = Connect::v5(name).login(name, PASSWORD).accepted(port);
                assert!(client.may_subscribe("any/#"));
                client.publish("any/topic", "hello");
                assert_eq!(client.receive(PATIENCE).expect("message").topic, "any/topic");
                client.disconnect();
                for wrong in ["theirs", "", "Correct horse", "correct horse "] {
                    assert_eq!(Connect::v5(name).login(name, wrong).refused(port), reason::NOT_AUTHORIZED);
                }
                assert_eq!(Connect::v5(name).username(name).refused(port), reason::NOT_AUTHORIZED);
                let v3 = Connect::v3(name).login(name, "theirs").refused(port);
                assert_eq!(v3, reason::NOT_AUTHORIZED_V3);
                Connect::v3(name).login(name, PASSWORD).accepted(port).disconnect();
            }
            // Passwords are bytes, and no bytes but the right ones will do.
            let code = Connect::v5("alice").login("alice", b"\xff\xfe").refused(port);
            assert_eq!(code, reason::NOT_AUTHORIZED);
        };
        locals_are_decided();
        assert!(api.requests().is_empty(), "{:?}", api.requests());
        api.stop();
        locals_are_decided();
        api.restart().unwrap();
        Connect::v5("remote").login("remote", "theirs").accepted(port).disconnect();
        assert_eq!(api.logins().len(), 1);
    });
}

#[test]
fn a_bad_file_keeps_the_broker_from_starting() {
    const HASH: &str = "$6$oKo/iXbCv7L29hWq$4eI4gM7pmoFi7t+2SvzRz7lv8fo3NAe51kv560BNI0EL8wLSmCfxf\
                        /5fakUXOfNzGn0rOcyfziVg9DuGsQyUZA==";
    let alice = format!("alice:{HASH}");
    // Option, content of the file it names (or its value), what the log says.
    let cases: &[(&str, Vec<u8>, &str)] = &[
        (
            "password_file",
            b"# users\n\nbob:\n".into(),
            "file, line 3: found a line without a hash, expected name:hash",
        ),
        ("password_file", b"hunter2\n".into(), "file, line 1: found text without a colon"),
        (
            "password_file",
            b"bob:hunter2\n".into(),
            "file, line 1: found something that is no hash, expected $6$",
        ),
        ("password_file", b"bob:$2y$05$hunter2\n".into(), "file, line 1: found a bcrypt hash"),
        ("password_file", b"bob:$6$hunter2$hunter2\n".into(), "file, line 1: found a salt that is no base64"),
        ("password_file", b"\r\n:hunter2\r\n".into(), "file, line 2: found an empty name"),
        ("password_file", b"bob:hunter2\xff\n".into(), "file, line 1: found bytes that are not UTF-8"),
        ("password_file", b"a\0b:hunter2\n".into(), "file, line 1: found a NUL character"),
        ("password_file", b"\xef\xbb\xbf# users\n".into(), "file, line 1: found a byte order mark"),
        ("password_file", format!("{alice}\n{alice}\n").into(), "file, line 2: found user \"alice\" again"),
        ("user", b"hunter2".into(), "found text without a colon"),
        ("user", b"bob:hunter2".into(), "found something that is no hash"),
        ("acl_file", b"user bob\ntopik read a\n".into(), "file, line 2: found \"topik\", expected"),
        ("acl_file", b"user bob\ntopik read a\n".into(), "(did you mean topic?)"),
        ("acl_file", b"user bob\ntopic wirte a\n".into(), "(did you mean write?)"),
        ("acl_file", b"user bob\n\ttopic a\n".into(), "file, line 2: found a line that starts with a tab"),
        ("acl_file", b"topic a/#/b\n".into(), "file, line 1: found the bad topic \"a/#/b\""),
        ("acl_file", b"bob:hunter2\n".into(), "file, line 1: found a colon (is this a password file?)"),
    ];
    on_every_broker(|version| {
        let start = |option: &str, value: &str, setup: Setup| {
            let failure = setup
                .option("auth_url", "http://127.0.0.1:9/auth")
                .option("user", alice.replace("alice", "carol"))
                .option(option, value)
                .start_expecting_failure();
            assert_ne!(failure.code, Some(0), "{version} {option} {value}");
            assert!(!failure.log.contains("hunter2"), "{version} {option} {value}: {}", failure.log);
            failure.log
        };
        for (option, content, expected) in cases {
            let setup = Broker::with(version);
            let log = match *option {
                "user" => start(option, std::str::from_utf8(content).unwrap(), setup),
                _ => start(option, "file", setup.file("file", content)),
            };
            assert!(log.contains(expected), "{version}: {expected:?} is not in {log}");
        }
        for option in ["password_file", "acl_file"] {
            let log = start(option, "/nonexistent/file", Broker::with(version));
            assert!(log.contains("/nonexistent/file: cannot be read"), "{version}: {log}");
        }
        let log =
            start("password_file", "file", Broker::with(version).file("file", format!("carol:{HASH}\n")));
        assert!(log.contains("found user \"carol\" again"), "{version}: {log}");
    });
}

#[test]
fn sighup_reads_both_files_again_and_keeps_the_old_ones_on_error() {
    on_every_broker(|version| {
        let api = support::api("");
        let mut broker = Broker::with(version)
            .file("passwd", password_file(&["alice", "bob"]))
            .file("acl", "user alice\ntopic old\n")
            .option("auth_url", api.auth_url())
            .option("password_file", "passwd")
            .option("acl_file", "acl")
            .start();
        let port = broker.port();
        let rewrite = |broker: &Broker, name: &str, content: &str| {
            fs::write(broker.folder().join(name), content).unwrap();
        };
        let let_in = |name: &str| Connect::v5(name).login(name, PASSWORD).attempt(port).is_ok();
        let may_write = |client: &mut Client, topic: &str| {
            client.publish_acknowledged(topic, "x") != reason::NOT_AUTHORIZED
        };
        let mut alice = Connect::v5("watching").login("alice", PASSWORD).accepted(port);
        let mut bob = Connect::v5("leaving").login("bob", PASSWORD).accepted(port);
        assert!(may_write(&mut alice, "old") && !may_write(&mut alice, "new"));
        bob.ping();

        rewrite(&broker, "passwd", &password_file(&["alice", "carol"]));
        rewrite(&broker, "acl", "user alice\ntopic new\n");
        broker.sighup();
        assert!(eventually(PATIENCE, || let_in("carol")), "a new user is known");
        assert!(!let_in("bob"), "a removed one is not");
        assert!(bob.wait_until_closed(PATIENCE), "nor does he stay");
        assert!(
            may_write(&mut alice, "new") && !may_write(&mut alice, "old"),
            "rules change under a session"
        );

        for (name, content, expected) in [
            ("passwd", "alice:\n", "passwd, line 1: found a line without a hash"),
            ("acl", "user alice\ntopic a+\n", "acl, line 2: found the bad topic"),
        ] {
            let good = fs::read_to_string(broker.folder().join(name)).unwrap();
            // The other file changes, too: both are taken over, or neither.
            let (other, changed) = match name {
                "passwd" => ("acl", "user alice\ntopic other\n".to_owned()),
                _ => ("passwd", password_file(&["alice", "dave"])),
            };
            let other_good = fs::read_to_string(broker.folder().join(other)).unwrap();
            rewrite(&broker, name, content);
            rewrite(&broker, other, &changed);
            broker.sighup();
            broker.wait_for_log(expected, PATIENCE);
            assert!(broker.is_running());
            assert!(let_in("alice") && let_in("carol") && !let_in("dave"), "{name} is bad");
            assert!(may_write(&mut alice, "new") && !may_write(&mut alice, "other"), "{name} is bad");
            rewrite(&broker, name, &good);
            rewrite(&broker, other, &other_good);
        }
        // A file that is gone is an error like others.
        fs::remove_file(broker.folder().join("passwd")).unwrap();
        broker.sighup();
        broker.wait_for_log("passwd: cannot be read", PATIENCE);
        assert!(let_in("alice") && broker.is_running());
    });
}

#[test]
fn a_password_file_that_everybody_may_read_gets_a_warning() {
    on_every_broker(|version| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passwd");
        fs::write(&file, password_file(&["alice"])).unwrap();
        for (mode, expected) in [(0o644, true), (0o640, false)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let broker = Broker::with(version)
                .option("auth_url", "http://127.0.0.1:9/auth")
                .option("password_file", file.display())
                .start();
            let log = broker.log();
            let mut lines = log.lines();
            let warned =
                lines.any(|line| line.contains(file.to_str().unwrap()) && line.contains("read by everybody"));
            assert_eq!(warned, expected, "{version}, mode {mode:o}: {log}");
        }
    });
}

/// A certificate authority, and certificates of it: `NAME.crt` and `NAME.key` in a folder.
fn make_certificates(folder: &Path, names: &[&str]) {
    let make = |name: &str, signed_by: &[&str]| {
        let (key, certificate, subject) =
            (format!("{name}.key"), format!("{name}.crt"), format!("/CN={name}"));
        let made = Command::new("openssl")
            .current_dir(folder)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate])
            .args(signed_by)
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    make("ca", &[]);
    for name in names {
        make(name, &["-CA", "ca.crt", "-CAkey", "ca.key"]);
    }
}

/// A broker with a second listener, where the certificate names the user.
struct CertificateStage {
    broker: Broker,
    folder: tempfile::TempDir,
    watcher: Client,
}

impl CertificateStage {
    fn new(version: Version, api: &support::MockApi) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path(), &["server", "alice"]);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let broker = Broker::with(version)
            .file("passwd", password_file(&["alice", "watcher"]))
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .option("password_file", "passwd")
            .listener([
                format!("cafile {}", path("ca.crt")),
                format!("certfile {}", path("server.crt")),
                format!("keyfile {}", path("server.key")),
                "require_certificate true".to_owned(),
                "use_identity_as_username true".to_owned(),
            ])
            .start();
        let mut watcher = Connect::v5("watcher").login("watcher", PASSWORD).accepted(broker.port());
        assert!(watcher.may_subscribe("t/#"));
        Self { broker, folder, watcher }
    }

    /// The local user, by her password.
    fn alice(&self, client_id: &str) -> Connect {
        Connect::v5(client_id).login("alice", PASSWORD)
    }

    /// One of Mosquitto's clients, with alice's certificate and no password.
    fn with_certificate(&self, program: &str, client_id: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.broker.version().program(program))
            .current_dir(self.folder.path())
            .args(["-h", "127.0.0.1", "-p", &self.broker.ports()[1].to_string(), "-V", "5", "-i", client_id])
            .args(["--cafile", "ca.crt", "--cert", "alice.crt", "--key", "alice.key", "--insecure"])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether a message that is published with the certificate gets through.
    fn certificate_may_write(&mut self, client_id: &str) -> bool {
        let arguments = ["-q", "1", "-t", "t/x", "-m", "by certificate"];
        self.with_certificate("mosquitto_pub", client_id, &arguments);
        arrived(&mut self.watcher, "t/x")
    }

    fn password_may_write(&mut self, client: &mut Client) -> bool {
        client.publish_acknowledged("t/x", "by password");
        arrived(&mut self.watcher, "t/x")
    }
}

#[test]
fn a_certificate_with_a_local_users_name_inherits_nothing() {
    on_every_broker(|version| {
        let api = support::api("");
        let mut stage = CertificateStage::new(version, &api);
        let port = stage.broker.port();
        let mut inherited = Vec::new();

        // A client id that nobody had before.
        assert!(!stage.certificate_may_write("fresh"));
        let asked = api.topic_checks();
        assert!(
            asked.iter().any(|request| request.field("username") == "alice" && request.acc() == 2),
            "the API decides about her: {asked:?}"
        );

        // One that the local user has used, and left. The broker may reuse the memory of her connection for
        // the next, so once is not enough.
        for round in 0..5 {
            let mut alice = stage.alice("left").accepted(port);
            assert!(stage.password_may_write(&mut alice));
            alice.disconnect();
            if stage.certificate_may_write("left") {
                inherited.push(format!("a session that was left, round {round}"));
            }
        }

        // One that she is connected with.
        let mut alice = stage.alice("taken").accepted(port);
        assert!(stage.password_may_write(&mut alice));
        if stage.certificate_may_write("taken") {
            inherited.push("a session that was taken over".to_owned());
        }
        drop(alice);

        // One whose session sleeps, also after a reload has gone through all sessions.
        for reload in [false, true] {
            stage.alice("asleep").durable().accepted(port).disconnect();
            if reload {
                stage.broker.sighup();
                stage.broker.wait_for_log("Reloading config", PATIENCE);
                stage.watcher.ping();
            }
            if stage.certificate_may_write("asleep") {
                inherited.push(format!("a sleeping session, reloaded: {reload}"));
            }
        }

        // One whose session the broker has given up meanwhile.
        for round in 0..3 {
            let client_id = format!("expired-{round}");
            stage.alice(&client_id).session_expiry(1).accepted(port).disconnect();
            stage.broker.wait_for_log(&format!("Expiring client {client_id}"), PATIENCE);
            for attempt in 0..4 {
                if stage.certificate_may_write(&client_id) {
                    inherited.push(format!("an expired session, round {round}, attempt {attempt}"));
                }
            }
        }
        assert!(inherited.is_empty(), "mosquitto {version}: {inherited:?}");

        // With her password, she has her rights wherever she was.
        for client_id in ["fresh", "left", "taken", "asleep"] {
            let mut alice = stage.alice(client_id).accepted(port);
            assert!(stage.password_may_write(&mut alice), "{client_id}");
            alice.disconnect();
        }
    });
}

#[test]
fn a_certificate_does_not_read_what_was_kept_for_a_local_user() {
    on_every_broker(|version| {
        let api = support::api("");
        let mut stage = CertificateStage::new(version, &api);
        let mut alice = stage.alice("reader").durable().accepted(stage.broker.port());
        assert!(alice.may_subscribe("t/#"));
        alice.disconnect();
        stage.watcher.publish_acknowledged("t/kept", "secret");
        let arguments = ["-c", "-q", "1", "-t", "nothing", "-W", "1"];
        let read = stage.with_certificate("mosquitto_sub", "reader", &arguments);
        assert_eq!(read, "");
    });
}
