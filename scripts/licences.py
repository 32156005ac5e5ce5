#!/usr/bin/env python3
"""Prints the licence texts of all crates that are linked into the plugin and the program, each text once.

scripts/licences.py [TARGET]        (default: the machine's own target)
"""
import json, pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OWN = {"mosquitto-http-auth", "mosquitto-http-auth-cli"}


def run(*words):
    return subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def texts(crate):
    """The licence files of a crate; below third_party, ring has more."""
    folder = pathlib.Path(crate["manifest_path"]).parent
    is_licence = re.compile(r"(?i)(un)?licen[cs]e|copying|notice|copyright")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and is_licence.match(path.name)
             and path.suffix not in (".rs", ".toml", ".json", ".py")
             and not {"tests", "testdata", "examples", "benches", "target"} & set(path.relative_to(folder).parts)]
    return [path.read_text(errors="replace").strip() for path in files]


target = sys.argv[1] if len(sys.argv) > 1 else re.search(r"host: (\S+)", run("rustc", "-vV")).group(1)
tree = ["cargo", "tree", "--locked", "--workspace", "--edges", "normal", "--target", target, "--prefix", "none",
        "--format", "{p}"]
linked = {tuple(line.split()[:2]) for line in run(*tree).splitlines() if line.strip()}
metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
crates = sorted((crate for crate in metadata["packages"] if (crate["name"], "v" + crate["version"]) in linked
                 and crate["name"] not in OWN), key=lambda crate: crate["name"])
# Where a crate comes without its text, the one of the Apache licence names no holder and fits them all.
apache = (ROOT / "LICENSE-APACHE").read_text().strip()
by_text, missing = {}, []
for crate in crates:
    found = texts(crate)
    if not found and "Apache-2.0" in (crate["license"] or ""):
        found = [apache]
    if not found:
        missing.append(crate["name"])
    for text in found:
        by_text.setdefault(text, []).append(f"{crate['name']} {crate['version']} ({crate['license']})")
if missing:
    sys.exit(f"licences: error: no licence text was found for {', '.join(missing)}")
print("What is linked into mosquitto-http-auth, and under which licences. Of several in one line any may be chosen.\n")
print("Beside the crates below: Rust's standard library (MIT OR Apache-2.0), and the code that unwinds panics, of gcc "
      "(GPL-3.0\nWITH GCC-exception-3.1) or for musl of LLVM (Apache-2.0 WITH LLVM-exception).\n")
for crate in crates:
    print(f"{crate['name']} {crate['version']}: {crate['license']}, by {', '.join(crate['authors']) or 'its contributors'}")
for text, names in sorted(by_text.items(), key=lambda entry: entry[1]):
    print("\n" + "-" * 100 + "\n" + "\n".join(names) + "\n\n" + text)
