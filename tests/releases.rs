//! `make release` refuses what must not become one. (What it makes is tried by `make release ARGS=rehearse`.)

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A repository with as much of this one as the script looks at before it builds anything, and a changelog with a date.
struct Checkout(TempDir);

impl Checkout {
    fn new() -> Self {
        let checkout = Self(tempfile::tempdir().unwrap());
        for file in ["Cargo.toml", "cli/Cargo.toml", "CHANGELOG.md", "scripts/release.sh"] {
            let to = checkout.0.path().join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), to).unwrap();
        }
        let changes = fs::read_to_string(checkout.0.path().join("CHANGELOG.md")).unwrap();
        let newest = changes.lines().find(|line| line.starts_with("## [")).unwrap();
        checkout.change("CHANGELOG.md", newest, &format!("## [{VERSION}] - 2026-11-26"));
        checkout.git(&["init", "--quiet"]);
        checkout.commit();
        checkout
    }

    fn git(&self, arguments: &[&str]) {
        let who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example"];
        let status = Command::new("git").args(who).args(arguments).current_dir(&self.0).status().unwrap();
        assert!(status.success(), "git {arguments:?}");
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "A change"]);
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.0.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// A script that does as told in place of a check.
    fn check(&self, text: &str) {
        fs::create_dir_all(self.0.path().join(".ci")).unwrap();
        let path = self.0.path().join(".ci/run");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        assert!(Command::new("chmod").arg("+x").arg(path).status().unwrap().success());
        self.commit();
    }

    /// The script fails, says so, and makes nothing.
    fn refused(&self, because: &str) {
        let output = Command::new("scripts/release.sh").current_dir(&self.0).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(because), "{because}: {output:?}");
        assert!(!self.0.path().join("target/dist").exists());
    }
}

#[test]
fn a_tree_that_is_not_committed_is_refused() {
    let checkout = Checkout::new();
    fs::write(checkout.0.path().join("new"), "").unwrap();
    checkout.refused("this is not what is committed");
    checkout.commit();
    checkout.change("Cargo.toml", "MIT", "XXX");
    checkout.refused("this is not what is committed");
}

#[test]
fn versions_that_disagree_are_refused() {
    let version = format!("version = \"{VERSION}\"");
    for (file, from, to, because) in [
        ("cli/Cargo.toml", version.as_str(), "version = \"99.0.0\"", "another version"),
        ("CHANGELOG.md", "## [", "## [99.0.0] - 2026-11-26\n\n## [", "the newest part"),
        ("CHANGELOG.md", "] - 2026-11-26", "] - unreleased", "unreleased"),
    ] {
        let checkout = Checkout::new();
        checkout.change(file, from, to);
        checkout.commit();
        checkout.refused(because);
    }
}

#[test]
fn a_version_that_is_out_is_refused() {
    let checkout = Checkout::new();
    checkout.git(&["tag", &format!("v{VERSION}")]);
    checkout.commit();
    checkout.refused("another commit already");
}

#[test]
fn failed_checks_are_refused() {
    let checkout = Checkout::new();
    checkout.check("exit 1");
    checkout.refused(".ci/run failed");
    // The next check is not there at all.
    checkout.check("exit 0");
    checkout.refused("scripts/deny.sh strict failed");
}
