//! `make bench`: what the plugin costs in real brokers, beside a plugin that allows everything.
//!
//! Everything is measured in rounds, each of which takes every broker and plugin in turn, so that what else the
//! machine does at a time hits all of them. Progress goes to stderr; the result, in Markdown, to stdout.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod api;
mod callbacks;
mod load;
mod logins;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;
mod topics;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use tempfile::TempDir;

use api::Api;
use support::broker::{Setup, plugin};
use support::{Broker, Version};
use table::Table;

type Part = (&'static str, fn(&Bench) -> Table);

const PARTS: [Part; 7] = [
    ("callbacks", callbacks::measure),
    ("throughput", topics::throughput),
    ("fan-out", topics::fan_out),
    ("storm", logins::storm),
    ("login", logins::on_idle_broker),
    ("sighup", logins::sighup),
    ("hang", logins::while_api_hangs),
];

/// The oldest broker and the newest.
const VERSIONS: [Version; 2] = [Version::V2_0_11, Version::V2_1];

/// What is measured, and how thoroughly.
struct Bench {
    versions: Vec<Version>,
    rounds: usize,
    quick: bool,
    /// The plugin, and one that allows everything.
    ours: PathBuf,
    null: PathBuf,
    /// The program that calls a plugin as a broker does.
    host: PathBuf,
    _built: TempDir,
}

impl Bench {
    /// One more round after the other, with a word on stderr.
    fn rounds(&self) -> impl Iterator<Item = usize> {
        let count = self.rounds;
        (1..=count).inspect(move |round| eprintln!("  round {round} of {count}"))
    }

    /// A broker with the plugin that allows everything.
    fn null(&self, version: Version) -> Setup {
        as_operated(version).plugin(&self.null)
    }

    /// A broker with this plugin.
    fn ours(&self, version: Version, api: &Api) -> Setup {
        let broker = as_operated(version).plugin(&self.ours);
        broker.option("auth_url", api.url("auth")).option("acl_url", api.url("acl"))
    }
}

/// A broker as operators run it: it logs what Mosquitto logs unless told otherwise.
fn as_operated(version: Version) -> Setup {
    let log_types = ["none", "error", "warning", "notice", "information"];
    log_types.iter().fold(Broker::with(version), |setup, kind| setup.global(format!("log_type {kind}")))
}

/// Which release a broker is, to the last digit.
fn release(version: Version) -> String {
    let program = version.program("mosquitto");
    let folder = program.ancestors().nth(2).unwrap();
    fs::read_to_string(folder.join("version")).unwrap().trim().to_owned()
}

fn main() -> ExitCode {
    let chosen = match arguments() {
        Ok(chosen) => chosen,
        Err(problem) => {
            let parts = PARTS.map(|(name, _)| name).join("|");
            let brokers = VERSIONS.map(|version| version.to_string()).join("|");
            eprintln!(
                "{problem}\nusage: make bench ARGS='[{parts}]... [{brokers}]... [--rounds N] [--quick]'"
            );
            return ExitCode::from(2);
        }
    };
    raise_descriptor_limit();
    let built = TempDir::with_prefix("mha-bench-").unwrap();
    let bench = Bench {
        versions: chosen.versions,
        rounds: chosen.rounds.unwrap_or(if chosen.quick { 1 } else { 5 }),
        quick: chosen.quick,
        ours: plugin().canonicalize().unwrap(),
        null: compile(built.path(), "null_plugin.c", &["-shared", "-fPIC"]),
        host: compile(built.path(), "host.c", &["-rdynamic", "-ldl"]),
        _built: built,
    };
    println!("{}", circumstances(&bench));
    for (name, measure) in chosen.parts {
        eprintln!("{name}:");
        println!("{}", measure(&bench));
    }
    ExitCode::SUCCESS
}

/// What the command line asks for; everything, where it says nothing.
#[derive(Default)]
struct Chosen {
    parts: Vec<Part>,
    versions: Vec<Version>,
    rounds: Option<usize>,
    quick: bool,
}

fn arguments() -> Result<Chosen, String> {
    let mut chosen = Chosen::default();
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let part = PARTS.into_iter().find(|(name, _)| *name == word);
        let version = VERSIONS.into_iter().find(|version| version.to_string() == word);
        match (word.as_str(), part, version) {
            (_, Some(part), _) => chosen.parts.push(part),
            (_, _, Some(version)) => chosen.versions.push(version),
            ("--bench", ..) => {} // cargo's own
            ("--quick", ..) => chosen.quick = true,
            ("--rounds", ..) => {
                let count = words.next().and_then(|count| count.parse().ok()).filter(|count| *count > 0);
                chosen.rounds = Some(count.ok_or("--rounds wants a number")?);
            }
            _ => return Err(format!("what is {word:?}?")),
        }
    }
    if chosen.parts.is_empty() {
        chosen.parts.extend(PARTS);
    }
    if chosen.versions.is_empty() {
        chosen.versions.extend(VERSIONS);
    }
    if env::var_os("MHA_PLUGIN").is_none() {
        // What Cargo builds beside a benchmark is not optimised as a whole.
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

/// Thousands of connections need as many descriptors, here and in the broker, which inherits the limit.
fn raise_descriptor_limit() {
    // SAFETY: both functions read or write a struct that lives here; all zeroes is a valid one.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// When, on what and how it was measured.
fn circumstances(bench: &Bench) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let date = Command::new("date").arg("+%F").output().map(|output| output.stdout).unwrap_or_default();
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / f64::from(1 << 20);
    format!(
        "Measured on {} with version {}, Mosquitto {}; {} with {} cores, {:.0} GiB, Linux {}; load before: {}. \
         Broker, API and clients share the machine. Each figure is the median of {} rounds (lowest–highest).\n",
        String::from_utf8_lossy(&date).trim(),
        env!("CARGO_PKG_VERSION"),
        bench.versions.iter().copied().map(release).collect::<Vec<_>>().join(" and "),
        field(&read("/proc/cpuinfo"), "model name"),
        thread::available_parallelism().map_or(0, usize::from),
        memory,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        bench.rounds,
    )
}
