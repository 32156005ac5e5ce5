//! What the broker's own configuration says. The broker does not tell, but its command line names the file, and most
//! often its user may read it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::util::files;

/// The most bytes of a configuration that are read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The `password_file` of mosquitto.conf, where there is one for all listeners and it can be known.
pub fn password_file_of_broker() -> Option<String> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let option = arguments.iter().position(|argument| argument == "-c" || argument == "--config-file")?;
    let mut lines = Vec::new();
    read(Path::new(arguments.get(option + 1)?), 0, &mut lines);
    password_file(&lines)
}

fn password_file(lines: &[String]) -> Option<String> {
    let values = |name: &'static str| {
        lines.iter().filter_map(move |line| line.strip_prefix(name)?.strip_prefix([' ', '\t']).map(str::trim))
    };
    // With one for each listener, it may be that of another than the plugin's.
    if values("per_listener_settings").any(|value| value == "true") {
        return None;
    }
    values("password_file").next().map(str::to_owned)
}

/// The lines of a configuration and of the folders that it includes, in no particular order. What is included may not
/// include more.
fn read(path: &Path, depth: usize, lines: &mut Vec<String>) {
    let Ok(bytes) = files::read(path, MAX_FILE_BYTES) else { return };
    let text = String::from_utf8_lossy(&bytes);
    let own: Vec<&str> = text.lines().map(str::trim_start).collect();
    lines.extend(own.iter().map(|line| (*line).to_owned()));
    if depth == 0 {
        for folder in own.iter().filter_map(|line| line.strip_prefix("include_dir ")) {
            let Ok(entries) = fs::read_dir(folder.trim()) else { continue };
            let is_conf = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "conf");
            for path in entries.flatten().map(|entry| entry.path()).filter(is_conf) {
                read(&path, depth + 1, lines);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_is_found_in_what_is_included() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("conf.d")).unwrap();
        fs::write(path("conf.d/a.conf"), "# password_file no\n  password_file /etc/own users\n").unwrap();
        fs::write(path("conf.d/b.bak"), "per_listener_settings true\n").unwrap();
        let conf = |more: &str| {
            fs::write(path("m.conf"), format!("include_dir {}\n{more}", path("conf.d").display())).unwrap();
            let mut lines = Vec::new();
            read(&path("m.conf"), 0, &mut lines);
            password_file(&lines)
        };
        assert_eq!(conf("listener 1883\n").as_deref(), Some("/etc/own users"));
        assert_eq!(conf("per_listener_settings true\n"), None);
        assert_eq!(
            password_file(&["password_files x".to_owned(), "plugin_opt_password_file x".to_owned()]),
            None
        );
        read(&path("nowhere"), 0, &mut Vec::new());
    }
}
