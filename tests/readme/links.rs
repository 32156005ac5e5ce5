//! Everything that is named exists: links, headings, pages, tests, targets of `make`.

use std::path::Path;

use crate::{files_below, in_checkout, pages, prose, read};

/// The most lines of the README, which is to be read as a whole.
const MOST_LINES: usize = 250;

/// The most words of a page: what can be read in ten minutes.
const MOST_WORDS: usize = 2000;

/// Pages to look things up in.
const FOR_REFERENCE: [&str; 4] =
    ["docs/benchmark.md", "docs/configuration.md", "docs/troubleshooting.md", "SECURITY.md"];

/// As GitHub names headings: letters, digits, - and _ stay, spaces become -.
fn headings(text: &str) -> Vec<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

/// The links of a page, with images.
fn links(text: &str) -> Vec<String> {
    let text = prose(text);
    let mut links = Vec::new();
    for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
        for rest in text.split(opening).skip(1) {
            links.push(rest[..rest.find(closing).expect("the link ends")].to_owned());
        }
    }
    links
}

#[test]
fn links_lead_somewhere() {
    let mut found = 0;
    for page in pages() {
        let beside = |link: &str| Path::new(&page).parent().unwrap().join(link).to_str().unwrap().to_owned();
        for link in links(&read(&page)) {
            found += 1;
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            if link.starts_with("https://") {
                continue;
            }
            let there = if file.is_empty() { page.clone() } else { beside(file) };
            assert!(in_checkout(&there).exists(), "{page}: there is no {link}");
            let leads =
                heading.is_empty() || headings(&prose(&read(&there))).iter().any(|own| own == heading);
            assert!(leads, "{page}: no heading for {link}");
        }
    }
    assert!(found > 150, "only {found} links were found: does the test still see them?");
}

#[test]
fn pages_are_short_and_in_the_index() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= MOST_LINES, "README.md has more than {MOST_LINES} lines");
    let index = links(&read("docs/README.md"));
    for page in files_below("docs", ".md") {
        let name = page.strip_prefix("docs/").unwrap();
        let is_listed = name == "README.md" || index.iter().any(|link| link == name);
        assert!(is_listed, "docs/README.md does not list {name}");
        let words = prose(&read(&page))
            .split_whitespace()
            .filter(|word| word.contains(char::is_alphanumeric))
            .count();
        let is_short = words <= MOST_WORDS || FOR_REFERENCE.contains(&page.as_str());
        assert!(is_short, "{page} has {words} words: nobody reads that in ten minutes");
    }
}

/// Code, log lines and scripts send nobody to a page that is not there, and nobody to the README, which has no details.
#[test]
fn sources_name_pages_that_exist() {
    let mut files = ["Makefile", "mosquitto.conf.example", "deny.toml"].map(str::to_owned).to_vec();
    for (folder, ending) in
        [("src", ".rs"), ("cli", ".rs"), ("tests", ".rs"), ("scripts", ""), ("contrib", ""), ("docker", "")]
    {
        files.extend(files_below(folder, ending));
    }
    let mut named = 0;
    for file in files.iter().filter(|file| *file != "tests/readme/links.rs") {
        let text = read(file);
        for rest in text.split("docs/").skip(1) {
            let end =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(rest.len());
            if let Some((name, _)) = rest[..end].rsplit_once(".md") {
                named += 1;
                let exists = in_checkout(&format!("docs/{name}.md")).exists();
                assert!(exists, "{file} names docs/{name}.md, which is not there");
            }
        }
        let sends = file.starts_with("src/") && text.contains("README");
        assert!(!sends, "{file} names the README: name the page in docs/ that has it");
    }
    assert!(named > 10, "only {named} pages were found: does the test still see them?");
}

/// `make NAME`, in code.
#[test]
fn pages_name_targets_that_make_knows() {
    let makefile = read("Makefile");
    let mut named = 0;
    for page in pages() {
        for rest in read(&page).split(['`', '\n']).filter_map(|code| code.strip_prefix("make ")) {
            let target = rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap();
            if target.is_empty() {
                continue;
            }
            named += 1;
            assert!(
                makefile.contains(&format!("\n{target}:")),
                "{page}: no target {target} for `make {rest}`"
            );
        }
    }
    assert!(named > 20, "only {named} targets were found: does the test still see them?");
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let program = read("cli/Cargo.toml");
    assert!(program.contains(&format!("\nversion = \"{version}\"\n")), "cli/Cargo.toml has another version");
    let changes = read("CHANGELOG.md");
    let newest = changes.lines().find(|line| line.starts_with("## [")).unwrap();
    assert!(newest.starts_with(&format!("## [{version}] - ")), "CHANGELOG.md begins with {newest:?}");
    for page in pages() {
        let text = read(&page);
        for rest in text.split("mosquitto-http-auth_").skip(1).filter(|rest| !rest.starts_with('*')) {
            assert!(rest.starts_with(version), "{page} names a package of another version");
        }
    }
}

/// Each of its claims names the tests that show it.
#[test]
fn security_names_tests_that_exist() {
    let text = read("SECURITY.md");
    let tests: Vec<_> = text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    for (file, test) in &tests {
        let source =
            read(&if file.ends_with(".rs") { (*file).to_owned() } else { format!("tests/{file}.rs") });
        assert!(source.contains(&format!("fn {test}()")), "{file} has no test {test}");
    }
    assert!(tests.len() > 40, "only {} tests were found: does this one still see them?", tests.len());
}
