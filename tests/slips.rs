//! An operator's mistake grants no rights, above all a file that is half written when the broker reads it again.

use std::fs;

mod support;
use support::{
    Broker, Client, Connect, MockApi, PATIENCE, Refusal, Version, api, eventually, log_in, login,
    on_every_broker, reason,
};

const RULES: &str = "user alice secret\nallow all news/#\nuser watcher secret\nallow all #\n";

/// Both URLs, as somebody writes them: the half of it is a file as good as any.
fn whole_file(api: &MockApi) -> String {
    format!(
        "auth_url = \"{}\"\nauth_cache_ttl = 0\nacl_cache_ttl = 0\ndeny_cache_ttl = 0\nthrottle_after = 0\nacl_url = \"{}\"\n",
        api.auth_url(),
        api.acl_url()
    )
}

struct Stage {
    broker: Broker,
    alice: Client,
    watcher: Client,
}

impl Stage {
    fn new(version: Version, file: &str) -> Self {
        let broker =
            Broker::with(version).file("options.toml", file).option("config_file", "options.toml").start();
        let (alice, mut watcher) = (log_in(&broker, "alice"), log_in(&broker, "watcher"));
        assert!(watcher.may_subscribe("#"));
        Self { broker, alice, watcher }
    }

    /// Writes the file and has the broker read it again.
    fn reload(&mut self, file: &str) {
        fs::write(self.broker.folder().join("options.toml"), file).unwrap();
        let said = |broker: &Broker| {
            let log = broker.log();
            log.matches("Files are re-read").count() + log.matches("Nothing was taken over").count()
        };
        let before = said(&self.broker);
        self.broker.sighup();
        assert!(eventually(PATIENCE, || said(&self.broker) > before), "the file is read again");
        // Comes behind the broker's going through its sessions.
        let _ = Connect::v5("behind").login("behind", "x").attempt(self.broker.port());
    }

    /// Connects who was thrown out; says whether that works.
    fn is_connected(&mut self, name: &'static str) -> bool {
        let client = if name == "alice" { &mut self.alice } else { &mut self.watcher };
        if !client.is_closed() {
            return true;
        }
        match login(name).attempt(self.broker.port()) {
            Ok(again) => *client = again,
            Err(_) => return false,
        }
        name == "alice" || client.may_subscribe("#")
    }

    /// Whether alice gets a message through to a topic.
    fn gets_through(&mut self, topic: &str) -> bool {
        self.alice.publish_acknowledged(topic, "x");
        // Comes behind it, if it comes.
        self.watcher.publish_acknowledged("last", "x");
        let mut got_through = false;
        loop {
            let message = self.watcher.receive(PATIENCE).expect("the last message");
            if message.topic == "last" {
                return got_through;
            }
            got_through |= message.topic == topic;
        }
    }

    /// What is not as it was with the whole file.
    fn what_has_changed(&mut self) -> Vec<&'static str> {
        let mut changed = Vec::new();
        match Connect::v5("mallory").login("mallory", "guess").attempt(self.broker.port()) {
            Ok(_) => changed.push("logins are open"),
            Err(refusal) => assert_eq!(refusal, Refusal::Code(reason::NOT_AUTHORIZED)),
        }
        if !["alice", "watcher"].map(|name| self.is_connected(name)).contains(&false) {
            if self.gets_through("forbidden") {
                changed.push("topics are open");
            }
            if !self.gets_through("news/1") {
                changed.push("topics are closed");
            }
        } else {
            changed.push("good clients are kept out");
        }
        changed
    }
}

/// Point 19. A reload that would stop checking logins or topics, where they are checked now, is refused.
#[test]
fn a_file_that_is_half_written_opens_nothing() {
    on_every_broker(|version| {
        let api = api(RULES);
        let whole = whole_file(&api);
        let mut stage = Stage::new(version, &whole);
        assert_eq!(stage.what_has_changed(), [""; 0]);
        let lines: Vec<&str> = whole.lines().collect();
        let mut found = Vec::new();
        // From the front, as it is written, and from the back, as another editor might.
        let starts = (0..lines.len()).map(|count| lines[..count].join("\n"));
        let ends = (1..lines.len()).map(|first| lines[first..].join("\n"));
        for half in starts.chain(ends) {
            stage.reload(&half);
            let changed = stage.what_has_changed();
            if !changed.is_empty() {
                found.push((half.lines().map(|line| &line[..8]).collect::<Vec<_>>().join(" "), changed));
            }
            stage.reload(&whole);
        }
        assert!(
            found.is_empty(),
            "mosquitto {version}: lines that were there, and what they changed: {found:?}"
        );
    });
}

/// Point 19. Whoever means it says so.
#[test]
fn a_file_can_say_that_topics_are_checked_no_more() {
    on_every_broker(|version| {
        let api = api(RULES);
        let whole = whole_file(&api);
        let mut stage = Stage::new(version, &whole);
        let meant = whole.replace(&format!("\"{}\"", api.acl_url()), "\"none\"");
        assert_ne!(meant, whole);
        stage.reload(&meant);
        assert_eq!(stage.what_has_changed(), ["topics are open"]);
        assert!(stage.broker.log().contains("topics: not checked"));
        stage.reload(&whole);
        assert_eq!(stage.what_has_changed(), [""; 0]);
    });
}

/// Without `acl_url` the rules in the answers about logins decide, which is no open door.
#[test]
fn rules_in_answers_check_topics_without_an_acl_url() {
    let api = api(RULES);
    let broker =
        Broker::with(Version::V2_1).option("auth_url", api.auth_url()).option("answer_rules", "true").start();
    let log = broker.log();
    assert!(log.contains("topics: by the rules in a login's answer, nobody else is asked;"), "{log}");
}

/// Point 19. The same for local users: an empty file is one that is about to be written.
#[test]
fn a_password_file_that_is_empty_for_a_moment_takes_no_local_user_away() {
    const PASSWORD: &str = "correct horse";
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = Broker::with(version)
            .option("auth_url", api.auth_url())
            .option("acl_url", api.acl_url())
            .file("passwords", include_str!("fixtures/passwd-2.0.11"))
            .option("password_file", "passwords")
            .start();
        let mut local = Connect::v5("local").login("sha512", PASSWORD).accepted(broker.port());
        fs::write(broker.folder().join("passwords"), "").unwrap();
        broker.sighup();
        broker.wait_for_log("Nothing was taken over", PATIENCE);
        assert_eq!(local.publish_acknowledged("anything", "x") & 0x80, 0, "mosquitto {version}");
        Connect::v5("again").login("sha512", PASSWORD).accepted(broker.port());
        assert!(api.requests().is_empty(), "nobody asks the API about a local user");
    });
}
