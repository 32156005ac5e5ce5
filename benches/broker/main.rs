//! `make bench`: the plugin's cost in real brokers, compared with a plugin that allows everything and with the brokers'
//! own files.
//!
//! Everything is measured in rounds, each of which takes every broker and plugin in turn, so that other work of the
//! machine affects all of them alike. Progress goes to stderr, tables to stdout. A run of everything writes
//! docs/benchmark.md, its charts and the README's extract; a run of a part writes into another folder.

mod ahead;
mod api;
mod batch;
mod callbacks;
mod chart;
mod computing;
mod fleet;
mod load;
mod logins;
mod memory;
mod outage;
mod report;
mod rules;
mod scale;
mod steering;
mod store;
#[allow(dead_code, reason = "the tests have more of its servers started than are measured")]
#[path = "../../tests/shared_cache/store.rs"]
mod store_server;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;
mod topics;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use api::Api;
use chart::Chart;
use load::{COMPANIONS, PASSWORD};
use report::Report;
use support::allocator::Counting;
use support::broker::{Setup, plugin};
use support::{Broker, Version};
use table::Table;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A section of the document.
struct Part {
    name: &'static str,
    measure: fn(&Bench) -> Table,
    chart: Option<&'static Chart>,
}

static PARTS: [Part; 18] = [
    Part { name: "storm", measure: logins::storm, chart: Some(&logins::STORM_CHART) },
    Part { name: "fan-out", measure: topics::fan_out, chart: Some(&topics::FAN_OUT_CHART) },
    Part { name: "fleet", measure: fleet::reconnects, chart: Some(&fleet::CHART) },
    Part { name: "topics", measure: ahead::topics, chart: None },
    Part { name: "batch", measure: batch::batches, chart: None },
    Part { name: "throughput", measure: topics::throughput, chart: Some(&topics::THROUGHPUT_CHART) },
    Part { name: "callbacks", measure: callbacks::measure, chart: None },
    Part { name: "memory", measure: memory::per_verdict, chart: None },
    Part { name: "login", measure: logins::on_idle_broker, chart: None },
    Part { name: "sighup", measure: logins::sighup, chart: None },
    Part { name: "computing", measure: computing::crowds, chart: None },
    Part { name: "steering", measure: steering::attacked, chart: None },
    Part { name: "restart", measure: store::restarts, chart: None },
    Part { name: "shared", measure: store::first_questions, chart: None },
    Part { name: "hang", measure: logins::while_api_hangs, chart: None },
    Part { name: "rules", measure: rules::rules, chart: None },
    Part { name: "scale", measure: scale::scale, chart: None },
    Part { name: "outage", measure: outage::outage, chart: None },
];

/// The oldest broker and the newest.
const VERSIONS: [Version; 2] = [Version::V2_0_11, Version::V2_1];

/// The parameters of a run: what is measured, and how thoroughly.
struct Bench {
    versions: Vec<Version>,
    rounds: usize,
    quick: bool,
    /// Whether the part about scale takes its large sizes.
    large: bool,
    /// How long the API is away, in the part about that.
    outage: Duration,
    /// How many files a process may have open.
    descriptors: u64,
    /// The plugin, and one that allows everything.
    ours: PathBuf,
    null: PathBuf,
    /// The program that calls a plugin as a broker does.
    host: PathBuf,
    _built: TempDir,
}

impl Bench {
    /// The rounds, each of which is announced on stderr.
    fn rounds(&self) -> impl Iterator<Item = usize> {
        let count = self.rounds;
        (1..=count).inspect(move |round| eprintln!("  round {round} of {count}"))
    }

    /// A broker with the plugin that allows everything.
    fn null(&self, version: Version) -> Setup {
        as_operated(version).plugin(&self.null)
    }

    /// A broker with this plugin. It turns nobody away: what is measured is how long all of them take.
    fn ours(&self, version: Version, api: &Api) -> Setup {
        self.asking(version, &api.url("auth")).option("acl_url", api.url("acl"))
    }

    /// A broker with this plugin, which asks about logins there and leaves topics to the broker.
    fn asking(&self, version: Version, auth_url: &str) -> Setup {
        as_operated(version).plugin(&self.ours).option("login_wait", "0").option("auth_url", auth_url)
    }

    /// A broker that decides by its own files: these users, and companions, may do everything below some topics.
    fn own_files(&self, version: Version, users: impl Iterator<Item = String>, topics: &str) -> Setup {
        let hash = hash_of_password(version);
        let (mut passwords, mut rules) = (String::new(), String::new());
        for user in users.chain(COMPANIONS.map(str::to_owned)) {
            passwords += &format!("{user}:{hash}\n");
            rules += &format!("user {user}\ntopic readwrite {topics}\n");
        }
        as_operated(version)
            .without_plugin()
            .file("passwords", passwords)
            .file("rules", rules)
            .line("password_file passwords")
            .line("acl_file rules")
    }

    /// Whether this many clients can be connected at once: each needs a descriptor here and one in the broker.
    fn can_connect(&self, clients: u64) -> bool {
        const OTHERS: u64 = 1_000;
        let can = self.descriptors >= clients + OTHERS;
        if !can {
            eprintln!("    {clients} clients are too many for {} descriptors (ulimit -n)", self.descriptors);
        }
        can
    }
}

/// A hash of the clients' password, made by the broker's own program. All clients share it, since each hash takes
/// equally long to check.
fn hash_of_password(version: Version) -> String {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("passwords");
    let mut program = Command::new(version.program("mosquitto_passwd"));
    program.args(["-c", "-b"]).arg(&file).args(["somebody", PASSWORD]);
    assert!(program.output().unwrap().status.success(), "mosquitto_passwd {version}");
    let line = fs::read_to_string(&file).unwrap();
    line.trim().strip_prefix("somebody:").unwrap().to_owned()
}

/// A broker as operators run it, with Mosquitto's default log.
fn as_operated(version: Version) -> Setup {
    let log_types = ["none", "error", "warning", "notice", "information"];
    log_types.iter().fold(Broker::with(version), |setup, kind| setup.global(format!("log_type {kind}")))
}

/// The release of a broker, to the last digit.
fn release(version: Version) -> String {
    let program = version.program("mosquitto");
    let folder = program.ancestors().nth(2).unwrap();
    format!("Mosquitto {}", fs::read_to_string(folder.join("version")).unwrap().trim())
}

fn main() -> ExitCode {
    let chosen = match arguments() {
        Ok(chosen) => chosen,
        Err(problem) => {
            let parts = PARTS.each_ref().map(|part| part.name).join("|");
            let brokers = VERSIONS.map(|version| version.to_string()).join("|");
            eprintln!(
                "{problem}\nusage: make bench ARGS='[{parts}]... [{brokers}]... [--rounds N] [--outage SECONDS] [--large] [--quick]'"
            );
            return ExitCode::from(2);
        }
    };
    let built = TempDir::with_prefix("mha-bench-").unwrap();
    let bench = Bench {
        versions: chosen.versions,
        rounds: chosen.rounds.unwrap_or(if chosen.quick { 1 } else { 5 }),
        quick: chosen.quick,
        large: chosen.large,
        outage: Duration::from_secs(chosen.outage.unwrap_or(if chosen.quick { 10 } else { 60 })),
        descriptors: raise_descriptor_limit(),
        ours: plugin().canonicalize().unwrap(),
        null: compile(built.path(), "null_plugin.c", &["-shared", "-fPIC"]),
        host: compile(built.path(), "host.c", &["-rdynamic", "-ldl"]),
        _built: built,
    };
    let mut report = Report::new(&bench);
    for part in chosen.parts {
        eprintln!("{}:", part.name);
        let begun = Instant::now();
        let table = (part.measure)(&bench);
        eprintln!("  took {} s", begun.elapsed().as_secs());
        println!("{table}");
        report.add(part, table);
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = if chosen.is_everything {
        let folder = checkout.join("docs");
        report
            .write(&folder)
            .and_then(|()| report.write_extract(&checkout.join("README.md")))
            .map(|()| folder)
    } else {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("benchmark");
        report.write(&folder).map(|()| folder)
    };
    match written {
        Ok(folder) => eprintln!("written to {}", folder.join("benchmark.md").display()),
        Err(error) => {
            eprintln!("the document cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Parses the command line. Without arguments, everything is measured.
#[derive(Default)]
struct Chosen {
    parts: Vec<&'static Part>,
    versions: Vec<Version>,
    rounds: Option<usize>,
    outage: Option<u64>,
    quick: bool,
    large: bool,
    is_everything: bool,
}

fn arguments() -> Result<Chosen, String> {
    let mut chosen = Chosen::default();
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let part = PARTS.iter().find(|part| part.name == word);
        let version = VERSIONS.into_iter().find(|version| version.to_string() == word);
        match (word.as_str(), part, version) {
            (_, Some(part), _) => chosen.parts.push(part),
            (_, _, Some(version)) => chosen.versions.push(version),
            ("--bench", ..) => {} // an argument of cargo
            ("--quick", ..) => chosen.quick = true,
            ("--large", ..) => chosen.large = true,
            ("--rounds", ..) => {
                let count = words.next().and_then(|count| count.parse().ok()).filter(|count| *count > 0);
                chosen.rounds = Some(count.ok_or("--rounds wants a number")?);
            }
            ("--outage", ..) => {
                let seconds =
                    words.next().and_then(|seconds| seconds.parse().ok()).filter(|it| (5..=60).contains(it));
                chosen.outage = Some(seconds.ok_or("--outage wants a number of seconds, from 5 to 60")?);
            }
            _ => return Err(format!("what is {word:?}?")),
        }
    }
    let is_part = !chosen.parts.is_empty() || !chosen.versions.is_empty();
    chosen.is_everything = !(is_part || chosen.quick || chosen.outage.is_some());
    if chosen.parts.is_empty() {
        chosen.parts.extend(&PARTS);
    }
    if chosen.versions.is_empty() {
        chosen.versions.extend(VERSIONS);
    }
    if env::var_os("MHA_PLUGIN").is_none() {
        // Cargo builds the plugin beside a benchmark without link-time optimisation.
        return Err("MHA_PLUGIN does not name the plugin to measure".to_owned());
    }
    Ok(chosen)
}

/// Compiles one of the C sources beside this folder.
fn compile(folder: &Path, source: &str, flags: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = folder.join(source).with_extension("");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(&compiler)
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&output)
        .arg(root.join("benches").join(source))
        .arg("-I")
        .arg(root.join("include"))
        .arg("-idirafter")
        .arg(root.join(".brokers/2.0.11/include"))
        .args(flags)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{} cannot compile {source}", compiler.display());
    output
}

/// Raises the limit on descriptors, here and for the broker, which inherits it, since thousands of connections need as
/// many. Returns the new limit.
fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both functions read or write a struct that lives here.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
    limit.rlim_cur
}
