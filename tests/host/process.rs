//! The processes in which scenarios are played: their options and functions, and their state afterwards.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::{self, Command};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::fake_broker::abi::SUCCESS;
use super::fake_broker::step::Text;
use super::fake_broker::{FakeBroker, Instance, Version};
use super::library::{self, Library};
use super::support::broker::plugin;
use super::support::dns::{Lookup, NameServer, OWN_FILES};
use super::support::{MockApi, Reply, api};

use Version::{V2_0, V2_1};

/// The functions that only brokers of 2.1 have.
const OF_2_1: [&str; 3] = ["mosquitto_client", "mosquitto_complete_basic_auth", "mosquitto_plugin_set_info"];

/// The variable with a process's scenario: the version, the missing functions, and the options, a line each. Options
/// after a line `--` are those of a second instance.
const GIVEN: &str = "MHA_FAKE_BROKER";

/// The text that a process prints when it has played its scenario to the end.
const PLAYED: &str = "the scenario was played to its end";

fn launcher() -> String {
    env::var("MHA_LAUNCHER").unwrap_or_default()
}

/// A time, or ten times as much where another program runs the broker.
pub fn paced(time: Duration) -> Duration {
    if launcher().is_empty() { time } else { time * 10 }
}

fn milliseconds(time: Duration) -> String {
    format!("{}ms", paced(time).as_millis())
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A broker that is about to be started, and the API that its plugin asks.
pub struct Host {
    pub version: Version,
    pub folder: TempDir,
    pub api: MockApi,
    /// The one that it asks for names, if it has one of its own.
    pub name_server: Option<NameServer>,
    /// The functions that this broker lacks.
    pub lacks: Vec<&'static str>,
    pub options: Vec<String>,
}

impl Host {
    /// A broker whose plugin asks an API that answers by words in the username or topic.
    pub fn new(version: Version) -> Self {
        let api = api("");
        let asked_once = Mutex::new(HashSet::new());
        api.answer_with(move |request| {
            let (path, username) = (request.path.as_str(), request.field("username"));
            let what = if path == "/acl" { request.field("topic") } else { username };
            let is_first = || asked_once.lock().unwrap().insert(username.to_owned());
            match what {
                _ if path == "/nobody" => Reply::status(403),
                what if what.starts_with("hang") => Reply::Hang,
                what if what.starts_with("slow") => Reply::status(200).after(paced(seconds(1))),
                what if what.starts_with("gone") => Reply::status(503),
                what if what.starts_with("once") && is_first() => Reply::status(200),
                "" | "good" => Reply::status(200),
                _ => Reply::status(403),
            }
        });
        let host = Self {
            version,
            folder: TempDir::with_prefix("mha-host-").unwrap(),
            lacks: if version == V2_0 { OF_2_1.to_vec() } else { Vec::new() },
            options: Vec::new(),
            name_server: None,
            api,
        };
        let (auth_url, acl_url) = (host.api.auth_url(), host.api.acl_url());
        host.asking(&auth_url, &acl_url).option("throttle_after", 0)
    }

    pub fn asking(self, auth_url: &str, acl_url: &str) -> Self {
        let connect_timeout = milliseconds(Duration::from_millis(500));
        self.option("auth_url", auth_url)
            .option("acl_url", acl_url)
            .option("connect_timeout", connect_timeout)
            .timeout(seconds(2))
    }

    pub fn timeout(self, timeout: Duration) -> Self {
        self.option("timeout", milliseconds(timeout))
    }

    pub fn lacking(mut self, function: &'static str) -> Self {
        self.lacks.push(function);
        self
    }

    /// Has it look names up at a server that answers like this. Needs root.
    pub fn asking_for_names(mut self, lookup: Lookup) -> Self {
        self.name_server = NameServer::start(lookup);
        if let Some(server) = &self.name_server {
            fs::write(self.folder.path().join("resolv.conf"), server.resolv_conf()).unwrap();
            fs::write(self.folder.path().join("hosts"), "").unwrap();
        }
        self
    }

    /// Adds an option of the current instance; the last one of a name counts.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        let instance = self.options.iter().rposition(|option| option == "--").unwrap_or_default();
        let prefix = format!("{name}=");
        let place = self.options.iter().skip(instance).position(|option| option.starts_with(&prefix));
        let option = prefix + &value.to_string();
        match place {
            Some(place) => self.options[instance + place] = option,
            None => self.options.push(option),
        }
        self
    }

    /// Starts a second instance, to which the following options belong.
    pub fn second(mut self) -> Self {
        self.options.push("--".to_owned());
        self
    }

    /// Adds the local user "local", with the password "correct horse".
    pub fn local_user(self) -> Self {
        let line = include_str!("../fixtures/passwd-2.0.11").lines().next().unwrap();
        self.option("user", format!("local:{}", line.split_once(':').unwrap().1))
    }

    /// Has the calling test play its scenario in another process.
    pub fn run(self) {
        let test = thread::current().name().expect("tests run on threads of their name").to_owned();
        let version = if self.version == V2_0 { "2.0" } else { "2.1" };
        let given =
            [version.to_owned(), self.lacks.join(",")].into_iter().chain(self.options).collect::<Vec<_>>();
        let program = env::current_exe().unwrap();
        let launcher = launcher();
        let own_files = self.name_server.iter().flat_map(|_| OWN_FILES);
        let mut words =
            own_files.chain(launcher.split_whitespace()).map(Path::new).chain([program.as_path()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["--exact", &test, "--nocapture"]).env(GIVEN, given.join("\n"));
        let output = command.current_dir(self.folder.path()).output().unwrap();
        let [said, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(
            output.status.success() && said.contains(PLAYED),
            "with {:?}, without {:?}, it ends with {}:\n{said}{complained}",
            self.version,
            self.lacks,
            output.status
        );
    }
}

/// Plays a scenario for each of these brokers, in a process of its own, after `prepare`.
pub fn in_brokers(
    versions: impl IntoIterator<Item = Version>,
    prepare: impl Fn(Host) -> Host,
    scenario: impl Fn(&mut Stage),
) {
    if let Ok(given) = env::var(GIVEN) {
        let mut stage = Stage::new(&given);
        scenario(&mut stage);
        stage.broker.end();
        // A broker of 2.1 leaves the library open.
        if stage.version == V2_0 {
            stage.library.take().unwrap().close();
        }
        println!("{PLAYED}");
        process::exit(0);
    }
    for version in versions {
        prepare(Host::new(version)).run();
    }
}

/// A broker, the library of its plugin, and the options of its instances.
pub struct Stage {
    pub broker: FakeBroker,
    pub version: Version,
    pub library: Option<Library>,
    pub given: [Vec<(String, String)>; 2],
}

impl Stage {
    pub fn new(given: &str) -> Self {
        let mut lines = given.split('\n');
        let version = if lines.next() == Some("2.0") { V2_0 } else { V2_1 };
        lines.next().unwrap().split(',').filter(|function| !function.is_empty()).for_each(library::hide);
        let option = |line: &str| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        let first = lines.by_ref().take_while(|line| *line != "--").map(option).collect();
        let second = lines.map(option).collect();
        let library = Library::load(&plugin(), version);
        let broker = FakeBroker::new(version, library.plugin());
        Self { broker, version, library: Some(library), given: [first, second] }
    }

    pub fn is_2_1(&self) -> bool {
        self.version == V2_1
    }

    pub fn options(&self) -> Vec<(Text<'_>, Text<'_>)> {
        texts(&self.given[0])
    }

    pub fn option(&self, name: &str) -> String {
        self.given[0].iter().find(|(found, _)| found == name).unwrap().1.clone()
    }

    pub fn start(&self) -> Instance {
        self.start_with(&self.options())
    }

    pub fn start_with(&self, options: &[(Text<'_>, Text<'_>)]) -> Instance {
        let (code, instance) = self.broker.start(options);
        assert_eq!(code, SUCCESS, "{:?}", self.broker.take_log());
        instance
    }

    pub fn does_not_start(&self, options: &[(Text<'_>, Text<'_>)], why: &str) {
        let before = Resources::now();
        self.broker.take_log();
        let (code, instance) = self.broker.start(options);
        self.is_left_as_it_was(code, instance, why);
        assert_eq!(Resources::now(), before);
    }

    pub fn is_left_as_it_was(&self, code: i32, instance: Instance, why: &str) {
        assert_ne!(code, SUCCESS);
        assert!(instance.is_nothing());
        assert!(self.broker.has_logged(why), "{why:?} is not in {:?}", self.broker.take_log());
        // A broker of 2.1 calls cleanup even where init has failed.
        self.broker.stop(instance);
    }

    pub fn reload_library(&mut self) {
        self.library.take().unwrap().close();
        let library = Library::load(&plugin(), self.version);
        self.broker.replace_plugin(library.plugin());
        self.library = Some(library);
    }
}

pub fn texts(options: &[(String, String)]) -> Vec<(Text<'_>, Text<'_>)> {
    options.iter().map(|(name, value)| (Some(name.as_bytes()), Some(value.as_bytes()))).collect()
}

/// A process's use of system resources.
#[derive(Debug, PartialEq, Eq)]
pub struct Resources {
    pub threads: usize,
    pub descriptors: usize,
}

impl Resources {
    pub fn now() -> Self {
        let entries = |folder| fs::read_dir(folder).unwrap().count();
        Self { threads: entries("/proc/self/task"), descriptors: entries("/proc/self/fd") }
    }
}
