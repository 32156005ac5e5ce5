//! The broker's program: its version, and the C library that it brings into the process.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::library::{Binary, Libc};
use crate::local::Placeholders;
use crate::output::Report;

/// The program of the broker.
pub struct Broker {
    pub path: PathBuf,
    /// Such as `2.0.11`.
    pub version: String,
    pub binary: Option<Binary>,
}

impl Broker {
    /// Whether clients can wait beside its loop.
    pub fn is_2_1(&self) -> bool {
        parts(&self.version) >= vec![2, 1]
    }

    /// How this broker understands `%u` and `%c` in ACL files.
    pub fn placeholders(broker: Option<&Self>) -> Placeholders {
        if broker.is_none_or(Self::is_2_1) { Placeholders::WholeLevels } else { Placeholders::Anywhere }
    }
}

/// The numbers of a version.
pub fn parts(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// The oldest broker that the plugin runs on.
const OLDEST: [u32; 3] = [2, 0, 11];

/// Finds the broker: the program that is named, or the one where it usually is.
pub fn find(named: Option<&Path>, report: &mut Report) -> Option<Broker> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    let mut places =
        usual.into_iter().chain(env::split_paths(&on_path)).map(|folder| folder.join("mosquitto"));
    let path = named.map(Path::to_owned).or_else(|| places.find(|path| path.is_file()));
    let Some(path) = path else {
        report
            .note("No broker was found here to hold the plugin's library against (--broker FILE names one).");
        return None;
    };
    // Some versions end with an error code after their help.
    let said = Command::new(&path).arg("-h").output();
    let text = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("mosquitto version ")).map(str::trim);
    let Some(version) = version else {
        report.error(
            format!("{} does not say its version as Mosquitto does.", path.display()),
            "name the broker's program with --broker FILE",
        );
        return None;
    };
    let broker = Broker { version: version.to_owned(), binary: Binary::read(&path).ok(), path };
    let libc = broker.binary.as_ref().map_or(String::new(), |binary| match &binary.libc {
        Libc::Glibc { .. } => match binary.machines_glibc() {
            Some((major, minor)) => format!(", for glibc ({major}.{minor} is here)"),
            None => ", for glibc".to_owned(),
        },
        Libc::Musl => ", for musl".to_owned(),
        Libc::Unknown => String::new(),
    });
    let text = format!("mosquitto {} ({}){libc}", broker.version, broker.path.display());
    if parts(&broker.version) >= OLDEST.to_vec() {
        report.ok(text + ".");
    } else {
        report.error(text + " is too old for the plugin.", "install Mosquitto 2.0.11 or newer");
    }
    Some(broker)
}
