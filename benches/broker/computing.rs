//! Crowds that log in at once, with an API that computes a password hash for each.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::api::{self, Api};
use crate::load::{Fleet, PASSWORD, ms};
use crate::support::Broker;
use crate::table::Table;
use crate::{Bench, release};

/// What a hash takes.
const HASH: Duration = Duration::from_millis(42);

/// How many the API computes at a time.
const CORES: usize = 2;

/// Questions that the API is asked at a time when it is measured alone: enough to keep it busy.
const ALONE: usize = 4 * CORES;

/// Refusals that are shown, with their reasons. There should be none.
const SHOWN_REFUSALS: usize = 3;

/// The example server, where there is a Python to run it with.
const EXAMPLE: &str = "examples/api_server.py";

/// Measures crowds of clients with names of their own. Nobody who is refused comes again.
pub fn crowds(bench: &Bench) -> Table {
    let mut table = Table::new(
        "An API that computes",
        format!(
            "All clients have their TCP connections when the clock starts; then they log in at once, with default \
             options. *Model*: an API that works on {CORES} questions at a time, {HASH:?} each, the others queue. \
             *Example server*: `{EXAMPLE}`, which checks scrypt hashes on the cores that it shares with the broker \
             and the clients. The API alone: as many questions, asked directly, {ALONE} at a time."
        ),
        &[],
        &["last CONNACK, ms", "API alone, ms", "times the API alone", "refused"],
    );
    for round in bench.rounds() {
        for &version in &bench.versions {
            let crowds: &[usize] = if bench.quick || round > 1 { &[200] } else { &[200, 1_000] };
            for &clients in crowds {
                let group = format!("{}, {clients} clients", release(version));
                let model = Api::start();
                model.answer_after(HASH);
                model.work_on(CORES);
                let alone = model.storm(clients, ALONE);
                let broker = bench.ours(version, &model).start();
                table.add(&group, "model", &crowd(&broker, clients, alone));
                let Some(server) = Example::start(clients) else { continue };
                let alone = api::storm(server.address, clients, ALONE);
                let broker = bench.asking(version, &format!("http://{}/auth", server.address)).start();
                table.add(&group, "example server", &crowd(&broker, clients, alone));
            }
        }
    }
    table
}

fn crowd(broker: &Broker, clients: usize, alone: Duration) -> [f64; 4] {
    let mut fleet = Fleet::connect(broker, clients);
    let logins = fleet.log_in(clients, Duration::from_secs(120));
    let log = if logins.failed > 0 { broker.log() } else { String::new() };
    for line in log.lines().filter(|line| line.contains("Refused to let")).take(SHOWN_REFUSALS) {
        eprintln!("      {line}");
    }
    let (took, alone) = (ms(logins.took()), ms(alone));
    [took, alone, took / alone, logins.failed as f64]
}

/// The example server, with users who are the clients of these measurements.
struct Example {
    address: SocketAddr,
    process: Child,
    _folder: TempDir,
}

impl Example {
    /// `None` if there is no Python.
    fn start(clients: usize) -> Option<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
        let more_users = format!(
            "_hash = hashlib.scrypt(b\"{PASSWORD}\", salt=bytes(16), n=2**14, r=8, p=1, dklen=32).hex()\n\
             _names = [f\"user-{{n}}\" for n in range({clients})] + [\"witness\", \"pinger\"]\n\
             USERS.update({{name: (\"00\" * 16, _hash, []) for name in _names}})\n"
        );
        let before = "NOBODY = ";
        let text = fs::read_to_string(source).unwrap();
        assert!(text.contains(before), "{EXAMPLE} has changed");
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("server.py");
        fs::write(&program, text.replacen(before, &format!("{more_users}{before}"), 1)).unwrap();
        let mut command = Command::new("python3");
        let started =
            command.arg(program).arg("127.0.0.1:0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut process) = started else {
            eprintln!("    {EXAMPLE} is left out: there is no python3");
            return None;
        };
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit("//").next().unwrap().parse().expect("its address");
        Some(Self { address, process, _folder: folder })
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
