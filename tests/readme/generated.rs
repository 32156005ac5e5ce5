//! What is written from code, or is measured: the options, the metrics, the figures, quoted log lines.

use std::fs;

use mosquitto_http_auth::internals::{OPTIONS, metrics_as_markdown, option_as_markdown};

use crate::{blocks, files_below, in_checkout, marked, read};

const OPTIONS_PAGE: &str = "docs/configuration.md";
const EXAMPLE: &str = "mosquitto.conf.example";

/// Compares what stands between marks with what should, or writes it.
pub fn compare(page: &str, name: &str, expected: &str) {
    let text = read(page);
    let (start, found) = marked(page, &text, name);
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = [&text[..start], expected, &text[start + found.len()..]].concat();
        fs::write(in_checkout(page), updated).unwrap();
        return;
    }
    assert!(found == expected, "{page}, {name}: run UPDATE_README=1 cargo test --test readme");
}

/// The parts of the example configuration, `# --- NAME`, with the options that each sets.
fn parts(example: &str) -> Vec<(String, Vec<&str>)> {
    let mut parts: Vec<(String, Vec<&str>)> = Vec::new();
    for line in example.lines() {
        if let Some(heading) = line.strip_prefix("# --- ") {
            let name = heading.split([':', '(']).next().unwrap().trim();
            parts.push((name.to_owned(), Vec::new()));
        } else if let Some(option) = line.trim_start_matches('#').strip_prefix("plugin_opt_") {
            parts.last_mut().unwrap().1.push(option.split(' ').next().unwrap());
        }
    }
    parts
}

/// Each part of the example configuration is a part of the page, with its options in the order of their table.
#[test]
fn readme_lists_the_options_as_they_are() {
    let example = read(EXAMPLE);
    for (part, names) in parts(&example) {
        let options = OPTIONS.iter().filter(|spec| names.contains(&spec.name));
        compare(
            OPTIONS_PAGE,
            &format!("options: {part}"),
            &options.map(option_as_markdown).collect::<String>(),
        );
    }
    let text = read(OPTIONS_PAGE);
    for spec in OPTIONS {
        let listed = text.matches(&format!("#### `{}`\n", spec.name)).count();
        assert_eq!(listed, 1, "{} is in {OPTIONS_PAGE} {listed} times", spec.name);
        let sets = |block: &&str| {
            block.lines().any(|line| {
                let name = line.strip_prefix("plugin_opt_").unwrap_or(line);
                name.strip_prefix(spec.name).is_some_and(|rest| rest.starts_with(' '))
            })
        };
        let shown = [blocks(&text, "conf"), blocks(&text, "toml")].concat().iter().any(sets);
        assert!(shown, "{OPTIONS_PAGE} has no example of {}: add one to a block of conf there", spec.name);
    }
}

#[test]
fn the_page_of_metrics_lists_them_as_they_are() {
    compare("docs/metrics.md", "metrics", &metrics_as_markdown());
}

#[test]
fn readme_shows_figures_of_the_benchmark() {
    let text = read("README.md");
    let (_, shown) = marked("README.md", &text, "figures");
    assert!(
        read("docs/benchmark.md").contains(shown),
        "other figures than in docs/benchmark.md: run `make bench`"
    );
}

/// The recording shows every step of today's demo, and the text beside it says the same as the picture.
#[test]
fn the_recording_is_of_the_demo_as_it_is() {
    let (script, picture, text) = (read("scripts/demo.sh"), read("docs/demo.svg"), read("docs/demo.txt"));
    let again = "docs/demo.txt is of another demo: run `make record-demo`";
    let steps: Vec<&str> =
        script.lines().filter_map(|line| line.trim().strip_prefix("step \"")?.strip_suffix('"')).collect();
    let recorded: Vec<&str> =
        text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(steps, recorded, "{again}");
    for expected in script.lines().filter_map(|line| line.strip_prefix("    expect ")) {
        let expected = expected.trim_matches('\'');
        assert!(text.contains(&format!("expected: {expected} ")), "no {expected:?}: {again}");
    }
    let shown =
        text.lines().flat_map(|line| line.split(['"', '>', '\'', ' '])).filter(|part| !part.is_empty());
    for part in shown {
        assert!(picture.contains(part), "docs/demo.svg has no {part:?}, which docs/demo.txt has");
    }
    assert!(text.lines().last().unwrap().contains("outcomes as expected"));
}

/// In the tables of symptoms a first cell that starts with code quotes a line of the log, with … for what varies.
#[test]
fn readme_quotes_the_log_as_it_is() {
    let sources: String = files_below("src", ".rs").iter().map(|file| read(file)).collect();
    // A string that goes on in the next line.
    let mut pieces = sources.split("\\\n").map(str::trim_start);
    let sources = pieces.next().unwrap().to_owned() + &pieces.collect::<String>();

    let page = "docs/troubleshooting.md";
    let text = read(page);
    let mut quotes = 0;
    for row in marked(page, &text, "symptoms").1.lines().filter_map(|line| line.strip_prefix("| `")) {
        let quoted = &row[..row.find('`').expect("the code ends")];
        for fixed in quoted.split('…').filter(|part| part.chars().filter(|c| c.is_alphabetic()).count() > 1)
        {
            // Behind a colon there may be a text of another place, or of the system.
            let known = fixed.split(": ").all(|part| sources.contains(part) || part.contains("os error"));
            assert!(known, "no source has the {fixed:?} of `{quoted}`");
        }
        quotes += 1;
    }
    assert!(quotes > 40, "only {quotes} log lines were found: does the test still see them?");
}
