//! The document with the results: how and on what machine they were measured, how to read them, and an extract.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::table::{NULL, OWN_FILES, Table, shown};
use crate::{Bench, Part, release};

const FOR_WHOM: &str = "\
*For whoever wants to know what the plugin costs, or plans for a fleet. Measure it on a machine of your own: other \
machines, and other APIs, give other figures.*";

const HOW_TO_READ: &str = "\
Each figure is the median of the rounds, with the lowest and the highest in brackets. A round takes every broker and \
every plugin in turn, so that what else the machine does at a time hits all of them.

- **null**: a plugin in C that allows everything (`benches/null_plugin.c`), which is the least that any plugin costs.
- **own files**: the broker without a plugin, with its own `password_file` and `acl_file`.
- **ours**: this plugin, with default options where nothing else is said.
- **×**: so many times the figure of null, and of own files; the median of the rounds' ratios.
- **stall**: the time for which another client waits for a PINGRESP, the broker's answer to a PINGREQ, a client's sign of \
life. It sends a PINGREQ every half a millisecond, or would if it did not have to wait: one long wait counts as all the \
PINGREQs that fall into it.
";

/// A line of the extract, or one for each broker.
struct Line {
    part: &'static str,
    /// The groups with this text in their names only.
    groups: &'static str,
    column: usize,
    what: &'static str,
    /// The cells: null plugin, own files, nothing remembered, everything remembered.
    subjects: [&'static str; 4],
}

const STORM: [&str; 4] = [NULL, OWN_FILES, "API 20 ms, 64 requests, cold", "API 20 ms, 64 requests, warm"];

const EXTRACT: [Line; 5] = [
    Line {
        part: "storm",
        groups: " 500 clients",
        column: 0,
        what: "until the last login, ms",
        subjects: STORM,
    },
    Line { part: "storm", groups: " 500 clients", column: 1, what: "longest stall, ms", subjects: STORM },
    Line {
        part: "fan-out",
        groups: "",
        column: 0,
        what: "one message to 200 subscribers, ms",
        subjects: [NULL, OWN_FILES, "cold", "warm"],
    },
    Line {
        part: "throughput",
        groups: "QoS 0",
        column: 0,
        what: "messages a second",
        subjects: [NULL, OWN_FILES, "", "ours"],
    },
    Line {
        part: "callbacks",
        groups: "10,000 topics",
        column: 0,
        what: "ns",
        subjects: [NULL, "", "", "ours"],
    },
];

pub struct Report {
    circumstances: String,
    parts: Vec<(&'static Part, Table)>,
}

impl Report {
    pub fn new(bench: &Bench) -> Self {
        Self { circumstances: circumstances(bench), parts: Vec::new() }
    }

    pub fn add(&mut self, part: &'static Part, table: Table) {
        self.parts.push((part, table));
    }

    /// Writes the document and its charts into a folder.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut text = format!("# Benchmark\n\n{FOR_WHOM}\n\n{}\n{HOW_TO_READ}", self.extract());
        for (part, table) in &self.parts {
            text += &format!("\n{table}");
            if let Some(chart) = part.chart {
                let file = format!("benchmark-{}.svg", chart.name);
                fs::write(folder.join(&file), chart.draw(table))?;
                text += &format!("\n![{}]({file})\n", chart.title);
            }
        }
        fs::write(folder.join("benchmark.md"), text)
    }

    /// Writes the extract into its place in another document.
    pub fn write_extract(&self, document: &Path) -> io::Result<()> {
        let text = fs::read_to_string(document)?;
        let place = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, after) =
            place.ok_or_else(|| io::Error::other(format!("no place between {BEGIN} and {END}")))?;
        fs::write(document, [before, BEGIN, &self.extract(), END, after].concat())
    }

    /// The most important figures.
    fn extract(&self) -> String {
        let mut text = format!(
            "{}\n\n| | | null | own files | ours, nothing remembered | ours, all remembered |\n\
             |---|---|---:|---:|---:|---:|\n",
            self.circumstances
        );
        for line in EXTRACT {
            let part = self.parts.iter().find(|(part, _)| part.name == line.part);
            let Some((_, table)) = part else { continue };
            for group in table.groups().into_iter().filter(|group| group.contains(line.groups)) {
                let median = |subject| Some(shown(table.spread(group, subject, line.column)?.median));
                let figures = line.subjects.map(|subject| median(subject).unwrap_or("–".to_owned()));
                text += &format!("| {group} | {} | {} |\n", line.what, figures.join(" | "));
            }
        }
        text
    }
}

const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- /figures -->";

/// The date, the machine and the method of the measurement.
fn circumstances(bench: &Bench) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().map(|output| output.stdout);
        String::from_utf8_lossy(&output.unwrap_or_default()).trim().to_owned()
    };
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / f64::from(1 << 20);
    format!(
        "`make bench` on {} with version {} ({}), {}; {} with {} cores, {memory:.0} GiB, Linux {}; load before: {}. \
         Broker, API and clients share the machine, and talk plain TCP. Rounds: {}.",
        said("date", &["+%F"]),
        env!("CARGO_PKG_VERSION"),
        said("git", &["describe", "--always", "--dirty"]),
        bench.versions.iter().copied().map(release).collect::<Vec<_>>().join(" and "),
        field(&read("/proc/cpuinfo"), "model name"),
        thread::available_parallelism().map_or(0, usize::from),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        bench.rounds,
    )
}
