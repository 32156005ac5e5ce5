//! The broker's own configuration, as far as it matters to the plugin: which plugins it loads, where, and with which
//! options. Follows the broker's reading of its file (`config__read_file_core` of Mosquitto 2.0.11 to 2.1).

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::BrokerOptions;
use crate::util::files;
use crate::util::location::{Location, file_name};

/// The most bytes of a configuration file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What a broker is told.
#[derive(Debug)]
pub struct BrokerConf {
    /// Every plugin that is loaded, in this order.
    pub plugins: Vec<Plugin>,
    /// Whom the broker becomes if root starts it.
    pub user: String,
    /// Whether each listener has plugins and files of its own.
    pub per_listener: bool,
    /// The ports (or sockets) of the listeners.
    pub listeners: Vec<String>,
    /// Whether no line says where to listen. Then the broker listens for its own machine, and by rules of its own.
    pub is_local_only: bool,
    /// Lines that matter beside the plugin's, with their names and values.
    pub beside: Vec<(Location, &'static str, String)>,
}

/// A plugin that a broker loads.
#[derive(Debug)]
pub struct Plugin {
    /// Where its line stands.
    pub at: Location,
    /// Its file, as it is written.
    pub path: PathBuf,
    /// The listeners that it is for; none: for all, or for the one that a broker has without a line.
    pub listeners: Vec<String>,
    /// Its options, in the order of the file, and their lines.
    pub options: Vec<(Location, String, String)>,
    /// Its name, where it is loaded and used by name (2.1).
    name: Option<String>,
}

impl Plugin {
    /// Its options as the broker hands them over.
    pub fn broker_options(&self) -> BrokerOptions {
        self.options.iter().map(|(_, name, value)| (name.clone(), value.clone())).collect()
    }

    /// Where an option stands, if one does.
    pub fn line_of(&self, option: &str) -> Option<&Location> {
        self.options.iter().find(|(_, name, _)| name == option).map(|(at, ..)| at)
    }

    /// Whom it is for, in words.
    pub fn shown_listeners(&self) -> String {
        match self.listeners.as_slice() {
            [] => "for every listener".to_owned(),
            listeners => format!("for listener {}", listeners.join(", ")),
        }
    }
}

/// Lines of the broker that take part in what the plugin decides.
const BESIDE: [&str; 5] =
    ["allow_anonymous", "password_file", "acl_file", "use_identity_as_username", "use_username_as_clientid"];

impl BrokerConf {
    /// Reads a configuration and the folder that it includes.
    ///
    /// # Errors
    /// The file that cannot be read, and why.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut conf = Self {
            plugins: Vec::new(),
            user: "mosquitto".to_owned(),
            per_listener: false,
            listeners: Vec::new(),
            is_local_only: true,
            beside: Vec::new(),
        };
        conf.read_file(path, true)?;
        if !conf.per_listener {
            // Then a line below a listener is for all of them nevertheless, unless it was loaded by name.
            conf.plugins
                .iter_mut()
                .filter(|plugin| plugin.name.is_none())
                .for_each(|plugin| plugin.listeners.clear());
        }
        Ok(conf)
    }

    fn read_file(&mut self, path: &Path, may_include: bool) -> Result<(), String> {
        let bytes = files::read(path, MAX_FILE_BYTES)
            .map_err(|cause| format!("{} cannot be read ({cause})", path.display()))?;
        let (text, file) = (String::from_utf8_lossy(&bytes), file_name(path));
        // Each file begins anew with both.
        let (mut listener, mut plugin): (Option<String>, Option<usize>) = (None, None);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            if name.is_empty() || name.starts_with('#') {
                continue;
            }
            let (at, value) =
                (Location::line(&file, index + 1), value.trim_start_matches(' ').trim_end_matches('\r'));
            match name {
                "include_dir" if may_include => {
                    for path in included(Path::new(value.trim_end()))? {
                        self.read_file(&path, false)?;
                    }
                }
                "user" => self.user = value.trim_end().to_owned(),
                "per_listener_settings" => self.per_listener = value.trim_end() == "true",
                "bind_address" => self.is_local_only = false,
                "listener" | "port" => {
                    self.is_local_only = false;
                    // `listener 0 /run/mosquitto.sock` has its path for a name.
                    let mut words = value.split_ascii_whitespace();
                    let name = match (words.next(), words.next()) {
                        (Some("0"), Some(socket)) => socket.to_owned(),
                        (port, _) => port.unwrap_or_default().to_owned(),
                    };
                    self.listeners.push(name.clone());
                    listener = Some(name);
                }
                "plugin" | "auth_plugin" | "global_plugin" => {
                    let listener = listener.clone().filter(|_| name != "global_plugin");
                    plugin = Some(self.load(at, value, listener, None));
                }
                "plugin_load" => {
                    let (name, path) = value.split_once(' ').unwrap_or((value, ""));
                    plugin = Some(self.load(at, path.trim_start(), None, Some(name.to_owned())));
                }
                "plugin_use" => {
                    plugin = self
                        .plugins
                        .iter()
                        .position(|plugin| plugin.name.as_deref() == Some(value.trim_end()));
                    if let Some(index) = plugin {
                        self.plugins[index].listeners.extend(listener.clone());
                    }
                }
                _ => {
                    let option = name.strip_prefix("plugin_opt_").or_else(|| name.strip_prefix("auth_opt_"));
                    if let (Some(option), Some(index)) = (option, plugin) {
                        self.plugins[index].options.push((at, option.to_owned(), value.to_owned()));
                    } else if let Some(known) = BESIDE.iter().find(|known| **known == name) {
                        self.beside.push((at, known, value.trim_end().to_owned()));
                    }
                }
            }
        }
        Ok(())
    }

    fn load(&mut self, at: Location, path: &str, listener: Option<String>, name: Option<String>) -> usize {
        self.plugins.push(Plugin {
            at,
            path: PathBuf::from(path.trim_end()),
            listeners: listener.into_iter().collect(),
            options: Vec::new(),
            name,
        });
        self.plugins.len() - 1
    }

    /// The last value of one of the broker's own lines, and where it stands.
    pub fn beside(&self, name: &str) -> Option<(&Location, &str)> {
        self.beside
            .iter()
            .rev()
            .find(|(_, known, _)| *known == name)
            .map(|(at, _, value)| (at, value.as_str()))
    }
}

/// The files of a folder that is included, in the broker's order.
fn included(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder)
        .map_err(|cause| format!("include_dir {} cannot be read ({cause})", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension() == Some(OsStr::new("conf"))).collect();
    paths.sort();
    Ok(paths)
}
