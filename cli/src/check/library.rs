//! The plugin's library: whether this broker can load it. The broker's own words about that are the linker's.

use std::fs;
use std::io;
use std::path::Path;

use memchr::memmem;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Architecture, Endianness, Object, ObjectSymbol};

use super::broker::Broker;
use crate::broker_conf::Plugin;
use crate::output::Report;
use crate::plugin_conf::{MAX_LIBRARY_BYTES, OWN};
use crate::util::files;

/// A program or library, as far as it decides about loading.
pub struct Binary {
    pub architecture: Architecture,
    pub libc: Libc,
    /// Whether it has the function that brokers look for.
    is_plugin: bool,
    /// The version of the plugin.
    version: Option<String>,
}

/// The C library that a program or library wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Libc {
    /// That of most distributions, at least of this version.
    Glibc {
        at_least: (u32, u32),
    },
    /// That of Alpine Linux.
    Musl,
    Unknown,
}

impl Binary {
    /// Reads one.
    ///
    /// # Errors
    /// The system's, or that the file is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = files::read(path, MAX_LIBRARY_BYTES)?;
        let no_binary =
            |error: object::Error| io::Error::other(format!("it is no program or library: {error}"));
        let object = object::File::parse(&*bytes).map_err(no_binary)?;
        let mut dynamic = object.dynamic_symbols();
        let is_plugin =
            dynamic.any(|symbol| symbol.is_definition() && symbol.name() == Ok("mosquitto_plugin_init"));
        let libc = if object.is_64() { libc(&bytes).map_err(no_binary)? } else { Libc::Unknown };
        Ok(Self { architecture: object.architecture(), libc, is_plugin, version: own_version(&bytes) })
    }

    /// The version of the glibc that this machine has for programs of this architecture.
    pub fn machines_glibc(&self) -> Option<(u32, u32)> {
        let folder = match self.architecture {
            Architecture::X86_64 => "x86_64-linux-gnu",
            Architecture::Aarch64 => "aarch64-linux-gnu",
            Architecture::Arm => "arm-linux-gnueabihf",
            Architecture::Riscv64 => "riscv64-linux-gnu",
            _ => "",
        };
        let places = [
            format!("/lib/{folder}/libc.so.6"),
            "/lib64/libc.so.6".to_owned(),
            "/usr/lib/libc.so.6".to_owned(),
        ];
        places.iter().find_map(|path| newest_glibc(&fs::read(path).ok()?))
    }
}

/// What is needed of a C library.
fn libc(bytes: &[u8]) -> object::Result<Libc> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let mut needed = Vec::new();
    if let Some((entries, link)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == elf::DT_NEEDED) {
            needed.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
        }
    }
    let mut interpreter = header
        .program_headers(endian, bytes)?
        .iter()
        .filter_map(|header| header.interpreter(endian, bytes).ok().flatten());
    let is_musl = |name: &String| name == "libc.so" || name.starts_with("libc.musl-");
    if needed.iter().any(is_musl)
        || interpreter.any(|path| path.windows(7).any(|window| window == b"ld-musl"))
    {
        return Ok(Libc::Musl);
    }
    if !needed.iter().any(|name| name == "libc.so.6") {
        return Ok(Libc::Unknown);
    }
    let mut at_least = (2, 0);
    if let Some((mut files, link)) = sections.gnu_verneed(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        while let Some((_, mut versions)) = files.next()? {
            while let Some(version) = versions.next()? {
                at_least = glibc_version(version.name(endian, strings)?).unwrap_or_default().max(at_least);
            }
        }
    }
    Ok(Libc::Glibc { at_least })
}

/// The newest version that a glibc has symbols of: its own.
fn newest_glibc(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (mut definitions, link) = sections.gnu_verdef(endian, bytes).ok()??;
    let strings = sections.strings(endian, bytes, link).ok()?;
    let mut newest = None;
    while let Some((_, mut names)) = definitions.next().ok()? {
        while let Some(name) = names.next().ok()? {
            newest = newest.max(glibc_version(name.name(endian, strings).ok()?));
        }
    }
    newest
}

/// `GLIBC_2.34` as numbers.
fn glibc_version(name: &[u8]) -> Option<(u32, u32)> {
    let (major, rest) = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.split_once('.')?;
    Some((major.parse().ok()?, rest.split('.').next()?.parse().ok()?))
}

/// The version in the plugin's user agent.
fn own_version(bytes: &[u8]) -> Option<String> {
    let at = memmem::find(bytes, OWN)? + OWN.len();
    let is_part = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
    let version: Vec<u8> = bytes[at..].iter().take_while(is_part).take(20).copied().collect();
    String::from_utf8(version).ok().filter(|version| !version.is_empty())
}

/// Looks at the library of a plugin's line.
pub fn check(plugin: &Plugin, broker: Option<&Broker>, report: &mut Report) {
    let (at, path) = (&plugin.at, plugin.path.display());
    if !plugin.path.is_absolute() {
        report.warning(
            format!("{at}: {path} is found only from the folder in which the broker is started."),
            "write the whole path, from / on",
        );
    }
    let library = match Binary::read(&plugin.path) {
        Ok(library) => library,
        Err(cause) => {
            report.error(
                format!("{at}: {path} cannot be loaded ({cause})."),
                "install the plugin, and correct the path",
            );
            return;
        }
    };
    if !library.is_plugin {
        report.error(
            format!("{at}: {path} is no plugin of a broker (it lacks mosquitto_plugin_init)."),
            "name the file mosquitto_http_auth.so of the package, or the one that `make install` copied",
        );
    }
    if let Some(version) = library.version.as_ref().filter(|version| **version != env!("CARGO_PKG_VERSION")) {
        report.warning(
            format!(
                "{path} is version {version}, and this program is {}: they may know other options.",
                env!("CARGO_PKG_VERSION")
            ),
            "use both from the same package",
        );
    }
    if let Some(broker) = broker
        && let Some(binary) = &broker.binary
    {
        fits(&library, binary, broker, plugin, report);
    }
}

/// Whether the broker can load the library.
fn fits(library: &Binary, binary: &Binary, broker: &Broker, plugin: &Plugin, report: &mut Report) {
    let (path, broker_path) = (plugin.path.display(), broker.path.display());
    if library.architecture != binary.architecture {
        report.error(
            format!(
                "{path} is for {:?}, and {broker_path} for {:?}.",
                library.architecture, binary.architecture
            ),
            "install the plugin for the broker's architecture",
        );
        return;
    }
    match (&library.libc, &binary.libc) {
        (Libc::Glibc { .. }, Libc::Musl) => report.error(
            format!("{path} is for glibc, and this broker for musl: it does not load."),
            "take the build for Alpine Linux (make musl)",
        ),
        (Libc::Musl, Libc::Glibc { .. }) => report.error(
            format!("{path} is for musl (Alpine Linux), and this broker for glibc: it does not load."),
            "take the ordinary build (make build, or the package)",
        ),
        (Libc::Glibc { at_least }, Libc::Glibc { .. }) => match binary.machines_glibc() {
            Some(here) if here < *at_least => report.error(
                format!(
                    "{path} wants glibc {}.{}, and {}.{} is here.",
                    at_least.0, at_least.1, here.0, here.1
                ),
                "build it on the oldest system that it is to run on",
            ),
            _ => report.ok(format!("{path} fits this broker.")),
        },
        (Libc::Musl, Libc::Musl) => report.ok(format!("{path} fits this broker.")),
        _ => {}
    }
}
