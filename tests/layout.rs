//! The map in `src/lib.rs` is true: imports go down, and within a folder in no circle; unsafe code is in one folder, and no
//! file is too long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules in layers, the highest first. A module imports from lower layers only, and not from its own.
const FLOORS: [&[&str]; 12] = [
    &["ffi"],
    &["steer"],
    &["plugin"],
    &["prefetch"],
    &["ask"],
    &["metrics"],
    &["cache", "local"],
    &["config", "command", "main_queue"],
    &["fingerprint", "broker", "log"],
    &["question"],
    &["topic"],
    &["util"],
];

/// The module for tests, benchmarks and fuzz targets, which may import every other.
const DOOR: &str = "internals";

/// The most lines of a file, without its tests.
const MOST_LINES: usize = 400;

struct File {
    path: PathBuf,
    room: String,
    text: String,
}

impl File {
    /// The code that is compiled into the plugin: the text without its inline tests, which come last.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap()
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
    }
}

fn files() -> Vec<File> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![source.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&source).unwrap();
                let room = below.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
                files.push(File { room, text: fs::read_to_string(&path).unwrap(), path });
            }
        }
    }
    assert!(files.len() > 40, "only {} files were found: does this test still see them?", files.len());
    files
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Every `crate::ROOM` of a text, and its line.
fn imports(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        let code = if line.trim_start().starts_with("//") { "" } else { line };
        code.split("crate::").skip(1).map(move |rest| {
            (index + 1, rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap())
        })
    })
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for file in files().iter().filter(|file| !["lib", DOOR].contains(&&*file.room)) {
        let own =
            floor(&file.room).unwrap_or_else(|| panic!("{} is in no room of the map", file.path.display()));
        for (line, room) in imports(file.code()).filter(|(_, room)| *room != file.room) {
            if floor(room).is_none_or(|other| other <= own) {
                wrong.push(format!("{}:{line}: {} must not import {room}", file.path.display(), file.room));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The folders that have modules, which is where a module's own parts are.
fn folders(files: &[File]) -> BTreeSet<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let parents = files.iter().map(|file| file.path.parent().unwrap().strip_prefix(&source).unwrap());
    parents.filter(|folder| folder.iter().next().is_some()).map(Path::to_owned).collect()
}

/// What a folder's own file takes from its modules, and from which: whoever imports that from there imports the module.
fn re_exports(folder: &Path, files: &[File]) -> BTreeMap<String, String> {
    let is_own =
        |file: &&File| file.path == folder.join("mod.rs") || file.path == folder.with_extension("rs");
    let code = files.iter().find(is_own).map_or("", |file| file.code());
    let uses = code.split("use ").skip(1).filter_map(|rest| {
        let (module, names) =
            rest.split(';').next().unwrap().trim_start_matches("self::").split_once("::")?;
        let named = names.trim_matches(['{', '}', '\n', ' ']).split(',');
        // The last word: a part of a path, or the name behind `as`.
        let name_of = |name: &str| name.trim().rsplit([':', ' ']).next().unwrap().to_owned();
        Some(named.map(|name| (name_of(name), module.to_owned())).collect::<Vec<_>>())
    });
    uses.flatten().collect()
}

/// The modules of a folder, each with those of the same folder that it imports. The folder's own file, which all know, is left
/// out.
fn imports_within(folder: &Path, files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let names: Vec<_> = folder.iter().map(|name| name.to_str().unwrap()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let re_exports = re_exports(&folder, files);
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let Ok(below) = file.path.strip_prefix(&folder) else { continue };
        if below == Path::new("mod.rs") {
            continue;
        }
        let first = below.iter().next().unwrap().to_str().unwrap();
        let is_folder = below.ends_with("mod.rs");
        let up = "super::".repeat(below.iter().count() - usize::from(is_folder));
        let imported = modules.entry(first.trim_end_matches(".rs").to_owned()).or_default();
        let code = file.code().lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n");
        for path in [up, format!("crate::{}::", names.join("::"))] {
            for rest in code.split(&path).skip(1) {
                let is_list = rest.starts_with('{');
                let end = if is_list { '}' } else { ';' };
                let paths = rest.trim_start_matches('{').split(end).next().unwrap();
                assert!(
                    !is_list || !paths.contains('{'),
                    "{} imports by nested lists: {paths}",
                    file.path.display()
                );
                let named = paths.split(',').take(if is_list { usize::MAX } else { 1 });
                imported.extend(named.map(|path| {
                    let path = path.trim_start();
                    let name = path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
                    re_exports.get(name).map_or(name, String::as_str).to_owned()
                }));
            }
        }
    }
    let known: BTreeSet<_> = modules.keys().cloned().collect();
    for (module, imported) in &mut modules {
        imported.retain(|name| known.contains(name) && name != module);
    }
    modules
}

#[test]
fn the_modules_of_a_folder_form_no_circle() {
    let files = files();
    let folders = folders(&files);
    assert!(folders.len() > 15, "only {} folders were found", folders.len());
    for folder in folders {
        let mut left = imports_within(&folder, &files);
        // Whoever imports nothing that is left is in no circle.
        while let Some(free) = left.iter().find(|(_, imported)| imported.is_empty()) {
            let free = free.0.clone();
            left.remove(&free);
            left.values_mut().for_each(|imported| {
                imported.remove(&free);
            });
        }
        let folder = folder.display();
        assert!(left.is_empty(), "in {folder} these import each other in circles, or who does: {left:#?}");
    }
}

#[test]
fn unsafe_code_is_in_one_folder() {
    let (unsafe_code, allowing) =
        (["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"], "allow(unsafe_code");
    for file in files() {
        let has = |text: &str| {
            file.text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(text))
        };
        assert!(file.room == "ffi" || !unsafe_code.into_iter().any(has), "{}", file.path.display());
        assert!(file.room == "lib" || !has(allowing), "{}", file.path.display());
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for file in files().iter().filter(|file| !file.is_test()) {
        let lines = file.code().lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines without its tests", file.path.display());
    }
}

#[test]
fn the_map_names_every_room() {
    let files = files();
    let map = &files.iter().find(|file| file.room == "lib").unwrap().text;
    for room in FLOORS.concat() {
        assert!(map.contains(&format!("`{room}`")), "the crate's doc does not name {room}");
        assert!(map.contains(&format!("\nmod {room};")), "there is no room {room}");
    }
}
