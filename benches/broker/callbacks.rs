//! The plugin's callbacks by themselves, without a broker.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Bench;
use crate::api::Api;
use crate::table::{NULL, Table};

/// The figures that `benches/host.c` prints, in this order.
const MEASURED: [(&str, &str); 3] = [
    ("one_topic", "topic check, the same topic"),
    ("many_topics", "topic check, 10,000 topics in turn"),
    ("login", "login"),
];

pub fn measure(bench: &Bench) -> Table {
    let mut table = Table::new(
        "Remembered verdicts",
        "One call of a callback, by a C program that loads the plugin as a broker does (`benches/host.c`).",
        &["ns"],
        &[],
    );
    for _ in bench.rounds() {
        let null = run(bench, &bench.null, &[]);
        let api = Api::start();
        let ttl = |name| format!("{name}_cache_ttl=1h");
        let urls = [("auth", api.url("auth")), ("acl", api.url("acl"))];
        let options: Vec<_> =
            urls.iter().flat_map(|(name, url)| [format!("{name}_url={url}"), ttl(name)]).collect();
        let ours = run(bench, &bench.ours, &options);
        for (index, (_, what)) in MEASURED.iter().enumerate() {
            table.add(what, NULL, &[null[index]]);
            table.add(what, "ours", &[ours[index]]);
        }
    }
    table
}

fn run(bench: &Bench, plugin: &Path, options: &[String]) -> [f64; 3] {
    let output =
        Command::new(&bench.host).arg(plugin).args(options).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "benches/host.c measures {}", plugin.display());
    let output = String::from_utf8(output.stdout).unwrap();
    MEASURED.map(|(name, _)| {
        let line = output.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().unwrap()
    })
}
