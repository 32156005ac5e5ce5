//! The plugin in the fake broker of its tests: whatever bytes strings hold, and in whatever order events come, only
//! local users with their passwords are admitted.
//!
//! The input is a list of steps, each of which ends with the byte 255: a letter, the digit of a client, and texts, each
//! after a byte 254. A missing text is NULL. See [`Game::step`]. A model of the logins decides which answers are wrong.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

// The plugin's library, for the functions that it exports.
use mosquitto_http_auth as _;

#[path = "../../../tests/support/fake_broker/mod.rs"]
pub mod fake_broker;

#[path = "../../../tests/support/fake_broker/exports.rs"]
mod exports;

use fake_broker::abi::{self, RawOption, SUCCESS};
use fake_broker::step::{
    Action, Connection, IntoText, Password, Step, Text, check, connection, disconnect, empty, name, offline,
    reload, tick,
};
use fake_broker::{FakeBroker, Instance, Plugin, Version};

/// Local users. Their hashes are quick, but clients are parked for an argon2id.
const NAMES: [&[u8]; 2] = [b"quick", b"slow"];
const PASSWORD: &[u8] = b"correct horse";
const PASSWORDS: &[u8] = b"\
quick:$6$quNYpwGom36IOVhq$FU5PeN6llhvTlMyvOJQXfPycmiWnfafVe4IrGhe+ThSabaR6YXldYyr0dwPRkF6Mxf/scaiDKfNE5Bc7ZINbgw==
slow:$argon2id$v=19$m=8,t=1,p=1$dHdlbHZlIGJ5dGVz$ACYoMdFihEWG38nSnX9oEyE+ckPxt2zGBkUMfm9NyD4
";
const RULES: &[u8] = b"user quick\ntopic ok/#\nuser slow\ntopic read ok/+\npattern write own/%u/%c\n";

/// Options that the input may not set: they would read files, ask other servers, wait, or allow what the model refuses.
const NOT_TO_SET: [&str; 9] = [
    "auth_url",
    "acl_url",
    "timeout",
    "max_wait",
    "connect_timeout",
    "user",
    "anonymous",
    "acl_checks",
    "stale_ttl",
];

/// The names of the clients in steps.
const CLIENTS: [&str; 4] = ["0", "1", "2", "3"];

unsafe extern "C" {
    fn mosquitto_plugin_version(count: c_int, versions: *const c_int) -> c_int;
    fn mosquitto_plugin_init(
        identifier: *mut c_void,
        user_data: *mut *mut c_void,
        options: *mut RawOption,
        count: c_int,
    ) -> c_int;
    fn mosquitto_plugin_cleanup(user_data: *mut c_void, options: *mut RawOption, count: c_int) -> c_int;
}

const PLUGIN: Plugin = Plugin {
    version: mosquitto_plugin_version,
    init: mosquitto_plugin_init,
    cleanup: mosquitto_plugin_cleanup,
};

/// The files that the plugin reads, in a folder of this process.
struct Files {
    _folder: TempDir,
    passwords: PathBuf,
    rules: PathBuf,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let folder = TempDir::with_prefix("mha-fuzz-").expect("a folder");
    let [passwords, rules] = ["passwords", "rules"].map(|name| folder.path().join(name));
    Files { _folder: folder, passwords, rules }
});

fn write(path: &PathBuf, content: &[u8]) {
    std::fs::write(path, content).expect("room for a small file");
}

/// Plays one input.
pub fn play(version: Version, input: &[u8]) {
    write(&FILES.passwords, PASSWORDS);
    write(&FILES.rules, RULES);
    let steps: Vec<Vec<&[u8]>> = input
        .split(|byte| *byte == 255)
        .filter(|step| !step.is_empty())
        .map(|step| step.split(|byte| *byte == 254).collect())
        .collect();
    let Some(mut game) = Game::start(version, &steps) else { return };
    for step in &steps {
        game.step(step);
    }
    game.complete_all();
    game.broker.stop(game.plugin);
    game.look_at_log();
}

/// The passwords of an input that start with a mark by which the log is searched for them. None if the mark stands
/// anywhere else in the input.
fn secrets(steps: &[Vec<&[u8]>]) -> Vec<Vec<u8>> {
    const MARK: &[u8] = b"~pw~";
    let is_login = |step: &[&[u8]]| matches!(step[0].first(), Some(b'L' | b'l'));
    let mut secrets = Vec::new();
    for step in steps {
        for (index, text) in step.iter().enumerate() {
            match text.windows(MARK.len()).any(|part| part == MARK) {
                true if is_login(step) && index == 2 && text.starts_with(MARK) => secrets.push(text.to_vec()),
                true => return Vec::new(),
                false => {}
            }
        }
    }
    secrets
}

/// The part of a text that the plugin sees: it ends at the first NUL.
fn seen(text: Text<'_>) -> &[u8] {
    text.unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The model's state of a client.
#[derive(Clone, Default)]
struct Known {
    id: Vec<u8>,
    username: Vec<u8>,
    has_address: bool,
}

/// A broker with a plugin, and the model of its clients.
struct Game {
    broker: FakeBroker,
    plugin: Instance,
    clients: [Known; CLIENTS.len()],
    /// Whether each parked client, by its id, has shown the right password.
    waiting: HashMap<Vec<u8>, bool>,
    /// Passwords, which must not stand in the log.
    secrets: Vec<Vec<u8>>,
    /// Whether password file and rules are still those of the start.
    files_are_ours: bool,
}

impl Game {
    /// Starts the plugin. Steps `I` add options, by name and value.
    fn start(version: Version, steps: &[Vec<&[u8]>]) -> Option<Self> {
        let (passwords, rules) = (FILES.passwords.display().to_string(), FILES.rules.display().to_string());
        let own = [
            ("auth_url", "http://127.0.0.1:1/"),
            ("acl_url", "http://127.0.0.1:1/"),
            ("password_file", passwords.as_str()),
            ("acl_file", rules.as_str()),
        ];
        let own = own.map(|(name, value)| (name.text(), value.text()));
        let given = steps
            .iter()
            .filter(|step| step[0] == b"I")
            .map(|step| (step.get(1).copied(), step.get(2).copied()))
            .filter(|(name, _)| {
                let name = String::from_utf8_lossy(seen(*name)).into_owned();
                !name.contains("file") && !NOT_TO_SET.contains(&name.as_str())
            });
        let options: Vec<_> = own.into_iter().chain(given).collect();
        let broker = FakeBroker::new(version, PLUGIN);
        assert_eq!(broker.offer(3, Some(&[3, 4, 5])), 5);
        let (code, plugin) = broker.start(&options);
        // The plugin's hook silences panics, which must not hold for those of this harness.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
        if code != SUCCESS {
            assert!(options.len() > 4, "the options of this harness are good");
            assert!(plugin.is_nothing(), "something is left behind");
            broker.stop(plugin);
            return None;
        }
        for who in CLIENTS {
            plugin.take(&connection(who, Connection::default()));
        }
        let (clients, waiting, secrets) = (Default::default(), HashMap::new(), secrets(steps));
        Some(Self { broker, plugin, clients, waiting, secrets, files_are_ours: true })
    }

    /// - `N` id, address, username, flags: a new connection in place of a client
    /// - `L` username, password: a login; `l`: the same, with the length of the password
    /// - `C` topic, access: a topic check
    /// - `D`, `O`: a client is gone, or only offline; `Z`: events without data
    /// - `T`: a tick; `R`: a reload; `P`, `A`: other password and ACL files for the next one
    fn step(&mut self, step: &[&[u8]]) {
        let text = |index: usize| step.get(index).copied();
        let Some((&letter, digit)) = step[0].split_first() else { return };
        let which = usize::from(digit.first().copied().unwrap_or_default()) % CLIENTS.len();
        let who = CLIENTS[which];
        match letter {
            b'N' => {
                let flags = text(4).unwrap_or_default();
                let (id, address, username) = (text(1), text(2), text(3));
                self.clients[which] = Known {
                    id: seen(id).to_vec(),
                    username: seen(username).to_vec(),
                    has_address: address.is_some(),
                };
                let is_durable = !flags.contains(&b'c');
                let speaks_mqtt_5 = flags.contains(&b'5');
                self.take(connection(who, Connection { id, address, username, is_durable, speaks_mqtt_5 }));
            }
            b'L' | b'l' => self.login(which, text(1), text(2), letter == b'l'),
            b'C' => {
                let access = c_int::from(text(2).and_then(|text| text.first()).map_or(1, |byte| byte % 16));
                self.check(which, text(1), access);
            }
            b'D' => _ = self.take(disconnect(who)),
            b'O' => _ = self.take(offline(who)),
            b'Z' => {
                for event in [abi::BASIC_AUTH, abi::ACL_CHECK] {
                    assert_ne!(self.take(empty(event)), SUCCESS, "a yes to nothing");
                }
                for event in [abi::DISCONNECT, abi::CLIENT_OFFLINE, abi::TICK, abi::RELOAD] {
                    self.take(empty(event));
                }
            }
            b'T' => _ = self.take(tick()),
            b'R' => _ = self.take(reload()),
            b'P' | b'A' => {
                let path = if letter == b'P' { &FILES.passwords } else { &FILES.rules };
                write(path, text(1).unwrap_or_default());
                self.files_are_ours = false;
            }
            _ => {}
        }
    }

    /// Takes a step, and checks the completions and log lines that it caused.
    fn take(&mut self, step: Step<'_>) -> c_int {
        let code = self.plugin.take(&step);
        for (id, result) in self.broker.take_completed() {
            let is_right = self.waiting.remove(&id);
            assert!(result != SUCCESS || is_right == Some(true), "let in: {id:?}");
        }
        self.look_at_log();
        code
    }

    fn look_at_log(&self) {
        for line in self.broker.take_log() {
            for secret in &self.secrets {
                let is_in = line.as_bytes().windows(secret.len()).any(|part| part == secret);
                assert!(!is_in, "a password in the log: {line}");
            }
        }
    }

    fn login(&mut self, which: usize, username: Text<'_>, password: Text<'_>, says_length: bool) {
        let who = CLIENTS[which];
        self.clients[which].username = seen(username).to_vec();
        let Known { id, username: seen_name, has_address } = self.clients[which].clone();
        let whole = password.unwrap_or_default();
        // No CONNECT can hold a longer password.
        let says_length = says_length && u16::try_from(whole.len()).is_ok_and(|length| length > 0);
        let sent = if says_length { whole } else { seen(password) };
        let is_right = password.is_some() && is_right_password(&seen_name, sent);
        // A recheck asks about an existing session: in 2.1 about one in the table, in 2.0 about one that was restored
        // from disk, which alone has no address.
        let is_session = match self.broker.is_2_1() {
            true => self.broker.is_connected(who),
            false => !has_address && password.is_none(),
        };
        self.take(name(who, username));
        let code = self.take(Step::new(who, Action::Ask(Password { bytes: password, says_length })));
        match code {
            SUCCESS => assert!(is_right || is_session, "let in: {username:?} with {sent:?}"),
            abi::AUTH_DELAYED => _ = self.waiting.insert(id, is_right),
            _ => {}
        }
    }

    fn check(&mut self, which: usize, topic: Text<'_>, access: c_int) {
        let code = self.take(check(CLIENTS[which], access, topic));
        if code != SUCCESS || access == abi::UNSUBSCRIBE {
            return;
        }
        let username = self.clients[which].username.as_slice();
        let topic = seen(topic);
        assert!([abi::READ, abi::WRITE, abi::SUBSCRIBE].contains(&access), "allowed: access {access}");
        assert!(!username.is_empty() && std::str::from_utf8(username).is_ok(), "allowed: {username:?}");
        if self.files_are_ours {
            assert!(NAMES.contains(&username), "allowed without a question: {username:?}");
            let is_covered = topic.starts_with(b"ok") || topic.starts_with(b"own/");
            assert!(access == abi::SUBSCRIBE || is_covered, "allowed: {topic:?} to {username:?}");
        }
    }

    /// Ticks until every parked client is completed, which takes no long time: no hash is slow here.
    fn complete_all(&mut self) {
        let start = Instant::now();
        while self.broker.has_parked() {
            assert!(start.elapsed() < Duration::from_secs(20), "a client waits for ever");
            thread::sleep(Duration::from_micros(100));
            self.take(tick());
        }
    }
}

fn is_right_password(username: &[u8], password: &[u8]) -> bool {
    NAMES.contains(&username) && password == PASSWORD
}
